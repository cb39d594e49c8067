"""The driver's eye on its run: accounts of all roles, live.json, metrics of the planners and workers, the watchdog."""

from __future__ import annotations

import time
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from actors.crew import Crew
from actors.ray_metrics import RayMetrics
from actors.role import RoleAccount
from actors.rollout_worker import LeaseReport
from m3pc_ray.errors import UserError
from m3pc_ray.online.progress import OnlineProgress
from m3pc_ray.training.run_folder import RunFolder

ACCOUNT_SECONDS = 2.0
"""Between two questions to a role, and two writings of live.json."""
CHECKPOINT_SECONDS = 60.0
"""How long the learner of a run that is stuck may take over a last checkpoint."""


class Monitor:
    """Watches and writes; the driver's loop calls `look` in every turn.

    Args:
        run: its folder.
        progress: receives the metrics.
        crew: the roles.
    """

    def __init__(self, run: RunFolder, progress: OnlineProgress, crew: Crew) -> None:
        self.run, self.progress, self.crew = run, progress, crew
        self.state = "starting"
        self._patience = 60.0 * progress.config.online.watchdog_minutes
        self._gauges = RayMetrics(run.path.name)
        self._asked: dict[str, float] = {}
        self._unanswered: set[str] = set()
        self._written = 0.0
        self._furthest = 0.0
        self._updates: dict[str, int] = {}
        self._updates_lost = 0
        self._signature: tuple[Any, ...] = ()
        self._moved = time.monotonic()
        self._shares: dict[int, tuple[float, float]] = {}

    def questions(self) -> list[tuple[str, ray.ObjectRef]]:
        """Calls for the accounts that are due, by role."""
        now = time.monotonic()
        due = [
            name
            for name in self.crew.members
            if name not in self._unanswered and now - self._asked.get(name, 0.0) > ACCOUNT_SECONDS
        ]
        for name in due:
            self._asked[name] = now
            self._unanswered.add(name)
        return [(name, self.crew.members[name].handle.account.remote()) for name in due]

    def note(self, name: str, account: RoleAccount) -> bool:
        """A role's account; returns whether its process is another than before."""
        self._unanswered.discard(name)
        replaced = self.crew.note_account(name, account)
        self.progress.values |= self._role_metrics()
        if replaced:
            self._say(f"{name} is back (process {account.pid} on {account.host})")
        return replaced

    def note_unanswered(self, name: str) -> None:
        """A question for an account failed with its role."""
        self._unanswered.discard(name)

    def note_absence(self, name: str, error: BaseException) -> None:
        """A call failed because this role's process is gone. Raises UserError in a crash loop."""
        if self.crew.note_absence(name, error, self._furthest):
            self._say(f"{name} died; it is started again")

    def note_lease(self, report: LeaseReport) -> None:
        """How a worker spent the time of its last lease."""
        seconds = max(report.seconds, 1e-9)
        self._shares[report.worker] = (report.planning_seconds / seconds, report.simulation_seconds / seconds)
        for number, name in enumerate(("planning_share", "simulation_share")):
            shares = [share[number] for share in self._shares.values()]
            self.progress.values[name] = sum(shares) / len(shares)

    def look(self, status: dict[str, Any]) -> None:
        """Write live.json and the roles' metrics when it is time; end a run in which nothing moves.

        Raises:
            UserError: there was no progress for `online.watchdog_minutes`.
        """
        now = time.monotonic()
        if now - self._written < ACCOUNT_SECONDS:
            return
        self._furthest = max(self._furthest, status["steps"] + sum(status["updates"].values()))
        self._note_updates(status["updates"])
        self.write()
        evaluator = self.crew.members["evaluator"].status.values.get("steps", 0.0)
        signature = (status["steps"], *status["updates"].values(), status["fragments"], evaluator)
        if signature != self._signature:
            self._signature, self._moved = signature, now
        elif self._patience and now - self._moved > self._patience:
            self._give_up()

    def write(self) -> None:
        """Replace live.json, and the same numbers for Prometheus."""
        self._written = time.monotonic()
        roster = self.crew.roster()
        recovering = self.state == "running" and any(role.state == "restarting" for role in roster)
        status = self.progress.live("recovering" if recovering else self.state, roster, _address())
        self._gauges.set(status)

    def _note_updates(self, updates: dict[str, int]) -> None:
        lost = {kind: before - updates[kind] for kind, before in self._updates.items() if updates[kind] < before}
        self._updates = dict(updates)
        if lost:
            self._updates_lost += lost.get("btm", 0)
            counts = " and ".join(f"{count} {'model' if kind == 'btm' else kind}" for kind, count in lost.items())
            self._say(f"the learner went on from its snapshot; {counts} updates are done again")
        self.progress.values["updates_lost"] = float(self._updates_lost)

    def end(self, state: str) -> None:
        """The last word: interrupted, finished or failed."""
        self.state = state
        status = self.progress.last_live(state, self.crew.roster(), _address())
        if status is not None:
            self._gauges.set(status)

    def _role_metrics(self) -> dict[str, float]:
        """Of the stream `online`: planners' means weighted by what they decide, memory by kind, restarts."""
        roster = self.crew.roster()
        metrics = {"restarts": float(sum(role.restarts for role in roster))}
        for kind in dict.fromkeys(role.kind for role in roster):
            metrics[f"memory_{kind}_mb"] = sum(r.memory_bytes for r in roster if r.kind == kind) / 2**20
        planners = [role.values for role in roster if role.kind == "planner" and "decisions_per_second" in role.values]
        rate = sum(values["decisions_per_second"] for values in planners)
        metrics["planner_decisions_per_second"] = rate
        if planners:
            metrics["weight_version"] = min(values["weight_version"] for values in planners)
            metrics["planner_busy"] = sum(values["busy"] for values in planners) / len(planners)
        if rate > 0:
            for name in ("batch_mean", "batch_fill", "batch_ms", "wait_ms"):
                total = sum(values[name] * values["decisions_per_second"] for values in planners)
                metrics[f"planner_{name}"] = total / rate
        return metrics

    def _give_up(self) -> None:
        """Show where everyone stands, save what can be saved, end the run."""
        minutes = self._patience / 60.0
        report = self.crew.stacks()
        path = self.run.path / "stuck.txt"
        path.write_text(report, encoding="utf-8")
        for role in self.crew.roster():
            self._say(f"{role.name}: {role.state}, process {role.pid} on {role.host}, {role.values}")
        try:
            ray.get(self.crew.members["learner"].handle.checkpoint.remote(), timeout=CHECKPOINT_SECONDS)
            saved = "a checkpoint was written"
        except (GetTimeoutError, RayError) as error:
            saved = f"no checkpoint could be written ({type(error).__name__}), the last one is good"
        raise UserError(
            f"{self.run.path}: no step, update or evaluation for {minutes:g} minutes (online.watchdog_minutes); where "
            f"every role stands is in {path}; {saved}: m3pc resume {self.run.path}"
        )

    def _say(self, text: str) -> None:
        self.progress.console.print(text, highlight=False, soft_wrap=True)


def _address() -> str:
    return str(ray.get_runtime_context().gcs_address)
