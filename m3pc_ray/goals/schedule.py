"""Which goals a decision sees: every environment has its own clock, and the waypoints move through its window.

A window of 8 steps at episode step 17, the current step at position 4, waypoints A, B and C due at steps 19, 20, 25:

    window index    0   1   2   3   4   5   6   7
    episode step   13  14  15  16  17  18  19  20
                                   now
    slot "last"                                 A      the paper: the next one stands at the window's end
    slot "due"                              A   B      each where it is due, as far as the window reaches

At step 19 the time of A has come and B is next. At step 20 the window ends with step 23, nothing is due inside it, and
either rule asks for C in the last slot. The last waypoint goes on being asked for there when its time has passed.

With missed = "wait", a waypoint not reached when its time has come is asked for further, and all that follow are
delayed with it. A reached at step 21 only, two steps late:

    step            17  18  19  20  21  22  23  24  25  26  27
    planned                  A   B                   C
    becomes                          A   B                   C
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m3pc_ray.errors import UserError
from m3pc_ray.goals.goal_window import GoalWindow
from m3pc_ray.goals.waypoints import Waypoints

Slot = Literal["last", "due"]
Missed = Literal["move_on", "wait"]


class GoalSchedule:
    """Keeps the clocks of a batch of environments and says what each is to reach.

    Args:
        waypoints: what is to be reached, the same for every environment.
        count: environments.
        std: (observation_dim,), the unit of a distance in every dimension, above 0: the data's standard deviation.
        slot: "last": the next waypoint in the window's last slot; "due": every waypoint that is due inside the window
            in its slot, and the next one in the last slot where none is.
        missed: "move_on": the clock alone decides which waypoint is next; "wait": one that is not reached is asked for
            further.
        tolerance: a waypoint counts as reached at this distance or less: root mean square over the dimensions it fixes,
            in `std`.
        wait_steps: the most steps that a single waypoint is waited for; it matters to missed = "wait".

    Raises:
        UserError: a setting or `std` that makes no sense, naming it.
    """

    def __init__(
        self,
        waypoints: Waypoints,
        count: int,
        std: ArrayLike,
        *,
        slot: Slot = "last",
        missed: Missed = "move_on",
        tolerance: float = 0.5,
        wait_steps: int = 10,
    ) -> None:
        self.waypoints = waypoints
        self.slot, self.missed_rule = slot, missed
        self.tolerance, self.wait_steps = tolerance, wait_steps
        self._std = np.asarray(std, dtype=np.float32)
        self._check(count)
        self._states = [waypoints.states] * count  # (K, observation_dim) each; replaced where goals drift
        self._given = list(self._states)  # to planners
        self._due = np.tile(waypoints.steps, (count, 1))  # (count, K), delays included
        self._steps = np.full(count, -1, dtype=np.int64)  # of the current observation; -1: none seen yet
        self._next = np.zeros(count, dtype=np.int64)  # index of the waypoint asked for; K: all are over
        self._waited = np.zeros(count, dtype=np.int64)  # steps that the next waypoint has been waited for
        self._missed = np.zeros(count, dtype=np.int64)

    @property
    def steps(self) -> NDArray[np.int64]:
        """(count,), episode step of the current observation; -1 between a reset and the first observation. A copy."""
        return self._steps.copy()

    @property
    def delays(self) -> NDArray[np.int64]:
        """(count,), steps by which the clock of the waypoints is behind that of the episode; sums over all waits."""
        return self._due[:, -1] - self.waypoints.steps[-1]

    @property
    def missed(self) -> NDArray[np.int64]:
        """(count,), waypoints of this episode that were not reached when they were left, with either rule. A copy."""
        return self._missed.copy()

    @property
    def remaining(self) -> NDArray[np.int64]:
        """(count,), waypoints whose time has not come yet, those that are being waited for included."""
        return len(self.waypoints) - self._next

    def reset(self, row: int) -> None:
        """Starts an episode of environment `row`; its first observation is for `advance`."""
        self._states[row] = self._given[row] = self.waypoints.states
        self._due[row] = self.waypoints.steps
        self._steps[row] = -1
        self._next[row] = self._waited[row] = self._missed[row] = 0

    def advance(self, row: int, observation: ArrayLike) -> None:
        """Moves the clock of environment `row` on to this observation (observation_dim,), raw units.

        To be called for every observation of an episode, the first one included, before its decision.
        Raises UserError, naming the function, where waypoints that drift come out wrong.
        """
        seen = np.asarray(observation, dtype=np.float32)
        self._steps[row] += 1
        step, index = int(self._steps[row]), int(self._next[row])
        self._states[row] = self._given[row] = self._now(row, step, seen)
        if self.waypoints.corrected is not None:
            on_time = step - int(self.delays[row])  # the step at which the waypoints are by their own clock
            self._given[row] = self.waypoints.corrected(on_time, seen, self._states[row])
        # Waypoints are at least a step apart and so is this clock: at most one comes due.
        if index == len(self.waypoints) or self._due[row, index] > step:
            return
        reached = self._distance(self._states[row][index], seen) <= self.tolerance
        if self._waits(row, reached):
            self._due[row, index:] += 1
            self._waited[row] += 1
            return
        self._missed[row] += not reached
        self._next[row] += 1
        self._waited[row] = 0

    def remaining_after(self, row: int, observation: ArrayLike) -> int:
        """What `remaining` will be of environment `row` once `advance` has heard of this, the next observation."""
        seen = np.asarray(observation, dtype=np.float32)
        step, index = int(self._steps[row]) + 1, int(self._next[row])
        left = len(self.waypoints) - index
        if not left or self._due[row, index] > step:
            return left
        reached = self._distance(self._now(row, step, seen)[index], seen) <= self.tolerance
        return left if self._waits(row, reached) else left - 1

    def goals(self, rows: ArrayLike, positions: ArrayLike, segment_length: int) -> GoalWindow:
        """What the decisions of environments `rows` (B,) are to reach.

        Args:
            rows: (B,) indices of environments.
            positions: (B,) index of the current step in each window, below segment_length - 1.
            segment_length: steps T of a window.

        Raises:
            UserError: a position behind which the window has no slot for a goal.
            ValueError: an environment that has not seen an observation since its reset.
        """
        rows, positions = np.asarray(rows, dtype=np.int64), np.asarray(positions, dtype=np.int64)
        if (positions >= segment_length - 1).any():
            raise UserError(
                f"the current step is at index {positions.max()} of a window of {segment_length} steps and leaves no "
                f"slot for a goal; a context_length of at most {segment_length - 2} does"
            )
        if (self._steps[rows] < 0).any():
            raise ValueError("goals asked for before the first observation; call advance first")
        shown = [
            self._shown(row, position, segment_length)
            for row, position in zip(rows.tolist(), positions.tolist(), strict=True)
        ]
        most = max((len(indices) for indices, _ in shown), default=0)
        states = np.full((len(rows), most, self.waypoints.observation_dim), np.nan, dtype=np.float32)
        slots = np.full((len(rows), most), -1, dtype=np.int64)
        for answer, (indices, places) in enumerate(shown):
            states[answer, : len(indices)] = self._given[rows[answer]][indices]
            slots[answer, : len(places)] = places
        return GoalWindow(states, slots)

    def states(self, row: int) -> NDArray[np.float32]:
        """(K, observation_dim), raw units: where the waypoints of environment `row` are now. A copy."""
        return self._states[row].copy()

    def wanted(self, row: int, interpolate: bool = False) -> NDArray[np.float32]:
        """(observation_dim,), what environment `row` should be in at its current step, raw units; NaN: nothing asked.

        The waypoint that is due now. Between two, NaN; with `interpolate` a straight line from the one before to the
        next, in the dimensions that both fix. NaN before the first and after the last. Delays count: a waypoint that is
        waited for is due when it is reached or given up.
        """
        step, due, states = self._steps[row], self._due[row], self._states[row]
        after = int(np.searchsorted(due, step))  # the first that is due now or later
        if after < len(due) and due[after] == step:
            return states[after].copy()
        if not interpolate or after in (0, len(due)):
            return np.full(self.waypoints.observation_dim, np.nan, dtype=np.float32)
        share = np.float32((step - due[after - 1]) / (due[after] - due[after - 1]))
        return np.asarray((1 - share) * states[after - 1] + share * states[after])

    def _now(self, row: int, step: int, seen: NDArray[np.float32]) -> NDArray[np.float32]:
        """(K, observation_dim): where the waypoints of environment `row` are at a step that shows `seen`."""
        return self._states[row] if self.waypoints.placed and step > 0 else self.waypoints.now(step, seen)

    def _waits(self, row: int, reached: bool) -> bool:
        """Whether a waypoint whose time has come is asked for further."""
        return not reached and self.missed_rule == "wait" and bool(self._waited[row] < self.wait_steps)

    def _shown(self, row: int, position: int, segment_length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Waypoints that one decision sees, (G,) indices, and their (G,) slots."""
        last_slot = segment_length - 1
        if self.slot == "due":
            slots = position + self._due[row, self._next[row] :] - self._steps[row]
            inside = int(np.searchsorted(slots, last_slot, side="right"))
            if inside > 0:
                return self._next[row] + np.arange(inside), slots[:inside]
        held = min(int(self._next[row]), len(self.waypoints) - 1)
        return np.array([held]), np.array([last_slot])

    def _distance(self, state: NDArray[np.float32], observation: NDArray[np.float32]) -> float:
        """Root mean square over the fixed dimensions, in standard deviations."""
        fixed = ~np.isnan(state)
        return float(np.sqrt(np.mean(((observation - state)[fixed] / self._std[fixed]) ** 2)))

    def _check(self, count: int) -> None:
        if count < 1:
            raise UserError(f"count is {count}; at least one environment is needed")
        for setting, value, known in (
            ("slot", self.slot, ("last", "due")),
            ("missed", self.missed_rule, ("move_on", "wait")),
        ):
            if value not in known:
                raise UserError(f"{setting} is {value!r}; it must be {' or '.join(known)}")
        if not self.tolerance > 0:
            raise UserError(f"tolerance is {self.tolerance}; it must be above 0")
        if self.wait_steps < 0:
            raise UserError(f"wait_steps is {self.wait_steps}; it must be at least 0")
        if self._std.shape != (self.waypoints.observation_dim,):
            raise UserError(
                f"{self.waypoints.source}: waypoints have {self.waypoints.observation_dim} dimensions, the standard "
                f"deviations shape {self._std.shape}"
            )
        if not (np.isfinite(self._std) & (self._std > 0)).all():
            raise UserError("the standard deviations hold a value that is not above 0; distances need a unit")
