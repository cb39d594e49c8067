"""What runs on a CUDA device must agree with the CPU. Needs one: `pytest -m gpu`."""

import numpy as np
import pytest
import torch

from m3pc_ray.config import BackwardConfig, CriticConfig, MaskConfig, PlannerConfig, PretrainConfig
from m3pc_ray.critic.trainer import IQLTrainer
from m3pc_ray.goals.goal_window import GoalWindow
from m3pc_ray.online.replay.replay_rows import RowFormat, fill_rows
from m3pc_ray.online.replay.shared_rows import map_rows, write_rows
from m3pc_ray.planning.backward import GOAL_PLANNERS, BackwardPlanner, GoalPlanner
from m3pc_ray.planning.planner import ForwardPlanner
from m3pc_ray.training.btm_trainer import BTMTrainer
from tests.critic.test_iql import make_batch
from tests.critic.test_iql import make_critic as make_trained_critic
from tests.model.factory import make_model as make_network
from tests.model.factory import make_tokens
from tests.online.factory import random_episodes
from tests.planning.factory import make_context, make_critic, make_model, make_prompt

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("guide", ["none", "return", "critic"])
@pytest.mark.parametrize("engine", ["fast", "plain"])
def test_plans_agree(engine: str, guide: str) -> None:
    model = make_model(0)
    critic, prompt, context = make_critic(0, model), make_prompt(0), make_context(1, [0, 7, 30], context_length=3)
    config = PlannerConfig(num_candidates=16, precision="float32", engine=engine)  # type: ignore[arg-type]
    here, there = (
        ForwardPlanner(model, critic, config, 0.99, prompt, device).plan(context, guide=guide)  # type: ignore[arg-type]
        for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(there.actions, here.actions, atol=1e-3)


@pytest.mark.parametrize("planner", GOAL_PLANNERS)
def test_backward_plans_agree(planner: GoalPlanner) -> None:
    model, context = make_model(0), make_context(1, [0, 7, 30], context_length=3)
    states = np.full((3, 1, model.observation_dim), np.nan, dtype=np.float32)
    states[:, :, 1] = 0.4
    goals = GoalWindow(states, np.full((3, 1), 6))
    here, there = (
        BackwardPlanner(model, BackwardConfig(), device).plan(context, goals, planner) for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(there.actions, here.actions, atol=1e-3)
    np.testing.assert_allclose(there.path, here.path, atol=1e-2)


def test_model_updates_agree() -> None:
    metrics = []
    for device in ("cpu", "cuda"):
        model = make_network(0).to(device).train()
        trainer = BTMTrainer(model, PretrainConfig(), MaskConfig(), torch.float32, seed=0)
        tokens = {name: values.to(device) for name, values in make_tokens(16).items()}
        for _ in range(3):
            row = trainer.update(tokens, None, 1.0)
        metrics.append(float(row["loss"]))
    assert metrics[1] == pytest.approx(metrics[0], rel=2e-2)


def test_critic_updates_agree() -> None:
    losses = []
    for device in ("cpu", "cuda"):
        critic, _ = make_trained_critic(0)
        trainer = IQLTrainer(critic.to(device), CriticConfig(hidden_width=32))
        batch = {name: values.to(device) for name, values in make_batch(1).items()}
        for _ in range(3):
            row = trainer.update(batch)
        losses.append(float(row["q_loss"]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_rows_of_a_shared_file_are_copied_to_the_device(tmp_path) -> None:
    row_format = RowFormat("average", 30, 4, np.full(1, -3.0, np.float32), np.full(1, 3.0, np.float32))
    here = fill_rows(random_episodes(5), row_format, 0)
    write_rows(tmp_path / "rows", here)
    with open(tmp_path / "rows", "rb") as file:
        there = map_rows(file.fileno(), 4, 1, 4, 10, "cuda")
    assert there.capacity == 10
    for one, other in ((here.steps.values, there.steps.values), (here.outcomes.values, there.outcomes.values)):
        assert torch.equal(other[:-10].cpu(), one)
    assert torch.equal(there.returns_known.cpu(), torch.cat([here.returns_known, torch.zeros(10, dtype=torch.bool)]))
