"""The GPU: whether torch sees one, and whether it multiplies correctly in the format that planning would use."""

from __future__ import annotations

import torch

from m3pc_ray.diagnosis.rows import Row
from m3pc_ray.model.precision import resolve_precision

SIZE = 512
"""Rows and columns of the matrices multiplied."""
TOLERANCE = 2.0**-7
"""Of a product's error, relative to its Frobenius norm. bfloat16 keeps 8 bits: rounding both factors and the result
costs about 2**-9 of the norm here (measured on a CPU: 2.9e-3); a broken kernel is wrong by the norm itself."""


def check_gpu() -> list[Row]:
    """A row for every CUDA device; none is fine."""
    if not torch.cuda.is_available():
        built = f"torch is built for CUDA {torch.version.cuda}, but" if torch.version.cuda else "torch has no CUDA, and"
        return [Row("gpu", "ok", f"none ({built} no device is there); everything runs on the CPU")]
    rows = []
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        device = f"cuda:{index}"
        fast = "bfloat16" if resolve_precision("auto", device) is torch.bfloat16 else "float32"
        found = f"{facts.name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free; fast: {fast}"
        rows.append(check_product(device, found))
    return rows


def check_product(device: str, found: str, size: int = SIZE) -> Row:
    """One row: a (size, size) product in bfloat16 on `device` against float32 on the CPU."""
    error = product_error(device, size)
    found = f"{found}; product in bfloat16 off by {error:.1e} of its norm (up to {TOLERANCE:.1e} is rounding)"
    if error <= TOLERANCE:  # a NaN is not
        return Row(f"gpu {device}", "ok", found)
    return Row(f"gpu {device}", "failure", found, "check driver and card; meanwhile set --device cpu")


def product_error(device: str, size: int = SIZE) -> float:
    """Frobenius norm of the error of a bfloat16 product on `device`, relative to that of the float32 one on the CPU."""
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(size, size, generator=generator)
    right = torch.randn(size, size, generator=generator)
    exact = left @ right
    rounded = (left.to(device, torch.bfloat16) @ right.to(device, torch.bfloat16)).to("cpu", torch.float32)
    return float((rounded - exact).norm() / exact.norm())
