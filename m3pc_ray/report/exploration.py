"""What exploring earned: the episodes of finished and unfinished online runs, and their histograms (figure 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m3pc_ray.config import RunConfig
from m3pc_ray.errors import UserError
from m3pc_ray.report.metrics import FloatArray
from m3pc_ray.report.style import figure
from m3pc_ray.training.metrics import read_metrics
from m3pc_ray.training.run_folder import RunFolder

BINS = 30
"""Of a histogram, over the returns of all that are compared."""


@dataclass(frozen=True)
class ExplorationEpisode:
    """One episode that a rollout worker collected."""

    step: int
    """Environment steps of the run when its end was noted."""
    total_reward: float
    length: int
    """Environment steps of the episode."""
    worker: int
    end: str
    """`terminated`, `time_limit` or `cut`."""

    @property
    def whole(self) -> bool:
        """Whether it ended by itself; the return of one that was cut says how long it was let go on."""
        return self.end != "cut"


def exploration_returns(run: str | Path | RunFolder) -> list[ExplorationEpisode]:
    """Every exploration episode of a run in the order of its metrics, cut ones too; none of a pretraining run.

    Raises:
        UserError: there is no such run.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder.open(run)
    return [
        ExplorationEpisode(row["step"], row["return"], row["length"], row["worker"], row["end"])
        for row in read_metrics(folder, "episodes")
        if row.get("return") is not None
    ]


def explorer_label(config: RunConfig) -> str:
    """How a run explores, for legends and tables."""
    planned, fixed = config.online.guide != "none", config.online.action_noise == "fixed"
    if fixed:
        label = "planning over fixed noise" if planned else "fixed noise, no planning"
    else:
        label = "planning" if planned else "sampling, no planning"
    return label + (" (deterministic model)" if config.pretrain.action_loss == "squared_error" else "")


def online_runs(paths: Sequence[str | Path]) -> list[RunFolder]:
    """Online runs: every path is one, or a sweep's folder whose trials are.

    Raises:
        UserError: a path is neither, or not an online run.
    """
    found = []
    for path in map(Path, paths):
        trials = sorted((path / "trials").glob("*/summary.json"))
        folders = [RunFolder.open(trial.parent) for trial in trials] or [RunFolder.open(path)]
        for folder in folders:
            if folder.summary().get("kind") != "finetune":
                raise UserError(
                    f"{folder.path}: is no online run, and only those explore; name runs of `m3pc finetune`"
                )
        found += folders
    return found


def by_explorer(runs: Sequence[RunFolder], environment_of: Callable[[RunFolder], str]) -> dict[str, list[RunFolder]]:
    """The runs by how they explored, in their order.

    Args:
        runs: online runs.
        environment_of: the Gymnasium id of a run's task.

    Raises:
        UserError: they are of several environments, whose returns have different scales.
    """
    groups: dict[str, list[RunFolder]] = {}
    environments: dict[str, RunFolder] = {}
    for run in runs:
        groups.setdefault(explorer_label(run.config()), []).append(run)
        environments.setdefault(environment_of(run), run)
    if len(environments) > 1:
        named = " and ".join(f"{environment} ({run.path})" for environment, run in environments.items())
        raise UserError(f"runs of different environments cannot be compared by their returns: {named}")
    return groups


def statistics(groups: Mapping[str, Sequence[RunFolder]], last_steps: int | None = None) -> list[dict[str, Any]]:
    """A row for each way to explore, over the whole episodes of all its runs.

    Args:
        last_steps: count only episodes that ended within so many environment steps before the run's end; None: all.

    Raises:
        UserError: no episode has ended by itself yet.
    """
    rows = []
    for label, runs in groups.items():
        episodes = [episode for run in runs for episode in _late(exploration_returns(run), last_steps)]
        whole = [episode for episode in episodes if episode.whole]
        returns = np.array([episode.total_reward for episode in whole])
        row: dict[str, Any] = {
            "explorer": label,
            "runs": len(runs),
            "episodes": len(whole),
            "cut": len(episodes) - len(whole),
            "returns": returns.tolist(),
        }
        if len(whole):
            quantiles = np.quantile(returns, [0.1, 0.5, 0.9])
            row |= {"mean": returns.mean(), "std": returns.std(), "best": returns.max()}
            row |= dict(zip(("low", "median", "high"), quantiles, strict=True))
            row["length_mean"] = np.mean([episode.length for episode in whole])
        rows.append({name: value.item() if hasattr(value, "item") else value for name, value in row.items()})
    if not any(row["episodes"] for row in rows):
        named = ", ".join(str(run.path) for runs in groups.values() for run in runs)
        raise UserError(f"{named}: no exploration episode has ended by itself")
    return rows


def exploration_figure(rows: Sequence[Mapping[str, Any]], path: str | Path) -> Path:
    """A histogram of returns for each row of `statistics`, one over the other, with the same bins; means are dashed.

    Shares of episodes, so that runs with fewer and longer episodes compare.
    """
    drawn = [row for row in rows if row["episodes"]]
    edges = bin_edges(np.concatenate([np.asarray(row["returns"]) for row in drawn]))
    with figure(path, len(drawn), width=6.4, height=0.6 + 1.4 * len(drawn)) as panels:
        highest = 0.0
        for place, (row, axes) in enumerate(zip(drawn, panels, strict=True)):
            share = np.full(row["episodes"], 1.0 / row["episodes"])
            counts, *_ = axes.hist(row["returns"], edges.tolist(), weights=share, color=f"C{place}", alpha=0.8)
            axes.axvline(row["mean"], color="black", linestyle="--", linewidth=1.0)
            highest = max(highest, float(np.max(counts)))
            count = f"{row['episodes']:,} episode{'s' if row['episodes'] > 1 else ''}"
            axes.set_title(f"{row['explorer']}: {count}, mean {row['mean']:,.0f}", loc="left")
            axes.set_ylabel("share")
        for axes in panels:
            axes.set_xlim(edges[0], edges[-1])
            axes.set_ylim(0.0, 1.08 * highest)
        panels[-1].set_xlabel("return of an exploration episode")
    return Path(path)


def bin_edges(returns: FloatArray) -> FloatArray:
    """(BINS + 1,) edges over all returns; a little around them where all are the same."""
    low, high = float(returns.min()), float(returns.max())
    margin = 0.0 if high > low else max(1.0, 0.05 * abs(high))
    return np.linspace(low - margin, high + margin, BINS + 1)


def _late(episodes: Sequence[ExplorationEpisode], last_steps: int | None) -> list[ExplorationEpisode]:
    if last_steps is None or not episodes:
        return list(episodes)
    end = max(episode.step for episode in episodes)
    return [episode for episode in episodes if episode.step > end - last_steps]
