"""TD3+BC against the textbook, written out plainly."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from m3pc_ray.config import ModelConfig
from m3pc_ray.model.network import TrajectoryModel
from m3pc_ray.representations.features import VARIANTS, Features, Variant, constant_features, make_features
from m3pc_ray.representations.td3 import TD3BC, TD3Config, TwinCritic
from m3pc_ray.trajectories.statistics import Statistics

OBSERVATION_DIM, ACTION_DIM, BATCH = 5, 2, 32


def make_model(seed: int = 0, **settings: object) -> TrajectoryModel:
    torch.manual_seed(seed)
    zeros, ones = np.zeros(OBSERVATION_DIM, np.float32), np.ones(OBSERVATION_DIM, np.float32)
    statistics = Statistics(zeros, ones, 0.0, 1.0, 0.0, 1.0)
    model = TrajectoryModel(OBSERVATION_DIM, ACTION_DIM, ModelConfig(width=16, heads=2, **settings), statistics)
    nn.init.normal_(model.modality_embedding)
    return model


def make_batch(seed: int = 0, rows: int = BATCH) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "observations": torch.randn(rows, OBSERVATION_DIM, generator=generator),
        "actions": torch.rand(rows, ACTION_DIM, generator=generator) * 2 - 1,
        "rewards": torch.randn(rows, generator=generator),
        "next_observations": torch.randn(rows, OBSERVATION_DIM, generator=generator),
        "terminated": (torch.rand(rows, generator=generator) < 0.3).float(),
    }


def with_features(features: Features, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return batch | constant_features(features, batch["observations"], batch["actions"], batch["next_observations"])


class Textbook:
    """Two updates of TD3+BC on raw observations with torch's own modules: a critic's, then both."""

    def __init__(self, learner: TD3BC) -> None:
        self.config = learner.config
        self.actor = self._mlp(*((layer.weight, layer.bias) for layer in _layers(learner)), end=nn.Tanh())
        self.critics = []
        networks = learner.critic.networks
        for member in range(2):
            pairs = zip(networks.weights, networks.biases, strict=True)
            self.critics.append(self._mlp(*((w[member].T, b[member, 0]) for w, b in pairs)))
        self.actor_target, self.critic_targets = copy.deepcopy(self.actor), copy.deepcopy(self.critics)
        rate = self.config.learning_rate
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), rate)
        self.critic_optimizer = torch.optim.Adam([p for q in self.critics for p in q.parameters()], rate)

    @staticmethod
    def _mlp(*layers: tuple[Tensor, Tensor], end: nn.Module | None = None) -> nn.Sequential:
        modules: list[nn.Module] = []
        for weight, bias in layers:
            linear = nn.Linear(weight.shape[1], weight.shape[0])
            linear.load_state_dict({"weight": weight.detach(), "bias": bias.detach()})
            modules += [linear, nn.ReLU()]
        return nn.Sequential(*modules[:-1], *([end] if end else []))

    def critic_step(self, batch: dict[str, Tensor], next_actions: Tensor) -> Tensor:
        after = torch.cat([batch["next_observations"], next_actions], 1)
        with torch.no_grad():
            best = torch.minimum(*(q(after)[:, 0] for q in self.critic_targets))
            goal = torch.where(
                batch["terminated"] > 0, batch["rewards"], batch["rewards"] + self.config.discount * best
            )
        pairs = torch.cat([batch["observations"], batch["actions"]], 1)
        loss = sum(functional.mse_loss(q(pairs)[:, 0], goal) for q in self.critics)
        self.critic_optimizer.zero_grad()
        loss.backward()
        self.critic_optimizer.step()
        return loss.detach()

    def actor_step(self, batch: dict[str, Tensor]) -> Tensor:
        actions = self.actor(batch["observations"])
        q = self.critics[0](torch.cat([batch["observations"], actions], 1))[:, 0]
        weight = self.config.alpha / q.abs().mean().item()
        loss = -weight * q.mean() + functional.mse_loss(actions, batch["actions"])
        self.actor_optimizer.zero_grad()
        loss.backward()
        self.actor_optimizer.step()
        pairs = [(self.actor, self.actor_target), *zip(self.critics, self.critic_targets, strict=True)]
        with torch.no_grad():
            for network, target in pairs:
                for mine, its in zip(network.parameters(), target.parameters(), strict=True):
                    its.copy_((1 - self.config.polyak) * its + self.config.polyak * mine)
        return loss.detach()


def _layers(learner: TD3BC) -> list[nn.Linear]:
    return [learner.actor.first, learner.actor.second, learner.actor.last]


def test_two_updates_are_those_of_the_textbook(monkeypatch: pytest.MonkeyPatch) -> None:
    config = TD3Config(hidden_width=24, learning_rate=1e-2, polyak=0.1)
    learner = TD3BC(Features(OBSERVATION_DIM, ACTION_DIM), ACTION_DIM, config, seed=3)
    textbook = Textbook(learner)
    noisy: list[Tensor] = []
    smoothed = learner.target_actions

    def remember(observations: Tensor, state: Tensor | None = None) -> Tensor:
        noisy.append(smoothed(observations, state))
        return noisy[-1]

    monkeypatch.setattr(learner, "target_actions", remember)
    for step in range(4):
        batch = make_batch(step)
        metrics = learner.update(batch)
        assert metrics["critic_loss"] == pytest.approx(float(textbook.critic_step(batch, noisy[-1])), rel=1e-4)
        if step % 2:
            assert metrics["actor_loss"] == pytest.approx(float(textbook.actor_step(batch)), rel=1e-3, abs=1e-5)
    observations = make_batch(9)["observations"]
    actions = textbook.actor(observations)
    assert torch.allclose(learner.act(observations), actions, atol=1e-5)
    assert torch.allclose(learner.actor_target(observations), textbook.actor_target(observations), atol=1e-5)
    pairs = torch.cat([observations, actions], 1)
    for network, plain in ((learner.critic, textbook.critics), (learner.critic_target, textbook.critic_targets)):
        expected = torch.stack([q(pairs)[:, 0] for q in plain])
        assert torch.allclose(network(observations, actions), expected, atol=1e-5)


def test_target_actions_have_clipped_noise_and_stay_in_bounds() -> None:
    features = Features(OBSERVATION_DIM, ACTION_DIM)
    learner = TD3BC(features, ACTION_DIM, TD3Config(hidden_width=8, policy_noise=1.0, noise_clip=0.3))
    nn.init.normal_(learner.actor_target.last.bias, std=2.0)  # some actions near the bounds
    observations = torch.randn(4096, OBSERVATION_DIM)
    plain, noisy = learner.actor_target(observations), learner.target_actions(observations)
    assert noisy.abs().max() <= 1.0
    moved = (noisy - plain).abs()
    assert moved.max() <= 0.3 + 1e-6
    assert (moved > 0.3 - 1e-6).float().mean() > 0.3  # noise that wide is often clipped
    assert not torch.equal(noisy, learner.target_actions(observations))
    quiet = TD3BC(features, ACTION_DIM, TD3Config(hidden_width=8, policy_noise=0.0))
    assert torch.equal(quiet.target_actions(observations), quiet.actor_target(observations))


@pytest.mark.parametrize("delay", [1, 3])
def test_actor_and_targets_wait_for_their_turn(delay: int) -> None:
    learner = TD3BC(Features(OBSERVATION_DIM, ACTION_DIM), ACTION_DIM, TD3Config(hidden_width=8, policy_delay=delay))
    waiting = (learner.actor, learner.actor_target, learner.critic_target)
    for step in range(1, 7):
        before = [copy.deepcopy(network.state_dict()) for network in waiting]
        critic = learner.critic.networks.weights[0].clone()
        metrics = learner.update(make_batch(step))
        assert not torch.equal(critic, learner.critic.networks.weights[0])
        moved = [
            any(not torch.equal(old[name], new) for name, new in network.state_dict().items())
            for old, network in zip(before, waiting, strict=True)
        ]
        assert moved == [step % delay == 0] * 3
        assert ("actor_loss" in metrics) == (step % delay == 0)


def test_one_q_of_the_twin_critic_is_its_first() -> None:
    critic = TwinCritic(Features(OBSERVATION_DIM, ACTION_DIM), 16, torch.float32)
    batch = make_batch()
    pair = batch["observations"], batch["actions"]
    assert torch.allclose(critic(*pair)[0], critic.first(*pair), atol=1e-6)
    assert not torch.allclose(critic(*pair)[0], critic(*pair)[1], atol=1e-3)


def weights(module: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in ("raw", "finetuned")])
@pytest.mark.parametrize("known", [False, True])
def test_a_frozen_encoder_keeps_every_bit(variant: Variant, known: bool) -> None:
    features = make_features(variant, make_model(), torch.bfloat16)
    learner = TD3BC(features, ACTION_DIM, TD3Config(hidden_width=8, learning_rate=1e-2), dtype=torch.bfloat16)
    before = weights(features)
    actor = learner.actor.first.weight.clone()
    for step in range(4):
        batch = make_batch(step)
        learner.update(with_features(features, batch) if known else batch)
    assert all(torch.equal(old, new) for old, new in zip(before, weights(features), strict=True))
    assert not torch.equal(actor, learner.actor.first.weight)
    for network in (learner.actor, learner.critic, learner.actor_target, learner.critic_target):
        assert network.features is features


def test_finetuning_trains_both_encoders_and_their_targets_follow() -> None:
    model = make_model()
    untouched = weights(model)
    features = make_features("finetuned", model)
    config = TD3Config(hidden_width=8, encoder_learning_rate=1e-3, polyak=0.25)
    learner = TD3BC(features, ACTION_DIM, config)
    first = weights(features)
    learner.update(make_batch(0))
    assert all(torch.equal(old, new) for old, new in zip(first, weights(learner.actor.features), strict=True))
    moved = [not torch.equal(old, new) for old, new in zip(first, weights(learner.critic.features), strict=True)]
    assert all(moved)  # every weight of the critic's encoder, the embedding of actions too
    learner.update(make_batch(1))
    assert any(not torch.equal(old, new) for old, new in zip(first, weights(learner.actor.features), strict=True))
    for network, target in ((learner.actor, learner.actor_target), (learner.critic, learner.critic_target)):
        assert target.features is not network.features
        for start, now, its in zip(first, weights(network.features), weights(target.features), strict=True):
            assert torch.allclose(its, start + 0.25 * (now - start), atol=1e-7)
    largest = max((new - old).abs().max() for old, new in zip(first, weights(learner.critic.features), strict=True))
    assert largest <= 2 * 1e-3 * 1.01  # Adam moves a weight by its learning rate at most: the encoder's, not 3e-4
    assert largest > 3 * 3e-4
    assert all(torch.equal(old, new) for old, new in zip(untouched, weights(model), strict=True))


def test_the_actor_hears_of_the_action_through_a_frozen_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no pull to the data, the actor's steps raise Q1, which it can only by gradients through the encoder."""
    features = make_features("state_action_frozen", make_model())
    config = TD3Config(hidden_width=16, behaviour_cloning=False, policy_delay=1, learning_rate=3e-3)
    learner = TD3BC(features, ACTION_DIM, config)
    batch = make_batch()
    descend = learner._descend
    monkeypatch.setattr(learner, "_descend", lambda name, loss: descend(name, loss) if name == "actor" else None)

    @torch.no_grad()
    def value() -> float:
        return float(learner.critic.first(batch["observations"], learner.act(batch["observations"])).mean())

    before = value()
    for _ in range(30):
        learner.update(batch)
    assert value() > before + 1e-3


