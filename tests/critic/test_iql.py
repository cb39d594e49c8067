"""The critic: hand-written gradients against autograd, targets against a loop, terminations."""

import numpy as np
import pytest
import torch

from m3pc_ray.config import CriticConfig
from m3pc_ray.critic.iql import IQLCritic
from m3pc_ray.critic.trainer import IQLTrainer, losses

OBSERVATION_DIM, ACTION_DIM, BATCH = 5, 2, 64


def make_critic(seed: int = 0, **settings: object) -> tuple[IQLCritic, CriticConfig]:
    config = CriticConfig(hidden_width=32, **settings)  # type: ignore[arg-type]
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    critic = IQLCritic(OBSERVATION_DIM, ACTION_DIM, config, rng.normal(size=5), rng.uniform(0.5, 2.0, size=5), 3.0, 2.0)
    with torch.no_grad():  # targets that differ from the online networks
        for parameter in critic.q_target.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return critic, config


def make_batch(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "observations": torch.randn(BATCH, OBSERVATION_DIM, generator=generator),
        "actions": torch.rand(BATCH, ACTION_DIM, generator=generator) * 2 - 1,
        "rewards": torch.randn(BATCH, generator=generator),
        "next_observations": torch.randn(BATCH, OBSERVATION_DIM, generator=generator),
        "terminated": (torch.rand(BATCH, generator=generator) < 0.3).float(),
    }


@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_hand_written_gradients_equal_autograd(seed: int, through: bool) -> None:
    critic, config = make_critic(seed, bootstrap_through_terminations=through)
    batch = make_batch(seed + 10)
    value_loss, q_loss = losses(critic, config, batch)
    (value_loss + q_loss).backward()
    learnt = [*critic.q.parameters(), *critic.v.parameters()]
    expected = [parameter.grad.clone() for parameter in learnt if parameter.grad is not None]
    assert len(expected) == len(learnt)
    value_mean = critic.value(batch["observations"]).detach().mean()
    got = IQLTrainer(critic, config).backward(batch)
    torch.testing.assert_close(got, (value_loss.detach(), q_loss.detach(), value_mean))
    for parameter, gradient in zip(learnt, expected, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)
        assert gradient.abs().max() > 0


def test_bfloat16_gradients_point_the_same_way() -> None:
    critic, config = make_critic(3)
    batch = make_batch(4)
    IQLTrainer(critic, config).backward(batch)
    learnt = [*critic.q.parameters(), *critic.v.parameters()]
    exact = torch.cat([parameter.grad.flatten() for parameter in learnt if parameter.grad is not None])
    IQLTrainer(critic, config, torch.bfloat16).backward(batch)
    rounded = torch.cat([parameter.grad.flatten() for parameter in learnt if parameter.grad is not None])
    assert torch.cosine_similarity(exact, rounded, dim=0) > 0.999
    assert not torch.equal(exact, rounded)


def test_targets_follow_by_polyak_averaging() -> None:
    critic, config = make_critic(1, polyak=0.25)
    before = [parameter.clone() for parameter in critic.q_target.parameters()]
    IQLTrainer(critic, config).update(make_batch(2))
    for old, new, online in zip(before, critic.q_target.parameters(), critic.q.parameters(), strict=True):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * online)


def test_values_of_a_two_step_chain_respect_terminations() -> None:
    """s0 -r=1-> s1 -r=2-> end: with one action a state, Q(s1) = 2 and Q(s0) = 1 + gamma 2, not more."""
    config = CriticConfig(hidden_width=32, discount=0.5, learning_rate=3e-3, polyak=0.05)
    torch.manual_seed(0)
    critic = IQLCritic(1, 1, config, np.zeros(1), np.ones(1), value_mean=5.0, value_std=3.0)
    trainer = IQLTrainer(critic, config)
    states, actions = torch.tensor([[-1.0], [1.0]]), torch.zeros(2, 1)
    batch = {
        "observations": states,
        "actions": actions,
        "rewards": torch.tensor([1.0, 2.0]),
        "next_observations": torch.tensor([[1.0], [1.0]]),
        "terminated": torch.tensor([0.0, 1.0]),
    }
    for _ in range(1500):
        trainer.update(batch)
    with torch.no_grad():
        torch.testing.assert_close(critic.q_min(states, actions), torch.tensor([2.0, 2.0]), atol=0.05, rtol=0)
        torch.testing.assert_close(critic.value(states), torch.tensor([2.0, 2.0]), atol=0.05, rtol=0)


def test_q_min_is_the_smaller_of_both_and_keeps_leading_dimensions() -> None:
    critic, _ = make_critic(5)
    observations, actions = torch.randn(3, 4, OBSERVATION_DIM), torch.rand(3, 4, ACTION_DIM)
    pairs = torch.cat([critic.standardise(observations), actions], -1).flatten(0, 1)
    with torch.no_grad():
        critic.q_target.biases[2] -= critic.q_target(pairs).mean(1).view(2, 1, 1)  # so that each is smaller at times
        both = critic.q_target(pairs)
        torch.testing.assert_close(critic.q_min(observations, actions), 3.0 + 2.0 * both.min(0).values.view(3, 4))
        assert (both[0] < both[1]).any()
        assert (both[0] > both[1]).any()
