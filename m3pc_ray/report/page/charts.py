"""A chart as the page's script draws it (assets/charts.js), and the figure that holds it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from m3pc_ray.report.page.section import Section
from m3pc_ray.report.page.seeds import Curve

COLOURS = 8
"""Series with a colour of their own (`--series-1` and on in page.css); the rest are grey, `--series-0`."""


@dataclass(frozen=True)
class Drawn:
    """One series. `x` ascends; entry i of all arrays belongs together; None is no value."""

    label: str
    colour: int
    x: list[float]
    y: list[float | None]
    low: list[float | None] | None = None
    high: list[float | None] | None = None
    points: bool = False
    faint: bool = False
    """One seed of the series `of`: thin, and not in the legend."""
    of: int | None = None
    dash: bool = False
    bars: bool = False
    marks: bool = False
    """Points without a line, with their intervals as whiskers."""


@dataclass(frozen=True)
class Chart:
    """A chart with its words: what it says, and what to do when it looks bad."""

    title: str
    says: str
    x: str
    y: str
    series: list[Drawn]
    advice: str = ""
    """HTML."""
    logarithmic: bool = False
    ticks: list[tuple[float, str]] | None = None
    """Places and names of a categorical axis."""
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    from_zero: bool = False
    height: int = 0
    """Pixels; 0: the page's choice."""
    legend: bool = True

    def specification(self) -> dict[str, Any]:
        """What the script reads: only what is set."""
        series = [{name: value for name, value in asdict(each).items() if _is_set(value)} for each in self.series]
        options = {
            name: value
            for name, value in asdict(self).items()
            if name not in ("title", "says", "advice", "series", "height") and _is_set(value)
        }
        return options | {"legend": self.legend, "series": series} | ({"height": self.height} if self.height else {})


@dataclass
class Charts:
    """The charts of one section, in the order in which `html` was called."""

    title: str
    """The section's."""
    drawn: list[Chart] = field(default_factory=list)

    def html(self, charts: Iterable[Chart], small: bool = False) -> str:
        """Figures side by side where there is room."""
        figures = [self._figure(chart) for chart in charts]
        return f'<div class="charts{" small" if small else ""}">\n' + "\n".join(figures) + "\n</div>"

    def section(self, body: str) -> Section:
        """The section with this HTML, which holds the figures, and their data."""
        return Section(self.title, body, data={"charts": [chart.specification() for chart in self.drawn]})

    def _figure(self, chart: Chart) -> str:
        self.drawn.append(chart)
        source = Section(self.title, "").data_id
        advice = f'<p class="advice"><b>Looks bad?</b> {chart.advice}</p>' if chart.advice else ""
        title = html.escape(chart.title)
        return (
            f'<figure class="chart" data-from="{source}" data-chart="{len(self.drawn) - 1}">\n<h3>{title}</h3>\n'
            f'<p class="says">{html.escape(chart.says)}</p>\n'
            f'<div class="plot" role="img" aria-label="{html.escape(chart.says, quote=True)}"></div>\n{advice}</figure>'
        )


def _is_set(value: Any) -> bool:
    return value is not None and value is not False


def colour_of(place: int) -> int:
    """The colour's number of series `place`, which counts from 0."""
    return place + 1 if place < COLOURS else 0


def lines(curves: Sequence[tuple[str, Curve]], *, points: bool = False, logarithmic: bool = False) -> list[Drawn]:
    """A line a labelled curve, with its band, and its seeds as thin lines behind it."""
    drawn: list[Drawn] = []
    for place, (label, curve) in enumerate(curves):
        main, colour = len(drawn), colour_of(place)
        drawn.append(
            Drawn(
                label,
                colour,
                places(curve.x),
                numbers(curve.mean, logarithmic),
                numbers(curve.low, logarithmic) if curve.low is not None else None,
                numbers(curve.high, logarithmic) if curve.high is not None else None,
                points=points,
            )
        )
        for x, y in curve.seeds:
            drawn.append(Drawn(label, colour, places(x), numbers(y, logarithmic), points=points, faint=True, of=main))
    return drawn


def places(values: Iterable[float] | np.ndarray[Any, Any]) -> list[float]:
    """x values, with seven digits, as JSON holds them."""
    return [float(f"{value:.7g}") for value in values]


def numbers(values: Iterable[float] | np.ndarray[Any, Any], positive: bool = False) -> list[float | None]:
    """y values, with five digits; None where one is not finite or, with `positive`, not above 0."""
    return [float(f"{v:.5g}") if np.isfinite(v) and (v > 0 or not positive) else None for v in values]


def marked_up(text: str) -> str:
    """Text of the documentation as HTML: `code` between backticks, the rest escaped; links keep their words."""
    words = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(words, quote=False))
