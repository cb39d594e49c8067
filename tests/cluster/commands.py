"""The command lines of a page, each checked by the parser of the tool that it is for."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from ray.scripts.scripts import cli as ray_cli

from m3pc_ray import cli
from m3pc_ray.configuration import given_overrides, load_config
from tests.faults.driver import REPOSITORY

VARIABLES = {"RAY_AUTH_MODE", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"}
"""That a page may set."""
FOREIGN = {
    "docker build": {"-f", "-t"},
    "docker push": set(),
    "kubectl apply": {"-f"},
    "kubectl get": set(),
    "kubectl logs": {"--follow"},
}
"""Commands of tools that are not installed here, and the options of theirs that a page may use."""


class UnknownCommandError(AssertionError):
    """A line that no tool here takes."""


def command_lines(page: Path) -> Iterator[str]:
    """Lines of the page's fenced blocks that name no language, without comments."""
    inside = None
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            inside = None if inside is not None else line.removeprefix("```")
        elif inside == "":
            command = re.sub(r"(^|\s)#.*", "", line).strip()
            if command:
                yield command


def check(line: str) -> None:
    """Raises UnknownCommandError, UserError, SystemExit or click's errors where the tool would not take the line."""
    words = shlex.split(line)
    if words[0] == "export":
        words, assignments = [], words[1:]
    else:
        count = next(index for index, word in enumerate(words) if not re.fullmatch(r"[A-Z_]+=.*", word))
        assignments, words = words[:count], words[count:]
    for assignment in assignments:
        if assignment.partition("=")[0] not in VARIABLES:
            raise UnknownCommandError(f"{line}: nothing here reads {assignment}")
    if words:
        _check_words(words, line)
    for word in words:
        if re.match(r"(configs|docs)/", word) and not (REPOSITORY / word).is_file():
            raise UnknownCommandError(f"{line}: no file {word}")


def _check_words(words: list[str], line: str) -> None:
    match words:
        case ["m3pc", *rest]:
            _check_m3pc(rest)
        case ["ray", *rest]:
            after = rest[rest.index("--") + 1 :] if "--" in rest else []
            _check_ray(rest[: rest.index("--")] if "--" in rest else rest, after)
            if after:
                _check_words(after if rest[0] == "job" else ["m3pc", *after], line)
        case [tool, verb, *rest] if f"{tool} {verb}" in FOREIGN:
            unknown = {word for word in rest if word.startswith("-")} - FOREIGN[f"{tool} {verb}"]
            if unknown:
                raise UnknownCommandError(f"{line}: {unknown}")
        case _:
            raise UnknownCommandError(f"{line}: no test knows this command")


def _check_m3pc(words: list[str]) -> None:
    if words[0] not in cli.command_names():
        raise UnknownCommandError(f"m3pc {words[0]}: no such command")
    command = cli._load(words[0])
    parser = cli.Parser(prog=f"m3pc {words[0]}")
    command.add_arguments(parser)
    arguments = parser.parse_args(words[1:])
    overrides = given_overrides(arguments)
    if words[0] in ("finetune", "doctor", "pretrain"):
        load_config(arguments.config, overrides)


def _check_ray(words: list[str], after: list[str]) -> None:
    command, names = ray_cli, []
    while hasattr(command, "commands"):
        if not words or words[0] not in command.commands:
            raise UnknownCommandError(f"ray {' '.join([*names, *words[:1]])}: no such command")
        command = command.commands[words[0]]
        names.append(words[0])
        words = words[1:]
    command.make_context(
        " ".join(["ray", *names]), [*words, *(["--", *after] if after else [])]
    )  # parses, runs nothing
