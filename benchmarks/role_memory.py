"""Memory of every role of online finetuning on Ray: where the constants of `m3pc_ray.diagnosis.memory` come from.

    python -m m3pc_ray.benchmarks.role_memory --run runs/demo-pretrained --steps 1500 --online.replay_capacity 10000
        --online.start_steps 400 --online.critic_updates_per_step 0.5 --online.btm_updates_per_step 0.05 --device cpu
    python -m m3pc_ray.benchmarks.role_memory --workspace learner --width 512
    python -m m3pc_ray.benchmarks.role_memory --workspace planner --width 512 --batch 4 --candidates 625

The first finetunes into a temporary folder, asks the kernel about every process four times a second, and prints for
each kind its processes, the largest resident memory of one, and the largest that is its own (private pages, not shared
with other processes: torch's library is mapped by all roles but in memory once). The others print how much more memory
one process has after updates of a model with random weights, or after plans, than before.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
from collections import defaultdict
from pathlib import Path


def main(words: list[str] | None = None) -> int:
    """Measures and prints one line a kind, in MB (10**6 bytes)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", help="pretrained run to start from")
    parser.add_argument("--steps", type=int, default=1500, help="environment steps")
    parser.add_argument("--workspace", choices=["learner", "planner"], help="measure one part in this process")
    parser.add_argument("--width", type=int, default=128, help="of the model, with --workspace")
    parser.add_argument("--batch", type=int, default=256, help="segments an update, or decisions planned at once")
    parser.add_argument("--candidates", type=int, default=64, help="of a decision")
    from m3pc_ray.configuration import add_config_arguments

    add_config_arguments(parser)
    arguments = parser.parse_args(words)
    if arguments.workspace:
        return _workspace(arguments)
    if arguments.run is None:
        parser.error("give --run or --workspace")
    return _roles(arguments)


def _roles(arguments: argparse.Namespace) -> int:
    from actors.run_on_ray import run_on_ray
    from m3pc_ray.configuration import given_overrides
    from m3pc_ray.online.preparation import finetune_config, prepare
    from m3pc_ray.online.progress import OnlineProgress
    from m3pc_ray.training.interrupt import StopRequest
    from m3pc_ray.training.run_folder import RunFolder

    source = RunFolder.open(arguments.run)
    overrides = {**given_overrides(arguments), "online.steps": str(arguments.steps)}
    ended = threading.Event()
    largest: dict[str, dict[int, tuple[int, int]]] = defaultdict(dict)
    with tempfile.TemporaryDirectory() as folder:
        run = prepare(source, Path(folder) / "run", finetune_config(source, overrides))
        watcher = threading.Thread(target=_watch, args=(ended, largest))
        watcher.start()
        try:
            with OnlineProgress(run, run.config(), quiet=True) as progress, StopRequest() as stop:
                run_on_ray(run, progress, stop)
        finally:
            ended.set()
            watcher.join()
    for kind, processes in sorted(largest.items()):
        resident, own = (max(values[i] for values in processes.values()) / 1e6 for i in (0, 1))
        print(json.dumps({"kind": kind, "processes": len(processes), "resident": round(resident), "own": round(own)}))
    return 0


def _workspace(arguments: argparse.Namespace) -> int:
    import numpy as np
    import torch

    from m3pc_ray.config import CriticConfig, ModelConfig, OnlineConfig, PlannerConfig, RunConfig
    from m3pc_ray.online.plan_service import PlanService
    from m3pc_ray.planning.context import PlanningContext
    from m3pc_ray.training.assemble import build_models
    from m3pc_ray.training.btm_trainer import BTMTrainer
    from m3pc_ray.trajectories.resolve import load

    torch.set_num_threads(1)
    model = ModelConfig(width=arguments.width)
    config = RunConfig(
        device="cpu",
        model=model,
        critic=CriticConfig(),
        planner=PlannerConfig(),
        online=OnlineConfig(num_candidates=arguments.candidates, btm_batch_size=arguments.batch),
    )
    trajectories = load("bundled/hopper")
    models = build_models(config, trajectories)
    before = _own()
    length, rng = model.segment_length, np.random.default_rng(0)
    if arguments.workspace == "learner":
        trainer = BTMTrainer(models.model, config.pretrain, config.masks, torch.bfloat16, 0)
        sizes = {"states": 11, "returns": 1, "actions": 3, "rewards": 1}
        tokens = {
            name: torch.as_tensor(rng.uniform(-0.9, 0.9, (arguments.batch, length, size)), dtype=torch.float32)
            for name, size in sizes.items()
        }
        for _ in range(3):
            trainer.update(tokens, None, 1.0)
        unit = arguments.batch * 4 * length * arguments.width * (model.encoder_layers + model.decoder_layers)
    else:
        service, past = PlanService(models), config.planner.context_length
        context = PlanningContext(
            observations=rng.normal(size=(arguments.batch, past + 1, 11)).astype(np.float32),
            actions=rng.uniform(-0.9, 0.9, (arguments.batch, past, 3)).astype(np.float32),
            timesteps=np.full(arguments.batch, 100),
            keys=rng.integers(1000, size=(arguments.batch, 3)).astype(np.uint64),
        )
        for _ in range(3):
            service.plan(context)
        unit = arguments.batch * arguments.candidates * 4 * length * arguments.width
    grown = _peak() - before
    parameters = sum(parameter.numel() for parameter in models.model.parameters())
    print(json.dumps({"grown": round(grown / 1e6), "parameters": parameters, "bytes_a_unit": grown / unit}))
    return 0


def _own() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _peak() -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def _watch(ended: threading.Event, largest: dict[str, dict[int, tuple[int, int]]]) -> None:
    from m3pc_ray.diagnosis.sockets import descendants

    while not ended.wait(0.25):
        for pid in descendants():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            pages = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in rollup.splitlines()[1:]}
            own = pages["Private_Clean"] + pages["Private_Dirty"]
            kind = _kind(words[0].decode())
            before = largest[kind].get(pid, (0, 0))
            largest[kind][pid] = (max(before[0], pages["Rss"]), max(before[1], own))


def _kind(title: str) -> str:
    if title.startswith("ray::"):
        return title.removeprefix("ray::").partition(".")[0]
    return "driver" if title == sys.executable or title.endswith("python") else Path(title.split()[0]).name


if __name__ == "__main__":
    sys.exit(main())
