"""What limits an online run, and which setting to change: rules over its live status.

    workers wait for permission to step ──────────────► the learner is the limit
    workers neither simulate nor plan ────────────────► sending to the replay (its disk) is the limit
    workers simulate longer than they wait for plans ─► simulation is the limit
    else: planner busy ───────────────────────────────► planning is the limit
          planner idle ───────────────────────────────► its batches are: too small, or waiting for company, or calls

Three things are wrong whatever the speed, and are told first: a role that keeps dying, memory that keeps growing,
actions chosen by old weights. A number that a run does not report leads to no finding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from m3pc_ray.config import OnlineConfig
from m3pc_ray.online.watching.live import LiveStatus, RoleStatus

REPEATED_RESTARTS = 3
"""Deaths of one role that are no longer chance, ..."""
SECONDS_A_RESTART = 600.0
"""... where they come more often than this: a run for days on machines that die loses a role now and then."""
MEMORY_SECONDS = 60.0
"""Least time over which growth of memory is judged: buffers of a new process fill within seconds."""
MEMORY_GROWTH = 0.1
"""Relative growth over that time, ..."""
MEMORY_BYTES = 100 * 2**20
"""... and absolute, that counts: allocators breathe by tens of megabytes."""
LARGE_WEIGHT_LAG = 400.0
"""Mean lag, in model updates. The paper learns after each episode, so its actions are up to 200 updates behind; twice
that is worse than no parallelism at all."""
LIMITER_WAIT = 0.15
"""Share of time waiting for the rate limiter that counts; less comes from leases ending at different moments."""
UNACCOUNTED = 0.25
"""Share of a worker's time outside simulation and planning that counts: bookkeeping takes a few per cent."""
SYNC_SHARE = 0.5
"""Share of the replay's time spent forcing its log to disk from which the disk, not the calls, is blamed."""
BUSY = 0.8
"""Share of time computing from which a role has no more to give: the rest goes into taking and giving answers."""
SMALL_BATCH = 0.4
"""Share of a replica's environments in a mean batch below which requests are not joined. Workers step two groups in
turn, so that a steady run shows about one half."""
CHEAP_WAIT = 0.25
"""Waiting time, in computing times of a batch, up to which more waiting for company costs little."""

_SETTING_OF_A_ROLE = {
    "rollout_worker": "environments_per_worker",
    "planner": "num_candidates",
    "learner": "btm_batch_size",
    "replay": "rollout_workers",
    "evaluator": "evaluation_episodes",
}
"""What makes a role need less memory, the usual reason why processes are killed again and again."""


@dataclass(frozen=True)
class Finding:
    """One thing that limits the run, or is wrong with it."""

    cause: str
    """Short name, for programs: `learner`, `simulation`, `planning`, ..."""
    sentence: str
    """What it is, from which numbers, and what to change, for people."""
    setting: str = ""
    """Dotted path of the setting to change, e.g. `online.num_candidates`; empty where no setting helps."""
    direction: Literal["raise", "lower", ""] = ""


def findings(history: Sequence[LiveStatus], online: OnlineConfig) -> list[Finding]:
    """What is wrong, most urgent first, and as the last entry what limits the run's speed.

    Args:
        history: statuses in the order they were written, at least one. The newest is judged; growth of memory needs
            a minute of them.
        online: the run's settings.
    """
    status = history[-1]
    wrong = [*_dying_roles(status, online), *_growing_memory(history, online), *_old_weights(status, online)]
    return [*wrong, _limit(status, online)]


def _limit(status: LiveStatus, online: OnlineConfig) -> Finding:
    """The bottleneck."""
    if status.state != "running":
        return Finding("state", f"The run is {status.state}: its speed says nothing now.")
    for rule in (_limiter, _workers):
        found = rule(status, online)
        if found is not None:
            return found
    return Finding("unknown", "Not enough is measured yet to say what limits the run.")


