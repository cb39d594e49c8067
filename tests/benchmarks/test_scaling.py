"""`m3pc bench scaling`: its runs, tables and figure; the runs themselves take Ray and are for people."""

import pytest

from m3pc_ray.benchmarks import scaling
from m3pc_ray.benchmarks.pendulum import SLOW
from m3pc_ray.benchmarks.planner_feed import PlannerTime
from m3pc_ray.cli import main
from m3pc_ray.online.exploration import lease_size
from m3pc_ray.training.assemble import load_models

MEASURED = {
    "steps_per_second": 190.0,
    "planner_batch_mean": 8.0,
    "planner_batch_fill": 0.9,
    "planner_batch_ms": 5.0,
    "planner_wait_ms": 1.0,
    "planner_busy": 0.3,
    "planner_decisions_per_second": 190.0,
    "planning_share": 0.1,
    "simulation_share": 0.9,
    "statuses": 10.0,
}


def test_points_run_up_to_64_environments_on_4_workers():
    sizes = [(point.workers * point.environments, point.workers) for point in scaling.SCALING]
    assert sizes == [(1, 1), (4, 1), (8, 2), (16, 4), (64, 4)]


@pytest.mark.parametrize("point", [scaling.SCALING[-1], scaling.LIMITED[0], scaling.FAST_TASK[0]])
def test_a_point_s_run_promises_no_updates_and_long_leases(point, tmp_path):
    run = scaling.make_run(tmp_path, point)
    config = run.config()
    assert config.online.promised_updates() == {"btm": 0, "critic": 0}
    assert lease_size(config) == config.online.fragment_steps * point.environments
    models = load_models(run)
    assert models.environment_id == (SLOW if point.task == "slow" else "Hopper-v4")
    assert models.config.model.width == (16 if point.model == "tiny" else 128)


def test_rows_say_how_much_of_the_ideal_was_reached(tmp_path):
    planner = PlannerTime(0.004, 0.007)
    rows = [
        scaling._row(point, planner, MEASURED) for point in (*scaling.SCALING, *scaling.LIMITED, *scaling.FAST_TASK)
    ]
    full = rows[len(scaling.SCALING) - 1]
    assert (full["ideal"], full["of_ideal"]) == (200.0, 0.95)
    assert full["limit"] == "planner"
    assert "ideal" not in rows[-1]
    assert scaling.table(rows).row_count == len(rows)
    scaling.draw(rows, str(tmp_path / "scaling.png"))
    assert (tmp_path / "scaling.png").stat().st_size > 10_000


def test_a_mistake_is_one_line(capsys):
    assert main(["bench", "scaling", "--measured-seconds", "0"]) == 2
    assert "--measured-seconds must be above 0" in capsys.readouterr().err
    assert main(["bench", "scaling", "--only", "huge"]) == 2
    assert "--only huge: no point" in capsys.readouterr().err
