"""Compiled layers: the same updates, and one clear error where nothing can compile."""

import numpy as np
import pytest
import torch

from m3pc_ray.benchmarks.synthetic import unit_statistics
from m3pc_ray.config import MaskConfig, ModelConfig, PretrainConfig
from m3pc_ray.errors import UserError
from m3pc_ray.model.network import TrajectoryModel
from m3pc_ray.training.btm_trainer import BTMTrainer

CONFIG = ModelConfig(width=16, heads=2, segment_length=4)


def gradients(compiled: bool, seed: int) -> list[dict[str, torch.Tensor]]:
    """Of three batches under masks of their own; a learning rate of 0 keeps the weights."""
    torch.manual_seed(seed)
    model = TrajectoryModel(11, 3, CONFIG, unit_statistics())
    settings = PretrainConfig(batch_size=6, compile_layers=compiled, gradient_clip=0.0, weight_decay=0.0)
    trainer = BTMTrainer(model, settings, MaskConfig(), torch.float32, seed)
    found = []
    for step in range(3):
        dims = {"states": 11, "returns": 1, "actions": 3, "rewards": 1}
        tokens = {name: torch.rand(6, 4, dim) - 0.5 for name, dim in dims.items()}
        trainer.update(tokens, torch.rand(6, 4, 4) > 0.1 if step else None, 0.0)
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    return found


@pytest.mark.slow
def test_compiled_layers_have_the_same_gradients() -> None:
    seed = int(np.random.default_rng().integers(1 << 30))
    for eager, compiled in zip(gradients(False, seed), gradients(True, seed), strict=True):
        assert list(eager) == list(compiled)
        largest = max(float(values.abs().max()) for values in eager.values())
        assert largest > 1e-2
        for name, values in eager.items():
            torch.testing.assert_close(compiled[name], values, rtol=1e-4, atol=1e-4 * largest)


def test_a_machine_without_a_compiler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"compile_layers.*C\+\+ compiler"):
        gradients(True, 0)
