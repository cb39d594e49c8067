"""Data on the training device: flat normalised tensors, and batches gathered from them by index."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from m3pc_ray.environments.actions import to_model_range
from m3pc_ray.model.masks import ACTIONS, RETURNS, REWARDS
from m3pc_ray.training.columns import fill_columns
from m3pc_ray.trajectories.episodes import Trajectories
from m3pc_ray.trajectories.returns import returns_to_go
from m3pc_ray.trajectories.segments import SegmentIndex
from m3pc_ray.trajectories.statistics import Statistics
from m3pc_ray.trajectories.validity import both, normalise


class SegmentData:
    """Segments for the trajectory model.

    Args:
        trajectories: the episodes.
        statistics: normalisation of states, returns and rewards.
        scale: what a returns-to-go token holds, see `trajectories.returns`.
        time_limit: steps after which the environment ends an episode.
        segment_length: T.
        action_low, action_high: (action_dim,), the environment's bounds.
        device: where the tensors live.
    """

    def __init__(
        self,
        trajectories: Trajectories,
        statistics: Statistics,
        scale: str,
        time_limit: int,
        segment_length: int,
        action_low: np.ndarray,
        action_high: np.ndarray,
        device: torch.device | str = "cpu",
    ) -> None:
        values, known = returns_to_go(trajectories, scale, time_limit)
        flat = {
            "states": (trajectories.observations - statistics.states_mean) / statistics.states_std,
            "returns": ((np.where(known, values, 0.0) - statistics.returns_mean) / statistics.returns_std)[:, None],
            "actions": to_model_range(trajectories.actions, action_low, action_high),
            "rewards": ((trajectories.rewards - statistics.rewards_mean) / statistics.rewards_std)[:, None],
        }
        self.columns = fill_columns(flat, device)
        self.index = SegmentIndex.of(trajectories, segment_length)
        flags = {
            RETURNS: normalise(known, len(known)),
            ACTIONS: trajectories.actions_known,
            REWARDS: trajectories.rewards_known,
        }
        self._known = {m: torch.as_tensor(known, device=device) for m, known in flags.items() if known is not None}
        """(steps,) which values are known, by number of the modality; one that is complete has no entry."""
        self._parts = self._with_and_without_actions(trajectories.actions_known)

    def _with_and_without_actions(self, known: np.ndarray | None) -> tuple[SegmentIndex, SegmentIndex] | None:
        """Segments that hold all their actions, and the others; None where one of the two kinds is missing."""
        if known is None:
            return None
        missing = np.append(0, np.cumsum(~known))
        ends = np.minimum(self.index.starts + self.index.segment_length, self.index.lasts + 1)
        whole = missing[ends] == missing[self.index.starts]
        return None if whole.all() or not whole.any() else (self.index.select(whole), self.index.select(~whole))

    def gather(self, rows: np.ndarray, valid: np.ndarray) -> tuple[dict[str, Tensor], Tensor | None]:
        """Tokens (B, T, dim) of the flat rows (B, T), and which of them exist (B, 4, T), None when all do."""
        at = torch.as_tensor(rows, device=self.columns.device)
        tokens = self.columns.take(at)
        if not self._known and valid.all():
            return tokens, None
        exists = torch.as_tensor(valid, device=at.device).unsqueeze(1).repeat(1, 4, 1)
        for modality, known in self._known.items():
            exists[:, modality] &= known[at]
        return tokens, exists

    def sample(
        self, rng: np.random.Generator, count: int, labelled_share: float | None = None
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """`count` segments, uniform over all start positions.

        With `labelled_share`, that share of them (rounded) is uniform over the segments that hold all their actions,
        the rest over the others, in mixed order, since consecutive rows share a mask. No different where the data has
        but one of the two kinds.
        """
        if labelled_share is None or self._parts is None:
            return self.gather(*self.index.sample(rng, count))
        labelled = round(labelled_share * count)
        drawn = [part.sample(rng, rows) for part, rows in zip(self._parts, (labelled, count - labelled), strict=True)]
        order = rng.permutation(count)
        rows, valid = (np.concatenate([part[side] for part in drawn])[order] for side in (0, 1))
        return self.gather(rows, valid)


def transition_arrays(
    trajectories: Trajectories, action_low: np.ndarray, action_high: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What the critic learns from, a row a step, actions in (-1, 1), and which rows (steps,) it may learn from.

    A successor that nobody saw cannot be bootstrapped from; after a termination it is not looked at. A step without its
    action or its reward teaches the critic nothing.
    """
    terminated, following = trajectories.terminated(), trajectories.next_observations()
    known = np.asarray(np.isfinite(following).all(axis=1))
    arrays = {
        "observations": trajectories.observations,
        "actions": to_model_range(trajectories.actions, action_low, action_high),
        "rewards": trajectories.rewards,
        "next_observations": np.where(known[:, None], following, trajectories.observations),
        "terminated": terminated.astype(np.float32),
    }
    keep = known | terminated
    labelled = both(trajectories.actions_known, trajectories.rewards_known)
    return arrays, keep if labelled is None else keep & labelled


class TransitionData:
    """Transitions for the critic; those it cannot learn from are left out, see `transition_arrays`."""

    def __init__(
        self,
        trajectories: Trajectories,
        action_low: np.ndarray,
        action_high: np.ndarray,
        device: torch.device | str = "cpu",
    ) -> None:
        arrays, keep = transition_arrays(trajectories, action_low, action_high)
        self.columns = fill_columns({name: array[keep] for name, array in arrays.items()}, device)

    def sample(self, rng: np.random.Generator, count: int) -> dict[str, Tensor]:
        """`count` transitions, uniform with replacement."""
        rows = rng.integers(len(self.columns), size=count)
        return self.columns.take(torch.as_tensor(rows, device=self.columns.device))
