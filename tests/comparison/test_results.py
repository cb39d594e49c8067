"""The table: means, intervals, sums, quoted figures, what a narrow terminal shows."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from m3pc_ray.comparison.quoted import quoted_rows, quoted_scores, task_of
from m3pc_ray.comparison.results import SUM, summarise
from m3pc_ray.comparison.tables import caption, comparison_tables, markdown, quoted_table
from m3pc_ray.evaluation.statistics import bootstrap_interval
from m3pc_ray.report.comparison import comparison_figure

SETTINGS = {"evaluation": {"episodes": 4, "seed": 51_000}, "threads": 1}
DATA = ("hopper-medium-replay-selfmade", "walker2d-medium-selfmade")


def cell(rng, dataset, row, seed, point, scored=True):
    scores = rng.normal(50, 20, 4).tolist()
    returns = rng.normal(2000, 500, 4).tolist()
    return {
        "dataset": dataset,
        "environment": "Hopper-v4",
        "row": row,
        "seed": seed,
        "point": point,
        "scores": scores if scored else None,
        "score_mean": float(np.mean(scores)) if scored else None,
        "returns": returns,
        "return_mean": float(np.mean(returns)),
        "wall_seconds_total": float(rng.uniform(10, 1000)),
        "cpu_seconds_total": float(rng.uniform(10, 1000)),
        "updates": int(rng.integers(1, 1000)),
        "environment_steps": point,
        "threads": 1,
        "episodes": 4,
    }


@pytest.fixture
def cells():
    """Two data sets; M³PC-Q with two seeds on both and a point online on the first, IQL with one seed on the first."""
    rng = np.random.default_rng()
    made = [cell(rng, data, "m3pc-q", seed, 0) for data in DATA for seed in (0, 1)]
    made += [cell(rng, DATA[0], "m3pc-q", seed, 5_000) for seed in (0, 1)]
    return [*made, cell(rng, DATA[0], "iql", 3, 0)]


def of(rows, **wanted):
    (row,) = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    return row


def test_means_and_intervals_over_seeds_or_the_only_seeds_episodes(cells):
    rows = summarise(list(reversed(cells)))
    row = of(rows, dataset=DATA[0], row="m3pc-q", point=0)
    means = [cells[0]["score_mean"], cells[1]["score_mean"]]
    assert (row["seeds"], row["values"], row["over"]) == ([0, 1], means, "seeds")
    assert row["mean"] == pytest.approx(np.mean(means))
    assert row["sem"] == pytest.approx(abs(means[0] - means[1]) / 2)
    assert (row["low"], row["high"]) == bootstrap_interval(means)
    assert row["cpu_seconds_total"] == pytest.approx(np.mean([each["cpu_seconds_total"] for each in cells[:2]]))
    row = of(rows, row="iql", dataset=DATA[0])
    assert row["over"] == "episodes"
    assert (row["low"], row["high"]) == bootstrap_interval(cells[-1]["scores"])


def test_sums_are_of_what_every_data_set_has(cells):
    sums = [row for row in summarise(cells) if row["dataset"] == SUM]
    assert [(row["row"], row["point"]) for row in sums] == [("m3pc-q", 0)]
    expected = [cells[seed]["score_mean"] + cells[2 + seed]["score_mean"] for seed in (0, 1)]
    assert sums[0]["values"] == pytest.approx(expected)
    assert sums[0]["mean"] == pytest.approx(np.mean(expected))
    seconds = [np.mean([cells[2 * part + seed]["wall_seconds_total"] for seed in (0, 1)]) for part in (0, 1)]
    assert sums[0]["wall_seconds_total"] == pytest.approx(sum(seconds))
    assert not [row for row in summarise(cells[:2]) if row["dataset"] == SUM]  # of one data set there is no sum


def test_without_reference_returns_the_return_stands_in(cells):
    other = cell(np.random.default_rng(), "mine", "iql", 0, 0, scored=False)
    row = of(summarise([*cells, other]), dataset="mine")
    assert row["kind"] == "return"
    assert row["mean"] == pytest.approx(other["return_mean"])
    assert "the return stands" in caption(SETTINGS, summarise([other]), quoted=False)


def test_of_manipulation_the_share_of_solved_episodes_counts(cells):
    solved = [cell(np.random.default_rng(), "can", "bc", seed, 0, scored=False) for seed in (0, 1)]
    for each, returns in zip(solved, ([1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]), strict=True):
        each |= {"environment": "robosuite/PickPlaceCan-v1", "returns": returns, "return_mean": float(np.mean(returns))}
    rows = summarise([*cells, *solved])
    row = of(rows, dataset="can")
    assert (row["kind"], row["values"], row["mean"]) == ("success", [0.25, 0.5], 0.375)
    text = markdown(rows, [], SETTINGS, "comparison.png")
    assert "| 0.38 | 0.25 to 0.50 |" in text
    assert "the share of episodes solved" in text
    assert "the return stands" not in text
    assert of(summarise(solved[:1]), dataset="can")["over"] == "episodes"


@pytest.mark.parametrize("width", [50, 60, 80, 140])
def test_a_narrow_terminal_shows_whole_numbers(cells, width):
    rows = summarise(cells)
    console = Console(width=width, record=True, file=io.StringIO())
    for table in comparison_tables(rows, width):
        console.print(table)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    for row in rows:
        assert f"{row['mean']:.1f}" in text
        assert f"{row['cpu_seconds_total']:,.0f}" in text
    assert ("updates" in text) == (width == 140)


def test_markdown_says_what_is_quoted_and_from_where(cells):
    rows, quoted = summarise(cells), quoted_rows(DATA)
    text = markdown(rows, quoted, SETTINGS, "comparison.png")
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if "(quoted)" in line}
    assert "| 91.5 | 79.0 | 403.0 |" in lines["Trajectory Transformer (quoted)"]
    assert "arXiv 2106.02039" in lines["Trajectory Transformer (quoted)"]
    assert "| 100,000 | - | - | 481.2 |" in lines["PEX (quoted)"]  # six times the mean 80.2
    assert "on D4RL's own data" in text
    assert "on D4RL's own data" in str(quoted_table(quoted).title)
    assert "quoted" not in markdown(rows, quoted_rows(["pendulum"]), SETTINGS, "comparison.png").lower()


def test_quoted_figures_have_a_source_and_sums_that_are_sums():
    for entry in quoted_scores()["entries"]:
        assert entry["source"]
        assert entry["scores"] or "mean_of_six" in entry or "sum_of_six" in entry
        if entry["scores"]:
            assert len(entry["scores"]) == 6
            assert sum(entry["scores"].values()) == pytest.approx(entry["sum_of_six"], abs=0.3)  # published rounded


def test_the_task_of_a_data_set_is_the_longest_that_its_name_begins_with():
    assert task_of("hopper-medium-selfmade") == "hopper-medium"
    assert task_of("hopper-medium-replay-selfmade") == "hopper-medium-replay"
    assert task_of("hopper-medium") == "hopper-medium"
    assert task_of("bundled-hopper") is None
    assert task_of("hopper-mediumish") is None


def test_the_figure_is_drawn(cells, tmp_path):
    path = comparison_figure(summarise(cells), SETTINGS, tmp_path / "comparison.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    online = path.stat().st_size
    offline = comparison_figure(summarise(cells[:2]), SETTINGS, tmp_path / "offline.png")
    assert offline.stat().st_size < online
