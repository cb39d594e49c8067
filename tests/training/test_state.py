"""A restored optimizer or generator goes on exactly as the original would have."""

import json
from pprint import pformat

import numpy as np
import pytest
import torch

from m3pc_ray.config import CriticConfig, RunConfig
from m3pc_ray.critic.iql import IQLCritic
from m3pc_ray.critic.trainer import IQLTrainer
from m3pc_ray.errors import UserError
from m3pc_ray.training.checkpoints import load_checkpoint, save_checkpoint
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.training.state import (
    pack_generator,
    pack_optimizer,
    pack_torch_generator,
    unpack_generator,
    unpack_optimizer,
    unpack_torch_generator,
)
from m3pc_ray.training.trainer_state import restore_optimizers

OPTIMIZERS = {
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=2e-3, betas=(0.9, 0.99), weight_decay=5e-3),
    "amsgrad": lambda parameters: torch.optim.Adam(parameters, lr=2e-3, amsgrad=True, foreach=True),
    "fused": lambda parameters: torch.optim.AdamW(parameters, lr=2e-3, fused=True),
    "muon": lambda parameters: torch.optim.Muon(parameters, lr=2e-3, adjust_lr_fn="match_rms_adamw"),
    "tensor rate": lambda parameters: torch.optim.Adam(parameters, lr=torch.tensor(3e-3)),
    "two groups": lambda parameters: torch.optim.AdamW(
        [{"params": parameters[:1], "weight_decay": 0.1}, {"params": parameters[1:], "lr": 1e-2}], lr=1e-3
    ),
    "untouched": lambda parameters: torch.optim.SGD(parameters, lr=1e-2, momentum=0.9),
}


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 8, bias=False), torch.nn.Tanh(), torch.nn.Linear(8, 2, bias=False))


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        torch.manual_seed(step)
        optimizer.zero_grad()
        model(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_continue_bit_for_bit(name, tmp_path):
    model = network()
    optimizer = OPTIMIZERS[name](list(model.parameters()))
    train(model, optimizer, range(0 if name == "untouched" else 3))
    for group in optimizer.param_groups:
        if not isinstance(group["lr"], torch.Tensor):
            group["lr"] *= 0.5  # a schedule was at work
    tensors, packed = pack_optimizer(optimizer)
    run = RunFolder.create(tmp_path / "run", RunConfig(), "pretrain")
    save_checkpoint(run, 3, {"btm": model.state_dict(), "optimizer": tensors}, {"optimizer": packed})
    train(model, optimizer, range(3, 6))

    read, state = load_checkpoint(run)
    restored = network()
    restored.load_state_dict(read["btm"])
    again = OPTIMIZERS[name](list(restored.parameters()))
    unpack_optimizer(again, read["optimizer"], state["optimizer"])
    train(restored, again, range(3, 6))
    for left, right in zip(model.parameters(), restored.parameters(), strict=True):
        assert torch.equal(left, right)
    # The same kinds of numbers too, tuples and all; pformat sorts the keys.
    assert pformat(optimizer.state_dict()) == pformat(again.state_dict())


def test_different_parameter_groups_are_refused():
    tensors, packed = pack_optimizer(OPTIMIZERS["two groups"](list(network().parameters())))
    with pytest.raises(ValueError, match="argument"):
        unpack_optimizer(OPTIMIZERS["adamw"](list(network().parameters())), tensors, packed)


@pytest.mark.parametrize("name", ["PCG64", "PCG64DXSM", "Philox", "SFC64", "MT19937"])
def test_numpy_generators_continue(name):
    generator = np.random.Generator(getattr(np.random, name)(7))
    generator.integers(10, size=3, dtype=np.uint32)  # leaves half a 64-bit word behind
    generator.standard_normal(5)
    packed = json.loads(json.dumps(pack_generator(generator)))
    restored = unpack_generator(packed)
    for draw in (
        lambda source: source.integers(2**31, size=9, dtype=np.uint32),
        lambda source: source.random(9),
        lambda source: source.permutation(9),
    ):
        assert np.array_equal(draw(generator), draw(restored))


def test_unknown_generators_are_refused():
    with pytest.raises(ValueError, match="unknown bit generator 'system'"):
        unpack_generator({"bit_generator": "system"})


def test_torch_generators_continue():
    generator = torch.Generator().manual_seed(3)
    torch.randn(3, generator=generator)
    packed = json.loads(json.dumps(pack_torch_generator(generator)))
    expected = torch.randn(5, generator=generator)
    other = torch.Generator()
    unpack_torch_generator(packed, other)
    assert torch.equal(torch.randn(5, generator=other), expected)


def test_torchs_global_generator_continues():
    with torch.random.fork_rng(devices=[]):
        packed = pack_torch_generator()
        expected = torch.rand(4)
        torch.manual_seed(99)
        unpack_torch_generator(packed)
        assert torch.equal(torch.rand(4), expected)


def test_optimizers_of_another_layout_are_one_clear_error() -> None:
    config = CriticConfig(hidden_width=8)
    critic = IQLCritic(3, 2, config, np.zeros(3), np.ones(3))
    apart = torch.optim.Adam(critic.q.parameters())
    tensors, packed = pack_optimizer(apart)
    with pytest.raises(UserError, match="critic_optimizer was written by another version"):
        restore_optimizers(IQLTrainer(critic, config), {"critic_optimizer": tensors}, {"critic_optimizer": packed})
