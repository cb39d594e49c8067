"""The record of `m3pc reach`: what is written is read back, and what the figures draw of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from m3pc_ray.errors import UserError
from m3pc_ray.evaluation.reaching import record as record_module
from m3pc_ray.evaluation.reaching.record import write_record
from m3pc_ray.report import reach_record
from m3pc_ray.report.reach import cloud_figure, tracking_figure
from m3pc_ray.report.reach_record import read_reach
from m3pc_ray.report.style import LABELS
from tests.evaluation.reaching.factory import KEY, PLANNED, make_episode, make_record


def lines(axes: Axes, label: str) -> list[tuple[list[float], np.ndarray]]:
    found = [line for line in axes.get_lines() if line.get_label() == label]
    return [(list(line.get_xdata()), np.asarray(line.get_ydata())) for line in found]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    written = make_record(tmp_path / "reach")
    record = read_reach(tmp_path / "reach")
    assert record_module.FORMAT == reach_record.FORMAT
    assert record.planners == ["backward", "bc"]
    for planner, episodes in written["episodes"].items():
        for episode, read in zip(episodes, record.of(planner), strict=True):
            np.testing.assert_array_equal(read.reached, episode.reached)
            np.testing.assert_array_equal(read.wanted, episode.wanted)
            assert (read.seed, read.terminated) == (episode.seed, episode.terminated)
            unknown = np.full(len(episode.reached), np.nan)
            np.testing.assert_array_equal(read.forward, unknown if episode.forward is None else episode.forward)
    setting, cloud = written["setting"], written["cloud"]
    assert list(record.rows) == written["rows"]
    assert (record.task, record.dt, record.key_dimension) == ("hopper-test", 0.008, KEY)
    assert record.plotted_dimensions == (KEY, 1)
    assert record.labels[KEY] == setting.dimensions[KEY].label == "foot joint (rad)"
    np.testing.assert_array_equal(record.std, setting.std.astype(np.float64))
    states = written["episodes"]["bc"][0].reached
    np.testing.assert_allclose(record.project(states), cloud.project(states), atol=1e-9)
    np.testing.assert_allclose(record.points, cloud.projected_states())
    assert record.explained == tuple(cloud.explained)


def test_a_record_is_not_overwritten_unasked_and_keeps_few_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = make_record(tmp_path / "reach")
    parts = (written["setting"], written["episodes"], written["rows"], written["cloud"])
    with pytest.raises(UserError, match="already exists"):
        write_record(tmp_path / "reach", *parts)
    monkeypatch.setattr(record_module, "CLOUD_POINTS", 30)
    write_record(tmp_path / "reach", *parts, overwrite=True)
    assert read_reach(tmp_path / "reach").points.shape == (30, 2)


def test_tracking_figure_draws_every_episode(tmp_path: Path, saved: list[Figure]) -> None:
    written = make_record(tmp_path / "reach")
    target = tmp_path / "deep" / "tracking.png"
    assert tracking_figure(tmp_path / "reach", target) == target
    assert target.read_bytes().startswith(b"\x89PNG")
    panels = saved[-1].axes
    assert len(panels) == 4, "two entries of two planners"
    assert [LABELS[name] in axes.get_title("left") for name, axes in zip(("backward", "bc"), panels, strict=False)]
    assert "success 100%" in panels[0].get_title("left")
    assert panels[0].get_ylabel() == "foot joint (rad)"
    assert panels[2].get_ylabel() == "torso angle (rad)"
    assert panels[2].get_xlabel() == "step (0.008 s each)"
    for column, planner in enumerate(("backward", "bc")):
        for row, dimension in enumerate((KEY, 1)):
            axes = panels[2 * row + column]
            drawn = lines(axes, "reached")
            for (steps, values), episode in zip(drawn, written["episodes"][planner], strict=True):
                assert steps == list(range(len(episode.reached)))
                np.testing.assert_array_equal(values, episode.reached[:, dimension].astype(np.float64))
    assert [steps for steps, _ in lines(panels[0], "wanted")] == [[5, 10, 15, 20]], "the same for all: drawn once"
    assert lines(panels[2], "wanted") == [], "nothing is wanted of the torso"
    ends = [line for line in panels[1].get_lines() if line.get_marker() == "X"]
    assert [int(line.get_xdata()[0]) for line in ends] == [12], "where the fallen episode ended"
    assert not [line for line in panels[0].get_lines() if line.get_marker() == "X"]
    assert panels[0].get_ylim() == panels[1].get_ylim()
    assert panels[0].get_xlim()[1] > PLANNED


def test_goals_that_drift_are_drawn_for_each_episode(tmp_path: Path, saved: list[Figure]) -> None:
    written = make_record(tmp_path / "one")
    moved = [make_episode(seed) for seed in range(3)]
    moved[1] = dataclasses.replace(moved[1], wanted=moved[1].wanted + np.float32(0.1))
    write_record(tmp_path / "two", written["setting"], {"backward": moved}, written["rows"][:1], written["cloud"])
    tracking_figure(tmp_path / "two", tmp_path / "tracking.png")
    assert len(lines(saved[-1].axes[0], "wanted")) == 2


@pytest.mark.parametrize("whole", [False, True])
def test_cloud_figure_places_states_and_whole_waypoints(tmp_path: Path, saved: list[Figure], whole: bool) -> None:
    written = make_record(tmp_path / "reach", whole=whole)
    cloud_figure(tmp_path / "reach", tmp_path / "cloud.png")
    panels = saved[-1].axes
    assert len(panels) == 2
    cloud = written["cloud"]
    for axes, planner in zip(panels, ("backward", "bc"), strict=True):
        drawn = [np.asarray(collection.get_offsets()) for collection in axes.collections]
        np.testing.assert_allclose(drawn[0], cloud.projected_states(), atol=1e-9)
        episodes = written["episodes"][planner]
        for places, episode in zip(drawn[1:], episodes, strict=False):
            np.testing.assert_allclose(places, cloud.project(episode.reached), atol=1e-9)
        assert len(drawn[-1]) == (4 if whole else 0), "waypoints that fix everything, each once"
        row = next(row for row in written["rows"] if row["planner"] == planner)
        assert f"{row['share_outside']:.0%} outside" in axes.get_title("left")
    assert f"{cloud.explained[0]:.0%}" in panels[0].get_xlabel()
    assert panels[0].get_xlim() == panels[1].get_xlim()


def test_figures_do_without_rows(tmp_path: Path, saved: list[Figure]) -> None:
    written = make_record(tmp_path / "one", plotted=(KEY,))
    write_record(tmp_path / "two", written["setting"], written["episodes"], [], written["cloud"])
    tracking_figure(tmp_path / "two", tmp_path / "tracking.png")
    cloud_figure(tmp_path / "two", tmp_path / "cloud.png")
    assert [axes.get_title("left") for axes in saved[-1].axes] == ["Backward M³PC", "behaviour cloning"]


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="reach.json: cannot be read"):
        tracking_figure(tmp_path, tmp_path / "a.png")
    folder = tmp_path / "reach"
    make_record(folder)
    path = folder / "reach.json"
    good = json.loads(path.read_text())

    def refuse(message: str, **changes: object) -> None:
        path.write_text(json.dumps({key: value for key, value in (good | changes).items() if value is not None}))
        with pytest.raises(UserError, match=message):
            read_reach(folder)

    refuse("has format 7", format=7)
    refuse("lacks 'success'", success=None)
    refuse("names dimension 30; states have 11", plotted_dimensions=[30])
    refuse("wrong kind", dt="fast")
    refuse("names 5 entries of a state", dimensions=good["dimensions"][:5])
    path.write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        read_reach(folder)
    path.write_text(json.dumps(good))
    table = parquet.read_table(folder / "episodes.parquet")
    parquet.write_table(table.drop_columns(["seed"]), folder / "episodes.parquet")
    with pytest.raises(UserError, match="episodes.parquet: lacks column seed"):
        read_reach(folder)
    parquet.write_table(table.slice(0, 0), folder / "episodes.parquet")
    with pytest.raises(UserError, match="holds no episode"):
        read_reach(folder)
    parquet.write_table(table, folder / "episodes.parquet")
    (folder / "cloud.parquet").write_bytes(b"no parquet")
    with pytest.raises(UserError, match="cloud.parquet: cannot be read"):
        read_reach(folder)
