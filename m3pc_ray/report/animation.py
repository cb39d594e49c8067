"""Frames of a film written as a file people can open: GIF, WebP, MP4; and a strip of frames as one picture."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, features

from m3pc_ray.errors import UserError

Frame = npt.NDArray[np.uint8]
ENDINGS = (".gif", ".webp", ".mp4")
FASTEST = 50.0
"""Frames per second: a GIF's shortest pause that browsers show as it is asked for."""
_PALETTE_COLOURS = 255  # one of 256 is left for "as in the frame before"
_VISIBLY_OFF = 32  # of 255, in one channel
_FEW_PIXELS = 0.002  # of a frame


def frame_steps(
    steps: int, seconds_per_step: float, *, slow_motion: float = 1.0, most: float = 30.0
) -> tuple[npt.NDArray[np.int64], float]:
    """Which steps to draw, and how many frames to show per second, for a film that plays as fast as it happened.

    Args:
        steps: of the episode.
        seconds_per_step: simulated.
        slow_motion: how many seconds of film a simulated second takes.
        most: frames per second, at most; where there are more steps, every n-th is drawn, and the last one.

    Returns:
        (frames,) steps, rising; frames per second.

    Raises:
        UserError: a number that is not positive, or a film with fewer than one frame a minute.
    """
    for name, value in (("seconds per step", seconds_per_step), ("slow motion", slow_motion), ("frame rate", most)):
        if not (math.isfinite(value) and value > 0):
            raise UserError(f"{name} {value} of a video: a number above 0 is needed")
    shown = seconds_per_step * slow_motion
    every = max(1, math.ceil(1.0 / (most * shown) - 1e-9))
    indices = np.arange(0, steps, every, dtype=np.int64)
    if steps and indices[-1] != steps - 1:
        indices = np.append(indices, steps - 1)
    return indices, 1.0 / (every * shown)


