"""Studies end to end: what is made, what is kept, what goes on, what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from m3pc_ray import cli
from m3pc_ray.agent import Agent
from m3pc_ray.evaluation.evaluate import evaluate_planners
from m3pc_ray.studies import conduct, measure, train
from m3pc_ray.studies.records import StudyFolder
from m3pc_ray.training.assemble import load_models
from m3pc_ray.training.btm_trainer import BTMTrainer
from m3pc_ray.training.checkpoints import load_checkpoint
from m3pc_ray.training.run_folder import RunFolder, lock_file
from tests.studies.factory import SMALL, study_tree, write_study

ROOT = Path(__file__).parents[2]
TRAINED = ("hop-standard-s0", "hop-one_group-s0", "hop-plain-s0")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small.yaml and out/, in which the study is finished. Nobody may write into it."""
    folder = tmp_path_factory.mktemp("study")
    write_study(folder / "small.yaml")
    assert cli.main(["study", str(folder / "small.yaml"), "--out", str(folder / "out")]) == 0
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "study")
    return tmp_path / "study"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Names of the cells whose runs were trained or continued, and of those that something was measured of."""
    made: dict[str, list[str]] = {"trained": [], "measured": []}
    train_one, measure_one = train._train, measure.load_cell

    def training(pretraining):
        made["trained"].append(pretraining.run.path.name)
        train_one(pretraining)

    def measuring(folder, cell, device=None):
        made["measured"].append(cell.name)
        return measure_one(folder, cell, device)

    monkeypatch.setattr(train, "_train", training)
    monkeypatch.setattr(measure, "load_cell", measuring)
    return made


def study(folder: Path, *words: str, file: str = "small.yaml") -> int:
    return cli.main(["study", str(folder / file), "--out", str(folder / "out"), *words])


def test_a_study_end_to_end(finished: Path) -> None:
    out = finished / "out"
    assert sorted(path.name for path in (out / "runs").iterdir()) == sorted(TRAINED)
    assert sorted(path.stem for path in (out / "cells").iterdir()) == sorted(
        [*TRAINED, "hop-pair-s0", "hop-seen_anew-s0"]
    )
    written = json.loads((out / "small.json").read_text())
    rows = {(row["variant"], row["measure"]): row for row in written["rows"]}
    assert {row["missing"] for row in written["rows"]} == {None, "not possible"}
    assert [place for place, row in rows.items() if row["missing"]] == [("plain", "score/critic")]
    # The model under one variant's settings, once more without the study.
    models = load_models(RunFolder.open(out / "runs/hop-standard-s0"))
    config = type(models.config.evaluation)(episodes=2, seed=7)
    (expected,) = evaluate_planners(Agent.from_models(models, "critic"), ["critic"], config)
    assert rows["standard", "score/critic"]["mean"] == pytest.approx(expected["score_mean"])
    validation = RunFolder.open(out / "runs/hop-plain-s0").summary()["validation"]
    for measure_name in ("states_error/1_ahead", "action_error/return_conditioned"):
        assert rows["plain", measure_name]["mean"] == pytest.approx(validation[measure_name], rel=1e-5)
    # Two models: what is proposed is the one's, what is predicted the other's.
    assert rows["pair", "states_error/1_ahead"]["mean"] == rows["standard", "states_error/1_ahead"]["mean"]
    proposed = rows["pair", "action_error/return_conditioned"]["mean"]
    assert proposed == rows["one_group", "action_error/return_conditioned"]["mean"]
    assert proposed != rows["standard", "action_error/return_conditioned"]["mean"]
    assert rows["pair", "score/none"]["mean"] == pytest.approx(rows["one_group", "score/none"]["mean"])
    # The critic that a run started from is that run's, bit for bit, and the model is its own.
    ours, theirs = (load_checkpoint(RunFolder.open(out / f"runs/{name}"))[0] for name in TRAINED[:2])
    assert all(torch.equal(ours["critic"][name], value) for name, value in theirs["critic"].items())
    alone = load_checkpoint(RunFolder.open(out / "runs/hop-plain-s0"))[0]
    assert all(torch.equal(alone["btm"][name], value) for name, value in theirs["btm"].items())
    for name in ("small.md", "small.png"):
        assert (out / name).stat().st_size > 200


def test_what_is_finished_is_not_made_again(copied: Path, made: dict[str, list[str]]) -> None:
    assert study(copied) == 0
    assert made == {"trained": [], "measured": []}
    # Only what is missing is made, also where the run is gone but what was measured of it is not.
    (copied / "out/cells/hop-pair-s0.json").unlink()
    shutil.rmtree(copied / "out/runs/hop-plain-s0")
    assert study(copied) == 0
    assert made == {"trained": [], "measured": ["hop-pair-s0"]}


def test_other_episodes_are_evaluated_anew_and_the_old_ones_kept(copied: Path, made: dict[str, list[str]]) -> None:
    before = json.loads((copied / "out/small.json").read_text())["rows"]
    assert study(copied, "--evaluation.seed", "30", "--only", "hop-standard-*") == 0
    assert made == {"trained": [], "measured": ["hop-standard-s0"]}
    assert study(copied, "--table") == 0
    assert json.loads((copied / "out/small.json").read_text())["rows"] == before


def test_ctrl_c_in_a_training_goes_on_where_it_stopped(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(finished / "small.yaml", tmp_path)
    update, calls = BTMTrainer.update, iter(range(1, 1000))

    def interrupted(self, *arguments):
        if next(calls) == 6:  # the second step of the second run
            os.kill(os.getpid(), signal.SIGINT)
        return update(self, *arguments)

    monkeypatch.setattr(BTMTrainer, "update", interrupted)
    assert study(tmp_path) == 130
    assert "the same command goes on" in capsys.readouterr().out
    runs = tmp_path / "out/runs"
    stopped = [path.name for path in runs.iterdir() if RunFolder(path).summary()["status"] == "interrupted"]
    assert len(stopped) == 1
    assert RunFolder(runs / stopped[0]).summary()["btm_updates"] == 2
    assert study(tmp_path, "--table") == 0
    assert study(tmp_path) == 0
    assert "continued from its last checkpoint" in capsys.readouterr().out
    for name in TRAINED:
        (whole, _), (parts, _) = (load_checkpoint(RunFolder(each / name)) for each in (finished / "out/runs", runs))
        for group in ("btm", "critic"):
            assert all(torch.equal(value, parts[group][key]) for key, value in whole[group].items()), (name, group)


def test_ctrl_c_between_cells_keeps_what_is_done(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: dict[str, list[str]]
) -> None:
    shutil.copy(finished / "small.yaml", tmp_path)
    original = conduct.measure_cell

    def interrupted(folder, cell, *arguments):
        original(folder, cell, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(conduct, "measure_cell", interrupted)
    assert study(tmp_path) == 130
    first = made["trained"][0]
    assert made == {"trained": [first], "measured": [first]}
    monkeypatch.setattr(conduct, "measure_cell", original)
    assert study(tmp_path, "--only", "hop-plain-*", "--only", "hop-standard-*") == 0
    assert sorted(made["trained"]) == sorted(made["measured"]) == ["hop-plain-s0", "hop-standard-s0"]


def test_a_run_that_stopped_before_its_first_checkpoint_is_trained_anew(
    copied: Path, made: dict[str, list[str]]
) -> None:
    shutil.rmtree(copied / "out/cells")
    run = RunFolder(copied / "out/runs/hop-plain-s0")
    shutil.rmtree(run.checkpoints_path)
    run.write_summary({"status": "running"})
    assert study(copied, "--only", "hop-plain-*") == 0
    assert made == {"trained": ["hop-plain-s0"], "measured": ["hop-plain-s0"]}
    assert run.summary()["status"] == "finished"


def test_a_run_of_m3pc_pretrain_is_accepted(tmp_path: Path, made: dict[str, list[str]]) -> None:
    write_study(tmp_path / "small.yaml", variants={"standard": {}}, columns=["score/none", "entropy"])
    run = tmp_path / "out/runs/hop-standard-s0"
    words = [word for name, value in SMALL.items() for word in (f"--{name}", str(value).lower())]
    words += ["--critic.updates", "77", "--planner.horizon", "2"]  # neither decides a weight of this run
    assert cli.main(["pretrain", "--dataset", "bundled/hopper", "--out", str(run), *words]) == 0
    assert study(tmp_path) == 0
    assert made == {"trained": [], "measured": ["hop-standard-s0"]}


def test_a_run_with_other_settings_is_refused_before_anything_is_trained(
    copied: Path, made: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert study(copied, "--pretrain.learning_rate", "0.5") == 2
    message = capsys.readouterr().err
    assert "hop-standard-s0: pretrain.learning_rate: trained with 0.002, the study wants 0.5" in message
    assert made == {"trained": [], "measured": []}


def test_a_run_on_other_data_of_the_same_name_is_refused(
    copied: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(copied / "out/cells")
    load = train.data_of

    def fewer(config):
        trajectories = load(config)
        return trajectories.select(np.arange(trajectories.num_episodes - 2))

    monkeypatch.setattr(measure, "data_of", fewer)
    assert study(copied, "--only", "hop-standard-*") == 2
    assert "its statistics are not those of the episodes that its settings name" in capsys.readouterr().err


def test_studies_share_runs_and_cells(copied: Path, made: dict[str, list[str]]) -> None:
    tree = study_tree()["variants"]
    variants = {"standard": tree["standard"], "new": {"settings": {"masks.test_mask_fraction": 0}}}
    write_study(copied / "other.yaml", variants=variants, title="Another")
    first, second = str(copied / "small.yaml"), str(copied / "other.yaml")
    assert cli.main(["study", first, second, "--out", str(copied / "out"), "--json", str(copied / "all.json")]) == 0
    assert made == {"trained": ["hop-new-s0"], "measured": ["hop-new-s0"]}
    rows = json.loads((copied / "all.json").read_text())["rows"]
    shared = [
        [row["mean"] for row in rows if (row["study"], row["variant"]) == (name, "standard")]
        for name in ("small", "other")
    ]
    assert shared[0] == shared[1]
    assert len(shared[0]) == 4


def test_studies_that_disagree_about_a_run_are_refused(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(copied / "other.yaml", variants={"plain": {"settings": {"masks.groups": 3}}}, columns=["score/none"])
    words = ["study", str(copied / "small.yaml"), str(copied / "other.yaml"), "--out", str(copied / "fresh")]
    assert cli.main(words) == 2
    assert "hop-plain-s0: masks.groups: small and other train a run of this name" in capsys.readouterr().err
    assert not list((copied / "fresh/runs").iterdir())


def test_what_another_process_is_at_is_left_to_it(
    copied: Path, made: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(copied / "out/cells")
    shutil.rmtree(copied / "out/runs/hop-plain-s0")
    folder = StudyFolder(copied / "out")
    run = RunFolder(folder.runs / "hop-standard-s0")
    run.write_summary({"status": "interrupted"})
    with lock_file(folder.locks / "cell-hop-plain-s0.lock", "busy"), run.exclusive():
        assert study(copied) == 0
    assert made == {"trained": [], "measured": ["hop-one_group-s0"]}
    output = " ".join(capsys.readouterr().out.split())
    assert "other processes are at" in output
    assert not (folder.runs / "hop-plain-s0").exists()
    made["measured"].clear()
    assert study(copied) == 0
    assert made["trained"] == ["hop-standard-s0", "hop-plain-s0"]
    assert len(made["measured"]) == 4


@pytest.mark.slow
def test_two_processes_never_train_the_same_cell(finished: Path, tmp_path: Path) -> None:
    shutil.copy(finished / "small.yaml", tmp_path)
    command = [sys.executable, "-m", "m3pc_ray.cli", "study", "small.yaml", "--out", "out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=600)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    # Lines of the caption may begin with "training", too.
    trainings = [line for output in outputs for line in output.splitlines() if line.startswith("training hop-")]
    assert sorted(line.split()[1] for line in trainings) == sorted(TRAINED), outputs
    measured = [
        line.split()[1] for output in outputs for line in output.splitlines() if line.startswith("measuring hop-")
    ]
    assert len(measured) == len(set(measured)) == 5, outputs


def test_the_table_alone_trains_nothing(tmp_path: Path, made: dict[str, list[str]]) -> None:
    write_study(tmp_path / "small.yaml")
    (tmp_path / "out").mkdir()
    assert study(tmp_path, "--table") == 0
    assert made == {"trained": [], "measured": []}
    rows = json.loads((tmp_path / "out/small.json").read_text())["rows"]
    assert {row["mean"] for row in rows} == {None}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "hip-*"], "--only hip-*: no cell has such a name"),
        (["--dataset", "hip=x"], "--dataset hip: no data set of the study has this name; there are: hop"),
        (["--dataset", "hop"], "--dataset hop: must be NAME=DATA"),
        (["--dataset", "hop=no/such.hdf5"], "no/such.hdf5"),
        (["--threads", "0"], "--threads is 0"),
        (["--table"], "no such folder"),
        (["--json", "."], "--json .: is a folder"),
    ],
)
def test_mistakes_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    write_study(tmp_path / "small.yaml")
    assert study(tmp_path, *words) == 2
    assert message in capsys.readouterr().err


def test_a_study_of_costs_alone_trains_its_runs(tmp_path: Path, made: dict[str, list[str]]) -> None:
    columns = ["training/steps", "training/sequences", "training/critic_updates"]
    variants = {"standard": {"settings": {"pretrain.components": "both"}}}
    write_study(tmp_path / "small.yaml", variants=variants, columns=columns, evaluation={"planners": []})
    assert study(tmp_path) == 0
    assert made["trained"] == ["hop-standard-s0"]
    rows = json.loads((tmp_path / "out/small.json").read_text())["rows"]
    assert [row["mean"] for row in rows] == [4, 32, 5]
