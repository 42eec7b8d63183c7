"""Oscillation: detects a steady period in a series of equally spaced readings."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Swing", "swing"]

SHORTEST = 4
"""The shortest period to look for, in readings; the longest is a third of the series."""


class Swing(NamedTuple):
    period: float
    """In readings."""
    strength: float
    """How clearly periodic the series is, up to about 1: the minimum of the autocorrelation at one period, at two, and
    its negative in the trough between."""
    amplitude: float
    """The amplitude of a sine with the series' standard deviation."""
    lasting: float
    """Standard deviation in the last third of the series over that in the first."""


def swing(series: npt.NDArray[np.float64]) -> Swing | None:
    """The period of a series without its linear trend; None if its autocorrelation has no suitable peak."""
    n = len(series)
    time = np.arange(n, dtype=np.float64) - (n - 1) / 2
    x = series - series.mean()
    x = x - time * (time @ x) / (time @ time)
    power = x @ x / n
    # Rounding errors of a constant are not an oscillation.
    if not power > (1e-6 * np.abs(series).max()) ** 2:
        return None
    spectrum = np.fft.rfft(x, 2 * n)
    acf = np.fft.irfft(np.abs(spectrum) ** 2)[:n] / np.arange(n, 0, -1) / power
    longest = n // 3
    negative = np.flatnonzero(acf[: longest + 1] < 0.0)
    if not len(negative):
        return None
    begin = int(negative[0])
    peaks = [
        k
        for k in range(max(begin + 1, SHORTEST), longest)
        if acf[k] > 0 and acf[k - 1] <= acf[k] >= acf[k + 1]
    ]
    if not peaks:
        return None
    # Multiples of the period are peaks too, and higher if they are closer to a whole number of readings.
    highest = max(acf[k] for k in peaks)
    lag = next(k for k in peaks if acf[k] >= 0.75 * highest)
    left, top, right = acf[lag - 1 : lag + 2]
    bend = left - 2.0 * top + right
    period = lag + (0.5 * (left - right) / bend if bend < 0.0 else 0.0)
    second = np.max(acf[round(1.8 * lag) : round(2.2 * lag) + 1])
    trough = -np.min(acf[begin:lag])
    third = n // 3
    first = x[:third].std()
    lasting = float(x[-third:].std() / first) if first > 0.0 else np.inf
    strength = float(min(top, second, trough))
    return Swing(float(period), strength, float(np.sqrt(2.0 * power)), lasting)
