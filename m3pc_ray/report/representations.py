"""Learning curves of TD3 on each representation, from the rows of `m3pc representations --json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from m3pc_ray.errors import UserError
from m3pc_ray.report.style import figure

STYLES = {
    "raw": ("#777777", "raw observations"),
    "state_frozen": ("#4477aa", "state token, frozen"),
    "state_action_frozen": ("#228833", "state and action tokens, frozen"),
    "random_frozen": ("#ccbb44", "state and action tokens, untrained"),
    "finetuned": ("#cc3311", "state and action tokens, finetuned"),
}
"""Colour (Paul Tol's, told apart by colour-blind readers) and label of each variant."""
NEEDED = ("variant", "seed", "updates", "score_mean", "return_mean", "dataset", "episodes")


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """Rows of `{"rows": [...]}`. Raises UserError for a file that holds something else."""
    try:
        rows = list(json.loads(Path(path).expanduser().read_text(encoding="utf-8"))["rows"])
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: holds no rows of m3pc representations") from error
    if not rows or any(not isinstance(row, dict) or any(name not in row for name in NEEDED) for row in rows):
        raise UserError(f"{path}: holds no rows of m3pc representations with {', '.join(NEEDED)}")
    return rows


def learning_curves(rows: Sequence[Mapping[str, Any]], path: str | Path) -> Path:
    """Score, or return where there is none, over updates: mean over seeds, faint single seeds; writes a PNG.

    Raises UserError where it cannot be written.
    """
    measure = "score" if all(row["score_mean"] is not None for row in rows) else "return"
    variants = [name for name in STYLES if any(row["variant"] == name for row in rows)]
    with figure(path, width=6.4, height=4.0) as (axes,):
        for variant in variants:
            colour, label = STYLES[variant]
            own = [row for row in rows if row["variant"] == variant]
            seeds = sorted({row["seed"] for row in own})
            for seed in seeds if len(seeds) > 1 else ():
                points = [(row["updates"], row[f"{measure}_mean"]) for row in own if row["seed"] == seed]
                axes.plot(*zip(*points, strict=True), color=colour, linewidth=0.8, alpha=0.35)
            updates = sorted({row["updates"] for row in own})
            means = [np.mean([row[f"{measure}_mean"] for row in own if row["updates"] == at]) for at in updates]
            marker = "o" if len(updates) == 1 else None
            axes.plot(updates, means, color=colour, linewidth=1.8, label=label, marker=marker)
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        axes.set_xlabel("updates of TD3+BC's critic" if _cloned(rows) else "updates of TD3's critic")
        axes.set_ylabel("normalised score" if measure == "score" else "return")
        number = len({row["seed"] for row in rows})
        seeds_text = "1 seed" if number == 1 else f"mean of {number} seeds, each of them faint"
        axes.set_title(f"{rows[0]['dataset']}: {rows[0]['episodes']} episodes an evaluation, {seeds_text}")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if value else "0")
        axes.legend(loc="upper left", bbox_to_anchor=(0.0, -0.16), ncols=2, borderaxespad=0.0)
    return Path(path)


def _cloned(rows: Sequence[Mapping[str, Any]]) -> bool:
    return all(row.get("behaviour_cloning", True) for row in rows)
