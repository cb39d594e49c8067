"""A trained policy as a file: a plain perceptron that acts deterministically, whatever library trained it.

One safetensors file: `layer0.weight` (out, in), `layer0.bias` (out,), `layer1.weight`, ...; its header says the
activation between layers and how the last layer's outputs become actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from m3pc_ray.comparison.learner_file import load_learner, save_learner
from m3pc_ray.errors import UserError

Output = Literal["tanh", "clip"]
"""The mode of a tanh-squashed Gaussian is the tanh of its mean; a plain Gaussian's mean is clipped to the bounds."""
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


class ExportedPolicy(nn.Module):
    """The perceptron.

    Args:
        layers: (weight (out, in), bias (out,)) of every linear layer; the last has the means of the actions alone.
        activation: between layers, a key of `ACTIVATIONS`.
        output: see `Output`.
        updates: gradient updates behind it.
    """

    def __init__(self, layers: Sequence[tuple[Tensor, Tensor]], activation: str, output: Output, updates: int) -> None:
        super().__init__()
        self.activation, self.output, self.updates = activation, output, updates
        self.weights = nn.ParameterList([nn.Parameter(weight, requires_grad=False) for weight, _ in layers])
        self.biases = nn.ParameterList([nn.Parameter(bias, requires_grad=False) for _, bias in layers])
        self._activate = ACTIVATIONS[activation]()

    def forward(self, observations: Tensor) -> Tensor:
        """Actions (B, action_dim) in [-1, 1] of raw observations (B, observation_dim)."""
        hidden = observations
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = nn.functional.linear(self._activate(hidden) if number else hidden, weight, bias)
        return torch.tanh(hidden) if self.output == "tanh" else hidden.clamp(-1.0, 1.0)

    @torch.no_grad()
    def __call__(self, observations: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The same for arrays: a `baselines.feedforward_agent.Policy`."""
        actions: npt.NDArray[np.float32] = self.forward(torch.as_tensor(observations, dtype=torch.float32)).numpy()
        return actions

    def save(self, path: Path) -> None:
        """Writes the file; complete or absent. Raises UserError where it cannot be written."""
        tensors: dict[str, Tensor] = {}
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            tensors |= {f"layer{number}.weight": weight, f"layer{number}.bias": bias}
        facts = {"activation": self.activation, "output": self.output, "updates": self.updates}
        save_learner(path, tensors, facts)

    @classmethod
    def load(cls, path: Path) -> ExportedPolicy:
        """The policy of a file. Raises UserError for a damaged one."""
        tensors, facts = load_learner(path)
        try:
            layers = [(tensors[f"layer{i}.weight"], tensors[f"layer{i}.bias"]) for i in range(len(tensors) // 2)]
            return cls(layers, facts["activation"], facts["output"], facts["updates"])
        except KeyError as error:
            raise UserError(f"{path}: not an exported policy: {error} is missing; remove it to train again") from error
