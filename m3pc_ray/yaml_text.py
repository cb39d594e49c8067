"""YAML 1.2 as configuration files are written in: what is read and what is written back agree."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from m3pc_ray.errors import UserError


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain scalars: 2e-3 is a number, `on`, `off`, `yes` and `no` are words."""

    yaml_implicit_resolvers = {
        key: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":float", ":int"))]
        for key, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                raise yaml.constructor.ConstructorError(None, None, f"{key} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9][0-9_]*$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9]+|[0-9][0-9_]*)([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)
# PyYAML would read a leading zero as octal.
_Loader.add_constructor(
    "tag:yaml.org,2002:int",
    lambda loader, node: int(str(loader.construct_scalar(node))),  # type: ignore[arg-type]
)


class _Dumper(yaml.SafeDumper):
    """Writes floats so that they read back exactly."""


_Dumper.add_representer(float, lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:float", repr(value)))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML 1.2 file holds; an empty file gives an empty one.

    Raises UserError for a file that cannot be read, is no YAML, or holds something else.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot read the configuration: {error.strerror}") from error
    return read_yaml_text(content, str(path))


def read_yaml_text(content: bytes, source: str) -> dict[str, Any]:
    """The mapping that UTF-8 text holds as YAML 1.2; `source` is named in errors. Raises UserError as `read_yaml`."""
    try:
        tree = yaml.load(content.decode(), Loader=_Loader)
    except UnicodeDecodeError as error:
        raise UserError(f"{source}: the configuration is not UTF-8 text") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise UserError(f"{source}:{where} not valid YAML: {getattr(error, 'problem', None) or error}") from error
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise UserError(f"{source}: a configuration is a mapping of settings, this holds a {type(tree).__name__}")
    return tree


def write_yaml(tree: dict[str, Any]) -> str:
    """YAML that `read_yaml` reads back to equal values."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
