"""Where episodes of a task about a place went: what the figure draws of the record, and what the record keeps."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from m3pc_ray.errors import UserError
from m3pc_ray.evaluation.reaching.record import write_record
from m3pc_ray.goals.task import Plane
from m3pc_ray.report.reach_places import places_figure
from m3pc_ray.report.reach_record import read_reach
from tests.evaluation.reaching.factory import KEY, make_record

ENDS = np.array([[0.1, 0.2], [0.3, -0.4], [0.9, 0.9]], np.float32)


def with_plane(folder: Path, target=((0.8, 1.2), (-np.inf, np.inf))) -> dict:
    written = make_record(folder)
    setting = dataclasses.replace(written["setting"], plane=Plane((KEY, 1), target, ENDS))
    write_record(folder, setting, written["episodes"], written["rows"], written["cloud"], overwrite=True)
    return written


def test_every_way_is_drawn_with_its_end(tmp_path: Path, saved: list[Figure]) -> None:
    written = with_plane(tmp_path / "reach")
    target = tmp_path / "places.png"
    assert places_figure(tmp_path / "reach", target) == target
    assert target.read_bytes().startswith(b"\x89PNG")
    panels = saved[-1].axes
    assert len(panels) == 2
    for axes, planner, row in zip(panels, ("backward", "bc"), written["rows"], strict=True):
        ways = [line for line in axes.get_lines() if line.get_label() == "way"]
        ends = [line for line in axes.get_lines() if line.get_marker() in ("o", "X")]
        episodes = written["episodes"][planner]
        assert len(ways) == len(ends) == len(episodes)
        for way, end, episode, succeeded in zip(ways, ends, episodes, row["successes"], strict=True):
            np.testing.assert_array_equal(way.get_xdata(), episode.reached[:, KEY].astype(np.float64))
            np.testing.assert_array_equal(way.get_ydata(), episode.reached[:, 1].astype(np.float64))
            assert [end.get_xdata()[0], end.get_ydata()[0]] == [way.get_xdata()[-1], way.get_ydata()[-1]]
            assert end.get_marker() == ("o" if succeeded else "X")
        np.testing.assert_allclose(axes.collections[0].get_offsets(), ENDS)
        (box,) = axes.patches
        assert (box.get_x(), box.get_x() + box.get_width()) == pytest.approx((0.8, 1.2))
        assert box.get_y() < min(way.get_ydata().min() for way in ways), "no bound: to the edge of the panel"
    assert {True, False} == {each for row in written["rows"] for each in row["successes"]}, "both kinds were drawn"


def test_without_bounds_there_is_no_rectangle(tmp_path: Path, saved: list[Figure]) -> None:
    with_plane(tmp_path / "reach", ((-np.inf, np.inf), (-np.inf, np.inf)))
    places_figure(tmp_path / "reach", tmp_path / "places.png")
    assert not any(axes.patches for axes in saved[-1].axes)


def test_a_task_without_a_place_has_no_such_figure(tmp_path: Path) -> None:
    make_record(tmp_path / "reach")
    assert read_reach(tmp_path / "reach").plane is None
    assert places_figure(tmp_path / "reach", tmp_path / "places.png") is None
    assert not (tmp_path / "places.png").exists()


def test_a_wrong_plane_is_named(tmp_path: Path) -> None:
    with_plane(tmp_path / "reach")
    path = tmp_path / "reach" / "reach.json"
    facts = json.loads(path.read_text())
    for change, message in (
        ({"dimensions": [KEY, 40]}, "names dimension 40; states have 11"),
        ({"target": [[0.0, 1.0]]}, "wrong kind"),
        ({"demonstrated": None}, "wrong kind"),
    ):
        path.write_text(json.dumps(facts | {"plane": facts["plane"] | change}))
        with pytest.raises(UserError, match=message):
            read_reach(tmp_path / "reach")
