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
    """A file of JSON objects, one a line, each with its "step", in order.

    Args:
        path: of the file.
        step: what is in the file of later steps is cut off, and so is a line that a killed process left unfinished.
    """

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115  # a line is one write: whole or cut off
        self.last: dict[str, float] = {}
        """The last line of statistics in the file, as it was found."""
        self._cut(path, step)

    def write(self, line: dict[str, Any]) -> None:
        """Append a line. NaN becomes null and an infinity a string, for JSON has neither."""
        left = json.dumps(_strict(line), allow_nan=False).encode() + b"\n"
        with writing(self._path):
            while left:  # a disk that fills up takes a part, and refuses the rest
                left = left[self._file.write(left) :]

    def sync(self) -> None:
        """Return when all lines are on the disk."""
        with writing(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def _cut(self, path: Path, step: int) -> None:
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
    """All of them, for the main process.

    Args:
        out: the run's folder.
        steps: of the whole run.
        start: steps that an earlier, resumed run has done; what it logged of later ones is cut off.
        tensorboard: whether to write events for TensorBoard.
        trackers: makes those that get the numbers and the sample grids too.
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
            # Events of later steps, which will come again, are not to be shown twice.
            self._writer = summary.SummaryWriter(out, purge_step=start + 1 if start else None)
        self._trackers = trackers()
        self.progress = Progress(steps=steps, start=start, shown=progress, wait=wait)

    def numbers(self, step: int, values: dict[str, float]) -> None:
        """One line of metrics, and as many scalars."""
        self.metrics.write({"step": step, **values})
        if self._writer is not None:
            with writing(self.out):
                for name, value in values.items():
                    self._writer.add_scalar(name, value, step)
        self._trackers.numbers(step, values)
        self.progress.values(values)

    def diagnosis(self, step: int, diagnosis: Any) -> None:
        """What the monitor has to say: on the screen, and as a line of metrics, of the step at which it was said."""
        self.say(str(diagnosis))
        line = {"step": step, "diagnosis": str(getattr(diagnosis, "state", diagnosis))}
        for name in ("evidence", "remedy", "action", "numbers"):
            if getattr(diagnosis, name, None):
                line[name] = getattr(diagnosis, name)
        self.metrics.write(line)

    def picture_path(self, step: int) -> Path:
        """Where the sample grid of a step is."""
        return self.out / f"samples-{step:08d}.png"

    @property
    def reals_path(self) -> Path:
        """Where the grid of real samples is."""
        return self.out / "reals.png"

    def picture(self, step: int, array: NDArray[np.uint8]) -> None:
        """The sample grid (H, W, C) of a step."""
        write_png(self.picture_path(step), array)
        if self._writer is not None:
            with writing(self.out):
                self._writer.add_image("samples", array, step, dataformats="HWC")
        self._trackers.picture(step, array)

    def reals(self, array: NDArray[np.uint8]) -> None:
        """A grid (H, W, C) of real samples."""
        write_png(self.reals_path, array)

    def say(self, text: str) -> None:
        """A line above the progress bar."""
        self.progress.say(text)

    def sync(self) -> None:
        """Return when all that was logged is on the disk."""
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
