"""A critic of many Qs, with and without LayerNorm, against loops over networks and transitions."""

import numpy as np
import pytest
import torch

from m3pc_ray.config import CriticConfig
from m3pc_ray.critic.iql import IQLCritic, same_networks
from m3pc_ray.critic.trainer import IQLTrainer, drawn_targets, losses
from m3pc_ray.planning.scoring import FastScorer
from m3pc_ray.training.state import pack_optimizer, unpack_optimizer
from tests.critic.slow_ensemble import slow_losses, slow_output

OBSERVATION_DIM, ACTION_DIM = 5, 2
KINDS = [(2, False), (2, True), (3, False), (5, True)]


def fresh_seed() -> int:
    return int(np.random.SeedSequence().generate_state(1)[0])


def make_critic(seed: int, size: int, layer_norm: bool) -> tuple[IQLCritic, CriticConfig]:
    """Random in every parameter, the norms' too; targets differ from what they follow."""
    config = CriticConfig(dynamics=False, hidden_width=16, ensemble_size=size, layer_norm=layer_norm)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    critic = IQLCritic(OBSERVATION_DIM, ACTION_DIM, config, rng.normal(size=5), rng.uniform(0.5, 2.0, size=5), 3.0, 2.0)
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return critic, config


def make_batch(seed: int, rows: int = 12) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "observations": torch.randn(rows, OBSERVATION_DIM, generator=generator),
        "actions": torch.rand(rows, ACTION_DIM, generator=generator) * 2 - 1,
        "rewards": torch.randn(rows, generator=generator),
        "next_observations": torch.randn(rows, OBSERVATION_DIM, generator=generator),
        "terminated": (torch.rand(rows, generator=generator) < 0.3).float(),
    }


@pytest.mark.parametrize(("size", "layer_norm"), KINDS)
def test_losses_and_gradients_equal_the_loops(size: int, layer_norm: bool) -> None:
    seed = fresh_seed()
    critic, config = make_critic(seed, size, layer_norm)
    batch = make_batch(seed)
    targets = drawn_targets(seed, 7, size)
    expected = slow_losses(critic, config, batch, targets)
    torch.testing.assert_close(losses(critic, config, batch, targets), expected, rtol=1e-4, atol=1e-5)
    sum(expected).backward()
    learnt = [*critic.q.parameters(), *critic.v.parameters()]
    gradients = [parameter.grad.clone() for parameter in learnt if parameter.grad is not None]
    assert len(gradients) == len(learnt) == (20 if layer_norm else 12)
    trainer = IQLTrainer(critic, config)
    got = trainer.backward(batch, targets)
    torch.testing.assert_close(got[:2], tuple(loss.detach() for loss in expected), rtol=1e-4, atol=1e-5)
    for parameter, gradient in zip(learnt, gradients, strict=True):
        assert gradient.abs().max() > 0, seed
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-5, msg=f"seed {seed}")
    if size > 2:
        others = [member for member in range(size) if member not in targets][:1] + targets[:1]
        named = tuple(loss.detach() for loss in slow_losses(critic, config, batch, others))
        torch.testing.assert_close(trainer.backward(batch, others)[:2], named, rtol=1e-4, atol=1e-5, msg=f"seed {seed}")


@pytest.mark.parametrize(("size", "layer_norm"), KINDS)
@torch.no_grad()
def test_scores_equal_the_loops(size: int, layer_norm: bool) -> None:
    seed = fresh_seed()
    critic, _ = make_critic(seed, size, layer_norm)
    generator = torch.Generator().manual_seed(seed)
    observations = 2.0 * torch.randn(3, 4, OBSERVATION_DIM, generator=generator)
    actions = torch.rand(3, 4, ACTION_DIM, generator=generator) * 2 - 1
    for target in (True, False):
        critic.score_with_target = target
        network = critic.q_target if target else critic.q
        expected = torch.empty(size, 3, 4)
        for member in range(size):
            for index in np.ndindex(3, 4):
                state = (observations[index] - critic.states_mean) / critic.states_std
                expected[(member, *index)] = slow_output(network, member, torch.cat([state, actions[index]]))
        expected = 3.0 + 2.0 * expected
        for scorer in (critic, FastScorer(critic)):
            members = scorer.q_members(observations, actions)
            torch.testing.assert_close(members, expected, rtol=1e-4, atol=1e-4, msg=f"seed {seed}")
            torch.testing.assert_close(scorer.q_min(observations, actions), members.amin(0), rtol=0, atol=0)
        rough = FastScorer(critic, torch.bfloat16).q_members(observations, actions)
        assert 0.0 < (rough - expected).abs().max() < 0.05 * expected.abs().max(), seed


