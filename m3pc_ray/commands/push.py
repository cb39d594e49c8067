"""`m3pc push`: a trained run to a folder, an object store or a Hugging Face repository, with a model card."""

from __future__ import annotations

import argparse

SUMMARY = "put a run's newest checkpoint into a folder, an object store or a Hugging Face repository"
DESCRIPTION = """\
Writes the newest complete checkpoint of RUN, its settings and a model card to DESTINATION. What is there already with
the same checksums is not sent again.

  m3pc push runs/hopper models/hopper
  m3pc push runs/hopper s3://bucket/models/hopper
  m3pc push runs/hopper hf://owner/hopper                (extra: hub)

Scores are in the card where RUN/evaluation.json is there: m3pc evaluate --run RUN --json RUN/evaluation.json."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("run", metavar="RUN", help="the run")
    parser.add_argument("destination", metavar="DESTINATION", help="folder, s3://..., gs://..., hf://owner/name")
    parser.add_argument("--force", action="store_true", help="replace other weights that are there")


def run(arguments: argparse.Namespace) -> int:
    """Pushes, and says what was sent."""
    from rich.console import Console

    from m3pc_ray.commands._transfer import said, shown
    from m3pc_ray.training.run_folder import RunFolder
    from m3pc_ray.zoo.places import open_place
    from m3pc_ray.zoo.transfer import push

    run_folder, console = RunFolder.open(arguments.run), Console()
    moved = push(run_folder, open_place(arguments.destination, create=True), arguments.force, shown(console))
    console.print(said("sent", moved, arguments.destination), highlight=False)
    return 0
