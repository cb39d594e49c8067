"""The network: what it may see, groups against one mask at a time, missing tokens, size."""

import numpy as np
import pytest
import torch

from m3pc_ray.config import ModelConfig
from m3pc_ray.model import masks
from m3pc_ray.model.network import Prediction, TrajectoryModel
from m3pc_ray.trajectories.statistics import Statistics
from tests.model.factory import OBSERVATION_DIM, T, make_model, make_tokens


def outputs(prediction: Prediction) -> torch.Tensor:
    parts = (
        prediction.states,
        prediction.returns,
        prediction.rewards,
        prediction.action_mean,
        prediction.action_log_std,
    )
    return torch.cat(parts, dim=-1)


@torch.no_grad()
@pytest.mark.parametrize("name", masks.TEST_MASKS)
def test_hidden_tokens_are_never_read_and_visible_ones_are(name: str) -> None:
    model, tokens, mask = make_model(), make_tokens(3), masks.make_test_mask(name, T, 3)
    before = outputs(model(tokens, mask))
    for index, modality in enumerate(masks.MODALITIES):
        for step in range(T):
            changed = {key: value.clone() for key, value in tokens.items()}
            changed[modality][:, step] += 1.0
            same = torch.equal(outputs(model(changed, mask)), before)
            assert same != bool(mask[index, step]), f"{modality} at step {step}"


@torch.no_grad()
def test_groups_equal_one_mask_at_a_time() -> None:
    model, tokens = make_model(1), make_tokens(7, seed=1)
    rng = np.random.default_rng(0)
    drawn = [masks.random_mask(rng, T) for _ in range(3)]
    groups = list(zip([2, 4, 1], drawn, strict=True))
    together = outputs(model(tokens, groups))
    start = 0
    for rows, mask in groups:
        part = {name: values[start : start + rows] for name, values in tokens.items()}
        torch.testing.assert_close(together[start : start + rows], outputs(model(part, mask)), rtol=1e-5, atol=1e-5)
        start += rows


@torch.no_grad()
def test_a_token_that_does_not_exist_counts_as_hidden() -> None:
    """valid=False for one step of all segments equals a mask without that step, up to rounding."""
    model, tokens = make_model(2), make_tokens(3, seed=2)
    mask = masks.forward_dynamics(T, 4)
    valid = torch.ones(3, 4, T, dtype=torch.bool)
    valid[:, masks.ACTIONS, 6] = False
    without = mask.copy()
    without[masks.ACTIONS, 6] = False
    torch.testing.assert_close(
        outputs(model(tokens, mask, valid)), outputs(model(tokens, without)), rtol=1e-5, atol=1e-5
    )


@torch.no_grad()
def test_changes_are_added_to_the_last_visible_state() -> None:
    """Both kinds of state prediction on the same weights differ by what a loop over tokens finds as the last one."""
    rng = np.random.default_rng()
    rows = [3, 2, 4]
    groups = [(count, masks.random_mask(rng, T)) for count in rows]
    groups[1] = (2, masks.inverse_dynamics(T, 2))
    groups[2][1][masks.STATES] = False  # no state at all
    groups[2][1][masks.REWARDS, 0] = True
    tokens = make_tokens(9, seed=int(rng.integers(1 << 30)))
    valid = torch.from_numpy(rng.random((9, 4, T)) < 0.8)
    change, absolute = make_model(3, state_prediction="change"), make_model(3)
    absolute.load_state_dict(change.state_dict())
    base = change(tokens, groups, valid).states - absolute(tokens, groups, valid).states
    masks_by_row = [mask for count, mask in groups for _ in range(count)]
    for row, mask in enumerate(masks_by_row):
        shown = [step for step in range(T) if mask[masks.STATES, step] and valid[row, masks.STATES, step]]
        for step in range(T):
            earlier = [other for other in shown if other <= step]
            expected = torch.zeros(OBSERVATION_DIM)
            if shown:
                expected = tokens["states"][row, earlier[-1] if earlier else shown[0]]
            torch.testing.assert_close(base[row, step], expected, atol=1e-5, rtol=1e-5)


def test_mask_errors() -> None:
    model, tokens = make_model(), make_tokens(3)
    with pytest.raises(ValueError, match="at least one token"):
        model(tokens, np.zeros((4, T), dtype=bool))
    with pytest.raises(ValueError, match="2 of 3 segments"):
        model(tokens, [(2, masks.behaviour_cloning(T, 3))])


@torch.no_grad()
def test_step_order_of_the_outputs() -> None:
    """With every token visible or none but one, outputs must stand at their own step: a head sees its own token most.

    Checked by swapping two visible states: the outputs at those steps change more than those elsewhere, so order and
    content belong together."""
    model, tokens = make_model(3), make_tokens(4, seed=3)
    mask = masks.reward_prediction(T)
    changed = {name: values.clone() for name, values in tokens.items()}
    changed["states"][:, 5] += 3.0
    difference = (model(changed, mask).states - model(tokens, mask).states).abs().mean(dim=(0, 2))
    assert int(difference.argmax()) == 5


def test_log_std_is_bounded_and_units_undo_each_other() -> None:
    model = make_model(4, log_std_min=-3.0, log_std_max=-1.0)
    with torch.no_grad():
        model.action_head.log_std.weight *= 1000
    log_std = model(make_tokens(2), masks.behaviour_cloning(T, 3)).action_log_std
    assert log_std.min() >= -3.0
    assert log_std.max() <= -1.0
    assert log_std.max() - log_std.min() > 1.9
    values = torch.randn(2, T, OBSERVATION_DIM)
    torch.testing.assert_close(model.denormalise("states", model.normalise("states", values)), values)
    assert torch.equal(model.normalise("actions", values), values)


@pytest.mark.parametrize(("width", "millions"), [(128, 0.72), (512, 11.3)])
def test_parameter_count_of_the_paper(width: int, millions: float) -> None:
    statistics = Statistics(*[np.ones(11, np.float32)] * 2, *[np.ones(1, np.float32)] * 4)
    model = TrajectoryModel(11, 3, ModelConfig(width=width), statistics)
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)
