"""Pretraining: resumed equals uninterrupted, bit for bit; budgets; what is trained; the tensors of the data."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from m3pc_ray.config import CriticConfig, DataConfig, LoggingConfig, ModelConfig, PretrainConfig, RunConfig
from m3pc_ray.errors import UserError
from m3pc_ray.training.assemble import build_models
from m3pc_ray.training.btm_trainer import schedule_factor
from m3pc_ray.training.checkpoints import load_checkpoint
from m3pc_ray.training.data import SegmentData, TransitionData
from m3pc_ray.training.pacing import Pace
from m3pc_ray.training.pretraining import Pretraining, take_component
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.trajectories.episodes import DatasetMetadata, EpisodeEnd, Trajectories
from m3pc_ray.trajectories.returns import discounted_returns
from m3pc_ray.trajectories.statistics import compute_statistics

TIME_LIMIT = 30


def make_trajectories(seed: int = 0) -> Trajectories:
    """Random episodes of a two-dimensional point pushed around, with every kind of end."""
    rng = np.random.default_rng(seed)
    lengths = [30, 12, 5, 20, 30, 9, 14, 18]
    ends = [EpisodeEnd.TIME_LIMIT, EpisodeEnd.TERMINATED, EpisodeEnd.TERMINATED, EpisodeEnd.CUT]
    ends = [*ends, EpisodeEnd.TIME_LIMIT, EpisodeEnd.TERMINATED, EpisodeEnd.TERMINATED, EpisodeEnd.CUT]
    steps = sum(lengths)
    actions = rng.uniform(-1, 1, (steps, 2)).astype(np.float32)
    observations = rng.normal(size=(steps, 3)).astype(np.float32)
    finals = rng.normal(size=(8, 3)).astype(np.float32)
    finals[7] = np.nan  # the file ended before the last next observation
    return Trajectories(
        observations=observations,
        actions=actions,
        rewards=(observations[:, 0] + actions[:, 0]).astype(np.float32),
        episode_starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        episode_ends=np.array(ends, dtype=np.int8),
        final_observations=finals,
        metadata=DatasetMetadata(
            name="points",
            environment_id="Points-v0",
            observation_low=(-np.inf,) * 3,
            observation_high=(np.inf,) * 3,
            action_low=(-1.0, -1.0),
            action_high=(1.0, 1.0),
            max_episode_steps=TIME_LIMIT,
        ),
    )


def make_config(**pretrain: object) -> RunConfig:
    settings = {"steps": 12, "batch_size": 16, "warmup_steps": 3, "validate_every": 5, "log_every": 1, "threads": 1}
    return RunConfig(
        device="cpu",
        data=DataConfig(dataset="points", validation_fraction=0.3),
        model=ModelConfig(width=16, heads=2, dropout=0.1),
        critic=CriticConfig(updates=40, batch_size=8, hidden_width=16),
        pretrain=PretrainConfig(**{**settings, **pretrain}),  # type: ignore[arg-type]
        logging=LoggingConfig(tensorboard=False),
    )


def interrupt_in_the_middle(pretraining: Pretraining, phase: str, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sends SIGINT from within update number `step` of a phase, between its draws and its gradient step."""
    trainer = pretraining.btm_trainer if phase == "btm" else pretraining.critic_trainer
    optimizer = next(iter(trainer.optimizers().values()))
    original, calls = optimizer.step, iter(range(1, 10_000))

    def stepping() -> None:
        if next(calls) == step:
            os.kill(os.getpid(), signal.SIGINT)
            while not pretraining._stop.requested:  # another thread's update must not end before the signal arrives
                time.sleep(0.001)
        original()

    monkeypatch.setattr(optimizer, "step", stepping)


