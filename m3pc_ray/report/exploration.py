"""What exploring earned: the episodes of finished and unfinished online runs, and their histograms (figure 4)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from m3pc_ray.config import RunConfig
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
    """How the run explores, for legends and tables."""
    return "sampled, no planning" if config.online.guide == "none" else "planned"
