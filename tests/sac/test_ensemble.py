"""RLPD's update against slow plain versions of it."""

import numpy as np
import pytest
import torch
from stable_baselines3.common.type_aliases import ReplayBufferSamples

from m3pc_ray.sac.trainer import SacTrainer
from tests.sac.factory import ECHO, offline_episodes, tiny_rlpd, tiny_sac


def scatter(module: torch.nn.Module, seed: int) -> None:
    """Random weights everywhere, so that no gain is 1 and no bias 0, and targets differ from critics."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)


def random_batch(rng: np.random.Generator, rows: int) -> ReplayBufferSamples:
    def normal(*shape: int) -> torch.Tensor:
        return torch.as_tensor(rng.normal(size=shape).astype(np.float32))

    dones = torch.as_tensor(rng.integers(0, 2, size=(rows, 1)).astype(np.float32))
    return ReplayBufferSamples(normal(rows, 3), torch.tanh(normal(rows, 2)), normal(rows, 3), dones, normal(rows, 1))


def slow_q(critic, member: int, observation: np.ndarray, action: np.ndarray) -> float:
    """One member's value of one pair, by its weights alone, in double precision."""
    parts = {name: value.numpy().astype(np.float64) for name, value in critic.q_networks[member].state_dict().items()}
    numbers = sorted({int(name.partition(".")[0]) for name in parts})
    x = np.concatenate([observation, action]).astype(np.float64)
    for position, number in enumerate(numbers):
        weight, bias = parts[f"{number}.weight"], parts[f"{number}.bias"]
        if weight.ndim == 2:
            x = weight @ x + bias
        else:  # LayerNorm
            x = weight * (x - x.mean()) / np.sqrt(((x - x.mean()) ** 2).mean() + 1e-5) + bias
        last = position + 1 == len(numbers)
        before_norm = not last and parts[f"{numbers[position + 1]}.weight"].ndim == 1
        if not last and not before_norm:
            x = np.maximum(x, 0.0)
    return float(x[0])


def slow_action(actor, observation: torch.Tensor, noise: np.ndarray) -> tuple[np.ndarray, float]:
    """A squashed Gaussian's draw and its log-density by the change of variables."""
    mean, log_std, _ = actor.get_action_dist_params(observation[None])
    mean, std = mean[0].detach().numpy().astype(np.float64), log_std[0].exp().detach().numpy().astype(np.float64)
    action = np.tanh(mean + std * noise)
    gaussian = -0.5 * noise**2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    return action, float((gaussian - np.log(1 - action**2 + 1e-6)).sum())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("layer_norm", [True, False])
@pytest.mark.parametrize("entropy_backup", [True, False])
def test_targets_are_what_the_paper_says(seed, layer_norm, entropy_backup):
    settings = tiny_rlpd(critics=5, layer_norm=layer_norm, entropy_backup=entropy_backup, discount=0.9)
    model = SacTrainer(ECHO, seed, settings).model
    for number, module in enumerate((model.actor, model.critic, model.critic_target)):
        scatter(module, 10 * seed + number)
    with torch.no_grad():
        model.log_ent_coef.fill_(-0.7)
    rng = np.random.default_rng(seed)
    batch, members = random_batch(rng, 6), rng.permutation(5)[:2].tolist()
    torch.manual_seed(seed)
    goal = model.critic_goal(batch, members).numpy()
    torch.manual_seed(seed)
    noise = torch.normal(torch.zeros(6, 2), torch.ones(6, 2)).numpy().astype(np.float64)
    for row in range(6):
        action, log_density = slow_action(model.actor, batch.next_observations[row], noise[row])
        observation = batch.next_observations[row].numpy()
        future = min(slow_q(model.critic_target, int(member), observation, action) for member in members)
        if entropy_backup:
            future -= np.exp(-0.7) * log_density
        expected = float(batch.rewards[row]) + (0.0 if batch.dones[row] else 0.9 * future)
        assert goal[row] == pytest.approx(expected, rel=2e-4, abs=2e-4)


