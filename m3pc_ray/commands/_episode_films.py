"""Episodes played and filmed one after another: the work behind `m3pc video`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from m3pc_ray.agent import Agent
from m3pc_ray.commands._films import draw_frames
from m3pc_ray.environments.make import EnvironmentGroup, make_environment
from m3pc_ray.environments.poses import current_positions, seconds_per_step
from m3pc_ray.environments.stick_figure import capsules
from m3pc_ray.evaluation.evaluate import check_environment
from m3pc_ray.evaluation.play import play_episode
from m3pc_ray.report.animation import frame_steps, write_animation
from m3pc_ray.training.interrupt import StopRequest
from m3pc_ray.trajectories.scores import normalised_score

PAUSE = 0.5
"""Seconds for which an episode's last picture stands."""


@dataclass(frozen=True, eq=False)
class Filmed:
    """An episode of K steps as a film needs it."""

    positions: npt.NDArray[np.float64]
    """(K + 1, nq) of the simulator."""
    returns: npt.NDArray[np.float64]
    """(K + 1,) return so far."""
    scores: npt.NDArray[np.float64] | None
    """(K + 1,) the same as normalised scores; None where no reference is known."""
    end: str
    """How it ended: `terminated`, `time limit` or `cut`."""


def check_drawing(environment_id: str, time_limit: int, style: str) -> None:
    """Raises UserError where an environment cannot be filmed so: another simulator, or no limbs for a stick figure."""
    environment = make_environment(environment_id, time_limit=time_limit)
    try:
        environment.reset(seed=0)
        seconds_per_step(environment)
        positions = current_positions(environment)
        if style == "stick":
            capsules(environment, positions[np.newaxis])
    finally:
        environment.close()


def play_for_film(
    agent: Agent,
    seeds: Sequence[int],
    *,
    deterministic: bool = True,
    max_steps: int | None = None,
    status: Callable[[str], None] = lambda _: None,
) -> tuple[list[Filmed], bool]:
    """The episodes of the seeds, and whether Ctrl-C ended the playing: what was played until then is there."""
    played: list[Filmed] = []
    reference = agent.metadata if agent.metadata is not None else agent.environment_id
    with EnvironmentGroup(agent.environment_id, 1, time_limit=agent.time_limit) as group, StopRequest() as stop:
        check_environment(agent, group)
        for index, seed in enumerate(seeds):
            positions: list[npt.NDArray[np.float64]] = []

            def before(
                _step: int, environment: gymnasium.Env[Any, Any], kept: list[npt.NDArray[np.float64]] = positions
            ) -> None:
                kept.append(current_positions(environment))

            def after(steps: int, total: float, index: int = index) -> bool:
                status(f"playing episode {index + 1} of {len(seeds)}: step {steps}, return {total:.0f}")
                return stop.requested or steps == max_steps

            episode = play_episode(agent, group, seed, deterministic=deterministic, before=before, after=after)
            returns = np.concatenate([[0.0], np.cumsum(episode.rewards, dtype=np.float64)])
            end = "terminated" if episode.terminated else "time limit" if episode.truncated else "cut"
            played.append(Filmed(np.stack(positions), returns, normalised_score(returns, reference), end))
            if stop.requested:
                break
        return played, stop.requested


def write_episodes(
    agent: Agent, played: Sequence[Filmed], path: Path, style: str, slow_motion: float, width: int, height: int
) -> int:
    """Write the film of all episodes; returns the number of its frames. Raises UserError where it cannot be written."""
    environment = make_environment(agent.environment_id, time_limit=agent.time_limit)
    try:
        positions, captions = [], []
        for index, film in enumerate(played):
            chosen, per_second = frame_steps(len(film.returns), seconds_per_step(environment), slow_motion=slow_motion)
            shown = [*chosen, *[chosen[-1]] * round(PAUSE * per_second)]
            positions.append(film.positions[shown])
            which = f"episode {index + 1}/{len(played)}  " if len(played) > 1 else ""
            captions += [which + _caption(film, step) for step in shown]
        frames = draw_frames(environment, np.concatenate(positions), captions, style, width, height)
        return write_animation(frames, path, per_second)
    finally:
        environment.close()


def _caption(film: Filmed, step: int) -> str:
    score = "" if film.scores is None else f"  score {film.scores[step]:.1f}"
    return f"step {step}  return {film.returns[step]:.0f}{score}"
