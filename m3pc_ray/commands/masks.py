"""`m3pc masks`: mask patterns as pictures, and the errors of a run under them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m3pc_ray.mask_patterns import MaskPattern
    from m3pc_ray.report.masks import MaskDrawing

SUMMARY = "draw mask patterns, built in and your own, and measure a run's errors under them"
DESCRIPTION = """\
Prints every mask as a grid of modalities by steps and draws the same as FOLDER/masks.png: what is visible, what is
hidden, what is asked for. With --patterns those of a YAML file too (docs/masks.md), with --run those that the run was
trained with, and the run's errors on held-out episodes in what each pattern asks for.

  m3pc masks
  m3pc masks --patterns mine.yaml --t 3 --out pictures
  m3pc masks --patterns masks/patterns/forecasts --run runs/hopper --json errors.json"""

BUILT_IN = "masks/patterns/built_in"
SEGMENT_LENGTH, CONTEXT_LENGTH = 8, 3
"""Without a run: a window as the default settings have it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--patterns", metavar="FILE", help="YAML file of patterns, or a shipped one by its name")
    parser.add_argument("--run", metavar="RUN", help="run whose errors are measured")
    parser.add_argument("--dataset", metavar="REF", help="data set of the errors (default: the run's)")
    parser.add_argument(
        "--t",
        type=int,
        nargs="+",
        metavar="STEP",
        help="current steps (default: where evaluation has it; drawn at the first and the last but one too)",
    )
    parser.add_argument(
        "--segment-length", type=int, metavar="T", help=f"steps of the window (default: the run's, or {SEGMENT_LENGTH})"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of random masks (default: 0)")
    parser.add_argument("--out", metavar="FOLDER", default=".", help="where masks.png goes (default: here)")
    parser.add_argument("--checkpoint", type=int, metavar="STEP", help="checkpoint to load (default: the newest)")
    parser.add_argument("--device", help="torch device (default: the run's)")
    parser.add_argument("--threads", type=int, metavar="K", help="CPU threads of torch (default: all cores)")
    parser.add_argument("--json", metavar="FILE", help='also write {"rows": [...]}: a row a mask, a row an error')


def run(arguments: argparse.Namespace) -> int:
    """Prints and draws, with a run measures, writes --json."""
    from pathlib import Path

    from rich.console import Console

    from m3pc_ray.commands._output import write_rows
    from m3pc_ray.commands._runs import load_for_acting
    from m3pc_ray.configuration import read_patterns_file
    from m3pc_ray.errors import UserError
    from m3pc_ray.mask_patterns import MODALITIES, parse_patterns
    from m3pc_ray.report.masks import legend_text, mask_figure, mask_text

    for name in ("dataset", "checkpoint", "device"):
        if getattr(arguments, name) is not None and not arguments.run:
            raise UserError(f"--{name}: needs --run, whose errors it is about")
    if arguments.seed < 0:
        raise UserError(f"--seed is {arguments.seed}; it counts from 0")
    models = load_for_acting(arguments, {}, None)[1] if arguments.run else None
    length, context = SEGMENT_LENGTH, CONTEXT_LENGTH
    if models is not None:
        length, context = models.config.model.segment_length, models.config.planner.context_length
        if arguments.segment_length not in (None, length):
            raise UserError(f"--segment-length is {arguments.segment_length}; the run's windows have {length} steps")
    elif arguments.segment_length is not None:
        length = arguments.segment_length
    if not 2 <= length <= 64:
        raise UserError(f"--segment-length is {length}; it must be in [2, 64]")
    at = min(context, length - 1)
    for t in arguments.t or ():
        if not 0 <= t < length:
            raise UserError(f"--t is {t}; a window of {length} steps has 0 to {length - 1}")

    sources = [("built in", read_patterns_file(BUILT_IN))]
    if models is not None and models.config.masks.patterns:
        sources.append(("run", models.config.masks.patterns))
    if arguments.patterns:
        sources.append((arguments.patterns, read_patterns_file(arguments.patterns)))
    found: dict[str, tuple[str, MaskPattern]] = {}  # a later source's pattern takes the place of one of the same name
    for source, tree in sources:
        for pattern in parse_patterns(tree, source).values():
            problem = pattern.problem(length)
            if problem and source != "built in":
                raise UserError(f"{source}: {problem}")
            found[pattern.name] = (source, pattern)
    patterns = list(found.values())

    drawn_at = list(dict.fromkeys(arguments.t or sorted({0, at, max(0, length - 2)})))
    drawings, rows = _drawings(patterns, length, drawn_at, arguments.seed)
    console = Console()
    for drawing in drawings:
        console.print(mask_text(drawing, MODALITIES, console.width), end="")
    console.print(legend_text())
    picture = mask_figure(drawings, MODALITIES, Path(arguments.out).expanduser() / "masks.png")
    console.print(f"picture: {picture}\n", soft_wrap=True)
    if models is not None:
        rows += _measure(models, patterns, arguments, list(dict.fromkeys(arguments.t or [at])), console)
    if arguments.json:
        write_rows(arguments.json, rows)
    return 0


def _drawings(
    patterns: list[tuple[str, MaskPattern]], length: int, drawn_at: list[int], seed: int
) -> tuple[list[MaskDrawing], list[dict[str, Any]]]:
    """Every pattern at every t, and M³PC's random training mask; and the same as rows."""
    import numpy as np

    from m3pc_ray.mask_patterns import MODALITIES
    from m3pc_ray.model.masks import random_mask
    from m3pc_ray.report.masks import MaskDrawing, MaskPanel

    rng = np.random.default_rng(seed)
    drawings, rows = [], []
    for source, pattern in patterns:
        panels = []
        for t in drawn_at:
            visible, asked = pattern.visible(length, t, rng=rng), pattern.asked(length, t)
            goals = (length - 1,) if pattern.uses_goals else ()
            panels.append(MaskPanel(visible, asked & ~visible, t, goals))
            described = {"pattern": pattern.name, "source": source, "about": pattern.about, "weight": pattern.weight}
            steps = {
                key: {
                    name: [int(step) for step in np.flatnonzero(row)]
                    for name, row in zip(MODALITIES, mask, strict=True)
                }
                for key, mask in (("visible", visible), ("asked", asked & ~visible))
            }
            rows.append({"kind": "mask", **described, "segment_length": length, "t": t, **steps})
        about = pattern.about + (" (one draw each)" if pattern.is_random else "")
        drawings.append(MaskDrawing(pattern.name, about.strip(), tuple(panels)))
    masks = [random_mask(rng, length) for _ in drawn_at]
    about = "the training mask of M³PC: all hidden is asked for (one draw each)"
    drawings.append(MaskDrawing("random", about, tuple(MaskPanel(mask, ~mask) for mask in masks)))
    return drawings, rows


def _measure(
    models: Any, patterns: list[tuple[str, MaskPattern]], arguments: argparse.Namespace, at: list[int], console: Any
) -> list[dict[str, Any]]:
    """Prints the errors of what each pattern asks for at each t, and gives them as rows."""
    from rich.progress import track

    from m3pc_ray.errors import UserError
    from m3pc_ray.evaluation.diagnostics import held_out_segments
    from m3pc_ray.evaluation.tables import pattern_table
    from m3pc_ray.training.pattern_errors import asked_errors, held_out_tokens
    from m3pc_ray.trajectories.resolve import load

    data = models.config.data
    dataset = arguments.dataset or data.dataset
    held_out = held_out_tokens(held_out_segments(models, load(dataset, data.environment, data.folder)), arguments.seed)
    if held_out is None:
        raise UserError(f"{dataset}: no held-out episode is as long as a window of the run")
    models.model.eval()
    tokens, exists = held_out
    pairs = [(source, pattern, t) for t in at for source, pattern in patterns]
    rows = [
        {
            "kind": "error",
            "pattern": pattern.name,
            "source": source,
            "t": t,
            "asked": asked.modality,
            "steps": list(asked.by_step),
            "error": asked.error,
            "error_by_step": list(asked.by_step.values()),
            "segments": len(tokens["states"]),
        }
        for source, pattern, t in track(pairs, "measuring", console=console, transient=True)
        for asked in asked_errors(models.model, tokens, exists, pattern, t, seed=arguments.seed)
    ]
    console.print(pattern_table(rows))
    return rows
