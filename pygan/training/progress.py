"""Progress output: a bar on a terminal, or a line at intervals."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from pygan.training.extras import extra

__all__ = ["Progress", "duration"]

_LABELS = {"d_loss": "D", "g_loss": "G", "sigma": "σ"}
_TIMED_STEPS = 10  # steps after the first over which the time per step is measured
_MIN_INTERVAL, _MAX_INTERVAL = 10.0, 60.0  # seconds between printed lines, at first and later

# Fits in 80 columns with the longest numbers; tqdm's default format leaves no room for the losses.
_BAR = (
    "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {elapsed}<{remaining} {rate_noinv_fmt}{postfix}"
)


class Progress:
    """The progress bar and printed lines of one run.

    Args:
        steps: steps of the whole run.
        start: steps done before the resume.
        shown: True: the bar; False: neither; None: the bar if standard error is a terminal, and lines on standard
            output if that is not a terminal or there is no bar.
        wait: synchronizes with the device; called twice, to time the first steps.
    """

    def __init__(
        self, *, steps: int, start: int, shown: bool | None, wait: Callable[[], None] | None = None
    ) -> None:
        bar = sys.stderr.isatty() if shown is None else shown
        self.steps, self.start, self.step = steps, start, start
        self._announces = bar or shown is None
        self._prints = shown is None and not (bar and sys.stdout.isatty())
        self._wait = wait or (lambda: None)
        self._tqdm = extra("tqdm", "pygan.fit").tqdm
        self._bar = self._tqdm(
            total=steps,
            initial=start,
            disable=not bar,
            unit="",  # the speed is shown as "/s"
            bar_format=_BAR,
            dynamic_ncols=True,
        )
        self._values = ""
        self._interval = _MIN_INTERVAL
        self._last_print = time.perf_counter()
        self._last_print_step = start

    def values(self, values: dict[str, float]) -> None:
        """Set the numbers to show."""
        shown = [f"{label} {values[name]:.3g}" for name, label in _LABELS.items() if name in values]
        self._values = "  ".join(shown)
        self._bar.set_postfix_str(" ".join(shown), refresh=False)

    def advance(self, next_picture: int | None = None) -> None:
        """Count a finished step. `next_picture` is the step of the next sample grid."""
        self.step += 1
        self._bar.update()
        if self.step - self.start == 1 or self.step - self.start == 1 + _TIMED_STEPS:
            self._time_first(next_picture)
        now = time.perf_counter()
        if self._prints and (now - self._last_print >= self._interval or self.step == self.steps):
            speed = (self.step - self._last_print_step) / max(now - self._last_print, 1e-9)
            self._print(speed)
            self._last_print, self._last_print_step = now, self.step
            self._interval = min(2 * self._interval, _MAX_INTERVAL)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        self._bar.close()

    def _time_first(self, next_picture: int | None) -> None:
        """Print the time per step once it has been measured."""
        if not self._announces or self.steps - self.start <= 2 * _TIMED_STEPS:
            return
        self._wait()
        now = time.perf_counter()
        if self.step - self.start == 1:
            self._first = now
            return
        each = (now - self._first) / _TIMED_STEPS
        left = self.steps - self.step
        text = (
            f"pygan.fit: a step takes {duration(each)}; {left:,} more take {duration(left * each)}"
        )
        if next_picture is not None and next_picture <= self.steps:
            soon = duration((next_picture - self.step) * each)
            text += f"; the next samples come at step {next_picture:,}, in {soon}"
        self.say(text)

    def _print(self, speed: float) -> None:
        left = self.steps - self.step
        parts = [
            f"step {self.step:,}/{self.steps:,} ({self.step / self.steps:.0%})",
            self._values,
            f"{speed:.3g} steps/s",
            f"{duration(left / speed)} left" if left else "done",
        ]
        # Flushed, because log files are read while the run is in progress.
        print("  ".join(part for part in parts if part), flush=True)


def duration(seconds: float) -> str:
    """Format a duration for people: 3 ms, 0.12 s, 45 s, 12 min, 3 h 20 min."""
    if seconds < 0.1:
        return f"{1000 * seconds:.2g} ms"
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 100 * 60 else f"{minutes // 60} h"
