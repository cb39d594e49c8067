"""`m3pc reach`: goals that nobody demonstrated, by backward M³PC and by its baselines."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from m3pc_ray.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from m3pc_ray.evaluation.reaching.reach import Reached
    from m3pc_ray.goals.task import Facts, GoalProblem
    from m3pc_ray.goals.waypoints import Waypoints
    from m3pc_ray.planning.backward import GoalPlanner
    from m3pc_ray.training.assemble import Models
    from m3pc_ray.trajectories.episodes import Trajectories

MOST_SEED = 2**31 - 1
SUMMARY = "steer a run to goals nobody demonstrated (backward M³PC) and measure it"
DESCRIPTION = """\
Steers to the waypoints of a task with backward M³PC and with its baselines, the same episodes for each, and prints how
closely they followed, how often they succeeded, and how far outside the data they came.

  m3pc reach --run runs/hopper --task hopper-wiggle --episodes 5
  m3pc reach --run runs/hopper --task hopper-wiggle --set frequency_hz=3 --planner backward
  m3pc reach --run runs/walker2d --task waypoints.csv --json rows.json
  m3pc reach --run runs/cheetah --task halfcheetah-flip --preview

--task is hopper-wiggle, walker2d-split, halfcheetah-flip, a YAML file as in configs/goals/, or waypoints of your own:
FILE.csv, FILE.parquet or FILE.py:function (docs/goals.md). The folder --out gets tracking.png (wanted against reached),
cloud.png (the states reached among those of the data), places.png where the task is about a place, a film of each
planner's first episode, and the record they were made from."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options and those of the planner's settings."""
    from m3pc_ray.commands._films import STYLES
    from m3pc_ray.configuration import add_config_arguments
    from m3pc_ray.planning.backward import GOAL_PLANNERS

    parser.add_argument("--run", required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--task", required=True, metavar="TASK", help="task, YAML file or waypoints")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="setting of the task; repeatable"
    )
    parser.add_argument(
        "--planner",
        action="append",
        choices=GOAL_PLANNERS,
        help="backward: M³PC; goal_mask: the action at once; bc: blind to the goal; repeatable (default: all)",
    )
    parser.add_argument("--episodes", type=int, default=5, help="episodes a planner (default: 5)")
    parser.add_argument("--seed", type=int, default=1000, help="seed of the first; episode i resets with seed + i")
    parser.add_argument("--dataset", metavar="REF", help="data to compare with (default: the run's)")
    parser.add_argument("--checkpoint", type=int, metavar="STEP", help="checkpoint to load (default: the newest)")
    parser.add_argument("--device", help="torch device (default: the run's)")
    parser.add_argument("--threads", type=int, metavar="K", help="CPU threads of torch (default: all cores)")
    parser.add_argument("--out", metavar="FOLDER", help="record, figures and films (default: RUN/reach/TASK)")
    parser.add_argument("--json", metavar="FILE", help='also write {"rows": [...]}')
    parser.add_argument("--preview", action="store_true", help="show the waypoints themselves; nothing is simulated")
    parser.add_argument(
        "--video-style",
        choices=STYLES,
        default="auto",
        help="films drawn by MuJoCo, as stick figures, or none (auto: by MuJoCo where it can draw)",
    )
    parser.add_argument("--video-format", choices=("gif", "webp", "mp4"), default="gif", help="(default: gif)")
    parser.add_argument(
        "--slow-motion", type=float, default=2.0, metavar="X", help="times slower than it happened (default: 2)"
    )
    add_config_arguments(parser, ["backward"])


def run(arguments: argparse.Namespace) -> int:
    """Plays, prints the table, writes record, figures, films and --json."""
    from rich.console import Console

    from m3pc_ray.commands._films import choose_style
    from m3pc_ray.commands._output import check_json, write_rows
    from m3pc_ray.evaluation.reaching.reach import compare, make_facts
    from m3pc_ray.evaluation.reaching.tables import details_table, reach_bars, reach_table
    from m3pc_ray.goals.tasks import load_task
    from m3pc_ray.planning.backward import GOAL_PLANNERS
    from m3pc_ray.report.animation import check_ending

    if arguments.episodes < 1:
        raise UserError(f"--episodes is {arguments.episodes}; at least 1 is needed")
    if not 0 < arguments.slow_motion <= 1000:
        raise UserError(f"--slow-motion is {arguments.slow_motion:g}; it must be above 0 and at most 1000")
    if not 0 <= arguments.seed <= MOST_SEED:
        raise UserError(f"--seed is {arguments.seed}; it must lie between 0 and {MOST_SEED}")
    if arguments.preview and arguments.json:
        raise UserError("--preview plays nothing, so there are no rows for --json")
    check_ending(f"film.{arguments.video_format}")  # before anything is played
    task_file = load_task(arguments.task, _settings(arguments.set))
    models, checkpoint = _load(arguments, task_file.backward)
    facts = make_facts(models, _trajectories(arguments, models))
    name = _task_name(arguments.task)
    problem = dataclasses.replace(task_file.task.problem(facts), name=name)
    console, stderr = Console(), Console(stderr=True)
    style, notice = choose_style(arguments.video_style, models.environment_id, models.time_limit)
    _warn(stderr, models, problem, notice)
    console.print(f"{len(problem.waypoints)} waypoints: {problem.waypoints.source}", highlight=False, soft_wrap=True)
    out = Path(arguments.out or Path(arguments.run) / "reach" / name).expanduser()
    _check_folder(out)
    check_json(arguments.json)
    if arguments.preview and style == "none":
        raise UserError(notice or "--preview shows the waypoints, which --video-style none forbids")
    if arguments.preview:
        return _preview(console, facts, problem, out, arguments, style)
    planners: list[GoalPlanner] = list(dict.fromkeys(arguments.planner or GOAL_PLANNERS))
    seeds = [arguments.seed + index for index in range(arguments.episodes)]
    with reach_bars(console, planners) as bars:
        about = {
            "run": str(arguments.run),
            "checkpoint": checkpoint,
            "dataset": facts.trajectories.metadata.name,
            "settings": dataclasses.asdict(task_file.task),
        }
        found = compare(models, facts, problem, planners, seeds, progress=bars.__getitem__, about=about)
    console.print(reach_table(found.rows, found.setting.success))
    console.print(details_table(found.rows))
    written = _write(found, out)
    if arguments.json:
        write_rows(arguments.json, found.rows)
    written += _films(console, found, out, arguments, style)
    for file in written:
        console.print(f"wrote {file}", highlight=False, soft_wrap=True)
    return 0


def _task_name(task: str) -> str:
    """In titles and below RUN/reach: `hopper-wiggle`, or the name of the user's file, with that of the function."""
    file, _, function = task.partition(":")
    return "-".join([Path(file).stem, *([function] if function else [])]).replace("_", "-")


