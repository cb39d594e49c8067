from hypothesis import given
from hypothesis import strategies as st

from m3pc_ray.online.replay.episode_register import EpisodeRegister, NumberSet
from m3pc_ray.online.replay.fragments import EpisodeKey


@given(st.permutations(range(30)), st.integers(0, 30))
def test_a_number_set_is_a_set(order, count):
    numbers = NumberSet()
    for number in order[:count]:
        numbers.add(number)
    chosen = set(order[:count])
    assert [number in numbers for number in range(-1, 32)] == [number in chosen for number in range(-1, 32)]
    assert numbers.num_runs == sum(number - 1 not in chosen for number in chosen)


def test_memory_follows_the_open_episodes_and_not_the_closed_ones():
    """Four environments; one is never given a step, so that its episode stays unseen below all the others."""
    register = EpisodeRegister()
    for episode in [0, 1, *range(3, 5000)]:  # episode 2 has not begun
        register.record(EpisodeKey(0, 0, episode), 5, closes=False)
        if episode >= 4:
            register.record(EpisodeKey(0, 0, episode - 1), 0, closes=True)
    (closed,) = register._closed.values()
    assert closed.num_runs == 1
    assert len(register.open_steps) == 3
    assert register.next_step(EpisodeKey(0, 0, 2)) == 0
    assert register.next_step(EpisodeKey(0, 0, 3000)) is None
    assert register.next_step(EpisodeKey(0, 0, 4999)) == 5
    assert register.worker_steps == {0: 4999 * 5}


def test_nothing_is_kept_of_earlier_incarnations():
    register = EpisodeRegister()
    for incarnation in range(100):
        register.record(EpisodeKey(7, incarnation, 0), 5, closes=False)
        register.record(EpisodeKey(7, incarnation, 1), 5, closes=True)
        orphans = register.retire(7)
        assert orphans == [EpisodeKey(7, incarnation, 0)]
        assert register.next_step(EpisodeKey(7, incarnation, 2)) is None
        register.record(orphans[0], 0, closes=True)
    assert register._closed == {}
    assert register.open_steps == {}
    assert register.newest_incarnations() == {7: 99}
    assert register.worker_steps == {7: 1000}
