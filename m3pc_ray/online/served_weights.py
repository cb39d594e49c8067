"""The weights that planners chose actions with, as far as checkpoints keep them.

A checkpoint is made at some count of updates, weights were published at another. So that decisions can be computed
again, a run that records them stores the weights published last in every checkpoint, beside those in training. What a
checkpoint has in training was served too, where a run started from it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from m3pc_ray.config import RunConfig
from m3pc_ray.errors import UserError
from m3pc_ray.training.assemble import Models, models_from_checkpoint
from m3pc_ray.training.checkpoints import Tensors, list_checkpoints, load_checkpoint
from m3pc_ray.training.run_folder import RunFolder

_LOGGER = logging.getLogger(__name__)

SERVED_MODEL, SERVED_CRITIC = "served_model", "served_critic"
"""Groups of tensors of a checkpoint; the state's `served` holds their version."""


def fingerprint(model: Mapping[str, Any], critic: Mapping[str, Any]) -> int:
    """64 bits of a hash of weights, from arrays or tensors by parameter name; the same for the same bits."""
    digest = hashlib.blake2b(digest_size=8)
    for arrays in (model, critic):
        for name in sorted(arrays):
            value = arrays[name]
            array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return int.from_bytes(digest.digest(), "little")


def served_groups(model: Mapping[str, np.ndarray], critic: Mapping[str, np.ndarray]) -> Tensors:
    """Published weights as groups of a checkpoint."""
    return {
        name: {key: torch.from_numpy(value) for key, value in arrays.items()}
        for name, arrays in ((SERVED_MODEL, model), (SERVED_CRITIC, critic))
    }


def checkpoint_version(config: RunConfig, state: Mapping[str, Any]) -> int:
    """Version of the weights in training of a checkpoint: 0 before the first online update, see `Learner.version`."""
    updates = state.get("online", {}).get("updates", {"btm": 0, "critic": 0})
    return int(updates["btm" if config.online.btm_updates_per_step > 0 else "critic"])


@dataclass(frozen=True)
class KeptWeights:
    """Weights of one version in a checkpoint."""

    step: int
    """The checkpoint's."""
    kind: Literal["training", "served"]
    version: int
    tensors: Tensors
    state: Mapping[str, Any]

    @property
    def fingerprint(self) -> int:
        """See `fingerprint`."""
        return fingerprint(*self._weights)

    def models(self, config: RunConfig) -> Models:
        """Models with these weights, on `config.device`."""
        model, critic = self._weights
        return models_from_checkpoint(config, {"btm": model, "critic": critic}, dict(self.state))

    @property
    def _weights(self) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        names = ("btm", "critic") if self.kind == "training" else (SERVED_MODEL, SERVED_CRITIC)
        return self.tensors[names[0]], self.tensors[names[1]]


def kept_weights(run: RunFolder, step: int | None = None) -> Iterator[KeptWeights]:
    """All weights in a run's complete checkpoints, oldest first, or in that of `step`; one checkpoint in memory.

    Raises:
        UserError: there is no checkpoint of `step`, or it is damaged; other damaged ones are passed over.
    """
    config = run.config()
    for number in list_checkpoints(run) if step is None else [step]:
        try:
            tensors, state = load_checkpoint(run, number)
        except UserError as error:
            if step is not None:
                raise
            _LOGGER.warning("passed over: %s", error)
            continue
        yield KeptWeights(number, "training", checkpoint_version(config, state), tensors, state)
        if "served" in state:
            yield KeptWeights(number, "served", int(state["served"]["version"]), tensors, state)
