"""Loss terms against a slow loop over tokens."""

import numpy as np
import pytest
import torch

from m3pc_ray.model import masks
from m3pc_ray.model.losses import group_rows, loss_terms
from tests.model.factory import ACTION_DIM, T, make_model, make_tokens


@pytest.mark.parametrize("nll_over", ["masked", "all"])
@torch.no_grad()
def test_terms_equal_a_loop(nll_over: str) -> None:
    model, tokens = make_model(5), make_tokens(6, seed=5)
    groups = [(2, masks.return_conditioned(T, 3)), (4, masks.random_mask(np.random.default_rng(1), T))]
    valid = torch.rand(6, 4, T, generator=torch.Generator().manual_seed(6)) < 0.8
    prediction = model(tokens, groups, valid)
    terms = loss_terms(prediction, tokens, groups, valid, nll_over)  # type: ignore[arg-type]
    errors: dict[str, list[float]] = {
        name: [] for name in ("states", "returns", "rewards", "visible", "nll", "entropy")
    }
    log_prob, entropy = prediction.actions.log_prob(tokens["actions"]), prediction.actions.entropy()
    for row in range(6):
        mask = groups[0][1] if row < 2 else groups[1][1]
        for step in range(T):
            for index, name in enumerate(masks.MODALITIES):
                if not valid[row, index, step]:
                    continue
                if name != "actions":
                    difference = getattr(prediction, name)[row, step] - tokens[name][row, step]
                    errors[name].append(float(difference.square().mean()))
                    continue
                visible = bool(mask[index, step])
                if visible:
                    difference = torch.tanh(prediction.action_mean[row, step]) - tokens["actions"][row, step]
                    errors["visible"].append(float(difference.square().sum() / ACTION_DIM))
                if nll_over == "all" or not visible:
                    errors["nll"].append(-float(log_prob[row, step]))
                    errors["entropy"].append(float(entropy[row, step]))
    expected = {name: np.mean(values) for name, values in errors.items()}
    got = {
        "states": terms.states,
        "returns": terms.returns,
        "rewards": terms.rewards,
        "visible": terms.visible_actions,
        "nll": terms.negative_log_likelihood,
        "entropy": terms.entropy,
    }
    for name, value in got.items():
        assert float(value) == pytest.approx(expected[name], rel=1e-4), name
    total = (
        sum(expected[name] for name in ("states", "returns", "rewards", "visible", "nll")) - 0.3 * expected["entropy"]
    )
    assert float(terms.total(0.3)) == pytest.approx(total, rel=1e-4)
    authors = expected["states"] + expected["nll"] - 0.3 * expected["entropy"]
    assert float(terms.total(0.3, "states_and_masked_actions")) == pytest.approx(authors, rel=1e-4)


def test_nothing_asked_for_costs_nothing() -> None:
    model, tokens = make_model(6), make_tokens(2)
    mask = masks.forward_dynamics(T, 2)  # every action visible
    terms = loss_terms(model(tokens, mask), tokens, [(2, mask)])
    assert float(terms.negative_log_likelihood.detach()) == 0.0
    assert float(terms.entropy.detach()) == 0.0
    assert float(terms.visible_actions.detach()) > 0.0


def test_group_rows_add_up() -> None:
    assert group_rows(10, 3) in ([3, 4, 3], [3, 3, 4], [4, 3, 3])
    assert sum(group_rows(257, 4)) == 257
