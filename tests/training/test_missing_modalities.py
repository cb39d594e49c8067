"""Training on data that lacks actions or rewards: what is missing is never read, mixed batches are no special case."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from m3pc_ray import cli
from m3pc_ray.config import MaskConfig, PretrainConfig, RunConfig
from m3pc_ray.errors import UserError
from m3pc_ray.model import masks
from m3pc_ray.model.losses import loss_terms
from m3pc_ray.training.assemble import build_models, load_models
from m3pc_ray.training.btm_trainer import BTMTrainer
from m3pc_ray.training.data import SegmentData, TransitionData
from m3pc_ray.training.data_parts import data_parts
from m3pc_ray.training.pretraining import Pretraining
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.training.utility_units import best_share, data_context
from m3pc_ray.training.validation import validation_errors
from m3pc_ray.trajectories.episodes import Trajectories
from m3pc_ray.trajectories.resolve import load
from m3pc_ray.trajectories.returns import returns_to_go
from m3pc_ray.trajectories.store import write_store
from tests.model.factory import T, make_model, make_tokens
from tests.training.test_pretraining import TIME_LIMIT, make_config, make_trajectories

BOUNDS = (np.full(2, -1.0, np.float32), np.full(2, 1.0, np.float32))


def make_mixed(seed: int = 0) -> Trajectories:
    """Whole episodes and single steps without actions, single steps without rewards."""
    data = make_trajectories(seed)
    rng = np.random.default_rng(seed)
    actions_known, rewards_known = rng.random(data.num_steps) < 0.9, rng.random(data.num_steps) < 0.95
    rewards_known[:42] = True  # some returns must be known
    return dataclasses.replace(data, actions_known=actions_known, rewards_known=rewards_known).without_actions([4, 5])


def segments_of(data: Trajectories, config: RunConfig) -> SegmentData:
    statistics = build_models(config, make_trajectories()).statistics
    return SegmentData(data, statistics, "average", TIME_LIMIT, T, *BOUNDS)


def with_fractions(config: RunConfig, **fractions: float) -> RunConfig:
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **fractions))  # type: ignore[arg-type]


def start(path: Path, config: RunConfig, data: Trajectories) -> Pretraining:
    return Pretraining(RunFolder.create(path, config, "pretrain"), config, data)


def test_what_exists_is_what_is_known_and_not_padding() -> None:
    data = make_mixed()
    segments = segments_of(data, make_config())
    _, returns_known = returns_to_go(data, "average", TIME_LIMIT)
    rows, valid = segments.index.sample(np.random.default_rng(0), 60)
    tokens, exists = segments.gather(rows, valid)
    assert exists is not None
    assert data.actions_known is not None
    assert data.rewards_known is not None
    for segment in range(60):
        for step in range(T):
            row, real = rows[segment, step], bool(valid[segment, step])
            known = [True, returns_known[row], data.actions_known[row], data.rewards_known[row]]
            assert exists[segment, :, step].tolist() == [real and bool(flag) for flag in known]
    assert all(torch.isfinite(values).all() for values in tokens.values())


def test_complete_data_has_nothing_to_say() -> None:
    data = make_trajectories().select([0, 1, 3 + 1])  # neither cut nor shorter than a segment
    segments = segments_of(data, make_config())
    assert segments.gather(np.arange(8)[None], np.ones((1, 8), bool))[1] is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_do_not_depend_on_what_stands_for_missing_values(dtype: torch.dtype) -> None:
    data, weights = make_mixed(), []
    for seed in range(3):
        segments = segments_of(data, make_config())
        garbage = torch.Generator().manual_seed(seed)
        for modality, name in ((masks.ACTIONS, "actions"), (masks.REWARDS, "rewards")):
            column, missing = segments.columns[name], ~segments._known[modality]
            column[missing] = torch.randn(column[missing].shape, generator=garbage)
        model = build_models(make_config(), make_trajectories()).model
        torch.manual_seed(0)
        trainer = BTMTrainer(model, PretrainConfig(batch_size=16), MaskConfig(), dtype, seed=0)
        rng = np.random.default_rng(4)
        for _ in range(4):
            trainer.update(*segments.sample(rng, 16), 1.0)
        weights.append([*(parameter.detach() for parameter in model.parameters()), trainer.log_multiplier.detach()])
    for other in weights[1:]:
        assert all(torch.equal(one, two) for one, two in zip(weights[0], other, strict=True))


def _terms(
    model: torch.nn.Module, tokens: dict[str, torch.Tensor], mask: masks.Mask, exists: torch.Tensor | None
) -> dict:
    group = [(len(tokens["states"]), mask)]
    return vars(loss_terms(model(tokens, group, exists), tokens, group, exists))


@torch.no_grad()
@pytest.mark.parametrize("seed", range(4))
def test_a_mixed_batch_is_the_weighted_combination_of_its_parts(seed: int) -> None:
    model, tokens = make_model(seed), make_tokens(10, seed)
    mask = masks.random_mask(np.random.default_rng(seed), T)
    parts = [slice(0, 4), slice(4, 7), slice(7, 10)]  # complete, without actions, of states alone
    exists = torch.ones(10, 4, T, dtype=torch.bool)
    exists[4:, masks.ACTIONS] = False
    exists[7:, [masks.RETURNS, masks.REWARDS]] = False
    mixed = _terms(model, tokens, mask, exists)
    separate = [
        _terms(
            model, {name: values[rows] for name, values in tokens.items()}, mask, exists[rows] if rows.start else None
        )
        for rows in parts
    ]
    visible = torch.as_tensor(mask)[masks.ACTIONS]
    steps = {"states": T, "returns": T, "rewards": T, "visible_actions": int(visible.sum())}
    steps |= dict.fromkeys(("negative_log_likelihood", "entropy"), int((~visible).sum()))
    holders: dict[str, Sequence[int]] = {"states": (4, 3, 3), "returns": (4, 3, 0), "rewards": (4, 3, 0)}
    for name, count in steps.items():
        weights = [segments * count for segments in holders.get(name, (4, 0, 0))]
        expected = sum(w * float(part[name]) for w, part in zip(weights, separate, strict=True)) / max(1, sum(weights))
        assert float(mixed[name]) == pytest.approx(expected, rel=1e-4, abs=1e-6), name
    assert int(mixed["actions_asked"]) == 4 * int((~visible).sum())


def test_a_batch_of_states_alone_trains_and_leaves_the_multiplier() -> None:
    model, tokens = make_model(), make_tokens(12)
    exists = torch.zeros(12, 4, T, dtype=torch.bool)
    exists[:, masks.STATES] = True
    trainer = BTMTrainer(model, PretrainConfig(learning_rate=1e-3), MaskConfig(), torch.float32, seed=0)
    before = trainer.entropy_multiplier
    metrics = [trainer.update(tokens, exists, 1.0) for _ in range(60)]
    assert trainer.entropy_multiplier == before
    for name in ("returns_error", "rewards_error", "visible_actions_error", "negative_log_likelihood", "entropy"):
        assert all(float(row[name]) == 0.0 for row in metrics)
    losses = [float(row["loss"]) for row in metrics]
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])


def test_the_labelled_episodes_are_the_first_of_the_same_shuffle(tmp_path: Path) -> None:
    data = make_trajectories()
    config = with_fractions(make_config(), validation_fraction=0.25, labelled_fraction=0.34)
    train, held_out = data.split(0.25, config.seed)
    labelled = train.fraction(0.34, config.seed)
    assert 1 < labelled.num_episodes < train.num_episodes
    pretraining = start(tmp_path / "run", config, data)
    known = pretraining.segments._known[masks.ACTIONS]
    np.testing.assert_array_equal(pretraining.segments.columns["actions"][known], labelled.actions)
    np.testing.assert_array_equal(pretraining.segments.columns["states"].shape[0], train.num_steps)
    assert masks.ACTIONS not in pretraining.validation._known
    assert len(pretraining.validation.columns) == held_out.num_steps
    expected = TransitionData(labelled, *BOUNDS)
    np.testing.assert_array_equal(pretraining.transitions.columns.values, expected.columns.values)
    # Statistics and asked returns need no action: they are those of the whole.
    whole = build_models(make_config(), data)
    assert pretraining.models.statistics.to_dict() == whole.statistics.to_dict()
    assert pretraining.models.prompt.to_dict() == whole.prompt.to_dict()
    errors = pretraining.train()
    assert all(np.isfinite(value) for value in errors.values())
    resumed = Pretraining.resume(pretraining.run, data)
    np.testing.assert_array_equal(resumed.segments._known[masks.ACTIONS], known)


def test_both_fractions_are_taken_one_after_the_other() -> None:
    data = make_trajectories()
    config = with_fractions(make_config(), validation_fraction=0.25, episodes_fraction=0.5, labelled_fraction=0.34)
    parts = data_parts(data, config)
    part = data.split(0.25, config.seed)[0].fraction(0.5, config.seed)
    np.testing.assert_array_equal(parts.train.observations, part.observations)
    np.testing.assert_array_equal(parts.train.with_actions().actions, part.fraction(0.34, config.seed).actions)
    assert parts.described.actions_known is None
    assert data_parts(data, make_config()).transitions is data


def test_data_without_any_action_or_labelled_step_is_refused() -> None:
    data = make_trajectories()
    nothing = data.without_actions(np.arange(8))
    for components in ("both", "btm"):
        with pytest.raises(UserError, match="points: no training episode holds an action"):
            data_parts(nothing, make_config(components=components))
    with pytest.raises(UserError, match="points: no training step has both its action and its reward, so the critic"):
        data_parts(nothing, make_config(components="critic"))
    rewardless = dataclasses.replace(data, rewards_known=np.zeros(data.num_steps, bool))
    with pytest.raises(UserError, match="every episode is cut or lacks rewards"):
        build_models(make_config(), rewardless)


def test_the_command_refuses_before_it_makes_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = load("bundled/hopper").select(np.arange(6))
    write_store(data.without_actions(np.arange(6)), tmp_path / "states")
    assert cli.main(["pretrain", "--dataset", str(tmp_path / "states"), "--out", str(tmp_path / "run")]) == 2
    assert "no training episode holds an action" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_command_takes_statistics_from_the_fraction_of_the_episodes(tmp_path: Path) -> None:
    data = load("bundled/hopper").select(np.arange(12))
    write_store(data, tmp_path / "data")
    words = "--pretrain.components btm --pretrain.steps 1 --model.width 16 --model.heads 2 --data.episodes_fraction 0.4"
    out = tmp_path / "run"
    assert cli.main(["pretrain", "--dataset", str(tmp_path / "data"), "--out", str(out), *words.split()]) == 0
    models = load_models(RunFolder.open(out))
    expected = data.split(models.config.data.validation_fraction, 0)[0].fraction(0.4, 0)
    np.testing.assert_allclose(models.statistics.states_mean, expected.observations.mean(0), rtol=1e-4, atol=1e-5)


def test_the_critic_learns_from_steps_with_action_and_reward_alone() -> None:
    data = make_mixed()
    assert data.actions_known is not None
    assert data.rewards_known is not None
    kept = TransitionData(data, *BOUNDS).columns["observations"].numpy()
    whole = TransitionData(make_trajectories(), *BOUNDS).columns["observations"].numpy()
    labelled = data.observations[data.actions_known & data.rewards_known]
    rows = {row.tobytes() for row in whole} & {row.tobytes() for row in labelled}
    assert {row.tobytes() for row in kept} == rows
    models = build_models(make_config(), data)
    assert torch.isfinite(models.critic.value_mean)


@torch.no_grad()
def test_validation_counts_what_is_known() -> None:
    config, data = make_config(), make_mixed()
    model = build_models(config, make_trajectories()).model
    segments, t = segments_of(data, config), 3
    errors = validation_errors(model, segments, t)
    rows, valid = segments.index.sample(np.random.default_rng([0, 7]), segments.index.num_segments)
    tokens, exists = segments.gather(rows[valid.all(1)], valid[valid.all(1)])
    assert exists is not None
    model.eval()
    prediction = model(tokens, masks.make_test_mask("behaviour_cloning", T, t), exists)
    forward = model(tokens, masks.make_test_mask("forward_dynamics", T, t), exists)
    actions, rewards = [], []
    for segment in range(len(exists)):
        if exists[segment, masks.ACTIONS, t]:
            difference = torch.tanh(prediction.action_mean[segment, t]) - tokens["actions"][segment, t]
            actions.append(float(difference.square().mean()))
        rewards += [
            float((forward.rewards - tokens["rewards"])[segment, step].square())
            for step in range(t, T)
            if exists[segment, masks.REWARDS, step]
        ]
    assert 0 < len(actions) < len(exists)
    assert errors["action_error/behaviour_cloning"] == pytest.approx(np.mean(actions), rel=1e-4)
    assert errors["rewards_error"] == pytest.approx(np.mean(rewards), rel=1e-4)

    bare = dataclasses.replace(data, rewards_known=np.zeros(data.num_steps, bool)).without_actions(np.arange(8))
    assert {name.split("/")[0] for name in validation_errors(model, segments_of(bare, config), t)} == {"states_error"}


def test_contexts_are_drawn_where_the_past_holds_its_actions() -> None:
    data, config = make_mixed(), make_config()
    models = build_models(config, make_trajectories())
    context = data_context(models, data, 3, seed=0)
    known, timesteps = data.actions_known, data.timesteps()
    assert known is not None
    for index in range(len(context.timesteps)):
        step = int(context.timesteps[index])
        position = min(step, 3)
        (row,) = np.flatnonzero((data.observations == context.observations[index, position]).all(axis=1))
        assert timesteps[row] == step
        assert known[row - position : row + 1].all()
    nothing = data.without_actions(np.arange(8))
    with pytest.raises(UserError, match="no step has its action and those of 3 before"):
        data_context(models, nothing, 3, seed=0)
    best = best_share(data.without_actions(data.best_first()[:3]).with_actions(), 0.1)
    assert best.actions_known is None or best.actions_known.any()