def _settings(given: list[str]) -> dict[str, str]:
    settings = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator:
            raise UserError(f"--set {text}: write it as NAME=VALUE, such as frequency_hz=3")
        settings[name.strip()] = value.strip()
    return settings


def _load(arguments: argparse.Namespace, task_settings: dict[str, object]) -> tuple[Models, int]:
    """The run's models and the step of their checkpoint.

    Planner settings of the command line go before those of the task, which go before those of the run.
    """
    from m3pc_ray.commands._runs import load_for_acting
    from m3pc_ray.configuration import given_overrides
    from m3pc_ray.training.checkpoints import checkpoint_defects

    overrides = {f"backward.{name}": str(value) for name, value in task_settings.items()}
    folder, models, _ = load_for_acting(arguments, overrides | given_overrides(arguments), ["none"])
    if arguments.checkpoint is not None:
        return models, arguments.checkpoint
    # A damaged one is passed over when models are loaded, so it is here.
    return models, max(step for step, defect in checkpoint_defects(folder).items() if defect is None)


def _trajectories(arguments: argparse.Namespace, models: Models) -> Trajectories:
    from m3pc_ray.trajectories.resolve import locate, read

    data = models.config.data
    try:
        location = locate(arguments.dataset or data.dataset, data.folder)
    except UserError as error:
        raise UserError(f"{error} (the data that goals are compared with; name it with --dataset)") from error
    return read(location, data.environment)


