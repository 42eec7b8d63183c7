"""Checkpoints: written atomically, limited to tensors and plain data, and with clear errors for unusable files.

    pygan.checkpoint.save("run/step-00001000.pt", {"trainer": trainer.state_dict(), "step": 1000})
    state = pygan.checkpoint.load("run/step-00001000.pt")
    path = pygan.checkpoint.latest("run")

A checkpoint uses the format of ``torch.save``, so ``torch.load`` can read it too. `save` writes a temporary file and
renames it once it is completely on disk: a process killed in between leaves the old file, or none. `load` verifies
the checksum at the end of the file and unpickles with ``weights_only=True``, which runs no code from the file.
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
    """The file is not a usable checkpoint.

    Attributes:
        path: the file.
        reason: why it cannot be used.
        previous: the newest usable checkpoint in its folder from an earlier step, or None.
    """

    def __init__(self, path: Path, reason: str, previous: Path | None = None) -> None:
        self.path, self.reason, self.previous = path, reason, previous
        offer = f"; the previous usable checkpoint is {previous}" if previous else ""
        super().__init__(f"pygan.checkpoint.load: {path} {reason}{offer}")

    def __reduce__(self) -> tuple[Any, ...]:  # by default an exception pickles only its message
        return CheckpointError, (self.path, self.reason, self.previous)


def save(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write a checkpoint atomically: `path` is either the complete new file or, after a failure, the old one.

    Args:
        path: the file to write, in an existing folder. `latest` finds files named step-<number>.pt.
        state: a dict of tensors, numbers, strings, None, and lists, tuples and dicts of these.

    Raises:
        TypeError: `state` contains another type, which `load` would refuse. Nothing has been written.
        OSError: the file cannot be written, for example on a full disk; its `filename` is `path`. The incomplete file
            has been removed, and an older file of this name is kept.
    """
    path = Path(path)
    if not isinstance(state, dict):
        raise TypeError(f"pygan.checkpoint.save: state must be a dict, got {type(state).__name__}")
    check_plain(state, "state")
    content = {"format": _FORMAT, "version": _VERSION, "torch": str(torch.__version__)}
    # The same name for all attempts, so that the next one overwrites the leftover of a killed process.
    unfinished = path.with_name(f".{path.name}.tmp")
    with writing(path):
        try:
            with open(unfinished, "wb") as file:
                summed = _ChecksumFile(file)
                _save({**content, "state": state}, summed)
                # Overwrite the last field of the zip file, the length of its comment.
                file.seek(-2, os.SEEK_END)
                file.write(_trailer(summed.crc))
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        except BaseException:
            with suppress(OSError):  # the first error is the one to raise
                unfinished.unlink(missing_ok=True)
            raise
        # Syncing the folder makes the rename durable.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Context manager in which an OSError, such as a full disk, names the file that could not be written."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _save(content: dict[str, Any], file: _ChecksumFile) -> None:
    try:
        torch.save(content, cast(BinaryIO, file))
    except Exception:
        if file.error is not None:  # instead of torch's message for it, "unexpected pos"
            raise file.error from None
        raise


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The state that was saved to `path`, with its tensors on the CPU.

    Raises:
        CheckpointError: the file is missing, not a regular file, truncated, damaged, not a pygan checkpoint, or in
            another version of the format. The error names the newest usable earlier checkpoint in the same folder.
    """
    path = Path(path)
    try:
        return read(path)
    except CheckpointError as error:
        previous = _newest_usable(numbered(path.parent, before=path))
        raise CheckpointError(path, error.reason, previous) from error.__cause__


def latest(folder: str | os.PathLike[str]) -> Path | None:
    """The path of the checkpoint step-<number>.pt with the highest number in a folder, or None. Does not read it."""
    paths = numbered(folder)
    return paths[-1] if paths else None


def numbered(folder: str | os.PathLike[str], *, before: Path | None = None) -> list[Path]:
    """The checkpoints step-<number>.pt in a folder, sorted by number; with `before`, only the earlier ones."""
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
    except Exception as error:  # zipfile and pickle can raise almost anything for arbitrary bytes
        lines = str(error).splitlines() or [repr(error)]
        # torch's message starts with advice; the object that it refused comes later.
        why = next((line for line in lines if "GLOBAL" in line or "Error: " in line), lines[0])
        raise CheckpointError(path, f"is not a pygan checkpoint: {why.strip()}") from error
    if damage:
        raise CheckpointError(path, damage)
    # Check types first: comparing a tensor with anything gives a tensor, not a bool.
    kind = content.get("format") if isinstance(content, dict) else None
    if content is None or type(kind) is not str or kind != _FORMAT:
        raise CheckpointError(path, "is not a pygan checkpoint: it contains something else")
    version = content.get("version")
    if type(version) is not int:
        raise CheckpointError(
            path, f"is not a pygan checkpoint: its version is a {type(version).__name__}"
        )
    if version != _VERSION:
        raise CheckpointError(path, f"has version {version} of the format, not {_VERSION}")
    state = content.get("state")
    if not isinstance(state, dict):
        raise CheckpointError(path, "is not a pygan checkpoint: it contains no state")
    return state


def _damage(path: Path) -> str | None:
    """The damage to the file's bytes, if any: torch.load does not verify a checksum."""
    trailer = len(_trailer(0))
    # Opening a pipe would block until something writes to it.
    if not stat.S_ISREG(os.stat(path).st_mode):
        return "cannot be read: it is not a regular file"
    with open(path, "rb") as file:
        start, size = file.read(4), file.seek(0, os.SEEK_END)
        if size == 0:
            return "is empty"
        file.seek(max(0, size - trailer))
        end = file.read()
        if not end.startswith(_trailer(0)[:-8]):
            if start == _ZIP[: len(start)] and not zipfile.is_zipfile(file):
                return f"is truncated: it ends after {size} bytes"
            return (
                "is not a pygan checkpoint, or not a complete one: it lacks the checksum at the end"
            )
        file.seek(0)
        crc, left = 0, size - trailer
        while left and (block := file.read(min(left, 1 << 20))):
            crc, left = zlib.crc32(block, crc), left - len(block)
    if end != _trailer(zlib.crc32(b"\0\0", crc)):
        return "is damaged: its checksum does not match"
    return None


class _ChecksumFile:
    """A file for torch.save that computes a checksum of the data written to it."""

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
    """The end of a checkpoint: the checksum of everything that torch.save wrote, as the comment of the zip archive.

    The archive's own checksums cover the tensors but not its directory, where one wrong bit can leave a tensor unread.
    """
    comment = b"pygan crc32 %08x" % crc
    return len(comment).to_bytes(2, "little") + comment


def check_plain(value: Any, name: str) -> None:
    """Raise a TypeError for data that `save` does not accept."""
    # The exact type: a subclass, such as numpy's float64 or an enum, is pickled by its own name, and refused on load.
    kind = type(value)
    if kind in (dict, OrderedDict, Counter):  # MultiStepLR's milestones are a Counter
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
