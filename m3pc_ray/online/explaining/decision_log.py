"""Finds recorded decisions in the replay log of a run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from m3pc_ray.errors import UserError
from m3pc_ray.online.replay.decisions import DecisionRecords
from m3pc_ray.online.replay.fragments import EpisodeKey, Fragment
from m3pc_ray.online.replay.replay_log import log_files, read_log
from m3pc_ray.training.run_folder import RunFolder


@dataclass(frozen=True)
class LoggedDecision:
    """One decision of a logged episode, and what followed it."""

    key: EpisodeKey
    step: int
    record: DecisionRecords
    """Of one row."""
    planner: str
    """The planner's settings as JSON."""
    action: np.ndarray
    """(action_dim,), as executed: in the environment's bounds."""
    observations: np.ndarray
    """(K, observation_dim): the current one and all that the episode had after it."""
    rewards: np.ndarray
    """(K - 1,), from this step on."""


@dataclass(frozen=True)
class RecordedVersion:
    """How many decisions of a log one set of weights made, and the first of them."""

    version: int
    fingerprint: int
    decisions: int
    first: str
    """As options of `m3pc explain`."""


def episode_name(key: EpisodeKey) -> str:
    """WORKER/INCARNATION/EPISODE."""
    return f"{key.worker}/{key.incarnation}/{key.episode}"


def find_decision(run: RunFolder, episode: str, step: int) -> LoggedDecision:
    """The decision at `step` of an episode named WORKER/INCARNATION/EPISODE or by its place in the log, from 0.

    Raises:
        UserError: no log, no such episode or step (the message names what there is), or nothing was recorded.
    """
    folder = run.path / "replay"
    keys = list(dict.fromkeys(fragment.key for fragment in read_log(folder)))
    if not keys:
        existing = "holds no step" if log_files(folder) else "there is no log: only `m3pc finetune` collects decisions"
        raise UserError(f"{folder}: {existing}")
    key = _resolve(episode, keys)
    fragments = [fragment for fragment in read_log(folder, decisions=True) if fragment.key == key]
    length = sum(fragment.num_steps for fragment in fragments)
    if not 0 <= step < length:
        raise UserError(f"--step {step}: episode {episode_name(key)} has {length} steps, 0 to {length - 1}")
    own = next(f for f in fragments if f.offset <= step < f.offset + f.num_steps)
    if own.decisions is None:
        raise UserError(
            f"{folder}: episode {episode_name(key)} was collected without records of its decisions; finetune with "
            "--record-decisions to have them"
        )
    row = step - own.offset
    following = [fragment for fragment in fragments if fragment.offset >= own.offset]
    return LoggedDecision(
        key=key,
        step=step,
        record=own.decisions.rows(row, row + 1),
        planner=own.planner,
        action=own.actions[row],
        observations=_joined(following)[row:],
        rewards=np.concatenate([fragment.rewards for fragment in following])[row:],
    )


def recorded_versions(run: RunFolder) -> list[RecordedVersion]:
    """The weights that made the recorded decisions of a run, by version."""
    counts: dict[tuple[int, int], int] = {}
    first: dict[tuple[int, int], str] = {}
    for fragment in read_log(run.path / "replay", decisions=True):
        if fragment.decisions is None:
            continue
        pairs = zip(fragment.decisions.weight_version, fragment.decisions.weights_fingerprint, strict=True)
        for row, (version, fingerprint) in enumerate(pairs):
            weights = int(version), int(fingerprint)
            counts[weights] = counts.get(weights, 0) + 1
            first.setdefault(weights, f"--episode {episode_name(fragment.key)} --step {fragment.offset + row}")
    return [RecordedVersion(*weights, counts[weights], first[weights]) for weights in sorted(counts)]


def _resolve(episode: str, keys: list[EpisodeKey]) -> EpisodeKey:
    if re.fullmatch(r"\d+", episode):
        if int(episode) < len(keys):
            return keys[int(episode)]
        raise UserError(f"--episode {episode}: the log holds {len(keys)} episodes, 0 to {len(keys) - 1}")
    if not re.fullmatch(r"\d+/\d+/\d+", episode):
        raise UserError(f"--episode {episode}: give WORKER/INCARNATION/EPISODE, such as {episode_name(keys[0])}")
    key = EpisodeKey(*map(int, episode.split("/")))
    if key not in keys:
        raise UserError(f"--episode {episode}: no such episode in the log, which holds {_listing(keys)}")
    return key


def _listing(keys: Iterable[EpisodeKey]) -> str:
    """Episodes by worker and incarnation: `0/0/0 to 0/0/17, 1/0/0 to 1/0/9`."""
    ends: dict[tuple[int, int], list[EpisodeKey]] = {}
    for key in sorted(keys, key=lambda k: (k.worker, k.incarnation, k.episode)):
        ends.setdefault((key.worker, key.incarnation), []).append(key)
    return ", ".join(
        episode_name(group[0]) if len(group) == 1 else f"{episode_name(group[0])} to {episode_name(group[-1])}"
        for group in ends.values()
    )


def _joined(fragments: list[Fragment]) -> np.ndarray:
    """(steps + 1, observation_dim): every observation of consecutive fragments, the final one included."""
    return np.concatenate([*(fragment.observations for fragment in fragments), fragments[-1].final_observation[None]])
