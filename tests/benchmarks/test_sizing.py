"""`m3pc bench sizing`: the arithmetic of several planners, and a user's mistakes."""

import json

import pytest

from m3pc_ray.benchmarks.planner_feed import PlannerTime, predicted_rate
from m3pc_ray.benchmarks.scaling import CALL_SECONDS
from m3pc_ray.benchmarks.sizing import cluster_rate
from m3pc_ray.cli import main
from tests.online.factory import make_pretrained_run

PLANNER = PlannerTime(0.0029, 0.00431)


def rows(tmp_path, *words: str) -> dict[tuple[int, int], dict]:
    assert main(["bench", "sizing", "--json", str(tmp_path / "sizing.json"), *words]) == 0
    found = json.loads((tmp_path / "sizing.json").read_text())["rows"]
    return {(row["workers"], row["planners"]): row for row in found}


def test_planners_add_up_and_the_first_has_the_most_workers():
    rate, limit = cluster_rate(5, 2, 4, 0.02, PLANNER)
    parts = [predicted_rate(part, 4, 0.02, CALL_SECONDS, PLANNER) for part in (3, 2)]
    assert rate == pytest.approx(sum(part for part, _ in parts))
    assert limit == parts[0][1]
    assert cluster_rate(4, 1, 16, 0.02, PLANNER)[0] == pytest.approx(4 / 0.02)  # as docs/operations.md has it


def test_the_table_is_that_of_the_model(tmp_path, capsys):
    found = rows(tmp_path, "--fixed-ms", "2.9", "--row-ms", "4.31", "--environments", "16")
    assert set(found) == {(w, p) for w in (4, 16, 64) for p in (1, 2, 4)}
    assert found[4, 1]["limit"] == "simulation"
    assert found[64, 1]["limit"] == "planner"
    assert found[64, 1]["steps_per_second"] == pytest.approx(512 / PLANNER.of(512))
    assert found[64, 4]["steps_per_second"] == pytest.approx(4 * 128 / PLANNER.of(128))
    assert found[64, 1]["hours"] == pytest.approx(1e6 / found[64, 1]["steps_per_second"] / 3600)
    assert found[64, 1]["learner_ms"] * found[64, 1]["steps_per_second"] == pytest.approx(1000)
    assert "2.9 + 4.31 n ms" in " ".join(capsys.readouterr().out.split())


def test_the_planner_of_a_run_is_timed(tmp_path):
    run = make_pretrained_run(tmp_path)
    found = rows(tmp_path, "--run", str(run.path), "--quick", "--workers", "2", "--planners", "1", "4")
    assert set(found) == {(2, 1)}  # four planners for two workers are none of the cases
    assert found[2, 1]["planner_per_row_ms"] > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--row-ms", "2"], "--fixed-ms and --row-ms belong together"),
        (["--fixed-ms", "-1", "--row-ms", "2"], "--fixed-ms must not be below 0"),
        (["--fixed-ms", "1", "--row-ms", "0"], "--row-ms must be above 0, not 0"),
        (["--fixed-ms", "1", "--row-ms", "1", "--run", "x"], "--run is timed"),
        (["--workers", "4", "0"], "--workers must be above 0, not 0"),
        (["--workers", "2", "--planners", "4"], "--planners 4: more than --workers 2"),
        (["--run", "nowhere"], "nowhere: no such run folder"),
    ],
)
def test_a_mistake_is_one_line(words, message, capsys):
    assert main(["bench", "sizing", *words]) == 2
    assert message in capsys.readouterr().err
