"""The front door: `m3pc <command> ...`.

    m3pc --help                 the commands
    m3pc <command> --help       a command's options
    m3pc --version

A mistake of the user ends in one line on stderr and exit code 2, Ctrl-C in one line and 130; only a defect of the
program shows a traceback.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import logging
import os
import pkgutil
import sys
import typing
from collections.abc import Sequence
from types import ModuleType

from m3pc_ray import __doc__ as product
from m3pc_ray import __version__, commands
from m3pc_ray.errors import UserError

WORKFLOW = ("demo", "data", "pretrain", "resume", "evaluate", "finetune")
"""Order of `m3pc --help`; commands not named here follow by name."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.WARNING, format="m3pc: %(levelname)s: %(message)s")
    # Torch's threads otherwise spin while they wait for each other, and where another process wants the core too that
    # makes two threads up to ten times slower than one. Read when torch is loaded, so it stands before every import.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        return _dispatch(words)
    except UserError as error:
        print(f"m3pc: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("m3pc: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def command_names() -> list[str]:
    """Names of the commands, in the order of the help."""
    found = {
        module.name.replace("_", "-")
        for module in pkgutil.iter_modules(commands.__path__)
        if not module.name.startswith("_")
    }
    return [name for name in WORKFLOW if name in found] + sorted(found - set(WORKFLOW))


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(f"m3pc {__version__}")
        return 0
    name = words[0]
    if name not in command_names():
        close = difflib.get_close_matches(name, command_names(), n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(command_names())}"
        raise UserError(f"{name}: no such command; {hint}")
    command = _load(name)
    parser = Parser(
        prog=f"m3pc {name}",
        description=getattr(command, "DESCRIPTION", None) or command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    code: int = command.run(parser.parse_args(words[1:]))
    return code


def _load(name: str) -> ModuleType:
    return importlib.import_module(f"{commands.__name__}.{name.replace('-', '_')}")


def _overview() -> str:
    names = command_names()
    width = max(map(len, names), default=0)
    lines = [f"usage: m3pc <command> [options]\n\n{(product or '').strip()}\n\ncommands:"]
    lines += [f"  {name:<{width}}  {_load(name).SUMMARY}" for name in names]
    return "\n".join([*lines, "", "`m3pc <command> --help` lists a command's options; `m3pc --version` the version."])


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, with the nearest option, and which never guesses abbreviations."""

    def __init__(self, *arguments: typing.Any, **options: typing.Any) -> None:
        options.setdefault("allow_abbrev", False)
        super().__init__(*arguments, **options)

    def error(self, message: str) -> typing.NoReturn:
        """Raises UserError with argparse's message."""
        prefix = "unrecognized arguments: "
        if message.startswith(prefix):
            unknown = message.removeprefix(prefix).split()[0].partition("=")[0]
            known = [option for action in self._actions for option in action.option_strings]
            close = difflib.get_close_matches(unknown, known, n=1)
            message = f"{unknown}: no such option" if unknown.startswith("-") else f"{unknown}: not expected here"
            message += f"; did you mean {close[0]}?" if close else ""
        raise UserError(f"{self.prog.removeprefix('m3pc ')}: {message} (see `{self.prog} --help`)")


if __name__ == "__main__":
    sys.exit(main())
