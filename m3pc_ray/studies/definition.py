"""A study as its file describes it, and the cells it consists of: data set x variant x seed.

docs/studies.md shows a whole file. `study_file` reads one; settings are named by their dotted path everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from m3pc_ray.config import EvaluationConfig, Guide, RunConfig
from m3pc_ray.configuration import load_config, with_settings

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class StudyData:
    """One data set of a study."""

    config: str
    """YAML file of settings, or a shipped one such as `hopper_medium`; empty: the defaults."""
    dataset: str
    """Data set to learn from; empty: the one that `config` names."""
    settings: Settings = field(default_factory=dict)
    """Of every variant on this data set."""


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    name: str
    label: str
    settings: Settings = field(default_factory=dict)
    on: Mapping[str, Settings] = field(default_factory=dict)
    """Further settings, by data set."""
    trained_as: str = ""
    """Variant whose run this one evaluates, with planner settings of its own; empty: it trains a run of its own."""
    proposes: str = ""
    """With `predicts`: the variant whose run proposes actions; nothing is trained."""
    predicts: str = ""
    """The variant whose run predicts what they lead to."""
    critic: str = ""
    """Variant whose run's critic is used when this one is evaluated."""
    start_from: str = ""
    """Variant from whose run this one takes the component that it does not train (`pretrain.components`)."""
    x: float | None = None
    """Where it stands on the figure's axis; None: the figure has bars."""
    line: str = ""
    """The figure's line that it belongs to."""
    datasets: tuple[str, ...] = ()
    """Data sets it is made for; empty: all."""

    @property
    def trains(self) -> bool:
        """Whether a run of its own belongs to it."""
        return not self.trained_as and not self.predicts

    def neighbours(self) -> tuple[str, ...]:
        """Names of the variants whose runs it needs."""
        named = (self.trained_as, self.proposes, self.predicts, self.critic, self.start_from)
        return tuple(dict.fromkeys(name for name in named if name))


@dataclass(frozen=True)
class CloningConfig:
    """The MLP that behaviour cloning is compared by (measure `score/mlp_bc`)."""

    steps: int
    """Gradient steps."""
    batch_size: int
    """Transitions a step."""


@dataclass(frozen=True)
class Study:
    """One study file."""

    name: str
    """Of its files: OUT/<name>.md and so on."""
    title: str
    question: str
    datasets: Mapping[str, StudyData]
    variants: Mapping[str, Variant]
    seeds: tuple[int, ...]
    settings: Settings
    """Of every variant on every data set."""
    planners: tuple[Guide, ...]
    evaluation: EvaluationConfig
    mlp_bc: CloningConfig | None
    columns: tuple[str, ...]
    """Measures that the table shows."""
    baseline: str = ""
    """Variant that the others are compared with, seed by seed."""
    differences: tuple[str, ...] = ()
    """Columns that also show the difference to it."""
    figure: tuple[str, ...] = ()
    """Measures that the figure shows."""
    x_label: str = ""
    configs: dict[tuple[str, str, int], RunConfig] = field(default_factory=dict, compare=False, repr=False)
    """Of the cells' runs, as far as they were asked for: reading settings takes a while."""

    def cells(self) -> list[Cell]:
        """All cells, those that train before those that only evaluate what others trained."""
        cells = [
            Cell(self, dataset, variant, seed)
            for seed in self.seeds
            for dataset in self.datasets
            for variant in self.variants.values()
            if not variant.datasets or dataset in variant.datasets
        ]
        return sorted(cells, key=lambda cell: len(_chain(self, cell.variant)))


def _chain(study: Study, variant: Variant) -> set[str]:
    """Names of all variants that must be trained before this one is done."""
    chain: set[str] = set()
    waiting = list(variant.neighbours())
    while waiting:
        name = waiting.pop()
        if name not in chain:
            chain.add(name)
            waiting.extend(study.variants[name].neighbours())
    return chain


@dataclass(frozen=True)
class Cell:
    """One variant on one data set with one seed."""

    study: Study
    dataset: str
    variant: Variant
    seed: int

    @property
    def name(self) -> str:
        """Of its record, and of its run where it trains one: `hopper-medium-rcbc_only-s0`."""
        return f"{self.dataset}-{self.variant.name}-s{self.seed}"

    def neighbour(self, variant: str) -> Cell:
        """The cell of another variant on the same data with the same seed."""
        return Cell(self.study, self.dataset, self.study.variants[variant], self.seed)

    def trained(self) -> dict[str, Cell]:
        """The cells whose runs it is made of, by role: `predicts`, and `proposes` and `critic` where others are."""
        base = self.variant.predicts or self.variant.trained_as
        roles = {"predicts": self.neighbour(base) if base else self}
        for role, name in (("proposes", self.variant.proposes), ("critic", self.variant.critic)):
            if name and self.neighbour(name) != roles["predicts"]:
                roles[role] = self.neighbour(name)
        return roles

    def own_settings(self) -> dict[str, Any]:
        """What the study file sets for this cell; the variant's settings win over the data set's, these over all's."""
        data = self.study.datasets[self.dataset]
        variant = self.variant
        return {**self.study.settings, **data.settings, **variant.settings, **variant.on.get(self.dataset, {})}

    def planner_settings(self) -> dict[str, Any]:
        """Those of them that a finished run is evaluated with."""
        return {name: value for name, value in self.own_settings().items() if name.startswith("planner.")}

    def config(self) -> RunConfig:
        """The complete settings of its run. Raises UserError for a setting out of range."""
        key = (self.dataset, self.variant.name, self.seed)
        if key not in self.study.configs:
            self.study.configs[key] = self._read_config()
        return self.study.configs[key]

    def _read_config(self) -> RunConfig:
        data = self.study.datasets[self.dataset]
        settings = {**self.own_settings(), "seed": self.seed}
        if data.dataset:
            settings["data.dataset"] = data.dataset
        source = f"{self.study.name}, {self.variant.name} on {self.dataset}"
        return with_settings(load_config(data.config or None), settings, source)