def check_ending(path: str | Path) -> str:
    """The ending of a video's name, lower case; to be called before long work whose result goes there.

    Raises UserError for an unknown ending, or one that needs a package that is not installed.
    """
    ending = Path(path).suffix.lower()
    if ending not in ENDINGS:
        raise UserError(f"{path}: a video's name ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    if ending == ".mp4":
        try:
            import imageio_ffmpeg  # noqa: F401
        except ImportError as error:
            raise UserError(
                f"{path}: MP4 needs imageio-ffmpeg: pip install 'm3pc-ray[video]'; .gif and .webp need nothing"
            ) from error
    if ending == ".webp" and not features.check("webp"):
        raise UserError(f"{path}: this Pillow was built without WebP; name a .gif, or install Pillow from PyPI")
    return ending


def write_animation(frames: Iterable[Frame], path: str | Path, frames_per_second: float) -> int:
    """Write frames (height, width, 3) uint8 as a film that repeats; GIF, WebP or MP4 by the path's ending.

    Written beside and renamed, so that a film at `path` is whole. GIF and MP4 are written as frames come; WebP holds
    all of them in memory. MP4 repeats the last row or column of a frame with an odd side.

    Returns: the number of frames given.

    Raises:
        UserError: an unknown ending, a missing package, no frames, a frame rate out of range, or a file that cannot
            be written. ValueError: frames of different shapes.
    """
    ending = check_ending(path)
    if not 0.0 < frames_per_second <= FASTEST:
        raise UserError(f"{frames_per_second} frames per second: above 0 and up to {FASTEST:.0f} are needed")
    write: Callable[[Iterator[Frame], Path, float], None]
    write = {".gif": _write_gif, ".webp": _write_webp, ".mp4": _write_mp4}[ending]
    counted = _Counted(frames)
    with _renamed(path) as temporary:
        write(counted.checked(path), temporary, frames_per_second)
    return counted.number


def write_picture(picture: Frame, path: str | Path) -> None:
    """Write one frame (height, width, 3) uint8 as PNG. Raises UserError where it cannot be written."""
    with _renamed(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG", optimize=True)


def film_strip(frames: Iterable[Frame], columns: int, *, rows: int = 1, gap: int = 4) -> Frame:
    """Evenly spaced frames, the first and the last among them, side by side in one picture, row by row, on white.

    Args:
        frames: each (height, width, 3) uint8; all are held in memory.
        columns: of the picture; fewer where there are fewer frames.
        gap: white pixels between frames.

    Raises:
        UserError: no frames, or no columns or rows.
    """
    if columns < 1 or rows < 1:
        raise UserError(f"a film strip of {columns} columns and {rows} rows: at least 1 of each is needed")
    every = list(frames)
    if not every:
        raise UserError("a film strip needs at least one frame")
    count = min(columns * rows, len(every))
    chosen = [every[index] for index in np.linspace(0, len(every) - 1, count).round().astype(int)]
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    height, width = chosen[0].shape[:2]
    strip = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for index, frame in enumerate(chosen):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        strip[top : top + height, left : left + width] = frame
    return strip


class _Counted:
    """Frames checked and counted while they pass."""

    def __init__(self, frames: Iterable[Frame]) -> None:
        self.frames = frames
        self.number = 0

    def checked(self, path: str | Path) -> Iterator[Frame]:
        shape: tuple[int, ...] = ()
        for frame in self.frames:
            shape = shape or frame.shape
            if frame.shape != shape or frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
                raise ValueError(
                    f"frame {self.number} is {frame.dtype} {frame.shape}; uint8 {shape[:2]} + (3,) is needed"
                )
            self.number += 1
            yield frame
        if not self.number:
            raise UserError(f"{path}: no frames to write")


@contextlib.contextmanager
def _renamed(path: str | Path) -> Iterator[Path]:
    """A file beside `path` that becomes it when all went well, and is gone when not."""
    target = Path(path).expanduser()
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.partial{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _write_gif(frames: Iterator[Frame], path: Path, frames_per_second: float) -> None:
    pictures = _with_few_colours(frames, frames_per_second)
    first = next(pictures)
    first.save(path, format="GIF", save_all=True, append_images=pictures, loop=0, optimize=True)


def _with_few_colours(frames: Iterator[Frame], frames_per_second: float) -> Iterator[Image.Image]:
    """Pictures of 255 colours, each with its duration.

    One palette serves as long as it fits: unchanged pixels then stay unchanged, which is what makes a GIF small.
    Pauses are whole hundredths of a second, so they differ by one where needed for the film to last as long as it
    should.
    """
    palette: Image.Image | None = None
    shown = 0
    for index, frame in enumerate(frames):
        whole = Image.fromarray(frame)
        if palette is not None:
            reduced = whole.quantize(palette=palette, dither=Image.Dither.NONE)
        if palette is None or _colours_are_off(whole, reduced):
            palette = reduced = whole.quantize(_PALETTE_COLOURS, dither=Image.Dither.NONE)
        until = round(100 * (index + 1) / frames_per_second)
        reduced.info["duration"] = 10 * (until - shown)
        shown = until
        yield reduced


def _colours_are_off(whole: Image.Image, reduced: Image.Image) -> bool:
    """Whether more than a few pixels have visibly another colour."""
    off = np.asarray(ImageChops.difference(whole, reduced.convert("RGB"))).max(axis=2) > _VISIBLY_OFF
    return bool(off.mean() > _FEW_PIXELS)


def _write_webp(frames: Iterator[Frame], path: Path, frames_per_second: float) -> None:
    pictures = [Image.fromarray(frame) for frame in frames]
    duration = 1000.0 / frames_per_second  # milliseconds; Pillow sums them up before it rounds
    pictures[0].save(
        path, format="WEBP", save_all=True, append_images=pictures[1:], duration=duration, loop=0, quality=75, method=2
    )


def _write_mp4(frames: Iterator[Frame], path: Path, frames_per_second: float) -> None:
    import imageio_ffmpeg

    first = next(frames)
    height, width = first.shape[:2]
    padding = ((0, height % 2), (0, width % 2), (0, 0))  # H.264 halves the resolution of colours
    size = (width + width % 2, height + height % 2)
    try:
        writer = imageio_ffmpeg.write_frames(
            path, size, fps=frames_per_second, macro_block_size=2, output_params=["-movflags", "+faststart"]
        )
        writer.send(None)
    except RuntimeError as error:
        raise UserError(f"{path}: no ffmpeg program for MP4: pip install 'm3pc-ray[video]'; or name a .gif") from error
    with contextlib.closing(writer):
        writer.send(np.ascontiguousarray(np.pad(first, padding, mode="edge")))
        for frame in frames:
            writer.send(np.ascontiguousarray(np.pad(frame, padding, mode="edge")))
    if not path.is_file() or not path.stat().st_size:
        raise UserError(f"{path}: ffmpeg has written nothing; it says why above")
