"""Recorded decisions computed again: the same candidates, the same choice, the same utilities."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from m3pc_ray.cli import main
from m3pc_ray.commands.finetune import resume_finetune
from m3pc_ray.errors import UserError
from m3pc_ray.online.explaining.decision_log import LoggedDecision, episode_name, find_decision, recorded_versions
from m3pc_ray.online.explaining.explain import TOLERANCE, choose_weights, explain, explainable
from m3pc_ray.online.explaining.tables import path_rows
from m3pc_ray.online.preparation import finetune_config, prepare
from m3pc_ray.online.replay.replay_log import read_log
from m3pc_ray.training.checkpoints import list_checkpoints, load_checkpoint
from m3pc_ray.training.run_folder import RunFolder


def finetune(source: RunFolder, out: Path, **overrides: object) -> RunFolder:
    """A serial run with a checkpoint after every round."""
    settings = {
        "online.record_decisions": "true",
        "online.steps": "150",
        "online.evaluate_every": "0",
        "online.checkpoint_minutes": "1e-6",
        "online.keep_checkpoints": "100",
        **overrides,
    }
    run = prepare(source, out, finetune_config(source, settings))
    run.write_summary({"serial": True})
    resume_finetune(run.path, quiet=True)
    return run


@pytest.fixture(scope="module")
def recorded(pretrained, tmp_path_factory) -> RunFolder:
    """Tests only read it, or copy it."""
    return finetune(pretrained, tmp_path_factory.mktemp("explain") / "run")


def decisions_of(run: RunFolder, every: int) -> list[LoggedDecision]:
    """Every so many of the decisions in the log whose weights are kept."""
    kept = {entry.version for entry in explainable(run)}
    found = []
    for fragment in read_log(run.path / "replay", decisions=True):
        assert fragment.num_steps == 0 or fragment.decisions is not None
        for row in range(fragment.num_steps):
            if int(fragment.decisions.weight_version[row]) in kept:
                found.append((fragment.key, fragment.offset + row))
    return [find_decision(run, episode_name(key), step) for key, step in found[::every]]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("guide", ["critic", "return"])
def test_the_same_choice_and_the_same_utilities(pretrained, tmp_path, guide, precision):
    overrides = {"online.guide": guide, "planner.precision": precision, "online.num_candidates": "20"}
    run = finetune(pretrained, tmp_path / "run", **overrides)
    decisions = decisions_of(run, every=6)
    assert len(decisions) >= 10
    for decision in decisions:
        weights = choose_weights(run, decision)
        explanation = explain(run, decision, weights)
        assert explanation.weights.exact
        assert explanation.recorded.shape == (20,)
        assert np.ptp(explanation.recorded) > 100 * 1e-5  # candidates differ by more than is compared
        np.testing.assert_allclose(explanation.computed, explanation.recorded, rtol=0, atol=1e-5)
        assert explanation.chosen == explanation.chosen_recorded
        np.testing.assert_allclose(explanation.candidates[explanation.chosen, 0], decision.action, atol=1e-5)
        assert explanation.agrees
    records = [decision.record for decision in decisions]
    assert {str(record.precision[0]) for record in records} == {precision}
    assert {decision.key.worker for decision in decisions} == {0, 1}
    assert max(int(record.batch_rows[0]) for record in records) > 1
    assert max(int(record.batch_row[0]) for record in records) > 0
    assert len({int(record.weight_version[0]) for record in records}) > 1


def test_guide_none_is_explained_by_its_action(pretrained, tmp_path):
    run = finetune(pretrained, tmp_path / "run", **{"online.guide": "none", "online.steps": "60"})
    decision = decisions_of(run, every=7)[1]
    explanation = explain(run, decision, choose_weights(run, decision))
    assert explanation.agrees
    assert explanation.details is None
    np.testing.assert_allclose(explanation.action, decision.action, atol=1e-5)


def test_recording_changes_no_decision(recorded, pretrained, tmp_path):
    without = finetune(pretrained, tmp_path / "run", **{"online.record_decisions": "false"})
    pairs = zip(read_log(recorded.path / "replay"), read_log(without.path / "replay"), strict=True)
    for one, other in pairs:
        np.testing.assert_array_equal(one.actions, other.actions)
    _, state = load_checkpoint(without)
    assert "served" not in state
    with pytest.raises(UserError, match="without records of its decisions; finetune with --record-decisions"):
        find_decision(without, "0/0/0", 0)
    assert not explainable(without)


def test_checkpoints_keep_what_was_served_last(recorded):
    """Of a run of 150 steps and 15 model updates, published every 3: most versions are kept."""
    made = {version.version: version.decisions for version in recorded_versions(recorded)}
    assert sum(made.values()) == 150
    assert len(made) >= 3
    assert {entry.version: entry.decisions for entry in explainable(recorded)} == made
    for step in list_checkpoints(recorded)[1:]:
        tensors, state = load_checkpoint(recorded, step)
        assert state["served"]["version"] <= state["online"]["updates"]["btm"]
        assert tensors["served_model"].keys() == tensors["btm"].keys()


def test_other_weights_give_other_utilities(recorded):
    decision = decisions_of(recorded, every=1)[-1]
    weights = choose_weights(recorded, decision, checkpoint=0)
    explanation = explain(recorded, decision, weights)
    assert explanation.weights.version == 0 < int(decision.record.weight_version[0])
    assert not explanation.weights.exact
    assert explanation.largest_difference > 100 * TOLERANCE
    assert not explanation.agrees


def only_newest_checkpoint(run: RunFolder, to: Path) -> RunFolder:
    shutil.copytree(run.path, to)
    for step in list_checkpoints(to)[:-1]:
        shutil.rmtree(to / "checkpoints" / f"step-{step:08d}")
    return RunFolder.open(to)


def test_a_version_that_is_not_kept(recorded, tmp_path):
    run = only_newest_checkpoint(recorded, tmp_path / "run")
    decision = find_decision(run, "0/0/0", 0)
    expected = r"0/0/0 step 0 was decided by weights of version 0, which no checkpoint of .* keeps; it does keep "
    with pytest.raises(UserError, match=expected + r"version \d+, as --episode \d/0/\d+ --step \d+; --nearest"):
        choose_weights(run, decision)
    nearest = choose_weights(run, decision, nearest=True)
    assert not explain(run, decision, nearest).weights.exact
    # The version's number alone is not enough: after a crash another set of weights may bear it.
    (kept,) = explainable(run)
    words = kept.first.split()
    exact = find_decision(run, words[1], int(words[3]))
    assert choose_weights(run, exact).version == kept.version
    forged = replace(exact.record, weights_fingerprint=exact.record.weights_fingerprint + np.uint64(1))
    with pytest.raises(UserError, match="which no checkpoint"):
        choose_weights(run, replace(exact, record=forged))


def test_decisions_after_a_resume_are_explained(pretrained, tmp_path):
    """The planner then starts with the weights in training, which were not published before."""
    source = finetune(pretrained, tmp_path / "run", **{"online.steps": "110"})
    config = source.config()
    source.write_config(replace(config, online=replace(config.online, steps=150)))
    source.write_summary({"status": "interrupted"})
    resume_finetune(source.path, quiet=True)
    later = [decision for decision in decisions_of(source, every=3) if decision.key.incarnation == 1]
    assert len(later) > 5
    for decision in later:
        assert explain(source, decision, choose_weights(source, decision)).agrees


def test_the_path_is_compared_with_what_the_episode_had(recorded):
    decision = find_decision(recorded, "0/0/0", 1)
    explanation = explain(recorded, decision, choose_weights(recorded, decision))
    rows = path_rows(explanation)
    (first, *rest) = rows
    fragments = [f for f in read_log(recorded.path / "replay") if episode_name(f.key) == "0/0/0"]
    observations = np.concatenate([f.observations for f in fragments] + [fragments[-1].final_observation[None]])
    rewards = np.concatenate([f.rewards for f in fragments])
    assert first["step"] == 1
    np.testing.assert_allclose(first["action"], decision.action, atol=1e-5)
    assert [row["reward"] for row in rows] == [*map(float, rewards[1 : 1 + len(rows)])]
    np.testing.assert_array_equal(first["next_state"], observations[2])
    error = (np.array(first["next_state_predicted"]) - observations[2]) / explanation.states_std
    assert first["state_error"] == pytest.approx(float(np.sqrt(np.mean(error**2))), rel=1e-4)
    assert rest[-1]["next_state_predicted"] is None  # nothing is predicted beyond the window


def test_command_line(recorded, tmp_path, capsys):
    path = str(recorded.path)
    assert main(["explain", path]) == 0
    assert "--episode 0/0/0 --step 0" in capsys.readouterr().out
    target = tmp_path / "explained.json"
    assert main(["explain", path, "--episode", "0/0/0", "--step", "1", "--json", str(target)]) == 0
    named = capsys.readouterr().out
    assert "the same weights" in named
    assert "the same choice; largest difference of utilities" in named
    written = json.loads(target.read_text())
    assert written["decision"]["agrees"] is True
    assert [row["rank"] for row in written["rows"]] == [1, 2, 3, 4]
    assert sum(row["probability"] for row in written["rows"]) == pytest.approx(1.0, abs=1e-5)
    assert sum(row["chosen"] for row in written["rows"]) == 1
    assert len(written["planned"]) >= 2
    first = next(read_log(recorded.path / "replay")).key
    assert main(["explain", path, "--episode", "0", "--step", "1"]) == 0
    assert f"episode {episode_name(first)} step 1" in capsys.readouterr().out
    assert main(["explain", path, "--episode", "0/0/0", "--step", "1", "--weights", "150"]) == 0
    assert "NOT the same weights" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--episode", "0/0/999", "--step", "0"], "no such episode in the log, which holds 0/0/0 to 0/0/"),
        (["--episode", "999", "--step", "0"], r"the log holds \d+ episodes, 0 to \d+"),
        (["--episode", "first", "--step", "0"], "give WORKER/INCARNATION/EPISODE, such as 0/0/0"),
        (["--episode", "0/0/0", "--step", "500"], r"episode 0/0/0 has \d+ steps, 0 to \d+"),
        (["--episode", "0/0/0", "--step", "-1"], r"episode 0/0/0 has \d+ steps, 0 to \d+"),
        (["--episode", "0/0/0"], "--episode and --step name a decision together"),
        (["--episode", "0/0/0", "--step", "0", "--weights", "7"], "no checkpoint of step 7; there are: 0, "),
        (["--episode", "0/0/0", "--step", "0", "--top", "0"], "at least 1 is needed"),
        (["--episode", "0/0/0", "--step", "0", "--device", "cuda:77"], "cannot use here"),
    ],
)
def test_bad_input_is_one_clear_line(recorded, capsys, arguments, message):
    assert main(["explain", str(recorded.path), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error), error


def test_a_run_without_a_log_is_one_clear_line(pretrained, capsys):
    assert main(["explain", str(pretrained.path), "--episode", "0", "--step", "0"]) == 2
    assert "there is no log: only `m3pc finetune` collects decisions" in capsys.readouterr().err
    assert main(["explain", str(pretrained.path)]) == 2
    assert "finetune with --record-decisions" in capsys.readouterr().err
