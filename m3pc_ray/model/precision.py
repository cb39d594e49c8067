"""Which number format matrix products use: asked for, or measured once per device."""

from __future__ import annotations

import functools
import time

import torch

from m3pc_ray.config import Precision
from m3pc_ray.errors import UserError

# bfloat16 must win clearly, so that a noisy timing cannot decide differently from one process to the next.
_CLEARLY_FASTER = 1.5


def resolve_precision(setting: Precision, device: torch.device | str) -> torch.dtype:
    """The dtype of matrix products for a `precision` setting on a device.

    `auto` times a transformer-sized linear in both formats, once per process and device, and takes bfloat16 where it is
    at least 1.5 times as fast. Raises UserError for any other word.
    """
    if setting == "float32":
        return torch.float32
    if setting == "bfloat16":
        return torch.bfloat16
    if setting == "auto":
        return torch.bfloat16 if _bfloat16_is_faster(str(torch.device(device))) else torch.float32
    raise UserError(f"precision is {setting!r}; it must be auto, float32 or bfloat16")


@functools.cache
def _bfloat16_is_faster(device: str) -> bool:
    return _CLEARLY_FASTER * _seconds(torch.bfloat16, device) < _seconds(torch.float32, device)


@torch.no_grad()
def _seconds(dtype: torch.dtype, device: str) -> float:
    """Best of eight timings of four linears with (2048, 256) inputs and (256, 256) weights; about 10 ms in all."""
    inputs = torch.ones(2048, 256, dtype=dtype, device=device)
    weight = torch.ones(256, 256, dtype=dtype, device=device)
    timings = []
    for _ in range(9):
        started = time.perf_counter()
        for _ in range(4):
            outputs = torch.nn.functional.linear(inputs, weight)
        outputs[0, 0].item()  # waits for the device
        timings.append(time.perf_counter() - started)
    return min(timings[1:])  # the first one pays for kernel selection
