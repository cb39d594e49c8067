"""What cannot be said of one key of a sweep file alone: which of them go together."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from m3pc_ray.errors import UserError
from tune.definition import BUDGET, EVALUATE_SETTINGS, LOGGING, ROLES, Sweep

_MOST_SEED = 2**31 - 1
Fail = Callable[[str], NoReturn]


def check_rules(sweep: Sweep, source: str) -> None:
    """Raises UserError, which names `source`, for the first rule that the sweep breaks."""

    def fail(text: str) -> NoReturn:
        raise UserError(f"{source}: {text}")

    _check_settings(sweep, fail)
    _check_numbers(sweep, fail)
    _check_searcher(sweep, fail)
    _check_scheduler(sweep, fail)
    if sweep.kind == "evaluate" and sweep.report_steps:
        fail("report_steps: needs kind finetune")


def _check_settings(sweep: Sweep, fail: Fail) -> None:
    seed = "seed" if sweep.kind == "finetune" else "evaluation.seed"
    baseline = sweep.baseline or {}
    for name in (*sweep.space, *sweep.settings, *baseline):
        if sweep.kind == "evaluate" and not name.startswith(EVALUATE_SETTINGS):
            fail(
                f"{name}: takes training to try; kind evaluate takes planner.* and evaluation.* only, kind finetune all"
            )
    for name in (*sweep.space, *baseline):
        if name.startswith(LOGGING):
            fail(f"{name}: changes no score; give it under `settings`")
        if name in BUDGET:
            fail(f"{name}: must be the same for all trials; give it under `settings`")
        if name == seed:
            fail(f"{name}: seeds are averaged over; list them under `seeds`")
    for name in sweep.space:
        if name in sweep.settings:
            fail(f"{name}: varies and is fixed at once; leave out one of the two")
    if "seed" in sweep.settings:
        fail("settings: seed: list seeds under `seeds` (on the command line: --seeds)")


def _check_numbers(sweep: Sweep, fail: Fail) -> None:
    seeds = sweep.seeds
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0 or max(seeds) > _MOST_SEED:
        fail(f"seeds: must be different whole numbers from 0 to {_MOST_SEED}, one at least")
    least = {"samples": 1, "sampling_seed": 0, "trial_cpus": 0, "trial_gpus": 0, "max_concurrent": 0, "max_failures": 0}
    for name, bound in least.items():
        if getattr(sweep, name) < bound:
            fail(f"{name}: must be at least {bound}, not {getattr(sweep, name)}")
    if sweep.sampling_seed > _MOST_SEED:
        fail(f"sampling_seed: must be at most {_MOST_SEED}")


def _check_searcher(sweep: Sweep, fail: Fail) -> None:
    if sweep.searcher == "optuna":
        if any(axis.kind == "grid" for axis in sweep.space.values()):
            fail("searcher: optuna suggests; give choice, uniform or log_uniform instead of a grid")
        if not sweep.space:
            fail("searcher: optuna needs a space")
        if sweep.scheduler.name != "none":
            fail(f"scheduler: {sweep.scheduler.name} and searcher optuna do not go together")
        _refuse_roles(sweep, "searcher: optuna", fail)
    elif sweep.samples > 1 and not any(axis.is_random for axis in sweep.space.values()):
        fail("samples: nothing in the space is random")


def _check_scheduler(sweep: Sweep, fail: Fail) -> None:
    name = sweep.scheduler.name
    if name == "none":
        return
    if sweep.kind == "evaluate":
        fail(f"scheduler: {name} needs kind finetune; evaluations are short")
    if sweep.baseline is not None:
        fail(f"baseline: scheduler {name} compares it with the others and may end or change it; run it on its own")
    if name == "pbt":
        if not sweep.space or not all(axis.is_random for axis in sweep.space.values()):
            fail("scheduler: pbt needs a space of choice, uniform or log_uniform to change within")
        _refuse_roles(sweep, "scheduler: pbt", fail)


def _refuse_roles(sweep: Sweep, who: str, fail: Fail) -> None:
    """What a trial reserves must be known before it is suggested, or changed."""
    for name in ROLES:
        if name in sweep.space:
            fail(f"{who}: {name} decides what a trial reserves; only a grid can vary it")
