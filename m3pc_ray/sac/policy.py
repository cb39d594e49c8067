"""A trained actor, apart from what trained it: a function of observations, and an agent that plays episodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from m3pc_ray.environments.actions import FloatArray, to_environment_range
from m3pc_ray.errors import UserError
from m3pc_ray.planning.plan import Plan
from m3pc_ray.sac.library import require_library
from m3pc_ray.trajectories.episodes import DatasetMetadata
from m3pc_ray.trajectories.validation import environment_facts, metadata_of

if TYPE_CHECKING:
    from stable_baselines3.sac.policies import Actor


class SacPolicy:
    """Deterministic actions in the environment's bounds: `policy(observations)`.

    Args:
        actor: the library's; nobody else may train it.
        metadata: of the environment.
    """

    def __init__(self, actor: Actor, metadata: DatasetMetadata) -> None:
        self._actor, self.metadata = actor.eval().requires_grad_(False), metadata
        self.environment_id = metadata.environment_id
        self.action_low = np.asarray(metadata.action_low, dtype=np.float32)
        self.action_high = np.asarray(metadata.action_high, dtype=np.float32)

    @classmethod
    def load(cls, folder: str | Path) -> SacPolicy:
        """The policy of the newest complete checkpoint of a `SacTrainer`'s folder.

        Raises UserError where there is none, or Stable-Baselines3 is missing.
        """
        require_library()
        from m3pc_ray.training.checkpoints import load_checkpoint

        if not is_sac_folder(folder):
            raise UserError(f"{folder}: no trained SAC there: it has no checkpoints")
        tensors, state = load_checkpoint(folder)
        if state.get("kind") != "sac":
            raise UserError(f"{folder}: no trained SAC but a run; load it with Agent.load")
        actor = {name[6:]: value for name, value in tensors["policy"].items() if name.startswith("actor.")}
        return cls.of(state["environment_id"], state["settings"], actor)

    @classmethod
    def of(cls, environment_id: str, settings: dict[str, Any], weights: dict[str, torch.Tensor]) -> SacPolicy:
        """The policy of an actor's weights, which are copied; `settings` as `SacSettings.to_json` has them."""
        metadata = environment_metadata(environment_id)
        return cls(_build_actor(metadata, settings, weights), metadata)

    def __call__(self, observations: npt.ArrayLike) -> FloatArray:
        """The most likely actions (B, action_dim), in the environment's bounds, for observations (B, obs)."""
        return to_environment_range(self.unit(observations), self.action_low, self.action_high)

    @torch.no_grad()
    def unit(self, observations: npt.ArrayLike, noise: npt.ArrayLike | None = None) -> FloatArray:
        """Actions (B, action_dim) in [-1, 1]; `noise` (B, action_dim), standard normal, draws from the policy."""
        values = torch.as_tensor(np.asarray(observations, dtype=np.float32))
        mean, log_std, _ = self._actor.get_action_dist_params(values)
        if noise is not None:
            mean = mean + log_std.exp() * torch.as_tensor(np.asarray(noise, dtype=np.float32))
        return torch.tanh(mean).numpy()

    def agent(self, seed: int = 0) -> SacAgent:
        """The policy as an agent of `evaluation.evaluate.run_episodes`."""
        return SacAgent(self, seed)


class SacAgent:
    """Plays episodes as `agent.Agent` does (protocol `evaluation.evaluate.Acting`).

    What it draws is keyed by its seed, the row's stream and the step: who else is in the batch does not matter.
    """

    def __init__(self, policy: SacPolicy, seed: int = 0) -> None:
        self.policy, self.seed = policy, seed
        self.metadata, self.environment_id, self.time_limit = policy.metadata, policy.environment_id, 0
        self.action_low, self.action_high = policy.action_low, policy.action_high
        self._generators: dict[int, np.random.Generator] = {}

    def reset(self) -> None:
        """Forget every episode."""
        self._generators = {}

    def plan(
        self,
        observations: npt.ArrayLike,
        episode_start: bool | npt.ArrayLike | None = None,
        deterministic: bool = True,
        *,
        rows: Sequence[int] | npt.NDArray[np.int64] | None = None,
        streams: npt.ArrayLike | None = None,
    ) -> Plan:
        """Actions in [-1, 1], see `Agent.plan`; without `deterministic` drawn from the policy."""
        batch = np.asarray(observations, dtype=np.float32)
        if deterministic:
            return Plan(self.policy.unit(batch))
        numbers = range(len(batch)) if rows is None else [int(row) for row in rows]
        names = list(numbers) if streams is None else np.asarray(streams).tolist()
        starts = np.broadcast_to(False if episode_start is None else episode_start, len(batch))
        for row, name, start in zip(numbers, names, starts, strict=True):
            if start or row not in self._generators:
                self._generators[row] = np.random.default_rng([self.seed, int(name), 22])
        noise = [self._generators[row].standard_normal(len(self.action_low)) for row in numbers]
        return Plan(self.policy.unit(batch, np.stack(noise)))


def environment_metadata(environment_id: str) -> DatasetMetadata:
    """What an environment says of itself, as metadata without a name. Raises UserError for an unknown one."""
    return metadata_of(environment_facts(environment_id), "")


def is_sac_folder(folder: str | Path) -> bool:
    """Whether a `SacTrainer` may have saved there: it has checkpoints and no run's summary."""
    path = Path(folder).expanduser()
    return (path / "checkpoints").is_dir() and not (path / "summary.json").exists()


def _build_actor(metadata: DatasetMetadata, settings: dict[str, Any], weights: dict[str, torch.Tensor]) -> Actor:
    from gymnasium.spaces import Box
    from stable_baselines3.common.torch_layers import FlattenExtractor
    from stable_baselines3.sac.policies import Actor

    def box(low: tuple[float, ...], high: tuple[float, ...]) -> Box:
        return Box(np.asarray(low, np.float32), np.asarray(high, np.float32))

    seen = box(metadata.observation_low, metadata.observation_high)
    done = box(metadata.action_low, metadata.action_high)
    with torch.random.fork_rng(devices=[]):  # first weights, which are replaced, must not disturb what others draw
        features = FlattenExtractor(seen)
        layers = [settings["hidden_width"]] * settings["hidden_layers"]
        actor = Actor(seen, done, layers, features, features.features_dim)
    actor.load_state_dict(weights)
    return actor
