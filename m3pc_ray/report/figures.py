"""PNG figures: the learning curve of finetuning, the curves of pretraining, and one plan against what happened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator

from m3pc_ray.errors import UserError
from m3pc_ray.report.metrics import FloatArray, Metrics, read_metrics, smooth
from m3pc_ray.report.style import COLOURS, LABELS, figure
from m3pc_ray.training.run_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from m3pc_ray.evaluation.moment import Moment

READABLE = {
    "Hopper": {0: "height of the torso (m)", 1: "angle of the torso (rad)", 5: "forward velocity (m/s)"},
    "Walker2d": {0: "height of the torso (m)", 1: "angle of the torso (rad)", 8: "forward velocity (m/s)"},
    "HalfCheetah": {0: "height of the front tip (m)", 1: "angle of the front tip (rad)", 8: "forward velocity (m/s)"},
}
"""Entries of the observation that a reader can picture, by task."""
LINES_DRAWN = 128
"""Candidates drawn at most, the most probable ones first."""


def learning_curve(
    run: str | Path | RunFolder, path: str | Path, *, baselines: Mapping[str, float] | None = None, title: str = ""
) -> Path:
    """Score (raw return where no score is known) of every evaluation against environment steps, with standard errors.

    `baselines` are drawn as horizontal lines by label, such as {"data set": 10.3}.
    Raises UserError where the run holds no evaluation.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder.open(run)
    metrics = read_metrics(folder)
    planners = list(dict.fromkeys(name.split("/")[0] for name in metrics.names("evaluation") if "/" in name))
    kind = "score" if any(len(metrics.series("evaluation", f"{p}/score_mean")[0]) for p in planners) else "return"
    planners = [planner for planner in planners if len(metrics.series("evaluation", f"{planner}/{kind}_mean")[0])]
    if not planners:
        raise UserError(f"{folder.metrics_path}: holds no evaluation, so there is no learning curve to draw")
    with figure(path, width=6.4, height=4.0) as (axes,):
        for planner in planners:
            steps, mean = metrics.series("evaluation", f"{planner}/{kind}_mean")
            _, error = metrics.series("evaluation", f"{planner}/{kind}_sem")
            colour = COLOURS.get(planner, "#aa3377")
            axes.plot(steps, mean, marker="o", markersize=3.5, color=colour, label=LABELS.get(planner, planner))
            if len(error) == len(mean):
                axes.fill_between(steps, mean - error, mean + error, color=colour, alpha=0.18, linewidth=0)
        for index, (label, value) in enumerate((baselines or {}).items()):
            style = ("--", ":", "-.")[index % 3]
            axes.axhline(value, color=COLOURS["dataset"], linestyle=style, linewidth=1.2, label=f"{label}: {value:.1f}")
        axes.set_xlabel("environment steps")
        axes.set_ylabel("normalised score" if kind == "score" else "return")
        axes.set_title(title or "Online finetuning", loc="left")
        axes.xaxis.set_major_formatter(count)
        axes.margins(x=0.02)
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(planners) + len(baselines or {}))
    return Path(path)