@pytest.mark.parametrize("layer_norm", [True, False])
def test_critics_are_separate_networks_with_layer_norm_before_the_relu(layer_norm):
    critic = SacTrainer(ECHO, 0, tiny_rlpd(critics=4, layer_norm=layer_norm)).model.critic
    norms = [module for module in critic.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert len(norms) == (8 if layer_norm else 0)
    scatter(critic, 3)
    batch = random_batch(np.random.default_rng(0), 5)
    values = critic.values(batch.observations, batch.actions).detach().numpy()
    some = critic.values(batch.observations, batch.actions, [3, 1]).detach().numpy()
    np.testing.assert_allclose(some, values[[3, 1]], rtol=1e-5, atol=1e-5)
    for member in range(4):
        for row in range(5):
            slow = slow_q(critic, member, batch.observations[row].numpy(), batch.actions[row].numpy())
            assert values[member, row] == pytest.approx(slow, rel=1e-4, abs=1e-4)


def test_every_target_draws_its_own_pair_and_the_actor_moves_once(monkeypatch):
    model = SacTrainer(ECHO, 0, tiny_rlpd(), offline_episodes(0)).model
    fill(model)
    drawn, actor_steps = [], []
    plain_goal, plain_step = model.critic_goal, model.actor.optimizer.step
    monkeypatch.setattr(model, "critic_goal", lambda b, m: (drawn.append(tuple(m)), plain_goal(b, m))[1])
    monkeypatch.setattr(model.actor.optimizer, "step", lambda: (actor_steps.append(1), plain_step())[1])
    model.train(30, 16)
    assert len(actor_steps) == 1
    assert len(drawn) == 30
    assert all(len(set(pair)) == 2 and max(pair) < 10 for pair in drawn)
    assert {member for pair in drawn for member in pair} == set(range(10))
    assert model._n_updates == 30


def test_one_update_is_gradient_descent_on_the_plain_losses():
    """Adam's first step moves every weight by the learning rate against its gradient's sign, fused or not."""
    trainer = SacTrainer(ECHO, 0, tiny_rlpd(critics=3), offline_episodes(0))
    model = trainer.model
    fill(model)
    batch = random_batch(np.random.default_rng(1), 16)
    model.replay_buffer.sample = lambda size: batch
    before = {name: value.clone() for name, value in model.policy.named_parameters()}
    torch.manual_seed(4)
    members = torch.randperm(3)[:2].tolist()
    goal = model.critic_goal(batch, members)
    values = model.critic.values(batch.observations, batch.actions)
    loss = sum(((values[member] - goal) ** 2).mean() for member in range(3))
    gradients = torch.autograd.grad(loss, list(model.critic.parameters()))
    torch.manual_seed(4)
    model.train(1, 16)
    rate = trainer.settings.learning_rate
    for (name, after), gradient in zip(model.critic.named_parameters(), gradients, strict=True):
        moved = after.detach() - before[f"critic.{name}"]
        expected = -rate * gradient / (gradient.abs() + 1e-8)
        torch.testing.assert_close(moved, expected, rtol=1e-2, atol=2e-6)
        target = dict(model.critic_target.named_parameters())[name]
        torch.testing.assert_close(target.detach(), before[f"critic_target.{name}"].lerp(after.detach(), 0.005))
    assert any(not torch.equal(after, before[f"actor.{name}"]) for name, after in model.actor.named_parameters())


@pytest.mark.parametrize("settings", [tiny_sac(), tiny_sac(layer_norm=True), tiny_rlpd()])
def test_the_fused_optimizer_computes_what_the_plain_one_does(settings):
    models = []
    for fused in (True, False):
        model = SacTrainer(ECHO, 0, settings).model
        fill(model)
        for optimizer in (model.actor.optimizer, model.critic.optimizer):
            for group in optimizer.param_groups:
                assert group["fused"]
                group["fused"] = fused
        torch.manual_seed(0)
        np.random.seed(0)
        model.train(3, 16)
        models.append(model)
    for one, other in zip(models[0].policy.parameters(), models[1].policy.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def fill(model) -> None:
    """Random steps in the replay buffer."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        seen, action = rng.normal(size=(2, 1, 3)), rng.uniform(-1, 1, size=(1, 2))
        model.replay_buffer.add(seen[0], seen[1], action, rng.normal(size=1), np.array([False]), [{}])
    model._logger = None
    from stable_baselines3.common.logger import Logger

    model.set_logger(Logger(None, []))
