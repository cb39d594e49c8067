"""A SAC in training on disk, and what its replay buffer holds as trajectories.

Tensors and JSON in the format of `m3pc_ray.training.checkpoints`, not the library's pickles: reading a stranger's runs
no code. Saved are networks, optimizers, the replay buffer, counters and the states of all generators.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from m3pc_ray.environments.actions import to_environment_range
from m3pc_ray.errors import UserError
from m3pc_ray.sac.policy import environment_metadata, is_sac_folder
from m3pc_ray.training.checkpoints import Tensors, list_checkpoints, load_checkpoint, save_checkpoint
from m3pc_ray.training.state import (
    pack_generator,
    pack_optimizer,
    pack_torch_generator,
    unpack_generator,
    unpack_optimizer,
    unpack_torch_generator,
)
from m3pc_ray.trajectories.episodes import EpisodeEnd, Trajectories

if TYPE_CHECKING:
    from m3pc_ray.sac.trainer import SacTrainer

KIND = "sac"
_COLUMNS = ("observations", "actions", "next_observations", "rewards", "dones", "timeouts")


def find(folder: Path) -> tuple[Tensors, dict[str, Any]] | None:
    """The newest complete checkpoint in a trainer's folder; None where there is none yet.

    Raises UserError where something else lies there.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    if not folder.is_dir() or not is_sac_folder(folder):
        raise UserError(f"{folder}: not empty and no trained SAC, so it is not touched; name another folder")
    if not list_checkpoints(folder):
        return None
    tensors, state = load_checkpoint(folder)
    if state.get("kind") != KIND:
        raise UserError(f"{folder}: holds no SAC; name another folder")
    return tensors, state


def save(trainer: SacTrainer, folder: Path) -> None:
    """Write everything that `restore` needs; only the newest checkpoint stays, for a replay buffer can be large."""
    model = trainer.model
    tensors: dict[str, dict[str, torch.Tensor]] = {"policy": model.policy.state_dict()}
    tensors["entropy"] = {"log_weight": model.log_ent_coef.detach()}
    optimizers = {}
    for name, optimizer in _optimizers(model).items():
        tensors[name], optimizers[name] = pack_optimizer(optimizer)
    buffer, held = model.replay_buffer, model.replay_buffer.size()
    tensors["replay"] = {name: torch.from_numpy(getattr(buffer, name)[:held, 0]) for name in _COLUMNS}
    ended = trainer.episode_ended
    environment = trainer.reset_state if ended else pack_generator(model.env.envs[0].unwrapped.np_random)
    state = {
        "kind": KIND,
        **_identity(trainer),
        "steps": trainer.steps,
        "updates": trainer.updates,
        "episodes": model._episode_num,
        "recent_episodes": [{key: float(value) for key, value in info.items()} for info in model.ep_info_buffer],
        "position": buffer.pos,
        "episode_ended": ended,
        "cuts": trainer.cuts,
        "seconds": trainer.seconds,
        "optimizers": optimizers,
        "random": {
            "numpy": pack_generator(_global_numpy()),
            "torch": pack_torch_generator(),
            "actions": pack_generator(model.action_space.np_random),
            "environment": environment,
        },
    }
    save_checkpoint(folder, trainer.steps, tensors, state, keep=1)


