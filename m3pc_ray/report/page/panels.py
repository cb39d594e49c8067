"""Charts of what a run measures while it goes on: losses and errors by mask, speed and waiting."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from m3pc_ray.report.operation import over_minutes
from m3pc_ray.report.page.advice import advice
from m3pc_ray.report.page.charts import Chart, Charts, lines
from m3pc_ray.report.page.runs import Group, ReportedRun
from m3pc_ray.report.page.section import Section
from m3pc_ray.report.page.seeds import Curve, Series, combine, thinned

Axis = Literal["steps", "minutes"]
ERROR = "mean squared error"


@dataclass(frozen=True)
class Panel:
    """Metrics of one stream that belong in one chart."""

    title: str
    says: str
    stream: str
    names: str
    """Regular expression of the metrics' names; its group is the label, else the name is."""
    y: str
    advice: tuple[tuple[str, str], ...] = ()
    logarithmic: bool = False
    points: bool = False
    axis: Axis = "steps"


LABELS = {
    "return_conditioned": "RCBC",
    "inverse_dynamics": "ID",
    "behaviour_cloning": "BC",
    "goal": "GOAL",
    "inpainting": "PI",
    "rewards_error": "rewards, FD mask",
    "rewards_error/reward_prediction": "rewards, RP mask",
    "returns_error": "returns, FD mask",
    "waiting_steps": "rollouts wait",
    "waiting_updates": "learner waits",
    "planner_busy": "planner computes",
    "learner_busy": "learner computes",
}
X_NAMES = {"btm": "gradient steps", "critic": "critic updates", "online": "environment steps"}

LOSSES = (
    Panel(
        "Actions, by mask",
        "How far the model's action is from the data's under each test-time mask, held out; lower is better.",
        "btm",
        r"validation/action_error/(.+)",
        ERROR,
        (("btm", "validation/action_error/<mask>"),),
        logarithmic=True,
        points=True,
    ),
    Panel(
        "States, by steps ahead",
        "How far predicted states are from the true ones under the FD mask (and inpainted ones, PI), held out, in "
        "units of the data's variance; lower is better.",
        "btm",
        r"validation/states_error/(.+)",
        ERROR,
        (("btm", "validation/states_error/<steps>_ahead"),),
        logarithmic=True,
        points=True,
    ),
    Panel(
        "Rewards and returns",
        "How far predicted rewards and returns are from the true ones, held out, in units of the data's variance; "
        "lower is better.",
        "btm",
        r"validation/((?:rewards|returns)_error.*)",
        ERROR,
        (("btm", "validation/returns_error"),),
        logarithmic=True,
        points=True,
    ),
    Panel(
        "Mask patterns of your own",
        "Errors of what each pattern asks for, held out; lower is better.",
        "btm",
        r"validation/pattern_error/(.+)",
        ERROR,
        (("btm", "validation/pattern_error/<pattern>/<modality>"),),
        logarithmic=True,
        points=True,
    ),
    Panel(
        "Training errors",
        "Errors of all tokens in training, by modality; they should fall and then flatten.",
        "btm",
        r"(states|returns|rewards|visible_actions)_error",
        ERROR,
        (("btm", "states_error"),),
        logarithmic=True,
    ),
    Panel(
        "Action distribution",
        "Negative log-likelihood of masked actions and entropy of the predicted ones; the first should fall, the "
        "second settle at its target.",
        "btm",
        r"negative_log_likelihood|entropy",
        "nats a step",
        (("btm", "negative_log_likelihood"), ("btm", "entropy")),
    ),
    Panel(
        "Critic",
        "Losses of V and Q; a plateau is normal.",
        "critic",
        r"value_loss|q_loss",
        "loss",
        (("critic", "value_loss"),),
        logarithmic=True,
    ),
    Panel(
        "Finetuning errors",
        "The same errors while finetuning, on new and old experience; a rise at the start is new experience.",
        "online",
        r"btm/(states|returns|rewards|visible_actions)_error",
        ERROR,
        (("online", "return_mean"),),
        logarithmic=True,
    ),
    Panel(
        "Action distribution, finetuning",
        "Negative log-likelihood of masked actions and entropy of the predicted ones while finetuning.",
        "online",
        r"btm/(negative_log_likelihood|entropy)",
        "nats a step",
        (("btm", "negative_log_likelihood"),),
    ),
    Panel(
        "Critic, finetuning",
        "Losses of V and Q while finetuning; a rise as better states are reached is normal.",
        "online",
        r"critic/(value_loss|q_loss)",
        "loss",
        (("critic", "value_loss"),),
        logarithmic=True,
    ),
)
OPERATION = (
    Panel(
        "Environment steps a second",
        "How fast experience is collected; evaluations and owed updates make it stand still.",
        "online",
        r"steps_per_second",
        "steps a second",
        (("online", "steps_per_second"),),
        axis="minutes",
    ),
    Panel(
        "Who waits",
        "Share of time that rollouts wait for owed updates, and the learner for new steps; what computes all the time "
        "is the limit.",
        "online",
        r"waiting_steps|waiting_updates|planner_busy|learner_busy",
        "share of time",
        (("online", "waiting_steps"), ("online", "planner_busy")),
        axis="minutes",
    ),
    Panel(
        "What rollout workers do",
        "Share of their time waiting for actions, and in the simulator.",
        "online",
        r"(planning|simulation)_share",
        "share of time",
        (("online", "simulation_share"),),
        axis="minutes",
    ),
    Panel(
        "Planner",
        "Milliseconds that a batch of decisions is computed, and that a request waits before.",
        "online",
        r"planner_(batch|wait)_ms",
        "milliseconds",
        (("online", "planner_wait_ms"),),
        axis="minutes",
    ),
    Panel(
        "Weight lag",
        "Model updates by which the weights that act are behind the learner's.",
        "online",
        r"weight_lag_(mean|max)",
        "updates",
        (("online", "weight_lag_min"),),
        axis="minutes",
    ),
    Panel(
        "Memory",
        "Resident memory of all roles of a kind.",
        "online",
        r"memory_(\w+)_mb",
        "MiB",
        (("live.json", "memory_bytes"),),
        axis="minutes",
    ),
    Panel(
        "Segments a second",
        "Segments that pretraining learns from a second, mean since the start.",
        "btm",
        r"sequences_per_second",
        "segments a second",
        (("btm", "sequences_per_second"),),
    ),
    Panel(
        "Critic updates a second",
        "Updates of the critic a second in pretraining, mean since the start.",
        "critic",
        r"updates_per_second",
        "updates a second",
        (("critic", "updates_per_second"),),
    ),
)


