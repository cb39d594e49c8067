"""What a saved agent plays: a run of m3pc with one of its planners, or a trained SAC.

DIR/recipe.json                         who played, with what settings
DIR/rollouts, DIR/rollouts.hdf5         the episodes
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from m3pc_ray.agent import Agent
from m3pc_ray.collection.policy_source import PolicySource
from m3pc_ray.collection.recipe import EPISODES, Recipe, open_recipe
from m3pc_ray.collection.rollouts import EpisodeFolder, Wanted, collect
from m3pc_ray.collection.sac_data import Report
from m3pc_ray.collection.source import Source
from m3pc_ray.config import Guide
from m3pc_ray.environments.make import EnvironmentGroup
from m3pc_ray.errors import UserError
from m3pc_ray.evaluation.evaluate import check_environment
from m3pc_ray.sac.policy import SacPolicy, is_sac_folder
from m3pc_ray.training.checkpoints import list_checkpoints
from m3pc_ray.trajectories.episodes import Trajectories

NAME = "rollouts"
Masks = Callable[[Trajectories], Mapping[str, ArrayLike]]
"""Of a data set: names -> indices of episodes."""


@dataclass(frozen=True)
class AgentData:
    """What is asked for."""

    agent: str
    """A run, a folder of `m3pc data collect`, or the `sac` in one."""
    episodes: int
    seed: int = 0
    deterministic: bool = True
    noise: float = 0.0
    """Standard deviation of Gaussian noise added to actions, in half ranges of the action space."""
    planner: Guide | None = None
    """Of a run; None: its own."""
    parallel: int = 8

    def source(self) -> PolicySource:
        """The agent, loaded. Raises UserError where there is none."""
        if self.episodes < 1:
            raise UserError(f"--episodes is {self.episodes}; it must be at least 1")
        if self.seed < 0:
            raise UserError(f"--seed is {self.seed}; it must be 0 or more")
        path = Path(self.agent).expanduser()
        if not path.is_dir():
            raise UserError(f"{self.agent}: no such folder; name a run, or what m3pc data collect has made")
        trained = next((each for each in (path, path / "sac") if is_sac_folder(each)), None)
        described: dict[str, Any] = {"path": str((trained or path).resolve())}
        agent: Any
        if trained is not None:
            if self.planner is not None:
                raise UserError(f"--planner: {trained} is a SAC, which does not plan")
            agent = SacPolicy.load(trained).agent(self.seed)
            described |= {"policy": "sac", "checkpoint": list_checkpoints(trained)[-1]}
        else:
            agent = Agent.load(path, planner=self.planner, seed=self.seed)
            described |= {"policy": "m3pc", "planner": agent.guide, "checkpoint": list_checkpoints(path)[-1]}
            with EnvironmentGroup(agent.environment_id, 1, time_limit=agent.time_limit) as group:
                check_environment(agent, group)
        return PolicySource(
            agent,
            agent.environment_id,
            described,
            seed=self.seed,
            deterministic=self.deterministic,
            noise=self.noise,
            parallel=self.parallel,
            time_limit=agent.time_limit,
        )


def collect_agent_data(asked: AgentData, folder: Path, command: str, report: Report) -> Recipe:
    """Makes, or goes on making, all that the module's picture shows; the same call continues what was interrupted.

    Raises UserError where the agent or the folder is not fit for it.
    """
    return collect_from(asked.source(), Wanted(episodes=asked.episodes), folder, command, report)


def collect_from(
    source: Source, wanted: Wanted, folder: Path, command: str, report: Report, masks: Masks | None = None
) -> Recipe:
    """The episodes of any source, as a store and as HDF5, with their recipe. Raises as `collect_agent_data`.

    `masks` names episodes of a manipulation task, for the file in robomimic's layout.
    """
    described = source.recipe()
    with open_recipe(folder, NAME, {**described, "episodes": wanted.episodes}, command) as recipe:
        if recipe.finished:
            return recipe
        episodes = EpisodeFolder(folder / EPISODES)
        data = collect(
            source,
            wanted,
            episodes,
            source.metadata,
            lambda done, steps: report(NAME, done, wanted.episodes, f"{steps:,} steps"),
        )
        words = ", ".join(f"{key} {value}" for key, value in described.items())
        recipe.write_dataset(
            data, NAME, f"rollouts: {words}", {"kind": f"rollouts of {described['policy']}"}, masks and masks(data)
        )
        shutil.rmtree(episodes.path)
    return recipe
