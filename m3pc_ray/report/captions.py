"""A line of text on the frames of a film."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Frame = npt.NDArray[np.uint8]

TEXT = "#333333"
_SMALLEST_LETTERS = 6


def with_captions(frames: Iterable[Frame], captions: Sequence[str]) -> Iterator[Frame]:
    """Frames (height, width, 3) uint8 of the same size, each with its caption on a white bar added above it.

    Raises ValueError, when the last one is reached, where there are not as many captions as frames.
    """
    for frame, caption in zip(frames, captions, strict=True):
        height, width = frame.shape[:2]
        letters = letter_height(height)
        bar = Image.new("RGB", (width, 2 * letters), "white")
        draw_caption(ImageDraw.Draw(bar), caption, fitting_font(captions, letters, width), letters)
        yield np.concatenate([np.asarray(bar), frame])


def draw_caption(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont, letters: int) -> None:
    """Text in the middle of a bar twice as high as its letters, at the canvas's top."""
    draw.text((letters / 2, letters), text, font=font, fill=TEXT, anchor="lm")


def letter_height(height: int) -> int:
    """Pixels of a caption's letters on a frame of so many pixels."""
    return max(10, round(height * 0.045))


def fitting_font(texts: Sequence[str], letters: int, width: int) -> ImageFont.FreeTypeFont:
    """The font in which the longest text fits a bar `width` pixels wide; its letters are `letters` high or less.

    A text that would need letters smaller than can be read runs out of the bar.
    """
    return _fitting_font(max(texts, key=len, default=""), letters, width)


@functools.lru_cache(maxsize=16)
def _fitting_font(longest: str, letters: int, width: int) -> ImageFont.FreeTypeFont:
    needed = font_of(letters).getlength(longest)
    room = width - letters
    return font_of(letters if needed <= room else max(_SMALLEST_LETTERS, int(letters * room / needed)))


@functools.lru_cache(maxsize=16)
def font_of(pixels: int) -> ImageFont.FreeTypeFont:
    """The font of the figures, which comes with matplotlib."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), pixels)
