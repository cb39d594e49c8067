"""Every method of `m3pc compare`: what it is called, what it can do, what it needs, what it may spend.

To add one: write a function as `comparison.method` says and an entry here. Its module is imported only when it trains,
so an extra that is not installed costs nothing but that method.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from m3pc_ray.comparison.method import OFFLINE, Train
from m3pc_ray.errors import UserError


@dataclass(frozen=True)
class Method:
    """One entry."""

    name: str
    train: str
    """`module:function`, see `comparison.method.Train`."""
    rows: Mapping[str, str]
    """Rows of the table that one training gives, with their labels."""
    budget: Mapping[str, int]
    """Gradient updates offline by default; docs/comparison.md says why."""
    online_rows: Sequence[str] = ()
    """Rows that are recorded at points online too; empty: it learns offline only."""
    offline: bool = True
    """Whether it is recorded before the first environment step."""
    needs: Sequence[str] = ()
    """Packages to be importable."""
    install: str = ""
    """What to do where they are not."""
    check: str = ""
    """`module:function` that raises UserError where something else is missing, such as an environment of its own."""
    implementation: str = field(default="")
    """Whose code it is, for the table's notes."""

    def recorded_at(self, point: int) -> list[str]:
        """The rows that a point gives."""
        if point == OFFLINE:
            return list(self.rows) if self.offline else []
        return list(self.online_rows)

    def load(self) -> Train:
        """The function. Raises UserError where something that it needs is not installed."""
        self.check_installed()
        return cast(Train, _named(self.train))

    def check_installed(self) -> None:
        """Raises UserError, naming what is missing and how to install it."""
        missing = [package for package in self.needs if importlib.util.find_spec(package) is None]
        if missing:
            raise UserError(
                f"--methods {self.name}: needs {', '.join(missing)}, which is not installed; {self.install}"
            )
        if self.check:
            cast(Callable[[], None], _named(self.check))()


def _rllib(name: str, label: str, updates: int) -> Method:
    return Method(
        name,
        train=f"m3pc_ray.comparison.methods.rllib:{name}",
        rows={name: label},
        budget={"updates": updates},
        needs=("tree", "lz4", "ormsgpack"),  # what `ray[rllib]` adds to `ray[tune]`
        install="pip install -c constraints.txt '.[baselines]'",
        implementation="RLlib",
    )


def _sac(name: str, label: str, updates_per_step: int) -> Method:
    return Method(
        name,
        train=f"m3pc_ray.comparison.methods.sac:{name}",
        rows={name: label},
        online_rows=(name,),
        offline=False,
        budget={"updates_per_step": updates_per_step},
        needs=("stable_baselines3",),
        install="pip install -c constraints.txt '.[baselines]'",
        implementation="Stable-Baselines3",
    )


def _d3rlpy(name: str, label: str, function: str, updates: int, online: bool = True) -> Method:
    return Method(
        name,
        train=f"m3pc_ray.comparison.methods.d3rlpy:{function}",
        rows={name: label},
        online_rows=(name,) if online else (),
        budget={"updates": updates},
        check="m3pc_ray.comparison.methods.d3rlpy:find_python",
        implementation="d3rlpy",
    )


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "m3pc",
            train="m3pc_ray.comparison.methods.m3pc:train",
            rows={"btm": "BTM, one mask", "m3pc-m": "M³PC-M", "m3pc-q": "M³PC-Q"},
            online_rows=("btm", "m3pc-q"),
            budget={"btm": 2_000, "critic": 100_000},
            implementation="ours",
        ),
        Method(
            "td3+bc",
            train="m3pc_ray.comparison.methods.td3_bc:train",
            rows={"td3+bc": "TD3+BC"},
            budget={"updates": 110_000},
            implementation="ours",
        ),
        _rllib("bc", "BC", updates=20_000),
        _rllib("iql", "IQL, RLlib", updates=10_000),
        _rllib("cql", "CQL", updates=1_000),
        _d3rlpy("dt", "Decision Transformer", "decision_transformer", updates=3_000, online=False),
        _d3rlpy("iql-d3rlpy", "IQL, d3rlpy", "iql", updates=45_000),
        _d3rlpy("awac", "AWAC", "awac", updates=27_000),
        _d3rlpy("cal-ql", "Cal-QL", "cal_ql", updates=4_200),
        _sac("rlpd", "RLPD", updates_per_step=5),
        _sac("sac", "SAC from nothing", updates_per_step=1),
    )
}
"""By name; the order is the table's."""


def chosen_methods(names: Sequence[str]) -> list[Method]:
    """The methods of these names, each once. Raises UserError for an unknown one, naming those there are."""
    for name in names:
        if name not in METHODS:
            close = difflib.get_close_matches(name, METHODS, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise UserError(f"--methods {name}: no such method{hint} There are: {', '.join(METHODS)}")
    return [METHODS[name] for name in dict.fromkeys(names)]


def labels() -> dict[str, str]:
    """Row -> label, of all methods, in the table's order."""
    return {row: label for method in METHODS.values() for row, label in method.rows.items()}


def _named(text: str) -> object:
    module, _, name = text.partition(":")
    return getattr(importlib.import_module(module), name)
