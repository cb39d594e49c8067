"""`m3pc bench`: what it prints and writes, and a user's mistakes."""

import argparse
import json

import numpy as np
import pytest
from rich.console import Console

from m3pc_ray.benchmarks import backward, learning, planner, shared_memory
from m3pc_ray.benchmarks import precision as bench_precision
from m3pc_ray.cli import main
from m3pc_ray.config import RunConfig
from m3pc_ray.configuration import with_settings
from m3pc_ray.trajectories.resolve import load
from m3pc_ray.trajectories.store import write_store
from tests.tiny_run import make_tiny_run, random_hopper_episodes

SMALL = {"model.width": 16, "model.heads": 2, "pretrain.batch_size": 8, "device": "cpu"}


@pytest.mark.parametrize("name", learning.CANDIDATES)
def test_every_candidate_trains_for_its_budget(name: str) -> None:
    config = with_settings(RunConfig(), learning.CANDIDATES[name] | SMALL)
    rows = learning.train(config, random_hopper_episodes(), budget=0.2, points=2)
    assert len(rows) == 2
    assert 0.1 <= rows[0]["cpu_s"] < rows[1]["cpu_s"]
    assert 0 < rows[0]["steps"] < rows[1]["steps"]
    assert all(row[key] > 0 for row in rows for key, _ in learning.SHOWN)


def test_candidates_of_ones_own() -> None:
    settings = learning.settings_of("pretrain.learning_rate=4e-3, pretrain.batch_size=128")
    config = with_settings(RunConfig(), settings)
    assert (config.pretrain.learning_rate, config.pretrain.batch_size) == (4e-3, 128)
    assert learning.settings_of("batch 128") == {"pretrain.batch_size": 128}


def test_training_lowers_the_errors() -> None:
    config = with_settings(RunConfig(), SMALL | {"pretrain.batch_size": 64, "pretrain.warmup_steps": 10})
    rows = learning.train(config, load("bundled/hopper"), budget=4.0, points=4)
    assert rows[-1]["action_error/return_conditioned"] < 0.85 * rows[0]["action_error/return_conditioned"]


def test_learning_curves_are_drawn(tmp_path) -> None:
    keys = [key for key, _ in learning.SHOWN]
    rows = [
        {"case": f"{data}: {name}", "dataset": data, "cpu_s": seconds, **dict.fromkeys(keys, 1.0 / seconds)}
        for data in ("one", "two")
        for name in ("preset", "batch 128")
        for seconds in (1.0, 2.0)
    ]
    learning.draw(rows, str(tmp_path / "learning.png"))
    assert (tmp_path / "learning.png").stat().st_size > 10_000


def test_budget_of_a_run(tmp_path, capsys) -> None:
    run = make_tiny_run(tmp_path / "run")
    command = [
        "bench",
        "budget",
        "--run",
        str(run.path),
        "--episodes",
        "2",
        "--candidates",
        "4",
        "8",
        "--horizons",
        "2",
    ]
    assert main([*command, "--json", str(tmp_path / "b.json"), "--figure", str(tmp_path / "b.png")]) == 0
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert [row["case"] for row in rows] == ["single mask", "N 4 h 2", "N 8 h 2"]
    assert [row.get("num_candidates") for row in rows] == [None, 4, 8]
    assert (tmp_path / "b.png").exists()
    assert "decisions/s" in capsys.readouterr().out


def test_what_the_precision_changes(tmp_path, capsys) -> None:
    run = make_tiny_run(tmp_path / "run")
    data = tmp_path / "data"
    write_store(random_hopper_episodes(), data)
    run.write_config(with_settings(run.config(), {"data.dataset": str(data)}))
    command = ["bench", "precision", "--run", str(run.path), "--episodes", "2"]
    assert main([*command, "--json", str(tmp_path / "p.json")]) == 0
    rows = {row["case"]: row for row in json.loads((tmp_path / "p.json").read_text())["rows"]}
    assert list(rows) == [
        f"{guide} {precision}" for guide in ("critic", "return") for precision in bench_precision.PRECISIONS
    ]
    for guide in ("critic", "return"):
        exact, rough = rows[f"{guide} float32"], rows[f"{guide} bfloat16"]
        assert exact["action_difference_max"] < 1e-4 < rough["action_difference_max"]
        assert exact["utility_correlation_min"] > 0.999 > rough["utility_correlation_min"]
        assert exact["episodes"] == 2
    assert "against the oracle" in capsys.readouterr().out


def test_the_replay_log_as_it_grows(tmp_path, capsys) -> None:
    command = ["bench", "replay-log", "--steps", "4800", "9600", "--folder", str(tmp_path)]
    assert main([*command, "--json", str(tmp_path / "r.json")]) == 0
    first, second = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert (first["steps"], second["steps"]) == (4800, 9600)
    assert second["log_mb"] == pytest.approx(2 * first["log_mb"], rel=0.02)
    assert min(first[key] for key in ("append_s", "sync_s", "read_steps_per_second", "read_last_s", "open_s")) > 0
    assert "in brackets: in an empty log" in " ".join(capsys.readouterr().out.split())
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def test_what_recording_costs_and_how_exact_it_is(tmp_path, capsys) -> None:
    run = make_tiny_run(tmp_path / "run")
    data = tmp_path / "data"
    write_store(random_hopper_episodes(), data)
    run.write_config(with_settings(run.config(), {"data.dataset": str(data)}))
    assert main(["bench", "recording", "--run", str(run.path), "--quick", "--json", str(tmp_path / "r.json")]) == 0
    rows = {row["case"]: row for row in json.loads((tmp_path / "r.json").read_text())["rows"]}
    off, on = rows["recording off"], rows["recording on"]
    assert on["log_bytes_per_step"] > off["log_bytes_per_step"] + 4 * 64  # 64 utilities at least
    for precision in bench_precision.PRECISIONS:
        copies = rows[f"{precision}, as many copies"]
        assert copies["largest_difference"] <= 1e-5 * max(1.0, copies["largest_utility"])
        assert copies["same_choice"] == 1.0
    assert "bytes/step" in capsys.readouterr().out