@pytest.mark.parametrize(("phase", "step"), [("critic", 7), ("btm", 4), ("btm", 7)])
@pytest.mark.parametrize(("optimizer", "order"), [("muon", "in_turn"), ("muon", "side_by_side"), ("adamw", "in_turn")])
def test_interrupted_and_resumed_equals_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str, step: int, optimizer: str, order: str
) -> None:
    config = make_config(optimizer=optimizer, precision="bfloat16", order=order)
    trajectories = make_trajectories()
    straight = RunFolder.create(tmp_path / "straight", config, "pretrain")
    errors = Pretraining(straight, config, trajectories).train()
    broken = RunFolder.create(tmp_path / "broken", config, "pretrain")
    pretraining = Pretraining(broken, config, trajectories)
    interrupt_in_the_middle(pretraining, phase, step, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        pretraining.train()
    assert pretraining.pace[phase].step < {"critic": 40, "btm": 12}[phase]
    assert broken.summary()["status"] == "interrupted"
    torch.manual_seed(12345)  # whatever the next process has drawn before
    assert Pretraining.resume(broken, trajectories).train() == errors
    assert broken.summary()["status"] == "finished"
    (expected, expected_state), (got, got_state) = load_checkpoint(straight), load_checkpoint(broken)
    assert expected.keys() == got.keys()
    assert {"btm", "critic", "btm_adamw", "btm_multiplier", "critic_optimizer", "multiplier"} <= got.keys()
    for group, tensors in expected.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, got[group][name]), f"{group} {name}"
    assert expected_state["random"] == got_state["random"]
    assert (got_state["btm_updates"], got_state["critic_updates"]) == (12, 40)


def test_training_changes_every_learnt_tensor_and_lowers_the_loss(tmp_path: Path) -> None:
    config = make_config(steps=60, components="btm", validate_every=0, log_every=1)
    run = RunFolder.create(tmp_path / "run", config, "pretrain")
    pretraining = Pretraining(run, config, make_trajectories())
    before = {name: value.clone() for name, value in pretraining.models.model.named_parameters()}
    rows: list[float] = []
    pretraining.train(lambda phase, pace, row: rows.append(row["loss"]))
    same = [name for name, value in pretraining.models.model.named_parameters() if torch.equal(value, before[name])]
    assert same == []
    assert np.mean(rows[-10:]) < 0.85 * np.mean(rows[:10])
    assert load_checkpoint(run)[1]["critic_updates"] == 0


def test_critic_alone(tmp_path: Path) -> None:
    config = make_config(components="critic")
    run = RunFolder.create(tmp_path / "run", config, "pretrain")
    pretraining = Pretraining(run, config, make_trajectories())
    before = {name: value.clone() for name, value in pretraining.models.model.state_dict().items()}
    pretraining.train()
    state = load_checkpoint(run)[1]
    assert (state["btm_updates"], state["critic_updates"]) == (0, 40)
    assert all(torch.equal(value, before[name]) for name, value in pretraining.models.model.state_dict().items())


def test_one_component_can_be_trained_again_on_top_of_a_run(tmp_path: Path) -> None:
    config, trajectories = make_config(), make_trajectories()
    first = RunFolder.create(tmp_path / "first", config, "pretrain")
    Pretraining(first, config, trajectories).train()
    again = dataclasses.replace(make_config(components="critic"), seed=0)
    second = RunFolder.create(tmp_path / "second", again, "pretrain")
    models = build_models(again, trajectories)
    Pretraining(second, again, trajectories, models, take_component(first, again, models)).train()
    (old, _), (new, state) = load_checkpoint(first), load_checkpoint(second)
    assert all(torch.equal(tensor, new["btm"][name]) for name, tensor in old["btm"].items())
    # The same seed trains the same critic, whatever became of the model before.
    assert all(torch.equal(tensor, new["critic"][name]) for name, tensor in old["critic"].items())
    assert all(torch.equal(tensor, new["btm_muon"][name]) for name, tensor in old["btm_muon"].items())
    assert torch.equal(old["multiplier"]["log_multiplier"], new["multiplier"]["log_multiplier"])
    assert (state["btm_updates"], state["critic_updates"]) == (12, 40)
    with pytest.raises(UserError, match="other data"):
        take_component(first, again, build_models(again, make_trajectories(seed=1)))
    with pytest.raises(UserError, match="components btm or critic"):
        take_component(first, config, models)
    other = dataclasses.replace(again, model=dataclasses.replace(again.model, log_std_max=1.0))
    with pytest.raises(UserError, match="other sizes"):
        take_component(first, other, models)


