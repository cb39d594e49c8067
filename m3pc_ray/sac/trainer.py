"""Soft actor-critic from the first step to a saved policy: the library learns, this keeps what it needs to go on.

    trainer = SacTrainer("Hopper-v4", seed=0, settings=SacSettings.rlpd(), offline=load("d4rl/hopper-medium-v2"))
    trainer.learn(50_000)
    actions = trainer.policy()(observations)  # (B, observation_dim) -> (B, action_dim), in the environment's bounds

With a folder it saves there and, made again with the same arguments, goes on from its newest checkpoint. One that was
written at the end of an episode (those that `learn` writes by itself) continues bit for bit, in environments whose
only memory between episodes is `np_random`, with the same number of threads. What the library cannot take up again is
an episode in the middle, for the simulator's state is not saved: that episode counts as cut, and a new one begins.
"""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from m3pc_ray.environments.make import make_environment, specification
from m3pc_ray.errors import UserError
from m3pc_ray.sac import saving
from m3pc_ray.sac.library import require_library
from m3pc_ray.sac.policy import SacPolicy
from m3pc_ray.sac.settings import SacSettings
from m3pc_ray.training.state import pack_generator
from m3pc_ray.trajectories.episodes import Trajectories

CHECKPOINT_SECONDS = 300.0
"""Least time between the checkpoints that `learn` writes by itself, each at the end of an episode."""
RECENT_EPISODES = 20
"""Episodes of training whose mean return is reported."""

Progress = Callable[[int, float], None]
"""Called after every environment step and its updates: steps taken, and the mean return of the last episodes of
training (NaN before the first). What it raises ends `learn`, which saves first."""


class SacTrainer:
    """One SAC agent in training, on the CPU.

    Args:
        environment_id: a Gymnasium environment with Box spaces.
        seed: of everything random. The library draws from the process's global generators; the trainer swaps its own
            states in and out, so that two trainers, or an evaluation in between, do not disturb each other.
        settings: `SacSettings()` is plain SAC, `SacSettings.rlpd()` RLPD.
        offline: data of which `settings.offline_fraction` of every batch is drawn; None: all batches are online.
        folder: where to save, and to go on from; None: nothing is saved.
        threads: of torch, for the whole process; 0: as they are.

    Raises:
        UserError: the library is missing, the environment cannot be used, the data are of another one, or the folder
            holds training with other arguments.
    """

    def __init__(
        self,
        environment_id: str,
        seed: int = 0,
        settings: SacSettings | None = None,
        offline: Trajectories | None = None,
        folder: str | Path | None = None,
        threads: int = 0,
    ) -> None:
        require_library()
        if seed < 0 or threads < 0:
            raise UserError(f"seed and threads must be 0 or more, not {seed} and {threads}")
        if threads:
            torch.set_num_threads(threads)
        self.environment_id, self.seed = environment_id, seed
        self.settings = SacSettings() if settings is None else settings
        self.folder = None if folder is None else Path(folder).expanduser()
        self.offline_name = "" if offline is None else offline.metadata.name
        self.cuts: list[int] = []
        """Steps (counted from 0) after which an episode was cut because training stopped there."""
        self.seconds = 0.0
        """Wall time in `learn`, over all sittings."""
        self.checkpoint_seconds = CHECKPOINT_SECONDS
        self._environment = _Remembering(make_environment(environment_id))
        saved = saving.find(self.folder) if self.folder is not None else None
        self._random, self._inside = _global_states(), False
        with self._own_randomness():
            self.model = _build(self._environment, self.settings, None if saved else seed, _checked(offline, self))
            if saved is not None:
                saving.restore(self, *saved)

    @property
    def steps(self) -> int:
        """Environment steps taken."""
        return int(self.model.num_timesteps)

    @property
    def updates(self) -> int:
        """Critic updates done."""
        return int(self.model._n_updates)

    @property
    def episode_ended(self) -> bool:
        """Whether the newest step was the last of its episode."""
        buffer = self.model.replay_buffer
        return self.steps > 0 and bool(buffer.dones[(self.steps - 1) % buffer.buffer_size, 0])

    @property
    def reset_state(self) -> dict[str, Any]:
        """State of the environment's generator before the latest reset."""
        return self._environment.before_reset

    def learn(self, until_environment_steps: int, progress: Progress | None = None) -> None:
        """Train until so many environment steps were taken in all; how they are parted into calls changes nothing.

        With a folder, saves at ends of episodes and before anything that `progress` raises is passed on, such as
        KeyboardInterrupt.
        """
        from m3pc_ray.sac.watching import Watching

        missing = until_environment_steps - self.steps
        if missing <= 0:
            return
        watching = Watching(self, progress)
        with self._own_randomness():
            try:
                self.model.learn(missing, watching, log_interval=None, reset_num_timesteps=self.steps == 0)
            finally:
                self.seconds += watching.seconds_to_count()
        watching.report()

    def save(self) -> None:
        """Write a checkpoint, complete or not at all. Raises UserError without a folder, or where it cannot be."""
        if self.folder is None:
            raise UserError("this SAC trainer has no folder to save in; give one when it is made")
        with self._own_randomness():
            saving.save(self, self.folder)

    def policy(self) -> SacPolicy:
        """The policy as it is now: a copy, which later training leaves alone."""
        return SacPolicy.of(self.environment_id, self.settings.to_json(), self.model.actor.state_dict())

    def trajectories(self, name: str) -> Trajectories:
        """What the replay buffer holds, in the order in which it happened: whole episodes, but the last may be cut.

        Once more than `settings.buffer_size` steps were taken, it begins with the first episode of which all is left.
        """
        return saving.replay_trajectories(self, name)

    @contextlib.contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """Inside, the global generators are in this trainer's states; outside, as they were."""
        if self._inside:  # as `save` is when `progress` calls it
            yield
            return
        self._inside = True
        outside = _global_states()
        _set_global_states(self._random)
        try:
            yield
        finally:
            self._random = _global_states()
            _set_global_states(outside)
            self._inside = False


