"""What scripted experts play in the manipulation tasks, well or badly.

DIR/recipe.json                         who played, with what settings
DIR/rollouts, DIR/rollouts.hdf5         the episodes; the file has robomimic's layout, with masks
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from m3pc_ray.collection.agent_data import collect_from
from m3pc_ray.collection.policy_source import PolicySource
from m3pc_ray.collection.recipe import Recipe
from m3pc_ray.collection.rollouts import Wanted
from m3pc_ray.collection.sac_data import Report
from m3pc_ray.collection.scripted import scripts
from m3pc_ray.collection.scripted.expert import ScriptedExpert
from m3pc_ray.errors import UserError
from m3pc_ray.trajectories.episodes import Trajectories

MOST_CLUMSINESS = 0.1
"""Metres; beyond it the hand never comes near the object."""
_VALID = 10
"""One episode in so many is listed by the mask `valid`, the others by `train`: robomimic's tenth."""


@dataclass(frozen=True)
class Expert:
    """Scripts that are followed in turn, each from the same beginnings."""

    environment_id: str
    scripts: tuple[Callable[[], scripts.Script], ...]
    masks: tuple[str, ...] = ()
    """Of the episodes of each script, where there are several."""


EXPERTS = {
    "lift": Expert("robosuite/Lift-v1", (scripts.lift,)),
    "can": Expert("robosuite/PickPlaceCan-v1", (scripts.place,)),
    "can-paired": Expert(
        "robosuite/PickPlaceCan-v1",
        (scripts.place, scripts.throw),
        ("good", "bad"),
    ),
    "square": Expert("robosuite/NutAssemblySquare-v1", (scripts.assemble,)),
}


@dataclass(frozen=True)
class ExpertData:
    """What is asked for."""

    expert: str
    episodes: int
    seed: int = 0
    noise: float = 0.0
    """Standard deviation of Gaussian noise added to actions, in half ranges of the action space."""
    clumsiness: float = 0.0
    """Standard deviation, metres along x and y, of how far beside the object an episode's expert reaches."""
    hesitation: float = 0.0
    """Chance at each step that the expert changes its pace."""
    noise_varies: bool = False
    """Every episode draws its own deviation of the noise, evenly from 0 to `noise`."""
    parallel: int = 8

    def source(self) -> PolicySource:
        """The expert, ready to play. Raises UserError for settings out of range."""
        if self.expert not in EXPERTS:
            raise UserError(f"--expert is {self.expert}; it must be one of {', '.join(EXPERTS)}")
        if self.episodes < 1:
            raise UserError(f"--episodes is {self.episodes}; it must be at least 1")
        if self.seed < 0:
            raise UserError(f"--seed is {self.seed}; it must be 0 or more")
        if not 0.0 <= self.clumsiness <= MOST_CLUMSINESS:
            raise UserError(f"--clumsiness is {self.clumsiness:g}; it must be from 0 to {MOST_CLUMSINESS:g} metres")
        if not 0.0 <= self.hesitation <= 1.0:
            raise UserError(f"--hesitation is {self.hesitation:g}; it must be from 0 to 1, a chance")
        expert = EXPERTS[self.expert]
        played = [script() for script in expert.scripts]
        agent = ScriptedExpert(played, self.seed, self.clumsiness, self.hesitation)
        described = {
            "policy": f"scripted expert {self.expert}",
            "clumsiness": self.clumsiness,
            "hesitation": self.hesitation,
            "noise_varies": self.noise_varies,
        }
        return PolicySource(
            agent,
            expert.environment_id,
            described,
            seed=self.seed,
            noise=self.noise,
            noise_varies=self.noise_varies,
            attempts=len(expert.scripts),
            parallel=self.parallel,
        )

    def masks(self, data: Trajectories) -> Mapping[str, ArrayLike]:
        """Names -> indices of episodes: solved and failed ones, training and validation, and those of each script."""
        number = np.arange(data.num_episodes)
        last = data.episode_starts[1:] - 1
        solved = data.rewards[last] > 0.0
        expert = EXPERTS[self.expert]
        # Attempts from one beginning stay together: training must not have seen a validation episode's twin.
        valid = number // len(expert.scripts) % _VALID == _VALID - 1
        names = expert.masks
        by_script = {name: number[number % len(names) == which] for which, name in enumerate(names)}
        return {
            "solved": number[solved],
            "failed": number[~solved],
            "train": number[~valid],
            "valid": number[valid],
        } | (by_script)


def collect_expert_data(asked: ExpertData, folder: Path, command: str, report: Report) -> Recipe:
    """Makes, or goes on making, all that the module's picture shows; the same call continues what was interrupted.

    Raises UserError where settings or the folder are not fit for it.
    """
    wanted = Wanted(episodes=asked.episodes)
    return collect_from(asked.source(), wanted, folder, command, report, asked.masks)
