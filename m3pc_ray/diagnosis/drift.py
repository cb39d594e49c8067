"""Environment drift: whether the simulator here still does what it did when a data set was recorded.

A logged observation is put back into the simulator, the logged action is applied, and what follows is compared with
what the log says followed. Every transition starts from the log, so that errors do not add up.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from m3pc_ray.diagnosis.rows import Row
from m3pc_ray.environments.make import make_environment
from m3pc_ray.environments.observed_state import ObservedState, find_observed_state
from m3pc_ray.errors import UserError
from m3pc_ray.trajectories.episodes import Trajectories
from m3pc_ray.trajectories.validity import flags_of

TRANSITIONS = 2000
"""Replayed by default, in less than a second; a quarter of them are ends of episodes, where versions of a task differ
most: in whether the last step still earns the reward for being healthy, for example."""
OBSERVATION_TOLERANCE = 3e-3
REWARD_TOLERANCE = 1e-4
MOST_OFF, MOST_DRIFTED = 0.005, 0.02
"""Share of the transitions that may be outside a tolerance: without being remarked, and before the environment counts
as another one.

Measured where nothing had changed, 8,000 transitions each of six Hopper, HalfCheetah and Walker2d data sets recorded
with the installed MuJoCo: median errors up to 6e-7 of observations and 1e-7 of rewards, since logs hold float32; up to
0.11 % of the transitions (Walker2d) outside these tolerances. The next version of the same task put 20 % (Hopper-v5,
whose ends earn another reward) and 33 % (Walker2d-v5) outside."""
_SHIFT = 1.7
_SHIFTED = 50
"""Transitions replayed at another place too: if it mattered, the observation would not be enough to start from."""


@dataclass(frozen=True)
class Replayed:
    """Differences between log and simulator, (rows,) each."""

    observation_errors: npt.NDArray[np.float64]
    """Largest over the observation's entries; NaN where the log does not tell what followed."""
    reward_errors: npt.NDArray[np.float64]
    """NaN where the log has no reward."""
    other_ends: npt.NDArray[np.bool_]
    """The step ended the episode in one of the two and not in the other."""
    skipped: int
    """Rows left out because a velocity stood at its bound in the log."""


def check_drift(trajectories: Trajectories, transitions: int = TRANSITIONS, seed: int = 0) -> list[Row]:
    """One row: logged transitions of a data set against its environment here."""
    data, environment_id = trajectories.metadata, trajectories.metadata.environment_id
    name = f"drift {data.name}"
    try:
        replayed = replay(trajectories, transitions, seed)
    except UserError as error:
        return [Row(name, "not checked", str(error))]
    errors, rewards = replayed.observation_errors, replayed.reward_errors
    if not len(rewards):
        return [Row(name, "not checked", f"all {replayed.skipped} transitions have a velocity at its bound")]
    off = (np.nan_to_num(errors, nan=0.0) > OBSERVATION_TOLERANCE) | (rewards > REWARD_TOLERANCE) | replayed.other_ends
    found = (
        f"{environment_id}: {len(rewards):,} logged transitions replayed; next observation off by {_spread(errors)}, "
        f"reward by {_spread(rewards)}; {off.mean():.2%} off by more than {OBSERVATION_TOLERANCE:g} or "
        f"{REWARD_TOLERANCE:g} (up to {MOST_OFF:.1%} is rounding)"
    )
    if replayed.other_ends.any():
        found += f"; {replayed.other_ends.sum():,} end the episode here or in the log only"
    if replayed.skipped:
        found += f"; {replayed.skipped:,} skipped, a velocity at its bound"
    if off.mean() <= MOST_OFF:
        return [Row(name, "ok", found)]
    recorded = ", ".join(f"{package} {data.versions[package]}" for package in _simulators(data.versions)) or "unknown"
    advice = (
        f"recorded with {recorded}, here {_installed()}: name the environment the data is from with "
        "--data.environment, or install those versions; scores here do not compare with the data's"
    )
    return [Row(name, "failure" if off.mean() > MOST_DRIFTED else "warning", found, advice)]


