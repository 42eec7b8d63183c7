"""SIGTERM and SIGINT: recorded during a step, and handled after it."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

__all__ = ["StopSignals", "ignore_signals"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """A context in which the first SIGTERM or SIGINT is recorded, but does not interrupt the program.

    If `obey_second` is set, the first signal restores the previous handlers, so that another Ctrl-C interrupts at once.
    Leaving the context always restores them. Outside the main thread, where signals cannot be handled, it does nothing.
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
            # None: the handler was not installed from Python, and cannot be reinstalled from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()


def ignore_signals(_: int = 0) -> None:
    """For worker processes: a signal to the whole process group must stop the run at a checkpoint, not kill the workers
    that read its data."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
