"""When a role that dies again and again ends the run."""

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError

from actors.crew import Crew, Member
from actors.role import RoleAccount, persistently
from m3pc_ray.errors import UserError
from m3pc_ray.online.watching.live import RoleStatus

ACTOR = "0" * 32


def crew(max_restarts: int) -> Crew:
    it = Crew(max_restarts)
    it.members["learner"] = Member(
        "learner", "learner", None, RoleStatus("learner", "learner", ACTOR, 7, "here", "running", 0, 0)
    )
    return it


def die(it: Crew, progress: float) -> bool:
    return it.note_absence("learner", ActorUnavailableError("killed", bytes.fromhex(ACTOR)), progress)


def test_a_role_that_dies_without_progress_is_given_up():
    it = crew(max_restarts=2)
    for pid in (8, 9):
        assert die(it, 100.0)
        assert not die(it, 100.0)  # further calls that failed with the same process
        assert it.note_account("learner", RoleAccount(pid, "here", 1, {}))
    with pytest.raises(UserError, match=r"learner died 3 times in a row without any progress .*killed"):
        die(it, 100.0)


def test_progress_in_between_is_forgiven():
    it = crew(max_restarts=1)
    for pid in range(8, 20):
        assert die(it, float(pid))
        assert it.note_account("learner", RoleAccount(pid, "here", 1, {}))
    assert it.roster()[0].restarts == 12
    assert it.roster()[0].state == "running"


def test_the_same_process_is_no_restart():
    it = crew(max_restarts=0)
    assert not it.note_account("learner", RoleAccount(7, "here", 5, {"busy": 1.0}))
    assert (it.roster()[0].restarts, it.roster()[0].memory_bytes) == (0, 5)


def test_a_role_that_will_not_come_back_is_named():
    it = crew(max_restarts=5)
    with pytest.raises(UserError, match=r"died for good"):
        it.note_absence("learner", ActorDiedError(), 0.0)


def test_patience_with_a_role_that_stays_away_ends_in_one_clear_error():
    def ask():
        raise ActorUnavailableError("killed", bytes.fromhex(ACTOR))

    with pytest.raises(UserError, match=r"did not come back within 0 s .*last checkpoint are safe"):
        persistently(ask, patience=0.0)
