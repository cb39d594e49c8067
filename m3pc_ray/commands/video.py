"""`m3pc video`: films of episodes."""

from __future__ import annotations

import argparse
from pathlib import Path

MOST_SEED = 2**31 - 1
MOST_EPISODES = 100
SMALLEST_SIDE, LARGEST_SIDE = 64, 2000
SUMMARY = "film episodes of a run's planner"
DESCRIPTION = """\
Plays episodes with a planner and films them, one after another in one file, with step, return and score above the
picture. GIF and WebP need nothing; MP4 needs the extra `video`.

  m3pc video --run runs/hopper --episodes 3 --out hopper.mp4
  m3pc video --run runs/hopper --planner none --video-style stick --slow-motion 4 --max-steps 200 --out hopper.gif

MuJoCo draws where it can (EGL or OSMesa); elsewhere films show stick figures. The episodes are those of `m3pc evaluate`
with the same seeds. Ctrl-C ends the playing; what was played is filmed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options and those of the planner's settings."""
    from m3pc_ray.agent import GUIDES
    from m3pc_ray.configuration import add_config_arguments

    parser.add_argument("--run", required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--planner", choices=GUIDES, help="(default: the best that the run has)")
    parser.add_argument("--episodes", type=int, default=1, help="(default: 1)")
    parser.add_argument("--seed", type=int, default=1000, help="seed of the first; episode i resets with seed + i")
    parser.add_argument("--max-steps", type=int, metavar="K", help="film no more than K steps of an episode")
    parser.add_argument("--sample", action="store_true", help="draw actions, as exploration does")
    parser.add_argument("--out", required=True, metavar="FILE", help="the film: .gif, .webp or .mp4")
    parser.add_argument(
        "--video-style",
        choices=("auto", "rendered", "stick"),
        default="auto",
        help="drawn by MuJoCo, or as stick figures (auto: by MuJoCo where it can draw)",
    )
    parser.add_argument(
        "--slow-motion", type=float, default=1.0, metavar="X", help="times slower than it happened (default: 1)"
    )
    parser.add_argument("--width", type=int, default=320, help="pixels (default: 320)")
    parser.add_argument("--height", type=int, default=240, help="pixels (default: 240)")
    parser.add_argument("--checkpoint", type=int, metavar="STEP", help="checkpoint to load (default: the newest)")
    parser.add_argument("--device", help="torch device (default: the run's)")
    parser.add_argument("--threads", type=int, metavar="K", help="CPU threads of torch (default: all cores)")
    add_config_arguments(parser, ["planner"])


def run(arguments: argparse.Namespace) -> int:
    """Plays, films, prints what was earned; exit code 130 where Ctrl-C ended the playing."""
    from rich.console import Console

    from m3pc_ray.agent import Agent
    from m3pc_ray.commands._episode_films import check_drawing, play_for_film, write_episodes
    from m3pc_ray.commands._films import drawing_style
    from m3pc_ray.commands._runs import load_for_acting
    from m3pc_ray.configuration import given_overrides
    from m3pc_ray.report.animation import check_ending

    _check(arguments)
    check_ending(arguments.out)
    asked = [arguments.planner] if arguments.planner else None
    _, models, planners = load_for_acting(arguments, given_overrides(arguments), asked)
    agent = Agent.from_models(models, planners[-1])
    style, notice = drawing_style(arguments.video_style)
    check_drawing(agent.environment_id, agent.time_limit, style)  # before anything is played
    console, out = Console(), Path(arguments.out).expanduser()
    if notice:
        Console(stderr=True).print(f"m3pc: warning: {notice}", highlight=False, soft_wrap=True)
    seeds = range(arguments.seed, arguments.seed + arguments.episodes)
    with console.status("playing") as status:
        played, interrupted = play_for_film(
            agent, seeds, deterministic=not arguments.sample, max_steps=arguments.max_steps, status=status.update
        )
        status.update("drawing")
        size = arguments.width, arguments.height
        frames = write_episodes(agent, played, out, style, arguments.slow_motion, *size)
    for seed, film in zip(seeds, played, strict=False):
        score = "" if film.scores is None else f", score {film.scores[-1]:.1f}"
        earned = f"{len(film.returns) - 1} steps ({film.end}), return {film.returns[-1]:.0f}{score}"
        console.print(f"planner {agent.guide}, seed {seed}: {earned}", highlight=False, soft_wrap=True)
    megabytes = out.stat().st_size / 1e6
    console.print(f"wrote {out} ({frames} frames, {megabytes:.1f} MB)", highlight=False, soft_wrap=True)
    return 130 if interrupted else 0


def _check(arguments: argparse.Namespace) -> None:
    """Raises UserError for a number out of its range, before anything is loaded."""
    from m3pc_ray.errors import UserError

    if not 1 <= arguments.episodes <= MOST_EPISODES:
        raise UserError(f"--episodes is {arguments.episodes}; 1 to {MOST_EPISODES} fit a film")
    if not 0 <= arguments.seed <= MOST_SEED - arguments.episodes:
        raise UserError(f"--seed is {arguments.seed}; it must lie between 0 and {MOST_SEED - arguments.episodes}")
    if arguments.max_steps is not None and arguments.max_steps < 1:
        raise UserError(f"--max-steps is {arguments.max_steps}; at least 1 is needed")
    if not 0 < arguments.slow_motion <= 1000:
        raise UserError(f"--slow-motion is {arguments.slow_motion:g}; it must be above 0 and at most 1000")
    for name, pixels in (("--width", arguments.width), ("--height", arguments.height)):
        if not SMALLEST_SIDE <= pixels <= LARGEST_SIDE:
            raise UserError(f"{name} is {pixels}; {SMALLEST_SIDE} to {LARGEST_SIDE} pixels are possible")
