"""A replay log as a data set: the episodes that a run has played, to look at, to keep, or to pretrain on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from m3pc_ray.errors import UserError
from m3pc_ray.online.replay.fragments import EpisodeKey, Fragment
from m3pc_ray.online.replay.replay_log import log_files, read_log
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.trajectories import validation
from m3pc_ray.trajectories.episodes import DatasetMetadata, EpisodeEnd, Trajectories


def replay_folder(path: str | Path) -> Path | None:
    """The folder of the replay log that a path means, RUN or RUN/replay; None where it is neither."""
    path = Path(path).expanduser()
    for folder in (path, path / "replay"):
        if folder.is_dir() and log_files(folder):
            return folder
    return None


def read_dataset(folder: Path, environment: str = "") -> Trajectories:
    """The episodes of a replay log, in the order they began; those that go on still count as cut.

    Args:
        folder: RUN/replay.
        environment: replaces the environment that the run names.

    Raises:
        UserError: the log is damaged or holds no step, or the run names no environment and none is given.
    """
    metadata = _metadata(folder, environment)
    episodes: dict[EpisodeKey, list[Fragment]] = {}
    for fragment in read_log(folder):
        episodes.setdefault(fragment.key, []).append(fragment)
    played = [fragments for fragments in episodes.values() if sum(fragment.num_steps for fragment in fragments)]
    if not played:
        raise UserError(f"{folder}: the replay log holds no step")
    in_order = [fragment for fragments in played for fragment in fragments]
    lengths = [sum(fragment.num_steps for fragment in fragments) for fragments in played]
    observations = np.concatenate([fragment.observations for fragment in in_order])
    actions = np.concatenate([fragment.actions for fragment in in_order])
    source = str(folder)
    for name, values, bounds in (
        ("observations", observations, metadata.observation_low),
        ("actions", actions, metadata.action_low),
    ):
        validation.check_width(source, name, values.shape[1], len(bounds), metadata.environment_id)
        validation.check_finite(source, name, values)
    rewards = np.concatenate([fragment.rewards for fragment in in_order])
    finals = np.stack([fragments[-1].final_observation for fragments in played])
    validation.check_finite(source, "rewards", rewards)
    validation.check_finite(source, "final observations", finals)
    validation.check_actions(source, "actions", actions, metadata.action_low, metadata.action_high)
    return Trajectories(
        observations=observations,
        actions=actions,
        rewards=rewards,
        episode_starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        episode_ends=np.array([_end(fragments[-1]) for fragments in played], dtype=np.int8),
        final_observations=finals,
        metadata=metadata,
    )


def _end(last: Fragment) -> EpisodeEnd:
    return EpisodeEnd.CUT if last.end is None else last.end


def _metadata(folder: Path, environment: str) -> DatasetMetadata:
    """What the run's checkpoint says about its task, under the run's name."""
    run = RunFolder(folder.parent)
    name = f"{run.path.resolve().name}-replay"
    origin = f"replay log of the online finetuning run {run.path.resolve().name}"
    if environment:
        facts = validation.environment_facts(validation.modern_environment_id(environment))
        return validation.metadata_of(facts, name, origin=origin)
    from m3pc_ray.training.checkpoints import (
        load_checkpoint,
    )  # takes torch along, which most of `m3pc data` does without

    try:
        models = load_checkpoint(run)[1]["models"]
        metadata = DatasetMetadata.from_json(models["metadata"])
        time_limit = int(models["time_limit"])
        versions = dict(run.summary().get("versions", {}))
    except (UserError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder}: its run does not name the environment ({error}); give --environment ID") from error
    return metadata.replace(name=name, origin=origin, max_episode_steps=time_limit, versions=versions)
