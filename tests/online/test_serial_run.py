"""The whole of an online run in one process: exact counts, same seed same bits, interruption, bad input."""

import json
from pathlib import Path

import numpy as np
import pytest

from m3pc_ray.agent import Agent
from m3pc_ray.cli import main
from m3pc_ray.commands.finetune import resume_finetune
from m3pc_ray.errors import UserError
from m3pc_ray.online.loop import SerialRun
from m3pc_ray.online.preparation import finetune_config, prepare
from m3pc_ray.online.progress import OnlineProgress
from m3pc_ray.online.replay.replay_log import log_files, read_log
from m3pc_ray.training.checkpoints import list_checkpoints, load_checkpoint
from m3pc_ray.training.interrupt import StopRequest
from m3pc_ray.training.metrics import read_metrics
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.trajectories.episodes import EpisodeEnd


def finetune_serially(source: RunFolder, out: Path, **overrides: object) -> RunFolder:
    run = prepare(source, out, finetune_config(source, {f"online.{k}": v for k, v in overrides.items()}))
    run.write_summary({"serial": True})
    resume_finetune(run.path, quiet=True)
    return run


@pytest.fixture(scope="module")
def finished(pretrained, tmp_path_factory) -> RunFolder:
    return finetune_serially(pretrained, tmp_path_factory.mktemp("serial") / "run")


def test_steps_and_updates_are_exact(finished):
    summary = finished.summary()
    assert summary["status"] == "finished"
    assert summary["environment_steps"] == 203
    assert summary["btm_updates"] == 20
    assert summary["critic_updates"] == 203
    fragments = list(read_log(finished.path / "replay"))
    assert sum(fragment.num_steps for fragment in fragments) == 203
    _, state = load_checkpoint(finished)
    assert state["online"] == {"fragments": len(fragments), "steps": 203, "updates": {"btm": 20, "critic": 203}}
    # The optimizers' own counts: 20 + 203 and 3 + 20 steps, pretraining's included (a mask token may be left out).
    tensors, _ = load_checkpoint(finished)
    assert {float(v) for k, v in tensors["critic_optimizer"].items() if k.endswith(".step")} == {223.0}
    assert max(float(v) for k, v in tensors["btm_adamw"].items() if k.endswith(".step")) == 23.0


def test_every_episode_in_the_log_is_whole_and_closed(finished):
    lengths: dict[object, int] = {}
    ends: dict[object, EpisodeEnd] = {}
    for fragment in read_log(finished.path / "replay"):
        assert fragment.key not in ends
        assert fragment.offset == lengths.get(fragment.key, 0)
        lengths[fragment.key] = fragment.offset + fragment.num_steps
        if fragment.end is not None:
            ends[fragment.key] = fragment.end
        settings = json.loads(fragment.planner)
        assert (settings["guide"], settings["num_candidates"], settings["return_prompt"]) == ("critic", 4, "best")
    assert set(ends) == set(lengths)
    cut = [key for key, end in ends.items() if end == EpisodeEnd.CUT]
    assert 0 < len(cut) <= 6  # at most one for each environment, when the budget ended


def test_workers_see_new_weights_within_the_promised_lag(finished):
    versions = [fragment.weight_versions for fragment in read_log(finished.path / "replay")]
    assert versions[0] == (0, 0)
    assert versions[-1][1] >= 20 - 3 - 48 * 0.1 - 1  # publish_every and one round of updates behind
    assert all(oldest <= newest for oldest, newest in versions)


def test_evaluations_at_the_start_at_intervals_and_at_the_end(finished):
    rows = read_metrics(finished, "evaluation")
    steps = [row["step"] for row in rows]
    assert steps[0] == 0
    assert steps[-1] == 203
    assert any(100 <= step < 150 for step in steps)
    assert len(steps) == 3
    assert {"none/return_mean", "critic/return_mean"} <= set(rows[0])
    assert finished.summary()["returns"]["critic"] == rows[-1]["critic/return_mean"]
    assert read_metrics(finished, "online")[-1]["critic_updates"] == 203