def replay(trajectories: Trajectories, transitions: int, seed: int = 0) -> Replayed:
    """Replay about so many transitions, a quarter of them ends of episodes, the rest drawn evenly.

    Raises UserError where the environment cannot be put into the state of an observation, and where no action is known.
    """
    rows = _choose(trajectories, transitions, seed)
    with _quiet_mujoco(), contextlib.closing(make_environment(trajectories.metadata.environment_id)) as environment:
        state = find_observed_state(environment)
        usable = rows[state.is_complete(trajectories.observations[rows])]
        _check_place_is_irrelevant(environment, state, trajectories, usable[:_SHIFTED])
        following, terminated = trajectories.next_observations(), trajectories.terminated()
        errors, rewards = np.empty(len(usable)), np.empty(len(usable))
        other_ends = np.empty(len(usable), dtype=np.bool_)
        earned = flags_of(trajectories.rewards_known, trajectories.num_steps)
        for i, row in enumerate(usable):
            observation, reward, ended = _transition(environment, state, trajectories, row)
            errors[i] = np.abs(observation - following[row]).max()
            rewards[i] = abs(reward - float(trajectories.rewards[row])) if earned[row] else np.nan
            other_ends[i] = ended != terminated[row]
    return Replayed(errors, rewards, other_ends, len(rows) - len(usable))


def _choose(trajectories: Trajectories, transitions: int, seed: int) -> npt.NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    known = flags_of(trajectories.actions_known, trajectories.num_steps)
    if not known.any():
        raise UserError(f"{trajectories.metadata.name} holds no actions, so nothing can be replayed")
    ends = trajectories.episode_starts[1:] - 1
    ends = ends[known[ends]]
    ends = rng.choice(ends, min(len(ends), transitions // 4), replace=False)
    others = np.setdiff1d(np.flatnonzero(known), ends)
    others = rng.choice(others, min(len(others), transitions - len(ends)), replace=False)
    return np.sort(np.concatenate([ends, others]))


def _transition(
    environment: Any, state: ObservedState, trajectories: Trajectories, row: int, hidden: float = 0.0
) -> tuple[npt.NDArray[np.float64], float, bool]:
    """(next observation, reward, terminated) of a logged state and action; the wrappers' time limit plays no part."""
    state.enter(environment, trajectories.observations[row], hidden)
    observation, reward, terminated, _, _ = environment.unwrapped.step(trajectories.actions[row])
    return np.asarray(observation, dtype=np.float64), float(reward), bool(terminated)


def _check_place_is_irrelevant(
    environment: Any, state: ObservedState, trajectories: Trajectories, rows: npt.NDArray[np.int64]
) -> None:
    for row in rows if state.hidden_positions else ():
        here, there = (_transition(environment, state, trajectories, row, hidden) for hidden in (0.0, _SHIFT))
        same = np.allclose(here[0], there[0], atol=REWARD_TOLERANCE) and abs(here[1] - there[1]) < REWARD_TOLERANCE
        if not same:
            raise UserError(
                f"what follows in {trajectories.metadata.environment_id} depends on positions that its observation "
                "leaves out, so a logged observation is not enough to start from"
            )


@contextlib.contextmanager
def _quiet_mujoco() -> Iterator[None]:
    """MuJoCo would write warnings, as of a diverging simulation, into a file MUJOCO_LOG.TXT of the working folder."""
    mujoco = importlib.import_module("mujoco")
    previous = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda _message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(previous)


def _spread(errors: npt.NDArray[np.float64]) -> str:
    known = errors[~np.isnan(errors)]
    return f"{np.median(known):.1e} (median), {known.max():.1e} (largest)" if len(known) else "an unknown amount"


def _simulators(versions: dict[str, str]) -> list[str]:
    return [package for package in ("gymnasium", "mujoco") if package in versions]


def _installed() -> str:
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in ("gymnasium", "mujoco"))
