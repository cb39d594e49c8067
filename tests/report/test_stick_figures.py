import numpy as np
import pytest

from m3pc_ray.errors import UserError
from m3pc_ray.report.captions import with_captions
from m3pc_ray.report.stick_figures import draw_stick_figures

# A trunk from 1 to 2 m and a leg down to the ground.
TRUNK, LEG = [[0.0, 1.0], [0.0, 2.0]], [[0.0, 1.0], [0.0, 0.1]]
RADII = [0.1, 0.08]


def frames(ends, **keywords):
    settings = {"width": 160, "height": 120, **keywords}
    return list(draw_stick_figures(np.array(ends, dtype=float), RADII, **settings))


def test_frames_differ_where_the_pose_does():
    bent = [TRUNK, [[0.0, 1.0], [0.6, 0.4]]]
    first, second, third = frames([[TRUNK, LEG], [TRUNK, LEG], bent])
    assert first.shape == (120, 160, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, second)
    assert (first != third).any(axis=2).sum() > 30


def test_ink_is_where_the_capsules_are():
    """The leg's end alone moves, on a circle: the ink that comes is where that end is, found by the view's geometry."""
    angles = np.linspace(-1.2, 1.2, 5)
    ends = [[TRUNK, [[0.0, 1.0], [0.9 * np.sin(angle), 1.0 - 0.9 * np.cos(angle)]]] for angle in angles]
    pictures = frames(ends, limbs=[0, 1])
    blue = [np.argwhere((frame[..., 2] > 150) & (frame[..., 0] < 100)) for frame in pictures]
    sides = [np.sign(pixels[:, 1].mean() - 79.5) for pixels in blue]
    assert sides[0] == sides[1] == -1
    assert sides[3] == sides[4] == 1
    # Rows of ink: from the leg's end (lowest) to the hip, one scale for all frames.
    reach = [np.ptp(pixels[:, 0]) for pixels in blue]
    assert reach[2] > reach[1] > reach[0]
    expected = (0.9 + 2 * 0.08) / (0.9 * np.cos(1.2) + 2 * 0.08)
    # the hip's end of the leg is the same disc in all; 2 pixels of tolerance for antialiasing
    assert reach[2] / reach[0] == pytest.approx(expected, rel=2.5 / reach[0])


def test_limbs_differ_in_colour():
    (one,) = frames([[TRUNK, LEG]], limbs=[0, 1])
    (other,) = frames([[TRUNK, LEG]], limbs=[0, 2])
    changed = np.argwhere((one != other).any(axis=2))
    assert len(changed) > 30
    assert changed[:, 0].min() > 40  # the trunk, above, is the same


def test_the_view_follows_and_the_ground_moves():
    still, moved = frames([[TRUNK, LEG], (np.array([TRUNK, LEG]) + [0.37, 0.0]).tolist()])
    np.testing.assert_array_equal(still[30:90, 76:84], moved[30:90, 76:84])  # the body
    assert (still[100:] != moved[100:]).any()  # marks on the ground


def test_the_wanted_figure_is_behind_and_left_out_where_free():
    wanted = np.array([[TRUNK, [[0.0, 1.0], [0.8, 0.6]]]] * 3)
    wanted[1, 1] = np.nan
    wanted[2] = [TRUNK, LEG]
    first, second, third = frames([[TRUNK, LEG]] * 3, wanted=wanted)
    assert (first != second).any(axis=2).sum() > 30
    # Reached exactly: it is seen as a thin edge at most.
    difference = np.abs(third.astype(int) - second.astype(int)).max(axis=2) > 40
    assert difference.sum() < 0.05 * difference.size


def test_a_wanted_figure_of_nan_changes_nothing():
    plain = frames([[TRUNK, LEG]])
    np.testing.assert_array_equal(plain, frames([[TRUNK, LEG]], wanted=np.full((1, 2, 2, 2), np.nan)))


def test_every_figure_is_seen_whole():
    """Nothing is drawn into the outermost pixels, wherever the limbs go."""
    rng = np.random.default_rng()
    ends = rng.uniform(-5, 5, (6, 2, 2, 2))
    for ground in (0.0, None, -2.0):
        for frame in frames(ends, ground=ground, wanted=rng.uniform(-5, 5, ends.shape)):
            values = frame.astype(int)
            ink = (values.sum(axis=2) < 330) | (
                np.ptp(values, axis=2) > 60
            )  # bodies; marks and lines are pale and grey
            assert ink.any()
            assert not np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]]).any()


def test_a_caption_is_written_and_fits():
    (without,) = frames([[TRUNK, LEG]])
    short, long = frames([[TRUNK, LEG]] * 2, captions=["a", "wanted angle 0.42 rad, reached " * 2])
    assert (short != without).any()
    bar = long[:20].astype(int).sum(axis=2) < 500
    assert bar.any()
    assert not bar[:, -3:].any()
    assert bar.sum() > (short[:20].astype(int).sum(axis=2) < 500).sum()


def test_captions_on_other_frames():
    given = [np.full((90, 120, 3), 7, np.uint8)] * 2
    captioned = list(with_captions(given, ["one", "another"]))
    assert captioned[0].shape == (110, 120, 3)
    np.testing.assert_array_equal(captioned[0][20:], given[0])
    assert (captioned[0] != captioned[1]).any()
    with pytest.raises(ValueError):
        list(with_captions(given, ["one"]))


def test_a_point_is_drawn_and_no_steps_give_no_frames():
    points = np.zeros((1, 1, 2, 2))
    (frame,) = draw_stick_figures(points, [0.1], ground=None, width=64, height=64)
    assert frame[32, 32].tolist() != frame[0, 10].tolist()
    assert list(draw_stick_figures(np.empty((0, 1, 2, 2)), [0.1])) == []


def test_what_does_not_fit_is_said():
    with pytest.raises(UserError, match="height 20 of a video"):
        frames([[TRUNK, LEG]], height=20)
    with pytest.raises(ValueError, match="not finite"):
        frames([[TRUNK, [[0.0, np.nan], [0.0, 0.0]]]])
    with pytest.raises(ValueError, match="2 captions for 1 steps"):
        frames([[TRUNK, LEG]], captions=["a", "b"])
    with pytest.raises(ValueError, match="wanted has shape"):
        frames([[TRUNK, LEG]], wanted=np.zeros((2, 2, 2, 2)))
    with pytest.raises(ValueError, match="limb numbers"):
        frames([[TRUNK, LEG]], limbs=[0])
