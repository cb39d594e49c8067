"""The squashed Gaussian against torch.distributions."""

import pytest
import torch
from torch import distributions

from m3pc_ray.model.distribution import SquashedGaussian


def reference(mean: torch.Tensor, log_std: torch.Tensor) -> distributions.TransformedDistribution:
    return distributions.TransformedDistribution(
        distributions.Normal(mean, log_std.exp()), [distributions.transforms.TanhTransform(cache_size=1)]
    )


@pytest.fixture
def parameters() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 3, generator=generator), torch.rand(6, 3, generator=generator) * 3 - 3


def test_log_probability(parameters: tuple[torch.Tensor, torch.Tensor]) -> None:
    mean, log_std = parameters
    ours = SquashedGaussian(mean, log_std, action_clip=1e-3)
    actions = ours.sample(torch.randn(6, 3, generator=torch.Generator().manual_seed(1))).clamp(-0.99, 0.99)
    expected = reference(mean, log_std).log_prob(actions).sum(-1)
    torch.testing.assert_close(ours.log_prob(actions), expected, rtol=1e-4, atol=1e-4)


def test_actions_at_the_bounds_have_a_finite_likelihood(parameters: tuple[torch.Tensor, torch.Tensor]) -> None:
    ours = SquashedGaussian(*parameters, action_clip=1e-3)
    at_bounds, clamped = torch.ones(6, 3), torch.full((6, 3), 1 - 1e-3)
    assert torch.isfinite(ours.log_prob(at_bounds)).all()
    torch.testing.assert_close(ours.log_prob(at_bounds), ours.log_prob(clamped))


def test_entropy_equals_a_monte_carlo_estimate(parameters: tuple[torch.Tensor, torch.Tensor]) -> None:
    mean, log_std = parameters
    torch.manual_seed(2)
    other = reference(mean.double(), log_std.double())
    samples = other.rsample(torch.Size([100_000]))
    estimate = -other.log_prob(samples).sum(-1).mean(0)
    torch.testing.assert_close(SquashedGaussian(mean, log_std).entropy().double(), estimate, atol=0.02, rtol=0)


def test_entropy_of_wide_distributions_falls_again() -> None:
    """Past a standard deviation of about 1 the tanh piles mass up at the bounds: the reason for log_std_max."""
    entropies = [
        float(SquashedGaussian(torch.zeros(1), torch.tensor([log_std])).entropy()) for log_std in (-1.0, -0.1, 2.0)
    ]
    assert entropies[0] < entropies[1]
    assert entropies[2] < entropies[1]


def test_expectation_equals_a_fine_integral(parameters: tuple[torch.Tensor, torch.Tensor]) -> None:
    mean, log_std = parameters
    distribution = SquashedGaussian(mean, log_std)
    grid = torch.linspace(-8, 8, 20_001, dtype=torch.float64)
    density = torch.exp(-0.5 * grid.square()) / (2 * torch.pi) ** 0.5
    actions = torch.tanh(mean.double().unsqueeze(-1) + log_std.double().exp().unsqueeze(-1) * grid)
    expected = torch.trapezoid(actions * density, grid, dim=-1)
    torch.testing.assert_close(distribution.expectation().double(), expected, atol=1e-4, rtol=0)


def test_mode_and_sampling(parameters: tuple[torch.Tensor, torch.Tensor]) -> None:
    mean, log_std = parameters
    ours = SquashedGaussian(mean, log_std)
    torch.testing.assert_close(ours.mode(), torch.tanh(mean))
    noise = torch.full((6, 3), 0.5)
    torch.testing.assert_close(ours.sample(noise), torch.tanh(mean + 0.5 * log_std.exp()))
