"""`m3pc top RUN`: a live view of an online run, and what limits it."""

from __future__ import annotations

import argparse

SUMMARY = "watch an online run: every role live, and the setting that limits its speed"
DESCRIPTION = """\
Shows every role of a running `m3pc finetune`: throughput, batch fill, waiting for the rate limiter, weight lag, queue
sizes, memory and restarts, and in one sentence what limits the run and which setting to change. Reads RUN/live.json,
which the run replaces every two seconds, so that it needs no Ray and works wherever the run's folder is mounted.

  m3pc top runs/hopper-online                until the run ends, or Ctrl-C
  m3pc top runs/hopper-online --once
  m3pc top runs/hopper-online --json | jq .bottleneck

docs/metrics.md explains every number. A setting is changed in RUN/config.yaml while the run is interrupted, then
`m3pc resume RUN` goes on with it.

Exit code 0: the run goes on, has finished or was interrupted; 1: it failed, or its driver is gone without a word."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="folder of the run to watch")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--once", action="store_true", help="print one frame")
    how.add_argument("--json", action="store_true", help="print the status, and the findings about it, as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Shows the run; Ctrl-C is the ordinary way out."""
    import contextlib
    import json

    from rich.console import Console

    from m3pc_ray.online.watching.top import Watch, watch_live
    from m3pc_ray.training.run_folder import RunFolder

    watch = Watch(RunFolder.open(arguments.run))
    if arguments.json:
        print(json.dumps(watch.json(), indent=2))
    elif arguments.once:
        Console().print(watch.screen())
    else:
        with contextlib.suppress(KeyboardInterrupt):
            watch_live(watch, Console())
    return 1 if watch.dead else 0
