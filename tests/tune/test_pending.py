"""What is left of a sweep, from its results: planned trials, repetitions of suggestions, and where each goes on."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.tune.test_results_file import score
from tune.folder import SweepFolder
from tune.pending import suggested_name, suggestions, tried, unfinished
from tune.plan import Replicate, Trial
from tune.results import ResultsFile
from tune.sweep_file import read_sweep
from tune.trial_names import TrialNames

AMONG = [Replicate(seed, "/runs/hopper", "Hopper-v5", "bundled/hopper") for seed in (4, 5, 6)]
PLANNED = [
    Trial(f"{number:05d}", {"planner.td_lambda": value}, 4, "/runs/hopper", "Hopper-v5", "bundled/hopper")
    for number, value in enumerate((0.1, 0.2, 0.3))
]


@pytest.fixture
def results(tmp_path: Path) -> ResultsFile:
    space = {"planner.td_lambda": {"uniform": [0, 1]}}
    sweep = read_sweep({"name": "s", "kind": "finetune", "searcher": "optuna", "samples": 3, "space": space}, "test")
    return ResultsFile(SweepFolder(tmp_path / "s"), sweep)


def suggested(number: int, repetition: int, value: float) -> dict[str, Any]:
    replicate = AMONG[repetition]
    name = suggested_name(number, repetition)
    return Trial(name, {"planner.td_lambda": value}, **vars(replicate)).row()


def test_the_plan_goes_on_where_it_stands(results: ResultsFile) -> None:
    assert unfinished(PLANNED, AMONG, results) == PLANNED
    results.report(PLANNED[0].row(), score(100, 50.0))
    results.ended(PLANNED[0].row(), "finished")
    results.ended(PLANNED[1].row(), "failed", "no room")
    results.report({**PLANNED[2].row(), "planner.td_lambda": 0.7}, score(100, 50.0) | {"checkpoint": "tune/a/3/copy_1"})
    results.report({**PLANNED[2].row(), "planner.td_lambda": 0.9}, score(200, 60.0))  # killed before its copy was noted
    failed, population = unfinished(PLANNED, AMONG, results)
    assert failed == PLANNED[1]
    assert (population.checkpoint, population.settings) == ("tune/a/3/copy_1", {"planner.td_lambda": 0.7})


def test_every_repetition_of_a_suggestion_is_made(results: ResultsFile) -> None:
    for repetition in range(3):
        results.report(suggested(0, repetition, 0.5), score(200, 40.0 + repetition))
        results.ended(suggested(0, repetition, 0.5), "finished")
    results.report(suggested(1, 0, 0.5), score(200, 80.0))  # the same value again, then the sweep was killed
    results.ended(suggested(1, 0, 0.5), "finished")
    assert suggestions(results) == {0: {"planner.td_lambda": 0.5}, 1: {"planner.td_lambda": 0.5}}
    assert tried(AMONG, results) == [({"planner.td_lambda": 0.5}, 41.0)]
    left = unfinished([], AMONG, results)
    assert [(trial.name, trial.seed) for trial in left] == [("s0001-1", 5), ("s0001-2", 6)]
    assert all(trial.settings == {"planner.td_lambda": 0.5} for trial in left)
    for repetition in (1, 2):
        results.ended(suggested(1, repetition, 0.5), "failed", "no room")
    assert tried(AMONG, results) == [({"planner.td_lambda": 0.5}, 41.0)]  # a mean over fewer seeds is none
    assert len(suggestions(results)) == 2  # and it is not replaced by another


def test_names_of_suggestions_follow_those_of_earlier_sittings() -> None:
    names = TrialNames(first_suggestion=2)
    made = [SimpleNamespace(trial_id=f"id{n}", config={"__trial_index__": n % 2, "trial": {}}) for n in range(4)]
    copied = [pickle.loads(pickle.dumps(copy.deepcopy(names))) for _ in made]  # as Tune does with every trial
    for _ in range(2):
        found = [one(trial) for one, trial in zip(copied, made, strict=True)]
        assert found == ["s0002-0", "s0002-1", "s0003-0", "s0003-1"]
    planned = SimpleNamespace(trial_id="x", config={"trial": {"name": "00007"}})
    assert names(planned) == "00007"  # type: ignore[arg-type]
