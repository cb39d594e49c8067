"""Which runs are one group, what a group is called, and one-line errors for folders that cannot be reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3pc_ray.errors import UserError
from m3pc_ray.report.page.evaluations import measure_of, results
from m3pc_ray.report.page.runs import changed_settings, group_runs, read_run
from tests.report.page.made_up import online, played, pretrained
from tests.tiny_run import make_tiny_run


def groups_of(*runs):
    return group_runs([read_run(run.path) for run in runs])


def test_seeds_of_the_same_settings_are_one_group(tmp_path: Path) -> None:
    units = {"planner.utility_unit_critic": 1.7}  # measured, so every pretraining has its own
    (group,) = groups_of(online(tmp_path / "b", 2), online(tmp_path / "a", 0, **units), online(tmp_path / "c", 1))
    assert [run.seed for run in group.runs] == [0, 1, 2]
    assert group.seeds == "seeds 0, 1, 2"
    assert group.label == "hopper-medium"


def test_other_settings_are_another_group_named_by_what_differs(tmp_path: Path) -> None:
    runs = [online(tmp_path / f"{n}-{seed}", seed, **{"online.num_candidates": n}) for n in (16, 64) for seed in (0, 1)]
    assert [group.label for group in groups_of(*runs)] == ["num_candidates 16", "num_candidates 64"]
    other = pretrained(tmp_path / "pre")
    labels = [group.label for group in groups_of(other, *runs)]
    assert labels == ["pretraining", "num_candidates 16", "num_candidates 64"]


def test_groups_that_differ_in_much_are_called_by_their_folders(tmp_path: Path) -> None:
    many = {"online.num_candidates": 16, "planner.horizon": 2, "planner.td_lambda": 0.1}
    assert [group.label for group in groups_of(online(tmp_path / "a"), online(tmp_path / "b", **many))] == ["a", "b"]


def test_results_of_several_seeds(tmp_path: Path) -> None:
    (group,) = groups_of(*(online(tmp_path / str(seed), seed) for seed in range(3)))
    none, critic = results(group, measure_of([group]))
    assert (none.planner, critic.planner) == ("none", "critic")
    assert critic.score is not None
    assert critic.score.mean == pytest.approx(91.0)  # 80 + 10 at the end, and the seed
    assert 90.0 <= critic.score.low < 91.0 < critic.score.high <= 92.0
    assert critic.returns.mean == pytest.approx(30 * 91.0)
    assert critic.start is not None
    assert critic.start.mean == pytest.approx(81.0)
    assert critic.over == "3 seeds of 10 episodes each, too few for a sure interval"


def test_results_of_one_seed_are_over_its_episodes(tmp_path: Path) -> None:
    (group,) = groups_of(online(tmp_path / "run", 0))
    critic = results(group, "score")[1]
    assert (critic.score.mean, critic.score.low, critic.score.high) == pytest.approx((90.0, 89.0, 92.0))
    assert critic.over == "10 episodes of one seed"
    assert critic.settings == "N 64, h 4, λ 0.6"


def test_without_reference_scores_returns_count(tmp_path: Path) -> None:
    (group,) = groups_of(online(tmp_path / "run", 0, scored=False))
    assert measure_of([group]) == "return"
    assert results(group, "return")[1].score is None
    assert results(group, "return")[1].start.mean == pytest.approx(2400.0)


def test_a_pretrained_run_has_the_scores_of_its_evaluation_file(tmp_path: Path) -> None:
    run = pretrained(tmp_path / "run")
    assert results(groups_of(run)[0], "score") == []
    played(run, 81.5)
    (result,) = results(groups_of(run)[0], "score")
    assert result.score.mean == 81.5
    assert result.start is None


def test_the_environment_is_read_from_the_checkpoint(tmp_path: Path) -> None:
    run = make_tiny_run(tmp_path / "run")
    run.metrics_path.write_text('{"time": 0, "stream": "btm", "step": 1, "loss": 1.0}\n')
    assert read_run(run.path).environment == "Hopper-v4"


def test_changed_settings(tmp_path: Path) -> None:
    changed = changed_settings(read_run(online(tmp_path / "run", **{"planner.horizon": 2}).path))
    assert changed["planner.horizon"][0] == 2
    assert "planner.td_lambda" not in changed


def test_what_cannot_be_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such run folder"):
        read_run(tmp_path / "nothing")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="folder: not a run of m3pc"):
        read_run(tmp_path / "folder")
    run = pretrained(tmp_path / "run")
    (run.path / "evaluation.json").write_text('{"rows": [{"planner": "none"}]}')
    with pytest.raises(UserError, match=r"evaluation\.json: not what `m3pc evaluate --json` writes"):
        read_run(run.path)
    run.metrics_path.unlink()
    with pytest.raises(UserError, match=r"metrics\.jsonl: missing or empty"):
        read_run(run.path)
