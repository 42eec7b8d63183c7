"""The readings that the rules use: the most recent windows, and the extremes of all windows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pygan.monitor.reading import COLUMNS, Reading

__all__ = ["Window"]

Values = npt.NDArray[np.float64]

WINDOWS = 4
"""How many windows of readings are kept; the buffer has room for one more."""


class Window:
    """The last `size` readings, by step and column, and the windows before them.

    Attributes:
        loss: the loss's name; "" for a custom loss.
        ends_in_sigmoid: whether the discriminator ends in a sigmoid.
        count: number of readings kept, at most 5 * size.
        best_diversity, best_label_diversity: the highest diversity of any window, of whole batches and within labels,
            at most 1.
        peak_sensitivity: the highest sensitivity of any window.
    """

    def __init__(self, size: int, loss: Any) -> None:
        self.size = size
        self.loss = loss if isinstance(loss, str) else ""
        self.ends_in_sigmoid = False
        self.count = 0
        self._rows = np.empty(((WINDOWS + 1) * size, len(COLUMNS)))
        self._steps = np.empty((WINDOWS + 1) * size)
        self.best_diversity = self.best_label_diversity = self.peak_sensitivity = 0.0

    @property
    def full(self) -> bool:
        return self.count >= self.size

    @property
    def step(self) -> int:
        """The newest reading's step."""
        return int(self._steps[self.count - 1])

    @property
    def steps(self) -> int:
        """Number of iterations that the window spans."""
        return round(self.size * self.spacing(self.size))

    def add(self, reading: Reading) -> None:
        if self.count == len(self._rows):
            # Drop a whole window, so that not every reading has to shift the buffer.
            self.count -= self.size
            for kept in (self._rows, self._steps):
                kept[: self.count] = kept[self.size :].copy()
        self._rows[self.count] = reading.row()
        self._steps[self.count] = reading.steps[-1]
        self.count += 1
        if self.full:
            self.best_diversity = _best(self.best_diversity, self.diversity())
            self.best_label_diversity = _best(self.best_label_diversity, self.diversity("label_"))
            self.peak_sensitivity = max(self.peak_sensitivity, _number(self.sensitivity()))

    def series(self, column: str, length: int, before: int = 0) -> Values:
        """The last `length` values of a column, or those that end `before` readings earlier."""
        end = self.count - before
        return self._rows[end - length : end, COLUMNS.index(column)]

    def mean(self, column: str, *, windows_ago: int = 0) -> float:
        """The mean over a window; NaN if there are no readings that old, or less than half of them are finite."""
        before = windows_ago * self.size
        if self.count < before + self.size:
            return math.nan
        return _mean(self.series(column, self.size, before))

    def diversity(self, prefix: str = "", *, windows_ago: int = 0) -> float:
        """Mean over a window of the ratio of effectively distinct generated samples to real ones; within labels with
        the prefix "label_"."""
        before = windows_ago * self.size
        if self.count < before + self.size:
            return math.nan
        real, fake = (
            self.series(f"{prefix}{side}_number", self.size, before) for side in ("real", "fake")
        )
        return _mean(fake / real)

    def sensitivity(self) -> float:
        """Median over the window of the norm of the generator's gradient times the norm of its parameters.

        To first order, this is how much the loss would change if the parameters moved by their own norm along the
        gradient: it is in units of the loss, and independent of the scale of the parameters. Non-finite gradients,
        which a GradScaler produces while it adapts, do not count.
        """
        products = self.series("g_grad", self.size) * self.series("g_param", self.size)
        finite = products[np.isfinite(products)]
        return float(np.median(finite)) if len(finite) else math.nan

    def spacing(self, length: int) -> float:
        """Number of iterations between consecutive readings, averaged over the last `length`."""
        first, last = self._steps[self.count - length], self._steps[self.count - 1]
        return float(last - first) / (length - 1)

    def state_dict(self) -> dict[str, Any]:
        return {
            "size": self.size,
            "rows": torch.from_numpy(self._rows[: self.count].copy()),
            "steps": torch.from_numpy(self._steps[: self.count].copy()),
            "best_diversity": self.best_diversity,
            "best_label_diversity": self.best_label_diversity,
            "peak_sensitivity": self.peak_sensitivity,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        rows = state_dict["rows"].numpy()
        self.count = len(rows)
        self._rows[: self.count] = math.nan  # rows of earlier versions have fewer columns
        self._rows[: self.count, : rows.shape[1]] = rows
        self._steps[: self.count] = state_dict["steps"].numpy()
        self.best_diversity = state_dict["best_diversity"]
        self.best_label_diversity = state_dict.get("best_label_diversity", 0.0)
        self.peak_sensitivity = state_dict["peak_sensitivity"]


def _mean(values: Values) -> float:
    finite = values[np.isfinite(values)]  # a small last batch of an epoch has no diversity
    return float(finite.mean()) if 2 * len(finite) >= len(values) else math.nan


def _best(best: float, diversity: float) -> float:
    return max(best, min(1.0, _number(diversity)))


def _number(value: float) -> float:
    """0 for NaN, so that an unmeasurable value is not a maximum."""
    return 0.0 if math.isnan(value) else value
