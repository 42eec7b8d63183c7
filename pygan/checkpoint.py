"""Checkpoints: files that are whole or absent, hold tensors and plain data alone, and say why they cannot be read.

    pygan.checkpoint.save("run/step-00001000.pt", {"trainer": trainer.state_dict(), "step": 1000})
    state = pygan.checkpoint.load("run/step-00001000.pt")
    path = pygan.checkpoint.latest("run")

A checkpoint is what ``torch.save`` writes, so that ``torch.load`` reads it too. `save` writes it beside its place and
renames it when all of it is on the disk: whoever is killed meanwhile leaves the old file, or none. `load` compares
the file with the checksum that it ends with and unpickles with ``weights_only=True``, which runs no code of the file's.
"""

from __future__ import annotations

import os
import re
import stat
import zipfile
import zlib
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor, nn

__all__ = ["CheckpointError", "latest", "load", "save"]

_FORMAT = "pygan checkpoint"
_VERSION = 1
_NAME = re.compile(r"step-(\d+)\.pt")
_ZIP = b"PK\x03\x04"
_PLAIN = (bool, int, float, str, type(None), torch.dtype, torch.device, torch.Size)


class CheckpointError(RuntimeError):
    """A file that is no usable checkpoint.

    Attributes:
        path: the file.
        reason: what is wrong with it.
        previous: the newest usable checkpoint of its folder from an earlier step, or None.
    """

    def __init__(self, path: Path, reason: str, previous: Path | None = None) -> None:
        self.path, self.reason, self.previous = path, reason, previous
        offer = f"; the previous usable checkpoint is {previous}" if previous else ""
        super().__init__(f"pygan.checkpoint.load: {path} {reason}{offer}")

    def __reduce__(self) -> tuple[Any, ...]:  # an exception pickles its message alone
        return CheckpointError, (self.path, self.reason, self.previous)


def save(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write a checkpoint; `path` is afterwards the whole new file, whatever happens meanwhile the old one.

    Args:
        path: of the file, in a folder that exists. `latest` finds those named step-<number>.pt.
        state: a dict of tensors, numbers, strings, None, and lists, tuples and dicts of them.

    Raises:
        TypeError: something in `state` is of another type, which `load` would refuse. Nothing has been written.
        OSError: the file cannot be written, as on a full disk; its `filename` is `path`. What was written of it is
            gone, and an older file of this name is still there.
    """
    path = Path(path)
    if not isinstance(state, dict):
        raise TypeError(f"pygan.checkpoint.save: state must be a dict, got {type(state).__name__}")
    check_plain(state, "state")
    content = {"format": _FORMAT, "version": _VERSION, "torch": str(torch.__version__)}
    # One name for all attempts: a killed one's leftover is overwritten by the next.
    unfinished = path.with_name(f".{path.name}.tmp")
    with writing(path):
        try:
            with open(unfinished, "wb") as file:
                summed = _Summed(file)
                _save({**content, "state": state}, summed)
                # Over the last field of a zip file, the length of its comment.
                file.seek(-2, os.SEEK_END)
                file.write(_trailer(summed.crc))
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        except BaseException:
            with suppress(OSError):  # of which the first is to be seen
                unfinished.unlink(missing_ok=True)
            raise
        # The rename is on the disk when the folder is.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within it, the OSErrors of a full disk and the like name the file that could not be written."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _save(content: dict[str, Any], file: _Summed) -> None:
    try:
        torch.save(content, cast(BinaryIO, file))
    except Exception:
        if file.error is not None:  # instead of what torch makes of it: "unexpected pos"
            raise file.error from None
        raise


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The state that `save` was given, its tensors on the CPU.

    Raises:
        CheckpointError: the file is missing, no regular file, truncated, damaged, not a checkpoint of pygan's or of
            another version of the format. It offers the newest usable checkpoint of the same folder from before.
    """
    path = Path(path)
    try:
        return read(path)
    except CheckpointError as error:
        previous = _newest_usable(numbered(path.parent, before=path))
        raise CheckpointError(path, error.reason, previous) from error.__cause__


def latest(folder: str | os.PathLike[str]) -> Path | None:
    """The checkpoint step-<number>.pt of the highest number in a folder, unread; None if there is none."""
    paths = numbered(folder)
    return paths[-1] if paths else None


def numbered(folder: str | os.PathLike[str], *, before: Path | None = None) -> list[Path]:
    """The checkpoints step-<number>.pt of a folder, by number, up to `before`, which is left out."""
    if not os.path.isdir(folder):
        return []
    paths = [path for path in Path(folder).iterdir() if _NAME.fullmatch(path.name)]
    paths.sort(key=step_of)
    if before is not None and _NAME.fullmatch(before.name):
        paths = [path for path in paths if step_of(path) < step_of(before)]
    return [path for path in paths if before is None or path.name != before.name]


def step_of(path: Path) -> int:
    """The number in the name step-<number>.pt."""
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1])


