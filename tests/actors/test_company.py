"""For whom a planner's batch waits."""

from actors.company import Company


def settled(turnaround: float = 0.001, workers: int = 2) -> Company:
    """Every worker has asked often, `turnaround` after its answers; the last answers came at 10.0."""
    company = Company(workers)
    for worker in range(workers):
        for time in range(11):
            company.note_request(worker, time - 1.0 + turnaround)
            company.note_answer(worker, float(time))
    return company


def test_everyone_is_waited_for_until_all_have_asked_once():
    company = Company(2)
    company.note_request(0, 1.0)
    assert company.is_coming({0}, 1.0, 0.002)
    company.note_request(1, 1.0)
    assert not company.is_coming({0, 1}, 1.0, 0.002)


def test_a_worker_that_comes_soon_is_waited_for_and_one_that_comes_late_is_not():
    assert settled(0.001).is_coming({0}, 10.0, 0.002)
    assert not settled(0.005).is_coming({0}, 10.0, 0.002)
    assert settled(0.005).is_coming({0}, 10.004, 0.002)


def test_who_asks_is_there_already():
    company = settled(0.001)
    company.note_request(1, 10.0005)
    assert not company.is_coming({0, 1}, 10.0005, 0.002)
    assert not company.is_coming({0}, 10.0005, 0.002)  # its other request is with the planner, it has no answer


def test_nobody_waits_for_a_worker_that_is_long_overdue():
    assert settled(0.001).is_coming({0}, 10.0025, 0.002)
    assert not settled(0.001).is_coming({0}, 10.5, 0.002)


def test_one_late_request_changes_nothing():
    company = settled(0.001)
    company.note_request(1, 12.0)
    company.note_answer(1, 12.1)
    assert company.is_coming({0}, 12.1, 0.002)
