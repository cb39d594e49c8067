"""An agent that follows scripts, a row of environments each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from m3pc_ray.collection.scripted.motion import Scene, towards
from m3pc_ray.collection.scripted.scripts import Aim, Habits, Moment, Script, arrived
from m3pc_ray.environments.manipulation.tasks import ACTION_DIM
from m3pc_ray.planning.plan import Plan

SLOWEST_PACE = 0.1
"""Of an expert's speed: the least that one who hesitates goes on with."""
_PATIENCE = 3
"""A phase of one who hesitates may take so many times the steps: at a mean pace of 0.55 it needs twice as many."""


@dataclass
class _Pace:
    """The share of its usual speed that an expert moves with: all, until it hesitates for the first time."""

    hesitation: float
    rng: np.random.Generator
    share: float = 1.0

    def next(self) -> float:
        if self.hesitation and self.rng.random() < self.hesitation:
            self.share = float(self.rng.uniform(SLOWEST_PACE, 1.0))
        return self.share

    @property
    def patience(self) -> int:
        return _PATIENCE if self.hesitation else 1


@dataclass
class _Following:
    """Where an episode's expert is in its script."""

    script: Script
    habits: Habits
    pace: _Pace
    start: Scene
    phase: int = 0
    steps: int = 0
    """Taken in this phase."""

    def act(self, scene: Scene) -> npt.NDArray[np.float32]:
        """The next action; the last phase goes on for ever."""
        while not self.over and self._done(scene):
            self.phase, self.steps, self.start = self.phase + 1, 0, scene
        phase = self.script[min(self.phase, len(self.script) - 1)]
        aim = self._aim(scene)
        self.steps += 1
        speed = self.habits.speed * self.pace.next()
        return towards(scene, aim.position, aim.turn, phase.gripper, 1.0 if phase.hurried else speed)

    @property
    def over(self) -> bool:
        return self.phase >= len(self.script)

    def _done(self, scene: Scene) -> bool:
        phase = self.script[self.phase]
        if self.steps < phase.least:
            return False
        return self.steps >= phase.most * self.pace.patience or arrived(phase, self._aim(scene), scene)

    def _aim(self, scene: Scene) -> Aim:
        return self.script[min(self.phase, len(self.script) - 1)].aim(Moment(scene, self.start, self.habits))


class ScriptedExpert:
    """Follows one of several scripts in every episode: in episode n the (n modulo their number)th.

    Implements `evaluation.evaluate.Acting` and `collection.policy_source.SaysWhenOver`.

    Args:
        scripts: at least one.
        first_stream: the random stream of episode 0.
        clumsiness: standard deviation, metres along x and y, of how far beside the object it reaches.
        hesitation: chance at each step that it changes its pace, to an even draw from `SLOWEST_PACE` to 1 of its speed;
            phases in which it hurries it plays as ever.
    """

    action_low = np.full(ACTION_DIM, -1.0, dtype=np.float32)
    action_high = np.full(ACTION_DIM, 1.0, dtype=np.float32)

    def __init__(
        self, scripts: Sequence[Script], first_stream: int = 0, clumsiness: float = 0.0, hesitation: float = 0.0
    ) -> None:
        self.scripts, self.first_stream = tuple(scripts), first_stream
        self.clumsiness, self.hesitation = clumsiness, hesitation
        self._rows: dict[int, _Following] = {}

    def reset(self) -> None:
        """Forget every episode."""
        self._rows.clear()

    def plan(
        self,
        observations: npt.ArrayLike,
        episode_start: bool | npt.ArrayLike | None = None,
        deterministic: bool = True,
        *,
        rows: Sequence[int] | npt.NDArray[np.int64] | None = None,
        streams: npt.ArrayLike | None = None,
    ) -> Plan:
        """Actions (rows, 7) of the scripts; which script and whose habits follow from a row's stream at its start."""
        seen = np.atleast_2d(np.asarray(observations))
        starts = np.broadcast_to(np.asarray(False if episode_start is None else episode_start), len(seen))
        numbers = np.zeros(len(seen), np.int64) if streams is None else np.asarray(streams, dtype=np.int64)
        actions = []
        for place, row in enumerate(range(len(seen)) if rows is None else rows):
            scene = Scene.of(seen[place])
            if starts[place] or int(row) not in self._rows:
                number = int(numbers[place])
                habits = Habits.drawn(np.random.default_rng([number, 41]), self.clumsiness)
                script = self.scripts[(number - self.first_stream) % len(self.scripts)]
                pace = _Pace(self.hesitation, np.random.default_rng([number, 43]))
                self._rows[int(row)] = _Following(script, habits, pace, scene)
            actions.append(self._rows[int(row)].act(scene))
        return Plan(np.stack(actions))

    def over(self, row: int) -> bool:
        """Whether the script of this row's episode has come to its end."""
        return self._rows[row].over
