"""Films of what a planner did on the way to a goal, and of the waypoints themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from m3pc_ray.environments.make import make_environment
from m3pc_ray.environments.observed_state import find_observed_state
from m3pc_ray.environments.poses import positions_of, seconds_per_step
from m3pc_ray.environments.rendering import render_positions, required_backend, working_backend
from m3pc_ray.environments.stick_figure import capsules
from m3pc_ray.errors import UserError
from m3pc_ray.report.animation import film_strip, frame_steps, write_animation, write_picture
from m3pc_ray.report.captions import with_captions
from m3pc_ray.report.stick_figures import draw_stick_figures

if TYPE_CHECKING:
    import gymnasium

    from m3pc_ray.environments.observation_names import Dimension
    from m3pc_ray.evaluation.reaching.record import RecordedEpisode

Frame = npt.NDArray[np.uint8]
STYLES = ("auto", "rendered", "stick", "none")
STRIP_FRAMES = 6
_WIDTH, _HEIGHT = 320, 240


def choose_style(asked: str, environment_id: str, time_limit: int) -> tuple[str, str]:
    """The style of a film, and what to tell the user about the choice (empty: nothing).

    Raises UserError where a film was asked for of an environment whose observation tells no pose, and where `rendered`
    was asked for and nothing draws.
    """
    if asked == "none":
        return asked, ""
    environment = make_environment(environment_id, time_limit=time_limit)
    try:
        find_observed_state(environment)
    except UserError as error:
        if asked != "auto":
            raise
        return "none", f"there are no films: {error}"
    finally:
        environment.close()
    return drawing_style(asked)


def drawing_style(asked: str) -> tuple[str, str]:
    """`rendered` or `stick`, whichever `auto` stands for here, and what to tell the user about it (empty: nothing).

    Raises UserError where `rendered` was asked for and nothing draws.
    """
    if asked == "rendered":
        required_backend()
    if asked != "auto":
        return asked, ""
    if working_backend() is not None:
        return "rendered", ""
    return "stick", "MuJoCo cannot draw here, so films show stick figures (--video-style rendered says why)"


def write_film(
    environment: gymnasium.Env[Any, Any],
    episode: RecordedEpisode,
    key: int,
    dimension: Dimension,
    path: Path,
    style: str,
    slow_motion: float,
) -> None:
    """The film of an episode at `path` and, beside it, a PNG strip of some of its frames."""
    steps = len(episode.reached)
    chosen, per_second = frame_steps(steps, seconds_per_step(environment), slow_motion=slow_motion)
    positions = positions_of(environment, episode.reached, episode.forward)
    captions = [_caption(step, dimension, episode.wanted[step, key], episode.reached[step, key]) for step in chosen]
    frames = list(draw_frames(environment, positions[chosen], captions, style))
    write_animation(frames, path, per_second)
    write_picture(film_strip(frames, min(STRIP_FRAMES, len(frames))), path.with_suffix(".png"))


def write_preview(
    environment: gymnasium.Env[Any, Any],
    steps: npt.NDArray[np.int64],
    states: npt.NDArray[np.float32],
    source: str,
    path: Path,
    style: str,
    slow_motion: float,
) -> None:
    """The waypoints themselves as a film at `path`, each shown until the next is due, and a PNG strip.

    Nothing is simulated: what the body could not do is shown all the same. Positions that are free stand as in the
    environment's initial pose, and the body stays where it is along the track.
    """
    shown = np.repeat(np.arange(len(steps)), np.diff(steps, append=steps[-1] + 1))
    chosen, per_second = frame_steps(len(shown), seconds_per_step(environment), slow_motion=slow_motion)
    positions = positions_of(environment, states, forward=0.0)[shown[chosen]]
    captions = [f"{source}: waypoint {index + 1} of {len(steps)}, step {steps[index]}" for index in shown[chosen]]
    frames = list(draw_frames(environment, positions, captions, style))
    write_animation(frames, path, per_second)
    write_picture(film_strip(frames, min(STRIP_FRAMES, len(frames))), path.with_suffix(".png"))


def draw_frames(
    environment: gymnasium.Env[Any, Any],
    positions: npt.NDArray[np.float64],
    captions: Sequence[str],
    style: str,
    width: int = _WIDTH,
    height: int = _HEIGHT,
) -> Iterator[Frame]:
    """A frame for each of the positions (frames, nq), with its caption above it, `rendered` or as `stick` figures."""
    if style == "rendered":
        frames = render_positions(environment, positions, width=width, height=height)
        return with_captions(frames, captions)
    body = capsules(environment, positions)
    return draw_stick_figures(
        body.ends,
        body.radii,
        limbs=body.limbs,
        ground=body.ground,
        captions=captions,
        width=width,
        height=height,
    )


def _caption(step: int, dimension: Dimension, wanted: float, reached: float) -> str:
    name = dimension.name.replace("_", " ")
    asked = "free" if np.isnan(wanted) else f"{wanted:.2f}"
    return f"step {step}  {name} {reached:.2f} {dimension.unit}, wanted {asked}"
