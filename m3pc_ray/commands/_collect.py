"""`m3pc data collect`: data sets made here, by SAC trained to a level, a saved agent or a scripted expert."""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from m3pc_ray.errors import UserError

if TYPE_CHECKING:
    from m3pc_ray.collection.recipe import Recipe
    from m3pc_ray.training.interrupt import StopRequest

DESCRIPTION = """\
Makes a data set in D4RL's manner, or of what a saved agent plays.

  m3pc data collect --environment Hopper-v4 --level 0.4 --steps-medium 100000 --out data/hopper-sac
  m3pc data collect --environment Pendulum-v1 --return -300 --steps-medium 10000 --out data/pendulum-sac
  m3pc data collect --agent runs/hopper --planner critic --episodes 100 --out data/hopper-critic
  m3pc data collect --agent data/hopper-sac --episodes 50 --noise 0.1 --out data/hopper-noisy
  m3pc data collect --expert can-paired --episodes 100 --noise 0.1 --hesitation 0.1 --out data/can-paired
  m3pc data collect --expert lift --episodes 200 --noise 0.8 --clumsiness 0.01 --noise-varies --out data/lift-machine

With --environment, SAC (extra `baselines`) trains until the mean return of drawn episodes reaches the level; DIR/medium
then holds drawn episodes of that policy, DIR/medium-replay the replay buffer up to there, in order. With --agent,
DIR/rollouts holds its episodes; the agent is a run, or a DIR that was collected with SAC. With --expert, a script plays
a manipulation task (robosuite, `make manipulation-env`). Everything is written as a trajectory store and, beside it, as
HDF5 in D4RL's layout, or robomimic's for manipulation tasks; DIR/recipe.json says how it was made. After Ctrl-C the
same command goes on. docs/data.md and docs/manipulation.md have the details."""

SAC_OPTIONS = ("level", "return", "steps_medium", "max_steps", "evaluate_every", "evaluation_episodes")
AGENT_OPTIONS = ("episodes", "noise", "stochastic", "planner")
EXPERT_OPTIONS = ("episodes", "noise", "clumsiness", "hesitation", "noise_varies")
_OPTIONS = {"environment": SAC_OPTIONS, "agent": AGENT_OPTIONS, "expert": EXPERT_OPTIONS}
"""Who plays -> the options that are about it."""
EXPERTS = (
    "lift lifts the cube; can puts the can into its compartment; can-paired does so from every beginning, and then "
    "throws the can off the table from the same; square puts the nut over the square peg"
)
_SETTING = "sac:"
"""Prefix of the destinations of SAC's settings, whose options are `--sac.name`."""
LINE_SECONDS = 20.0
"""Between two lines where the output is a file and no bar can be drawn."""


