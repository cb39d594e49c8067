"""Sweep files: what they say comes back complete, and every mistake is one line that names the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from m3pc_ray.cli import main
from m3pc_ray.config import EvaluationConfig, RunConfig
from m3pc_ray.configuration import shipped_configs
from m3pc_ray.errors import UserError
from m3pc_ray.yaml_text import read_yaml, read_yaml_text, write_yaml
from tune.definition import SEED_STRIDE, Sweep, trial_settings
from tune.sweep_file import load_sweep, read_sweep

SHIPPED = sorted((shipped_configs() / "sweeps").glob("*.yaml"))


def lambda_sweep(**more: Any) -> dict[str, Any]:
    return {"kind": "evaluate", "space": {"planner.td_lambda": [0, 0.3]}, **more}


def finetune_sweep(**more: Any) -> dict[str, Any]:
    return {"kind": "finetune", "space": {"online.btm_learning_rate": {"log_uniform": [1e-5, 1e-3]}}, **more}


def test_what_is_written_reads_back_equal() -> None:
    tree = lambda_sweep(
        seeds=[0, 3],
        settings={"planner.num_candidates": 64},
        baseline={"label": "no planning", "settings": {"planner.guide": "none"}},
        runs=["/runs/hopper"],
        trial_cpus=0.5,
    )
    sweep = read_sweep(tree, "file")
    again = read_sweep(read_yaml_text(write_yaml(sweep.described()).encode(), "text"), "text")
    assert again == sweep
    assert sweep.baseline_label == "no planning"
    assert sweep.settings == {"planner.num_candidates": 64}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_sweeps_are_sound(path: Path) -> None:
    sweep = load_sweep(path)
    assert sweep.name == path.stem
    assert sweep.seeds
    assert read_sweep(sweep.described(), "described") == sweep


def test_the_sweeps_of_the_paper_are_shipped() -> None:
    values = [0, 0.1, 0.3, 0.5, 0.6, 0.7, 0.9]
    figure_12 = load_sweep(shipped_configs() / "sweeps/lambda_finetune.yaml")
    assert figure_12.kind == "finetune"
    assert [setting["planner.td_lambda"] for setting in figure_12.combinations()] == values
    assert figure_12.report_steps == (100_000, 500_000, 1_000_000)
    assert figure_12.baseline == {"online.guide": "none", "planner.guide": "none"}
    at_test_time = load_sweep(shipped_configs() / "sweeps/lambda.yaml")
    assert at_test_time.kind == "evaluate"
    assert [setting["planner.td_lambda"] for setting in at_test_time.combinations()] == values
    names = {path.stem for path in SHIPPED}
    assert {"temperature", "lambda_temperature", "seeds", "candidates_horizon", "entropy_constraint"} <= names
    figure_7 = load_sweep(shipped_configs() / "sweeps/exploration.yaml")
    ways = [(setting["online.guide"], setting["online.action_noise"]) for setting in figure_7.combinations()]
    assert sorted(ways) == [("critic", "fixed"), ("critic", "model"), ("none", "fixed"), ("none", "model")]
    deterministic = load_sweep(shipped_configs() / "sweeps/exploration_deterministic.yaml")
    assert deterministic.settings == {**figure_7.settings, "online.action_noise": "fixed"}
    assert deterministic.seeds == figure_7.seeds
    assert read_yaml(shipped_configs() / "sweeps/entropy_constraint.yaml")["kind"] == "finetune"


def test_the_command_line_wins() -> None:
    path = shipped_configs() / "sweeps/lambda.yaml"
    sweep = load_sweep(path, {"planner.num_candidates": "16"}, {"seeds": [7], "runs": ["a", "b"]})
    assert sweep.settings["planner.num_candidates"] == 16
    assert (sweep.seeds, sweep.runs) == ((7,), ("a", "b"))


@pytest.mark.parametrize("tree", [lambda_sweep(), finetune_sweep()], ids=["evaluate", "finetune"])
def test_where_reports_go_is_a_setting_of_every_sweep(tree: dict[str, Any]) -> None:
    sweep = read_sweep({**tree, "settings": {"logging.tensorboard": False}}, "file", {"logging.wandb": "offline"})
    assert sweep.settings == {"logging.tensorboard": False, "logging.wandb": "offline"}
    assert read_sweep(sweep.described(), "described") == sweep


def test_seeds_are_other_episodes_or_other_runs() -> None:
    evaluate = read_sweep(lambda_sweep(settings={"evaluation.seed": 5}), "file")
    assert trial_settings(evaluate, RunConfig(), {"planner.td_lambda": 0.3}, seed=2) == {
        "planner.td_lambda": 0.3,
        "evaluation.seed": 5 + 2 * SEED_STRIDE,
    }
    finetune = read_sweep(finetune_sweep(), "file")
    settings = trial_settings(finetune, RunConfig(), {"online.btm_learning_rate": 1e-4}, seed=2)
    assert settings["seed"] == 2
    assert settings["online.btm_learning_rate"] == 1e-4
    assert "evaluation.seed" not in settings  # the same episodes for every seed


def test_the_baseline_has_its_own_settings() -> None:
    tree = lambda_sweep(baseline={"settings": {"planner.guide": "none"}}, settings={"planner.num_candidates": 8})
    settings = trial_settings(read_sweep(tree, "file"), RunConfig(), {"planner.td_lambda": 0.3}, seed=0, baseline=True)
    assert settings == {"planner.num_candidates": 8, "planner.guide": "none", "evaluation.seed": 1000}


MISTAKES: list[tuple[dict[str, Any], str]] = [
    (lambda_sweep(sedes=[0]), "sedes: no such key of a sweep; did you mean seeds?"),
    (lambda_sweep(kind="train"), "kind: must be evaluate or finetune, not train"),
    ({"space": {}}, "kind: must be evaluate or finetune, not nothing"),
    (lambda_sweep(space={"planner.lambda": [0]}), "planner.lambda: no such setting"),
    (lambda_sweep(space={"planner.td_lambda": [0, 2]}), "planner.td_lambda: must be in [0, 1], not 2"),
    (lambda_sweep(space={"planner.td_lambda": ["much"]}), "planner.td_lambda: must be a number, not much"),
    (lambda_sweep(space={"planner.td_lambda": [0, 0.0]}), "planner.td_lambda: a value is given twice"),
    (lambda_sweep(space={"planner.td_lambda": {"normal": [0, 1]}}), "must be a list of values or one of grid, choice"),
    (
        lambda_sweep(space={"planner.td_lambda": {"uniform": [1, 0]}}),
        "uniform needs two numbers, the smaller one first",
    ),
    (lambda_sweep(space={"planner.td_lambda": {"log_uniform": [0, 1]}}), "log_uniform needs bounds above 0"),
    (lambda_sweep(space={"model.width": [64]}), "model.width: takes training to try; kind evaluate takes planner.*"),
    (lambda_sweep(settings={"model.width": 64}), "model.width: takes training to try; kind evaluate takes planner.*"),
    (lambda_sweep(space={"logging.tensorboard": [True, False]}), "logging.tensorboard: changes no score; give it"),
    (finetune_sweep(space={"logging.wandb": ["off"]}), "logging.wandb: changes no score; give it under `settings`"),
    (finetune_sweep(baseline={"settings": {"logging.tensorboard": False}}), "logging.tensorboard: changes no score"),
    (lambda_sweep(space={"evaluation.seed": [1, 2]}), "evaluation.seed: seeds are averaged over; list them under"),
    (lambda_sweep(settings={"planner.td_lambda": 0.5}), "planner.td_lambda: varies and is fixed at once"),
    (lambda_sweep(seeds=[1, 1]), "seeds: must be different whole numbers from 0 to"),
    (lambda_sweep(seeds=0), "seeds: must be a list of whole numbers"),
    (lambda_sweep(samples=4), "samples: nothing in the space is random"),
    (lambda_sweep(searcher="optuna"), "searcher: optuna suggests; give choice, uniform or log_uniform"),
    (lambda_sweep(searcher="grid"), "searcher: must be enumerate or optuna, not grid"),
    (lambda_sweep(scheduler="asha"), "scheduler: asha needs kind finetune"),
    (lambda_sweep(report_steps=[100]), "report_steps: needs kind finetune"),
    (lambda_sweep(trial_cpus=-1), "trial_cpus: must be at least 0, not -1"),
    (lambda_sweep(baseline={"setings": {}}), "baseline: setings: must be label or settings"),
    (lambda_sweep(seeds=[2**31]), "seeds: must be different whole numbers from 0 to 2147483647"),
    (lambda_sweep(runs="runs/hopper"), "runs: must be a list of folders, such as [runs/hopper]"),
    (lambda_sweep(runs=3), "runs: must be a list of folders"),
    (lambda_sweep(sampling_seed=-1), "sampling_seed: must be at least 0, not -1"),
    (lambda_sweep(trial_cpus=float("nan")), "trial_cpus: must be a number, not nan"),
    (lambda_sweep(samples=float("inf")), "samples: must be a whole number, not inf"),
    (lambda_sweep(space={1: [2]}), "space: 1: must be a name"),
    (lambda_sweep(baseline={"settings": {"evaluation.episodes": 5}}), "evaluation.episodes: must be the same for all"),
    (lambda_sweep(baseline={"settings": {"evaluation.seed": 5}}), "evaluation.seed: seeds are averaged over"),
    (lambda_sweep(settings={"seed": 5}), "seed: takes training to try"),
    (finetune_sweep(settings={"seed": 5}), "settings: seed: list seeds under `seeds` (on the command line: --seeds)"),
    (finetune_sweep(scheduler="asha", baseline={}), "baseline: scheduler asha compares it with the others"),
    (finetune_sweep(space={"online.planners": {"choice": [1, 2]}}, scheduler="pbt"), "decides what a trial reserves"),
    (finetune_sweep(space={"online.threads": {"choice": [1, 2]}}, searcher="optuna"), "decides what a trial reserves"),
    (finetune_sweep(space={"online.steps": [100, 200]}), "online.steps: must be the same for all trials"),
    (finetune_sweep(space={"online.btm_learning_rate": [1e-4]}, scheduler="pbt"), "scheduler: pbt needs a space"),
    (finetune_sweep(scheduler={"name": "asha", "grace": 5}), "scheduler: grace: must be one of name, grace_steps"),
    (finetune_sweep(scheduler={"name": "asha", "reduction_factor": 1}), "reduction_factor must be at least 2"),
    (finetune_sweep(scheduler="asha", searcher="optuna"), "asha and searcher optuna do not go together"),
]


@pytest.mark.parametrize(("tree", "message"), MISTAKES, ids=[message[:40] for _, message in MISTAKES])
def test_mistakes_name_the_key(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as raised:
        read_sweep(tree, "my.yaml")
    assert str(raised.value).startswith("my.yaml: ")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_defaults_are_those_of_the_class() -> None:
    sweep = read_sweep({"name": "x", "kind": "evaluate"}, "file")
    assert sweep == Sweep("x", "evaluate")


def test_seeds_are_counted_from_the_runs_own_first_episode() -> None:
    config = RunConfig(evaluation=EvaluationConfig(seed=70))
    assert trial_settings(Sweep("x", "evaluate"), config, {}, seed=1) == {"evaluation.seed": 70 + SEED_STRIDE}


def test_an_empty_baseline_is_the_run_as_it_is() -> None:
    sweep = read_sweep(lambda_sweep(baseline={"label": "as pretrained"}), "file")
    assert sweep.baseline == {}
    assert read_sweep(sweep.described(), "again") == sweep
    assert read_sweep(lambda_sweep(), "file").baseline is None
    assert read_sweep(lambda_sweep(baseline=None), "file").baseline is None  # a key without a value


def test_an_unknown_file_names_the_shipped_sweeps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--config", "nothing.yaml", "--out", "nowhere"]) == 2
    said = capsys.readouterr().err
    assert (
        "nothing.yaml: no such configuration file; there are: sweeps/better_updates, sweeps/candidates_horizon" in said
    )
    assert "hopper_medium" not in said
