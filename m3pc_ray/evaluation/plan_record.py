"""What `m3pc plan` leaves on disk: one episode, and all that was considered at the decisions that were kept.

One `.npz` file, arrays without pickles; `m3pc_ray.report.plans.record` reads it, and names are a promise between the
two. K steps, S decisions kept, N candidates, H steps planned at most, h of them in the utility; NaN where a decision's
horizon or the episode was shorter:

    about                          JSON: format, environment, planner and its settings, seeds, names and units, ends
    observations, actions, rewards (K + 1, obs), (K, act) in (-1, 1), (K,): the episode
    states_std                     (obs,) standard deviation of the data, the unit of errors
    steps, horizons                (S,): which decisions, and T - t of each
    candidates, states             (S, N, H, act), (S, N, H - 1, obs)
    rewards_predicted, values      (S, N, h)
    utilities, probabilities       (S, N), float32
    chosen                         (S,): the candidate drawn, -1 where they were averaged
    planned, planned_states        (S, H, act), (S, H - 1, obs): the sequence chosen
    planned_utilities              (S,)
    carried_out                    (S, H - 1, obs): what follows from that sequence without planning anew; may be absent
    bodies_real, bodies_planned    (S, H, capsules, 2, 2) metres, from the decision on; may be absent
    body_radii, body_limbs         (capsules,)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from m3pc_ray.environments.poses import positions_of
from m3pc_ray.environments.stick_figure import capsules
from m3pc_ray.errors import UserError
from m3pc_ray.evaluation.considered import Considered
from m3pc_ray.evaluation.play import PlayedEpisode
from m3pc_ray.trajectories.files import replacing

FORMAT = 1
"""Version of the file."""
_ELSEWHERE = {"rewards": "rewards_predicted", "action_difference": "", "utility_difference": ""}


@dataclass(frozen=True, eq=False)
class Bodies:
    """The figure from each decision on, as it was and as planned; see `environments.stick_figure.Capsules`."""

    real: npt.NDArray[np.float32]
    """(S, H, capsules, 2, 2), metres, 0 along the track at the decision."""
    planned: npt.NDArray[np.float32]
    """(S, H, capsules, 2, 2)"""
    radii: npt.NDArray[np.float32]
    """(capsules,)"""
    limbs: npt.NDArray[np.int64]
    """(capsules,) 0 for the trunk, then a number a limb."""
    ground: float | None


def find_bodies(
    environment: gymnasium.Env[Any, Any], episode: PlayedEpisode, considered: Considered
) -> tuple[Bodies | None, str]:
    """The figures, or None and why there are none: the observation is not the simulator's state, or nothing to draw.

    The environment is one of its own, to be reset at will.
    """
    length = considered.planned_states.shape[1] + 1
    pieces, places = [], []
    try:
        for row, (step, horizon) in enumerate(zip(considered.steps, considered.horizons, strict=True)):
            now = episode.observations[step : step + 1]
            real = episode.observations[step : step + horizon]
            planned = np.concatenate([now, considered.planned_states[row, : horizon - 1]])
            for kind, states in enumerate((real, planned)):
                pieces.append(positions_of(environment, states))
                places += [(kind, row, ahead) for ahead in range(len(states))]
        figure = capsules(environment, np.concatenate(pieces))  # at once: it finds one plane for all of them
    except UserError as error:
        return None, str(error)
    ends = np.full((2, len(considered.steps), length, *figure.ends.shape[1:]), np.nan, dtype=np.float32)
    kinds, rows, aheads = np.array(places).T
    ends[kinds, rows, aheads] = figure.ends
    radii, limbs = np.asarray(figure.radii, dtype=np.float32), np.asarray(figure.limbs, dtype=np.int64)
    return Bodies(ends[0], ends[1], radii, limbs, figure.ground), ""


def write_plan_record(
    path: str | Path,
    about: Mapping[str, Any],
    episode: PlayedEpisode,
    considered: Considered,
    states_std: npt.NDArray[np.float32],
    carried_out: npt.NDArray[np.float32] | None,
    bodies: Bodies | None,
) -> Path:
    """Write the record, complete or not at all; one that is there is replaced. Raises UserError where it cannot be."""
    arrays: dict[str, Any] = {
        "observations": episode.observations,
        "actions": episode.actions,
        "rewards": episode.rewards,
        "states_std": states_std,
    }
    for field in fields(considered):
        name = _ELSEWHERE.get(field.name, field.name)
        if name:
            arrays[name] = getattr(considered, field.name)
    if carried_out is not None:
        arrays["carried_out"] = carried_out
    if bodies is not None:
        arrays |= {"bodies_real": bodies.real, "bodies_planned": bodies.planned}
        arrays |= {"body_radii": bodies.radii, "body_limbs": bodies.limbs}
    facts = {
        "format": FORMAT,
        **about,
        "seed": episode.seed,
        "terminated": episode.terminated,
        "truncated": episode.truncated,
        "action_difference": considered.action_difference,
        "utility_difference": considered.utility_difference,
        "ground": None if bodies is None else bodies.ground,
    }
    target = Path(path).expanduser()
    if target.is_dir():
        raise UserError(f"{target}: is a folder; name a file")
    with replacing(target, overwrite=True) as fresh, fresh.open("wb") as file:
        np.savez_compressed(file, about=np.array(json.dumps(facts, allow_nan=False)), **arrays)
    return target
