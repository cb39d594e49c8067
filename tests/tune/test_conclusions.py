"""What counts as a score of a setting, which setting is the best, and that nothing is left out without a word."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from m3pc_ray.errors import UserError
from m3pc_ray.evaluation.statistics import bootstrap_interval
from tests.tune.result_tables import lambda_sweep, report, table
from tune.conclusions.learning_curves import learning_curves
from tune.conclusions.ranking import Conclusion, Row, conclude_from, order
from tune.conclusions.remarks import remarks
from tune.conclusions.reports import Results, read_reports

LAMBDA = {"planner.td_lambda": pa.float64()}


def at(value: float | None, trial: str, mean: float | None, **more: Any) -> dict[str, Any]:
    return report(trial, mean, **{"planner.td_lambda": value, **more})


def conclusions(rows: list[dict[str, Any]], **metadata: Any) -> tuple[Results, list[Conclusion]]:
    results = read_reports(table(rows, LAMBDA, **metadata), "results.parquet")
    return results, conclude_from(results, source="results.parquet")


def by_value(conclusion: Conclusion) -> dict[Any, Row]:
    return {row.setting.values[0] if row.setting.values else None: row for row in conclusion.rows}


def test_means_over_seeds_with_the_baseline_apart() -> None:
    rows = [at(0.9, f"c{seed}", 50.0 + seed, seed=seed) for seed in range(3)]
    rows += [at(0.3, f"a{seed}", 70.0 + 2 * seed, seed=seed) for seed in range(3)]
    rows += [at(None, f"b{seed}", 90.0, seed=seed, baseline=True, planner="none") for seed in range(3)]
    results, (found,) = conclusions(rows)
    assert [row.setting.values for row in found.rows] == [(), (0.3,), (0.9,)]
    assert found.best is by_value(found)[0.3], "the baseline is higher, but no setting of the space"
    assert found.best.estimate is not None
    assert found.best.estimate.value == 72.0
    assert found.best.estimate.interval == bootstrap_interval([70.0, 72.0, 74.0])
    assert found.not_distinguished() == ()
    assert found.runner_up is not None
    assert found.runner_up.other is by_value(found)[0.9]
    assert found.runner_up.estimate is not None
    assert found.runner_up.estimate.value == 21.0
    assert found.against_baseline is not None
    assert found.against_baseline.estimate is not None
    assert found.against_baseline.estimate.value == -18.0
    said = " | ".join(remarks(results, found))
    assert "best: planner.td_lambda 0.3, 72.0 [70.0, 74.0]" in said
    assert "the baseline, no planning: -18.0 [-20.0, -16.0], paired over 3 seeds" in said
    assert "the best of 2 settings was picked by the very seeds that score it" in said
    assert "intervals over 3 seeds are too narrow" in said
    assert "one pretrained run" in said


def test_overlapping_intervals_are_said_to_be_open() -> None:
    rows = [at(0.3, f"a{seed}", 70.0 + 5 * seed, seed=seed) for seed in range(3)]
    rows += [at(0.6, f"b{seed}", 80.0 - 6 * seed, seed=seed) for seed in range(3)]
    rows += [at(0.9, f"c{seed}", 20.0, seed=seed) for seed in range(3)]
    results, (found,) = conclusions(rows)
    assert found.not_distinguished() == (by_value(found)[0.6],)
    said = " | ".join(remarks(results, found))
    assert "not distinguished from it by these seeds (the intervals overlap): planner.td_lambda 0.6 |" in said
    assert "so the sign is open" in said


def test_differences_are_over_common_pairs_of_run_and_seed() -> None:
    rows = [at(0.3, f"a{seed}", 70.0 + seed, seed=seed) for seed in (0, 1, 2)]
    rows += [at(0.6, f"b{seed}", 60.0 + seed, seed=seed) for seed in (1, 2, 7)]
    rows += [at(None, "c", 10.0, seed=0, run="runs/other", baseline=True)]
    results, (found,) = conclusions(rows)
    assert found.runner_up is not None
    assert found.runner_up.pairs == 2
    assert found.runner_up.estimate is not None
    assert found.runner_up.estimate.interval == (10.0, 10.0)
    assert found.against_baseline is not None
    assert found.against_baseline.pairs == 0
    assert "have no run and seed in common" in " | ".join(remarks(results, found))


def test_one_seed_is_said_to_have_intervals_over_episodes() -> None:
    played = list(np.linspace(60.0, 80.0, 10))
    rows = [at(0.3, "a", 70.0, episodes=played), at(0.6, "b", 50.0, episodes=[value - 20.0 for value in played])]
    results, (found,) = conclusions(rows)
    assert found.best is not None
    assert found.best.estimate is not None
    assert found.best.estimate.over == "episodes"
    assert found.best.estimate.interval == bootstrap_interval(played)
    assert found.runner_up is not None
    assert found.runner_up.estimate is not None
    assert found.runner_up.estimate.interval == pytest.approx((20.0, 20.0)), "equal seeds play equal episodes"
    assert "every interval is over episodes: how far seeds differ is not known" in remarks(results, found)
    rows += [at(0.6, "c", 55.0, seed=1, episodes=played)]
    results, (found,) = conclusions(rows)
    said = " | ".join(remarks(results, found))
    assert "intervals over episodes, not to be compared with the others', which are over seeds: " in said
    assert "fewer seeds than the others' 2: planner.td_lambda 0.3 (1)" in said


def test_trials_without_a_score_are_named() -> None:
    rows = [at(0.3, "a", 70.0), at(0.3, "b", None, seed=1, status="failed", error="OutOfMemoryError: no room")]
    rows[1] |= {"kind": "finetune"}
    rows += [rows[1] | {"environment_steps": 400, "error": "", "score": 5.0}]
    rows += [at(0.6, "c", None, status="running"), at(0.9, "d", 65.0, status="running")]
    rows += [at(0.7, "e", float("nan")), at(0.3, "f", 71.0, seed=2)]
    results, (found,) = conclusions(rows)
    assert [row.setting.values[0] for row in found.rows] == [0.3, 0.6, 0.7, 0.9]
    assert [len(row.replicates) for row in found.rows] == [2, 0, 0, 0]
    said = remarks(results, found)
    assert (
        "no score here of 1 trial that failed: planner.td_lambda 0.3, seed 1 at 400 steps (OutOfMemoryError: no room)"
        in said
    )
    running = "planner.td_lambda 0.6, seed 0; planner.td_lambda 0.9, seed 0"
    assert f"no score here of 2 trials still running: {running}" in said
    assert any("a score that is no number: planner.td_lambda 0.7, seed 0" in each for each in said)
    many = [at(float(index), f"x{index}", None, status="failed") for index in range(14)]
    results, (found,) = conclusions([*many, at(20.0, "a", 1.0)])
    assert any(
        "of 14 trials that failed" in each and each.endswith("and 4 more in table.json")
        for each in remarks(results, found)
    )


def test_nothing_to_conclude() -> None:
    failed = at(0.3, "a", None, status="failed", error="UserError: no such run")
    with pytest.raises(
        UserError, match=r"results.parquet: no trial of a setting has finished with a score \(1 failed, 1 running\)"
    ):
        conclusions([failed, at(0.6, "b", 50.0, status="running")])
    with pytest.raises(UserError, match="first error: UserError: no such run"):
        conclusions([failed, at(None, "b", 50.0, baseline=True)])
    with pytest.raises(UserError, match="holds no trial yet"):
        conclusions([])
    with pytest.raises(UserError, match="no trial of a setting has a score at 1,000 environment steps"):
        conclusions([at(0.3, "a", 5.0, kind="finetune", environment_steps=500)], report_steps=[1000])


def test_report_steps_take_the_reports_that_trials_reached() -> None:
    def curve(value: float, trial: str, status: str, *reports: tuple[int, float]) -> list[dict[str, Any]]:
        more = {"kind": "finetune", "status": status, "seed": int(trial[-1])}
        last = reports[-1][0]
        return [at(value, trial, mean, environment_steps=steps, last=steps == last, **more) for steps, mean in reports]

    rows = curve(0.3, "a0", "finished", (1000, 10.0), (2000, 20.0), (5000, 50.0))
    rows += curve(0.3, "a1", "stopped", (1000, 12.0), (2000, 14.0))
    rows += curve(0.6, "b0", "failed", (1000, 30.0), (5000, 60.0))
    rows += curve(0.6, "b1", "running", (1000, 32.0), (1000, 34.0))
    rows += [at(None, "c0", 5.0, baseline=True)]
    metadata: dict[str, Any] = {"kind": "finetune", "report_steps": [5000, 1000, 9000], "scheduler": "asha"}
    results, (first, second) = conclusions(rows, **metadata)
    assert (first.step, second.step) == (1000, 5000), "nobody reached 9,000"
    assert [row.estimate.value for row in first.rows if row.estimate] == [5.0, 11.0, 32.0], "the later of two at 1,000"
    assert [row.estimate.value for row in second.rows if row.estimate] == [5.0, 50.0, 60.0]
    assert "no trial of a setting has come to 9,000 environment steps" in remarks(results, second)
    assert not any("9,000" in each for each in remarks(results, first)), "said once"
    said = remarks(results, second)
    assert (
        "no score here of 1 trial that the scheduler stopped before: planner.td_lambda 0.3, seed 1 at 2,000 steps"
        in said
    )
    assert "no score here of 1 trial still running: planner.td_lambda 0.6, seed 1 at 1,000 steps" in said
    assert first.reports_late is None
    late = [*rows, *curve(0.9, "d0", "finished", (1200, 1.0), (6000, 2.0))]
    results, (first, second) = conclusions(late, **metadata)
    assert first.reports_late == (1000, 1200)
    assert any("their next report counts (5,000 to 6,000 steps)" in each for each in remarks(results, second))
    scheduler = [each for each in remarks(results, first) if "flatters" in each]
    assert not scheduler, "all trials got as far as 1,000"


def test_what_the_scheduler_left_of_a_setting_flatters_it() -> None:
    rows = [at(0.3, f"a{seed}", 10.0, seed=seed, kind="finetune", environment_steps=1000) for seed in range(2)]
    rows += [at(0.6, "b0", 20.0, kind="finetune", environment_steps=1000)]
    rows += [at(0.6, "b1", 2.0, seed=1, kind="finetune", environment_steps=500, status="stopped")]
    results, (found,) = conclusions(rows, report_steps=[1000], scheduler="asha")
    assert any("the scheduler stopped in part" in each for each in remarks(results, found))


def test_returns_for_all_where_one_score_is_missing() -> None:
    rows = [at(0.3, "a", 70.0, episodes=[69.0, 71.0]), at(0.6, "b", 50.0, score=None, scores=None)]
    results, (found,) = conclusions(rows)
    assert results.measure == "return"
    assert found.best is not None
    assert found.best.estimate is not None
    assert found.best.estimate.value == 2100.0
    assert found.best.replicates[0].episodes.tolist() == [2070.0, 2130.0]
    assert any(each.startswith("returns, since") for each in remarks(results, found))


def test_the_best_has_every_task() -> None:
    walker = {"run": "runs/walker", "environment": "Walker2d-v5"}
    rows = [at(0.3, "a", 30.0), at(0.3, "b", 50.0, **walker), at(0.6, "c", 90.0)]
    results, (found,) = conclusions(rows)
    assert found.best is by_value(found)[0.3]
    assert found.best.estimate is not None
    assert found.best.estimate.value == 40.0
    assert any(
        "one of the 2 tasks, so not comparable: planner.td_lambda 0.6" in each for each in remarks(results, found)
    )
    results, (found,) = conclusions([at(0.3, "b", 50.0, **walker), at(0.6, "c", 90.0)])
    assert found.best is None
    assert found.runner_up is None
    assert any("none is called the best" in each for each in remarks(results, found))


def test_with_population_based_training_a_trial_is_a_row() -> None:
    rows = []
    for trial, score in (("p0", 10.0), ("p1", 20.0)):
        for steps, value in ((1000, 0.3), (2000, 0.6)):
            more = {"kind": "finetune", "environment_steps": steps, "last": steps == 2000}
            rows.append(at(value, trial, score + steps / 1000, episodes=[score, score + 4.0], **more))
    results, (found,) = conclusions(rows, scheduler="pbt", kind="finetune")
    assert [row.setting.values for row in found.rows] == [("p0",), ("p1",)]
    assert [row.estimate.value for row in found.rows if row.estimate] == [12.0, 22.0]
    assert results.last_settings["p0"] == {"planner.td_lambda": 0.6}
    assert any("population based training" in each for each in remarks(results, found))


def test_several_planners_of_a_trial_are_settings_of_their_own() -> None:
    rows = [at(0.3, "a", 70.0), at(0.3, "a", 60.0, planner="return")]
    results, (found,) = conclusions(rows)
    assert results.description.varied == ("planner.td_lambda", "planner")
    assert [row.setting.values for row in found.rows] == [(0.3, "critic"), (0.3, "return")]


def test_a_sweep_of_seeds_alone_is_one_setting() -> None:
    results = read_reports(table([report(f"s{seed}", 60.0 + seed, seed=seed) for seed in range(5)], {}), "here")
    (found,) = conclude_from(results)
    assert [row.setting.label(results.description) for row in found.rows] == ["setting as configured"]
    assert found.best is not None
    assert found.best.estimate is not None
    assert found.best.estimate.value == 62.0


def test_repeated_pairs_count_once() -> None:
    rows = [at(0.3, "a", 70.0, episodes=[70.0]), at(0.3, "b", 80.0, episodes=[80.0]), at(0.3, "c", 90.0, seed=1)]
    _, (found,) = conclusions(rows)
    assert [replicate.value for replicate in found.rows[0].replicates] == [75.0, 90.0]


def test_settings_are_in_the_order_of_their_values() -> None:
    mixed = [(None,), ("b",), (10,), (True,), (0.5,), ("a",), (-1,)]
    assert sorted(mixed, key=order) == [(-1,), (0.5,), (True,), (10,), ("a",), ("b",), (None,)]


@pytest.mark.parametrize("seed", range(20))
def test_every_trial_counts_or_is_missing(seed: int) -> None:
    """Trials made up at random, reports lost and statuses mixed: at every step each is in exactly one place."""
    generator = np.random.default_rng(seed)
    rows = []
    for index in range(12):
        value = None if generator.random() < 0.2 else float(generator.choice([0.3, 0.6]))
        status = str(generator.choice(["finished", "failed", "stopped", "running"], p=[0.7, 0.1, 0.1, 0.1]))
        steps = [100, 200, 500][: 3 if status == "finished" else generator.integers(1, 4)]
        for step in steps:
            mean = None if generator.random() < 0.1 else float(generator.normal(50.0, 10.0))
            more = {"kind": "finetune", "environment_steps": step, "last": step == steps[-1], "status": status}
            rows.append(at(value, f"t{index}", mean, seed=index, baseline=value is None, **more))
    _, found = conclusions(rows, report_steps=[100, 200, 500] if seed % 2 else [])
    for conclusion in found:
        counted = [replicate.seed for row in conclusion.rows for replicate in row.replicates]
        missing = [int(each.trial[1:]) for row in conclusion.rows for each in row.missing]
        assert sorted(counted + missing) == list(range(12))
        values = [row.estimate.value for row in conclusion.settings if row.estimate is not None]
        assert conclusion.best is not None
        assert conclusion.best.estimate is not None
        assert conclusion.best.estimate.value == max(values)


def test_learning_curves_interpolate_within_common_steps() -> None:
    def curve(trial: str, *reports: tuple[int, float]) -> list[dict[str, Any]]:
        more = {"kind": "finetune", "seed": int(trial[-1])}
        return [at(0.3, trial, mean, environment_steps=steps, last=False, **more) for steps, mean in reports]

    rows = curve("a0", (0, 0.0), (1000, 10.0), (3000, 30.0)) + curve("a1", (0, 4.0), (2000, 24.0))
    results = read_reports(table(rows, LAMBDA, kind="finetune"), "here")
    (found,) = learning_curves(results)
    assert found.steps == (0, 1000, 2000), "one trial has not come to 3,000"
    assert [each.value for each in found.estimates] == [2.0, 12.0, 22.0]
    assert all(each.over == "seeds" for each in found.estimates)
    assert found.replicates == 2
    assert learning_curves(read_reports(lambda_sweep(), "here")) == []
    steps = [curve.steps for curve in learning_curves(read_reports(lambda_sweep(2, (100, 200)), "here"))]
    assert steps == [(100, 200)] * 8


@pytest.mark.parametrize(
    "broken, message",
    [
        ({"format_version": 7}, "has format 7, this m3pc reads 1"),
        ({"varied_scale": None}, "account of the sweep is damaged"),
        ({"report_steps": ["soon"]}, "account of the sweep is damaged"),
    ],
)
def test_tables_of_something_else(broken: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"here: .*{message}"):
        read_reports(table([at(0.3, "a", 1.0)], LAMBDA, **broken), "here")


def test_a_table_without_a_column() -> None:
    whole = table([at(0.3, "a", 1.0)], LAMBDA)
    with pytest.raises(UserError, match="here: lacks the column seed, planner.td_lambda"):
        read_reports(whole.drop_columns(["planner.td_lambda", "seed"]), "here")


def test_a_table_that_says_nothing_of_a_sweep() -> None:
    with pytest.raises(UserError, match="here: says nothing about a sweep"):
        read_reports(pa.table({"score": [1.0]}), "here")
