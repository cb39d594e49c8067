"""Batched Muon against torch's, one matrix at a time."""

import torch

from m3pc_ray.training.muon import BatchedMuon

SHAPES = [(48, 16), (16, 16), (64, 16), (16, 64), (48, 16), (16, 16), (16, 64)]


def test_updates_equal_torchs() -> None:
    torch.manual_seed(int(torch.randint(1 << 30, ())))
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in SHAPES]
    theirs = [torch.nn.Parameter(parameter.detach().clone()) for parameter in ours]
    settings = {"lr": 0.02, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
    batched, plain = BatchedMuon(ours, **settings), torch.optim.Muon(theirs, **settings)
    start = [parameter.detach().clone() for parameter in ours]
    for step in range(4):
        for index, (parameter, other) in enumerate(zip(ours, theirs, strict=True)):
            gradient = torch.randn_like(parameter)
            parameter.grad, other.grad = gradient, gradient.clone()
            if step == 2 and index == 1:
                parameter.grad = other.grad = None  # left out of this update, as its momentum
        batched.step()
        plain.step()
    for parameter, other, before in zip(ours, theirs, start, strict=True):
        moved = (other - before).abs().max()
        assert moved > 0.01
        assert (parameter - other).abs().max() < 0.02 * moved  # bfloat16 products, summed in another order
        torch.testing.assert_close(
            batched.state[parameter]["momentum_buffer"], plain.state[other]["momentum_buffer"], rtol=1e-6, atol=1e-7
        )


def test_state_is_torchs() -> None:
    parameter = torch.nn.Parameter(torch.randn(8, 4))
    parameter.grad = torch.randn(8, 4)
    batched = BatchedMuon([parameter], adjust_lr_fn="match_rms_adamw")
    batched.step()
    plain = torch.optim.Muon([torch.nn.Parameter(torch.randn(8, 4))], adjust_lr_fn="match_rms_adamw")
    plain.load_state_dict(batched.state_dict())
    assert torch.equal(*(next(iter(o.state.values()))["momentum_buffer"] for o in (batched, plain)))