def test_a_critic_goes_with_another_scale_of_the_returns_but_a_model_does_not(tmp_path: Path) -> None:
    config, trajectories = make_config(), make_trajectories()
    first = RunFolder.create(tmp_path / "first", config, "pretrain")
    Pretraining(first, config, trajectories).train()
    sums = dataclasses.replace(config.data, return_scale="sum")
    model_alone = dataclasses.replace(make_config(components="btm"), data=sums)
    models = build_models(model_alone, trajectories)
    taken = take_component(first, model_alone, models)
    assert taken.phase == "critic"
    second = RunFolder.create(tmp_path / "second", model_alone, "pretrain")
    Pretraining(second, model_alone, trajectories, models, taken).train()
    (old, _), (new, state) = load_checkpoint(first), load_checkpoint(second)
    assert all(torch.equal(tensor, new["critic"][name]) for name, tensor in old["critic"].items())
    assert (state["btm_updates"], state["critic_updates"]) == (12, 40)
    with pytest.raises(UserError, match="other data"):
        take_component(first, model_alone, build_models(model_alone, make_trajectories(seed=1)))
    critic_alone = dataclasses.replace(make_config(components="critic"), data=sums)
    with pytest.raises(UserError, match="another return_scale"):
        take_component(first, critic_alone, build_models(critic_alone, trajectories))


@pytest.mark.parametrize("settings", [{"components": "btm"}, {"order": "side_by_side"}])
def test_divergence_is_an_error_that_names_the_setting(tmp_path: Path, settings: dict[str, str]) -> None:
    """Beside a critic that would go on for hours, too: it ends with the model."""
    config = make_config(**settings)
    config = dataclasses.replace(config, critic=dataclasses.replace(config.critic, updates=10_000_000))
    run = RunFolder.create(tmp_path / "run", config, "pretrain")
    pretraining = Pretraining(run, config, make_trajectories())
    with torch.no_grad():
        pretraining.models.model.mask_tokens[:] = torch.nan
    with pytest.raises(UserError, match=r"not finite.*pretrain\.learning_rate"):
        pretraining.train()
    assert run.summary()["status"] == "failed"


def test_entropy_multiplier_moves_towards_the_target(tmp_path: Path) -> None:
    for target, direction in ((50.0, 1), (-50.0, -1)):
        config = make_config(components="btm", entropy_target=target, entropy_multiplier_learning_rate=1e-2)
        run = RunFolder.create(tmp_path / f"run{direction}", config, "pretrain")
        pretraining = Pretraining(run, config, make_trajectories())
        before = pretraining.btm_trainer.entropy_multiplier
        pretraining.train()
        assert (pretraining.btm_trainer.entropy_multiplier - before) * direction > 0


def test_pace_by_steps_is_the_share_of_steps() -> None:
    pace = Pace(4)
    seen = []
    while not pace.finished:
        pace.advance(1.0)
        seen.append(pace.progress)
    assert seen == [0.25, 0.5, 0.75, 1.0]


def test_pace_by_budget_ends_with_the_time_on_a_machine_that_slows_down() -> None:
    pace = Pace(10_000, budget_seconds=100.0)
    progress = []
    while not pace.finished:
        pace.advance(0.05 if pace.step < 500 else 0.2)
        progress.append(pace.progress)
    assert pace.seconds == pytest.approx(100.0, abs=0.3)
    assert pace.step == pytest.approx(500 + 375, abs=3)
    assert progress == sorted(progress)
    assert progress[-1] == pytest.approx(1.0, abs=0.02)


def test_side_by_side_trains_what_in_turn_trains(tmp_path: Path) -> None:
    tensors = {}
    for order in ("in_turn", "side_by_side"):
        config = make_config(order=order)
        run = RunFolder.create(tmp_path / order, config, "pretrain")
        Pretraining(run, config, make_trajectories()).train()
        tensors[order], state = load_checkpoint(run)
        assert state["order"] == order
    for group, expected in tensors["in_turn"].items():
        for name, tensor in expected.items():
            assert torch.equal(tensor, tensors["side_by_side"][group][name]), f"{group} {name}"


