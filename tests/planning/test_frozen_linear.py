"""The linear layer of the engine against torch's, fused and not."""

import pytest
import torch
from torch.nn import functional

from m3pc_ray.planning import frozen_linear
from m3pc_ray.planning.frozen_linear import FrozenLinear
from tests.planning.factory import fresh_seed


@pytest.fixture(params=[True, False], ids=["fused", "torch"])
def fused(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if not request.param:
        monkeypatch.setattr(frozen_linear, "_fuses", lambda dtype: False)
    return bool(request.param)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(5,), (3, 1), (7, 33), (2, 1500)])
def test_products_and_what_follows_them(fused: bool, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    seed = fresh_seed()
    generator = torch.Generator().manual_seed(seed)

    def draw(*sizes: int) -> torch.Tensor:
        return torch.randn(*sizes, generator=generator).to(dtype)

    x, weight, bias, other = draw(*shape, 24), draw(40, 24) / 24**0.5, draw(40), draw(*shape, 40)
    linear = FrozenLinear(weight, bias)
    expected = functional.linear(x.float(), weight.float(), bias.float())
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.02, "atol": 0.05}
    for result, wanted in (
        (linear(x), expected),
        (linear.gelu(x), functional.gelu(expected)),
        (linear.relu(x), functional.relu(expected)),
        (linear.added_to(other, x), other.float() + expected),
        (linear.added_to(other[..., :1, :], x), other[..., :1, :].float() + expected),
    ):
        assert result.dtype == dtype
        torch.testing.assert_close(result.float(), wanted, **tolerance, msg=lambda text: f"seed {seed}: {text}")


def test_later_changes_of_the_weights_do_not_reach_it() -> None:
    weight, x = torch.ones(16, 16), torch.ones(2, 16)
    linear = FrozenLinear(frozen_linear.frozen(weight, torch.float32, weight.device), torch.zeros(16))
    weight.zero_()
    torch.testing.assert_close(linear(x), torch.full((2, 16), 16.0))
