"""`m3pc representations`: offline TD3 on raw observations and on the trajectory model's encoder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3pc_ray.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from m3pc_ray.representations.results import Cell, StudyFolder
    from m3pc_ray.representations.study import StudySettings
    from m3pc_ray.training.assemble import Models
    from m3pc_ray.trajectories.episodes import Trajectories

SUMMARY = "offline TD3 on raw observations against TD3 on a run's encoder: learning curves"
DESCRIPTION = """\
Trains TD3+BC on a run's training episodes with different inputs, evaluates it every so many updates, prints a table
and draws the learning curves.

  raw                   standardised observations
  state_frozen          the frozen encoder's output for the state token
  state_action_frozen   the actor as above; the critic: its outputs for state and action token together
  random_frozen         the same with an encoder that was never trained: the control
  finetuned             the same, the encoder trained with actor and critic

  m3pc representations --run runs/hopper --seeds 0,1 --json rows.json
  m3pc representations --run runs/hopper --variants raw --no-bc --out plain-td3

A cell is a variant with a seed. Ctrl-C keeps finished cells in --out, and the same command trains those that are
missing; more variants or seeds may be asked for later. docs/representations.md has the method."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    from m3pc_ray.representations.features import VARIANTS
    from m3pc_ray.representations.study import StudySettings

    default = StudySettings()
    parser.add_argument("--run", required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--variants", metavar="A,B", help=f"some of {', '.join(VARIANTS)} (default: all)")
    parser.add_argument("--seeds", default="0", metavar="0,1", help="seeds of the learner (default: 0)")
    parser.add_argument(
        "--updates", type=int, default=default.updates, metavar="N", help=f"of the critic (default: {default.updates})"
    )
    parser.add_argument(
        "--every", type=int, default=default.every, metavar="K", help=f"between evaluations (default: {default.every})"
    )
    parser.add_argument(
        "--episodes", type=int, default=default.episodes, metavar="E", help=f"of each (default: {default.episodes})"
    )
    parser.add_argument(
        "--alpha", type=float, default=default.td3.alpha, help=f"weight of Q against cloning ({default.td3.alpha})"
    )
    parser.add_argument(
        "--no-bc", action="store_true", help="plain TD3: no behaviour cloning; usually diverges offline"
    )
    parser.add_argument(
        "--encoder-learning-rate",
        type=float,
        default=default.td3.encoder_learning_rate,
        metavar="X",
        help=f"of finetuned encoders (default: {default.td3.encoder_learning_rate:g})",
    )
    parser.add_argument("--checkpoint", type=int, metavar="STEP", help="checkpoint to load (default: the newest)")
    parser.add_argument("--device", help="torch device (default: the run's)")
    parser.add_argument("--threads", type=int, default=1, metavar="K", help="CPU threads of torch (default: 1)")
    parser.add_argument("--out", metavar="DIR", help="rows, table and figure (default: RUN/representations)")
    parser.add_argument("--json", metavar="FILE", help='also write {"rows": [...]}, a row an evaluation')


def run(arguments: argparse.Namespace) -> int:
    """Trains what is missing, prints the table, draws the figure, writes --json."""
    from rich.console import Console

    from m3pc_ray.commands._output import check_json, write_rows
    from m3pc_ray.commands._runs import load_for_acting
    from m3pc_ray.evaluation.held_out import split_of_run
    from m3pc_ray.report.representations import learning_curves
    from m3pc_ray.representations.results import StudyFolder
    from m3pc_ray.representations.tables import study_table
    from m3pc_ray.training.pretraining import load_data
    from m3pc_ray.training.run_folder import RunFolder

    cells, settings = _cells(arguments), _settings(arguments)
    check_json(arguments.json)
    _, models, _ = load_for_acting(arguments, {}, ["none"])
    trajectories, _ = split_of_run(models, load_data(models.config))
    out = Path(arguments.out or Path(arguments.run) / "representations").expanduser()
    console = Console()
    study = StudyFolder(out, _facts(arguments, settings, models, trajectories))
    with RunFolder(out).exclusive():
        _train(console, study, cells, settings, models, trajectories)
    rows = study.finished_rows(cells)
    console.print(study_table(rows))
    write_rows(out / "rows.json", rows)
    for file in (learning_curves(rows, out / "learning_curves.png"), out / "rows.json"):
        console.print(f"wrote {file}", highlight=False, soft_wrap=True)
    if arguments.json:
        write_rows(arguments.json, rows)
    return 0


def _cells(arguments: argparse.Namespace) -> list[Cell]:
    """Seed by seed, so that every variant has one before any has two."""
    from m3pc_ray.representations.features import VARIANTS

    asked = VARIANTS if arguments.variants is None else [word.strip() for word in arguments.variants.split(",")]
    unknown = [name for name in asked if name not in VARIANTS]
    if unknown:
        raise UserError(f"--variants {arguments.variants}: no {unknown[0]!r}; there are {', '.join(VARIANTS)}")
    try:
        seeds = [int(word) for word in arguments.seeds.split(",")]
    except ValueError as error:
        raise UserError(f"--seeds {arguments.seeds}: write whole numbers with commas, such as 0,1") from error
    if min(seeds) < 0:
        raise UserError(f"--seeds {arguments.seeds}: seeds are 0 or more")
    return [(variant, seed) for seed in dict.fromkeys(seeds) for variant in VARIANTS if variant in asked]


def _settings(arguments: argparse.Namespace) -> StudySettings:
    import math

    from m3pc_ray.representations.study import StudySettings
    from m3pc_ray.representations.td3 import TD3Config

    for name in ("updates", "every", "episodes"):
        if getattr(arguments, name) < 1:
            raise UserError(f"--{name} is {getattr(arguments, name)}; at least 1 is needed")
    if arguments.every > arguments.updates:
        raise UserError(f"--every is {arguments.every}, more than --updates ({arguments.updates})")
    for name in ("alpha", "encoder_learning_rate"):
        if not (math.isfinite(getattr(arguments, name)) and getattr(arguments, name) > 0):
            option = name.replace("_", "-")
            raise UserError(f"--{option} is {getattr(arguments, name):g}; it must be a number above 0")
    td3 = TD3Config(
        alpha=arguments.alpha,
        behaviour_cloning=not arguments.no_bc,
        encoder_learning_rate=arguments.encoder_learning_rate,
    )
    return StudySettings(arguments.updates, arguments.every, arguments.episodes, td3)


def _facts(
    arguments: argparse.Namespace, settings: StudySettings, models: Models, trajectories: Trajectories
) -> dict[str, Any]:
    """What every cell in a folder must have in common."""
    import dataclasses

    from m3pc_ray.training.checkpoints import checkpoint_defects
    from m3pc_ray.training.run_folder import RunFolder

    run = RunFolder.open(arguments.run)
    # A damaged checkpoint is passed over when models are loaded, so it is here.
    newest = max(step for step, defect in checkpoint_defects(run).items() if defect is None)
    facts = dataclasses.asdict(settings)
    return {
        "run": str(run.path.resolve()),
        "checkpoint": newest if arguments.checkpoint is None else arguments.checkpoint,
        "dataset": trajectories.metadata.name,
        "transitions": trajectories.num_steps,
        "evaluation_seed": models.config.evaluation.seed,
        **facts.pop("td3"),
        **facts,
    }


def _train(
    console: Console,
    study: StudyFolder,
    cells: list[Cell],
    settings: StudySettings,
    models: Models,
    trajectories: Trajectories,
) -> None:
    """Trains the cells that are not finished."""
    from m3pc_ray.model.allocation import keep_freed_memory
    from m3pc_ray.model.precision import resolve_precision
    from m3pc_ray.representations.study import train_cell
    from m3pc_ray.representations.tables import study_bars
    from m3pc_ray.training.interrupt import StopRequest

    missing = [cell for cell in cells if not study.rows(cell)]
    if len(missing) < len(cells):
        console.print(f"{len(cells) - len(missing)} of {len(cells)} cells are finished", highlight=False)
    device = models.model.modality_embedding.device
    dtype = resolve_precision(models.config.pretrain.precision, device)
    if device.type == "cpu":
        keep_freed_memory()
    try:
        with StopRequest() as stop, study_bars(console, len(missing), settings.updates) as show:
            for variant, seed in missing:
                name = f"{variant}, seed {seed}"

                def look(done: int, name: str = name) -> None:
                    stop.check()
                    show(name, done, None)

                rows = train_cell(models, trajectories, variant, seed, settings, dtype, look)
                for row in study.record((variant, seed), rows):
                    show(name, row["updates"], row)
    except KeyboardInterrupt:
        console.print(f"finished cells are kept in {study.path}; the same command goes on", soft_wrap=True)
        raise