def add_action(actions: Any) -> None:
    """Adds the action to the subparsers of `m3pc data`."""
    command = actions.add_parser(
        "collect",
        help="make a data set: train SAC to a level, or let a saved agent or a scripted expert play",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    who = command.add_mutually_exclusive_group(required=True)
    who.add_argument("--environment", metavar="ID", help="Gymnasium environment in which SAC is trained")
    who.add_argument("--agent", metavar="RUN_OR_SAC", help="a run, or a folder that was collected with SAC: it plays")
    who.add_argument("--expert", metavar="NAME", help=f"a scripted expert: {EXPERTS}")
    command.add_argument("--out", required=True, metavar="DIR", help="folder to make, or to go on with")
    command.add_argument("--seed", type=int, default=0, help="seed of everything random (default: 0)")
    command.add_argument(
        "--parallel", type=int, metavar="N", help="environments played side by side (default: 8; an expert: 1)"
    )
    command.add_argument("--threads", type=int, default=0, help="CPU threads of torch (default: 0, as torch chooses)")
    sac = command.add_argument_group("with --environment")
    sac.add_argument("--level", type=float, metavar="FRACTION", help="normalised score to reach: 0 random, 1 expert")
    sac.add_argument("--return", type=float, metavar="RETURN", help="mean return to reach, without reference scores")
    sac.add_argument("--steps-medium", type=int, metavar="N", help="least steps of `medium` (default: 100,000)")
    sac.add_argument("--max-steps", type=int, metavar="N", help="steps after which SAC gives up (default: 1,000,000)")
    sac.add_argument("--evaluate-every", type=int, metavar="N", help="steps between evaluations (default: 5,000)")
    sac.add_argument("--evaluation-episodes", type=int, metavar="N", help="episodes of each (default: 10)")
    agent = command.add_argument_group("with --agent or --expert")
    agent.add_argument("--episodes", type=int, metavar="N", help="episodes to play")
    agent.add_argument("--noise", type=float, metavar="S", help="noise on actions: its deviation in half ranges")
    agent = command.add_argument_group("with --agent")
    agent.add_argument("--stochastic", action="store_true", default=None, help="draw actions instead of the mean")
    agent.add_argument("--planner", choices=["none", "return", "critic"], help="of a run (default: its own)")
    expert = command.add_argument_group("with --expert")
    expert.add_argument(
        "--clumsiness", type=float, metavar="METRES", help="how far beside the object it reaches, standard deviation"
    )
    expert.add_argument(
        "--hesitation", type=float, metavar="P", help="chance at each step that it changes its pace (default: 0)"
    )
    expert.add_argument(
        "--noise-varies",
        action="store_true",
        default=None,
        help="every episode draws its own deviation of the noise, from 0 to --noise",
    )
    _add_settings(command)
    command.set_defaults(act=collect)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """`--sac.name VALUE` for every setting of SAC, explained by the words under its field."""
    import dataclasses

    from m3pc_ray.configuration import field_documentation
    from m3pc_ray.sac import settings

    group = parser.add_argument_group("settings of SAC")
    words = field_documentation(settings)["SacSettings"]
    for field in dataclasses.fields(settings.SacSettings):
        group.add_argument(
            f"--sac.{field.name}",
            dest=_SETTING + field.name,
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=f"{words[field.name]} (default: {field.default})".replace("%", "%%"),
        )


def collect(arguments: argparse.Namespace) -> None:
    """`m3pc data collect`"""
    import torch

    from m3pc_ray.training.interrupt import StopRequest

    _check_options(arguments)
    if arguments.threads < 0:
        raise UserError(f"--threads is {arguments.threads}; it must be 0 or more")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    folder = Path(arguments.out).expanduser()
    with StopRequest() as stop, _Shown(stop) as shown:
        ways = {"environment": _collect_with_sac, "agent": _collect_with_agent, "expert": _collect_with_expert}
        recipe = ways[_way(arguments)](arguments, folder, shown)
    for name, row in recipe.content["datasets"].items():
        score = f", score {row['score_mean']:.1f}" if "score_mean" in row else ""
        returns = f", mean return {row['return_mean']:.1f}{score}" if "return_mean" in row else ""
        print(f"{folder / name}: {row['episodes']:,} episodes, {row['steps']:,} steps{returns}")


def _collect_with_sac(arguments: argparse.Namespace, folder: Path, shown: _Shown) -> Recipe:
    from m3pc_ray.collection.sac_data import SacData, collect_sac_data

    given = {name: value for name, value in vars(arguments).items() if name in SAC_OPTIONS and value is not None}
    if "return" in given:
        given["raw_return"] = given.pop("return")
    asked = SacData(
        arguments.environment,
        seed=arguments.seed,
        parallel=_given(arguments.parallel, 8),
        settings=_settings(arguments),
        **given,
    )
    return collect_sac_data(asked, folder, _command(arguments), shown.report, arguments.threads)


def _collect_with_agent(arguments: argparse.Namespace, folder: Path, shown: _Shown) -> Recipe:
    from m3pc_ray.collection.agent_data import AgentData, collect_agent_data

    asked = AgentData(
        arguments.agent,
        _episodes(arguments),
        arguments.seed,
        not arguments.stochastic,
        arguments.noise or 0.0,
        arguments.planner,
        _given(arguments.parallel, 8),
    )
    return collect_agent_data(asked, folder, _command(arguments), shown.report)


def _collect_with_expert(arguments: argparse.Namespace, folder: Path, shown: _Shown) -> Recipe:
    from m3pc_ray.collection.expert_data import ExpertData, collect_expert_data

    asked = ExpertData(
        arguments.expert,
        _episodes(arguments),
        arguments.seed,
        arguments.noise or 0.0,
        arguments.clumsiness or 0.0,
        arguments.hesitation or 0.0,
        bool(arguments.noise_varies),
        _given(arguments.parallel, 1),
    )
    return collect_expert_data(asked, folder, _command(arguments), shown.report)


def _episodes(arguments: argparse.Namespace) -> int:
    if arguments.episodes is None:
        raise UserError(f"--{_way(arguments)} needs --episodes, the number of episodes to play")
    return int(arguments.episodes)


def _given(value: int | None, default: int) -> int:
    return default if value is None else value


def _way(arguments: argparse.Namespace) -> str:
    """Who plays: the option that was given of those that exclude each other."""
    return next(way for way in _OPTIONS if getattr(arguments, way))


def _check_options(arguments: argparse.Namespace) -> None:
    """Raises UserError for an option that belongs to another way of collecting."""
    way = _way(arguments)
    owners: dict[str, list[str]] = {}
    for owner, names in _OPTIONS.items():
        for name in names:
            owners.setdefault(name, []).append(owner)
    for name, own in owners.items():
        if way not in own and getattr(arguments, name) is not None:
            belongs = " and ".join(f"--{each}" for each in own)
            raise UserError(f"--{name.replace('_', '-')}: belongs to {belongs}, not to --{way}")
    settings = [name for name in vars(arguments) if name.startswith(_SETTING)]
    if settings and way != "environment":
        raise UserError(f"--sac.{settings[0].removeprefix(_SETTING)}: belongs to --environment, not to --{way}")


def _settings(arguments: argparse.Namespace) -> Any:
    import typing

    from m3pc_ray.configuration import convert
    from m3pc_ray.sac.settings import SacSettings

    kinds = typing.get_type_hints(SacSettings)
    given = {name.removeprefix(_SETTING): value for name, value in vars(arguments).items() if name.startswith(_SETTING)}
    return SacSettings(**{name: convert(value, kinds[name], f"sac.{name}") for name, value in given.items()})


def _command(arguments: argparse.Namespace) -> str:
    """The command with all options that were given, as a shell takes it."""
    words = ["m3pc", "data", "collect"]
    for name, value in vars(arguments).items():
        if name in ("act", "action", "folder") or value is None:
            continue
        option = f"--sac.{name.removeprefix(_SETTING)}" if name.startswith(_SETTING) else f"--{name.replace('_', '-')}"
        words += [option] if value is True else [option, str(value)]
    return shlex.join(words)


class _Shown:
    """A bar a phase on a terminal, a line now and then in a log file; asks for Ctrl-C at every report."""

    def __init__(self, stop: StopRequest) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._stop = stop
        self._console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        words = TextColumn("{task.fields[words]}")
        self._bar = Progress(*columns, words, console=self._console, disable=not self._console.is_terminal)
        self._tasks: dict[str, Any] = {}
        self._last_line = 0.0

    def report(self, phase: str, done: int, total: int, words: str) -> None:
        """See `collection.sac_data.Report`."""
        if phase not in self._tasks:
            self._tasks[phase] = self._bar.add_task(phase, total=total, words=words)
        self._bar.update(self._tasks[phase], completed=done, total=total, words=words)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last_line > LINE_SECONDS:
            self._last_line = now
            self._console.print(f"{phase}: {done:,} of {total:,}  {words}", highlight=False)
        self._stop.check()

    def __enter__(self) -> _Shown:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
