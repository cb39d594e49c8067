"""The figure of a study shows the rows' numbers where they belong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import BarContainer, ErrorbarContainer

from m3pc_ray.report import study as study_module
from m3pc_ray.report.study import study_figure


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Axes]:
    """The axes of the figure that was drawn last."""
    seen: list[Axes] = []
    original = study_module.figure

    @contextmanager
    def watched(*arguments: Any, **settings: Any) -> Iterator[list[Axes]]:
        with original(*arguments, **settings) as axes:
            seen[:] = axes
            yield axes

    monkeypatch.setattr(study_module, "figure", watched)
    return seen


def facts(*figure: str, seeds: int = 1) -> dict[str, Any]:
    titles = {measure: f"title of {measure}" for measure in figure}
    return {"title": "T", "figure": list(figure), "titles": titles, "x_label": "%", "episodes": 4} | {
        "seeds": list(range(seeds))
    }


def row(dataset: str, label: str, measure: str, mean: float | None, **more: Any) -> dict[str, Any]:
    base = {"dataset": dataset, "variant": label, "label": label, "measure": measure, "mean": mean, "error": 0.5}
    return base | {"x": None, "line": "", "values": [] if mean is None else [mean - 0.25, mean + 0.25], **more}


def test_bars_a_variant_and_planner(tmp_path: Path, drawn: list[Axes]) -> None:
    rng = np.random.default_rng(0)
    means = {
        (data, label, measure): float(rng.uniform(1, 9))
        for data in ("d1", "d2")
        for label in ("a", "b", "c")
        for measure in ("score/none", "score/critic", "entropy")
    }
    rows = [row(*place, mean) for place, mean in means.items()]
    rows[1]["mean"] = None  # d1, a, score/critic: not measured yet
    path = study_figure(rows, facts("score/none", "score/critic", "entropy", seeds=2), tmp_path / "figure.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [axes.get_title(loc="left") for axes in drawn] == ["d1", "d2", "d1", "d2"]  # a row of scores, one of entropy
    first, second = (container for container in drawn[0].containers if isinstance(container, BarContainer))
    assert first.get_label() == "BTM, one mask"
    np.testing.assert_allclose([bar.get_height() for bar in first], [means["d1", each, "score/none"] for each in "abc"])
    np.testing.assert_allclose(
        [bar.get_height() for bar in second], [means["d1", each, "score/critic"] for each in "bc"]
    )
    centres = [bar.get_x() + bar.get_width() / 2 for bar in second]
    np.testing.assert_allclose(np.round(centres), [1, 2])
    entropy = [container for container in drawn[3].containers if isinstance(container, BarContainer)]
    np.testing.assert_allclose(
        [bar.get_height() for bar in entropy[0]], [means["d2", each, "entropy"] for each in "abc"]
    )
    points = np.concatenate([collection.get_offsets()[:, 1] for collection in drawn[3].collections[-3:]])
    np.testing.assert_allclose(
        sorted(points), sorted(means["d2", c, "entropy"] + d for c in "abc" for d in (-0.25, 0.25))
    )


def lines_of(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    containers = [container for container in axes.containers if isinstance(container, ErrorbarContainer)]
    return {
        str(each.get_label()): (list(each.lines[0].get_xdata()), list(each.lines[0].get_ydata())) for each in containers
    }


def test_lines_over_a_number_a_planner(tmp_path: Path, drawn: list[Axes]) -> None:
    rows = [row("d", f"{x} %", "score/none", y, x=x) for x, y in ((20.0, 3.0), (1.0, 1.0), (5.0, 2.0), (100.0, None))]
    rows += [row("d", f"{x} %", "score/mlp_bc", y, x=x) for x, y in ((1.0, 4.0), (100.0, 5.0))]
    study_figure(rows, facts("score/none", "score/mlp_bc"), tmp_path / "figure.png")
    (axes,) = drawn
    assert lines_of(axes) == {
        "BTM, one mask": ([1.0, 5.0, 20.0], [1.0, 2.0, 3.0]),
        "behaviour cloning": ([1.0, 100.0], [4.0, 5.0]),
    }
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "%"


def test_named_lines_share_what_has_no_name(tmp_path: Path, drawn: list[Axes]) -> None:
    rows = [row("d", "one", "entropy", 1.0, x=1.0, line="few"), row("d", "two", "entropy", 2.0, x=1.0, line="alone")]
    rows += [row("d", "all", "entropy", 3.0, x=100.0)]
    study_figure(rows, facts("entropy"), tmp_path / "figure.png")
    assert lines_of(drawn[0]) == {"few": ([1.0, 100.0], [1.0, 3.0]), "alone": ([1.0, 100.0], [2.0, 3.0])}


def test_nothing_measured_yet_is_drawn_empty(tmp_path: Path, drawn: list[Axes]) -> None:
    for x in (None, 1.0):
        study_figure([row("d", "a", "score/none", None, x=x)], facts("score/none"), tmp_path / "figure.png")
        assert not [bar for container in drawn[0].containers for bar in container if hasattr(bar, "get_height")]
