"""Two models that plan together: one proposes, the other predicts. What specialised models can be compared with."""

from __future__ import annotations

from torch import Tensor

from m3pc_ray.model.distribution import SquashedGaussian
from m3pc_ray.planning.inference import Inference, Queries, Window


class PairedInference:
    """`Inference` whose RCBC pass is one model's and whose FD and RP passes are another's.

    Both must standardise alike, since a window and its imagined states are handed from one to the other.
    """

    def __init__(self, proposer: Inference, predictor: Inference) -> None:
        self._proposer, self._predictor = proposer, predictor

    def propose(self, window: Window, steps: int) -> SquashedGaussian:
        return self._proposer.propose(window, steps)

    def predict(
        self, window: Window, candidates: Tensor, queries: Queries, imagined: Tensor | None = None
    ) -> dict[str, Tensor]:
        return self._predictor.predict(window, candidates, queries, imagined)

    def refresh(self) -> None:
        self._proposer.refresh()
        self._predictor.refresh()
