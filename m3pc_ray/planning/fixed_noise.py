"""Proposals whose spread is the same everywhere: what the model's own, uncertainty-aware spread is compared with."""

from __future__ import annotations

from torch import Tensor

from m3pc_ray.errors import UserError
from m3pc_ray.model.distribution import SquashedGaussian
from m3pc_ray.planning.inference import Inference, Queries, Window


class FixedNoiseInference:
    """`Inference` that proposes around another's means with one standard deviation.

    Args:
        inference: whose means and predictions are used.
        std: before the tanh, in every dimension.

    Raises:
        UserError: there is no standard deviation.
    """

    def __init__(self, inference: Inference, std: float | None) -> None:
        if std is None:
            raise UserError(
                "planner.action_noise is fixed, but planner.noise_std is none: give it a number, or let "
                "`m3pc finetune` measure it (it is in the config.yaml of the run that it makes)"
            )
        self._inference, self._std = inference, std

    def propose(self, window: Window, steps: int) -> SquashedGaussian:
        return self._inference.propose(window, steps).with_std(self._std)

    def predict(
        self, window: Window, candidates: Tensor, queries: Queries, imagined: Tensor | None = None
    ) -> dict[str, Tensor]:
        return self._inference.predict(window, candidates, queries, imagined)

    def refresh(self) -> None:
        self._inference.refresh()
