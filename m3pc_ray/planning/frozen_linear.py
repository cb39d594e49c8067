"""A linear layer with frozen weights, with its activation or residual in the same call where torch has that."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from m3pc_ray.model.network import Linear

_USUAL_ROWS = 1024
"""Rows the packed layout is chosen for; any number is computed."""


class FrozenLinear:
    """x W' + b of a copy of the weights.

    On a CPU it is oneDNN's product with what follows it fused in, the building block of torch.compile. Besides the
    passes over memory that this saves, torch's own float32 product (MKL) runs without AVX-512 on AMD processors, at
    half of the speed. Elsewhere it is torch's product.

    Args:
        weight: (out, in).
        bias: (out,), of the same type.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight, bias
        self._packed: Tensor | None = None
        if weight.device.type == "cpu" and _fuses(weight.dtype):
            self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _USUAL_ROWS)

    @classmethod
    def of(cls, module: Linear, dtype: torch.dtype, device: torch.device) -> FrozenLinear:
        return cls(frozen(module.weight, dtype, device), frozen(module.bias, dtype, device))

    def __call__(self, x: Tensor) -> Tensor:
        if self._packed is None:
            return functional.linear(x, self.weight, self.bias)
        return _pointwise()(x, self._packed, self.bias, "none", [], "")

    def gelu(self, x: Tensor) -> Tensor:
        """GELU (erf) of the product."""
        if self._packed is None:
            return functional.gelu(self(x))
        return _pointwise()(x, self._packed, self.bias, "gelu", [], "none")

    def relu(self, x: Tensor) -> Tensor:
        """ReLU of the product."""
        if self._packed is None:
            return functional.relu(self(x))
        return _pointwise()(x, self._packed, self.bias, "relu", [], "")

    def added_to(self, other: Tensor, x: Tensor) -> Tensor:
        """`other` + the product."""
        if self._packed is None or other.shape[:-1] != x.shape[:-1]:
            return other + self(x)
        return _pointwise().binary(x, other, self._packed, self.bias, "add")


def frozen(values: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A copy that later changes of the weights do not reach."""
    return values.detach().to(device=device, dtype=dtype, copy=True)


def _pointwise() -> Any:
    return torch.ops.mkldnn._linear_pointwise


@functools.cache
def _fuses(dtype: torch.dtype) -> bool:
    """Whether this build of torch has these operations for this type, found out by using them once."""
    if not torch.backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(3, 16, generator=generator), torch.randn(32, 16, generator=generator)
    expected = functional.gelu(functional.linear(x, weight))
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.to(dtype), _USUAL_ROWS)
        bias = torch.zeros(32, dtype=dtype)
        result = _pointwise()(x.to(dtype), packed, bias, "gelu", [], "none")
        _pointwise().binary(x.to(dtype), result, packed, bias, "add")
    except (AttributeError, RuntimeError):
        return False
    tolerance = 1e-4 if dtype == torch.float32 else 0.2
    return torch.allclose(result.float(), expected, rtol=0.05, atol=tolerance)
