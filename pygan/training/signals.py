"""SIGTERM and SIGINT: recorded during a step, and handled after it."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

__all__ = ["StopSignals", "ignore_signals"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Within this context the first SIGTERM or SIGINT is noted instead of obeyed.

    Where `obey_second` is set, the earlier handlers are back from then on: another Ctrl-C interrupts at once.
    Afterwards they are back in any case. Outside the main thread, which alone can handle signals, it does nothing.
    """

    def __init__(self, *, obey_second: bool) -> None:
        self.received: int | None = None
        self._obey_second = obey_second
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.received is None:
            self.received = number
            if self._obey_second:
                self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            # None: it was not installed from Python, and cannot be from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()


def ignore_signals(_: int = 0) -> None:
    """For worker processes: a signal to the whole group must stop the run at a checkpoint, not lose it its data."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
