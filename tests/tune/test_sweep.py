"""Sweeps on a real local Ray: what trials report is what they played, failed ones are named and taken up again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from m3pc_ray.agent import Agent
from m3pc_ray.cli import main
from m3pc_ray.configuration import with_settings
from m3pc_ray.evaluation.evaluate import evaluate_planners
from m3pc_ray.training.run_folder import RunFolder
from tests.actors.checks import assert_exact
from tests.faults.driver import Driver, m3pc
from tune.definition import SEED_STRIDE
from tune.folder import SweepFolder
from tune.results import read_results
from tune.snapshot import logged_steps

pytestmark = pytest.mark.usefixtures("cluster")

EVALUATE: dict[str, Any] = {
    "kind": "evaluate",
    "space": {"planner.num_candidates": [8]},
    "seeds": [0],
    "settings": {"evaluation.episodes": 3, "planner.horizon": 1},
    "baseline": {"label": "no planning", "settings": {"planner.guide": "none"}},
    "trial_cpus": 0.5,
}
FINETUNE: dict[str, Any] = {
    "kind": "finetune",
    "space": {"planner.td_lambda": [0.2, 0.8]},
    "seeds": [3],
    "settings": {"online.evaluate_every": 100},
    "report_steps": [100, 203],
    "trial_cpus": 1,
    "max_concurrent": 1,
}


def write(path: Path, tree: dict[str, Any]) -> str:
    path.write_text(yaml.safe_dump(tree))
    return str(path)


def rows(folder: Path) -> list[dict[str, Any]]:
    return read_results(SweepFolder(folder)).to_pylist()


def test_an_evaluation_sweep(pretrained: RunFolder, tmp_path: Path, capsys) -> None:
    """The rows are what the planner plays directly; a broken run fails its trials alone, and they are run again."""
    broken = tmp_path / "broken"
    shutil.copytree(pretrained.path, broken)
    out = tmp_path / "sweep"
    config = write(tmp_path / "sweep.yaml", {**EVALUATE, "max_failures": 0})
    words = ["sweep", "--config", config, "--run", str(pretrained.path), "--run", str(broken), "--out", str(out)]
    for checkpoint in (broken / "checkpoints").glob("step-*/critic.safetensors"):  # planning it needs this, and more
        whole, damaged = checkpoint, checkpoint.with_suffix(".hidden")
    assert main([*words, "--trial-cpus", "64"]) == 2
    refused = capsys.readouterr().err
    assert "a trial reserves 1 x 64 = 64 CPU; the cluster has 1 node of 2 CPU" in refused
    assert not out.exists()  # a sweep that cannot begin leaves nothing

    monkey = pytest.MonkeyPatch()
    monkey.setattr("tune.sweep.cluster_nodes", lambda: _hide(whole, damaged))
    with monkey.context():
        assert main(words) == 1
    monkey.undo()
    said = capsys.readouterr()
    failed = [row for row in rows(out) if row["status"] == "failed"]
    assert {row["run"] for row in failed} == {str(broken)}
    assert len(failed) == 2
    assert "no complete checkpoint" in failed[0]["error"]
    assert f"m3pc: trial {failed[0]['trial']} failed: " in said.err
    assert "without a score: 1 failed" in (out / "table.md").read_text()
    assert "Traceback" not in said.err + said.out
    check_against_direct_play(pretrained, [row for row in rows(out) if row["status"] == "finished"])

    before = {row["trial"]: row for row in rows(out) if row["status"] == "finished"}
    damaged.rename(whole)
    assert main(["resume", str(out)]) == 0
    after = {row["trial"]: row for row in rows(out)}
    assert len(after) == 4
    assert {row["status"] for row in after.values()} == {"finished"}
    assert all(after[name] == row for name, row in before.items())  # they were not run again
    table = json.loads((out / "table.json").read_text())
    assert [(row["setting"], len(row["replicates"])) for row in table["rows"]] == [
        (None, 2),
        ({"planner.num_candidates": 8}, 2),
    ]
    assert main(["resume", str(out)]) == 0  # nothing is left to do
    assert main(words) == 2
    assert "a sweep is there; continue it with `m3pc resume" in capsys.readouterr().err


def _hide(whole: Path, damaged: Path) -> list[dict[str, float]]:
    """Damage a checkpoint between the sweep's own check and the trials."""
    if whole.exists():
        whole.rename(damaged)
    return [{"CPU": 2.0, "GPU": 0.0}]


def check_against_direct_play(pretrained: RunFolder, found: list[dict[str, Any]], episodes: int = 3) -> None:
    assert len(found) == 2
    for row in found:
        overrides = {
            "planner.horizon": 1,
            "evaluation.episodes": episodes,
            "evaluation.seed": 1000 + SEED_STRIDE * row["seed"],
        }
        if row["baseline"]:
            assert row["planner.num_candidates"] is None
            overrides["planner.guide"] = "none"
        else:
            overrides["planner.num_candidates"] = row["planner.num_candidates"]
        config = with_settings(pretrained.config(), overrides)
        agent = Agent.load(pretrained.path, planner=config.planner.guide, **_planner(overrides))
        (direct,) = evaluate_planners(agent, [config.planner.guide], config.evaluation)
        assert row["returns"] == direct["returns"]
        assert row["planner"] == config.planner.guide