def _newest_usable(paths: list[Path]) -> Path | None:
    for path in reversed(paths):
        with suppress(CheckpointError):
            read(path)
            return path
    return None


def read(path: Path) -> dict[str, Any]:
    try:
        damage = _damage(path)
        content = None if damage else torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(path, "does not exist") from error
    except MemoryError:
        raise
    except OSError as error:
        raise CheckpointError(path, f"cannot be read: {error}") from error
    except Exception as error:  # zipfile and pickle raise nearly anything over foreign bytes
        lines = str(error).splitlines() or [repr(error)]
        # torch's advice to load what it refuses comes first, and what it has refused later.
        why = next((line for line in lines if "GLOBAL" in line or "Error: " in line), lines[0])
        raise CheckpointError(path, f"is no checkpoint of pygan's: {why.strip()}") from error
    if damage:
        raise CheckpointError(path, damage)
    # By the types: a tensor compares with anything, and not to a bool.
    kind = content.get("format") if isinstance(content, dict) else None
    if content is None or type(kind) is not str or kind != _FORMAT:
        raise CheckpointError(path, "is no checkpoint of pygan's: it holds something else")
    version = content.get("version")
    if type(version) is not int:
        raise CheckpointError(
            path, f"is no checkpoint of pygan's: its version is a {type(version).__name__}"
        )
    if version != _VERSION:
        raise CheckpointError(path, f"is of version {version} of the format, not of {_VERSION}")
    state = content.get("state")
    if not isinstance(state, dict):
        raise CheckpointError(path, "is no checkpoint of pygan's: it holds no state")
    return state


def _damage(path: Path) -> str | None:
    """What is wrong with the file's bytes, of which torch.load compares no checksum."""
    trailer = len(_trailer(0))
    if not stat.S_ISREG(
        os.stat(path).st_mode
    ):  # to open a pipe would wait for whoever writes to it
        return "cannot be read: it is no regular file"
    with open(path, "rb") as file:
        start, size = file.read(4), file.seek(0, os.SEEK_END)
        if size == 0:
            return "is empty"
        file.seek(max(0, size - trailer))
        end = file.read()
        if not end.startswith(_trailer(0)[:-8]):
            if start == _ZIP[: len(start)] and not zipfile.is_zipfile(file):
                return f"is truncated: it ends after {size} bytes"
            return "is no checkpoint of pygan's, or not all of it: it lacks the checksum at the end"
        file.seek(0)
        crc, left = 0, size - trailer
        while left and (block := file.read(min(left, 1 << 20))):
            crc, left = zlib.crc32(block, crc), left - len(block)
    if end != _trailer(zlib.crc32(b"\0\0", crc)):
        return "is damaged: its bytes do not have the checksum that it ends with"
    return None


class _Summed:
    """A file for torch.save that sums up what goes through it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.crc = file, 0
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        self.crc = zlib.crc32(data, self.crc)
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _trailer(crc: int) -> bytes:
    """The end of a checkpoint: the checksum of all that torch.save wrote, as the comment of the zip file that it is.

    The archive's own checksums cover the tensors, but not its directory, where one wrong bit can leave a tensor unread.
    """
    comment = b"pygan crc32 %08x" % crc
    return len(comment).to_bytes(2, "little") + comment


def check_plain(value: Any, name: str) -> None:
    """Raise a TypeError for what `save` does not take."""
    # By the type itself: a subclass, like numpy's float64 or an enum, is pickled by its own name, and refused.
    kind = type(value)
    if kind in (dict, OrderedDict, Counter):  # MultiStepLR's milestones are counted
        for key, item in value.items():
            if type(key) not in _PLAIN:
                raise TypeError(
                    f"pygan.checkpoint.save: {name} must have plain keys, got {type(key).__name__}"
                )
            check_plain(item, f"{name}[{key!r}]")
    elif kind in (list, tuple):
        for i, item in enumerate(value):
            check_plain(item, f"{name}[{i}]")
    elif kind not in (*_PLAIN, Tensor, nn.Parameter):
        raise TypeError(
            f"pygan.checkpoint.save: {name} must be a tensor or plain data (numbers, strings, None, lists, tuples, "
            f"dicts), got {kind.__module__}.{kind.__qualname__}"
        )