def test_bfloat16_gradients_of_a_normed_ensemble_point_the_same_way() -> None:
    critic, config = make_critic(3, 5, True)
    batch = make_batch(4, rows=64)

    def gradients(dtype: torch.dtype) -> torch.Tensor:
        IQLTrainer(critic, config, dtype).backward(batch, [1, 3])
        learnt = [*critic.q.parameters(), *critic.v.parameters()]
        return torch.cat([parameter.grad.flatten() for parameter in learnt if parameter.grad is not None])

    exact, rounded = gradients(torch.float32), gradients(torch.bfloat16)
    assert torch.cosine_similarity(exact, rounded, dim=0) > 0.998
    assert not torch.equal(exact, rounded)


def test_targets_are_any_two_alike_and_depend_on_seed_and_update_alone() -> None:
    draws = [tuple(drawn_targets(3, update, 5)) for update in range(2000)]
    counts = {pair: draws.count(pair) for pair in set(draws)}
    assert len(counts) == 10
    assert all(first < second for first, second in counts)
    assert all(140 < count < 260 for count in counts.values())  # 200 expected, standard deviation 13
    assert draws == [tuple(drawn_targets(3, update, 5)) for update in range(2000)]
    assert draws != [tuple(drawn_targets(4, update, 5)) for update in range(2000)]


def test_a_resumed_ensemble_goes_on_bit_for_bit() -> None:
    batches = [make_batch(index, rows=32) for index in range(12)]
    critic, config = make_critic(1, 4, True)
    start = {name: value.clone() for name, value in critic.state_dict().items()}
    trainer = IQLTrainer(critic, config, seed=9)
    for batch in batches[:6]:
        trainer.update(batch)
    middle = {name: value.clone() for name, value in critic.state_dict().items()}
    packed = pack_optimizer(trainer.optimizer)
    packed = ({name: value.clone() for name, value in packed[0].items()}, packed[1])
    for batch in batches[6:]:
        trainer.update(batch)
    again, _ = make_critic(2, 4, True)
    again.load_state_dict(middle)
    resumed = IQLTrainer(again, config, seed=9)
    unpack_optimizer(resumed.optimizer, *packed)
    for batch in batches[6:]:
        resumed.update(batch)
    for name, value in critic.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert any(not torch.equal(value, start[name]) for name, value in middle.items())


def test_checkpoints_of_before_still_fit() -> None:
    """The names, shapes and order of a critic without ensemble and norms are those that earlier versions wrote."""
    config = CriticConfig(hidden_width=16, dynamics=False)
    critic = IQLCritic(OBSERVATION_DIM, ACTION_DIM, config, np.zeros(5), np.ones(5))
    buffers = ["value_mean", "value_std", "states_mean", "states_std"]
    networks = [
        f"{n}.{kind}.{layer}" for n in ("q", "q_target", "v") for kind in ("weights", "biases") for layer in (0, 1, 2)
    ]
    assert set(critic.state_dict()) == {*buffers, *networks}
    assert critic.q.weights[0].shape == (2, 7, 16)
    stacked = 3 * (7 * 16 + 16 + 16 * 16 + 16 + 16 + 1)
    assert IQLTrainer(critic, config).optimizer.param_groups[0]["params"][0].numel() == stacked


def test_what_fits_together() -> None:
    assert same_networks(CriticConfig(), CriticConfig(expectile=0.9))
    for other in (
        CriticConfig(ensemble_size=3),
        CriticConfig(layer_norm=True),
        CriticConfig(hidden_width=64),
        CriticConfig(dynamics=False),
    ):
        assert not same_networks(CriticConfig(), other)
