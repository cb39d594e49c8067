"""What `m3pc data info` says about a data set: one row of plain values, and a histogram of its returns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from m3pc_ray.trajectories.episodes import EpisodeEnd, Trajectories
from m3pc_ray.trajectories.scores import normalised_score
from m3pc_ray.trajectories.validity import flags_of


def summarise(trajectories: Trajectories, disk_bytes: int | None = None) -> dict[str, Any]:
    """Plain keys, ready for JSON. Unknown returns, of cut episodes and where rewards are missing, do not count.

    Scores are None without reference scores, return figures None when no return is known.
    """
    ends, lengths = trajectories.episode_ends, trajectories.lengths
    row: dict[str, Any] = {
        "name": trajectories.metadata.name,
        "environment": trajectories.metadata.environment_id,
        "episodes": trajectories.num_episodes,
        "steps": trajectories.num_steps,
        "observation_dim": trajectories.observation_dim,
        "action_dim": trajectories.action_dim,
        "fraction_actions_known": float(flags_of(trajectories.actions_known, trajectories.num_steps).mean()),
        "fraction_rewards_known": float(flags_of(trajectories.rewards_known, trajectories.num_steps).mean()),
    }
    returns = trajectories.returns[trajectories.returns_known()]
    row |= {f"return_{key}": value for key, value in _figures(returns).items()}
    scores = normalised_score(returns, trajectories.metadata)
    row |= {f"score_{key}": value for key, value in _figures(scores).items()}
    row |= {
        "length_min": int(lengths.min()),
        "length_mean": float(lengths.mean()),
        "length_max": int(lengths.max()),
        "fraction_terminated": float(np.mean(ends == EpisodeEnd.TERMINATED)),
        "fraction_time_limit": float(np.mean(ends == EpisodeEnd.TIME_LIMIT)),
        "fraction_cut": float(np.mean(ends == EpisodeEnd.CUT)),
        "max_episode_steps": trajectories.metadata.max_episode_steps,
        "memory_bytes": trajectories.num_bytes,
        "disk_bytes": disk_bytes,
        "reference_source": trajectories.metadata.reference_source,
        "origin": trajectories.metadata.origin,
    }
    return row


def save_return_histogram(trajectories: Trajectories, path: str | Path) -> None:
    """Draw how the episodes' returns are spread, with the normalised score on a second axis, into an image file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metadata = trajectories.metadata
    known = trajectories.returns_known()
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.hist(trajectories.returns[known], bins=40, color="#33658a")
    axes.set_xlabel("return of an episode")
    axes.set_ylabel("episodes")
    low, high = normalised_score(0.0, metadata), normalised_score(1.0, metadata)
    if low is not None and high is not None:
        slope, offset = high - low, low
        to_score_and_back = (lambda x: offset + slope * np.asarray(x), lambda y: (np.asarray(y) - offset) / slope)
        scores = axes.secondary_xaxis("top", functions=to_score_and_back)
        scores.set_xlabel("normalised score")
    count = int(known.sum())
    figure.suptitle(f"{metadata.name}: {count} episodes of {metadata.environment_id}")
    figure.savefig(path, dpi=120)


def _figures(values: np.ndarray | None) -> dict[str, float | None]:
    if values is None or not len(values):
        return dict.fromkeys(("min", "mean", "max", "std"))
    return {
        "min": float(values.min()),
        "mean": float(values.mean()),
        "max": float(values.max()),
        "std": float(values.std()),
    }
