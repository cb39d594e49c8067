"""Time of a planned decision: the fast engine in both precisions against the plain one.

    python benchmarks/planning.py
    python benchmarks/planning.py --width 512 --candidates 625 --environments 1 --json planning.json
    python benchmarks/planning.py --profile

Random weights of Hopper's size, mid-episode, default planner settings. `ms` is the median wall time of a decision
(a call's time divided by its environments), `cpu_ms` the lower quartile of the thread's CPU time, which a busy machine
disturbs less. --profile prints the operators of one call per guide instead.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from m3pc_ray.config import CriticConfig, Guide, ModelConfig, PlannerConfig
from m3pc_ray.critic.iql import IQLCritic
from m3pc_ray.model.network import TrajectoryModel
from m3pc_ray.planning.context import PlanningContext
from m3pc_ray.planning.planner import ForwardPlanner
from m3pc_ray.planning.prompts import ReturnPrompt
from m3pc_ray.trajectories.statistics import Statistics

OBSERVATION_DIM, ACTION_DIM, TIME_LIMIT = 11, 3, 1000
ENGINES: tuple[tuple[Any, Any], ...] = (("fast", "bfloat16"), ("fast", "float32"), ("plain", "float32"))
GUIDES: tuple[Guide, ...] = ("none", "return", "critic")


def make_planner(width: int, settings: PlannerConfig, device: str) -> ForwardPlanner:
    torch.manual_seed(0)
    zero, one = np.zeros(1, dtype=np.float32), np.ones(1, dtype=np.float32)
    zeros, ones = np.zeros(OBSERVATION_DIM, dtype=np.float32), np.ones(OBSERVATION_DIM, dtype=np.float32)
    model = TrajectoryModel(
        OBSERVATION_DIM, ACTION_DIM, ModelConfig(width=width), Statistics(zeros, ones, zero, one, zero, one)
    )
    critic = IQLCritic(OBSERVATION_DIM, ACTION_DIM, CriticConfig(), zeros, ones)
    prompt = ReturnPrompt(np.full(TIME_LIMIT, 3.0, dtype=np.float32), 3000.0, "average", TIME_LIMIT)
    return ForwardPlanner(model, critic, settings, 0.99, prompt, device)


def make_context(environments: int, context_length: int) -> PlanningContext:
    rng = np.random.default_rng(0)
    return PlanningContext(
        observations=rng.normal(size=(environments, context_length + 1, OBSERVATION_DIM)).astype(np.float32),
        actions=rng.uniform(-1, 1, size=(environments, context_length, ACTION_DIM)).astype(np.float32),
        timesteps=np.full(environments, 100, dtype=np.int64),
        keys=np.stack([np.zeros(environments), np.arange(environments), np.zeros(environments)], axis=1).astype(
            np.uint64
        ),
    )


def measure(planner: ForwardPlanner, context: PlanningContext, guide: Guide, seconds: float) -> dict[str, float]:
    """Milliseconds a decision over calls that fill `seconds`, at least three."""
    for _ in range(2):
        planner.plan(context, guide=guide)
    wall: list[float] = []
    cpu: list[float] = []
    while len(wall) < 3 or (sum(wall) < seconds and len(wall) < 100):
        started, started_cpu = time.perf_counter(), time.thread_time()
        planner.plan(context, guide=guide)
        cpu.append(time.thread_time() - started_cpu)
        wall.append(time.perf_counter() - started)
    scale = 1e3 / len(context)
    median = statistics.median(wall) * scale
    return {"ms": median, "cpu_ms": sorted(cpu)[len(cpu) // 4] * scale, "decisions_per_s": 1e3 / median}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--candidates", type=int, default=128)
    parser.add_argument("--environments", type=int, nargs="+", default=[1, 2, 8, 20])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=1.5, help="time given to each measurement")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for engine, precision in ENGINES[:1] if arguments.profile else ENGINES:
        settings = PlannerConfig(num_candidates=arguments.candidates, engine=engine, precision=precision)
        planner = make_planner(arguments.width, settings, arguments.device)
        for environments in arguments.environments:
            context = make_context(environments, settings.context_length)
            for guide in GUIDES:
                if arguments.profile:
                    planner.plan(context, guide=guide)
                    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
                        planner.plan(context, guide=guide)
                    print(guide, environments)
                    print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=15))
                    continue
                row: dict[str, Any] = {"engine": engine, "precision": precision, "environments": environments}
                row |= {"guide": guide, **measure(planner, context, guide, arguments.seconds)}
                rows.append(row)
                times = f"{row['ms']:8.2f} ms {row['cpu_ms']:8.2f} cpu ms {row['decisions_per_s']:8.0f}/s"
                print(f"{engine:6}{precision:10}{environments:4} {guide:7}{times}", flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
