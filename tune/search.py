"""Ray Tune's schedulers and searchers as a sweep asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining, TrialScheduler
from ray.tune.search import Repeater, Searcher

from m3pc_ray.config import OnlineConfig
from m3pc_ray.configuration import all_settings
from m3pc_ray.errors import UserError
from tune.definition import Sweep
from tune.pending import Tried
from tune.reporting import SCORE, STEPS
from tune.space import Axis


def make_scheduler(sweep: Sweep, online: OnlineConfig) -> TrialScheduler | None:
    """The scheduler, its steps in environment steps; None where every trial comes to its end.

    Raises:
        UserError: its steps do not go with those of the runs.
    """
    wanted = sweep.scheduler
    if wanted.name == "none":
        return None
    if online.evaluate_every == 0:
        raise UserError(f"scheduler: {wanted.name} compares evaluations; online.evaluate_every must be above 0")
    if wanted.name == "asha":
        grace = wanted.grace_steps or max(1, online.steps // 10)
        if grace > online.steps:
            raise UserError(f"scheduler: grace_steps: {grace} is more than online.steps = {online.steps}")
        return ASHAScheduler(
            time_attr=STEPS, max_t=online.steps, grace_period=grace, reduction_factor=wanted.reduction_factor
        )
    return PopulationBasedTraining(
        time_attr=STEPS,
        perturbation_interval=wanted.interval_steps or online.evaluate_every,
        hyperparam_mutations={"trial": {"settings": {name: _mutations(axis) for name, axis in sweep.space.items()}}},
        custom_explore_fn=_within(sweep.space),
    )


def make_searcher(sweep: Sweep, repetitions: int, tried: Tried) -> Searcher:
    """Optuna's Tree-structured Parzen Estimator, which sees the mean of all repetitions of a suggestion.

    Args:
        repetitions: trials of every suggestion.
        tried: what it knows already.

    Raises:
        UserError: Optuna is not installed.
    """
    try:
        import optuna
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        searcher = OptunaSearch(
            metric=SCORE,
            mode="max",
            seed=sweep.sampling_seed + len(tried),  # a later sitting must not suggest the same again
            points_to_evaluate=[{f"trial/settings/{name}": v for name, v in s.items()} for s, _ in tried] or None,
            evaluated_rewards=[score for _, score in tried] or None,
        )
    except ImportError as error:
        raise UserError("searcher: optuna is not installed: pip install 'm3pc-ray[optuna]'") from error
    return Repeater(searcher, repeat=repetitions)


def _mutations(axis: Axis) -> Any:
    return list(axis.values) if axis.kind == "choice" else axis.domain()


def _within(space: dict[str, Axis]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Keeps what population-based training multiplies within the bounds of the space, whole numbers whole."""

    def explore(config: dict[str, Any]) -> dict[str, Any]:
        settings = config["trial"]["settings"]
        for name, axis in space.items():
            if axis.kind != "choice":
                value = min(max(settings[name], axis.values[0]), axis.values[1])
                settings[name] = round(value) if all_settings()[name].annotation is int else value
        return config

    return explore
