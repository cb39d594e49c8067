"""The width of fixed noise: entropies in closed form and by sampling, and where it is measured."""

from pathlib import Path

import numpy as np
import pytest
import torch

from m3pc_ray.configuration import with_settings
from m3pc_ray.errors import UserError
from m3pc_ray.model.distribution import SquashedGaussian
from m3pc_ray.online.exploration import exploring_planner
from m3pc_ray.online.preparation import finetune_config, prepare
from m3pc_ray.planning.planner import ForwardPlanner
from m3pc_ray.training.assemble import load_models
from m3pc_ray.training.noise_std import missing, std_of_entropy
from m3pc_ray.training.pretraining import Pretraining
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.training.utility_units import BEST_SHARE, best_share, data_context
from tests.online.factory import make_pretrained_run, random_episodes, tiny_config


def fresh_proposal(seed: int, rows: int = 40, action_dim: int = 3) -> SquashedGaussian:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(rows, action_dim, generator=generator)
    return SquashedGaussian(mean, torch.rand(rows, action_dim, generator=generator) * 2.5 - 3.0)


def sampled_entropy(proposal: SquashedGaussian, seed: int, draws: int = 4000) -> tuple[float, float]:
    """Mean entropy over rows by Monte Carlo, and its standard error: -log of the density of what is drawn, with the
    density written out."""
    generator = torch.Generator().manual_seed(seed)
    mean, log_std = proposal.mean.double(), proposal.log_std.double()
    noise = torch.randn(draws, *mean.shape, generator=generator, dtype=torch.float64)
    pre_tanh = mean + log_std.exp() * noise
    log_density = -0.5 * noise.square() - log_std - 0.5 * np.log(2 * np.pi) + 2.0 * torch.cosh(pre_tanh).log()
    values = -log_density.sum(-1).mean(1)
    return float(values.mean()), float(values.std()) / draws**0.5


def test_the_noise_has_the_entropy_of_the_model() -> None:
    seed = int(np.random.SeedSequence().generate_state(1)[0])
    proposal = fresh_proposal(seed)
    entropy = float(proposal.entropy().mean())
    fixed = proposal.with_std(std_of_entropy(proposal, entropy))
    assert float(fixed.entropy().mean()) == pytest.approx(entropy, abs=1e-4), f"seed {seed}"
    for one in (proposal, fixed):
        estimate, error = sampled_entropy(one, seed + 1)
        assert abs(estimate - entropy) < 5 * error + 1e-3, f"seed {seed}: {estimate} +- {error}, not {entropy}"
    assert float(fixed.log_std.std()) < 1e-6 < float(proposal.log_std.std())


def test_a_wider_noise_is_found_for_a_higher_entropy() -> None:
    proposal = fresh_proposal(1)
    widths = [std_of_entropy(proposal, entropy) for entropy in (-6.0, -3.0, -1.0)]
    assert widths[0] < widths[1] < widths[2]
    # One dimension around 0: the tanh hardly matters, H = 0.5 log(2 pi e std^2).
    narrow = SquashedGaussian(torch.zeros(1, 1), torch.zeros(1, 1))
    assert std_of_entropy(narrow, -4.0) == pytest.approx(np.exp(-4.0) / np.sqrt(2 * np.pi * np.e), rel=1e-3)


@pytest.mark.parametrize("entropy", [-100.0, 2.1])
def test_an_entropy_that_no_noise_has_is_refused(entropy: float) -> None:
    with pytest.raises(UserError, match=r"no fixed noise .* entropy of .* give planner.noise_std a number"):
        std_of_entropy(fresh_proposal(2), entropy)


def entropy_on_data(run: RunFolder, noise: str) -> float:
    """Mean entropy of what the run explores with, over other states of the best episodes than it was measured on."""
    models = load_models(run)
    config = with_settings(run.config(), {"online.action_noise": noise})
    planner = ForwardPlanner(models.model, models.critic, exploring_planner(config), 0.99, models.prompt)
    context = data_context(models, best_share(random_episodes(), BEST_SHARE), 2, 7, 2000)
    return float(planner.proposal(context).entropy().mean())


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_pretrained_run(tmp_path_factory.mktemp("noise"))


def test_a_finetuned_run_measures_it_once_for_all_seeds(pretrained: RunFolder, tmp_path: Path) -> None:
    assert pretrained.config().planner.noise_std is None
    stds = []
    for seed in ("0", "1"):
        config = finetune_config(pretrained, {"online.action_noise": "fixed", "seed": seed})
        assert missing(config)
        run = prepare(pretrained, tmp_path / seed, config)
        stds.append(run.config().planner.noise_std)
    assert stds[0] == stds[1]
    assert stds[0] is not None
    plain = prepare(pretrained, tmp_path / "plain", finetune_config(pretrained, {}))
    assert plain.config().planner.noise_std is None  # nobody asked
    given = {"online.action_noise": "fixed", "planner.noise_std": "0.25"}
    assert (
        prepare(pretrained, tmp_path / "given", finetune_config(pretrained, given)).config().planner.noise_std == 0.25
    )


def test_the_measured_noise_meets_the_entropy_of_the_exploring_model(pretrained: RunFolder, tmp_path: Path) -> None:
    run = prepare(pretrained, tmp_path / "run", finetune_config(pretrained, {"online.action_noise": "fixed"}))
    assert entropy_on_data(run, "fixed") == pytest.approx(entropy_on_data(run, "model"), abs=0.02)


def test_a_deterministic_model_takes_the_target_of_the_entropy_constraint(tmp_path: Path) -> None:
    settings = {
        "pretrain.action_loss": "squared_error",
        "planner.action_noise": "fixed",
        "online.action_noise": "fixed",
        "pretrain.entropy_target": "-0.4",
    }
    run = RunFolder.create(tmp_path / "run", with_settings(tiny_config("random"), settings), "pretrain")
    Pretraining(run, run.config(), random_episodes()).train()
    assert run.config().planner.noise_std is not None
    # Over other states of the best episodes than those it was measured on, to the accuracy of the draw.
    assert entropy_on_data(run, "fixed") == pytest.approx(-0.4, abs=0.02)