def _planner(overrides: dict[str, Any]) -> dict[str, Any]:
    names = {name: value for name, value in overrides.items() if name.startswith("planner.")}
    return {name.removeprefix("planner."): value for name, value in names.items() if name != "planner.guide"}


def check_finetune_sweep(out: Path) -> None:
    """Exact counts of every run, and reports of all its evaluations."""
    found = rows(out)
    assert {row["status"] for row in found} == {"finished"}
    for name, td_lambda in (("00000", 0.2), ("00001", 0.8)):
        run = RunFolder.open(out / "trials" / name)
        assert_exact(run)
        assert run.config().planner.td_lambda == td_lambda
        assert run.config().seed == 3
        mine = [row for row in found if row["trial"] == name]
        assert [row["report_step"] for row in mine][0] == 0
        assert mine[-1]["report_step"] == mine[-1]["environment_steps"] == 203
        assert mine[-1]["last"]
        assert mine[-1]["planner"] == "critic"
        assert mine[-1]["return"] == pytest.approx(run.summary()["returns"]["critic"])
        assert {row["planner.td_lambda"] for row in mine} == {td_lambda}
    assert (out / "figures/learning_curves.png").exists()


def test_an_online_run_as_a_trial(pretrained: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    one = {**FINETUNE, "space": {"planner.td_lambda": [0.2]}}
    config = write(tmp_path / "sweep.yaml", one)
    assert main(["sweep", "--config", config, "--run", str(pretrained.path), "--out", str(out)]) == 0
    run = RunFolder.open(out / "trials/00000")
    assert_exact(run)
    assert run.config().data.share_memory
    found = rows(out)
    assert found[-1]["return"] == pytest.approx(run.summary()["returns"]["critic"])
    shutil.copytree(out, tmp_path / "elsewhere")
    shutil.rmtree(out)
    assert main(["sweep-report", str(tmp_path / "elsewhere")]) == 0
    assert main(["evaluate", "--run", str(tmp_path / "elsewhere/trials/00000"), "--episodes", "1"]) == 0


@pytest.mark.slow
def test_a_killed_sweep_goes_on(pretrained: RunFolder, tmp_path: Path) -> None:
    """`kill -9` in the middle of a trial: what it had logged is kept, and every run ends with exact counts."""
    out = tmp_path / "sweep"
    config = write(tmp_path / "sweep.yaml", FINETUNE)
    words = m3pc("sweep", "--config", config, "--run", str(pretrained.path), "--out", str(out))
    with Driver(words, tmp_path / "output.txt") as driver:
        driver.wait_until(
            lambda: (out / "trials/00000/replay").exists() and logged_steps(out / "trials/00000") > 50, ""
        )
        driver.kill()
        driver.wait_until_gone(60.0, lambda title: "Agent" not in title and "agent" not in title)
    kept = logged_steps(out / "trials/00000")
    assert kept > 50
    with Driver(m3pc("resume", str(out)), tmp_path / "output.txt") as driver:
        assert driver.wait() == 0, (tmp_path / "output.txt").read_text()[-3000:]
    check_finetune_sweep(out)


@pytest.mark.slow
def test_a_population(pretrained: RunFolder, tmp_path: Path) -> None:
    """Every trial is its own to the end, whoever it has followed, and every copy is kept."""
    space = {"online.btm_learning_rate": {"log_uniform": [1e-6, 1e-2]}, "planner.num_candidates": {"uniform": [2, 6]}}
    settings = {"online.evaluate_every": 50, "online.steps": 200}
    tree = {"kind": "finetune", "scheduler": {"name": "pbt", "interval_steps": 50}, "samples": 3, "space": space}
    config = write(tmp_path / "sweep.yaml", {**tree, "settings": settings, "trial_cpus": 1})
    out = tmp_path / "sweep"
    assert main(["sweep", "--config", config, "--run", str(pretrained.path), "--out", str(out)]) == 0
    found = rows(out)
    assert {row["trial"] for row in found} == {"00000", "00001", "00002"}
    assert {row["status"] for row in found} == {"finished"}
    for name in ("00000", "00001", "00002"):
        run = RunFolder.open(out / "trials" / name)
        assert logged_steps(run.path) == 200
        last = [row for row in found if row["trial"] == name][-1]
        assert last["environment_steps"] == 200
        assert run.config().planner.num_candidates == last["planner.num_candidates"]
    copies = [row["checkpoint"] for row in found if row["checkpoint"]]
    assert len(copies) >= 6
    assert all((out / copy / "replay").is_dir() for copy in copies)


@pytest.mark.slow
def test_suggestions_of_optuna(pretrained: RunFolder, tmp_path: Path) -> None:
    space = {"planner.td_lambda": {"uniform": [0, 1]}}
    tree = {**EVALUATE, "space": space, "searcher": "optuna", "samples": 2, "seeds": [0, 1]}
    config, out = write(tmp_path / "sweep.yaml", tree), tmp_path / "sweep"
    assert main(["sweep", "--config", config, "--run", str(pretrained.path), "--out", str(out)]) == 0
    found = [row for row in rows(out) if not row["baseline"]]
    tried = {row["planner.td_lambda"] for row in found}
    assert len(tried) == 2
    assert sorted((row["planner.td_lambda"], row["seed"]) for row in found) == [
        (v, s) for v in sorted(tried) for s in (0, 1)
    ]
