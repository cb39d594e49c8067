"""An explained decision as rows for a file and as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from m3pc_ray.online.explaining.decision_log import episode_name
from m3pc_ray.online.explaining.explain import Explainable, Explanation


def candidate_rows(explanation: Explanation) -> list[dict[str, Any]]:
    """A row for each candidate, best utility first."""
    if explanation.details is None:
        return []
    recorded, computed = explanation.recorded, explanation.computed
    return [
        {
            "rank": rank,
            "candidate": int(index),
            "utility_recorded": float(recorded[index]),
            "utility": float(computed[index]),
            "probability": float(explanation.details.probabilities[0, index]),
            "chosen": int(index) == explanation.chosen,
            "chosen_recorded": int(index) == explanation.chosen_recorded,
            "actions": explanation.candidates[index].tolist(),
        }
        for rank, index in enumerate(np.argsort(-computed, kind="stable"), start=1)
    ]


def path_rows(explanation: Explanation) -> list[dict[str, Any]]:
    """A row for each planned step of the chosen candidate: predictions, and what the episode then had.

    State errors and changes are root mean squares over the state's entries, each in units of its spread in the data.
    """
    details, decision = explanation.details, explanation.decision
    if details is None:
        return []
    states = details.predicted_states[0, explanation.chosen]
    rewards, values = (x[0, explanation.chosen] for x in (details.predicted_rewards, details.terminal_values))
    now, later = decision.observations[0], decision.observations[1:]

    def distance(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.sqrt(np.mean(np.square((one - other) / explanation.states_std))))

    rows: list[dict[str, Any]] = []
    for k, action in enumerate(explanation.candidates[explanation.chosen]):
        row: dict[str, Any] = {"step": decision.step + k, "action": action.tolist()}
        row["reward_predicted"] = float(rewards[k]) if k < len(rewards) else None
        row["reward"] = float(decision.rewards[k]) if k < len(decision.rewards) else None
        row["value"] = float(values[k]) if k < len(values) else None
        row["next_state_predicted"] = states[k].tolist() if k < len(states) else None
        row["next_state"] = later[k].tolist() if k < len(later) else None
        known = k < len(states) and k < len(later)
        row["state_error"] = distance(states[k], later[k]) if known else None
        row["state_change"] = distance(now, later[k]) if known else None
        rows.append(row)
    return rows


def facts(explanation: Explanation) -> dict[str, Any]:
    """What was compared, and the result."""
    decision, record = explanation.decision, explanation.decision.record
    return {
        "episode": episode_name(decision.key),
        "step": decision.step,
        "key": [int(part) for part in record.keys[0]],
        "weight_version": int(record.weight_version[0]),
        "weights": asdict(explanation.weights),
        "precision": str(record.precision[0]),
        "device_recorded": str(record.device[0]),
        "device": explanation.device,
        "threads": int(record.threads[0]),
        "batch_rows": int(record.batch_rows[0]),
        "batch_row": int(record.batch_row[0]),
        "planner": asdict(explanation.settings),
        "action_executed": decision.action.tolist(),
        "action": explanation.action.tolist(),
        "chosen_recorded": explanation.chosen_recorded,
        "chosen": explanation.chosen,
        "largest_difference": explanation.largest_difference,
        "action_difference": explanation.action_difference,
        "same_choice": explanation.same_choice,
        "agrees": explanation.agrees,
    }


def explanation_tables(explanation: Explanation, top: int) -> list[Table]:
    """The `top` candidates and those chosen, then the path of the chosen one."""
    rows = candidate_rows(explanation)
    if not rows:
        return []
    shown = [row for row in rows if row["rank"] <= top or row["chosen"] or row["chosen_recorded"]]
    return [_candidates(shown, len(rows)), _path(path_rows(explanation))]


def _candidates(rows: Sequence[dict[str, Any]], count: int) -> Table:
    table = _table(f"candidates by utility ({len(rows)} of {count})")
    for name in ("#", "index", "recorded", "computed", "differs", "P", "first action"):
        table.add_column(name, justify="right", no_wrap=name != "first action")
    table.add_column("")
    for row in rows:
        table.add_row(
            str(row["rank"]),
            str(row["candidate"]),
            f"{row['utility_recorded']:.4f}",
            f"{row['utility']:.4f}",
            f"{row['utility'] - row['utility_recorded']:.1e}",
            f"{row['probability']:.4f}",
            _vector(row["actions"][0], digits=2),
            _mark(row),
        )
    return table


def _mark(row: dict[str, Any]) -> str:
    if row["chosen"] and row["chosen_recorded"]:
        return "chosen"
    return "chosen then" if row["chosen_recorded"] else "chosen now" if row["chosen"] else ""


def _path(rows: Sequence[dict[str, Any]]) -> Table:
    table = _table("the chosen candidate: rewards and states predicted, and what then came")
    table.caption = (
        "later actions were planned anew; error of the next state, and its change since the decision: root mean "
        "square, in units of the data's spread"
    )
    for name in ("step", "predicted", "reward", "value", "state error", "change", "action planned"):
        table.add_column(name, justify="right", no_wrap=name != "action planned")
    for row in rows:
        names = ("reward_predicted", "reward", "value", "state_error", "state_change")
        numbers = ("-" if row[name] is None else f"{row[name]:.3f}" for name in names)
        table.add_row(str(row["step"]), *numbers, _vector(row["action"], digits=2))
    return table


def verdict(explanation: Explanation) -> str:
    """The lines above and below the tables in words: what was compared, and whether it is the same."""
    known, weights = facts(explanation), explanation.weights
    source = {"training": "in training", "served": "served"}[weights.kind]
    exact = "the same weights" if weights.exact else f"NOT the same weights: version {weights.version}"
    lines = [
        f"episode {known['episode']} step {known['step']}: guide {explanation.settings.guide}, weights of version "
        f"{known['weight_version']}, {known['precision']} on {known['device_recorded']}, threads {known['threads']}, "
        f"row {known['batch_row']} of {known['batch_rows']} computed together",
        f"computed again with {exact} ({source} at checkpoint {weights.checkpoint}), on {explanation.device}",
        f"action executed {_vector(known['action_executed'])}, computed {_vector(known['action'])}",
    ]
    choice = "the same choice" if known["same_choice"] else "ANOTHER choice"
    if explanation.details is not None:
        choice += f"; largest difference of utilities {known['largest_difference']:.1e}"
    return "\n".join([*lines, choice])


def explainable_table(entries: Sequence[Explainable]) -> Table:
    """Which recorded decisions can be computed again with the same weights."""
    table = _table("decisions whose weights are kept")
    for name in ("version", "checkpoint", "decisions"):
        table.add_column(name, justify="right")
    table.add_column("the first of them")
    for entry in entries:
        row = (str(entry.version), str(entry.checkpoint), f"{entry.decisions:,}", entry.first)
        table.add_row(*row)
    return table


def _table(title: str) -> Table:
    """Narrow enough for 80 columns with actions of three numbers."""
    return Table(
        title=title,
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )


def _vector(values: Sequence[float], digits: int = 3) -> str:
    return "(" + ", ".join(f"{value:.{digits}f}" for value in values) + ")"
