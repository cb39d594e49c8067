"""The critic's network of the dynamics: what it predicts, how it learns beside the Qs, what checkpoints keep of it."""

import math

import numpy as np
import pytest
import torch

from m3pc_ray.config import CriticConfig
from m3pc_ray.critic.dynamics import LEARNING_RATE_RATIO, UPDATE_EVERY, DynamicsNetwork, DynamicsTrainer
from m3pc_ray.critic.iql import IQLCritic, same_networks
from m3pc_ray.critic.trainer import IQLTrainer
from m3pc_ray.training.state import pack_optimizer, unpack_optimizer
from tests.critic.test_iql import ACTION_DIM, OBSERVATION_DIM, make_batch
from tests.planning.factory import fresh_seed


def make_network(seed: int) -> DynamicsNetwork:
    torch.manual_seed(seed)
    network = DynamicsNetwork(OBSERVATION_DIM, ACTION_DIM)
    rng = np.random.default_rng(seed)
    rows = [rng.normal(1.0, 2.0, size=(50, dim)).astype(np.float32) for dim in (OBSERVATION_DIM + ACTION_DIM, 6)]
    network.standardise(*rows)
    return network


def make_critic(seed: int, **settings: object) -> tuple[IQLCritic, CriticConfig]:
    torch.manual_seed(seed)
    config = CriticConfig(**{"hidden_width": 16, **settings})
    return IQLCritic(OBSERVATION_DIM, ACTION_DIM, config, np.zeros(5), np.ones(5)), config


def test_a_roll_out_feeds_back_what_was_predicted() -> None:
    seed = fresh_seed()
    network = make_network(seed)
    observations, actions = torch.randn(2, OBSERVATION_DIM), torch.rand(2, 3, 4, ACTION_DIM)
    states, rewards = network.roll_out(observations, actions, 3)
    assert states.shape == (2, 3, 3, OBSERVATION_DIM)
    assert rewards.shape == (2, 3, 3)
    perceptron = network.network
    for b in range(2):
        for n in range(3):
            reached = observations[b]
            for step in range(3):
                inputs = (torch.cat([reached, actions[b, n, step]]) - perceptron.input_mean) / perceptron.input_std
                for layer in perceptron.hidden:
                    inputs = torch.nn.functional.silu(layer(inputs))
                outputs = perceptron.output(inputs) * perceptron.output_std + perceptron.output_mean
                reached = reached + outputs[:-1]
                torch.testing.assert_close(states[b, n, step], reached, rtol=1e-4, atol=1e-4, msg=f"seed {seed}")
                torch.testing.assert_close(rewards[b, n, step], outputs[-1], rtol=1e-4, atol=1e-4)
    nothing = network.roll_out(observations, actions, 0)
    assert nothing[0].shape == (2, 3, 0, OBSERVATION_DIM)
    assert nothing[1].shape == (2, 3, 0)


def test_it_learns_a_system_and_its_rewards() -> None:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(OBSERVATION_DIM + ACTION_DIM, OBSERVATION_DIM)).astype(np.float32) * 0.1

    def transitions(count: int) -> dict[str, torch.Tensor]:
        inputs = rng.uniform(-1.0, 1.0, size=(count, OBSERVATION_DIM + ACTION_DIM)).astype(np.float32)
        observations, actions = inputs[:, :OBSERVATION_DIM], inputs[:, OBSERVATION_DIM:]
        following = observations + np.sin(3.0 * inputs @ mix)
        rewards = 5.0 + observations[:, 0] * actions[:, 0]
        arrays = {"observations": observations, "actions": actions, "next_observations": following, "rewards": rewards}
        return {name: torch.from_numpy(values) for name, values in arrays.items()}

    network, data = DynamicsNetwork(OBSERVATION_DIM, ACTION_DIM), transitions(4000)
    targets = torch.cat([data["next_observations"] - data["observations"], data["rewards"][:, None]], 1)
    network.standardise(torch.cat([data["observations"], data["actions"]], 1).numpy(), targets.numpy())
    trainer = DynamicsTrainer(network, 3e-4)
    for _ in range(300):
        trainer.update(transitions(256))
    fresh = transitions(1000)
    states, rewards = network(fresh["observations"], fresh["actions"])
    spread = (fresh["next_observations"] - fresh["observations"]).var(0)
    assert ((states - fresh["next_observations"]).square().mean(0) / spread).max() < 0.02
    assert (rewards - fresh["rewards"]).square().mean() / fresh["rewards"].var() < 0.02


def test_an_update_is_adam_on_the_squared_error_in_units_of_the_change() -> None:
    seed = fresh_seed()
    network, again, batch = make_network(seed), make_network(seed), make_batch(seed)
    loss = DynamicsTrainer(network, 3e-4).update(batch, 0.5)
    states, rewards = again(batch["observations"], batch["actions"])
    wanted = torch.cat([batch["next_observations"], batch["rewards"][:, None]], 1)
    errors = (torch.cat([states, rewards[:, None]], 1) - wanted) / again.network.output_std
    expected = errors.square().mean()
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-4, atol=1e-6)
    optimizer = torch.optim.Adam(again.parameters(), lr=0.5 * LEARNING_RATE_RATIO * 3e-4)
    expected.backward()
    optimizer.step()
    for ours, theirs in zip(network.parameters(), again.parameters(), strict=True):
        # Adam's first step is the rate times the gradient's sign: near a gradient of 0 rounding decides it.
        torch.testing.assert_close(ours, theirs, rtol=0.0, atol=2.1 * 0.5 * LEARNING_RATE_RATIO * 3e-4)
        assert (ours - theirs).abs().median() < 1e-6


def test_the_critic_learns_the_same_beside_it() -> None:
    """Neither reads what the other changes, and the first weights of the Qs do not depend on it."""
    seed = fresh_seed()
    (without, config), (beside, settings) = make_critic(seed, dynamics=False), make_critic(seed)
    trainers = IQLTrainer(without, config), IQLTrainer(beside, settings)
    losses = []
    for number in range(1, 10):
        batch = make_batch(seed + number)
        plain, row = (trainer.update(batch) for trainer in trainers)
        assert set(row) - set(plain) == {"dynamics_loss"}
        assert all(torch.equal(plain[name], row[name]) for name in plain)
        losses.append(float(row["dynamics_loss"]))
    assert len(set(losses)) == math.ceil(9 / UPDATE_EVERY)
    for name, tensor in without.state_dict().items():
        assert torch.equal(tensor, beside.state_dict()[name]), name
    assert not same_networks(config, settings)


@pytest.mark.parametrize("before", [3, 4, 5])
def test_resumed_it_goes_on_as_if_it_had_not_stopped(before: int) -> None:
    critic, config = make_critic(2)
    straight = IQLTrainer(critic, config)
    for number in range(10):
        if number == before:
            kept = {name: tensor.clone() for name, tensor in critic.state_dict().items()}
            packed = {name: pack_optimizer(optimizer) for name, optimizer in straight.optimizers().items()}
            packed = {
                name: ({k: v.clone() for k, v in tensors.items()}, facts) for name, (tensors, facts) in packed.items()
            }
        straight.update(make_batch(number), 1.0 - 0.1 * number)
    other, _ = make_critic(7)
    other.load_state_dict(kept)
    resumed = IQLTrainer(other, config)
    for name, optimizer in resumed.optimizers().items():
        unpack_optimizer(optimizer, *packed[name])
    for number in range(before, 10):
        resumed.update(make_batch(number), 1.0 - 0.1 * number)
    for name, tensor in critic.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