def bandit(rows: int, seed: int) -> dict[str, Tensor]:
    """One step an episode; the reward is best at action (0.5, -0.5), the data's actions lie evenly around (0, 0)."""
    generator = torch.Generator().manual_seed(seed)
    actions = 1.98 * torch.rand(rows, ACTION_DIM, generator=generator) - 0.99
    observations = torch.randn(rows, OBSERVATION_DIM, generator=generator)
    return {
        "observations": observations,
        "actions": actions,
        "rewards": 1.0 - (actions - torch.tensor([0.5, -0.5])).square().sum(1),
        "next_observations": observations,
        "terminated": torch.ones(rows),
    }


def test_it_improves_on_the_data_where_cloning_would_not() -> None:
    """Cloning ends at the data's mean action with loss 0.5; TD3+BC goes towards the better ones."""
    data = bandit(2000, 0)
    config = TD3Config(hidden_width=32, learning_rate=1e-3, batch_size=128)
    learner = TD3BC(Features(OBSERVATION_DIM, ACTION_DIM), ACTION_DIM, config, seed=1)
    rng = np.random.default_rng(0)
    for _ in range(600):
        at = torch.as_tensor(rng.integers(2000, size=config.batch_size))
        learner.update({name: values[at] for name, values in data.items()})
    actions = learner.act(data["observations"])
    loss = (actions - torch.tensor([0.5, -0.5])).square().sum(1).mean()
    assert data["actions"].mean(0).abs().max() < 0.05
    assert loss < 0.2
