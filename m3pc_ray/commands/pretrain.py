"""`m3pc pretrain`: the trajectory model and the critic from logged trajectories."""

from __future__ import annotations

import argparse

SUMMARY = "train the trajectory model and the critic on a data set"
DESCRIPTION = """\
Pretrains the trajectory model (BTM) and the IQL critic on a data set and leaves a run folder.

  m3pc pretrain --config configs/hopper_medium_replay.yaml --dataset data.hdf5 --out runs/hopper --max-minutes 25
  m3pc pretrain --config configs/hopper_medium_replay.yaml --dataset data.hdf5 --out runs/wide --model.width 256
  m3pc pretrain --dataset data.hdf5 --out runs/critic2 --pretrain.components critic --start-from runs/hopper

Ctrl-C leaves a checkpoint; `m3pc resume RUN` continues there."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from m3pc_ray.configuration import add_config_arguments

    parser.add_argument("--config", help="YAML file with settings (default: the built-in ones)")
    parser.add_argument("--dataset", help="data set: a name, a Minari id or a path (setting data.dataset)")
    parser.add_argument("--environment", help="Gymnasium id, where the data set names none (setting data.environment)")
    parser.add_argument("--out", required=True, metavar="RUN", help="run folder to make")
    parser.add_argument(
        "--start-from", metavar="RUN", help="run to take the component from that pretrain.components leaves alone"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing run at --out")
    parser.add_argument("--max-minutes", type=float, help="time for everything (setting pretrain.max_minutes)")
    add_config_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from m3pc_ray.configuration import given_overrides, load_config, with_settings
    from m3pc_ray.errors import UserError
    from m3pc_ray.training.assemble import build_models
    from m3pc_ray.training.data_parts import data_parts
    from m3pc_ray.training.pretraining import Pretraining, load_data, take_component
    from m3pc_ray.training.progress import train_with_progress
    from m3pc_ray.training.run_folder import RunFolder
    from m3pc_ray.trajectories.resolve import absolute

    overrides = given_overrides(arguments)
    for name, value in (
        ("data.dataset", arguments.dataset),
        ("data.environment", arguments.environment),
        ("pretrain.max_minutes", arguments.max_minutes),
    ):
        if value is not None:
            overrides[name] = str(value)
    config = load_config(arguments.config, overrides)
    if not config.data.dataset:
        raise UserError("no data set: give --dataset (a name, a Minari id or a path)")
    # A later resume or finetuning may start in another folder.
    config = with_settings(config, {"data.dataset": absolute(config.data.dataset)})
    trajectories = load_data(config)
    models = build_models(config, data_parts(trajectories, config).described)
    taken = take_component(RunFolder.open(arguments.start_from), config, models) if arguments.start_from else None
    folder = RunFolder.create(arguments.out, config, "pretrain", overwrite=arguments.overwrite)
    with folder.exclusive():
        return train_with_progress(Pretraining(folder, config, trajectories, models, taken))
