"""The setting `masks.patterns`: where it is read from, what a run keeps of it, how often training draws it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from m3pc_ray.config import MaskConfig, RunConfig
from m3pc_ray.configuration import from_dict, given_settings, load_config, to_dict, to_yaml, with_settings
from m3pc_ray.errors import UserError
from m3pc_ray.model import masks
from m3pc_ray.training.checkpoints import load_checkpoint
from m3pc_ray.training.metrics import read_metrics
from m3pc_ray.training.pretraining import Pretraining
from m3pc_ray.training.run_folder import RunFolder
from tests.training.test_pretraining import interrupt_in_the_middle, make_config, make_trajectories
from tune.space import checked_value

MINE = {"mine": {"weight": 1.0, "returns": "t", "rewards": {"random": [0.3, 0.6]}, "asked": {"states": "> t"}}}
TEXT = "mine: {weight: 0.5, states: '<= t', asked: {states: '> t'}}\n"


def failure(overrides: dict[str, object]) -> str:
    with pytest.raises(UserError) as caught:
        with_settings(RunConfig(), overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_is_found_beside_the_configuration_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/mine.yaml").write_text(TEXT)
    (tmp_path / "deep/config.yaml").write_text("masks: {patterns: mine.yaml}\n")
    (tmp_path / "outer.yaml").write_text("include: deep/config.yaml\n")
    config = load_config(tmp_path / "outer.yaml")
    assert config.masks.patterns["mine"]["states"] == "<= t"
    continued = with_settings(RunConfig(), given_settings(tmp_path / "outer.yaml"))  # as finetuning takes them over
    assert continued.masks.patterns == config.masks.patterns
    monkeypatch.chdir(tmp_path / "deep")
    assert load_config(None, {"masks.patterns": "mine.yaml"}).masks.patterns == config.masks.patterns
    assert load_config(tmp_path / "outer.yaml", {"masks.patterns": "none"}).masks.patterns == {}


def test_shipped_patterns_go_by_their_name() -> None:
    patterns = load_config(None, {"masks.patterns": "masks/patterns/forecasts"}).masks.patterns
    assert {"state_forecast", "next_action_only", "lost_observations"} == set(patterns)


def test_a_configuration_holds_the_patterns_and_not_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(TEXT)
    config = load_config(None, {"masks.patterns": str(file)})
    file.unlink()
    written = tmp_path / "config.yaml"
    written.write_text(to_yaml(config))
    assert load_config(written) == config == from_dict(to_dict(config))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "mine.yaml: no such configuration file"),
        ("", "mine.yaml: holds no mask pattern"),
        ("mine: {states: > t}", "mine.yaml: line 1 not valid YAML"),
        ("mine: {states: '<= u'}", "mine.yaml: mine: states: must be all, none"),
        ("mine: {states: '<= t'}", "mine.yaml: mine: weight: missing; give its share among the test-time masks"),
        ("mine: {weight: 1, states: '< t'}", "masks.patterns: mine: shows nothing at t = 0"),
        ("mine: {weight: 1, states: [0, 8]}", "masks.patterns: mine: states: step 8 is outside the window of 8 steps"),
    ],
)
def test_mistakes_name_file_pattern_and_key(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "mine.yaml"
    if text is not None:
        file.write_text(text)
    found = failure({"masks.patterns": str(file)})
    assert found.startswith("command line: masks.patterns: ")
    assert message in found


def test_other_mistakes() -> None:
    assert "must be a file of mask patterns, or a mapping of them, not 3" in failure({"masks.patterns": 3})
    assert "masks.test_mask_fraction above 0" in failure({"masks.patterns": MINE, "masks.test_mask_fraction": 0})
    with pytest.raises(UserError, match=r"sweep.yaml: masks.patterns: a sweep cannot set it"):
        checked_value("masks.patterns", "masks/patterns/forecasts", "sweep.yaml")


def test_a_pattern_can_be_the_only_test_mask() -> None:
    off = {f"masks.{field.name}": 0 for field in dataclasses.fields(MaskConfig) if field.name.endswith("_weight")}
    config = with_settings(RunConfig(), {**off, "masks.patterns": MINE, "masks.test_mask_fraction": 1.0})
    for mask in masks.draw_masks(np.random.default_rng(0), 8, config.masks):
        assert mask[masks.RETURNS].sum() == 1
        assert not mask[masks.STATES].any()


def test_training_draws_a_pattern_as_often_as_its_share() -> None:
    config = MaskConfig(groups=1, test_mask_fraction=1.0, patterns=MINE)  # the built-in weights add up to 1 too
    rng = np.random.default_rng(0)
    drawn = [masks.draw_masks(rng, 8, config)[0] for _ in range(4000)]
    mine = [mask for mask in drawn if mask[masks.REWARDS].any()]  # no built-in test-time mask shows a reward
    assert 0.47 < len(mine) / 4000 < 0.53
    assert {int(mask[masks.REWARDS].sum()) for mask in mine} == {2, 5}
    at = np.bincount([int(np.argmax(mask[masks.RETURNS])) for mask in mine], minlength=8) / len(mine)
    np.testing.assert_allclose(at, 1 / 8, atol=0.03)  # t is uniform
    np.testing.assert_allclose(masks.test_mask_probabilities(config).sum(), 1.0)


@pytest.mark.parametrize("patterns", [{}, {"unused": {"weight": 0, "states": "t"}}])
def test_without_patterns_of_weight_the_draws_are_those_of_before(patterns: dict[str, object]) -> None:
    """The draws written out as they were before there were patterns."""
    config = MaskConfig(groups=3, path_inpainting_weight=0.3, goal_weight=0.2, patterns=patterns)
    weights = np.array([0.4, 0.3, 0.1, 0.1, 0.3, 0.2, 0.1])
    ours, theirs = np.random.default_rng(5), np.random.default_rng(5)
    for _ in range(200):
        num_test = 1 + int(theirs.random() < 0.5)
        expected = [masks.random_mask(theirs, 8) for _ in range(3 - num_test)]
        for _ in range(num_test):
            name = masks.TEST_MASKS[theirs.choice(7, p=weights / weights.sum())]
            t = int(theirs.integers(8))
            goals = masks.draw_goals(theirs, 8, t)
            expected.append(masks.make_test_mask(name, 8, t, goals, bool(theirs.random() < 0.5)))
        np.testing.assert_array_equal(masks.draw_masks(ours, 8, config), expected)
    assert ours.bit_generator.state == theirs.bit_generator.state


def test_an_interrupted_run_goes_on_with_its_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "mine: {weight: 3, states: {random: [0.3, 0.6]}, rewards: t, asked: {states: all, actions: '> t'}}\n"
    )
    config = with_settings(make_config(components="btm"), {"masks.patterns": str(file)})
    trajectories = make_trajectories()
    straight = RunFolder.create(tmp_path / "straight", config, "pretrain")
    errors = Pretraining(straight, config, trajectories).train()
    assert {name for name in errors if name.startswith("pattern_error/")} == {
        "pattern_error/mine/states",
        "pattern_error/mine/actions",
    }
    broken = RunFolder.create(tmp_path / "broken", config, "pretrain")
    pretraining = Pretraining(broken, config, trajectories)
    interrupt_in_the_middle(pretraining, "btm", 5, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        pretraining.train()
    file.unlink()  # as on another machine
    assert Pretraining.resume(broken, trajectories).train() == errors
    (expected, _), (got, _) = load_checkpoint(straight), load_checkpoint(broken)
    assert all(bool((tensor == got["btm"][name]).all()) for name, tensor in expected["btm"].items())
    validated = [row for row in read_metrics(broken, "btm") if "validation/pattern_error/mine/states" in row]
    assert len(validated) == 3
