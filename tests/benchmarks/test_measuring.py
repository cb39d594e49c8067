"""What a benchmark's row says was done."""

import pytest
import torch

from m3pc_ray.benchmarks.measuring import Case, compare
from m3pc_ray.planning.frozen_linear import FrozenLinear


@pytest.mark.parametrize("shape", [(15, 24), (3, 5, 24)])
def test_fused_products_are_counted(shape: tuple[int, ...]) -> None:
    linear, square = (
        FrozenLinear(torch.randn(40, 24), torch.zeros(40)),
        FrozenLinear(torch.randn(24, 24), torch.zeros(24)),
    )
    x = torch.randn(shape)

    def ours() -> None:
        linear(x)
        linear.gelu(x)
        square.added_to(x, x)

    def plain() -> None:
        torch.nn.functional.linear(x, linear.weight, linear.bias)

    row = compare(Case("products", ours, plain, torch.float32, plain_units=3, arithmetic_unit=("operation", 1.0)), 0.0)
    assert row["ours_arithmetic"] == 2 * 15 * 24 * (40 + 40 + 24)
    assert row["plain_arithmetic"] == 2 * 15 * 24 * 40 / 3
    assert row["ratio"] == pytest.approx(row["plain_s"] / row["ours_s"])
    assert row["over_floor"] == pytest.approx(row["ours_s"] / row["floor_s"])
