"""Schedulers and searchers of the installed Ray and Optuna, as sweeps set them up."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining

from m3pc_ray.config import OnlineConfig
from m3pc_ray.errors import UserError
from tune.definition import Sweep
from tune.reporting import SCORE, STEPS
from tune.search import make_scheduler, make_searcher
from tune.sweep_file import read_sweep

SPACE = {
    "planner.td_lambda": {"uniform": [0, 1]},
    "planner.num_candidates": {"log_uniform": [2, 64]},
    "planner.guide": {"choice": ["return", "critic"]},
}
ONLINE = OnlineConfig(steps=1000, evaluate_every=100)


def sweep(**more: object) -> Sweep:
    return read_sweep({"name": "s", "kind": "finetune", "space": SPACE, **more}, "test")


def domains(of: Sweep) -> dict:
    return {"trial": {"settings": {name: axis.domain() for name, axis in of.space.items()}}}


def optimum(settings: dict) -> float:
    return -abs(settings["planner.td_lambda"] - 0.7) - abs(settings["planner.num_candidates"] - 20) / 60


def suggest(of: Sweep, tried: list, count: int, repetitions: int = 2) -> list:
    """Suggestions with their means, `repetitions` trials each."""
    searcher = make_searcher(of, repetitions, tried)
    assert searcher.set_search_properties(SCORE, "max", domains(of))
    found = []
    for number in range(count):
        configs = [searcher.suggest(f"{number}-{repetition}") for repetition in range(repetitions)]
        assert all(config["trial"] == configs[0]["trial"] for config in configs)
        assert [config["__trial_index__"] for config in configs] == list(range(repetitions))
        settings = configs[0]["trial"]["settings"]
        for repetition, noise in enumerate(random.Random(number).choices([-0.01, 0.01], k=repetitions)):
            result = {SCORE: optimum(settings) + noise, "training_iteration": 1}
            searcher.on_trial_complete(f"{number}-{repetition}", result)
        found.append((settings, optimum(settings)))
    return found


def test_optuna_suggests_within_the_space_and_learns() -> None:
    of = sweep(searcher="optuna", samples=60)
    found = suggest(of, [], 60)
    for settings, _ in found:
        assert set(settings) == set(SPACE)
        assert 0 <= settings["planner.td_lambda"] <= 1
        assert 2 <= settings["planner.num_candidates"] <= 64
        assert type(settings["planner.num_candidates"]) is int
        assert settings["planner.guide"] in ("return", "critic")
    scores = [score for _, score in found]
    assert sum(scores[-20:]) > sum(scores[:20])  # the seed is fixed: Optuna's first ten are random


def test_optuna_goes_on_from_what_was_tried() -> None:
    of = sweep(searcher="optuna", samples=60)
    tried = suggest(of, [], 30)
    later = suggest(of, tried, 10)
    assert all(settings not in [before for before, _ in tried] for settings, _ in later)
    fresh = suggest(of, [], 10)
    assert sum(score for _, score in later) > sum(score for _, score in fresh)


def test_asha_counts_environment_steps() -> None:
    scheduler = make_scheduler(sweep(scheduler={"name": "asha", "reduction_factor": 4}), ONLINE)
    assert isinstance(scheduler, ASHAScheduler)
    assert scheduler.set_search_properties(SCORE, "max")
    decisions = {}
    for name, score in (("best", 3.0), ("good", 2.0), ("bad", 1.0), ("worst", 0.0)):
        trial = SimpleNamespace(trial_id=name)
        scheduler.on_trial_add(None, trial)
        early = {STEPS: 90, SCORE: score, "training_iteration": 1}
        assert scheduler.on_trial_result(None, trial, early) == "CONTINUE"  # every trial is given a tenth
        decisions[name] = scheduler.on_trial_result(None, trial, {**early, STEPS: 105})
    assert decisions == {"best": "CONTINUE", "good": "STOP", "bad": "STOP", "worst": "STOP"}
    assert make_scheduler(sweep(), ONLINE) is None


def test_a_population_stays_within_the_space() -> None:
    of = sweep(scheduler="pbt")
    scheduler = make_scheduler(of, ONLINE)
    assert isinstance(scheduler, PopulationBasedTraining)
    assert scheduler._perturbation_interval == 100
    explore = scheduler._custom_explore_fn
    settings = {"planner.td_lambda": 1.08, "planner.num_candidates": 70.4, "planner.guide": "critic"}
    assert explore({"trial": {"settings": settings}})["trial"]["settings"] == {
        "planner.td_lambda": 1.0,
        "planner.num_candidates": 64,
        "planner.guide": "critic",
    }


def test_schedulers_need_evaluations() -> None:
    with pytest.raises(UserError, match="online.evaluate_every must be above 0"):
        make_scheduler(sweep(scheduler="asha"), OnlineConfig(evaluate_every=0))
    with pytest.raises(UserError, match="grace_steps: 5000 is more than online.steps = 1000"):
        make_scheduler(sweep(scheduler={"name": "asha", "grace_steps": 5000}), ONLINE)
