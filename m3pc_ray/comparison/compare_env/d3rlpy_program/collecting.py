"""Environment steps with an update after each: what d3rlpy's `fit_online` does, but able to stop and go on.

Time-limit ends bootstrap from the observation that followed; d3rlpy's buffer would drop that step.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from .learner import Learner
from .methods import Method
from .transitions import Data, FloatArray, Replay, discounted, following


class Collector:
    """One environment and the episode that is under way in it.

    Args:
        assignment: names the environment and the seed; every episode's reset is seeded with both and its number.
        method: says when what it collects may be learnt from.
        learner: acts, learns and counts.
        data: how observations and rewards are scaled.
        replay: takes what is collected.
    """

    def __init__(
        self, assignment: Mapping[str, Any], method: Method, learner: Learner, data: Data, replay: Replay
    ) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice to use -v5: the data is of the version that is asked for
            self.environment: Any = gymnasium.make(assignment["environment_id"], disable_env_checker=True)
        space: Any = self.environment.action_space
        self._low, self._span = space.low.astype(np.float64), (space.high - space.low).astype(np.float64)
        self.seed, self.method = assignment["seed"], method
        self.learner, self.data, self.replay = learner, data, replay
        self._observation: Any = None
        self._steps: list[dict[str, FloatArray]] = []

    def __enter__(self) -> Collector:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.environment.close()

    def step(self) -> None:
        """One environment step, then one update."""
        learner = self.learner
        if self._observation is None:
            # After an interruption this begins a new episode: a simulator's state is not kept.
            draw = np.random.SeedSequence([self.seed, learner.episodes]).generate_state(1)[0]
            self._observation, _ = self.environment.reset(seed=int(draw) >> 1)
            learner.episodes += 1
            self._steps = []
        before = self.data.standardised(self._observation)
        action = self._act(before)
        self._observation, reward, terminated, truncated, _ = self.environment.step(
            self._low + (action + 1) / 2 * self._span
        )
        learner.environment_steps += 1
        self._steps.append(
            {
                "observations": before[None],
                "actions": action[None],
                "rewards": np.full((1, 1), reward * self.data.reward_scale, np.float32),
                "next_observations": self.data.standardised(self._observation)[None],
                "terminals": np.full((1, 1), terminated, np.float32),
            }
        )
        over = terminated or truncated
        if self.method.whole_episodes:
            if over:
                self._hand_over(self._steps)
        else:
            self._hand_over(self._steps[-1:])
        if over:
            self._observation = None
        learner.update(self.replay.batch(learner.algorithm.config.batch_size))

    def _act(self, observation: FloatArray) -> FloatArray:
        """An exploring action (action_dim,) in [-1, 1] of a scaled observation."""
        action = self.learner.algorithm.sample_action(observation[None])[0]
        clipped: FloatArray = np.clip(action, -1.0, 1.0).astype(np.float32)
        return clipped

    def _hand_over(self, steps: list[dict[str, FloatArray]]) -> None:
        """Steps to the replay; returns-to-go and next actions are right for a whole episode, and unused for a part."""
        rows = {name: np.concatenate([step[name] for step in steps]) for name in steps[0]}
        rows["next_actions"] = following(rows["actions"])
        rows["returns_to_go"] = discounted(rows["rewards"][:, 0], self.data.discount)
        self.replay.append(rows)
