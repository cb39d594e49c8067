"""Every mask against the table of the method, written out by hand. Rows: states, returns, actions, rewards."""

from itertools import combinations

import numpy as np
import pytest

from m3pc_ray.config import MaskConfig
from m3pc_ray.model import masks

T, NOW = 8, 3


def picture(mask: masks.Mask) -> list[str]:
    return ["".join("x" if visible else "." for visible in row) for row in mask]


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (masks.return_conditioned(T, NOW), ["xxxx....", "xxxxxxxx", "xxx.....", "........"]),
        (masks.forward_dynamics(T, NOW), ["xxxx....", "........", "xxxxxxxx", "........"]),
        (masks.reward_prediction(T, NOW), ["xxxxxxxx", "........", "xxxxxxxx", "........"]),
        (masks.inverse_dynamics(T, NOW), ["xxxxxxxx", "........", "xxx.....", "........"]),
        (masks.path_inpainting(T, NOW, [7]), ["xxxx...x", "........", "xxx.....", "........"]),
        (masks.path_inpainting(T, NOW, [5, 7]), ["xxxx.x.x", "........", "xxx.....", "........"]),
        (masks.goal(T, NOW, 7), ["...x...x", "........", "........", "........"]),
        (masks.goal(T, NOW, 7, history=True), ["xxxx...x", "........", "xxx.....", "........"]),
        (masks.behaviour_cloning(T, NOW), ["xxxx....", "........", "xxx.....", "........"]),
        (masks.return_conditioned(T, 0), ["x.......", "xxxxxxxx", "........", "........"]),
        (masks.forward_dynamics(T, 7), ["xxxxxxxx", "........", "xxxxxxxx", "........"]),
    ],
)
def test_masks_of_the_table(mask: masks.Mask, expected: list[str]) -> None:
    assert picture(mask) == expected


def test_random_mask_hides_everything_from_the_pivot_on() -> None:
    """With every position kept, only the pivot rule is left: modalities before the pivot's show one step more."""
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(300):
        mask = masks.random_mask(rng, T, visible_ratios=[1.0])
        lengths = mask.sum(axis=1)
        for row, length in zip(mask, lengths, strict=True):
            assert picture(row[None]) == ["x" * length + "." * (T - length)]
        shortest = lengths.min()
        pivot_modality = int((lengths == shortest + 1).sum())
        assert list(lengths) == [shortest + 1] * pivot_modality + [shortest] * (4 - pivot_modality)
        seen.add((int(shortest), pivot_modality))
    # Pivot step 0 with the states as pivot would show nothing and is drawn again.
    assert (0, 0) not in seen
    assert {step for step, _ in seen} == set(range(T))
    assert {modality for _, modality in seen} == {0, 1, 2, 3}


def test_random_mask_pivot_modalities_have_the_stated_shares() -> None:
    rng = np.random.default_rng(1)
    counts = np.zeros(4)
    for _ in range(4000):
        lengths = masks.random_mask(rng, T, visible_ratios=[1.0]).sum(axis=1)
        counts[(lengths == lengths.min() + 1).sum()] += 1
    # One in eight pivots falls on step 0; with the states as pivot that one is drawn again.
    expected = np.array(masks.PIVOT_WEIGHTS) * [7 / 8, 1, 1, 1]
    np.testing.assert_allclose(counts / counts.sum(), expected / expected.sum(), atol=0.03)


def test_random_mask_keeps_the_drawn_ratio_before_the_pivot() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        mask = masks.random_mask(rng, T, visible_ratios=[0.5])
        assert mask.any()
        assert (mask.sum(axis=1) <= 4).all()


def test_groups_get_the_asked_share_of_test_masks() -> None:
    config = MaskConfig(groups=3, test_mask_fraction=0.5)
    rng = np.random.default_rng(3)
    known = {
        masks.make_test_mask(name, T, t, goals, history).tobytes()
        for name in masks.TEST_MASKS
        for t in range(T)
        for goals in _sets_of_later_steps(t)
        for history in (False, True)
    }
    shares = []
    for _ in range(300):
        drawn = masks.draw_masks(rng, T, config)
        assert len(drawn) == 3
        # The last ones are test-time masks; one or two of three, by chance.
        assert drawn[-1].tobytes() in known
        shares.append(sum(mask.tobytes() in known for mask in drawn) / 3)
    assert 0.45 < np.mean(shares) < 0.62  # a few random masks look like one of the table's


def test_goals_of_training_are_later_steps_one_or_several() -> None:
    rng = np.random.default_rng(4)
    for t in range(T):
        drawn = [masks.draw_goals(rng, T, t) for _ in range(400)]
        possible = _sets_of_later_steps(t)
        assert all(goals in possible for goals in drawn)
        singles = np.mean([len(goals) == 1 for goals in drawn])
        assert singles >= 0.4  # half of the draws, and those in which chance left one of several
        if T - 1 - t >= 2:
            assert {len(goals) for goals in drawn} >= {1, 2}
            assert {step for goals in drawn for step in goals} == set(range(t + 1, T))


def _sets_of_later_steps(t: int) -> list[list[int]]:
    later = list(range(t + 1, T)) or [T - 1]
    return [list(chosen) for count in range(1, len(later) + 1) for chosen in combinations(later, count)]
