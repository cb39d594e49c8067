"""Search spaces: what a sweep varies, and the settings that come of it.

An axis is a setting of `m3pc_ray.config` with values for it, in a sweep file one of

    planner.td_lambda: [0, 0.3, 0.6]                    every value (the same as {grid: [...]})
    planner.guide: {choice: [return, critic]}           one of them, at random
    planner.td_lambda: {uniform: [0, 1]}                a number between the two, at random
    online.btm_learning_rate: {log_uniform: [1e-5, 1e-3]}    the same on a logarithmic scale
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ray.tune import choice, lograndint, loguniform, randint, uniform
from ray.tune.search.sample import Domain

from m3pc_ray.config import RunConfig
from m3pc_ray.configuration import all_settings, value_of, with_settings
from m3pc_ray.errors import UserError

KINDS = ("grid", "choice", "uniform", "log_uniform")
Scale = Literal["linear", "log", "category"]
Settings = dict[str, Any]
"""Values by the dotted name of their setting."""


@dataclass(frozen=True)
class Axis:
    """One setting that varies."""

    name: str
    kind: str
    """One of `KINDS`."""
    values: tuple[Any, ...]
    """What `grid` and `choice` choose among; lower and upper bound of the others."""

    @property
    def is_random(self) -> bool:
        return self.kind != "grid"

    @property
    def scale(self) -> Scale:
        """How it is drawn: words and switches as categories, numbers by their ratios where these are what is equal."""
        if any(isinstance(value, bool | str) or value is None for value in self.values):
            return "category"
        if self.kind == "log_uniform":
            return "log"
        ordered = sorted(self.values)
        if self.kind in ("grid", "choice") and len(ordered) > 2 and ordered[0] > 0:
            ratios = [math.log(b / a) for a, b in itertools.pairwise(ordered)]
            if max(ratios) - min(ratios) < 0.2 * max(ratios):
                return "log"
        return "linear"

    def domain(self) -> Domain:
        """The same for Ray Tune. Raises ValueError for a grid, which Tune does not take for a domain."""
        if self.kind == "choice":
            return choice(list(self.values))
        low, high = self.values
        whole = all_settings()[self.name].annotation is int
        if self.kind == "uniform":
            return randint(low, high + 1) if whole else uniform(low, high)
        if self.kind == "log_uniform":
            return lograndint(low, high + 1) if whole else loguniform(low, high)
        raise ValueError(f"{self.name}: {self.kind} is no domain")

    def described(self) -> Any:
        """As in a sweep file."""
        return {self.kind: list(self.values)}


def read_axis(name: str, described: Any, source: str) -> Axis:
    """An axis as a sweep file describes it; `source` is named in errors.

    Raises:
        UserError: no such setting, values of the wrong type or out of range, a description of another form.
    """
    where = f"{source}: space: {name}"
    kind, values = "grid", described
    if isinstance(described, dict):
        if len(described) != 1 or next(iter(described)) not in KINDS:
            raise UserError(f"{where}: must be a list of values or one of {', '.join(KINDS)} with its values")
        kind, values = next(iter(described.items()))
    if not isinstance(values, list) or not values:
        raise UserError(f"{where}: {kind} needs a list of values, such as [0.1, 0.3]")
    converted = [checked_value(name, value, f"{source}: space") for value in values]
    if kind in ("uniform", "log_uniform"):
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in converted)
        if not numbers or len(converted) != 2 or not converted[0] < converted[1]:
            raise UserError(f"{where}: {kind} needs two numbers, the smaller one first")
        if kind == "log_uniform" and converted[0] <= 0:
            raise UserError(f"{where}: log_uniform needs bounds above 0")
    if len(set(converted)) < len(converted):
        raise UserError(f"{where}: a value is given twice")
    return Axis(name, kind, tuple(converted))


def checked_value(name: str, value: Any, source: str) -> Any:
    """A setting's value in its type, within its range.

    Raises:
        UserError: no such setting, wrong type, out of range.
    """
    if isinstance(value, dict | list):
        raise UserError(f"{source}: {name}: must be a single value")
    converted = value_of(with_settings(RunConfig(), {name: value}, source), name)
    if isinstance(converted, dict):
        raise UserError(f"{source}: {name}: a sweep cannot set it; put it into the configuration of the runs")
    return converted


def combinations(space: Mapping[str, Axis], samples: int, seed: int) -> list[Settings]:
    """Every combination of the grids, each with every one of `samples` draws of the random axes.

    The draws are the same for every point of the grid, so that it is compared on equal terms. What is drawn twice, as
    happens with a choice among few, counts once.
    """
    grids = [axis for axis in space.values() if not axis.is_random]
    random = [axis for axis in space.values() if axis.is_random]
    generator = np.random.RandomState(seed)  # the kind that Ray Tune's domains draw from
    count = samples if random else 1
    draws = [{axis.name: _plain(axis.domain().sample(random_state=generator)) for axis in random} for _ in range(count)]
    points = itertools.product(*(axis.values for axis in grids))
    found = []
    for point in points:
        fixed = dict(zip((axis.name for axis in grids), point, strict=True))
        for draw in draws:
            both = fixed | draw
            found.append({name: both[name] for name in space})
    return list({tuple(settings.values()): settings for settings in found}.values())


def _plain(value: Any) -> Any:
    """A Python number instead of NumPy's."""
    return value.item() if isinstance(value, np.generic) else value
