"""What planning asks of the trajectory model, whoever computes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from m3pc_ray.model.distribution import SquashedGaussian

Queries = Mapping[str, range]
"""Steps of the window wanted per modality (`states`, `returns`, `rewards`)."""


@dataclass(frozen=True)
class Window:
    """The known part of B windows whose current step is the same step t, in the model's units (normalised).

    Args:
        states: (B, t + 1, observation_dim), observed up to the current one.
        actions: (B, t, action_dim), taken so far.
        returns: (B, T, 1), the return asked for at every step.
    """

    states: Tensor
    actions: Tensor
    returns: Tensor

    @property
    def position(self) -> int:
        return self.actions.shape[1]


class Inference(Protocol):
    """Two questions to the model. It answers with the weights of the last `refresh()`, in float32."""

    def propose(self, window: Window, steps: int) -> SquashedGaussian:
        """RCBC pass: the distribution of actions t..t+steps-1, mean and log_std (B, steps, action_dim)."""
        ...

    def predict(
        self, window: Window, candidates: Tensor, queries: Queries, imagined: Tensor | None = None
    ) -> dict[str, Tensor]:
        """FD pass, or RP pass where `imagined` states are given.

        Args:
            window: what is known of B environments.
            candidates: (B, N, T - t, action_dim), actions t..T-1.
            queries: steps wanted per modality; the current and earlier steps are allowed (reconstructions).
            imagined: (B, N, T - t - 1, observation_dim), normalised states t+1..T-1, visible in the RP pass.

        Returns:
            For each modality in `queries`: (B, N, len(range), dim), normalised.
        """
        ...

    def refresh(self) -> None:
        """Takes over the present weights of the model it was made from."""
        ...
