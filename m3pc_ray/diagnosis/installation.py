"""Whether Python, the installed packages and torch are what the product needs and was tested with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from m3pc_ray import __version__
from m3pc_ray.diagnosis.rows import Row

DISTRIBUTION = "m3pc-ray"
CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"
"""In a clone; an installed wheel has none, and then only the requirements of its metadata are compared."""


def check_installation(constraints: Path = CONSTRAINTS) -> list[Row]:
    """Rows on Python, on the packages and on torch."""
    return [
        _python(),
        check_packages(importlib.metadata.requires(DISTRIBUTION) or [], read_constraints(constraints)),
        *_torch(),
    ]


def _python() -> Row:
    required = importlib.metadata.metadata(DISTRIBUTION)["Requires-Python"]
    return check_python(platform.python_version(), required)


def check_python(version: str, required: str) -> Row:
    """One row: the interpreter's version against the package's `Requires-Python`, such as `>=3.11`."""
    found = f"Python {version}, m3pc_ray {__version__} (needs Python {required})"
    if satisfies(version, required):
        return Row("python", "ok", found)
    return Row("python", "failure", found, f"install Python {required} and run `make setup` again")


def check_packages(
    requirements: list[str],
    tested: Mapping[str, str],
    installed_version: Callable[[str], str] = importlib.metadata.version,
) -> Row:
    """One row: every requirement without an extra is installed in a version that it allows.

    requirements: as in the package's metadata (`torch>=2.9`). tested: canonical name -> version of constraints.txt; a
    package in another version works perhaps, but was not tested so: a warning.
    """
    wrong, other, count = [], [], 0
    for requirement in requirements:
        specification, _, marker = requirement.partition(";")
        match = re.match(r"\s*([A-Za-z0-9._-]+)\s*(?:\[[^]]*\])?\s*(.*)", specification)
        if "extra ==" in marker or match is None:
            continue
        name, bounds = match.group(1), match.group(2).strip(" ()")
        count += 1
        try:
            version = installed_version(name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing (needs {bounds or 'any version'})")
            continue
        if not satisfies(version, bounds):
            wrong.append(f"{name} {version} (needs {bounds})")
        elif canonical(name) in tested and tested[canonical(name)] != version.partition("+")[0]:
            other.append(f"{name} {version} (tested with {tested[canonical(name)]})")
    again = "install with `pip install -c constraints.txt -e .`, or `make setup` in a clone"
    if wrong:
        return Row("packages", "failure", "; ".join(wrong), again)
    if other:
        return Row("packages", "warning", "; ".join(other), f"if results differ, {again}")
    agreement = "as in constraints.txt" if tested else "as the package's metadata asks"
    return Row("packages", "ok", f"{count} required packages {agreement}")


def _torch() -> list[Row]:
    import torch

    from m3pc_ray.model.precision import resolve_precision

    threads, cores = torch.get_num_threads(), len(os.sched_getaffinity(0))
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    fast = "bfloat16" if resolve_precision("auto", "cpu") is torch.bfloat16 else "float32"
    found = (
        f"torch {torch.__version__}, built for {build}; {threads} threads on {cores} cores; fast on this CPU: {fast}"
    )
    if threads > cores:
        advice = f"set OMP_NUM_THREADS={cores} or less: threads that share a core wait for each other"
        return [Row("torch", "warning", found, advice)]
    return [Row("torch", "ok", found)]


def read_constraints(path: Path) -> dict[str, str]:
    """Canonical name -> version of a file of `name==version` lines; empty where there is no such file."""
    if not path.is_file():
        return {}
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    pins = (line.partition("==") for line in lines if "==" in line)
    return {canonical(name): version for name, _, version in pins}


def canonical(name: str) -> str:
    """A package's name as indexes compare it: `types-PyYAML` -> `types-pyyaml`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def satisfies(version: str, bounds: str) -> bool:
    """Whether a version lies within bounds such as `>=1.1,<1.3`; of a version the leading numbers count.

    Raises ValueError for an operator other than >=, <=, >, <, == and !=.
    """
    own = _numbers(version)
    for bound in filter(None, (part.strip() for part in bounds.split(","))):
        match = re.fullmatch(r"(>=|<=|==|!=|>|<)\s*([0-9][0-9A-Za-z.+*-]*)", bound)
        if match is None:
            raise ValueError(f"the bound {bound!r} is not understood")
        operator, limit = match.group(1), _numbers(match.group(2))
        size = max(len(own), len(limit))
        left, right = (numbers + (0,) * (size - len(numbers)) for numbers in (own, limit))
        holds = {
            ">=": left >= right,
            "<=": left <= right,
            ">": left > right,
            "<": left < right,
            "==": left == right,
            "!=": left != right,
        }[operator]
        if not holds:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(\.\d+)*", version)
    if match is None:
        raise ValueError(f"the version {version!r} begins with no number")
    return tuple(int(part) for part in match.group().split("."))
