"""Deterministic models: their loss is plain squared error, their spread is never trained, nothing else changes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import mse_loss

from m3pc_ray.cli import main
from m3pc_ray.config import MaskConfig, PretrainConfig
from m3pc_ray.model.losses import loss_terms
from m3pc_ray.model.masks import ACTIONS, behaviour_cloning, return_conditioned
from m3pc_ray.training.btm_trainer import BTMTrainer
from tests.model.factory import T, make_model, make_tokens


def fresh_seed() -> int:
    return int(np.random.SeedSequence().generate_state(1)[0])


@pytest.mark.parametrize("trained", ["all", "states_and_masked_actions"])
def test_the_gradient_is_that_of_plain_squared_errors(trained: str) -> None:
    seed = fresh_seed() % 10_000
    model, tokens = make_model(seed), make_tokens(6, seed=seed)
    groups = [(2, return_conditioned(T, 3)), (4, behaviour_cloning(T, 5))]
    prediction = model(tokens, groups)
    loss_terms(prediction, tokens, groups).total(0.7, trained, "squared_error").backward()  # type: ignore[arg-type]
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}

    model.zero_grad(set_to_none=True)
    prediction = model(tokens, groups)
    visible = torch.stack([torch.as_tensor(mask[ACTIONS]) for rows, mask in groups for _ in range(rows)])
    actions = torch.tanh(prediction.action_mean)
    plain = mse_loss(prediction.states, tokens["states"]) + mse_loss(actions[~visible], tokens["actions"][~visible])
    if trained == "all":
        plain = (
            plain + mse_loss(prediction.returns, tokens["returns"]) + mse_loss(prediction.rewards, tokens["rewards"])
        )
        plain = plain + mse_loss(actions[visible], tokens["actions"][visible])
    plain.backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            assert ours[name] is None, name
        else:
            torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-4, atol=1e-6, msg=f"{name}, seed {seed}")


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_an_update_leaves_the_spread_and_the_multiplier_alone(optimizer: str) -> None:
    config = PretrainConfig(action_loss="squared_error", optimizer=optimizer, weight_decay=0.1)  # type: ignore[arg-type]
    model = make_model(1)
    trainer = BTMTrainer(model, config, MaskConfig(), torch.float32, seed=0)
    before = {name: values.clone() for name, values in model.state_dict().items()}
    multiplier = trainer.log_multiplier.detach().clone()
    for step in range(3):
        metrics = trainer.update(make_tokens(8, seed=step), None, 1.0)
    assert {"asked_actions_error", "visible_actions_error", "loss"} <= set(metrics)
    assert not {"negative_log_likelihood", "entropy", "entropy_multiplier"} & set(metrics)
    after = model.state_dict()
    assert torch.equal(before["action_head.log_std.weight"], after["action_head.log_std.weight"])
    assert not torch.equal(before["action_head.mean.weight"], after["action_head.mean.weight"])
    assert torch.equal(trainer.log_multiplier.detach(), multiplier)
    assert trainer.entropy_multiplier == 0.0


def test_the_likelihood_is_trained_as_before() -> None:
    model = make_model(1)
    trainer = BTMTrainer(model, PretrainConfig(), MaskConfig(), torch.float32, seed=0)
    before = model.action_head.log_std.weight.detach().clone()
    metrics = trainer.update(make_tokens(8), None, 1.0)
    assert "negative_log_likelihood" in metrics
    assert "asked_actions_error" not in metrics
    assert not torch.equal(before, model.action_head.log_std.weight)


def test_its_own_spread_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = ["--out", str(tmp_path / "run"), "--dataset", "bundled/hopper", "--pretrain.action_loss", "squared_error"]
    assert main(["pretrain", *options]) == 2
    assert "planner.action_noise: must be fixed with pretrain.action_loss squared_error" in capsys.readouterr().err
    assert main(["pretrain", *options, "--planner.action_noise", "fixed"]) == 2
    assert "online.action_noise: must be fixed" in capsys.readouterr().err
