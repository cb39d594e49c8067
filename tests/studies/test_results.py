"""The table's numbers, computed once more by hand from records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from m3pc_ray.studies.definition import Cell, Study
from m3pc_ray.studies.records import CLONING, MASKS, SCORE, StudyFolder
from m3pc_ray.studies.results import study_rows
from m3pc_ray.studies.tables import caption, column_title, markdown, study_tables
from m3pc_ray.training.run_folder import RunFolder
from tests.studies.factory import make_study

VARIANTS = {"standard": {"settings": {"pretrain.components": "both"}}, "one_group": {"settings": {"masks.groups": 1}}}
COLUMNS = ["entropy", "score/none", "planning/none", "score/critic", "return/mlp_bc", "training/sequences"]


def study_of(folder: Path, seeds: list[int]) -> Study:
    return make_study(
        folder,
        variants=VARIANTS,
        seeds=seeds,
        columns=COLUMNS,
        baseline="standard",
        differences=["score/none", "entropy"],
        evaluation={"planners": ["none", "critic"], "episodes": 3, "seed": 7, "mlp_bc": {"steps": 2, "batch_size": 4}},
    )


def cell_of(study: Study, variant: str, seed: int) -> Cell:
    return Cell(study, "hop", study.variants[variant], seed)


def fill(folder: StudyFolder, cell: Cell, rng: np.random.Generator) -> dict[str, Any]:
    """A record of random numbers, and a run that it belongs to; returns what was drawn."""
    run = RunFolder.create(folder.run(cell).path, cell.config(), "pretrain")
    run.write_summary({"status": "finished", "btm_updates": 4, "seconds": 2.5})
    scores, returns, entropy = rng.normal(size=3), rng.normal(size=3), float(rng.normal())
    folder.add(cell, MASKS, {"entropy": entropy})
    played = {"score_mean": float(scores.mean()), "scores": scores.tolist(), "planning_cpu_ms": 2.0 + cell.seed}
    folder.add(cell, SCORE + "none", played)
    cloned = {"score_mean": 1.0, "scores": [1.0], "return_mean": float(returns.mean()), "returns": returns.tolist()}
    folder.add(cell, CLONING, cloned)
    return {"scores": scores, "returns": returns, "entropy": entropy}


def rows_by_place(folder: StudyFolder, study: Study) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["variant"], row["measure"]): row for row in study_rows(folder, study)}


def test_several_seeds(tmp_path: Path) -> None:
    study, folder, rng = study_of(tmp_path, [0, 1, 5]), StudyFolder(tmp_path / "out"), np.random.default_rng(3)
    folder.make()
    drawn = {
        (variant, seed): fill(folder, cell_of(study, variant, seed), rng)
        for variant in VARIANTS
        for seed in study.seeds
    }
    rows = rows_by_place(folder, study)
    means = np.array([drawn["one_group", seed]["scores"].mean() for seed in study.seeds])
    ours = np.array([drawn["standard", seed]["scores"].mean() for seed in study.seeds])
    row = rows["one_group", "score/none"]
    assert (row["seeds"], row["missing"]) == ([0, 1, 5], None)
    np.testing.assert_allclose(row["values"], means)
    np.testing.assert_allclose(row["mean"], means.mean())
    np.testing.assert_allclose(row["error"], means.std(ddof=1) / np.sqrt(3))
    np.testing.assert_allclose(row["differences"], means - ours)
    np.testing.assert_allclose(row["difference"], (means - ours).mean())
    np.testing.assert_allclose(row["difference_error"], (means - ours).std(ddof=1) / np.sqrt(3))
    assert "difference" not in rows["standard", "score/none"]
    assert rows["standard", "planning/none"]["values"] == [2.0, 3.0, 7.0]
    entropies = [drawn["standard", seed]["entropy"] for seed in study.seeds]
    np.testing.assert_allclose(rows["standard", "entropy"]["error"], np.std(entropies, ddof=1) / np.sqrt(3))
    assert rows["standard", "training/sequences"]["mean"] == 4 * 8
    assert rows["one_group", "score/critic"]["missing"] == "not possible"
    assert rows["standard", "score/critic"]["missing"] == "not measured yet"


def test_one_seed_has_the_error_of_its_episodes_and_pairs_by_episode(tmp_path: Path) -> None:
    study, folder, rng = study_of(tmp_path, [2]), StudyFolder(tmp_path / "out"), np.random.default_rng(4)
    folder.make()
    drawn = {variant: fill(folder, cell_of(study, variant, 2), rng) for variant in VARIANTS}
    rows = rows_by_place(folder, study)
    scores, ours = drawn["one_group"]["scores"], drawn["standard"]["scores"]
    row = rows["one_group", "score/none"]
    np.testing.assert_allclose(row["error"], scores.std(ddof=1) / np.sqrt(3))
    np.testing.assert_allclose(row["difference"], scores.mean() - ours.mean())
    np.testing.assert_allclose(row["difference_error"], (scores - ours).std(ddof=1) / np.sqrt(3))
    returns = drawn["one_group"]["returns"]
    np.testing.assert_allclose(rows["one_group", "return/mlp_bc"]["mean"], returns.mean())
    np.testing.assert_allclose(rows["one_group", "return/mlp_bc"]["error"], returns.std(ddof=1) / np.sqrt(3))
    assert rows["one_group", "entropy"]["error"] is None
    text = markdown(study, list(rows.values()), "small.png")
    expected = (
        f"| {scores.mean():.1f} ± {row['error']:.1f} | {row['difference']:+.1f} ± {row['difference_error']:.1f} |"
    )
    assert expected in text
    assert "| one group |" in text
    assert "| - |" in text
    assert "…" in text
    assert "paired by episode" in caption(study, list(rows.values()))


def test_part_of_the_seeds_is_shown_as_such(tmp_path: Path) -> None:
    study, folder = study_of(tmp_path, [0, 1]), StudyFolder(tmp_path / "out")
    folder.make()
    drawn = fill(folder, cell_of(study, "standard", 1), np.random.default_rng(5))
    row = rows_by_place(folder, study)["standard", "score/none"]
    assert (row["seeds"], row["missing"], row["error"]) == ([1], "not measured yet", None)
    assert row["mean"] == pytest.approx(drawn["scores"].mean())
    assert f"{row['mean']:.1f} …" in markdown(study, [row], "x.png")


def test_a_record_counts_for_what_it_was_made_with(tmp_path: Path) -> None:
    study, folder, rng = study_of(tmp_path, [0]), StudyFolder(tmp_path / "out"), np.random.default_rng(6)
    folder.make()
    cell = cell_of(study, "standard", 0)
    fill(folder, cell, rng)
    assert folder.find(cell, SCORE + "none") is not None
    for changes in (
        {"evaluation": {"planners": ["none"], "episodes": 4, "seed": 7}},
        {"evaluation": {"planners": ["none"], "episodes": 3, "seed": 8}},
        {"variants": {"standard": {"settings": {"pretrain.components": "both", "planner.horizon": 2}}}},
        {"variants": {"standard": {"settings": {"pretrain.components": "both", "model.dropout": 0.2}}}},
    ):
        base = {
            "evaluation": {"planners": ["none"], "episodes": 3, "seed": 7},
            "variants": VARIANTS,
            "columns": ["score/none"],
        }
        other = make_study(tmp_path, **{**base, **changes})
        assert folder.find(cell_of(other, "standard", 0), SCORE + "none") is None, changes
        back = make_study(tmp_path, **base)
        assert folder.find(cell_of(back, "standard", 0), SCORE + "none") is not None
    checkpoint = folder.run(cell).checkpoints_path / "step-00000004"
    checkpoint.mkdir()
    (checkpoint / "state.json").write_text("{}")
    (checkpoint / "manifest.json").write_text('{"format": 1, "files": {"state.json": {"bytes": 2, "sha256": ""}}}')
    assert folder.find(cell, SCORE + "none") is None  # the run was trained again
    folder.run(cell).summary_path.unlink()
    assert folder.find(cell, SCORE + "none") is not None  # and now it is gone: what it gave stays


def test_titles() -> None:
    assert column_title("score/return") == "score, M³PC-M"
    assert column_title("states_error/4_ahead") == "states error, +4"
    assert column_title("action_error/return_conditioned") == "action error, RCBC"
    assert column_title("rewards_error/reward_prediction") == "rewards error, RP"


@pytest.mark.parametrize("width", [60, 80, 300])
def test_terminal_tables_wrap_no_number(tmp_path: Path, width: int) -> None:
    study, folder, rng = study_of(tmp_path, [0, 1]), StudyFolder(tmp_path / "out"), np.random.default_rng(8)
    folder.make()
    for variant in VARIANTS:
        for seed in study.seeds:
            fill(folder, cell_of(study, variant, seed), rng)
    rows = study_rows(folder, study)
    console = Console(width=width, file=open(tmp_path / "table.txt", "w", encoding="utf-8"))  # noqa: SIM115
    tables = study_tables(study, rows, width)
    for table in tables:
        console.print(table)
    console.file.close()
    shown = (tmp_path / "table.txt").read_text(encoding="utf-8")
    assert len(tables) == 1 or width < 300
    assert max(map(len, shown.splitlines())) <= width
    assert shown.count("one group") == len(tables)
    numbers = [f"{row['mean']:.1f} ± {row['error']:.1f}" for row in rows if row["measure"] == "score/none"]
    numbers += [f"{row['mean']:.4f} ± {row['error']:.4f}" for row in rows if row["measure"] == "entropy"]
    numbers += [f"{row['difference']:+.4f} ± " for row in rows if row["measure"] == "entropy" and "difference" in row]
    assert len(numbers) == 5
    assert all(number in shown for number in numbers)
