"""The numbers of a comparison's table, from its finished cells: means over seeds, intervals, sums over data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from m3pc_ray.comparison.method import OFFLINE
from m3pc_ray.comparison.registry import labels
from m3pc_ray.environments.manipulation.tasks import TASKS
from m3pc_ray.evaluation.statistics import describe

Row = dict[str, Any]
SUM = "sum"
"""Name of what stands for all data sets together."""
DIGITS = {"score": 1, "return": 0, "success": 2}
"""Decimals of each measure."""
COSTS = ("wall_seconds_total", "cpu_seconds_total", "updates", "environment_steps")


def summarise(cells: Sequence[Mapping[str, Any]]) -> list[Row]:
    """One row a data set, row and point, and last the sums over data sets.

    Keys: dataset, row, label, point, seeds; kind (see `measure`); values (one a seed), mean, sem, low and high (95 %
    bootstrap interval); over (`seeds`, or `episodes` of the only one there is); wall_seconds_total, cpu_seconds_total,
    updates, environment_steps (means over seeds; None in sums but for the seconds, which are summed); threads,
    episodes; datasets (of a sum: how many).
    """
    order = labels()
    groups: dict[tuple[str, str, int], list[Mapping[str, Any]]] = {}
    for cell in sorted(cells, key=lambda cell: cell["seed"]):
        groups.setdefault((cell["dataset"], cell["row"], cell["point"]), []).append(cell)
    places = {row: place for place, row in enumerate(order)}
    keys = sorted(groups, key=lambda key: (key[0], key[2] != OFFLINE, places.get(key[1], len(places)), key[2]))
    rows = [_of_data_set(key, groups[key], order) for key in keys]
    return rows + _sums(rows)


def measure(cell: Mapping[str, Any]) -> str:
    """What tells how good a cell is: `score`, `return` where no reference returns are known, and in manipulation tasks
    `success`, the share of episodes solved, which is their mean return."""
    if cell["environment"] in TASKS:
        return "success"
    return "return" if cell["score_mean"] is None else "score"


def _of_data_set(key: tuple[str, str, int], cells: Sequence[Mapping[str, Any]], order: Mapping[str, str]) -> Row:
    dataset, name, point = key
    kinds = [measure(cell) for cell in cells]
    kind = kinds[0] if len(set(kinds)) == 1 else "return"
    held = "score" if kind == "score" else "return"
    values = [cell[f"{held}_mean"] for cell in cells]
    sample = values if len(cells) > 1 else cells[0][f"{held}s"]
    row: Row = {"dataset": dataset, "row": name, "label": order.get(name, name), "point": point, "kind": kind}
    row |= {"seeds": [cell["seed"] for cell in cells], "values": values, "over": "seeds"}
    if len(cells) == 1:
        row["over"] = "episodes"
    row |= _interval(sample)
    row |= {cost: sum(cell[cost] for cell in cells) / len(cells) for cost in COSTS}
    row |= {"threads": sorted({cell["threads"] for cell in cells}), "episodes": cells[0]["episodes"], "datasets": 1}
    return row


def _interval(sample: Sequence[float]) -> Row:
    described = describe("x", sample)
    return {name: described[f"x_{name}"] for name in ("mean", "sem", "low", "high")}


def _sums(rows: Sequence[Row]) -> list[Row]:
    """Sums of scores over data sets, of what is there for all of them; seeds are summed each by itself."""
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    sums: list[Row] = []
    for name, point in dict.fromkeys((row["row"], row["point"]) for row in rows):
        parts = [row for row in rows if (row["row"], row["point"]) == (name, point) and row["kind"] == "score"]
        if len(datasets) < 2 or len(parts) < len(datasets):
            continue
        seeds = sorted(set.intersection(*(set(part["seeds"]) for part in parts)))
        if not seeds:
            continue
        values = [sum(part["values"][part["seeds"].index(seed)] for part in parts) for seed in seeds]
        row: Row = {"dataset": SUM, "row": name, "label": parts[0]["label"], "point": point, "kind": "score"}
        row |= {"seeds": seeds, "values": values, "over": "seeds", **_interval(values)}
        if len(seeds) == 1:  # one value has no spread
            row |= {"sem": None, "low": None, "high": None}
        row |= dict.fromkeys(COSTS)
        row |= {cost: sum(part[cost] for part in parts) for cost in COSTS if cost.endswith("seconds_total")}
        row |= {"threads": parts[0]["threads"], "episodes": parts[0]["episodes"], "datasets": len(datasets)}
        sums.append(row)
    return sums