@pytest.mark.parametrize(("order", "share"), [("in_turn", 0.25), ("side_by_side", 1.0)])
def test_minutes_are_shared_in_turn_and_used_by_both_side_by_side(tmp_path: Path, order: str, share: float) -> None:
    config = make_config(order=order, max_minutes=2.0, critic_fraction=0.25)
    run = RunFolder.create(tmp_path / "run", config, "pretrain")
    pace = Pretraining(run, config, make_trajectories()).pace
    assert pace["critic"].budget_seconds == pytest.approx(120.0 * share)
    assert pace["btm"].budget_seconds == pytest.approx(120.0 * (1.0 if order == "side_by_side" else 1.0 - share))


def test_a_critic_that_diverges_beside_the_model_ends_both(tmp_path: Path) -> None:
    config = make_config(order="side_by_side", steps=100_000)
    run = RunFolder.create(tmp_path / "run", config, "pretrain")
    pretraining = Pretraining(run, config, make_trajectories())
    with torch.no_grad():
        pretraining.models.critic.v.weights[0][:] = torch.nan
    with pytest.raises(UserError, match=r"of the critic is not finite.*critic\.learning_rate"):
        pretraining.train()
    assert run.summary()["status"] == "failed"


@pytest.mark.parametrize("promised", [1e6, -1e6])
def test_a_critic_that_promises_more_than_rewards_pay_has_diverged(tmp_path: Path, promised: float) -> None:
    config = make_config()
    run = RunFolder.create(tmp_path / "run", config, "pretrain")
    pretraining = Pretraining(run, config, make_trajectories())
    with torch.no_grad():
        pretraining.models.critic.v.biases[2][:] = promised
    with pytest.raises(UserError, match=r"step 20: the critic has diverged.* -?\d\S*e\+0\d, .* critic\.layer_norm"):
        pretraining.train()
    assert run.summary()["status"] == "failed"


def test_schedule() -> None:
    assert schedule_factor("cosine", 10, 0, 0.0) == pytest.approx(0.1)
    assert schedule_factor("cosine", 10, 500, 0.5) == pytest.approx(0.5)
    assert schedule_factor("cosine", 0, 500, 1.0) == pytest.approx(0.0)
    assert schedule_factor("constant", 10, 500, 0.9) == 1.0


def test_segment_data_hides_what_does_not_exist() -> None:
    trajectories = make_trajectories()
    statistics = compute_statistics(trajectories, "average", TIME_LIMIT)
    bounds = np.full(2, -1.0), np.full(2, 1.0)
    data = SegmentData(trajectories, statistics, "average", TIME_LIMIT, 8, *bounds)
    rows, valid = data.index.all_segments()
    tokens, exists = data.gather(rows, valid)
    assert exists is not None
    cut = np.repeat(trajectories.episode_ends == EpisodeEnd.CUT, trajectories.lengths)[rows]
    for index in range(4):
        expected = valid & ~cut if index == 1 else valid
        np.testing.assert_array_equal(exists[:, index].numpy(), expected)
    expected_states = (trajectories.observations[rows] - statistics.states_mean) / statistics.states_std
    np.testing.assert_allclose(tokens["states"].numpy(), expected_states, rtol=1e-5, atol=1e-6)
    assert all(torch.isfinite(values).all() for values in tokens.values())


def test_transition_data_leaves_out_only_the_unknown_successor() -> None:
    trajectories = make_trajectories()
    data = TransitionData(trajectories, np.full(2, -1.0), np.full(2, 1.0))
    assert len(data.columns["rewards"]) == trajectories.num_steps - 1
    assert torch.isfinite(data.columns["next_observations"]).all()
    assert int(data.columns["terminated"].sum()) == 4
    batch = data.sample(np.random.default_rng(0), 500)
    # Every sampled row is a row of the data set: its reward is the sum it was made with.
    torch.testing.assert_close(batch["rewards"], batch["observations"][:, 0] + batch["actions"][:, 0])


def test_discounted_returns_equal_a_loop() -> None:
    trajectories = make_trajectories()
    expected = np.zeros(trajectories.num_steps)
    starts = trajectories.episode_starts
    for first, end in zip(starts[:-1], starts[1:], strict=True):
        running = 0.0
        for row in range(end - 1, first - 1, -1):
            running = float(trajectories.rewards[row]) + 0.9 * running
            expected[row] = running
    np.testing.assert_allclose(discounted_returns(trajectories, 0.9), expected, rtol=1e-6)
