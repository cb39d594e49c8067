"""Learning curves of representations: what is drawn of the rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from m3pc_ray.errors import UserError
from m3pc_ray.report.representations import STYLES, learning_curves, read_rows
from m3pc_ray.representations.features import VARIANTS


def row(variant: str, seed: int, updates: int, score: float | None) -> dict[str, Any]:
    measured = {"score_mean": score, "return_mean": 100.0 * updates, "episodes": 5, "behaviour_cloning": True}
    return {"variant": variant, "seed": seed, "updates": updates, "environment": "X-v0", "dataset": "x", **measured}


def test_every_variant_has_a_style() -> None:
    assert tuple(STYLES) == VARIANTS
    assert len({colour for colour, _ in STYLES.values()}) == len(VARIANTS)


def test_curves_are_means_over_seeds(tmp_path: Path, saved: list[Figure]) -> None:
    rows = [row("raw", seed, at, 10.0 * seed + at) for seed in (0, 1) for at in (1, 2)]
    path = learning_curves([*rows, row("finetuned", 0, 1, 3.0), row("finetuned", 0, 2, 4.0)], tmp_path / "a.png")
    assert path.stat().st_size > 10_000
    (axes,) = saved[0].axes
    drawn = {line.get_label(): np.asarray(line.get_ydata()) for line in axes.get_lines()}
    assert drawn[STYLES["raw"][1]].tolist() == [6.0, 7.0]
    assert drawn[STYLES["finetuned"][1]].tolist() == [3.0, 4.0]
    assert sorted(values.tolist() for name, values in drawn.items() if name.startswith("_")) == [[1, 2], [11, 12]]
    assert "2 seeds" in axes.get_title()


def test_returns_where_there_is_no_score(tmp_path: Path, saved: list[Figure]) -> None:
    learning_curves([row("raw", 0, 1, None), row("raw", 0, 2, None)], tmp_path / "a.png")
    (axes,) = saved[0].axes
    assert axes.get_ylabel() == "return"
    assert axes.get_lines()[0].get_ydata().tolist() == [100.0, 200.0]


def test_rows_are_read_back_and_others_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps({"rows": [row("raw", 0, 1, 2.0)]}))
    assert read_rows(file) == [row("raw", 0, 1, 2.0)]
    for text in ("{", "[]", '{"rows": []}', '{"rows": [{"variant": "raw"}]}'):
        file.write_text(text)
        with pytest.raises(UserError, match="holds no rows"):
            read_rows(file)
    with pytest.raises(UserError, match="cannot be read"):
        read_rows(tmp_path / "absent.json")
