"""The plain forms that benchmarks compare with do the same work: equal outputs, equal batches, counted arithmetic."""

import argparse

import numpy as np
import pytest
import torch

from m3pc_ray.benchmarks import critic as critic_benchmark
from m3pc_ray.benchmarks import measuring, planner, pretrain, replay, rollout
from m3pc_ray.benchmarks.plain.critic import PlainIQL
from m3pc_ray.benchmarks.plain.model import PlainModel
from m3pc_ray.benchmarks.synthetic import ACTION_DIM, OBSERVATION_DIM, make_trajectories, unit_statistics
from m3pc_ray.config import CriticConfig, ModelConfig
from m3pc_ray.critic.iql import IQLCritic
from m3pc_ray.critic.trainer import losses
from m3pc_ray.model.masks import MODALITIES, random_mask
from m3pc_ray.model.network import TrajectoryModel

QUICK = argparse.Namespace(
    quick=True, device="cpu", width=None, guide="critic", precision="auto", batch=256, encoder="full"
)


@torch.no_grad()
def test_plain_model_is_the_same_function():
    config = ModelConfig(width=32)
    model = TrajectoryModel(OBSERVATION_DIM, ACTION_DIM, config, unit_statistics())
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    plain = PlainModel(OBSERVATION_DIM, ACTION_DIM, config)
    plain.load_from(model)
    dims = {"states": OBSERVATION_DIM, "returns": 1, "actions": ACTION_DIM, "rewards": 1}
    tokens = {name: torch.randn(6, 8, dims[name]) for name in MODALITIES}
    rng = np.random.default_rng()
    for _ in range(5):
        mask = random_mask(rng, 8)
        ours, theirs = model(tokens, mask), plain(tokens, mask)
        for name, values in theirs.items():
            torch.testing.assert_close(getattr(ours, name), values, rtol=1e-4, atol=1e-5)


def test_plain_iql_has_the_same_losses():
    ours = IQLCritic(OBSERVATION_DIM, ACTION_DIM, CriticConfig(), np.zeros(OBSERVATION_DIM), np.ones(OBSERVATION_DIM))
    plain = PlainIQL(OBSERVATION_DIM, ACTION_DIM)
    with torch.no_grad():
        for layer in range(3):
            for member, (online, target) in enumerate(((plain.q1, plain.target_q1), (plain.q2, plain.target_q2))):
                for network in (online, target):
                    network[2 * layer].weight.copy_(ours.q.weights[layer][member].T)
                    network[2 * layer].bias.copy_(ours.q.biases[layer][member, 0])
            plain.v[2 * layer].weight.copy_(ours.v.weights[layer][0].T)
            plain.v[2 * layer].bias.copy_(ours.v.biases[layer][0, 0])
    batch = {
        "observations": torch.randn(64, OBSERVATION_DIM),
        "next_observations": torch.randn(64, OBSERVATION_DIM),
        "actions": torch.rand(64, ACTION_DIM) * 2 - 1,
        "rewards": torch.randn(64),
        "terminated": (torch.rand(64) < 0.2).float(),
    }
    value_loss, q_loss = losses(ours, CriticConfig(), batch)
    assert plain.update(batch) == pytest.approx((value_loss.item(), q_loss.item()), rel=1e-4)


def test_plain_replay_holds_the_same_steps():
    trajectories = make_trajectories(60, episode_length=25)
    transitions = replay.fill_deque(trajectories, 60).sample(40)
    rows = [
        int(np.flatnonzero((trajectories.observations == observation.numpy()).all(1))[0])
        for observation in transitions["observations"]
    ]
    expected = trajectories.next_observations()[rows]
    np.testing.assert_array_equal(transitions["next_observations"].numpy(), expected)
    np.testing.assert_array_equal(transitions["terminated"].numpy(), trajectories.terminated()[rows])
    segments = pretrain.plain_episodes(trajectories).sample(40)
    for states, rewards in zip(segments["states"].numpy(), segments["rewards"].numpy(), strict=True):
        row = int(np.flatnonzero((trajectories.observations == states[0]).all(1))[0])
        np.testing.assert_array_equal(states, trajectories.observations[row : row + 8])
        np.testing.assert_array_equal(rewards[:, 0], trajectories.rewards[row : row + 8])
    storage = replay.fill_storage(trajectories, "cpu")
    assert storage.online_steps + storage.offline_steps == 60
    assert storage.online_segments == (25 - 7) + (10 - 7)


def test_a_row_says_what_was_measured():
    left, right = torch.randn(64, 32), torch.randn(32, 16)
    case = measuring.Case("product", lambda: left @ right, lambda: [left @ right for _ in range(4)], torch.float32)
    row = measuring.compare(case, seconds=0.05)
    assert row["case"] == "product"
    assert row["ours_arithmetic"] * 1e9 == 2 * 64 * 32 * 16
    assert row["plain_arithmetic"] == pytest.approx(4 * row["ours_arithmetic"])
    assert row["ratio"] == pytest.approx(row["plain_s"] / row["ours_s"])
    assert row["floor_s"] > 0


def test_the_plain_planner_does_the_work_of_the_authors_code():
    """About 757 width² multiply-adds a candidate at h 4 with width 512; attention and tokens weigh more below."""
    arguments = argparse.Namespace(**{**vars(QUICK), "width": 512, "candidates": 16, "horizon": 4, "environments": 1})
    arguments.guide = "return"
    case = next(iter(planner.cases(arguments)))
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        case.plain()
    assert 720 < counter.get_total_flops() / case.arithmetic_unit[1] < 860
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        case.ours()
    assert counter.get_total_flops() / case.arithmetic_unit[1] < 450


def test_names_of_the_rows():
    names = [case.name for case in planner.cases(QUICK)]
    assert "width 512 bfloat16 N 625 h 4 B 1" in names
    assert "width 128 float32 N 625 h 4 B 1" in names
    assert [case.name for case in pretrain.cases(QUICK)] == [
        "width 128 batch 512",
        "width 128 batch 512 preset's masks",
    ]


@pytest.mark.slow
def test_every_case_runs():
    arguments = argparse.Namespace(**{**vars(QUICK), "quick": False})
    for module in (replay, critic_benchmark):
        for case in module.cases(arguments):
            case.ours()
            case.plain()


@pytest.mark.slow
def test_both_finetuning_loops_take_steps_and_do_their_updates():
    arguments = argparse.Namespace(device="cpu", threads=1, workers=1, candidates=4)
    for case in rollout.cases(arguments):
        assert case.ours_units > 0
        case.ours()
        case.plain()
        loop = case.plain.__closure__[0].cell_contents
        assert loop.steps == rollout.PLAIN_STEPS
        assert loop.updates == {"model": 2, "critic": 20}  # 0.2 and 2 a step
