"""Windows of logged steps that models are asked about, and means over them whose uncertainty is that of episodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from m3pc_ray.errors import UserError
from m3pc_ray.model.network import Prediction
from m3pc_ray.training.data import SegmentData

if TYPE_CHECKING:
    from torch import Tensor

    from m3pc_ray.model.masks import Mask
    from m3pc_ray.model.network import TrajectoryModel
    from m3pc_ray.training.assemble import Models
    from m3pc_ray.trajectories.episodes import Trajectories
from m3pc_ray.trajectories.validity import both

FloatArray = npt.NDArray[np.floating[Any]]

CHUNK = 512
"""Windows that go through the model together, which bounds the memory."""


@dataclass(frozen=True)
class Windows:
    """B windows of T consecutive steps of one episode each, none padded."""

    tokens: dict[str, Tensor]
    """Per modality (B, T, dim), in the model's units."""
    exists: Tensor | None
    """(B, 4, T) bool, as the model takes it; None: every token exists."""
    states: npt.NDArray[np.float32]
    """(B, T, observation_dim), raw units."""
    episodes: npt.NDArray[np.int64]
    """(B,) number of the episode."""

    def __len__(self) -> int:
        return len(self.episodes)

    def array(self, modality: str) -> FloatArray:
        """(B, T, dim), in the model's units, float64."""
        return self.tokens[modality].cpu().numpy().astype(np.float64)

    @property
    def returns_known(self) -> npt.NDArray[np.bool_]:
        """(B,): the returns-to-go are known, which in one episode they are at all steps or at none."""
        if self.exists is None:
            return np.ones(len(self), dtype=np.bool_)
        return self.exists[:, 1].all(dim=1).cpu().numpy()


def sample_windows(models: Models, trajectories: Trajectories, count: int, seed: int) -> Windows:
    """`count` different windows (all of them where there are fewer), the same ones for the same seed.

    Windows that lack an action or a reward are left out. Raises UserError where none is left, or no episode is as long
    as a window.
    """
    length = models.model.config.segment_length
    data = SegmentData(
        trajectories,
        models.statistics,
        models.config.data.return_scale,
        models.time_limit,
        length,
        models.action_low,
        models.action_high,
        next(models.model.parameters()).device,
    )
    whole = np.flatnonzero(data.index.lasts - data.index.starts >= length - 1)
    if not len(whole):
        raise UserError(f"{trajectories.metadata.name}: no held-out episode has the {length} steps of a window")
    known = both(trajectories.actions_known, trajectories.rewards_known)
    if known is not None:
        whole = whole[known[data.index.rows(whole)[0]].all(axis=1)]
        if not len(whole):
            raise UserError(f"{trajectories.metadata.name}: no held-out window holds all its actions and rewards")
    if len(whole) > count:
        whole = np.sort(np.random.default_rng([seed, 12]).choice(whole, count, replace=False))
    rows, valid = data.index.rows(whole)
    tokens, exists = data.gather(rows, valid)
    episodes = np.searchsorted(trajectories.episode_starts, rows[:, 0], side="right") - 1
    return Windows(tokens, exists, trajectories.observations[rows], episodes)


@torch.no_grad()
def predict(model: TrajectoryModel, windows: Windows, mask: Mask) -> Prediction:
    """What the model says of every token of the windows behind a mask, float32, in evaluation mode."""
    was_training = model.training
    model.eval()
    parts = []
    for start in range(0, len(windows), CHUNK):
        part = slice(start, start + CHUNK)
        tokens = {name: values[part] for name, values in windows.tokens.items()}
        parts.append(model(tokens, mask, None if windows.exists is None else windows.exists[part]))
    model.train(was_training)
    return Prediction(
        states=torch.cat([part.states for part in parts]),
        returns=torch.cat([part.returns for part in parts]),
        rewards=torch.cat([part.rewards for part in parts]),
        action_mean=torch.cat([part.action_mean for part in parts]),
        action_log_std=torch.cat([part.action_log_std for part in parts]),
        action_clip=parts[0].action_clip,
    )


def squared_errors(predicted: Tensor | FloatArray, true: FloatArray) -> FloatArray:
    """(B,) mean over all further axes of the squared difference, float64; `predicted` broadcasts against `true`."""
    values = predicted.cpu().numpy() if isinstance(predicted, torch.Tensor) else np.asarray(predicted)
    squared = np.square(values.astype(np.float64) - true)
    return squared.reshape(len(squared), -1).mean(axis=1)


def mean_and_error(values: FloatArray, episodes: npt.NDArray[np.int64]) -> tuple[float, float | None]:
    """Mean of `values` (B,) and its standard error where steps of one episode are not independent.

    Of G episodes, deviations are summed within each: sqrt(G / (G - 1) sum_g (sum_i (x_i - mean))^2) / B, the
    cluster-robust error of a mean. None with a single episode.
    """
    mean = float(values.mean())
    _, group = np.unique(episodes, return_inverse=True)
    groups = int(group.max()) + 1
    if groups < 2:
        return mean, None
    sums = np.bincount(group, weights=values - mean)
    return mean, float(np.sqrt(groups / (groups - 1) * np.square(sums).sum()) / len(values))


def described(name: str, values: FloatArray, episodes: npt.NDArray[np.int64]) -> dict[str, float | None]:
    """`name` and `name`_sem of values (B,), one a window, of the episodes (B,)."""
    mean, error = mean_and_error(values, episodes)
    return {name: mean, f"{name}_sem": error}
