"""The top of the page: what runs score, with intervals, and what that took."""

from __future__ import annotations

import html
from collections.abc import Sequence

from m3pc_ray.report.page.evaluations import Earned, Measure, Result, measure_of, results
from m3pc_ray.report.page.runs import EVALUATION_FILE, Group
from m3pc_ray.report.page.section import Section
from m3pc_ray.report.page.tables import Cell, cards
from m3pc_ray.report.style import LABELS

UNFINISHED = {
    "running": "still running, or its process is gone",
    "interrupted": "interrupted",
    "failed": "failed",
}
"""What a status other than `finished` means to a reader."""


def summary_section(groups: Sequence[Group]) -> Section:
    """Headline numbers where the page is about one group, a row a planner and group, a row a pretraining."""
    measure = measure_of(groups)
    parts = [_tiles(groups[0], measure)] if len(groups) == 1 else []
    parts.append(_scores(groups, measure))
    pretrained = [group for group in groups if group.kind == "pretrain"]
    if pretrained:
        parts.append(_pretraining(pretrained))
    parts += [f'<p class="muted">{note}</p>' for note in _notes(groups)]
    return Section("Summary", "\n".join(part for part in parts if part))


def duration(seconds: float) -> str:
    """Such as `45 s`, `14 min`, `7 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _tiles(group: Group, measure: Measure) -> str:
    tiles = []
    found = results(group, measure)
    if found:
        # The planner that the run was finetuned with, else the strongest form of planning that was played.
        guide = group.runs[0].config.online.guide if group.kind == "finetune" else found[-1].planner
        shown = next((result for result in found if result.planner == guide), found[-1])
        name = LABELS[shown.planner].replace("-", "\u2011")  # which no line breaks after
        if shown.score is not None:
            tiles.append(
                (f"{shown.score.mean:.1f}", f"normalised score, {name}", f"{_interval(shown.score)} over {shown.over}")
            )
        tiles.append((f"{shown.returns.mean:,.0f}", f"raw return, {name}", _interval(shown.returns, 0)))
        if shown.start is not None:
            now = shown.score if measure == "score" and shown.score is not None else shown.returns
            tiles.append(
                (
                    f"{now.mean - shown.start.mean:+.1f}".replace("-", "−"),
                    f"{measure} since finetuning began",
                    f"from {shown.start.mean:,.1f}",
                )
            )
    if group.kind == "finetune":
        steps = [int(run.summary.get("environment_steps", 0)) for run in group.runs]
        tiles.append((_range(steps), "environment steps", f"{_each(group)}{_ratio(group)}"))
    else:
        updates = [int(run.summary.get("btm_updates", 0)) for run in group.runs]
        tiles.append((_range(updates), "model updates", _each(group)))
    seconds = [float(run.summary.get("seconds", 0.0)) for run in group.runs]
    tiles.append(
        (duration(sum(seconds) / len(seconds)), "wall time", "mean over seeds" if len(seconds) > 1 else _status(group))
    )
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile"><div class="value">{html.escape(value)}</div>'
            f'<div class="what">{html.escape(what)}</div>'
            f'<div class="more">{html.escape(more)}</div></div>'
            for value, what, more in tiles
        )
        + "</div>"
    )


def _scores(groups: Sequence[Group], measure: Measure) -> str:
    rows, strong = [], []
    for group in groups:
        run = group.runs[0]
        for result in results(group, measure):
            rows.append(
                {
                    "Runs": Cell(group.label, f"{run.environment}, {group.seeds}"),
                    "Planner": Cell(LABELS[result.planner], result.settings),
                    "Normalised score": _cell(result.score, 1),
                    "Raw return": _cell(result.returns, 0),
                    "Before finetuning": Cell(f"{result.start.mean:,.1f}" if result.start else ""),
                    "Intervals over": Cell(result.over),
                    "At step": Cell(_range(list(result.steps)) if group.kind == "finetune" else ""),
                    "Wall time": Cell(_seconds(group)),
                    "Status": Cell(_status(group)),
                }
            )
            strong.append(_is_guide(group, result))
    rows = [{name: cell for name, cell in row.items() if any(each[name].text for each in rows)} for row in rows]
    return cards(rows, strong)


def _pretraining(groups: Sequence[Group]) -> str:
    rows = []
    for group in groups:
        held_out = [run.summary.get("validation", {}) for run in group.runs]
        rows.append(
            {
                "Pretraining": Cell(group.label, f"{group.runs[0].environment}, {group.seeds}"),
                "Data set": Cell(group.runs[0].dataset),
                "Model updates": Cell(_range([int(run.summary.get("btm_updates", 0)) for run in group.runs])),
                "Critic updates": Cell(_range([int(run.summary.get("critic_updates", 0)) for run in group.runs])),
                "Action error, RCBC": Cell(_mean(held_out, "action_error/return_conditioned")),
                "State error, 1 ahead": Cell(_mean(held_out, "states_error/1_ahead")),
                "Wall time": Cell(_seconds(group)),
                "Status": Cell(_status(group)),
            }
        )
    return cards(rows)


def _notes(groups: Sequence[Group]) -> list[str]:
    notes = []
    for group in groups:
        if group.kind == "pretrain" and not results(group, "return"):
            path = html.escape(str(group.runs[0].folder.path))
            notes.append(
                f"{html.escape(group.label)} has no scores yet: <code>m3pc evaluate --run {path} --json "
                f"{path}/{EVALUATION_FILE}</code>, then make this page again."
            )
        seeds = [run.seed for run in group.runs]
        if len(set(seeds)) < len(seeds):
            notes.append(f"{html.escape(group.label)}: several runs share a seed, so they are not independent.")
        versions = [run.summary.get("versions", {}) for run in group.runs]
        if any(version != versions[0] for version in versions):
            notes.append(f"{html.escape(group.label)}: its runs were made with different versions, see below.")
    return notes


def _is_guide(group: Group, result: Result) -> bool:
    return group.kind == "finetune" and result.planner == group.runs[0].config.online.guide


def _cell(earned: Earned | None, decimals: int) -> Cell:
    if earned is None:
        return Cell("")
    return Cell(f"{earned.mean:,.{decimals}f}", _interval(earned, decimals, short=True))


def _interval(earned: Earned, decimals: int = 1, short: bool = False) -> str:
    if earned.low is None or earned.high is None:
        return "no interval"
    text = f"{earned.low:,.{decimals}f} to {earned.high:,.{decimals}f}"
    return text if short else f"95 % interval {text}"


def _range(values: list[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _mean(rows: Sequence[dict[str, float]], name: str) -> str:
    values = [row[name] for row in rows if row.get(name) is not None]
    return f"{sum(values) / len(values):.3f}" if values else ""


def _seconds(group: Group) -> str:
    seconds = [float(run.summary.get("seconds", 0.0)) for run in group.runs]
    return duration(sum(seconds) / len(seconds)) + (" each" if len(seconds) > 1 else "")


def _each(group: Group) -> str:
    return f"{len(group.runs)} seeds, each" if len(group.runs) > 1 else group.seeds


def _ratio(group: Group) -> str:
    updates = [int(run.summary.get("btm_updates", 0)) for run in group.runs]
    return f"; {_range(updates)} model updates"


def _status(group: Group) -> str:
    unfinished = [str(run.summary.get("status")) for run in group.runs if run.summary.get("status") != "finished"]
    if not unfinished:
        return "finished"
    said = ", ".join(UNFINISHED.get(status, status) for status in dict.fromkeys(unfinished))
    return said if len(group.runs) == 1 else f"{len(unfinished)} of {len(group.runs)} {said}"
