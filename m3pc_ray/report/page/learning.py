"""Learning curves: what evaluations and exploration earned over the environment steps of finetuning."""

from __future__ import annotations

from collections.abc import Sequence

from m3pc_ray.report.page.advice import advice
from m3pc_ray.report.page.charts import Chart, Charts, lines
from m3pc_ray.report.page.evaluations import Measure, learning_curve, measure_of, planners_of
from m3pc_ray.report.page.runs import Group
from m3pc_ray.report.page.section import Section
from m3pc_ray.report.page.seeds import FEW_SEEDS, Curve, combine, thinned
from m3pc_ray.report.style import LABELS

NAMES: dict[Measure, str] = {"score": "normalised score", "return": "return"}


def learning_section(groups: Sequence[Group]) -> Section | None:
    """One chart of all planners, or one a planner where several groups are compared; None without evaluations."""
    online = [group for group in groups if group.kind == "finetune"]
    charts = Charts("Learning curves")
    evaluated = _evaluations(online)
    explored = _exploration(online)
    if not evaluated and not explored:
        return None
    return charts.section(f"<p>{_reading(online)}</p>\n{charts.html([*evaluated, *explored])}")


def _evaluations(groups: Sequence[Group]) -> list[Chart]:
    measure = measure_of(groups)
    curves = {
        planner: [(group.label, curve) for group in groups if (curve := learning_curve(group, planner, measure))]
        for planner in planners_of(groups)
    }
    unit = "0 is a random policy, 100 an expert" if measure == "score" else "sum of an episode's rewards"
    more = advice(("evaluation", "<planner>/return_mean"), ("evaluation", "<planner>/return_low"))

    def chart(title: str, who: str, found: Sequence[tuple[str, Curve]]) -> Chart:
        says = f"What {who} earned in evaluations, always on the same episodes ({unit})."
        return Chart(title, says, "environment steps", NAMES[measure], lines(found, points=True), advice=more)

    if len(groups) == 1:
        named = [(LABELS[planner], curve) for planner, found in curves.items() for _, curve in found]
        return [chart("Evaluation", "every planner", named)] if named else []
    return [
        chart(f"Evaluation: {LABELS[planner]}", LABELS[planner], found) for planner, found in curves.items() if found
    ]


def _exploration(groups: Sequence[Group]) -> list[Chart]:
    curves: list[tuple[str, Curve]] = []
    for group in groups:
        series = [run.metrics.series("online", "return_mean") for run in group.runs]
        series = [thinned(each) for each in series if len(each[0])]
        if series:
            curves.append((group.label, combine(series)))
    if not curves:
        return []
    return [
        Chart(
            "Exploration",
            "Mean return of the last 20 exploring episodes: noisier than an evaluation, and lower.",
            x="environment steps",
            y="return",
            series=lines(curves),
            advice=advice(("online", "return_mean")),
        )
    ]


def _reading(groups: Sequence[Group]) -> str:
    most = max((len(group.runs) for group in groups), default=0)
    if most < 2:
        return (
            "One seed: the band is the 95 % bootstrap interval over the episodes of each evaluation, and says nothing "
            "about other seeds."
        )
    counts = sorted({len(group.runs) for group in groups})
    number = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    text = (
        f"Thick lines are means over {number} seeds, thin ones single seeds. Bands of evaluations are 95 % bootstrap "
        "intervals over seeds, of exploration from the lowest to the highest seed."
    )
    if counts[0] == 1:
        text += " Where there is one seed, bands are over its episodes."
    if counts[0] < FEW_SEEDS:
        text += " Intervals over so few seeds are narrower than they should be."
    return text
