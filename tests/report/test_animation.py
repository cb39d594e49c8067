import importlib.util
import sys

import numpy as np
import pytest
from PIL import Image, features

from m3pc_ray.errors import UserError
from m3pc_ray.report.animation import check_ending, film_strip, frame_steps, write_animation, write_picture


def film(count, height=48, width=64):
    """A square that moves over a plain ground; every frame differs from the one before."""
    for index in range(count):
        frame = np.full((height, width, 3), 240, dtype=np.uint8)
        frame[10:30, 2 * index : 2 * index + 12] = (60, 110, 170)
        yield frame


def read(path):
    """(frames, height, width, 3), and milliseconds of each."""
    with Image.open(path) as picture:
        shown, durations = [], []
        for index in range(picture.n_frames):
            picture.seek(index)
            shown.append(np.asarray(picture.convert("RGB")))
            durations.append(picture.info["duration"])
    return np.array(shown), durations


needs_webp = pytest.mark.skipif(not features.check("webp"), reason="this Pillow has no WebP")


@pytest.mark.parametrize("ending", ["gif", pytest.param("webp", marks=needs_webp)])
@pytest.mark.parametrize("rate", [20.0, 30.0, 12.5])
def test_a_film_has_its_frames_and_lasts_as_long_as_it_should(tmp_path, ending, rate):
    path = tmp_path / "deep" / f"film.{ending}"
    assert write_animation(film(17), path, rate) == 17
    shown, durations = read(path)
    assert shown.shape == (17, 48, 64, 3)
    assert sum(durations) == pytest.approx(17_000 / rate, abs=5.1)
    off = np.abs(shown.astype(int) - np.array(list(film(17))).astype(int))
    assert off.mean() < 4  # WebP's loss
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_gif_keeps_colours_that_come_late(tmp_path):
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)]
    frames = [np.full((20, 20, 3), colour, dtype=np.uint8) for colour in colours]
    write_animation(iter(frames), tmp_path / "film.gif", 10.0)
    np.testing.assert_allclose(read(tmp_path / "film.gif")[0].astype(int), np.array(frames).astype(int), atol=4)


def test_an_unchanged_frame_lengthens_the_one_before(tmp_path):
    frames = [*film(2), *film(1)]
    write_animation([frames[0], frames[0], frames[1]], tmp_path / "film.gif", 10.0)
    assert read(tmp_path / "film.gif")[1] == [200, 100]


def test_frames_are_taken_one_by_one(tmp_path):
    """A GIF needs no second look at the film, so it takes what can be read only once."""
    seen = []

    def watched():
        for frame in film(3):
            seen.append(frame)
            yield frame

    write_animation(watched(), tmp_path / "film.gif", 10.0)
    assert len(seen) == 3


@pytest.mark.skipif(importlib.util.find_spec("imageio_ffmpeg") is None, reason="needs the extra `video`")
def test_mp4_has_its_frames_also_with_odd_sides(tmp_path):
    import imageio_ffmpeg

    path = tmp_path / "film.mp4"
    assert write_animation(film(15, height=65, width=81), path, 12.5) == 15
    reader = imageio_ffmpeg.read_frames(str(path))
    about = next(reader)
    frames = [np.frombuffer(content, np.uint8).reshape(66, 82, 3) for content in reader]
    assert about["fps"] == pytest.approx(12.5)
    assert len(frames) == 15
    expected = list(film(15, height=65, width=81))[14]
    assert np.abs(frames[14][:65, :81].astype(int) - expected).mean() < 12
    assert list(tmp_path.iterdir()) == [path]


def test_mp4_without_its_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UserError, match=r"pip install 'm3pc-ray\[video\]'"):
        write_animation(film(2), tmp_path / "film.mp4", 10.0)
    assert list(tmp_path.iterdir()) == []


def test_endings():
    assert check_ending("A.GIF") == ".gif"
    with pytest.raises(UserError, match=r"film.avi: a video's name ends in .gif, .webp or .mp4"):
        check_ending("film.avi")
    with pytest.raises(UserError, match="a video's name ends in"):
        write_animation(film(1), "film", 10.0)


def test_a_film_that_fails_leaves_the_old_one(tmp_path):
    path = tmp_path / "film.gif"
    write_animation(film(3), path, 10.0)
    before = path.read_bytes()

    def failing():
        yield from film(2)
        raise UserError("rendering stopped")

    with pytest.raises(UserError, match="rendering stopped"):
        write_animation(failing(), path, 10.0)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_said(tmp_path):
    with pytest.raises(UserError, match="no frames"):
        write_animation([], tmp_path / "film.gif", 10.0)
    for rate in (0.0, 51.0, float("nan")):
        with pytest.raises(UserError, match="frames per second"):
            write_animation(film(2), tmp_path / "film.gif", rate)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_animation(film(2), tmp_path / "file" / "film.gif", 10.0)
    with pytest.raises(ValueError, match="frame 1 is"):
        write_animation([*film(1), *film(1, height=50)], tmp_path / "film.gif", 10.0)


@pytest.mark.parametrize(
    ("seconds", "slow_motion", "every", "rate"),
    [(0.008, 1.0, 5, 25.0), (0.05, 1.0, 1, 20.0), (0.008, 4.0, 2, 15.625), (1 / 30, 1.0, 1, 30.0), (1.0, 0.1, 1, 10.0)],
)
def test_a_film_plays_as_fast_as_it_happened(seconds, slow_motion, every, rate):
    steps, frames_per_second = frame_steps(101, seconds, slow_motion=slow_motion)
    assert steps.tolist() == sorted({*range(0, 101, every), 100})
    assert frames_per_second == pytest.approx(rate)
    # so many frames at that rate last as long as the steps they stand for
    assert every * seconds * slow_motion == pytest.approx(1 / frames_per_second)


def test_the_last_step_is_always_shown():
    assert frame_steps(8, 0.008)[0].tolist() == [0, 5, 7]
    assert frame_steps(1, 0.008)[0].tolist() == [0]
    assert frame_steps(0, 0.008)[0].tolist() == []
    with pytest.raises(UserError, match="slow motion 0"):
        frame_steps(8, 0.008, slow_motion=0)


def test_a_strip_shows_frames_evenly(tmp_path):
    frames = [np.full((6, 8, 3), value, dtype=np.uint8) for value in range(0, 100, 10)]
    strip = film_strip(iter(frames), 4, gap=2)
    assert strip.shape == (6, 4 * 8 + 3 * 2, 3)
    assert [int(strip[0, left, 0]) for left in (0, 10, 20, 30)] == [0, 30, 60, 90]
    assert (strip[:, 8:10] == 255).all()
    assert film_strip(frames, 3, rows=2, gap=0).shape == (12, 24, 3)
    assert film_strip(frames[:2], 4, gap=0).shape == (6, 16, 3)
    write_picture(strip, tmp_path / "strip.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "strip.png")), strip)
    with pytest.raises(UserError, match="at least one frame"):
        film_strip([], 3)
    with pytest.raises(UserError, match="0 columns"):
        film_strip(frames, 0)
