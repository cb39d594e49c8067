"""Stick figures drawn with Pillow: a film of a body that needs no OpenGL.

It takes plain arrays, as `m3pc_ray.environments.stick_figure.capsules` makes them: this folder knows no simulator.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from m3pc_ray.errors import UserError
from m3pc_ray.report.captions import draw_caption, fitting_font, font_of, letter_height

Frame = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float64]
Point = tuple[float, float]

_OVERSAMPLING = 4
"""Pixels drawn a pixel shown, each way: Pillow draws without antialiasing."""
_SMALLEST_SIDE, _LARGEST_SIDE = 64, 4096
_SKY, _EARTH, _EDGE, _GRID = "#fbfbf9", "#e9e6df", "#8a857b", "#efede8"
_TRUNK = "#44546a"
_LIMBS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")  # Paul Tol's bright scheme
_WANTED, _WANTED_EDGE = "#f3dfb0", "#c99a2e"
_MARGIN = 0.06  # of the frame, free on every side


def draw_stick_figures(
    ends: npt.ArrayLike,
    radii: npt.ArrayLike,
    *,
    limbs: Sequence[int] | None = None,
    ground: float | None = 0.0,
    captions: Sequence[str] | None = None,
    wanted: npt.ArrayLike | None = None,
    width: int = 480,
    height: int = 360,
) -> Iterator[Frame]:
    """Frames (height, width, 3) uint8, one a step; the view moves sideways with the first capsule, the trunk.

    Args:
        ends: (steps, capsules, 2 ends, 2 coordinates), metres: horizontal, then vertical.
        radii: (capsules,), metres.
        limbs: (capsules,) 0 for the trunk, 1, 2, ... for limbs, which differ in colour; limb 1 is nearest to the
            viewer. None: all trunk.
        ground: height of the ground line; None: there is none, and the view follows in both directions.
        captions: (steps,) one line of text each.
        wanted: (steps, capsules, 2, 2) of a second, pale figure behind the first; NaN leaves a capsule out.

    Raises:
        UserError: a frame too small or too large. ValueError: arrays that do not fit each other.
    """
    figure = np.asarray(ends, dtype=np.float64)
    thickness = np.asarray(radii, dtype=np.float64)
    if figure.ndim != 4 or figure.shape[2:] != (2, 2) or figure.shape[1] == 0:
        raise ValueError(f"ends have shape {figure.shape}; (steps, capsules, 2, 2) is needed")
    steps, count = figure.shape[:2]
    if not np.isfinite(figure).all():
        raise ValueError("ends hold values that are not finite")
    goal = None if wanted is None else np.asarray(wanted, dtype=np.float64)
    numbers = [0] * count if limbs is None else list(limbs)
    if thickness.shape != (count,) or len(numbers) != count:
        raise ValueError(f"{thickness.shape} radii and {len(numbers)} limb numbers for {count} capsules")
    if goal is not None and goal.shape != figure.shape:
        raise ValueError(f"wanted has shape {goal.shape}; {figure.shape} is needed")
    if captions is not None and len(captions) != steps:
        raise ValueError(f"{len(captions)} captions for {steps} steps")
    for side, pixels in (("width", width), ("height", height)):
        if not _SMALLEST_SIDE <= pixels <= _LARGEST_SIDE:
            raise UserError(f"{side} {pixels} of a video is out of range: {_SMALLEST_SIDE} to {_LARGEST_SIDE} pixels")
    return _frames(figure, thickness, numbers, ground, captions, goal, width, height)


def _frames(
    figure: FloatArray,
    radii: FloatArray,
    limbs: list[int],
    ground: float | None,
    captions: Sequence[str] | None,
    wanted: FloatArray | None,
    width: int,
    height: int,
) -> Iterator[Frame]:
    if not len(figure):
        return
    size = (width * _OVERSAMPLING, height * _OVERSAMPLING)
    trunk = figure[:, 0].mean(axis=1)  # (steps, 2)
    letters = letter_height(height) * _OVERSAMPLING
    top = 2 * letters if captions is not None else 0
    view = _View.of(figure, wanted, radii, trunk, ground, size, top, letters)
    heading = fitting_font(captions or (), letters, size[0])
    # Far limbs first, then the trunk, then the limb nearest to the viewer.
    order = sorted(range(len(limbs)), key=lambda capsule: (limbs[capsule] <= 1, limbs[capsule] == 1, -limbs[capsule]))
    colours = [_TRUNK if limb == 0 else _LIMBS[(limb - 1) % len(_LIMBS)] for limb in limbs]
    halo = 1.2 * _OVERSAMPLING
    for step, body in enumerate(figure):
        picture = Image.new("RGB", size, _SKY)
        draw = ImageDraw.Draw(picture)
        here = view.at(trunk[step])
        _draw_ground(draw, here, size, letters)
        if wanted is not None:
            shown = [capsule for capsule in order if np.isfinite(wanted[step, capsule]).all()]
            for edge, colour in ((halo, _WANTED_EDGE), (0.0, _WANTED)):
                for capsule in shown:
                    _draw_capsule(draw, here, wanted[step, capsule], radii[capsule], colour, edge)
        for capsule in order:
            _draw_capsule(draw, here, body[capsule], radii[capsule], "white", halo)
            _draw_capsule(draw, here, body[capsule], radii[capsule], colours[capsule], 0.0)
        if captions is not None:
            draw.rectangle((0, 0, size[0], top), fill="white")
            draw_caption(draw, captions[step], heading, letters)
        yield np.asarray(picture.reduce(_OVERSAMPLING))


@dataclass(frozen=True)
class _View:
    """Where metres lie on the canvas."""

    scale: float
    """Canvas pixels a metre."""
    centre: Point
    """The canvas point of `origin`."""
    origin: Point
    """In metres: horizontally the trunk; vertically the ground, or the trunk where there is none."""
    ground: float | None

    @classmethod
    def of(
        cls,
        figure: FloatArray,
        wanted: FloatArray | None,
        radii: FloatArray,
        trunk: FloatArray,
        ground: float | None,
        size: tuple[int, int],
        top: int,
        letters: int,
    ) -> _View:
        """One scale for the whole film, in which every step's figures are seen whole."""
        # (steps, capsules, 2, 2) distances from what the view follows
        followed = trunk if ground is None else np.stack([trunk[:, 0], np.full(len(trunk), ground)], axis=1)
        places = [figure - followed[:, None, None]]
        if wanted is not None and not np.isnan(wanted).all():
            places.append(wanted - followed[:, None, None])
        thick = float(radii.max())
        low = np.min([np.nanmin(place, axis=(0, 1, 2)) for place in places], axis=0) - thick
        high = np.max([np.nanmax(place, axis=(0, 1, 2)) for place in places], axis=0) + thick
        margin_x, margin_y = _MARGIN * size[0], _MARGIN * size[1]
        bottom = 2.2 * letters if ground is not None else margin_y
        if ground is not None:
            low[1] = min(low[1], 0.0)
        sideways = max(-low[0], high[0])
        room_x, room_y = size[0] / 2 - margin_x, size[1] - top - margin_y - bottom
        scale = min(room_x / sideways, room_y / (high[1] - low[1]))
        if ground is not None:
            centre_y = size[1] - bottom + low[1] * scale
        else:
            centre_y = top + margin_y + room_y / 2 + (high[1] + low[1]) / 2 * scale
        return cls(scale, (size[0] / 2, float(centre_y)), (0.0, ground or 0.0), ground)

    def at(self, trunk: FloatArray) -> _View:
        """The view when the trunk is there."""
        vertical = self.origin[1] if self.ground is not None else float(trunk[1])
        return _View(self.scale, self.centre, (float(trunk[0]), vertical), self.ground)

    def point(self, place: Any) -> Point:
        x, y = float(place[0]) - self.origin[0], float(place[1]) - self.origin[1]
        return self.centre[0] + x * self.scale, self.centre[1] - y * self.scale


