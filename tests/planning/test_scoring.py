import torch

from m3pc_ray.planning.scoring import FastScorer
from tests.planning.factory import ACTION_DIM, OBSERVATION_DIM, fresh_seed, make_critic, make_model


def test_scorer_equals_the_critic() -> None:
    seed = fresh_seed()
    critic = make_critic(seed, make_model(seed))
    generator = torch.Generator().manual_seed(seed)
    observations = 3.0 * torch.randn(4, 5, 3, OBSERVATION_DIM, generator=generator)
    actions = torch.tanh(torch.randn(4, 5, 3, ACTION_DIM, generator=generator))
    with torch.no_grad():
        for parameter in critic.q_target.parameters():
            parameter.mul_(1.3)  # the averaged Qs and the newest differ
    for score_with_target in (True, False):
        critic.score_with_target = score_with_target
        expected = critic.q_min(observations, actions)
        scale = expected.abs().max()
        exact = FastScorer(critic).q_min(observations, actions)
        assert exact.shape == (4, 5, 3)
        assert (exact - expected).abs().max() < 1e-5 * scale, seed
        rough = FastScorer(critic, torch.bfloat16).q_min(observations, actions)
        assert rough.dtype == torch.float32
        assert 0.0 < (rough - expected).abs().max() < 0.02 * scale, seed


def test_scorer_changes_at_refresh_only() -> None:
    critic = make_critic(0, make_model(0))
    observations, actions = torch.ones(3, OBSERVATION_DIM), torch.zeros(3, ACTION_DIM)
    scorer = FastScorer(critic)
    before = scorer.q_min(observations, actions)
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.mul_(2.0)
        critic.states_mean.add_(1.0)
        critic.value_mean.add_(5.0)
        critic.value_std.mul_(3.0)
    torch.testing.assert_close(scorer.q_min(observations, actions), before, rtol=0, atol=0)
    scorer.refresh()
    torch.testing.assert_close(scorer.q_min(observations, actions), critic.q_min(observations, actions))
