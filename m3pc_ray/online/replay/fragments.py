"""What a rollout worker sends: some consecutive steps of one episode, and its Arrow form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from m3pc_ray.online.replay.decisions import DecisionRecords, decisions_type, from_arrow, to_arrow
from m3pc_ray.trajectories.episodes import EpisodeEnd

GOES_ON = -1
"""Value of the `end` column for a fragment after which its episode goes on."""


@dataclass(frozen=True)
class EpisodeKey:
    """Names one episode of a run for good: worker, its incarnation (1 more at every start) and a count within it."""

    worker: int
    incarnation: int
    episode: int


@dataclass(frozen=True)
class Fragment:
    """Consecutive steps of one episode.

    `end` is None while the episode goes on. A fragment of no steps closes an episode whose last steps went before.
    Steps are numbered from `offset`, so that a fragment sent twice is known by (key, offset).
    """

    key: EpisodeKey
    offset: int
    observations: np.ndarray  # (steps, observation_dim) float32
    actions: np.ndarray  # (steps, action_dim) float32, in the environment's bounds
    rewards: np.ndarray  # (steps,) float32
    final_observation: np.ndarray  # (observation_dim,) float32: after the last action
    end: EpisodeEnd | None
    reset_seed: int
    weight_versions: tuple[int, int]  # oldest and newest weights that chose these actions
    planner: str  # the planner's settings as JSON
    decisions: DecisionRecords | None = None  # what each step's decision depended on, where that is recorded

    def __post_init__(self) -> None:
        if self.decisions is not None and len(self.decisions) != self.num_steps:
            raise ValueError(f"{self.key}: {len(self.decisions)} decisions recorded for {self.num_steps} steps")

    @property
    def num_steps(self) -> int:
        return len(self.rewards)

    def next_observations(self) -> np.ndarray:
        """(steps, observation_dim): what followed each action."""
        if self.num_steps == 0:
            return self.observations
        return np.concatenate([self.observations[1:], self.final_observation[None]])


def closing_fragment(last: Fragment, end: EpisodeEnd) -> Fragment:
    """The fragment of no steps that closes the episode `last` belongs to; it keeps nothing of `last` in memory."""
    return Fragment(
        key=last.key,
        offset=last.offset + last.num_steps,
        observations=last.observations[:0].copy(),
        actions=last.actions[:0].copy(),
        rewards=last.rewards[:0].copy(),
        final_observation=last.final_observation.copy(),
        end=end,
        reset_seed=last.reset_seed,
        weight_versions=last.weight_versions,
        planner=last.planner,
    )


def fragment_schema(observation_dim: int, action_dim: int) -> pa.Schema:
    """Arrow schema of fragments: a row each, steps as lists of fixed-size lists."""
    observation, action = pa.list_(pa.float32(), observation_dim), pa.list_(pa.float32(), action_dim)
    return pa.schema(
        [
            ("worker", pa.int32()),
            ("incarnation", pa.int32()),
            ("episode", pa.int64()),
            ("offset", pa.int64()),
            ("observations", pa.list_(observation)),
            ("actions", pa.list_(action)),
            ("rewards", pa.list_(pa.float32())),
            ("final_observation", observation),
            ("end", pa.int8()),
            ("reset_seed", pa.int64()),
            ("weight_version_min", pa.int64()),
            ("weight_version_max", pa.int64()),
            ("planner", pa.string()),
            ("decisions", decisions_type(observation_dim, action_dim)),
        ]
    )


def to_record_batch(fragments: Sequence[Fragment], schema: pa.Schema) -> pa.RecordBatch:
    """One row a fragment, in order."""
    lengths = np.cumsum([0] + [fragment.num_steps for fragment in fragments]).astype(np.int32)

    def vectors(name: str, arrays: list[np.ndarray]) -> pa.Array:
        field = schema.field(name).type
        element = field.value_type if pa.types.is_list(field) else field
        flat = np.concatenate(arrays).astype(np.float32, copy=False).reshape(-1)
        rows = pa.FixedSizeListArray.from_arrays(pa.array(flat), type=element)
        return pa.ListArray.from_arrays(pa.array(lengths), rows, type=field) if pa.types.is_list(field) else rows

    rewards = np.concatenate([fragment.rewards for fragment in fragments]).astype(np.float32, copy=False)
    columns = [
        pa.array([fragment.key.worker for fragment in fragments], pa.int32()),
        pa.array([fragment.key.incarnation for fragment in fragments], pa.int32()),
        pa.array([fragment.key.episode for fragment in fragments], pa.int64()),
        pa.array([fragment.offset for fragment in fragments], pa.int64()),
        vectors("observations", [fragment.observations for fragment in fragments]),
        vectors("actions", [fragment.actions for fragment in fragments]),
        pa.ListArray.from_arrays(pa.array(lengths), pa.array(rewards), type=schema.field("rewards").type),
        vectors("final_observation", [fragment.final_observation[None] for fragment in fragments]),
        pa.array([GOES_ON if f.end is None else int(f.end) for f in fragments], pa.int8()),
        pa.array([fragment.reset_seed for fragment in fragments], pa.int64()),
        pa.array([fragment.weight_versions[0] for fragment in fragments], pa.int64()),
        pa.array([fragment.weight_versions[1] for fragment in fragments], pa.int64()),
        pa.array([fragment.planner for fragment in fragments], pa.string()),
        to_arrow([fragment.decisions for fragment in fragments], schema.field("decisions").type),
    ]
    return pa.record_batch(columns, schema=schema)


def from_record_batch(batch: pa.RecordBatch, decisions: bool = False) -> list[Fragment]:
    """The fragments of `to_record_batch`, in order; with their `decisions` only on request: training needs none."""
    observation_dim = batch.schema.field("final_observation").type.list_size
    action_dim = batch.schema.field("actions").type.value_type.list_size

    def plain(name: str) -> list[int]:
        return batch.column(name).to_pylist()

    observation_lists, action_lists = batch.column("observations"), batch.column("actions")
    starts = observation_lists.offsets.to_numpy()
    starts = starts - starts[0]
    observations = observation_lists.flatten().flatten().to_numpy(zero_copy_only=False).reshape(-1, observation_dim)
    actions = action_lists.flatten().flatten().to_numpy(zero_copy_only=False).reshape(-1, action_dim)
    rewards = batch.column("rewards").flatten().to_numpy(zero_copy_only=False)
    finals = batch.column("final_observation").flatten().to_numpy(zero_copy_only=False).reshape(-1, observation_dim)
    workers, incarnations, episodes = plain("worker"), plain("incarnation"), plain("episode")
    offsets, ends, seeds, planners = plain("offset"), plain("end"), plain("reset_seed"), plain("planner")
    oldest, newest = plain("weight_version_min"), plain("weight_version_max")
    recorded: list[DecisionRecords | None] = [None] * batch.num_rows
    if decisions and "decisions" in batch.schema.names:  # logs of earlier versions have no such column
        recorded = from_arrow(batch.column("decisions"))
    fragments = []
    for row in range(batch.num_rows):
        steps = slice(starts[row], starts[row + 1])
        fragments.append(
            Fragment(
                key=EpisodeKey(workers[row], incarnations[row], episodes[row]),
                offset=offsets[row],
                observations=observations[steps],
                actions=actions[steps],
                rewards=rewards[steps],
                final_observation=finals[row],
                end=None if ends[row] == GOES_ON else EpisodeEnd(ends[row]),
                reset_seed=seeds[row],
                weight_versions=(oldest[row], newest[row]),
                planner=str(planners[row]),
                decisions=recorded[row],
            )
        )
    return fragments