@pytest.mark.parametrize(
    "learners", [pytest.param([], id="sampling"), pytest.param([1, 2], id="learners", marks=pytest.mark.slow)]
)
def test_learners_that_share_memory(learners, tmp_path, capsys) -> None:
    """The learners are slow: each is a process of its own."""
    write_store(random_hopper_episodes(), tmp_path / "data")
    arguments = argparse.Namespace(datasets=[str(tmp_path / "data")], learners=learners, quick=True)
    *side_by_side, sampling = shared_memory.measure(arguments, lambda _: None)
    assert sampling["rows_mb"] > 0
    assert min(sampling[f"{label}_transitions_us"] for label in shared_memory.SHARED.values()) > 0
    assert [row["case"] for row in side_by_side] == [f"data x {count}" for count in learners]
    for row in side_by_side:
        assert min(row["own_pss_mb"], row["shared_pss_mb"]) > 50
        assert row["shared_storage_s"] > 0
    Console().print(shared_memory.table([*side_by_side, sampling]))
    assert "transitions µs" in capsys.readouterr().out


def test_a_backward_plan_against_a_forward_plan(tmp_path, capsys) -> None:
    command = [
        "bench",
        "backward",
        "--width",
        "16",
        "--candidates",
        "4",
        "--seconds",
        "0.1",
        "--environments",
        "1",
        "3",
    ]
    assert main([*command, "--json", str(tmp_path / "b.json")]) == 0
    rows = {row["case"]: row for row in json.loads((tmp_path / "b.json").read_text())["rows"]}
    names = [*backward.WAYS, "forward none", "forward return", "forward critic"]
    assert list(rows) == [f"{name}, B {count}" for count in (1, 3) for name in names]
    for count in (1, 3):
        cost = {name: rows[f"{name}, B {count}"] for name in names}
        for row in cost.values():
            for reference in backward.REFERENCES:
                ratio = row["decision_s"] / cost[reference]["decision_s"]
                assert row[f"over_{reference.replace(' ', '_')}"] == pytest.approx(ratio)
        work = {name: row["multiply_adds"] for name, row in cost.items()}
        assert work["goal_mask"] < work["bc"] < work["backward"] < work["backward, partial goal"]
        assert work["forward none"] < work["forward return"]
    assert "planner ms work / return / critic" in " ".join(capsys.readouterr().out.split())


def test_partial_goals_of_the_benchmark_are_partial() -> None:
    whole, part = backward.make_goals(2, partial=False), backward.make_goals(2, partial=True)
    assert not np.isnan(whole.states).any()
    assert (np.isnan(part.states).sum(axis=-1) == whole.states.shape[-1] - backward.FIXED).all()


@pytest.mark.parametrize("encoder", ["full", "causal"])
def test_one_case_of_the_planner(encoder, tmp_path, capsys) -> None:
    command = ["bench", "planner", "--width", "16", "--candidates", "4", "--seconds", "0.1", "--encoder", encoder]
    assert main([*command, "--json", str(tmp_path / "p.json")]) == 0
    written = json.loads((tmp_path / "p.json").read_text())
    assert [row["case"] for row in written["rows"]] == [f"width 16 {p} N 4 h 4 B 1" for p in ("float32", "bfloat16")]
    assert {"ours_s", "plain_s", "ratio", "floor_s"} <= set(written["rows"][0])
    assert written["environment"]["threads"] == 1
    assert "width² multiply-adds" in " ".join(capsys.readouterr().out.split())


def test_costs_of_the_planner_are_drawn(tmp_path) -> None:
    sizes = dict.fromkeys([*planner.WIDTHS, *planner.CANDIDATES, *planner.HORIZONS, *planner.ENVIRONMENTS])
    rows = [
        {
            "case": "one",
            "precision": precision,
            "ours_s": 0.1,
            "plain_s": 1.0,
            **dict(zip(planner.SIZE, size, strict=True)),
        }
        for size in sizes
        for precision in ("float32", "bfloat16")
    ]
    rows.append({"case": "width 128 against a latent planner of TD-MPC2's size", "plain_s": 0.5})
    planner.draw(rows, str(tmp_path / "planner.png"))
    assert (tmp_path / "planner.png").stat().st_size > 20_000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "invalid choice: 'nothing'"),
        (["replay", "--threads", "0"], "--threads is 0; it must be at least 1"),
        (["replay", "--device", "abacus"], "--device is 'abacus'"),
        (["replay-log", "--steps", "10"], "--steps is 10; at least 4800 are needed"),
        (["learning", "--budget", "0"], "--budget must be above 0"),
        (["learning", "--candidate", "preset", "--candidate", "adamw"], "--candidate is 'adamw'"),
        (["learning", "--candidate", "pretrain.learning_rat=1"], "did you mean pretrain.learning_rate"),
        (["learning", "--candidate", "pretrain.batch_size=much"], "pretrain.batch_size"),
        (["budget", "--run", "nowhere"], "nowhere"),
        (["backward", "--environments", "4", "0"], "--environments is 0; at least 1 is needed"),
    ],
)
def test_mistakes_end_in_one_line(words: list[str], message: str, capsys) -> None:
    assert main(["bench", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_options_of_every_benchmark_are_documented() -> None:
    from m3pc_ray.commands import bench

    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    for name in bench.BENCHMARKS:
        assert name in parser.format_help()
