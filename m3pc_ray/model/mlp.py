"""A multilayer perceptron and its training: what baselines and the critic's dynamics are made of."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from m3pc_ray.errors import UserError
from m3pc_ray.model.network import Linear
from m3pc_ray.model.precision import resolve_precision

FloatArray = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]
"""Called after every gradient step: steps done, steps in all. What it raises ends the training."""

SMALLEST_STD = 1e-3
"""Inputs and targets that vary less than this are constants: they are centred, not blown up to noise."""


@dataclass(frozen=True)
class MLPConfig:
    """Chosen on held-out one-step errors of dynamics models of hopper-medium, see docs/capabilities.md."""

    width: int = 256
    """Units of a hidden layer."""
    hidden_layers: int = 3
    learning_rate: float = 4e-3
    """Peak rate of AdamW: a short linear warm-up, then a cosine to 0 at the last step."""
    weight_decay: float = 1e-3
    """Decoupled, on matrices only."""
    warmup_fraction: float = 0.02
    """Share of the steps in which the learning rate rises."""


class MLP(nn.Module):
    """Linear layers with SiLU between them; inputs and outputs are standardised by buffers that travel with it.

    Args:
        input_dim, output_dim: lengths of an input and an output.
        config: sizes.
        squash: tanh at the end, for actions in (-1, 1), in place of the standardised outputs.
    """

    def __init__(self, input_dim: int, output_dim: int, config: MLPConfig, squash: bool = False) -> None:
        super().__init__()
        widths = [input_dim] + [config.width] * config.hidden_layers
        self.hidden = nn.ModuleList([Linear(before, after) for before, after in zip(widths, widths[1:], strict=False)])
        self.output = Linear(widths[-1], output_dim)
        self.squash = squash
        self.input_mean: Tensor
        self.input_std: Tensor
        self.output_mean: Tensor
        self.output_std: Tensor
        for name, dim in (("input", input_dim), ("output", output_dim)):
            self.register_buffer(f"{name}_mean", torch.zeros(dim))
            self.register_buffer(f"{name}_std", torch.ones(dim))

    def standardise(self, inputs: FloatArray, outputs: FloatArray) -> None:
        """Takes mean and standard deviation from data (rows, dim); of the outputs only where they are not squashed."""
        for name, values in (("input", inputs),) if self.squash else (("input", inputs), ("output", outputs)):
            mean, std = values.mean(0, dtype=np.float64), values.std(0, dtype=np.float64)
            self.get_buffer(f"{name}_mean").copy_(torch.as_tensor(mean))
            self.get_buffer(f"{name}_std").copy_(torch.as_tensor(np.where(std < SMALLEST_STD, 1.0, std)))

    def raw(self, inputs: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """(B, input_dim) to outputs (B, output_dim) in units of their standard deviation, or squashed; float32."""
        x = ((inputs - self.input_mean) / self.input_std).to(dtype)
        for layer in self.hidden:
            x = functional.silu(layer(x))
        outputs = self.output(x.float())
        return torch.tanh(outputs) if self.squash else outputs

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, input_dim) to (B, output_dim), in the units of the data."""
        return self.raw(inputs) * self.output_std + self.output_mean

    @torch.no_grad()
    def predict(self, inputs: npt.ArrayLike) -> FloatArray:
        """`forward` of arrays (..., input_dim), on the network's device, back as an array (..., output_dim)."""
        values = torch.as_tensor(np.asarray(inputs, dtype=np.float32), device=self.input_mean.device)
        return self(values).cpu().numpy()


@dataclass(frozen=True)
class Training:
    """How an MLP is trained.

    Args:
        steps: gradient steps.
        batch_size: rows a step, uniform with replacement.
        seed: of the first weights and the batches; the same seed gives the same network on the same machine.
        device: where to train and where the network stays.
        config: sizes and rates.
    """

    steps: int
    batch_size: int
    seed: int = 0
    device: torch.device | str = "cpu"
    config: MLPConfig = dataclasses.field(default_factory=MLPConfig)


@dataclass(frozen=True)
class TrainedMLP:
    """A network in evaluation mode and what it took."""

    network: MLP
    seconds: float
    """Wall time of the training."""
    rows: int
    """Rows it learned from."""


def train_mlp(
    inputs: FloatArray,
    targets: FloatArray,
    training: Training,
    *,
    squash: bool = False,
    weights: FloatArray | None = None,
    progress: Progress | None = None,
) -> TrainedMLP:
    """Least squares from inputs (rows, input_dim) to targets (rows, target_dim).

    Rows with a value that is not finite (an unknown successor, a missing action) are left out. `weights` (target_dim,)
    multiply the squared errors, which are in units of each target's variance.
    Raises UserError where no row is left, or for a number of steps or rows a step below 1.
    """
    if training.steps < 1 or training.batch_size < 1:
        raise UserError(
            f"a baseline of {training.steps} steps with {training.batch_size} rows each cannot be trained; at least 1 "
            "of both is needed"
        )
    inputs, targets = complete_rows(inputs, targets)
    if not len(inputs):
        raise UserError("no complete transition to train a baseline on")
    started = time.perf_counter()
    config, device = training.config, torch.device(training.device)
    # A generator state of its own: training must not depend on, or disturb, what was drawn before.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = MLP(inputs.shape[1], targets.shape[1], config, squash).to(device)
    network.standardise(inputs, targets)
    data = torch.as_tensor(np.concatenate([inputs, targets], axis=1), device=device)
    scale = None if weights is None else torch.as_tensor(weights, device=device)
    dtype = resolve_precision("auto", device)
    matrices = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99), fused=True)
    rng = np.random.default_rng([training.seed, 11])
    for step in range(training.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * learning_rate_factor(step, training.steps, config.warmup_fraction)
        at = torch.as_tensor(rng.integers(len(data), size=training.batch_size), device=device)
        batch = data.index_select(0, at)
        asked, wanted = batch[:, : inputs.shape[1]], batch[:, inputs.shape[1] :]
        difference = network.raw(asked, dtype) - (wanted - network.output_mean) / network.output_std
        squared = difference.square() if scale is None else difference.square() * scale
        optimizer.zero_grad(set_to_none=True)
        squared.mean().backward()
        optimizer.step()
        if progress is not None:
            progress(step + 1, training.steps)
    network.eval().requires_grad_(False)
    return TrainedMLP(network, time.perf_counter() - started, len(data))


def complete_rows(inputs: FloatArray, targets: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The rows in which every value is finite."""
    known = np.isfinite(inputs).all(axis=1) & np.isfinite(targets).all(axis=1)
    return inputs[known], targets[known]


def learning_rate_factor(step: int, steps: int, warmup_fraction: float) -> float:
    """Linear from near 0 to 1, then a cosine to 0 after the last of `steps`."""
    warmup = max(1, round(warmup_fraction * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