def _draw_capsule(
    draw: ImageDraw.ImageDraw, view: _View, ends: FloatArray, radius: float, colour: str, edge: float
) -> None:
    reach = max(radius * view.scale, 1.2 * _OVERSAMPLING) + edge
    (x0, y0), (x1, y1) = view.point(ends[0]), view.point(ends[1])
    for x, y in ((x0, y0), (x1, y1)):
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=colour)
    length = math.hypot(x1 - x0, y1 - y0)
    if length:
        across_x, across_y = -(y1 - y0) / length * reach, (x1 - x0) / length * reach
        corners = [(x0 + across_x, y0 + across_y), (x1 + across_x, y1 + across_y)]
        corners += [(x1 - across_x, y1 - across_y), (x0 - across_x, y0 - across_y)]
        draw.polygon(corners, fill=colour)


def _draw_ground(draw: ImageDraw.ImageDraw, view: _View, size: tuple[int, int], letters: int) -> None:
    """Pale lines and numbers at every so many metres of the world, so that movement is seen, and the floor."""
    spacing = _spacing(6 * letters / view.scale)
    half = size[0] / 2 / view.scale
    first, last = math.floor((view.origin[0] - half) / spacing), math.ceil((view.origin[0] + half) / spacing)
    line = max(1, _OVERSAMPLING)
    marks = [(view.point((index * spacing, 0.0))[0], index * spacing) for index in range(first, last + 1)]
    for x, _ in marks:
        draw.line((x, 0, x, size[1]), fill=_GRID, width=line)
    if view.ground is None:
        return
    floor = view.point((0.0, view.ground))[1]
    draw.rectangle((0, floor, size[0], size[1]), fill=_EARTH)
    draw.line((0, floor, size[0], floor), fill=_EDGE, width=line)
    font = font_of(round(0.8 * letters))
    for x, metres in marks:
        draw.line((x, floor, x, floor + 0.45 * letters), fill=_EDGE, width=line)
        draw.text((x, floor + 0.6 * letters), f"{metres:g} m", font=font, fill=_EDGE, anchor="mt")


def _spacing(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is no less than `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))