def losses_section(groups: Sequence[Group]) -> Section | None:
    """Held-out errors by mask, and the losses of training and finetuning."""
    if any(run.metrics.names("btm") for group in groups for run in group.runs):
        reading = (
            "The masks: RCBC return-conditioned, BC plain behaviour cloning, ID inverse dynamics, GOAL towards a goal, "
            "FD forward dynamics, RP reward prediction, PI path inpainting."
        )
    else:
        reading = "Pretraining measures errors by mask: name the pretrained run too, and they are here."
    return _section("Losses by mask", reading, LOSSES, groups)


def operation_section(groups: Sequence[Group]) -> Section | None:
    """Speed of every role, who waited for whom, memory."""
    return _section("Throughput and waiting", "How the roles of the runs went.", OPERATION, groups)


def panel_charts(panel: Panel, groups: Sequence[Group]) -> list[Chart]:
    """One chart with a line a metric; where several groups have the metrics, a chart a metric with a line a group."""
    curves: dict[str, list[tuple[str, Curve]]] = {}
    for group in groups:
        for name in _names(panel, group.runs):
            series = [each for run in group.runs if len((each := _series(panel, run, name))[0])]
            if series:
                curves.setdefault(name, []).append((group.label, combine([thinned(each) for each in series])))
    if not curves:
        return []
    several = len({label for found in curves.values() for label, _ in found}) > 1
    if several and len(curves) > 1:
        parts = [
            (f"{panel.title}: {_label(panel, name)}", found, _advice(panel, name)) for name, found in curves.items()
        ]
    elif several:
        parts = [(panel.title, found, panel.advice) for found in curves.values()]
    else:
        named = [(_label(panel, name), found[0][1]) for name, found in curves.items()]
        parts = [(panel.title, named, panel.advice)]
    return [
        Chart(
            title,
            panel.says,
            x="minutes" if panel.axis == "minutes" else X_NAMES[panel.stream],
            y=panel.y,
            series=lines(found, points=panel.points, logarithmic=panel.logarithmic),
            advice=advice(*said),
            logarithmic=panel.logarithmic,
            from_zero=panel.axis == "minutes",
        )
        for title, found, said in parts
    ]


def _section(title: str, reading: str, panels: Sequence[Panel], groups: Sequence[Group]) -> Section | None:
    charts = Charts(title)
    drawn = [chart for panel in panels for chart in panel_charts(panel, groups)]
    if not drawn:
        return None
    if any(len(group.runs) > 1 for group in groups):
        reading += " Thick lines are means over seeds, thin ones single seeds, bands from the lowest to the highest."
    return charts.section(f"<p>{html.escape(reading)}</p>\n{charts.html(drawn)}")


def _advice(panel: Panel, name: str) -> tuple[tuple[str, str], ...]:
    """What is said of one of the panel's metrics: nothing that is about another one of them."""
    others = [said for said in panel.advice if re.fullmatch(panel.names, said[1]) and said[1] != name]
    return tuple(said for said in panel.advice if said not in others)


def _names(panel: Panel, runs: Sequence[ReportedRun]) -> list[str]:
    names = dict.fromkeys(name for run in runs for name in run.metrics.names(panel.stream))
    return [name for name in names if re.fullmatch(panel.names, name)]


def _series(panel: Panel, run: ReportedRun, name: str) -> Series:
    return over_minutes(run.metrics, name) if panel.axis == "minutes" else run.metrics.series(panel.stream, name)


def _label(panel: Panel, name: str) -> str:
    match = re.fullmatch(panel.names, name)
    found = match[1] if match and match.lastindex else name
    return LABELS.get(found, found.replace("_", " ").replace("/", ": "))
