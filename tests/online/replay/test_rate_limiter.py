import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3pc_ray.online.replay.rate_limiter import RateLimiter
from m3pc_ray.online.tickets import StepTickets

RATIOS = {"btm": 0.2, "critic": 2.0}


def limiter(total: int = 100, start: int = 10, tolerance: int = 5, **ratios: float) -> RateLimiter:
    return RateLimiter(total, ratios or RATIOS, start, tolerance)


def test_no_update_before_the_start_steps_then_all_that_are_owed():
    it = limiter()
    it.record_steps(9)
    assert it.owed_updates() == {"btm": 0, "critic": 0}
    assert it.permitted_updates() == {"btm": 0, "critic": 0}
    it.record_steps(1)
    assert it.owed_updates() == {"btm": 2, "critic": 20}
    assert it.permitted_updates() == {"btm": 3, "critic": 30}  # five steps ahead


def test_steps_wait_for_the_slower_kind_of_update():
    it = limiter()
    assert it.step_limit() == 10  # nothing is done: the start steps, and no more
    it.record_steps(10)
    it.record_updates({"btm": 2, "critic": 20})
    assert it.step_limit() == 16  # 21 critic updates are due at step 10.5; five steps of tolerance
    it.record_updates({"btm": 0, "critic": 20})
    assert it.step_limit() == 10  # no model update is promised for up to 2 steps, 2 + 1 + 5 < 10


def test_a_run_shorter_than_its_start_steps_still_gets_its_updates():
    it = limiter(total=7, start=1000)
    assert it.step_limit() == 7
    it.record_steps(7)
    assert it.permitted_updates() == {"btm": 1, "critic": 14}


def test_a_kind_without_updates_holds_nothing_back():
    it = limiter(btm=0.0, critic=1.0)
    it.record_steps(100)
    assert it.owed_updates() == {"btm": 0, "critic": 100}
    it.record_updates({"critic": 100})
    assert it.finished


def test_more_than_promised_is_an_error():
    it = limiter()
    with pytest.raises(ValueError, match="exceed"):
        it.record_steps(101)
    with pytest.raises(ValueError, match="exceed"):
        it.record_updates({"critic": 201})


def test_waiting_fractions():
    now = [0.0]
    it = RateLimiter(100, RATIOS, 10, 5, clock=lambda: now[0])
    it.permitted_updates()  # the learner waits for the start steps ...
    now[0] = 6.0
    it.record_steps(10)
    it.permitted_updates()  # ... until here
    it.note_step_wait(True)
    now[0] = 8.0
    it.note_step_wait(False)
    now[0] = 10.0
    assert it.waiting_fractions() == pytest.approx({"updates": 0.6, "steps": 0.2})


def test_times_are_taken_at_once():
    """A clock that moves whenever it is looked at: what was waited is never more than all the time there was."""
    ticks = iter(range(1000))
    it = RateLimiter(100, RATIOS, 10, 5, clock=lambda: float(next(ticks)))
    it.permitted_updates()
    it.load(it.save())
    assert it.waiting_fractions()["updates"] <= 1.0


@given(
    total=st.integers(1, 400),
    start=st.integers(0, 500),
    tolerance=st.integers(1, 50),
    btm=st.sampled_from([0.0, 0.05, 0.2, 1 / 3, 1.0, 2.5]),
    critic=st.sampled_from([0.0, 0.7, 2.0]),
    choices=st.randoms(use_true_random=False),
)
def test_any_order_of_work_ends_exactly_and_stays_within_the_tolerance(total, start, tolerance, btm, critic, choices):
    """Whoever may do something does a random part of it; nobody ever waits for ever."""
    it = limiter(total, start, tolerance, btm=btm, critic=critic)
    while not it.finished:
        room, permitted = it.step_limit() - it.steps, it.permitted_updates()
        assert room > 0 or any(permitted.values()), "deadlock"
        if room > 0 and (choices.random() < 0.5 or not any(permitted.values())):
            it.record_steps(choices.randint(1, room))
        else:
            for kind, most in permitted.items():
                it.record_updates({kind: it.updates[kind] + choices.randint(0, most)})
        for kind, ratio in (("btm", btm), ("critic", critic)):
            ahead = it.updates[kind] - ratio * it.steps
            assert ahead <= ratio * tolerance + 0.5 + 1e-6
            if it.steps > it.start_steps:
                assert -ahead <= ratio * (tolerance + 1) + 0.5 + 1e-6
    assert it.steps == total
    assert it.updates == {"btm": round(btm * total), "critic": round(critic * total)}


def test_tickets_are_exact():
    tickets = StepTickets(10, taken=3)
    first, second = tickets.lease(4), tickets.lease(100)
    assert first is not None
    assert second is not None
    assert (first.steps, second.steps) == (4, 3)
    assert tickets.lease(1) is None
    tickets.settle(first, 1)  # its worker died after one step: three return
    assert (tickets.taken, tickets.outstanding, tickets.free) == (4, 3, 3)
    with pytest.raises(KeyError):
        tickets.settle(first, 1)
    with pytest.raises(ValueError, match="settled with 4"):
        tickets.settle(second, 4)
    tickets.settle(second, 3)
    third = tickets.lease(3)
    assert third is not None
    tickets.settle(third, 3)
    assert tickets.finished
