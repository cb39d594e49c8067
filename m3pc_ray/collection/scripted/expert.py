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


@dataclass
class _Following:
    """Where an episode's expert is in its script."""

    script: Script
    habits: Habits
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
        return towards(scene, aim.position, aim.turn, phase.gripper, 1.0 if phase.hurried else self.habits.speed)

    @property
    def over(self) -> bool:
        return self.phase >= len(self.script)

    def _done(self, scene: Scene) -> bool:
        phase = self.script[self.phase]
        if self.steps < phase.least:
            return False
        return self.steps >= phase.most or arrived(phase, self._aim(scene), scene)

    def _aim(self, scene: Scene) -> Aim:
        return self.script[min(self.phase, len(self.script) - 1)].aim(Moment(scene, self.start, self.habits))


class ScriptedExpert:
    """Follows one of several scripts in every episode: in episode n the (n modulo their number)th.

    Implements `evaluation.evaluate.Acting` and `collection.policy_source.SaysWhenOver`.

    Args:
        scripts: at least one.
        first_stream: the random stream of episode 0.
        clumsiness: standard deviation, metres along x and y, of how far beside the object it reaches.
    """

    action_low = np.full(ACTION_DIM, -1.0, dtype=np.float32)
    action_high = np.full(ACTION_DIM, 1.0, dtype=np.float32)

    def __init__(self, scripts: Sequence[Script], first_stream: int = 0, clumsiness: float = 0.0) -> None:
        self.scripts, self.first_stream, self.clumsiness = tuple(scripts), first_stream, clumsiness
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
                self._rows[int(row)] = _Following(script, habits, scene)
            actions.append(self._rows[int(row)].act(scene))
        return Plan(np.stack(actions))

    def over(self, row: int) -> bool:
        """Whether the script of this row's episode has come to its end."""
        return self._rows[row].over
