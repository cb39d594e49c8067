"""Time of a planned action: the engine against the oracle, which decodes every token in float32.

Random weights of Hopper's size, mid-episode. `plain` runs Algorithm 1 as the authors' code does: encoder over visible
tokens, decoder over all 32 of them, about 757 width² multiply-adds a candidate at h 4 with the heads.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from m3pc_ray.config import CriticConfig, Guide, ModelConfig, PlannerConfig
from m3pc_ray.critic.iql import IQLCritic
from m3pc_ray.model.network import TrajectoryModel
from m3pc_ray.planning.context import PlanningContext
from m3pc_ray.planning.planner import ForwardPlanner
from m3pc_ray.planning.prompts import ReturnPrompt

from .latent_cem import LatentPlanner
from .measuring import Case
from .synthetic import ACTION_DIM, OBSERVATION_DIM, TIME_LIMIT, unit_statistics

SEGMENT_LENGTH, PAPER_CONTEXT = 8, 4

SIZE = ("width", "candidates", "horizon", "environments")
QUICK = ((512, 625, 4, 1), (128, 625, 4, 1))
"""Values of `SIZE`."""
WIDTHS = ((128, 625, 4, 1), (256, 625, 4, 1), (512, 625, 4, 1))
CANDIDATES = tuple((128, count, 4, 1) for count in (16, 64, 128, 256, 625, 1250))
HORIZONS = tuple((128, 625, horizon, 1) for horizon in range(1, 9))
ENVIRONMENTS = tuple((128, 128, 4, count) for count in (1, 2, 4, 8, 16, 32))


COMMON = {"width": 128, "candidates": 625, "horizon": 4, "environments": 1}
"""What stays the same in the figure while one of them varies."""
AXES = {
    "width": "width",
    "candidates": "candidates N",
    "horizon": "planned steps h",
    "environments": "environments B, N 128",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--width", type=int, help="one case instead of the table: the model's width")
    parser.add_argument("--candidates", type=int, default=625, metavar="N", help="its candidates (default: 625)")
    parser.add_argument("--horizon", type=int, default=4, metavar="H", help="its planned steps, 1 to 8 (default: 4)")
    parser.add_argument("--environments", type=int, default=1, metavar="B", help="its environments (default: 1)")
    parser.add_argument(
        "--guide", choices=("return", "critic"), default="critic", help="what scores candidates (default: critic)"
    )
    parser.add_argument(
        "--encoder", choices=("full", "causal"), default="full", help="model.encoder_attention (default: full)"
    )
    parser.add_argument("--figure", metavar="FILE", help="draw seconds a decision over width, N, h and B into this PNG")


def cases(arguments: argparse.Namespace) -> Iterator[Case]:
    """The table, with --quick its two sizes that matter most, with --width one size."""
    if arguments.width is not None:
        sizes: tuple[tuple[int, int, int, int], ...] = (
            (arguments.width, arguments.candidates, arguments.horizon, arguments.environments),
        )
    elif arguments.quick:
        sizes = QUICK
    else:
        sizes = tuple(dict.fromkeys(WIDTHS + CANDIDATES + HORIZONS + ENVIRONMENTS))
    for size in sizes:
        for precision in ("float32", "bfloat16"):
            yield _case(size, precision, arguments)
    if arguments.width is None:
        yield from (_batched_case(precision, arguments) for precision in ("float32", "bfloat16"))
    if arguments.width is None and not arguments.quick:
        yield from (_latent_case(width, arguments) for width in (128, 512))


def make_planner(
    width: int, settings: PlannerConfig, device: str = "cpu", encoder_attention: Any = "full"
) -> ForwardPlanner:
    """A planner of Hopper's sizes with random weights, the same for every settings."""
    torch.manual_seed(0)
    config = ModelConfig(width=width, segment_length=SEGMENT_LENGTH, encoder_attention=encoder_attention)
    statistics = unit_statistics()
    model = TrajectoryModel(OBSERVATION_DIM, ACTION_DIM, config, statistics)
    critic = IQLCritic(
        OBSERVATION_DIM, ACTION_DIM, CriticConfig(dynamics=False), statistics.states_mean, statistics.states_std
    )
    prompt = ReturnPrompt(np.full(TIME_LIMIT, 3.0, dtype=np.float32), 3000.0, "average", TIME_LIMIT)
    return ForwardPlanner(model, critic, settings, 0.99, prompt, device)


def make_context(environments: int, context_length: int) -> PlanningContext:
    """Random past of `environments` environments in mid-episode."""
    rng = np.random.default_rng(0)
    return PlanningContext(
        observations=rng.normal(size=(environments, context_length + 1, OBSERVATION_DIM)).astype(np.float32),
        actions=rng.uniform(-1, 1, size=(environments, context_length, ACTION_DIM)).astype(np.float32),
        timesteps=np.full(environments, 100, dtype=np.int64),
        keys=np.stack([np.zeros(environments), np.arange(environments), np.zeros(environments)], axis=1).astype(
            np.uint64
        ),
    )


