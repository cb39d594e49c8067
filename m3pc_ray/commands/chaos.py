"""`m3pc chaos RUN`: kills roles of a running online run on purpose, and says what that cost."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from m3pc_ray.online.watching.chaos import Kill, Killer

SUMMARY = "kill roles of a running online run on purpose: recovery time, steps and updates lost"
DESCRIPTION = """\
Ends processes of a running `m3pc finetune` with SIGKILL, one at a time, waits until each role is back, and prints how
long that took and what was lost. Environment steps are never lost; a learner goes back to its last snapshot and does
the updates since then again.

  m3pc chaos runs/hopper-online --kill planner --every 30               until the run ends, or Ctrl-C
  m3pc chaos runs/hopper-online --kill all --every 20 --times 10 --json chaos.json
  m3pc chaos runs/hopper-online --kill rollout_worker-1 --kill learner --times 2

--kill takes a kind (rollout_worker, planner, learner, replay, evaluator), the name of one role as `m3pc top` shows it,
or all. Only processes named in RUN/live.json are killed, and only if they are Ray's. Those on other machines are
reached through the run's Ray cluster.

Exit code 0: everything killed came back or the run had finished; 1: a role did not come back, or the run failed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="folder of the running run")
    parser.add_argument("--kill", action="append", metavar="ROLE", help="what to kill; repeatable (default: all)")
    parser.add_argument(
        "--every", type=float, default=30.0, metavar="SECONDS", help="between kills, the first at once (default: 30)"
    )
    parser.add_argument("--times", type=int, metavar="N", help="kills in all (default: until the run ends)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice among roles of a kind (default: 0)")
    parser.add_argument("--json", metavar="FILE", help='write {"rows": [...]}, one row a kill')


def run(arguments: argparse.Namespace) -> int:
    """Kills, prints, writes --json; Ctrl-C ends the killing, not the run."""
    from dataclasses import asdict

    from rich.console import Console

    from m3pc_ray.commands._output import write_rows
    from m3pc_ray.errors import UserError
    from m3pc_ray.online.watching.chaos import ALL, Chaos
    from m3pc_ray.training.run_folder import RunFolder

    if arguments.every < 0:
        raise UserError(f"--every is {arguments.every:g}; seconds cannot be negative")
    if arguments.times is not None and arguments.times < 1:
        raise UserError(f"--times is {arguments.times}; at least 1 is needed")
    console = Console(highlight=False, soft_wrap=True)
    chaos = Chaos(
        RunFolder.open(arguments.run),
        _make_killer(),
        arguments.kill or [ALL],
        arguments.every,
        arguments.times,
        arguments.seed,
        lambda line: console.print(line, markup=False),
    )
    kills: list[Kill] = []
    try:
        for kill in chaos.kills():
            kills.append(kill)  # one by one: Ctrl-C leaves those so far
    finally:
        if kills:
            console.print(summary_table(kills))
        if arguments.json:
            write_rows(arguments.json, [asdict(kill) for kill in kills])
    return 1 if chaos.run_failed() or any(kill.outcome == "not recovered" for kill in kills) else 0


def _make_killer() -> Killer:
    """Processes of this machine are ended directly, others through Ray, which is loaded only for them."""
    import socket

    from m3pc_ray.errors import UserError
    from m3pc_ray.online.watching.live import LiveStatus, RoleStatus
    from m3pc_ray.online.watching.processes import end_worker

    def kill(status: LiveStatus, role: RoleStatus) -> str:
        if role.host != socket.gethostname():
            from actors.chaos import end_worker_on

            end_worker_on(status.ray_address, role.host, role.pid)
            return "SIGKILL through Ray"
        try:
            end_worker(role.pid)
        except PermissionError as error:
            raise UserError(
                f"{role.name}: process {role.pid} belongs to another user, so it cannot be killed"
            ) from error
        return "SIGKILL"

    return kill


def summary_table(kills: Sequence[Kill]) -> Table:
    """A row for every kind of role killed."""
    from rich.table import Table

    table = Table(title="kills", title_justify="left")
    table.add_column("role")
    for name in ("killed", "came back", "recovery s, mean", "max", "steps lost", "updates lost, most"):
        table.add_column(name, justify="right")
    for kind in dict.fromkeys(kill.kind for kill in kills):
        of_kind = [kill for kill in kills if kill.kind == kind]
        seconds = [kill.recovery_seconds for kill in of_kind if kill.recovery_seconds is not None]
        updates = [max(kill.updates_lost.values(), default=0) for kill in of_kind]
        table.add_row(
            kind,
            str(len(of_kind)),
            str(len(seconds)),
            f"{sum(seconds) / len(seconds):.1f}" if seconds else "-",
            f"{max(seconds):.1f}" if seconds else "-",
            f"{sum(kill.steps_lost for kill in of_kind):,}",
            f"{max(updates):,}",
        )
    return table
