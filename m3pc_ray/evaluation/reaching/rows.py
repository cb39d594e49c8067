"""One row of plain keys a planner: what `m3pc reach` prints, tabulates and records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from m3pc_ray.evaluation.reaching.measures import measure_episode
from m3pc_ray.evaluation.reaching.outside_data import DataCloud
from m3pc_ray.evaluation.reaching.record import ReachSetting, RecordedEpisode, plain
from m3pc_ray.evaluation.statistics import describe
from m3pc_ray.goals.success import Success, VisitsWaypoints


def make_row(
    planner: str,
    episodes: Sequence[RecordedEpisode],
    setting: ReachSetting,
    success: Success,
    cloud: DataCloud,
) -> dict[str, Any]:
    """The row of one planner's episodes.

    Keys: planner, episodes, task, environment; tracking_error_* and key_error_* (mean, sem, std, min, max and the 95 %
    bootstrap interval of the mean as low and high; None where nothing is wanted); success_rate, waypoints_visited_mean,
    length_mean, terminated_rate; the keys of `DataCloud.measures`, over the states of all episodes; success_NAME_mean
    for every detail of the success, over the episodes that have it; and lists with a value an episode: seeds,
    successes, tracking_errors, lengths.

    Raises:
        ValueError: no episode.
    """
    if not episodes:
        raise ValueError(f"{planner}: no episode to measure")
    measured = [
        measure_episode(episode.reached, episode.wanted, setting.std, setting.key_dimension, setting.tolerance)
        for episode in episodes
    ]
    judges = [_judge(success, episode) for episode in episodes]
    shown = [(episode.reached, episode.terminated, setting.dt) for episode in episodes]
    successes = [judge.succeeded(*each) for judge, each in zip(judges, shown, strict=True)]
    details = [judge.details(*each) for judge, each in zip(judges, shown, strict=True)]
    values = {name: [measures[name] for measures in measured] for name in measured[0]}
    row: dict[str, Any] = {
        "planner": planner,
        "episodes": len(episodes),
        "task": setting.task,
        "environment": setting.environment,
        **describe("tracking_error", _known(values["tracking_error"])),
        **describe("key_error", _known(values["key_error"])),
        "success_rate": float(np.mean(successes)),
        "waypoints_visited_mean": _mean(values["waypoints_visited"]),
        "length_mean": float(np.mean(values["length"])),
        "terminated_rate": float(np.mean([episode.terminated for episode in episodes])),
        **cloud.measures(np.concatenate([episode.reached for episode in episodes])),
        **{f"success_{name}_mean": _mean([each[name] for each in details]) for name in details[0]},
        "seeds": [episode.seed for episode in episodes],
        "successes": [bool(each) for each in successes],
        "tracking_errors": values["tracking_error"],
        "lengths": [int(length) for length in values["length"]],
    }
    return plain(row)


def _judge(success: Success, episode: RecordedEpisode) -> Success:
    """The success to ask about an episode: of goals that drift, where they were then counts."""
    if isinstance(success, VisitsWaypoints) and success.waypoints.moving is not None:
        return success.where_they_were(episode.wanted)
    return success


def _known(values: Sequence[float]) -> list[float] | None:
    """The values that are numbers; None where there is none."""
    return [value for value in values if np.isfinite(value)] or None


def _mean(values: Sequence[float]) -> float | None:
    known = _known(values)
    return None if known is None else float(np.mean(known))
