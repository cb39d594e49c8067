"""Reads, checks and writes the settings of `m3pc_ray.config`, from YAML files and from the command line.

A setting is named by its dotted path (`model.width`). A YAML file may name others with `include:` (one path or a list,
relative to the file); their settings come first, the file's own win, options of the command line win over both.
Every mistake is a `UserError` of one line that names where it stands, the setting, and what would be right.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import difflib
import functools
import inspect
import math
import operator
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from m3pc_ray import config as settings_module
from m3pc_ray.config import PatternDefinitions, RunConfig
from m3pc_ray.configuration_ranges import check_ranges
from m3pc_ray.errors import UserError
from m3pc_ray.mask_patterns import parse_patterns
from m3pc_ray.yaml_text import read_yaml, write_yaml

_PATTERNS = "masks.patterns"
_DESTINATION = "setting:"
"""Prefix of the argparse destinations, so that a command's own options cannot collide with settings."""


@dataclass(frozen=True)
class Setting:
    """One field of the configuration: its dotted name, type, default and help text."""

    name: str
    annotation: Any
    default: Any
    help: str


@functools.cache
def all_settings() -> dict[str, Setting]:
    """Every setting by its dotted name, in the order of `m3pc_ray.config`."""
    return {setting.name: setting for setting in _walk(RunConfig, "")}


def _walk(cls: type, prefix: str) -> list[Setting]:
    hints = typing.get_type_hints(cls, vars(settings_module))
    documentation = field_documentation(settings_module).get(cls.__name__, {})
    settings: list[Setting] = []
    for item in dataclasses.fields(cls):
        annotation = hints[item.name]
        name = prefix + item.name
        if dataclasses.is_dataclass(annotation):
            settings += _walk(typing.cast(type, annotation), name + ".")
        else:
            default = None if item.default is dataclasses.MISSING else item.default
            settings.append(Setting(name, annotation, default, documentation.get(item.name, "")))
    return settings


@functools.cache
def field_documentation(module: types.ModuleType) -> dict[str, dict[str, str]]:
    """Class name -> field name -> the string that stands under the field in a module of settings."""
    result: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.ClassDef):
            fields = result.setdefault(node.name, {})
            for statement, following in zip(node.body, node.body[1:], strict=False):
                if (
                    isinstance(statement, ast.AnnAssign)
                    and isinstance(statement.target, ast.Name)
                    and isinstance(following, ast.Expr)
                    and isinstance(following.value, ast.Constant)
                    and isinstance(following.value.value, str)
                ):
                    fields[statement.target.id] = inspect.cleandoc(following.value.value)
    return result


def load_config(path: str | Path | None, overrides: dict[str, str] | None = None) -> RunConfig:
    """The configuration of a YAML file (None: the defaults) with `overrides` (dotted name -> text) on top.

    Raises UserError for an unreadable file, an unknown setting, a value of the wrong type or out of range.
    """
    values: dict[str, tuple[Any, str]] = {}
    if path is not None:
        _read_file(find_config(path), values, ())
    for name, text in (overrides or {}).items():
        _known(name, "command line")
        values[name] = (text, "command line")
    return _assemble(values)


def given_settings(path: str | Path) -> dict[str, Any]:
    """The settings that a YAML file names, includes and all: dotted name -> value. Raises as `load_config` does."""
    values: dict[str, tuple[Any, str]] = {}
    _read_file(find_config(path), values, ())
    _assemble(values)
    return {name: value for name, (value, _) in values.items()}


def from_dict(tree: dict[str, Any], source: str = "configuration") -> RunConfig:
    """Inverse of `to_dict`; missing settings take their defaults. `source` is named in errors."""
    values: dict[str, tuple[Any, str]] = {}
    _flatten(tree, "", source, values)
    return _assemble(values)


def to_dict(config: RunConfig) -> dict[str, Any]:
    """The complete configuration as nested plain dictionaries, ready for YAML or JSON."""
    return dataclasses.asdict(config)


def to_yaml(config: RunConfig) -> str:
    """The complete configuration as YAML that `load_config` reads back to an equal object."""
    return write_yaml(to_dict(config))


def with_settings(config: RunConfig, overrides: Mapping[str, Any], source: str = "command line") -> RunConfig:
    """A copy of `config` with some settings (dotted name -> value or text) replaced and everything checked again.

    `source` is where the new values come from, for errors.
    """
    values: dict[str, tuple[Any, str]] = {}
    _flatten(to_dict(config), "", "configuration", values)
    for name, value in overrides.items():
        _known(name, source)
        values[name] = (value, source)
    return _assemble(values)


