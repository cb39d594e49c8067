"""Data sets by D4RL's recipe: SAC to a level, then what its policy plays (`medium`) and what it learnt from
(`medium-replay`).

    DIR/recipe.json                         everything that was asked for, every evaluation, versions, outcome
    DIR/sac/checkpoints/                    the agent, its replay buffer and all random states
    DIR/medium, DIR/medium.hdf5             drawn episodes of the policy that reached the level
    DIR/medium-replay, ....hdf5             its replay buffer up to there, in order
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from m3pc_ray.collection.policy_source import PolicySource
from m3pc_ray.collection.recipe import EPISODES, Recipe, open_recipe
from m3pc_ray.collection.rollouts import EpisodeFolder, Wanted, collect
from m3pc_ray.config import EvaluationConfig
from m3pc_ray.environments.make import EnvironmentGroup
from m3pc_ray.errors import UserError
from m3pc_ray.evaluation.evaluate import run_episodes
from m3pc_ray.sac.policy import environment_metadata
from m3pc_ray.sac.settings import SacSettings
from m3pc_ray.sac.trainer import SacTrainer
from m3pc_ray.trajectories.scores import normalised_score, reference_scores

RESET_SEEDS = 1_000_000
"""Distance between the reset seeds of two collections with neighbouring seeds; evaluations use the upper half."""

Report = Callable[[str, int, int, str], None]
"""Progress of a phase (`training`, `evaluation`, `medium`): done, in all, and a few words. What it raises ends the
work, which has been saved."""


@dataclass(frozen=True)
class SacData:
    """What is asked for."""

    environment: str
    level: float | None = None
    """Normalised score, as a fraction (0 random, 1 expert), at which training stops."""
    raw_return: float | None = None
    """Mean return at which training stops, for environments without reference scores; instead of `level`."""
    steps_medium: int = 100_000
    """Steps of `medium`, at least: its last episode is whole too."""
    max_steps: int = 1_000_000
    """Environment steps after which training gives up; may be raised to go on."""
    evaluate_every: int = 5_000
    """Environment steps between evaluations."""
    evaluation_episodes: int = 10
    seed: int = 0
    settings: SacSettings = field(default_factory=SacSettings)
    parallel: int = 8
    """Environments side by side while policies are evaluated and played."""

    def __post_init__(self) -> None:
        if (self.level is None) == (self.raw_return is None):
            raise UserError("either --level or --return must be given, and not both")
        for name in ("steps_medium", "max_steps", "evaluate_every", "evaluation_episodes", "parallel"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be at least 1")
        if self.seed < 0:
            raise UserError(f"--seed is {self.seed}; it must be 0 or more")
        if self.max_steps > self.settings.buffer_size:
            raise UserError(
                f"--max-steps is {self.max_steps}, but only the newest sac.buffer_size = {self.settings.buffer_size} "
                "steps are kept for medium-replay; raise --sac.buffer_size"
            )

    def wanted_return(self) -> float:
        """Mean return to reach. Raises UserError for an unknown environment, or a level without reference scores."""
        environment_metadata(self.environment)
        if self.raw_return is not None:
            return self.raw_return
        reference = reference_scores(self.environment)
        if reference is None:
            raise UserError(f"--level: {self.environment} has no reference scores; give --return, a raw mean return")
        assert self.level is not None
        return reference[0] + self.level * (reference[1] - reference[0])

    def asked(self) -> dict[str, Any]:
        """What must be the same for the work to go on."""
        names = ("environment", "level", "raw_return", "steps_medium", "evaluate_every", "evaluation_episodes", "seed")
        return {**{name: getattr(self, name) for name in names}, "sac": self.settings.to_json()}


def collect_sac_data(asked: SacData, folder: Path, command: str, report: Report, threads: int = 0) -> Recipe:
    """Makes, or goes on making, all that the module's picture shows. Interrupted anywhere, the same call continues.

    Raises:
        UserError: the level was not reached within `max_steps`, the folder is not for this, Stable-Baselines3 is
            missing, or the environment cannot be used.
    """
    wanted = asked.wanted_return()
    with open_recipe(folder, "sac", asked.asked(), command) as recipe:
        if recipe.finished:
            return recipe
        trainer = SacTrainer(asked.environment, asked.seed, asked.settings, None, folder / "sac", threads)
        reached = _train(trainer, asked, wanted, recipe, report)
        told = _told(recipe, trainer, reached)
        name = asked.environment.rsplit("/", 1)[-1]
        policy = (
            f"SAC (Stable-Baselines3) on {name}, seed {asked.seed}, stopped after {trainer.steps:,} steps at a mean "
            f"return of {reached['return_mean']:.1f} over {asked.evaluation_episodes} drawn episodes"
        )
        recipe.write_dataset(
            trainer.trajectories("medium-replay"),
            "medium-replay",
            f"medium-replay: replay buffer of {policy}, in order",
            {"kind": "medium-replay: replay buffer of the SAC run, in order, from step 0 up to the stop step", **told},
        )
        source = PolicySource(
            trainer.policy().agent(asked.seed),
            asked.environment,
            {"policy": "sac", "steps": trainer.steps},
            seed=RESET_SEEDS * (asked.seed + 1),
            deterministic=False,
            parallel=asked.parallel,
        )
        episodes = EpisodeFolder(folder / EPISODES)
        data = collect(
            source,
            Wanted(steps=asked.steps_medium),
            episodes,
            source.metadata,
            lambda count, steps: report(
                "medium", min(steps, asked.steps_medium), asked.steps_medium, f"{count} episodes"
            ),
        )
        recipe.update(source=source.recipe())
        kind = "medium: stochastic rollouts of the policy at the stop step"
        recipe.write_dataset(data, "medium", f"medium: drawn episodes of {policy}", {"kind": kind, **told})
        shutil.rmtree(episodes.path)
    return recipe


def _train(trainer: SacTrainer, asked: SacData, wanted: float, recipe: Recipe, report: Report) -> dict[str, Any]:
    """Train until an evaluation reaches the return; that evaluation's row."""
    rows = [row for row in recipe.content.get("evaluations", []) if row["steps"] <= trainer.steps]

    def progress(steps: int, mean_return: float) -> None:
        shown = "" if np.isnan(mean_return) else f"return {mean_return:.1f}, "
        report("training", steps, asked.max_steps, f"{shown}wanted {wanted:.1f}")

    while not rows or rows[-1]["return_mean"] < wanted:
        steps = trainer.steps
        evaluated = bool(rows) and rows[-1]["steps"] == steps
        if steps and not evaluated and (steps % asked.evaluate_every == 0 or steps >= asked.max_steps):
            row = _evaluate(trainer, asked, report)
            if row["return_mean"] >= wanted:
                trainer.save()
            rows.append(row)
            recipe.update(evaluations=rows)
        elif steps >= asked.max_steps:
            trainer.save()
            best = max(row["return_mean"] for row in rows)
            raise UserError(
                f"{recipe.folder}: a mean return of {wanted:.1f} was not reached within {asked.max_steps:,} steps; "
                f"the best was {best:.1f}; go on with a larger --max-steps, or take a lower level in another folder"
            )
        else:
            upcoming = (steps // asked.evaluate_every + 1) * asked.evaluate_every
            trainer.learn(min(upcoming, asked.max_steps), progress)
    return rows[-1]


def _evaluate(trainer: SacTrainer, asked: SacData, report: Report) -> dict[str, Any]:
    """Mean return of drawn episodes, as `medium` will hold them."""
    config = EvaluationConfig(
        episodes=asked.evaluation_episodes,
        seed=RESET_SEEDS * (asked.seed + 1) + RESET_SEEDS // 2,
        deterministic=False,
        parallel_environments=asked.parallel,
    )
    steps = f"after {trainer.steps:,} steps"
    try:
        with EnvironmentGroup(asked.environment, min(asked.parallel, config.episodes)) as group:
            agent = trainer.policy().agent(asked.seed)
            episodes = run_episodes(
                agent, group, config, lambda done, _, __: report("evaluation", done, config.episodes, steps)
            )
    except KeyboardInterrupt:
        trainer.save()
        raise
    mean = float(episodes.returns.mean())
    return {
        "steps": trainer.steps,
        "updates": trainer.updates,
        "seconds": trainer.seconds,
        "return_mean": mean,
        "return_std": float(episodes.returns.std()),
        "score_mean": normalised_score(mean, asked.environment),
        "length_mean": float(episodes.lengths.mean()),
    }


def _told(recipe: Recipe, trainer: SacTrainer, reached: dict[str, Any]) -> dict[str, str | int | float]:
    """Attributes that both HDF5 files have."""
    version = recipe.content["sittings"][-1]["versions"].get("stable_baselines3", "")
    return {
        "algorithm": f"SAC (Stable-Baselines3 {version})",
        "hyperparameters": json.dumps(trainer.settings.to_json()),
        "train_seed": trainer.seed,
        "train_seconds": trainer.seconds,
        "stop_step": trainer.steps,
        "stop_reason": "level reached",
        "stop_eval_mean_stochastic": reached["return_mean"],
    }