def _limiter(status: LiveStatus, online: OnlineConfig) -> Finding | None:
    """Rollouts that may not step because updates are owed."""
    rollouts, learner = _number(status, "waiting_steps"), _number(status, "waiting_updates")
    if not rollouts > LIMITER_WAIT:
        return None
    waits = f"rollouts wait for the rate limiter {rollouts:.0%} of the time"
    if learner > LIMITER_WAIT:
        text = f"Rollouts and learner wait for each other in turn ({rollouts:.0%} and {learner:.0%} of the time)"
        return _finding("tolerance", text, online, "rate_tolerance_steps", "raise")
    busy = _number(status, "learner_busy")
    if busy < BUSY:
        text = f"The learner is held up ({waits}, yet it computes only {busy:.0%}): checkpoints, or fragments come late"
        return _finding("learner_held_up", text, online, "rate_tolerance_steps", "raise")
    text = f"The learner limits the run: {waits}"
    more = "; on free cores raise online.threads, or take a smaller online.btm_batch_size"
    return _finding("learner", text, online, "btm_updates_per_step", "lower", more)


def _workers(status: LiveStatus, online: OnlineConfig) -> Finding | None:
    """Rollouts that may step: what they spend their time on."""
    simulation, planning = _number(status, "simulation_share"), _number(status, "planning_share")
    if math.isnan(simulation) or math.isnan(planning):
        return None
    rest = 1.0 - simulation - planning
    if rest > UNACCOUNTED and rest > max(simulation, planning):
        return _replay(status, online, rest)
    if simulation >= planning:
        text = f"Simulation limits the run: workers spend {simulation:.0%} of their time in it, {planning:.0%} on plans"
        return _finding("simulation", text, online, "rollout_workers", "raise", ", one a free core")
    return _planner(status, online, planning)


def _replay(status: LiveStatus, online: OnlineConfig, rest: float) -> Finding:
    sync = max((role.values.get("sync_share", 0.0) for role in status.roles if role.kind == "replay"), default=0.0)
    text = f"Workers spend {rest:.0%} of their time neither simulating nor planning: they wait until the replay has"
    if sync > SYNC_SHARE:
        text += f" forced their steps to disk ({sync:.0%} of its time)"
        return _finding("sync", text, online, "fragment_steps", "raise", ", or put the run on a faster disk")
    return _finding("replay", text + " taken their fragments", online, "fragment_steps", "raise")


def _planner(status: LiveStatus, online: OnlineConfig, planning: float) -> Finding | None:
    """Workers mostly wait for plans."""
    busy, rows = _number(status, "planner_busy"), _number(status, "planner_batch_mean")
    computing, waiting = _number(status, "planner_batch_ms"), _number(status, "planner_wait_ms")
    if any(map(math.isnan, (busy, rows, computing, waiting))):
        return None
    environments = environments_a_planner(status, online)
    batch = f"{rows:.1f} rows a batch of {environments:.0f} environments"
    if busy >= BUSY:
        text = f"Planning limits the run: workers wait for it {planning:.0%} of the time and it computes {busy:.0%}"
        if online.guide == "none":
            return Finding(
                "planning", f"{text}, {batch}. Only a faster device helps: without a guide a plan is cheapest."
            )
        more = "; a GPU has room for more online.environments_per_worker first"
        return _finding("planning", f"{text}, {batch}", online, "num_candidates", "lower", more)
    idle = f"workers wait for plans {planning:.0%} of the time, yet the planner computes only {busy:.0%}"
    if rows < SMALL_BATCH * environments and waiting < CHEAP_WAIT * computing:
        text = f"Planner batches are too small: {idle}, {batch}"
        return _finding("small_batches", text, online, "planner_batch_wait_ms", "raise")
    if online.planner_batch_wait_ms > 0 and waiting > max(0.5 * online.planner_batch_wait_ms, CHEAP_WAIT * computing):
        text = f"Planning requests wait {waiting:.1f} ms for company, computing takes {computing:.1f} ms: {idle}"
        return _finding("company", text, online, "planner_batch_wait_ms", "lower")
    text = f"Calls between workers and planner limit the run: {idle}"
    return _finding("calls", text, online, "environments_per_worker", "raise")