def value_of(config: RunConfig, name: str) -> Any:
    """The value of a setting, named by its dotted path."""
    return operator.attrgetter(name)(config)


def find_config(path: str | Path, among: typing.Sequence[Path] = ()) -> Path:
    """The file meant by `path`: itself, or one shipped with the package (`demo`, `sizes/paper`); `among`: shipped files
    of another kind than settings, which the error names."""
    given = Path(path).expanduser()
    shipped = shipped_configs()
    name = given.as_posix().removeprefix("configs/").removesuffix(".yaml")
    for candidate in (given, Path(f"{given}.yaml"), shipped / f"{name}.yaml"):
        if candidate.is_file():
            return candidate
    names = [str(found.relative_to(shipped).with_suffix("")) for found in among or shipped_settings()]
    raise UserError(f"{path}: no such configuration file{suggestion(name, names, ', '.join(names))}")


def shipped_configs() -> Path:
    """The folder of configuration files: inside the installed package, or `configs/` of a clone."""
    installed = Path(__file__).parent / "configs"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "configs"


def shipped_settings() -> list[Path]:
    """The shipped files that hold settings: neither goals, mask patterns, sweeps, studies nor what Ray's tools and
    Kubernetes read."""
    others = ("cluster", "goals", "patterns", "studies", "sweeps")
    return sorted(path for path in shipped_configs().rglob("*.yaml") if path.parent.name not in others)


def read_patterns_file(path: str | Path) -> PatternDefinitions:
    """The mask patterns of a YAML file, as `masks.patterns` holds them: `path` is a file or the name of a shipped one.

    Raises UserError for a file that is not there, or holds something else than patterns.
    """
    file = find_config(path, sorted((shipped_configs() / "masks/patterns").glob("*.yaml")))
    try:
        patterns = read_yaml(file)
    except UserError as error:
        if not isinstance(error.__cause__, yaml.YAMLError):
            raise
        raise UserError(f"{error}; a comparison needs quotes: states: '> t'") from error
    if not patterns:
        raise UserError(f"{file}: holds no mask pattern")
    parse_patterns(patterns, str(file))
    return patterns


def add_config_arguments(parser: argparse.ArgumentParser, sections: typing.Sequence[str] | None = None) -> None:
    """Adds `--section.field VALUE` for every setting, grouped by section, with the field's docstring as help.

    sections: names such as "planner" to offer, "" for the top-level ones; None: all. An option that the parser has
    already, such as a command's own `--seed`, is left as it is. Read the others with `given_overrides`.
    """
    groups: dict[str, Any] = {}
    for setting in all_settings().values():
        section = setting.name.rpartition(".")[0]
        if (sections is not None and section not in sections) or f"--{setting.name}" in parser._option_string_actions:
            continue
        if section not in groups:
            groups[section] = parser.add_argument_group(f"settings: {section or 'run'}")
        default = "none" if setting.default is None else setting.default
        shown = f" (default: {default})" if default != "" else ""
        groups[section].add_argument(
            f"--{setting.name}",
            dest=_DESTINATION + setting.name,
            default=argparse.SUPPRESS,
            metavar=_type_name(setting.annotation),
            help=(setting.help + shown).replace("%", "%%"),
        )


def given_overrides(arguments: argparse.Namespace) -> dict[str, str]:
    """The settings named on the command line, dotted name -> text; only those that the user gave."""
    return {
        key.removeprefix(_DESTINATION): value for key, value in vars(arguments).items() if key.startswith(_DESTINATION)
    }


# --- files -----------------------------------------------------------------------------------------------------------


def _read_file(path: Path, values: dict[str, tuple[Any, str]], chain: tuple[Path, ...]) -> None:
    resolved = path.resolve()
    if resolved in chain:
        raise UserError(
            f"{path}: include: the file includes itself ({' -> '.join(p.name for p in (*chain, resolved))})"
        )
    tree = read_yaml(path)
    included = tree.pop("include", [])
    for entry in [included] if isinstance(included, str) else included:
        beside = path.parent / str(entry)
        _read_file(beside if beside.is_file() else find_config(str(entry)), values, (*chain, resolved))
    _flatten(tree, "", str(path), values)
    patterns, source = values.get(_PATTERNS, (None, ""))
    if isinstance(patterns, str) and source == str(path) and (path.parent / patterns).is_file():
        values[_PATTERNS] = (str((path.parent / patterns).resolve()), source)  # beside the file that names it


