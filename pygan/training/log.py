"""The outputs of a run: metrics.jsonl, TensorBoard, PNG files, and the screen."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pygan.checkpoint import writing
from pygan.training.extras import extra
from pygan.training.progress import Progress
from pygan.training.sample_grids import write_png
from pygan.training.trackers import Trackers

__all__ = ["Log", "MetricsFile"]


class MetricsFile:
    """A file of JSON objects, one per line, each with its "step", in order.

    Args:
        path: path of the file.
        step: lines of later steps are removed, and so is an incomplete line that a killed process left.
    """

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115  # a line is one write: whole or cut off
        self.last: dict[str, float] = {}
        """The last line of statistics that the existing file contained."""
        self._truncate(path, step)

    def write(self, line: dict[str, Any]) -> None:
        """Append a line. NaN becomes null, and infinity a string, because JSON has neither."""
        left = json.dumps(_strict(line), allow_nan=False).encode() + b"\n"
        with writing(self._path):
            while left:  # when the disk is nearly full, only a part is written
                left = left[self._file.write(left) :]

    def sync(self) -> None:
        """Flush all lines to the disk."""
        with writing(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def _truncate(self, path: Path, step: int) -> None:
        kept = 0
        with open(path, "rb") as file:
            for text in file:
                try:
                    line = json.loads(text)
                    keep = text.endswith(b"\n") and line["step"] <= step
                except (ValueError, TypeError, KeyError):
                    keep = False
                if not keep:
                    break
                kept += len(text)
                if "d_loss" in line:
                    self.last = {key: _number(value) for key, value in line.items()}
        self._file.truncate(kept)


class Log:
    """All outputs of a run, for the main process.

    Args:
        out: the run's folder.
        steps: steps of the whole run.
        start: steps done before the resume; logs of later steps are removed.
        tensorboard: whether to write events for TensorBoard.
        trackers: creates the trackers, which also get the numbers and the sample grids.
        progress, wait: `shown` and `wait` of :class:`Progress`.
    """

    def __init__(
        self,
        out: Path,
        *,
        steps: int,
        start: int,
        tensorboard: bool,
        trackers: Callable[[], Trackers],
        progress: bool | None,
        wait: Callable[[], None] | None = None,
    ) -> None:
        self.out = out
        self.metrics = MetricsFile(out / "metrics.jsonl", start)
        self._writer: Any = None
        if tensorboard:
            summary = extra("torch.utils.tensorboard", "pygan.fit(tensorboard=True)")
            # Events of later steps will be written again, and must not appear twice.
            self._writer = summary.SummaryWriter(out, purge_step=start + 1 if start else None)
        self._trackers = trackers()
        self.progress = Progress(steps=steps, start=start, shown=progress, wait=wait)

    def numbers(self, step: int, values: dict[str, float]) -> None:
        """Log one line of metrics, and the same values as TensorBoard scalars."""
        self.metrics.write({"step": step, **values})
        if self._writer is not None:
            with writing(self.out):
                for name, value in values.items():
                    self._writer.add_scalar(name, value, step)
        self._trackers.numbers(step, values)
        self.progress.values(values)

    def diagnosis(self, step: int, diagnosis: Any) -> None:
        """Print a diagnosis of the monitor and log it as a line of metrics, with the step at which it was made."""
        self.say(str(diagnosis))
        line = {"step": step, "diagnosis": str(getattr(diagnosis, "state", diagnosis))}
        for name in ("evidence", "remedy", "action", "numbers"):
            if getattr(diagnosis, name, None):
                line[name] = getattr(diagnosis, name)
        self.metrics.write(line)

    def picture_path(self, step: int) -> Path:
        """The path of a step's sample grid."""
        return self.out / f"samples-{step:08d}.png"

    @property
    def reals_path(self) -> Path:
        """The path of the grid of real samples."""
        return self.out / "reals.png"

    def picture(self, step: int, array: NDArray[np.uint8]) -> None:
        """Write the sample grid (H, W, C) of a step."""
        write_png(self.picture_path(step), array)
        if self._writer is not None:
            with writing(self.out):
                self._writer.add_image("samples", array, step, dataformats="HWC")
        self._trackers.picture(step, array)

    def reals(self, array: NDArray[np.uint8]) -> None:
        """Write the grid (H, W, C) of real samples."""
        write_png(self.reals_path, array)

    def say(self, text: str) -> None:
        """Print a line above the progress bar."""
        self.progress.say(text)

    def sync(self) -> None:
        """Flush all outputs to the disk."""
        self.metrics.sync()
        if self._writer is not None:
            with writing(self.out):
                self._writer.flush()

    def close(self) -> None:
        self.progress.close()
        self.metrics.close()
        if self._writer is not None:
            with writing(self.out):
                self._writer.close()
        self._trackers.close()


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return value


def _number(value: Any) -> Any:
    return (
        math.nan if value is None else float(value) if value in ("Infinity", "-Infinity") else value
    )