def _warn(console: Console, models: Models, problem: GoalProblem, notice: str) -> None:
    masks = models.config.masks
    lines = list(problem.warnings)
    trained = masks.test_mask_fraction > 0 and masks.path_inpainting_weight > 0 and masks.inverse_dynamics_weight > 0
    if not trained:
        lines.append(
            "the run was trained without the masks of backward planning, so it can hardly follow; train one with "
            "`include: masks/goals.yaml` in its configuration (docs/goals.md)"
        )
    for line in [*lines, *([notice] if notice else [])]:
        console.print(f"m3pc: warning: {line}", highlight=False, soft_wrap=True)


def _check_folder(out: Path) -> None:
    """Raises UserError, before anything is played, where the results could not be written."""
    record = out / "record"
    if record.exists() and not (record / "reach.json").is_file():
        raise UserError(f"{record}: exists and is no record of m3pc reach; give another --out")
    if any(folder.exists() and not folder.is_dir() for folder in (out, *out.parents)):
        raise UserError(f"{out}: is no folder, or lies in none; give another --out")


def _preview(
    console: Console, facts: Facts, problem: GoalProblem, out: Path, arguments: argparse.Namespace, style: str
) -> int:
    from m3pc_ray.commands._films import write_preview
    from m3pc_ray.environments.make import make_environment
    from m3pc_ray.goals.reading import write_waypoints

    path = out / f"preview.{arguments.video_format}"
    points = _within(problem.waypoints, facts.time_limit)
    table = out / "waypoints.csv"
    with tempfile.TemporaryDirectory() as folder:
        if points.moving is None:
            fresh = Path(folder) / table.name
            write_waypoints(points, fresh, facts.environment_id)
            if table.exists() and table.read_bytes() != fresh.read_bytes():
                raise UserError(f"{table}: holds other waypoints, perhaps yours; move it away or give another --out")
            if not table.exists():
                table.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(fresh, table)
    environment = make_environment(facts.environment_id, time_limit=facts.time_limit)
    try:
        write_preview(environment, points.steps, points.states, problem.name, path, style, arguments.slow_motion)
    finally:
        environment.close()
    written = [path, path.with_suffix(".png")]
    if points.moving is None:
        written.append(table)
    else:
        console.print("the waypoints drift: shown where they start; no table can hold them", soft_wrap=True)
    for file in written:
        console.print(f"wrote {file}", highlight=False, soft_wrap=True)
    return 0


def _within(waypoints: Waypoints, time_limit: int) -> Waypoints:
    """Those that there is time for."""
    inside = waypoints.steps <= (time_limit or waypoints.steps[-1])
    return dataclasses.replace(waypoints, steps=waypoints.steps[inside], states=waypoints.states[inside])


def _write(found: Reached, out: Path) -> list[Path]:
    """Record and figures; those that an earlier comparison left there go, its films too."""
    from m3pc_ray.evaluation.reaching.record import write_record
    from m3pc_ray.planning.backward import GOAL_PLANNERS
    from m3pc_ray.report.reach import cloud_figure, tracking_figure
    from m3pc_ray.report.reach_places import places_figure

    record = out / "record"
    replaced = record.exists()
    write_record(record, found.setting, found.episodes, found.rows, found.cloud, overwrite=True)
    if replaced:
        for name in (*GOAL_PLANNERS, "tracking", "cloud", "places"):
            for ending in ("gif", "webp", "mp4", "png"):
                (out / f"{name}.{ending}").unlink(missing_ok=True)
    drawn = [tracking_figure(record, out / "tracking.png"), cloud_figure(record, out / "cloud.png")]
    places = places_figure(record, out / "places.png")
    return drawn if places is None else [*drawn, places]


def _films(console: Console, found: Reached, out: Path, arguments: argparse.Namespace, style: str) -> list[Path]:
    """A film of each planner's first episode."""
    from m3pc_ray.commands._films import write_film
    from m3pc_ray.environments.make import make_environment

    if style == "none":
        return []
    written = []
    environment = make_environment(found.setting.environment, time_limit=found.time_limit)
    try:
        with console.status("drawing films"):
            for planner, episodes in found.episodes.items():
                key = found.setting.key_dimension
                path = out / f"{planner}.{arguments.video_format}"
                dimension = found.setting.dimensions[key]
                write_film(environment, episodes[0], key, dimension, path, style, arguments.slow_motion)
                written.append(path)
    finally:
        environment.close()
    return written