def _settings(precision: Any, candidates: int, horizon: int) -> PlannerConfig:
    """The paper's window, with the current step at index 4; longer horizons are those of an episode's first steps."""
    context_length = min(PAPER_CONTEXT, SEGMENT_LENGTH - horizon)
    return PlannerConfig(num_candidates=candidates, horizon=horizon, context_length=context_length, precision=precision)


def _pair(width: int, settings: PlannerConfig, device: str, encoder: Any) -> tuple[ForwardPlanner, ForwardPlanner]:
    plain = replace(settings, engine="plain", precision="float32")
    return make_planner(width, settings, device, encoder), make_planner(width, plain, device, encoder)


def _case(size: tuple[int, int, int, int], precision: Any, arguments: argparse.Namespace) -> Case:
    width, candidates, horizon, environments = size
    guide: Guide = arguments.guide
    settings = _settings(precision, candidates, horizon)
    ours, plain = _pair(width, settings, arguments.device, arguments.encoder)
    context = make_context(environments, settings.context_length)
    return Case(
        name=f"width {width} {precision} N {candidates} h {horizon} B {environments}",
        ours=lambda: ours.plan(context, guide=guide),
        plain=lambda: plain.plan(context, guide=guide),
        dtype=ours.dtype,
        device=arguments.device,
        ours_units=environments,
        plain_units=environments,
        arithmetic_unit=("width² multiply-adds a candidate", 2.0 * width**2 * candidates),
        extra={"guide": guide, "precision": precision, **dict(zip(SIZE, size, strict=True))},
    )


def _latent_case(width: int, arguments: argparse.Namespace) -> Case:
    """M³PC against a planner that samples in a latent space, float32, both at their published settings."""
    settings = _settings("float32", 625, 4)
    planner, latent = (
        make_planner(width, settings, arguments.device, arguments.encoder),
        LatentPlanner(OBSERVATION_DIM, ACTION_DIM, arguments.device),
    )
    context = make_context(1, settings.context_length)
    observation = torch.from_numpy(context.observations[0, -1]).to(arguments.device)
    return Case(
        name=f"width {width} float32 N 625 h 4 B 1 against a latent planner of TD-MPC2's size",
        ours=lambda: planner.plan(context, guide=arguments.guide),
        plain=lambda: latent.plan(observation),
        dtype=planner.dtype,
        device=arguments.device,
        arithmetic_unit=("width² multiply-adds a candidate", 2.0 * width**2 * 625),
        extra={"guide": arguments.guide},
    )


def _batched_case(precision: Any, arguments: argparse.Namespace) -> Case:
    """Eight environments in one call against eight calls, both with the engine; seconds an environment."""
    settings = _settings(precision, 128, 4)
    planner = make_planner(128, settings, arguments.device, arguments.encoder)
    context = make_context(8, settings.context_length)
    single = [context.select(np.array([row])) for row in range(8)]

    def eight_calls() -> None:
        for part in single:
            planner.plan(part, guide=arguments.guide)

    return Case(
        name=f"width 128 {precision} N 128 h 4 one call for 8 against 8 calls",
        ours=lambda: planner.plan(context, guide=arguments.guide),
        plain=eight_calls,
        dtype=planner.dtype,
        device=arguments.device,
        ours_units=8,
        plain_units=8,
        arithmetic_unit=("width² multiply-adds a candidate", 2.0 * 128**2 * 128),
        extra={"guide": arguments.guide},
    )


def draw(rows: list[dict[str, Any]], path: str) -> None:
    """Seconds a decision over each of width, N, h and B, the others as in `COMMON`."""
    from m3pc_ray.report.style import figure

    sized = [row for row in rows if "width" in row]
    latent = [row["plain_s"] for row in rows if "latent planner" in row["case"]]
    with figure(path, columns=len(SIZE), width=12.0, height=3.2) as axes:
        for axis, varied in zip(axes, SIZE, strict=True):
            fixed = COMMON | ({"candidates": 128} if varied == "environments" else {})
            line = [row for row in sized if all(row[name] == fixed[name] for name in SIZE if name != varied)]
            line.sort(key=lambda row: row[varied])
            for precision, colour in (("float32", "#4477aa"), ("bfloat16", "#cc3311")):
                ours = [row for row in line if row["precision"] == precision]
                axis.plot(
                    [row[varied] for row in ours],
                    [row["ours_s"] for row in ours],
                    "o-",
                    color=colour,
                    label=f"ours, {precision}",
                )
            plain = [row for row in line if row["precision"] == "float32"]
            axis.plot(
                [row[varied] for row in plain], [row["plain_s"] for row in plain], "s--", color="#777777", label="plain"
            )
            if latent and varied == "width":
                axis.axhline(min(latent), color="#228833", linestyle=":", label="latent planner, TD-MPC2's size")
            axis.set_yscale("log")
            if varied != "horizon":
                axis.set_xscale("log", base=2)
            axis.set_xlabel(AXES[varied])
        axes[0].set_ylabel("seconds a decision")
        axes[0].legend()
