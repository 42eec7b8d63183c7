"""A lock that allows one run per folder at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
import warnings
from pathlib import Path

from pygan.checkpoint import writing

__all__ = ["RunLock"]

_BUSY = (errno.EAGAIN, errno.EACCES)
_held: set[RunLock] = set()


class RunLock:
    """The exclusive right to write into a run's folder: a lock on a file in it, which the system releases when the
    process ends, however it ends. Leaving the context releases it too.

    Args:
        out: the folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self._file: int | None = None

    def acquire(self) -> bool:
        """Take the lock; return False if this object held it already. The folder must exist.

        Raises:
            BlockingIOError: another run holds it. Nothing has been changed.
        OSError: the file cannot be written, as on a full disk; the error names it.
        """
        if self._file is not None:
            return False
        file = os.open(self.out / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(file, 1000, 0).decode(errors="replace").strip()
            os.close(file)
            if error.errno in _BUSY:
                raise BlockingIOError(
                    f"pygan.fit: out must not be in use by another run, got {self.out}, which "
                    f"{holder or 'a process that is starting'} is writing to"
                ) from None
            warnings.warn(
                f"pygan.fit: {self.out} cannot be locked ({error.strerror}): make sure that no other run writes to it",
                stacklevel=2,
            )
            return False
        self._file = file
        _held.add(self)
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        holder = f"process {os.getpid()} on {socket.gethostname()} (started {started})\n"
        with writing(self.out / ".lock"):
            os.ftruncate(file, 0)
            os.pwrite(file, holder.encode(), 0)
        return True

    def release(self) -> None:
        if self._file is not None:
            # The file stays: removing it could remove the one that another process has just locked.
            os.ftruncate(self._file, 0)
            self._close()

    def _close(self) -> None:
        assert self._file is not None
        os.close(self._file)
        self._file = None
        _held.discard(self)

    def __enter__(self) -> RunLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _close_all() -> None:
    for lock in list(_held):
        lock._close()


# A DataLoader worker can outlive a killed run by seconds, and must not keep its lock.
os.register_at_fork(after_in_child=_close_all)
