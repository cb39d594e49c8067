"""Runs with made-up numbers, written by the functions that real runs use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from m3pc_ray.config import LoggingConfig, RunConfig
from m3pc_ray.configuration import with_settings
from m3pc_ray.training.metrics import MetricLogger
from m3pc_ray.training.run_folder import RunFolder

QUIET = LoggingConfig(tensorboard=False)


def pretrained(path: Path, seed: int = 0, **settings: Any) -> RunFolder:
    """A finished pretraining with losses, held-out errors and a critic."""
    run = _run(path, "pretrain", seed, settings)
    noise = np.random.default_rng(seed)
    btm, critic = MetricLogger(run, QUIET, "btm"), MetricLogger(run, QUIET, "critic")
    for step in range(50, 1001, 50):
        names = ("loss", "states_error", "returns_error", "rewards_error", "visible_actions_error")
        values = {name: 50 / step * noise.uniform(0.8, 1.2) for name in names}
        values |= {"negative_log_likelihood": -step / 500, "entropy": -step / 700, "sequences_per_second": 900.0}
        btm.log(step, values)
        critic.log(20 * step, {"value_loss": 0.1 / step, "q_loss": 0.3 / step, "updates_per_second": 200.0})
    for step in (500, 1000):
        masks = ("return_conditioned", "inverse_dynamics", "behaviour_cloning", "goal")
        held_out = {f"action_error/{mask}": 40 / step * noise.uniform(0.8, 1.2) for mask in masks}
        held_out |= {f"states_error/{ahead}_ahead": ahead * 10 / step for ahead in range(1, 5)}
        held_out |= {"rewards_error": 0.01, "rewards_error/reward_prediction": 0.005, "returns_error": 0.6}
        btm.log(step, {f"validation/{name}": value for name, value in held_out.items()})
    run.write_summary({"status": "finished", "btm_updates": 1000, "critic_updates": 20000, "seconds": 754.0})
    run.write_summary({"validation": held_out})
    return run


def online(path: Path, seed: int = 0, *, steps: int = 2000, scored: bool = True, **settings: Any) -> RunFolder:
    """A finished online run on Ray: evaluations of two planners, exploration, losses, waiting, memory."""
    run = _run(path, "finetune", seed, {"online.steps": steps} | settings)
    noise = np.random.default_rng(100 + seed)
    rows, episodes, evaluations = (MetricLogger(run, QUIET, name) for name in ("online", "episodes", "evaluation"))
    for step in range(0, steps + 1, 50):
        shares = ("waiting_steps", "waiting_updates", "planner_busy", "learner_busy", "planning_share")
        values = {name: noise.uniform() for name in (*shares, "simulation_share")}
        values |= {"steps_per_second": 10 + noise.normal(), "seconds": 20 + step / 10, "weight_version": step // 5}
        values |= {"planner_batch_ms": 30.0, "planner_wait_ms": 1.0, "weight_lag_mean": 20.0, "weight_lag_max": 40.0}
        values |= {"memory_learner_mb": 700.0 + step, "memory_replay_mb": 200.0, "return_mean": 500 + step / 2}
        values |= {f"btm/{name}_error": 0.01 * noise.uniform(1, 2) for name in ("states", "returns", "rewards")}
        values |= {"critic/value_loss": 0.001, "critic/q_loss": 0.002, "btm/entropy": -1.0}
        rows.log(step, values)
    for number in range(30):
        end = "cut" if number == 29 else "terminated"
        row = {"return": noise.normal(500 + 20 * number, 50), "length": 300, "worker": number % 2, "end": end}
        episodes.log((number + 1) * steps // 30, row)
    scores = {}
    for step in range(0, steps + 1, steps // 4):
        values = {}
        for planner, height in (("none", 70.0), ("critic", 80.0)):
            mean = height + 10 * step / steps + seed
            values |= _earned(planner, "return", 30 * mean, 30) | {f"{planner}/episodes": 10}
            values |= _earned(planner, "score", mean, 1) if scored else {}
            values |= {"critic/num_candidates": 64, "critic/horizon": 4, "critic/td_lambda": 0.6}
            scores[planner] = mean
        evaluations.log(step, values)
    run.write_summary({"status": "finished", "environment_steps": steps, "btm_updates": steps // 5})
    run.write_summary({"critic_updates": 2 * steps, "seconds": 26_000.0, "scores": scores, "source": "runs/hopper"})
    return run


def played(run: RunFolder, mean: float = 81.5) -> None:
    """What `m3pc evaluate --json RUN/evaluation.json` leaves."""
    row = {"planner": "none", "episodes": 20, "score_mean": mean, "score_low": mean - 1, "score_high": mean + 2}
    row |= {"return_mean": 30 * mean, "return_low": 30 * mean - 30, "return_high": 30 * mean + 60}
    (run.path / "evaluation.json").write_text(json.dumps({"rows": [row]}))


def _earned(planner: str, kind: str, mean: float, width: float) -> dict[str, float]:
    return {f"{planner}/{kind}_{name}": mean + by * width for name, by in (("mean", 0), ("low", -1), ("high", 2))}


def _run(path: Path, kind: Any, seed: int, settings: dict[str, Any]) -> RunFolder:
    values = {"seed": seed, "data.dataset": "data/hopper-medium.hdf5", "data.environment": "Hopper-v4"} | settings
    config = with_settings(RunConfig(), {name: str(value) for name, value in values.items()})
    return RunFolder.create(path, config, kind)
