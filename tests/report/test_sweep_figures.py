"""Figures of sweeps: what is drawn where, for every shape of a sweep."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from m3pc_ray.report.sweep import (
    Curve,
    Result,
    Step,
    Sweep,
    axis_label,
    curves_figure,
    heat_map,
    marginal_figure,
    setting_figure,
    short_label,
)

BASELINE = Result((), 60.0, (58.0, 62.0), (58.0, 62.0))


@pytest.fixture
def draw(saved: list[Figure]) -> Callable[..., list[Axes]]:
    """Calls a figure function and gives the axes that it saved."""

    def drawn(function: Callable[..., None], *arguments: object) -> list[Axes]:
        file = io.BytesIO()
        function(*arguments, file)
        assert file.getvalue().startswith(b"\x89PNG")
        return saved[-1].axes

    return drawn


def one(values: tuple[object, ...], mean: float | None) -> Result:
    return Result(values, mean, None if mean is None else (mean - 1.0, mean + 1.0), () if mean is None else (mean,) * 2)


def make_sweep(steps: list[Step], *names: str, scale: str = "linear") -> Sweep:
    return Sweep("title", "mean score", names, dict.fromkeys(names, scale), tuple(steps), "no planning", "note")


def lines(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    return {str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()}


def test_one_numeric_setting_has_a_curve_a_report_step(draw: Callable[..., list[Axes]]) -> None:
    results = (one((0.0,), 70.0), one((0.5,), 80.0), one((0.9,), None))
    sweep = make_sweep([Step("1k steps", results, BASELINE), Step("5k steps", results[:2], None)], "planner.td_lambda")
    (axes,) = draw(setting_figure, sweep)
    assert axes.get_xlabel() == "λ (planner.td_lambda)"
    drawn = lines(axes)
    assert drawn["1k steps"] == ([0.0, 0.5], [70.0, 80.0]), "without a score there is no point"
    assert drawn["no planning, 1k steps"][1] == [60.0, 60.0]
    assert "no planning, 5k steps" not in drawn
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "0.5", "0.9"]


def test_scales_are_those_of_the_sweep(draw: Callable[..., list[Axes]]) -> None:
    step = Step("", (one((16,), 1.0), one((64,), 2.0)), None)
    assert draw(setting_figure, make_sweep([step], "planner.num_candidates", scale="log"))[0].get_xscale() == "log"
    with_zero = Step("", (one((0.0,), 1.0), one((64.0,), 2.0)), None)
    assert draw(setting_figure, make_sweep([with_zero], "x", scale="log"))[0].get_xscale() == "symlog"
    (axes,) = draw(setting_figure, make_sweep([step], "x", scale="category"))
    assert axes.get_xscale() == "linear"
    assert list(axes.get_xticks()) == [0.0, 1.0], "places, not values"


@pytest.mark.parametrize("values", [("plain", "around the mode"), (False, True), (None, 0.5)])
def test_words_stand_side_by_side(draw: Callable[..., list[Axes]], values: tuple[object, ...]) -> None:
    results = tuple(one((value,), 70.0 + index) for index, value in enumerate(values))
    (axes,) = draw(setting_figure, make_sweep([Step("", results, BASELINE)], "planner.average"))
    (dots,) = (line for line in axes.get_lines() if line.get_marker() == "o")
    assert list(dots.get_xdata()) == [0.0, 1.0]
    assert dots.get_linestyle() == "None", "no line between words"


def test_a_heat_map_says_which_cells_have_no_score(draw: Callable[..., list[Axes]]) -> None:
    results = (one((0.0, 1), 70.0), one((0.0, 2), 75.0), one((0.5, 1), None), one((0.5, 2), 90.0))
    step = Step("", results, BASELINE)
    axes, bar = draw(heat_map, make_sweep([step], "planner.td_lambda", "planner.horizon"))
    shown = np.ma.filled(axes.get_images()[0].get_array(), np.nan)
    np.testing.assert_array_equal(shown, [[70.0, np.nan], [75.0, 90.0]])
    assert axes.get_xlabel() == "λ (planner.td_lambda)"
    assert axes.get_ylabel() == "h (planner.horizon)"
    texts = {text.get_text(): text.get_fontweight() for text in axes.texts}
    assert texts["90.0\n[89.0, 91.0]"] == "bold"
    assert texts["70.0\n[69.0, 71.0]"] == "normal"
    assert "no score" in texts
    assert "no planning: 60.0 [58.0, 62.0]" in axes.get_title(loc="left")
    assert bar.get_ylabel() == "mean score"
    same = Step("", (one((0.0, 1), 70.0), one((0.5, 2), 70.0)), None)
    assert len(draw(heat_map, make_sweep([same, same], "a", "b"))) == 3, "a panel a report step and the bar"


def test_marginals_are_means_over_the_other_settings(draw: Callable[..., list[Axes]]) -> None:
    results = tuple(one((x, y, "word"), 10.0 * x + y) for x in (1, 2) for y in (0.1, 0.3))
    panels = draw(marginal_figure, make_sweep([Step("1k steps", results, BASELINE)], "a", "b", "c"))
    assert [axes.get_xlabel() for axes in panels] == ["a", "b", "c"]
    x, y = lines(panels[0])["mean over the others"]
    assert x == [1.0, 2.0]
    assert y == pytest.approx([10.2, 20.2])
    assert lines(panels[2])["mean over the others"][1] == pytest.approx([15.2])
    scattered = Step("", (one((1, 0.5), 1.0), one((2, 0.6), 2.0)), None)
    panels = draw(marginal_figure, make_sweep([scattered], "a", "b"))
    assert "mean over the others" not in lines(panels[0]), "no value repeats"


def test_of_many_learning_curves_the_farthest_and_highest_are_coloured(draw: Callable[..., list[Axes]]) -> None:
    steps, sure = (0.0, 10.0), (None, None)
    curves = [Curve((index,), steps, (0.0, float(index)), sure) for index in range(10)]
    curves.append(Curve((10,), (0.0,), (99.0,), (None,)))
    curves.append(Curve((), steps, (1.0, 1.0), ((0.0, 2.0), (0.0, 2.0))))
    step = Step("", tuple(one((index,), 1.0) for index in range(11)), BASELINE)
    (axes,) = draw(curves_figure, make_sweep([step], "planner.horizon"), curves)
    legend = axes.get_legend()
    assert legend.get_title().get_text() == "h (planner.horizon)"
    named = [text.get_text() for text in legend.get_texts()]
    assert named == ["3 other settings", *(str(index) for index in range(2, 10)), "no planning"]
    assert axes.get_xlabel() == "environment steps"


def test_labels() -> None:
    step = Step("", (one((0.6, True), 1.0),), None)
    sweep = make_sweep([step], "planner.td_lambda", "online.overlap")
    assert short_label(sweep, (0.6, True)) == "λ 0.6, overlap true"
    assert short_label(sweep, ()) == "no planning"
    assert axis_label("online.overlap") == "online.overlap"
