"""The plain inference: every token decoded, in float32, by `TrajectoryModel.forward`.

It shows what `engine.py` must compute, and is what the engine is tested and timed against.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from m3pc_ray.model import masks
from m3pc_ray.model.distribution import SquashedGaussian
from m3pc_ray.model.network import TrajectoryModel
from m3pc_ray.planning.inference import Queries, Window


class PlainInference:
    """`Inference` without any saving."""

    def __init__(self, model: TrajectoryModel, device: torch.device | str = "cpu") -> None:
        self._source = model
        self._model = copy.deepcopy(model).to(device).eval().requires_grad_(False)

    def refresh(self) -> None:
        self._model.load_state_dict(self._source.state_dict())

    @torch.inference_mode()
    def propose(self, window: Window, steps: int) -> SquashedGaussian:
        segment_length, t = self._model.config.segment_length, window.position
        batch = window.states.shape[0]
        tokens = self._blank_tokens(batch, window.states)
        tokens["states"][:, : t + 1] = window.states
        tokens["actions"][:, :t] = window.actions
        tokens["returns"][:] = window.returns
        prediction = self._model(tokens, masks.return_conditioned(segment_length, t))
        planned = slice(t, t + steps)
        return SquashedGaussian(
            prediction.action_mean[:, planned], prediction.action_log_std[:, planned], prediction.action_clip
        )

    @torch.inference_mode()
    def predict(
        self, window: Window, candidates: Tensor, queries: Queries, imagined: Tensor | None = None
    ) -> dict[str, Tensor]:
        segment_length, t = self._model.config.segment_length, window.position
        num_candidates = candidates.shape[1]
        if imagined is None:
            mask = masks.forward_dynamics(segment_length, t)
        else:
            mask = masks.reward_prediction(segment_length, t)
        answers: dict[str, list[Tensor]] = {name: [] for name in queries}
        for row in range(candidates.shape[0]):  # one environment at a time bounds the memory
            tokens = self._blank_tokens(num_candidates, window.states)
            tokens["states"][:, : t + 1] = window.states[row]
            tokens["actions"][:, :t] = window.actions[row]
            tokens["actions"][:, t:] = candidates[row]
            if imagined is not None:
                tokens["states"][:, t + 1 :] = imagined[row]
            prediction = self._model(tokens, mask)
            for name, steps in queries.items():
                answers[name].append(getattr(prediction, name)[:, steps.start : steps.stop])
        return {name: torch.stack(rows) for name, rows in answers.items()}

    def _blank_tokens(self, batch: int, like: Tensor) -> dict[str, Tensor]:
        """Zero tokens; the model never reads those its mask hides."""
        dims = {"states": self._model.observation_dim, "returns": 1, "actions": self._model.action_dim, "rewards": 1}
        return {
            name: torch.zeros(batch, self._model.config.segment_length, dim, device=like.device)
            for name, dim in dims.items()
        }