class _Remembering(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Observations in float32, as all our data; an action space of its own, since some environments share theirs, and
    random actions are drawn from it; remembers the generator's state before every reset."""

    def __init__(self, environment: gymnasium.Env[Any, Any]) -> None:
        super().__init__(environment)
        space = environment.observation_space
        assert isinstance(space, gymnasium.spaces.Box)
        self.observation_space = gymnasium.spaces.Box(
            space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32
        )
        self.action_space = copy.deepcopy(environment.action_space)
        self.before_reset: dict[str, Any] = {}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.before_reset = pack_generator(self.unwrapped.np_random)
        observation, info = self.env.reset(seed=seed, options=options)
        return np.asarray(observation, dtype=np.float32), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return np.asarray(observation, dtype=np.float32), reward, terminated, truncated, info


def _build(
    environment: gymnasium.Env[Any, Any], settings: SacSettings, seed: int | None, offline: Trajectories | None
) -> Any:
    """The library's model; `seed` None leaves the generators alone, for what is restored next."""
    from stable_baselines3 import SAC

    from m3pc_ray.sac.ensemble import EnsemblePolicy, EnsembleSAC
    from m3pc_ray.sac.replay import MixedReplayBuffer, offline_transitions

    ensemble = settings.update == "rlpd"
    policy_keywords: dict[str, Any] = {
        "net_arch": [settings.hidden_width] * settings.hidden_layers,
        "n_critics": settings.critics,
        "optimizer_kwargs": {"fused": True},
    }
    if ensemble or settings.layer_norm:
        policy_keywords["layer_norm"] = settings.layer_norm
    keywords: dict[str, Any] = {}
    if offline is not None:
        keywords["replay_buffer_class"] = MixedReplayBuffer
        keywords["replay_buffer_kwargs"] = {
            "offline": offline_transitions(offline),
            "offline_fraction": settings.offline_fraction,
        }
    if ensemble:
        keywords |= {"target_critics": settings.target_critics, "entropy_backup": settings.entropy_backup}
    algorithm: Any = EnsembleSAC if ensemble else SAC
    return algorithm(
        EnsemblePolicy if "layer_norm" in policy_keywords else "MlpPolicy",
        environment,
        learning_rate=settings.learning_rate,
        buffer_size=settings.buffer_size,
        learning_starts=settings.learning_starts,
        batch_size=settings.batch_size,
        tau=settings.polyak,
        gamma=settings.discount,
        train_freq=1,
        gradient_steps=settings.updates_per_step,
        target_entropy=settings.entropy_per_dimension * specification(environment).action_dim,
        policy_kwargs=policy_keywords,
        stats_window_size=RECENT_EPISODES,
        seed=seed,
        device="cpu",
        **keywords,
    )


def _checked(offline: Trajectories | None, trainer: SacTrainer) -> Trajectories | None:
    if offline is None:
        return None
    spec, data = specification(trainer._environment), offline.metadata
    if data.environment_id != trainer.environment_id or (offline.observation_dim, offline.action_dim) != (
        spec.observation_dim,
        spec.action_dim,
    ):
        raise UserError(f"{data.name} comes from {data.environment_id}; SAC on {trainer.environment_id} cannot use it")
    return offline


States = tuple[Any, Any, torch.Tensor]


def _global_states() -> States:
    return random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state()


def _set_global_states(states: States) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
