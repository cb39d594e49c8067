"""The dominant frequency of a short record, from the peak of a windowed spectrum."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

PADDING = 16
"""The spectrum is sampled at least so many times finer than one period per record."""
FEWEST_VALUES = 8
"""A shorter record has no frequency."""
CONSTANT = 1e-6
"""A record that varies by less than this share of its largest value counts as constant: observations are float32."""


def dominant_frequency(values: ArrayLike, dt: float) -> float:
    """Frequency (Hz) of the strongest oscillation of `values` (n,), sampled every `dt` seconds; see
    `dominant_oscillation`."""
    return dominant_oscillation(values, dt)[0]


def dominant_oscillation(values: ArrayLike, dt: float) -> tuple[float, float]:
    """Frequency (Hz) and amplitude (units of `values`) of the strongest oscillation of `values` (n,).

    The peak of the spectrum under a Hann window, refined by a parabola through the logarithms of its three highest
    samples. Frequencies below one period per record are not looked at: there a drift looks like an oscillation. Two
    periods or more are needed for an estimate within some percent.

    Both are NaN where there is none: fewer than `FEWEST_VALUES` values, constant ones, or one that is not finite.
    """
    signal = np.asarray(values, dtype=np.float64)
    count = len(signal)
    if count < FEWEST_VALUES or not np.isfinite(signal).all() or np.ptp(signal) <= CONSTANT * np.abs(signal).max():
        return math.nan, math.nan
    window = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(count) + 0.5) / count)
    # The windowed mean, not the plain one: of a record that ends in mid-period the plain mean leaves a constant behind,
    # whose peak at 0 Hz reaches two periods per record.
    signal = signal - np.average(signal, weights=window)
    padded = 1 << math.ceil(math.log2(PADDING * count))
    spectrum = np.abs(np.fft.rfft(signal * window, padded))
    lowest = math.ceil(padded / count)
    peak = lowest + int(np.argmax(spectrum[lowest:]))
    shift, height = 0.0, float(spectrum[peak])
    if lowest < peak < len(spectrum) - 1:
        before, top, after = np.log(np.maximum(spectrum[peak - 1 : peak + 2], np.finfo(np.float64).tiny))
        curvature = before - 2 * top + after
        if curvature < 0 and top >= before:  # a slope's end is no peak
            shift = 0.5 * (before - after) / curvature
            height = math.exp(top - 0.25 * (before - after) * shift)
    return float((peak + shift) / (padded * dt)), float(2 * height / window.sum())