def test_the_run_is_an_ordinary_run_with_other_weights(finished, pretrained):
    agent, before = Agent.load(finished.path), Agent.load(pretrained.path)
    observation = np.array([0.0, 0.05, 0.0, 0.1], np.float32)
    action = agent.predict(observation)
    assert action.shape == (1,)
    assert abs(float(action[0]) - float(before.predict(observation)[0])) > 1e-6
    old, new = load_checkpoint(pretrained)[0], load_checkpoint(finished)[0]
    for group in ("btm", "critic"):
        changed = [not np.array_equal(new[group][name], old[group][name]) for name in old[group]]
        assert any(changed)
    assert new["multiplier"]["log_multiplier"] != old["multiplier"]["log_multiplier"]
    assert list_checkpoints(finished)[-1] == 203


def test_same_seed_same_bits(finished, pretrained, tmp_path):
    again = finetune_serially(pretrained, tmp_path / "again")
    assert (again.path / "replay/log-000000.arrow").read_bytes() == (
        finished.path / "replay/log-000000.arrow"
    ).read_bytes()
    for path in sorted((finished.path / "checkpoints/step-00000203").iterdir()):
        assert (again.path / "checkpoints/step-00000203" / path.name).read_bytes() == path.read_bytes(), path.name


def test_another_seed_gives_another_run(finished, pretrained, tmp_path):
    config = finetune_config(pretrained, {"seed": "1", "online.steps": "60"})
    run = prepare(pretrained, tmp_path / "other", config)
    run.write_summary({"serial": True})
    resume_finetune(run.path, quiet=True)
    first, other = next(read_log(finished.path / "replay")), next(read_log(run.path / "replay"))
    assert not np.array_equal(first.observations, other.observations)


class _StopAt(OnlineProgress):
    """Asks for a stop once so many steps are taken, as Ctrl-C would."""

    stop: StopRequest
    at = 90

    def update(self, steps, updates, values, force=False):
        super().update(steps, updates, values, force)
        if steps >= self.at:
            self.stop.requested = True


def test_interrupted_and_resumed_run_is_exact(pretrained, tmp_path):
    run = prepare(pretrained, tmp_path / "run", finetune_config(pretrained, {}))
    run.write_summary({"serial": True})
    stop = StopRequest()
    with _StopAt(run, run.config(), quiet=True) as progress:
        progress.stop = stop
        with pytest.raises(KeyboardInterrupt):
            SerialRun(run, progress, stop).train()
    summary = run.summary()
    assert summary["status"] == "interrupted"
    assert 90 <= summary["environment_steps"] < 203
    _, state = load_checkpoint(run)
    assert state["online"]["steps"] == summary["environment_steps"]
    resume_finetune(run.path, quiet=True)
    summary = run.summary()
    assert summary["status"] == "finished"
    assert [summary[name] for name in ("environment_steps", "btm_updates", "critic_updates")] == [203, 20, 203]
    fragments = list(read_log(run.path / "replay"))
    assert sum(fragment.num_steps for fragment in fragments) == 203
    assert {fragment.key.incarnation for fragment in fragments} == {0, 1}
    starts = [(fragment.key, fragment.reset_seed) for fragment in fragments if fragment.offset == 0]
    assert len({seed for _, seed in starts}) == len({key for key, _ in starts})  # no episode is played twice


def test_log_ahead_of_the_checkpoint_is_learnt_from_before_new_steps(pretrained, tmp_path):
    """As after kill -9: the checkpoint is older than the log. The end is exact all the same."""
    run = prepare(pretrained, tmp_path / "run", finetune_config(pretrained, {}))
    run.write_summary({"serial": True})
    stop = StopRequest()
    with _StopAt(run, run.config(), quiet=True) as progress:
        progress.stop = stop
        with pytest.raises(KeyboardInterrupt):
            SerialRun(run, progress, stop).train()
    (newest,) = [step for step in list_checkpoints(run) if step > 0]
    for path in (run.path / "checkpoints" / f"step-{newest:08d}").iterdir():
        path.unlink()
    with OnlineProgress(run, run.config(), quiet=True) as progress:
        serial = SerialRun(run, progress, StopRequest())
        assert serial.learner.updates == {"btm": 0, "critic": 0}
        assert serial.learner.steps == newest
        assert serial.tickets.taken == newest
        serial.train()
    summary = run.summary()
    assert [summary[name] for name in ("environment_steps", "btm_updates", "critic_updates")] == [203, 20, 203]