def training_curves(run: str | Path | RunFolder, path: str | Path) -> Path:
    """Losses and critic of pretraining, and held-out errors of actions, states, rewards and returns: six panels.

    Raises UserError where nothing was trained.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder.open(run)
    metrics = read_metrics(folder)
    if not metrics.names("btm") and not metrics.names("critic"):
        raise UserError(f"{folder.metrics_path}: holds no training metrics, so there are no curves to draw")
    held_out = [name for name in metrics.names("btm") if name.startswith("validation/") and "error" in name]
    actions = [name for name in held_out if "/action" in name]
    states = [name for name in held_out if "/states" in name]
    others = [name for name in held_out if name not in (*actions, *states)]
    losses = ["states_error", "rewards_error", "returns_error", "visible_actions_error", "asked_actions_error"]
    policy = ["negative_log_likelihood", "entropy", "entropy_multiplier"]
    critic = [name for name in metrics.names("critic") if not name.endswith("_per_second")]
    with figure(path, 2, 3, width=13.5, height=7.0) as panels:
        _draw(panels[0], metrics, "btm", losses, "squared errors in training", logarithmic=True)
        _draw(panels[1], metrics, "btm", policy, "action distribution in training")
        _draw(panels[2], metrics, "critic", critic, "critic in training", logarithmic=True)
        _draw(panels[3], metrics, "btm", actions, "held out: actions", logarithmic=True, markers=True)
        _draw(panels[4], metrics, "btm", states, "held out: states", logarithmic=True, markers=True)
        _draw(panels[5], metrics, "btm", others, "held out: rewards and returns", logarithmic=True, markers=True)
        for axes in panels:
            axes.set_xlabel("critic updates" if axes is panels[2] else "gradient steps of the trajectory model")
    return Path(path)


def _draw(
    axes: Axes,
    metrics: Metrics,
    stream: str,
    names: list[str],
    title: str,
    *,
    logarithmic: bool = False,
    markers: bool = False,
) -> None:
    drawn = 0
    for name in names:
        steps, values = metrics.series(stream, name)
        if not len(steps):
            continue
        label = name.removeprefix("validation/").replace("_", " ").replace("/", ": ")
        drawn += 1
        colour = f"C{drawn - 1}"
        if markers:
            axes.plot(steps, values, marker="o", markersize=3, linewidth=1.1, color=colour, label=label)
        else:
            axes.plot(steps, values, linewidth=0.6, alpha=0.3, color=colour)
            axes.plot(steps, smooth(values, max(1, len(values) // 30)), linewidth=1.4, color=colour, label=label)
    axes.set_title(title, loc="left")
    if not drawn:
        axes.text(0.5, 0.5, "not trained" if stream == "critic" else "no values", transform=axes.transAxes, ha="center")
        axes.set_xticks([])
        axes.set_yticks([])
        return
    if logarithmic:
        axes.set_yscale("log")
    axes.xaxis.set_major_formatter(count)
    axes.set_xlim(left=0)
    axes.legend(loc="best")


def plan_figure(moment: Moment, environment_id: str, path: str | Path, *, planner: str = "critic") -> Path:
    """One decision: the candidates' predicted states, coloured by probability, against what then happened.

    Three readable entries of the state (the first three of an environment unknown here), and the first two entries of
    the candidates' first actions with the action taken.
    """
    details = moment.details
    probabilities = details.probabilities[0].astype(np.float64)
    order = np.argsort(probabilities)[-LINES_DRAWN:]  # ascending, so that the likely ones are drawn on top
    scale = Normalize(0.0, float(probabilities.max()))
    colours = colormaps["viridis"](scale(probabilities))
    with figure(path, 2, 2, width=10.0, height=6.8) as panels:
        for axes, (entry, name) in zip(panels, _readable(environment_id, moment.past.shape[1]).items(), strict=False):
            _draw_states(axes, moment, probabilities, order, colours, entry)
            axes.set_ylabel(name)
            axes.set_xlabel("steps from the decision")
        panels[0].legend(loc="best")
        _draw_actions(panels[3], moment, order, colours)
        bar = panels[3].figure.colorbar(ScalarMappable(scale, "viridis"), ax=panels, shrink=0.7, pad=0.01)
        bar.set_label("probability of the candidate (eq. 4)")
        effective = float(details.effective_sample_size[0])
        panels[0].figure.suptitle(
            f"{environment_id}, step {moment.timestep}: {len(probabilities)} candidates of "
            f"{LABELS.get(planner, planner)}, effective sample size {effective:.1f}",
            x=0.01,
            ha="left",
            fontsize=11,
        )
    return Path(path)


def count(value: float, _position: float = 0.0) -> str:
    """A number of steps as an axis shows it: 500, 2.5k, 200k, 1.5M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _draw_states(
    axes: Axes, moment: Moment, probabilities: FloatArray, order: np.ndarray[Any, Any], colours: FloatArray, entry: int
) -> None:
    predicted = moment.details.predicted_states[0, :, :, entry]  # (N, H - 1), from one step ahead on
    predicted = predicted[:, np.isfinite(predicted).all(axis=0)]
    current = moment.past[-1, entry]
    steps = np.arange(predicted.shape[1] + 1)
    for candidate in order:
        line = np.concatenate([[current], predicted[candidate]])
        axes.plot(steps, line, color=colours[candidate], linewidth=0.8, alpha=0.55)
    expected = np.concatenate([[current], probabilities @ predicted])
    axes.plot(steps, expected, color="white", linewidth=3.4)
    axes.plot(steps, expected, color="#ee7733", linewidth=1.8, label="expected under P")
    before = np.arange(1 - len(moment.past), 1)
    after = moment.future[: len(steps) - 1, entry]
    happened = np.concatenate([moment.past[:, entry], after])
    axes.plot(
        np.concatenate([before, np.arange(1, len(after) + 1)]),
        happened,
        color="black",
        marker="o",
        markersize=4,
        linewidth=1.6,
        label="what happened",
    )
    axes.axvline(0, color="#999999", linewidth=0.8, linestyle=":")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_actions(axes: Axes, moment: Moment, order: np.ndarray[Any, Any], colours: FloatArray) -> None:
    first = moment.details.candidates[0, :, 0]  # (N, action_dim)
    other = min(1, first.shape[1] - 1)
    axes.scatter(first[order, 0], first[order, other], c=colours[order], s=18, linewidths=0)
    axes.scatter(
        moment.action[0], moment.action[other], marker="*", s=170, color="#ee7733", edgecolors="black", label="taken"
    )
    axes.set_xlabel("first action, entry 0")
    axes.set_ylabel(f"first action, entry {other}")
    axes.legend(loc="best")


def _readable(environment_id: str, observation_dim: int) -> dict[int, str]:
    task = environment_id.rsplit("/", 1)[-1].rsplit("-v", 1)[0]
    return READABLE.get(task) or {index: f"observation {index}" for index in range(min(3, observation_dim))}
