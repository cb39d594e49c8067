"""A sweep's conclusions: score against the varied setting, the table of settings, and what not to conclude."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from m3pc_ray.report.page.charts import Chart, Charts, Drawn, colour_of, numbers, places
from m3pc_ray.report.page.section import Section
from m3pc_ray.report.page.tables import Cell, cards
from m3pc_ray.report.sweep import axis_label


@dataclass(frozen=True)
class SweepResults:
    """What `m3pc sweep-report` concludes, as rows."""

    name: str
    names: tuple[str, ...]
    """Dotted names of the varied settings."""
    scales: Mapping[str, str]
    """linear, log or category, by name."""
    rows: Sequence[Mapping[str, Any]]
    """A setting and report step each, as in table.json; the baseline is one."""
    remarks: Sequence[Mapping[str, Any]]
    """{"environment_steps", "remarks"} of every report step."""


def sweep_section(sweep: SweepResults) -> Section:
    """The chart over the setting where one varies and is a number, else over the settings side by side."""
    charts = Charts(f"Sweep: {sweep.name}")
    measure = "normalised score" if sweep.rows[0]["measure"] == "score" else "return"
    over = sorted({str(row["interval_over"]) for row in sweep.rows if row["interval_over"]})
    reading = (
        f"Means with 95 % bootstrap intervals over {' or '.join(over)}."
        if over
        else "Means; too few episodes for intervals."
    )
    parts = [f"<p>{html.escape(reading)}</p>", charts.html([_chart(sweep, measure)]), _table(sweep, measure)]
    for remarks in sweep.remarks:
        step = remarks["environment_steps"]
        if step is not None:
            parts.append(f"<h3>At {step:,} environment steps</h3>")
        parts.append("<ul>" + "".join(f"<li>{html.escape(text)}</li>" for text in remarks["remarks"]) + "</ul>")
    return charts.section("\n".join(parts))


def _chart(sweep: SweepResults, measure: str) -> Chart:
    steps = list(dict.fromkeys(row["environment_steps"] for row in sweep.rows))
    settings = _settings(sweep)
    numeric = _is_numeric(sweep, settings)
    at = {
        label: _value(setting) if numeric else float(place) for place, (label, setting) in enumerate(settings.items())
    }
    series = []
    for place, step in enumerate(steps):
        rows = [row for row in sweep.rows if row["environment_steps"] == step and row["value"] is not None]
        scored = sorted((row for row in rows if not row["baseline"]), key=lambda row: at[row["label"]])
        label = f"{step:,} steps" if step is not None else measure
        series.append(
            Drawn(
                label,
                colour_of(place),
                places(at[row["label"]] for row in scored),
                numbers(row["value"] for row in scored),
                _ends(scored, "low"),
                _ends(scored, "high"),
                points=True,
                marks=not numeric,
            )
        )
        for row in rows:
            if row["baseline"] and scored:
                ends = [min(at.values()), max(at.values())]
                series.append(
                    Drawn(
                        row["label"] + (f", {label}" if len(steps) > 1 else ""),
                        colour_of(place) if len(steps) > 1 else 0,
                        places(ends),
                        numbers([row["value"]] * 2),
                        dash=True,
                    )
                )
    numbered = _is_numbered(sweep, settings)
    name = ", ".join(map(axis_label, sweep.names)) + (": number in the table" if numbered else "")
    ticks = (
        None
        if numeric
        else [(float(p), str(p + 1) if numbered else _short(s)) for p, s in enumerate(settings.values())]
    )
    edge = None if numeric else (-0.6, len(settings) - 0.4)
    return Chart(
        f"{measure[0].upper()}{measure[1:]} by setting",
        "What every setting scores; intervals that overlap do not tell two settings apart.",
        x=name,
        y=measure,
        series=series,
        advice="No setting stands out: take more seeds, or prefer the cheapest (<code>docs/sweeps.md</code>).",
        ticks=ticks,
        x_range=edge,
    )


def _table(sweep: SweepResults, measure: str) -> str:
    settings = _settings(sweep)
    place = {label: str(number + 1) for number, label in enumerate(settings)} if _is_numbered(sweep, settings) else {}
    rows = [
        {
            "Setting": Cell(row["label"]),
            "#": Cell(place.get(row["label"], "")),
            "Steps": Cell("" if row["environment_steps"] is None else f"{row['environment_steps']:,}"),
            measure.capitalize(): Cell("no score" if row["value"] is None else f"{row['value']:.1f}"),
            "95 % interval": Cell("" if row["low"] is None else f"{row['low']:.1f} to {row['high']:.1f}"),
            "Seeds": Cell(str(row["seeds"])),
            "": Cell("best" if row["best"] else "overlaps the best" if row["not_distinguished_from_best"] else ""),
        }
        for row in sweep.rows
    ]
    rows = [{name: cell for name, cell in row.items() if any(each[name].text for each in rows)} for row in rows]
    return cards(rows, [bool(row["best"]) for row in sweep.rows])


def _settings(sweep: SweepResults) -> dict[str, Mapping[str, Any]]:
    """The varied settings by label, in the order of the rows; without the baseline."""
    return {row["label"]: row["setting"] for row in sweep.rows if not row["baseline"]}


def _is_numeric(sweep: SweepResults, settings: Mapping[str, Mapping[str, Any]]) -> bool:
    if len(sweep.names) != 1 or sweep.scales.get(sweep.names[0]) == "category":
        return False
    values = [next(iter(setting.values())) for setting in settings.values()]
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _is_numbered(sweep: SweepResults, settings: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the axis has no room for the settings' names."""
    return not _is_numeric(sweep, settings) and sum(map(len, map(_short, settings.values()))) > 40


def _value(setting: Mapping[str, Any]) -> float:
    return float(next(iter(setting.values())))


def _short(setting: Mapping[str, Any]) -> str:
    return ", ".join(str(value) for value in setting.values())


def _ends(rows: Sequence[Mapping[str, Any]], name: str) -> list[float | None] | None:
    if any(row[name] is None for row in rows):
        return None
    return numbers(row[name] for row in rows)