def restore(trainer: SacTrainer, tensors: Tensors, state: dict[str, Any]) -> None:
    """Puts a fresh trainer where the saved one was; the global generators must be the trainer's.

    Raises UserError where the saved one was made with other arguments.
    """
    for key, given in _identity(trainer).items():
        if state[key] != given:
            differs = _difference(key, state[key], given)
            raise UserError(f"{trainer.folder}: was trained with {differs}; name another folder to start anew")
    model, buffer = trainer.model, trainer.model.replay_buffer
    model.policy.load_state_dict(tensors["policy"])
    with torch.no_grad():
        model.log_ent_coef.copy_(tensors["entropy"]["log_weight"])
    for name, optimizer in _optimizers(model).items():
        unpack_optimizer(optimizer, tensors.get(name, {}), state["optimizers"][name])
    held = len(tensors["replay"]["rewards"])
    for name in _COLUMNS:
        getattr(buffer, name)[:held, 0] = tensors["replay"][name].numpy()
    buffer.pos, buffer.full = state["position"], held == buffer.buffer_size
    model.num_timesteps, model._n_updates = state["steps"], state["updates"]
    model._episode_num = state["episodes"]
    model.ep_info_buffer = deque(state["recent_episodes"], maxlen=model._stats_window_size)
    model.ep_success_buffer = deque(maxlen=model._stats_window_size)
    trainer.seconds, trainer.cuts = state["seconds"], list(state["cuts"])
    if not state["episode_ended"] and trainer.steps - 1 not in trainer.cuts:
        trainer.cuts.append(trainer.steps - 1)
    saved = state["random"]
    np.random.set_state(dict(unpack_generator(saved["numpy"]).bit_generator.state))
    unpack_torch_generator(saved["torch"])
    # Gymnasium's spaces offer no public way to set a generator.
    model.action_space._np_random = unpack_generator(saved["actions"])
    model.env.envs[0].unwrapped.np_random = unpack_generator(saved["environment"])


def replay_trajectories(trainer: SacTrainer, name: str) -> Trajectories:
    """See `SacTrainer.trajectories`."""
    buffer, total = trainer.model.replay_buffer, trainer.steps
    held = buffer.size()
    if held == 0:
        raise UserError(f"{trainer.environment_id}: SAC has not taken a step yet")
    order = np.arange(total - held, total) % buffer.buffer_size  # oldest first
    columns = {name: getattr(buffer, name)[order, 0] for name in _COLUMNS}
    ends = np.full(held, -1, dtype=np.int8)
    kept = [row - (total - held) for row in trainer.cuts if row >= total - held]
    ends[[*kept, held - 1]] = EpisodeEnd.CUT
    done, timed_out = columns["dones"] > 0, columns["timeouts"] > 0
    ends[done] = np.where(timed_out[done], EpisodeEnd.TIME_LIMIT, EpisodeEnd.TERMINATED)
    lasts = np.flatnonzero(ends >= 0)
    first = 0
    if total > held:  # the oldest episode has lost its beginning
        first, lasts = int(lasts[0]) + 1, lasts[1:]
        if not len(lasts):
            raise UserError(f"sac.buffer_size is {buffer.buffer_size}: no episode is left whole; it must be larger")
    metadata = environment_metadata(trainer.environment_id).replace(name=name)
    return Trajectories(
        observations=columns["observations"][first:],
        actions=to_environment_range(columns["actions"][first:], metadata.action_low, metadata.action_high),
        rewards=columns["rewards"][first:],
        episode_starts=np.concatenate([[0], lasts + 1 - first]).astype(np.int64),
        episode_ends=ends[lasts],
        final_observations=columns["next_observations"][lasts],
        metadata=metadata,
    )


def _optimizers(model: Any) -> dict[str, torch.optim.Optimizer]:
    return {
        "actor_optimizer": model.actor.optimizer,
        "critic_optimizer": model.critic.optimizer,
        "entropy_optimizer": model.ent_coef_optimizer,
    }


def _global_numpy() -> np.random.Generator:
    """A generator in the state of numpy's global one, which the library draws batches from."""
    copied = np.random.MT19937()
    state: Any = np.random.get_state(legacy=False)
    copied.state = state
    return np.random.Generator(copied)


def _identity(trainer: SacTrainer) -> dict[str, Any]:
    """What must be the same for training to go on."""
    return {
        "environment_id": trainer.environment_id,
        "seed": trainer.seed,
        "settings": trainer.settings.to_json(),
        "offline": trainer.offline_name,
    }


def _difference(key: str, before: Any, now: Any) -> str:
    if isinstance(before, dict):
        name = next(name for name in now if before.get(name) != now[name])
        return f"sac.{name} = {before.get(name)}, not {now[name]}"
    return f"{key} = {before or 'none'}, not {now or 'none'}"