def test_a_log_that_lost_what_the_checkpoint_has_learnt_from_is_refused(pretrained, tmp_path):
    run = prepare(pretrained, tmp_path / "run", finetune_config(pretrained, {}))
    stop = StopRequest()
    with _StopAt(run, run.config(), quiet=True) as progress:
        progress.stop = stop
        with pytest.raises(KeyboardInterrupt):
            SerialRun(run, progress, stop).train()
    (log,) = log_files(run.path / "replay")
    log.unlink()
    lost = r"the replay log has 0 fragments, the checkpoint has learnt from \d+"
    with OnlineProgress(run, run.config(), quiet=True) as progress, pytest.raises(UserError, match=lost):
        SerialRun(run, progress, StopRequest())


def test_command_line(pretrained, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["finetune", "--run", str(pretrained.path), "--out", str(out), "--steps", "41", "--serial"]
    arguments += ["--seed", "3", "--rollout-workers", "1", "--threads", "1", "--online.guide", "return"]
    assert main([*arguments, "--online.start_steps", "5"]) == 0
    run = RunFolder.open(out)
    config = run.config()
    assert (config.seed, config.online.guide, config.online.rollout_workers) == (3, "return", 1)
    assert run.summary()["environment_steps"] == 41
    assert run.summary()["critic_updates"] == 41
    assert "41 steps" in capsys.readouterr().out
    assert json.loads(next(read_log(out / "replay")).planner)["guide"] == "return"
    assert main(arguments) == 2
    assert "a run is there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model.width": "32"}, "model.width: fixed by the pretrained weights"),
        ({"data.return_scale": "sum"}, "data.return_scale: fixed"),
        ({"data.dataset": "nowhere.hdf5"}, "nowhere.hdf5"),
        ({"online.steps": "0"}, "online.steps"),
    ],
)
def test_settings_that_do_not_fit_leave_nothing_behind(pretrained, tmp_path, overrides, message):
    with pytest.raises(UserError, match=message):
        prepare(pretrained, tmp_path / "run", finetune_config(pretrained, overrides))
    assert not (tmp_path / "run").exists()


def test_a_run_is_never_finetuned_into_itself(pretrained):
    with pytest.raises(UserError, match="that is the run to start from"):
        prepare(pretrained, pretrained.path, pretrained.config(), overwrite=True)
    assert pretrained.summary()["status"] == "finished"


def test_settings_come_from_a_file_and_options_win_over_it(pretrained, tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("online:\n  steps: 41\n  start_steps: 7\n")
    out = tmp_path / "run"
    words = ["finetune", "--run", str(pretrained.path), "--out", str(out), "--serial", "--config", str(file)]
    assert main([*words, "--online.start_steps", "9", "--online.evaluation_episodes", "1"]) == 0
    config = RunFolder.open(out).config()
    assert (config.online.steps, config.online.start_steps) == (41, 9)
    assert config.model == pretrained.config().model  # what the file does not name is the run's own
    assert RunFolder.open(out).summary()["environment_steps"] == 41


def test_a_run_that_explores_with_all_that_plans_can_do(pretrained, tmp_path):
    planner = {"warm_start": True, "refinement_steps": 1, "asked_returns": "0.5,1", "pessimism": 0.5}
    settings = {f"planner.{name}": value for name, value in planner.items()} | {"online.steps": 40}
    run = prepare(pretrained, tmp_path / "run", finetune_config(pretrained, settings))
    run.write_summary({"serial": True})
    resume_finetune(run.path, quiet=True)
    assert run.summary()["environment_steps"] == 40
    fragments = list(read_log(run.path / "replay"))
    assert sum(fragment.num_steps for fragment in fragments) == 40
    assert json.loads(fragments[0].planner)["warm_start"] is True
