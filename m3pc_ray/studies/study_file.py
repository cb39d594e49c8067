"""Reads study files; a mistake is a `UserError` of one line that names file and key, and says what would be right."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from m3pc_ray.config import EvaluationConfig, Guide
from m3pc_ray.configuration import all_settings, convert, find_config, shipped_configs, suggestion
from m3pc_ray.errors import UserError
from m3pc_ray.studies.definition import CloningConfig, Study, StudyData, Variant
from m3pc_ray.trajectories.resolve import absolute
from m3pc_ray.yaml_text import read_yaml

KEYS = (
    "title",
    "question",
    "datasets",
    "settings",
    "seeds",
    "variants",
    "evaluation",
    "columns",
    "baseline",
    "differences",
    "figure",
    "x_label",
)
VARIANT_KEYS = tuple(field.name for field in dataclasses.fields(Variant) if field.name != "name")
NEIGHBOURS = ("trained_as", "proposes", "predicts", "critic", "start_from")
MEASURES = (
    r"score/(none|return|critic|mlp_bc)|return/(none|return|critic|mlp_bc)|planning/(none|return|critic)"
    r"|action_error/\w+|states_error/\w+"
    r"|dynamics/[1-9]\d*|rewards_error(/\w+)?|returns_error|negative_log_likelihood|entropy|training/(seconds|steps|sequences|critic_updates)"
)
"""Names a column may have; which masks there are is the model's affair."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
NOT_FOR_STUDIES = ("seed", "data.dataset", "evaluation.", "online.", "backward.")
"""Beginnings of settings that a study gives elsewhere, or does not use."""


def load_study(
    path: str | Path, data: Mapping[str, str] | None = None, settings: Mapping[str, str] | None = None
) -> Study:
    """The study of a file, or of a shipped one (`studies/specialised`).

    Args:
        path: the YAML file.
        data: data sets that replace the file's, by their names in it.
        settings: of every variant, on top of the file's own for all; a variant's still win.

    Raises:
        UserError: the file cannot be read, or what it says is no study.
    """
    found = find_config(path, sorted((shipped_configs() / "studies").glob("*.yaml")))
    return read_study(read_yaml(found), str(path), found.stem, data, settings, found.parent)


