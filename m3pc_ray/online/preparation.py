"""From a pretrained run to a new run that is ready to be finetuned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from m3pc_ray.config import RunConfig
from m3pc_ray.configuration import value_of, with_settings
from m3pc_ray.errors import UserError
from m3pc_ray.online.replay.offline_data import OfflineData
from m3pc_ray.online.served_weights import SERVED_CRITIC, SERVED_MODEL
from m3pc_ray.training import noise_std
from m3pc_ray.training.assemble import as_trained, models_from_checkpoint
from m3pc_ray.training.checkpoints import load_checkpoint, save_checkpoint
from m3pc_ray.training.data_parts import split_seed
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.trajectories.resolve import absolute

FIXED_SETTINGS = (
    "model.",
    "critic.hidden_width",
    "critic.ensemble_size",
    "critic.layer_norm",
    "critic.dynamics",
    "data.return_scale",
    "data.smallest_state_std",
    "data.time_limit",
)
"""Settings that the pretrained weights depend on; a run made from them cannot change these."""

SHARPNESS = ("planner.utility_sharpness_return", "planner.utility_sharpness_critic")


def finetune_config(source: RunFolder, overrides: dict[str, Any]) -> RunConfig:
    """The configuration of a run that continues `source`, `online.sharpness_factor` applied to what is not overridden.

    Raises:
        UserError: an override would not fit the pretrained weights, or is no valid setting.
    """
    config = source.config()
    learnt_by = config.pretrain.action_loss
    changed = with_settings(config, overrides)
    for name in overrides:
        if name.startswith(FIXED_SETTINGS) and value_of(config, name) != value_of(changed, name):
            raise UserError(f"{name}: fixed by the pretrained weights of {source.path}; pretrain anew to change it")
    if learnt_by == "squared_error" and changed.pretrain.action_loss != learnt_by:
        raise UserError(f"pretrain.action_loss: {source.path} has learnt no spread of actions; pretrain anew with nll")
    factor = changed.online.sharpness_factor
    scaled = {name: value_of(changed, name) * factor for name in SHARPNESS if name not in overrides}
    changed = with_settings(changed, {**scaled, "online.sharpness_factor": 1.0})
    # What was held out, or was left without its actions, must not change with the seed of what is collected.
    if "data.split_seed" not in overrides:
        changed = with_settings(changed, {"data.split_seed": split_seed(config)})
    # Roles on other nodes and a later resume have other working folders.
    changed = with_settings(changed, {"data.dataset": absolute(changed.data.dataset)})
    if not changed.data.dataset:
        raise UserError(f"{source.path} names no data set; give --dataset (a name, a Minari id or a path)")
    return changed


def prepare(source: RunFolder, out: str | Path, config: RunConfig, overwrite: bool = False) -> RunFolder:
    """Make the run `out` with the newest checkpoint of `source` as its step 0, `planner.noise_std` measured if need be.

    Everything that can be wrong is checked before the folder is touched.

    Raises:
        UserError: the data set does not belong to the run's environment, the guide needs a critic and there is none,
            `out` is occupied or is `source` itself.
    """
    if Path(out).expanduser().resolve() == source.path.resolve():
        raise UserError(f"--out {out}: that is the run to start from; name another folder")
    tensors, state = load_checkpoint(source)
    models, config = state["models"], as_trained(config, tensors)
    if config.online.guide == "critic" and state["critic_updates"] == 0:
        raise UserError(f"online.guide is critic, but {source.path} has no trained critic; use --online.guide return")
    offline = OfflineData.of(config, models)
    offline.check()
    if noise_std.missing(config):
        config = noise_std.with_measured(models_from_checkpoint(config, tensors, state), offline.load())
    run = RunFolder.create(out, config, "finetune", overwrite=overwrite)
    kept = ("models", "btm_updates", "critic_updates", "optimizers")
    initial = {"kind": "finetune", "environment_steps": 0, **{name: state[name] for name in kept}}
    tensors = {name: group for name, group in tensors.items() if name not in (SERVED_MODEL, SERVED_CRITIC)}
    save_checkpoint(run, 0, tensors, initial, config.online.keep_checkpoints)
    run.write_summary({"source": str(source.path)})
    return run
