"""Online finetuning as it is written first: one environment, the plain planner, plain replays, updates in between."""

from __future__ import annotations

import numpy as np

from m3pc_ray.environments.actions import to_environment_range
from m3pc_ray.environments.make import EnvironmentGroup
from m3pc_ray.planning.context import ContextWindow
from m3pc_ray.planning.planner import ForwardPlanner

from .critic import PlainIQL
from .model import PlainTrainer
from .replay import EpisodeList, TransitionDeque


class PlainFinetuning:
    """The loop; `advance` takes steps and does the updates they owe.

    Args:
        planner: acts, by sampling candidates; built with engine `plain`.
        environment_id: the task.
        transitions, episodes: replays that hold the offline data already; steps are added to the transitions.
        model_updates_per_step, critic_updates_per_step: promised ratios.
        segments, batch: batch sizes of both.
    """

    def __init__(
        self,
        planner: ForwardPlanner,
        environment_id: str,
        model: PlainTrainer,
        critic: PlainIQL,
        transitions: TransitionDeque,
        episodes: EpisodeList,
        *,
        model_updates_per_step: float,
        critic_updates_per_step: float,
        segments: int,
        batch: int,
    ) -> None:
        self.planner, self.model, self.critic = planner, model, critic
        self.transitions, self.episodes = transitions, episodes
        self.ratios = {"model": model_updates_per_step, "critic": critic_updates_per_step}
        self.segments, self.batch = segments, batch
        self.group = EnvironmentGroup(environment_id, 1)
        spec = self.group.spec
        self.window = ContextWindow(1, spec.observation_dim, spec.action_dim, planner.config.context_length)
        self.owed = {"model": 0.0, "critic": 0.0}
        self.updates = {"model": 0, "critic": 0}
        self.steps = self.timestep = self.episode = 0
        self._reset()

    def advance(self, steps: int) -> None:
        for _ in range(steps):
            self._step()
            for name, ratio in self.ratios.items():
                self.owed[name] += ratio
            while self.owed["critic"] >= 1.0:
                self.critic.update(self.transitions.sample(self.batch))
                self.owed["critic"] -= 1.0
                self.updates["critic"] += 1
            while self.owed["model"] >= 1.0:
                self.model.update(self.episodes.sample(self.segments))
                self.owed["model"] -= 1.0
                self.updates["model"] += 1

    def _reset(self) -> None:
        self.observation = self.group.reset(0, seed=self.episode)
        self.window.reset(0, self.observation)
        self.episode, self.timestep = self.episode + 1, 0

    def _step(self) -> None:
        keys = np.array([(0, self.episode, self.timestep)], dtype=np.uint64)
        actions = self.planner.plan(self.window.context(keys, np.array([0])), sample=True).actions
        spec = self.group.spec
        action = to_environment_range(actions, spec.action_low, spec.action_high)
        outcome = self.group.step(action, np.array([0]))
        following, terminated = outcome.observations[0], bool(outcome.terminated[0])
        reward = np.float32(outcome.rewards[0])
        self.transitions.append((self.observation, actions[0], reward, following, np.float32(terminated)))
        self.observation = following
        self.window.append(0, actions[0], following)
        self.timestep, self.steps = self.timestep + 1, self.steps + 1
        if terminated or outcome.truncated[0]:
            self._reset()