def _dying_roles(status: LiveStatus, online: OnlineConfig) -> Iterator[Finding]:
    for role in status.roles:
        if role.restarts >= REPEATED_RESTARTS and status.seconds < role.restarts * SECONDS_A_RESTART:
            text = (
                f"{role.name} keeps dying: {role.restarts} restarts in {status.seconds / 60:.0f} min. The driver's "
                "output has the cause; where it is memory"
            )
            yield _finding("restarts", text, online, _SETTING_OF_A_ROLE[role.kind], "lower", joint=", ")


def _growing_memory(history: Sequence[LiveStatus], online: OnlineConfig) -> Iterator[Finding]:
    """Roles whose memory grew in the first half of the time and in the second."""
    newest = history[-1]
    for role in newest.roles:
        seen = [
            (status.time, earlier.memory_bytes)
            for status in history
            for earlier in status.roles
            if (earlier.name, earlier.pid) == (role.name, role.pid) and earlier.memory_bytes > 0
        ]
        if len(seen) < 3 or seen[-1][0] - seen[0][0] < MEMORY_SECONDS:
            continue
        half = next(memory for time, memory in seen if time >= (seen[0][0] + seen[-1][0]) / 2)
        first, last, seconds = seen[0][1], seen[-1][1], seen[-1][0] - seen[0][0]
        # What only started up has grown in the first half alone.
        growth = min(half - first, last - half) * 2
        if growth > max(MEMORY_BYTES, MEMORY_GROWTH * first):
            yield _memory_finding(role, (last - first) / seconds, online)


def _memory_finding(role: RoleStatus, bytes_a_second: float, online: OnlineConfig) -> Finding:
    text = f"Memory of {role.name} grows by {60 * bytes_a_second / 2**20:.0f} MiB a minute, now {_gib(role)}"
    match role.kind:
        case "learner":
            text += ", until the replay is full"
            return _finding("memory", text, online, "replay_capacity", "lower")
        case "replay":
            text += ": the learner takes fragments more slowly than they come"
            return _finding("memory", text, online, "rate_tolerance_steps", "lower")
        case _:
            return Finding(
                "memory", f"{text}. No setting explains it: stop the run and `m3pc resume` before it is full."
            )


def _gib(role: RoleStatus) -> str:
    return f"{role.memory_bytes / 2**30:.1f} GiB"


def _old_weights(status: LiveStatus, online: OnlineConfig) -> Iterator[Finding]:
    """The part of the lag that is largest is the one to cut."""
    lag = _number(status, "weight_lag_mean")
    if not lag > LARGE_WEIGHT_LAG:
        return
    updates = online.btm_updates_per_step or online.critic_updates_per_step
    parts = {
        "publish_every": float(online.publish_every),
        # All environments go on together while one fills its fragment.
        "fragment_steps": updates * online.fragment_steps * online.rollout_workers * online.environments_per_worker,
        "rate_tolerance_steps": 2.0 * updates * online.rate_tolerance_steps,
    }
    text = f"Actions are chosen by old weights: {lag:.0f} updates behind the learner in the mean"
    yield _finding("weight_lag", text, online, max(parts, key=lambda name: parts[name]), "lower")


def environments_a_planner(status: LiveStatus, online: OnlineConfig) -> float:
    """Environments that one planner replica serves, of workers and replicas that run."""
    running = [role.kind for role in status.roles if role.state == "running"]
    workers = running.count("rollout_worker") or online.rollout_workers
    return workers * online.environments_per_worker / max(1, running.count("planner"))


def _number(status: LiveStatus, name: str) -> float:
    """A metric of the run; nan where it is not reported."""
    return status.metrics.get(name, math.nan)


def _finding(
    cause: str,
    text: str,
    online: OnlineConfig,
    setting: str,
    direction: Literal["raise", "lower"],
    more: str = "",
    joint: str = ". ",
) -> Finding:
    """`text`, then the advice with the setting's present value."""
    verb = direction.capitalize() if joint == ". " else direction
    sentence = f"{text}{joint}{verb} online.{setting} (now {getattr(online, setting):g}){more}."
    return Finding(cause, sentence, f"online.{setting}", direction)