def read_study(
    tree: Mapping[str, Any],
    source: str,
    name: str,
    data: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Study:
    """The study that a mapping describes; `source` is named in errors, `folder` is where its `config` files may lie.

    Raises UserError as `load_study`.
    """
    _check_keys(tree, KEYS, source, "study")
    given, evaluation = dict(settings or {}), _mapping(tree.get("evaluation"), f"{source}: evaluation")
    for setting in [setting for setting in given if setting.startswith("evaluation.")]:
        evaluation[setting.removeprefix("evaluation.")] = given.pop(setting)
    datasets = {
        key: _read_data(value, f"{source}: datasets: {key}", (data or {}).get(key), folder, given)
        for key, value in _named(tree.get("datasets"), f"{source}: datasets").items()
    }
    described = _named(tree.get("variants"), f"{source}: variants")
    variants = {
        key: _read_variant(key, value, f"{source}: variants: {key}", list(described), list(datasets))
        for key, value in described.items()
    }
    planners, cloning = evaluation.pop("planners", list(get_args(Guide))), evaluation.pop("mlp_bc", None)
    columns = _measures(tree.get("columns"), f"{source}: columns")
    if not columns:
        raise UserError(f"{source}: columns: name the measures that the table shows, such as [score/none]")
    study = Study(
        name=name,
        title=str(tree.get("title", name)),
        question=str(tree.get("question", "")),
        datasets=datasets,
        variants=variants,
        seeds=_seeds(tree.get("seeds", [0]), f"{source}: seeds"),
        settings={
            **_settings(tree.get("settings"), f"{source}: settings"),
            **_settings(given, "command line"),
        },
        planners=tuple(_one_of(each, get_args(Guide), f"{source}: evaluation: planners") for each in _list(planners)),
        evaluation=_read_evaluation(evaluation, f"{source}: evaluation"),
        mlp_bc=None if cloning is None else _read_cloning(cloning, f"{source}: evaluation: mlp_bc"),
        columns=columns,
        baseline=_one_of(tree.get("baseline", ""), ("", *variants), f"{source}: baseline"),
        differences=_measures(tree.get("differences"), f"{source}: differences"),
        figure=_measures(tree.get("figure"), f"{source}: figure") or columns,
        x_label=str(tree.get("x_label", "")),
    )
    _check_whole(study, source)
    return study


def _read_data(
    value: Any, where: str, replaced: str | None, folder: Path | None, given: Mapping[str, str]
) -> StudyData:
    tree = _mapping(value, where)
    _check_keys(tree, ("config", "dataset", "settings"), where, "data set")
    config = str(tree.get("config", ""))
    if config:
        beside = None if folder is None else folder / config
        config = str(beside if beside is not None and beside.is_file() else find_config(config))
    dataset = replaced or str(tree.get("dataset", ""))
    if not config and not dataset:
        raise UserError(f"{where}: name a data set (dataset), or a file of settings that does (config)")
    settings = _settings(tree.get("settings"), f"{where}: settings")
    settings |= {name: value for name, value in _settings(given, "command line").items() if name in settings}
    return StudyData(config, absolute(dataset), settings)


def _read_variant(name: str, value: Any, where: str, variants: Sequence[str], datasets: Sequence[str]) -> Variant:
    tree = _mapping(value, where)
    _check_keys(tree, VARIANT_KEYS, where, "variant")
    on = _mapping(tree.get("on"), f"{where}: on")
    for dataset in (*on, *_list(tree.get("datasets", []))):
        _one_of(dataset, datasets, f"{where}: on" if dataset in on else f"{where}: datasets")
    x = tree.get("x")
    variant = Variant(
        name=name,
        label=str(tree.get("label", name.replace("_", " "))),
        settings=_settings(tree.get("settings"), f"{where}: settings"),
        on={dataset: _settings(settings, f"{where}: on: {dataset}") for dataset, settings in on.items()},
        x=None if x is None else convert(x, float, f"{where}: x"),
        line=str(tree.get("line", "")),
        datasets=tuple(_list(tree.get("datasets", []))),
        **{key: _one_of(tree[key], variants, f"{where}: {key}") for key in NEIGHBOURS if key in tree},
    )
    if bool(variant.proposes) != bool(variant.predicts):
        raise UserError(f"{where}: proposes and predicts belong together: name a variant for each")
    if variant.trained_as and variant.predicts:
        raise UserError(
            f"{where}: trained_as: this variant is made of the runs that proposes and predicts name already"
        )
    if variant.start_from and not variant.trains:
        raise UserError(f"{where}: start_from: this variant trains nothing; name its critic with `critic`")
    if name in variant.neighbours():
        raise UserError(f"{where}: names itself; name another variant")
    if not variant.trains:
        for setting in (*variant.settings, *(each for settings in variant.on.values() for each in settings)):
            if not setting.startswith("planner."):
                raise UserError(f"{where}: settings: {setting}: this variant trains nothing; only planner.* can differ")
    return variant


def _check_whole(study: Study, source: str) -> None:
    for variant in study.variants.values():
        for name in variant.neighbours():
            other = study.variants[name]
            where = f"{source}: variants: {variant.name}"
            if not other.trains:
                raise UserError(f"{where}: {name} trains no run of its own; name one that does")
            if other.start_from and variant.start_from:
                raise UserError(f"{where}: start_from: {name} starts from another run itself; name that one")
            needed = set(variant.datasets or study.datasets)
            if missing := needed - set(other.datasets or study.datasets):
                raise UserError(f"{where}: {name} is not made for {sorted(missing)[0]}")
    labels = [variant.label for variant in study.variants.values()]
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise UserError(f"{source}: variants: two have the label {twice[0]!r}; every row of the table needs its own")
    if study.differences and not study.baseline:
        raise UserError(f"{source}: differences: to which variant? Name it as baseline")
    for key, measures in (("differences", study.differences), ("figure", study.figure)):
        for measure in measures:
            _one_of(measure, study.columns, f"{source}: {key}")
    for measure in study.columns:
        kind, _, planner = measure.partition("/")
        if kind in ("score", "return", "planning") and planner != "mlp_bc" and planner not in study.planners:
            raise UserError(f"{source}: columns: {measure}: evaluation.planners does not name {planner}")
        if planner == "mlp_bc" and study.mlp_bc is None:
            raise UserError(f"{source}: columns: {measure}: needs evaluation.mlp_bc: {{steps: N, batch_size: B}}")
    for cell in study.cells():
        config = cell.config()  # whatever is out of range is known before anything is trained
        if cell.variant.start_from and config.pretrain.components == "both":
            raise UserError(
                f"{source}: variants: {cell.variant.name}: start_from: needs pretrain.components btm or critic on "
                f"{cell.dataset}; the other one is taken from {cell.variant.start_from}"
            )


def _settings(value: Any, where: str) -> dict[str, Any]:
    settings = {}
    for name, given in _mapping(value, where).items():
        if name not in all_settings():
            raise UserError(f"{where}: {name}: no such setting{suggestion(name, list(all_settings()))}")
        if name.startswith(NOT_FOR_STUDIES):
            raise UserError(f"{where}: {name}: not here; a study has seeds, datasets and evaluation for that")
        settings[name] = convert(given, all_settings()[name].annotation, f"{where}: {name}")
    return settings


def _read_evaluation(tree: Mapping[str, Any], where: str) -> EvaluationConfig:
    fields = {field.name for field in dataclasses.fields(EvaluationConfig)}
    _check_keys(tree, (*sorted(fields), "planners", "mlp_bc"), where, "evaluation")
    values = {
        key: convert(value, all_settings()[f"evaluation.{key}"].annotation, f"{where}: {key}")
        for key, value in tree.items()
    }
    for key in ("episodes", "parallel_environments"):
        if values.get(key, 1) < 1:
            raise UserError(f"{where}: {key}: must be at least 1, not {values[key]}")
    return EvaluationConfig(**values)


def _read_cloning(value: Any, where: str) -> CloningConfig:
    tree = _mapping(value, where)
    _check_keys(tree, ("steps", "batch_size"), where, "mlp_bc")
    numbers = {key: convert(tree.get(key), int, f"{where}: {key}") for key in ("steps", "batch_size")}
    if min(numbers.values()) < 1:
        raise UserError(f"{where}: steps and batch_size must be at least 1")
    return CloningConfig(**numbers)


def _measures(value: Any, where: str) -> tuple[str, ...]:
    measures = tuple(str(each) for each in _list(value, where))
    for measure in measures:
        if not re.fullmatch(MEASURES, measure):
            raise UserError(
                f"{where}: {measure}: no such measure; there are score/none, action_error/<mask>, "
                "dynamics/<k> and others, see docs/studies.md"
            )
    if len(set(measures)) < len(measures):
        raise UserError(f"{where}: a measure is named twice")
    return measures


def _seeds(value: Any, where: str) -> tuple[int, ...]:
    seeds = tuple(convert(each, int, where) for each in _list(value, where))
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UserError(f"{where}: must be a list of different whole numbers from 0 on, such as [0, 1]")
    return seeds


def _named(value: Any, where: str) -> dict[str, Any]:
    """A mapping whose keys become part of file names."""
    tree = _mapping(value, where)
    if not tree:
        raise UserError(f"{where}: at least one is needed")
    for name in tree:
        if not _NAME.fullmatch(str(name)):
            raise UserError(
                f"{where}: {name}: a name has letters, digits, - and _ alone, since folders are called by it"
            )
    return tree


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: must be a mapping, not {value}")
    if bad := [key for key in value if not isinstance(key, str)]:
        raise UserError(f"{where}: {bad[0]}: must be a name")
    return dict(value)


def _list(value: Any, where: str = "") -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise UserError(f"{where}: must be a list, not {value}".removeprefix(": "))
    return list(value)


def _one_of(value: Any, choices: Sequence[str], where: str) -> Any:
    if value not in choices:
        names = [choice for choice in choices if choice]
        raise UserError(f"{where}: {value}: not known here{suggestion(str(value), names, ', '.join(names))}")
    return value


def _check_keys(tree: Mapping[str, Any], keys: Sequence[str], where: str, what: str) -> None:
    for key in tree:
        if key not in keys:
            raise UserError(
                f"{where}: {key}: no such key of a {what}{suggestion(str(key), list(keys), ', '.join(keys))}"
            )
