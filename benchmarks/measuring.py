"""How benchmarks measure: two ways of doing the same work in turn, their arithmetic counted, against a floor.

Machines are noisy, so nothing here is published but ratios of times taken side by side in one process: ours, plain,
ours, plain, ... The floor is the time the matrix products of our way would take alone, at the rate that the device
reaches on large ones in the same run.
"""

from __future__ import annotations

import functools
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from m3pc_ray.planning.frozen_linear import FrozenLinear

MINIMUM_RUNS = 3


@dataclass(frozen=True)
class Case:
    """The same work done in two ways.

    Args:
        name: the row's name, unique within a benchmark.
        ours, plain: do the work once; `ours_units` and `plain_units` pieces of it.
        dtype: of our matrix products; None: there are none, so there is no floor.
        device: where ours and plain compute.
        arithmetic_unit: name of the unit in which floating-point operations are printed, and how many one is.
        extra: further fields of the row.
    """

    name: str
    ours: Callable[[], object]
    plain: Callable[[], object]
    dtype: torch.dtype | None = None
    device: str = "cpu"
    ours_units: int = 1
    plain_units: int = 1
    arithmetic_unit: tuple[str, float] = ("GFLOP", 1e9)
    extra: dict[str, Any] | None = None


def compare(case: Case, seconds: float) -> dict[str, Any]:
    """Times a case in turn for about `seconds`, at least three times each.

    Returns:
        A row: `ours_s`, `plain_s` medians of seconds a unit; `ours_spread`, `plain_spread` half the distance between
        the quartiles over the median; `ratio` plain / ours; `ours_arithmetic`, `plain_arithmetic` floating-point ops
        of matrix products a unit, in `arithmetic_unit`; `floor_s` and `over_floor`, our time over it.
    """
    measured = in_turn(
        {"ours": (case.ours, case.ours_units), "plain": (case.plain, case.plain_units)}, seconds, case.device
    )
    row: dict[str, Any] = {"case": case.name}
    for name, found in measured.items():
        row[f"{name}_s"], row[f"{name}_spread"] = found.seconds, found.spread
    row["runs"] = measured["plain"].runs
    row["ratio"] = row["plain_s"] / row["ours_s"]
    row["arithmetic_unit"], scale = case.arithmetic_unit
    ours, plain = measured["ours"].operations, measured["plain"].operations
    row["ours_arithmetic"], row["plain_arithmetic"] = ours / scale, plain / scale
    if case.dtype is not None and ours:
        row["floor_s"] = ours / products_per_second(case.dtype, case.device, torch.get_num_threads())
        row["over_floor"] = row["ours_s"] / row["floor_s"]
    return row | (case.extra or {})


@dataclass(frozen=True)
class Measured:
    """What one way of doing the work took, a unit."""

    seconds: float
    """Median."""
    spread: float
    """Half the distance between the quartiles over the median."""
    operations: float
    """Floating-point operations of its matrix products."""
    runs: int


def in_turn(
    works: Mapping[str, tuple[Callable[[], object], int]], seconds: float, device: str = "cpu"
) -> dict[str, Measured]:
    """Times several ways of doing the same work in turn for about `seconds` in all, at least three times each.

    `works`: for each name what does it once, and how many units that is.
    """
    waits = _waiter(device)
    times: dict[str, list[float]] = {name: [] for name in works}
    operations = {}
    for name, (work, units) in works.items():
        with FlopCounterMode(display=False, custom_mapping=_fused_products()) as counter:  # also warms up
            work()
        operations[name] = counter.get_total_flops() / units
        work()
    waits()
    started = time.perf_counter()
    runs = 0
    while runs < MINIMUM_RUNS or time.perf_counter() - started < seconds:
        for name, (work, units) in works.items():
            before = time.perf_counter()
            work()
            waits()
            times[name].append((time.perf_counter() - before) / units)
        runs += 1
    return {
        name: Measured(statistics.median(values), _spread(values), operations[name], runs)
        for name, values in times.items()
    }


@functools.cache
def products_per_second(dtype: torch.dtype, device: str, threads: int) -> float:
    """Floating-point operations a second of large matrix products: the best of ten of (2048, 1024) x (1024, 1024).

    `threads` is part of the key: the rate is that of the threads torch has when it is asked for.
    """
    waits = _waiter(device)
    left = torch.randn(2048, 1024, device=device).to(dtype)
    product = FrozenLinear(
        torch.randn(1024, 1024, device=device).to(dtype), torch.zeros(1024, dtype=dtype, device=device)
    )
    best = float("inf")
    with torch.inference_mode():
        for _ in range(11):
            before = time.perf_counter()
            for _ in range(4):
                product(left)
            waits()
            best = min(best, time.perf_counter() - before)
    return 4 * 2 * 2048 * 1024 * 1024 / best


def _fused_products() -> dict[Any, Callable[..., int]]:
    """How many operations the fused products of `FrozenLinear` take, which torch's counter does not know."""
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return {}

    def operations(inputs: torch.Size, *shapes: Any, **_: Any) -> int:
        # (x, weight, bias, ...), or (x, what is added, weight, bias, ...)
        weight = next(shape for shape, bias in pairwise(shapes) if isinstance(bias, torch.Size) and len(bias) == 1)
        return 2 * inputs.numel() * int(weight[0])

    return {torch.ops.mkldnn._linear_pointwise: operations}


def environment() -> dict[str, Any]:
    """What a published table must say of the machine and the versions."""
    import numpy

    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _spread(values: list[float]) -> float:
    if len(values) < 4:
        return (max(values) - min(values)) / 2 / statistics.median(values)
    first, middle, third = statistics.quantiles(values, n=4)
    return (third - first) / 2 / middle


def _waiter(device: str) -> Callable[[], None]:
    """Waits for the device to finish what it was given; nothing to wait for on a CPU."""
    if torch.device(device).type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None
