"""The roles of a run as actors: made with restarts, asked for accounts of themselves, given up in a crash loop.

Ray makes a dead actor again by itself, elsewhere if its node is gone, behind the same handle; every role's constructor
knows how to take up where its predecessor was. What is left to do here is to notice it, to count, and to stop a loop.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.exceptions import ActorDiedError, GetTimeoutError, RayActorError, RayTaskError

from actors.role import CONTROL, RoleAccount, root_cause
from m3pc_ray.errors import UserError
from m3pc_ray.online.watching.live import RoleStatus

START_SECONDS = 300.0
"""Longest start of all roles."""
STACKS_SECONDS = 10.0
"""How long a stuck role may take to say where it stands."""


@dataclass
class Member:
    """One role of the crew."""

    name: str
    kind: str
    handle: Any
    status: RoleStatus
    crashes: list[float] = field(default_factory=list)
    """The run's progress at every death, newest last."""

    @property
    def index(self) -> int:
        """Number among its kind."""
        return int(self.name.rpartition("-")[2]) if "-" in self.name else 0


class Crew:
    """Makes the roles and keeps account of them.

    Args:
        max_restarts: deaths of one role in a row without progress in between that are borne.
        options: of Ray's for an actor, by the role's name, such as its place in a placement group.
    """

    def __init__(self, max_restarts: int, options: Callable[[str], dict[str, Any]] = lambda _: {}) -> None:
        self.max_restarts, self._options = max_restarts, options
        self.namespace = f"m3pc-{uuid.uuid4().hex}"
        """Ray namespace of the roles' names; those of a killed driver may still be around under theirs."""
        self.members: dict[str, Member] = {}

    def hire(self, name: str, role: type, resources: dict[str, float], *arguments: Any, **options: Any) -> Any:
        """Make a role; returns its handle. `name` is its kind, numbered where there are several: `planner-0`."""
        groups = {CONTROL: 8, **options.pop("concurrency_groups", {})}
        remote = ray.remote(concurrency_groups=groups)(role)
        handle = remote.options(
            **resources,
            **self._options(name),
            name=name,
            namespace=self.namespace,
            max_restarts=-1,
            max_task_retries=0,
            **options,
        ).remote(*arguments)
        kind = name.partition("-")[0]
        status = RoleStatus(name, kind, handle._actor_id.hex(), 0, "", "starting", 0, 0)
        self.members[name] = Member(name, kind, handle, status)
        return handle

    def wait_until_ready(self, references: list[ray.ObjectRef], check: Callable[[], None], needs: object) -> list[Any]:
        """Answers of starting roles.

        Args:
            references: calls that are answered once the constructors are through.
            check: called meanwhile; may raise.
            needs: what the roles ask of the cluster, for the error.

        Raises:
            UserError: they do not start in time, or a constructor met a user's mistake.
        """
        ends = time.monotonic() + START_SECONDS
        while time.monotonic() < ends:
            check()
            try:
                answers: list[Any] = ray.get(references, timeout=1.0)
            except GetTimeoutError:
                continue
            except ActorDiedError as error:
                raise self.end_of(error) from error
            return answers
        raise UserError(
            f"the roles did not start within {START_SECONDS:.0f} s; they ask for {needs}, the cluster has free "
            f"{ray.available_resources()}: fewer --rollout-workers, or wait until it has room"
        )

    def note_account(self, name: str, account: RoleAccount) -> bool:
        """A role's account; returns whether it comes from a process that replaced another."""
        member = self.members[name]
        before = member.status
        replaced = before.pid != 0 and (before.pid, before.host) != (account.pid, account.host)
        member.status = replace(
            before,
            pid=account.pid,
            host=account.host,
            state="running",
            restarts=before.restarts + replaced,
            memory_bytes=account.memory_bytes,
            values=account.values,
        )
        return replaced

    def note_absence(self, name: str, error: BaseException, progress: float) -> bool:
        """A call of a role failed because its process is gone; returns whether that is news.

        Args:
            progress: any measure of the run's progress that never falls.

        Raises:
            UserError: the role is beyond help: its constructor fails, or it dies again and again and nothing moves.
        """
        member = self.members[name]
        if isinstance(root_cause(error), ActorDiedError):
            raise self.end_of(error)
        if member.status.state == "restarting":
            return False
        member.status = replace(member.status, state="restarting")
        if member.crashes and progress > member.crashes[-1]:
            member.crashes.clear()
        member.crashes.append(progress)
        if len(member.crashes) > self.max_restarts:
            raise UserError(
                f"{name} died {len(member.crashes)} times in a row without any progress of the run in between "
                f"({_reason(error)}); collected steps and the last checkpoint are safe"
            )
        return True

    def name_of(self, error: BaseException) -> str:
        """The role an error of Ray is about."""
        cause = root_cause(error)
        actor_id = getattr(cause, "actor_id", None) or ""
        return next((m.name for m in self.members.values() if m.status.actor_id == actor_id), "a role")

    def end_of(self, error: BaseException) -> UserError:
        """One line on a role that will not come back."""
        # A constructor failed; Ray keeps only the text of the reason.
        mistakes = [line for line in str(error).splitlines() if "UserError: " in line]
        if mistakes:
            return UserError(mistakes[-1].partition("UserError: ")[2])
        return UserError(
            f"{self.name_of(error)} died for good ({_reason(error)}); collected steps and the last checkpoint are safe"
        )

    def roster(self) -> list[RoleStatus]:
        """How every role stands."""
        return [member.status for member in self.members.values()]

    def stacks(self) -> str:
        """Where every thread of every role stands, for a run that is stuck."""
        asked = {name: member.handle.stacks.remote() for name, member in self.members.items()}
        parts = []
        for name, reference in asked.items():
            try:
                said = ray.get(reference, timeout=STACKS_SECONDS)
            except (GetTimeoutError, RayActorError, RayTaskError) as error:
                said = f"no answer: {_reason(error)}"
            parts.append(f"--- {name}: {self.members[name].status.state}\n{said}")
        return "\n".join(parts)

    def dismiss(self) -> None:
        """Remove every role from the cluster."""
        for member in self.members.values():
            ray.kill(member.handle)


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(root_cause(error)).strip().splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
