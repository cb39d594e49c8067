"""The evaluator on Ray."""

from __future__ import annotations

from typing import Any

import ray
import torch

from actors.role import Role
from m3pc_ray.online.roles import make_evaluator
from m3pc_ray.training.run_folder import RunFolder


class EvaluatorActor(Role):
    """Scores pinned weights in its own environments while everything else goes on."""

    def __init__(self, run_path: str, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._evaluator = make_evaluator(RunFolder.open(run_path), device)
        self._steps = 0

    def ready(self) -> bool:
        """Answers once the constructor is through and earlier calls are done."""
        return True

    def values(self) -> dict[str, float]:
        return {"steps": float(self._steps)}

    def evaluate(self, boxed: list[ray.ObjectRef], environment_steps: int) -> list[dict[str, Any]]:
        """Rows for the weights behind a boxed reference, see `Evaluator.evaluate`."""
        return self._evaluator.evaluate(ray.get(boxed[0]), environment_steps, self._count)

    def _count(self) -> None:
        self._steps += 1
