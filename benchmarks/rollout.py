"""Online finetuning in one process: environment steps with their updates, against the plain version of the same loop.

Ours is `m3pc finetune --serial` on the bundled data with the sizes of the `cpu` preset, without evaluations. `plain`:
one environment, the plain planner, critic, model and replays (benchmarks/plain/), the same N, training masks (one a
batch), batch sizes and updates a step. Both start with all the updates that they owe done.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from m3pc_ray.config import RunConfig
from m3pc_ray.configuration import with_settings
from m3pc_ray.critic.iql import IQLCritic
from m3pc_ray.model.network import TrajectoryModel
from m3pc_ray.online.exploration import exploring_planner
from m3pc_ray.online.loop import SerialRun
from m3pc_ray.online.progress import OnlineProgress
from m3pc_ray.planning.planner import ForwardPlanner
from m3pc_ray.training.assemble import Models, build_models
from m3pc_ray.training.interrupt import StopRequest
from m3pc_ray.trajectories.episodes import Trajectories
from m3pc_ray.trajectories.resolve import load

from .measuring import Case
from .plain.critic import PlainIQL
from .plain.finetuning import PlainFinetuning
from .plain.model import PlainModel, PlainTrainer
from .pretrain import PAPER_DROPOUT, plain_episodes
from .replay import fill_deque
from .untrained import untrained_online_run

STEPS = 10**9
"""More than any measurement takes."""
PLAIN_STEPS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, default=2, help="rollout workers (default: 2)")
    parser.add_argument(
        "--candidates", type=int, default=64, metavar="N", help="of the exploring planner (default: 64)"
    )


def cases(arguments: argparse.Namespace) -> Iterator[Case]:
    """One row: seconds an environment step, updates included."""
    with tempfile.TemporaryDirectory() as folder:
        config = with_settings(
            RunConfig(),
            {
                "data.dataset": "bundled/hopper",
                "device": arguments.device,
                "online.steps": STEPS,
                "online.replay_capacity": 100_000,
                "online.start_steps": 0,
                "online.evaluate_every": 0,
                "online.schedule": "constant",
                "online.rollout_workers": arguments.workers,
                "online.num_candidates": arguments.candidates,
                "online.threads": arguments.threads,
                "logging.tensorboard": False,
            },
        )
        trajectories = load(config.data.dataset)
        run = untrained_online_run(Path(folder), config, trajectories)
        with OnlineProgress(run, config, quiet=True) as progress, StopRequest() as stop:
            serial = SerialRun(run, progress, stop)
            serial.round()
            plain = _plain_loop(config, trajectories)
            steps = serial.learner.steps
            serial.round()
            yield Case(
                name=f"serial finetuning, {config.online.rollout_workers} workers, N {config.online.num_candidates}",
                ours=serial.round,
                plain=lambda: plain.advance(PLAIN_STEPS),
                device=arguments.device,
                ours_units=serial.learner.steps - steps,
                plain_units=PLAIN_STEPS,
            )
            serial.keeper.close()


def _plain_loop(config: RunConfig, trajectories: Trajectories) -> PlainFinetuning:
    models: Models = build_models(config, trajectories)
    model: TrajectoryModel = models.model
    critic: IQLCritic = models.critic
    settings = replace(exploring_planner(config), engine="plain", precision="float32")
    planner = ForwardPlanner(model, critic, settings, config.critic.discount, models.prompt)
    sizes = (model.observation_dim, model.action_dim)
    plain_model = PlainModel(*sizes, replace(config.model, dropout=PAPER_DROPOUT))
    online = config.online
    return PlainFinetuning(
        planner,
        models.metadata.environment_id,
        PlainTrainer(plain_model, config.masks),
        PlainIQL(*sizes, config.critic.hidden_width),
        fill_deque(trajectories, trajectories.num_steps + online.replay_capacity),
        plain_episodes(trajectories),
        model_updates_per_step=online.btm_updates_per_step,
        critic_updates_per_step=online.critic_updates_per_step,
        segments=online.btm_batch_size,
        batch=config.critic.batch_size,
    )
