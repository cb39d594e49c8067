"""`m3pc pull`: what `m3pc push` wrote, as a run again."""

from __future__ import annotations

import argparse

SUMMARY = "fetch a run that was pushed to a folder, an object store or a Hugging Face repository"
DESCRIPTION = """\
Makes RUN of what `m3pc push` wrote to SOURCE: to evaluate, to plan with, to finetune. Every file is checked against its
checksum; interrupted, the same command goes on.

  m3pc pull models/hopper runs/hopper
  m3pc pull hf://owner/hopper runs/hopper                (extra: hub)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("source", metavar="SOURCE", help="folder, s3://..., gs://..., hf://owner/name")
    parser.add_argument("run", metavar="RUN", help="folder of the run to make")
    parser.add_argument("--force", action="store_true", help="replace a run that is there")


def run(arguments: argparse.Namespace) -> int:
    """Pulls, and says what was fetched."""
    from rich.console import Console

    from m3pc_ray.commands._transfer import said, shown
    from m3pc_ray.zoo.places import open_place
    from m3pc_ray.zoo.transfer import pull

    console = Console()
    moved = pull(open_place(arguments.source), arguments.run, arguments.force, shown(console))
    console.print(said("fetched", moved, arguments.run), highlight=False)
    return 0