def _flatten(tree: dict[Any, Any], prefix: str, source: str, values: dict[str, tuple[Any, str]]) -> None:
    sections = {name.rpartition(".")[0] for name in all_settings()}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and name in sections:
            _flatten(value, name + ".", source, values)
        elif name in sections and name:
            if value is not None:
                raise UserError(f"{source}: {name}: a section of settings, not a single value ({value!r})")
        else:
            _known(name, source)
            values[name] = (value, source)


def _known(name: str, source: str) -> None:
    names = list(all_settings())
    if name not in all_settings():
        raise UserError(f"{source}: {name}: no such setting{suggestion(name, names)}")


def suggestion(name: str, names: list[str], otherwise: str = "") -> str:
    """The end of an error about an unknown `name`: those of `names` that are close, else `otherwise`, what there is."""
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    tails = [candidate for candidate in names if candidate.rpartition(".")[2] == name.rpartition(".")[2]]
    close = list(dict.fromkeys(tails + close))[:3]
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; there are: {otherwise}" if otherwise else ""


# --- values -----------------------------------------------------------------------------------------------------------


def _assemble(values: dict[str, tuple[Any, str]]) -> RunConfig:
    converted: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, (value, source) in values.items():
        converted[name] = convert(value, all_settings()[name].annotation, f"{source}: {name}")
        sources[name] = source
    config: RunConfig = _build(RunConfig, "", converted)
    check_ranges(config, sources)
    return config


def _build(cls: Any, prefix: str, values: dict[str, Any]) -> Any:
    hints = typing.get_type_hints(cls, vars(settings_module))
    arguments = {}
    for item in dataclasses.fields(cls):
        name = prefix + item.name
        if dataclasses.is_dataclass(hints[item.name]):
            arguments[item.name] = _build(hints[item.name], name + ".", values)
        elif name in values:
            arguments[item.name] = values[name]
    return cls(**arguments)


def _type_name(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "{" + ",".join(str(choice) for choice in get_args(annotation)) + "}"
    if _is_optional(annotation):
        return "|".join(_type_name(part) for part in get_args(annotation) if part is not type(None)) + "|none"
    if annotation == PatternDefinitions:
        return "FILE"
    return {bool: "true|false", int: "INT", float: "FLOAT", str: "TEXT"}[annotation]


def _is_optional(annotation: Any) -> bool:
    return get_origin(annotation) in (types.UnionType, typing.Union) and type(None) in get_args(annotation)


def convert(value: Any, annotation: Any, where: str) -> Any:
    """`value` (from YAML, or text from the command line) as `annotation` says, or a UserError with `where`."""
    text = value.strip() if isinstance(value, str) else value
    if _is_optional(annotation):
        if text is None or (isinstance(text, str) and text.lower() in ("none", "null")):
            return None
        (annotation,) = (part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is Literal:
        choices = get_args(annotation)
        if text in choices:
            return text
        listing = " or ".join(str(choice) for choice in choices)
        raise UserError(f"{where}: must be {listing}, not {_shown(value)}")
    if annotation == PatternDefinitions:
        return _patterns(text, where)
    if annotation is bool:
        if isinstance(text, bool):
            return text
        if isinstance(text, str) and text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise UserError(f"{where}: must be true or false, not {_shown(value)}")
    if annotation is int:
        number = _number(text)
        if number is not None and number == int(number):
            return int(number)
        raise UserError(f"{where}: must be a whole number, not {_shown(value)}")
    if annotation is float:
        number = _number(text)
        if number is not None:
            return float(number)
        raise UserError(f"{where}: must be a number, not {_shown(value)}")
    if isinstance(value, str):
        return value
    raise UserError(f"{where}: must be text, not {_shown(value)}")


def _patterns(value: Any, where: str) -> PatternDefinitions:
    """The definitions themselves, of a file or as given: so a run's configuration holds all that its resume needs."""
    if isinstance(value, str):
        if value.lower() in ("none", ""):
            return {}
        try:
            value, where = read_patterns_file(value), f"{where}: {value}"
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{where}: must be a file of mask patterns, or a mapping of them, not {_shown(value)}")
    parse_patterns(value, where, weights_needed=True)
    return value


def _shown(value: Any) -> str:
    return "nothing" if value is None or value == "" else str(value)


def _number(value: Any) -> int | float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    for parse in (int, float):
        try:
            number = parse(value) if isinstance(value, str) else value
        except ValueError:
            continue
        return number if math.isfinite(number) else None
    return None
