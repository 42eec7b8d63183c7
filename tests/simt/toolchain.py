"""Builds and runs the emulator's programs with g++: plain, with ASan + UBSan, and with TSan.

Objects are cached under a key of the compiler, the flags and the content of every input file, so that a second run of
the tests compiles nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

SIMT = Path(__file__).resolve().parent
ROOT = SIMT.parent.parent
CSRC = ROOT / "csrc"
CXX = os.environ.get("CXX", "g++")

# -ffp-contract=off, as for the extension itself, because the bits must be the same.
COMMON = ("-std=c++20", "-g1", "-O1", "-ffp-contract=off", "-fno-math-errno")
SANITIZERS: Mapping[str, Sequence[str]] = {
    "plain": (),
    # The omitted checks find nothing here that ASan does not find, and double the compile time.
    "asan": (
        "-fsanitize=address,undefined",
        "-fno-sanitize=null,object-size,vptr",
        "-fno-sanitize-recover=all",
        "-fno-omit-frame-pointer",
    ),
    "tsan": ("-fsanitize=thread",),
}
MODES = tuple(SANITIZERS)
RUNTIME = (SIMT / "scheduler.cpp", SIMT / "grid.cpp", SIMT / "warp.cpp")

ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1 exitcode=66",
}


@dataclasses.dataclass(frozen=True)
class Source:
    """A translation unit: its file, flags in addition to the mode's, and folders to search before csrc/."""

    path: Path
    flags: tuple[str, ...] = ()
    include: tuple[Path, ...] = ()
    sanitized: bool = True


@dataclasses.dataclass(frozen=True)
class Result:
    returncode: int
    output: str


def _run(command: Sequence[object]) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


@cache
def compiler_version() -> str | None:
    """The compiler's version text; None if there is no compiler, or if it is not compatible with GCC."""
    if shutil.which(CXX) is None:
        return None
    return _run([CXX, "--version"]).splitlines()[0]


@cache
def missing_runtime(mode: str) -> str | None:
    """Why programs of this mode cannot be built or run here, or None. (On some systems, a sanitizer's library is a
    separate package.)"""
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "probe.cpp"), Path(folder, "probe")
        source.write_text("int main() { return 0; }\n")
        try:
            _run([CXX, *SANITIZERS[mode], source, "-o", program])
            _run([*_fixed_addresses(), program])
        except RuntimeError as error:
            return f"{CXX} {' '.join(SANITIZERS[mode])}: {str(error).strip().splitlines()[-1]}"
    return None


@cache
def _fixed_addresses() -> tuple[str, ...]:
    """A command prefix for GCC's TSan, which fails if the kernel randomizes more address bits than it supports."""
    command = ("setarch", "-R")
    if shutil.which(command[0]) is None:
        return ()
    tried = subprocess.run([*command, "true"], capture_output=True)
    return command if tried.returncode == 0 else ()


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:24]


def _command(source: Source, mode: str) -> list[str]:
    flags = [*COMMON, *source.flags]
    if source.sanitized:
        flags += ["-DPYGAN_SIMT", *SANITIZERS[mode]]
    elif mode != "plain":
        flags += [f"-DSIMT_{mode.upper()}"]
    folders = [*source.include, CSRC, SIMT]
    return [CXX, *flags, *(f"-I{folder}" for folder in folders), "-x", "c++"]


def _object(source: Source, mode: str, folder: Path) -> Path:
    command = _command(source, mode)
    rule = _run([*command, "-MM", source.path]).replace("\\\n", " ")
    inputs = sorted(Path(name) for name in rule.split(":", 1)[1].split())
    contents = [(ROOT / name).read_bytes() for name in inputs]
    key = _digest(str(compiler_version()).encode(), " ".join(command).encode(), *contents)
    target = folder / f"{source.path.stem}-{mode}-{key}.o"
    if not target.exists():
        _replace(target, [*command, "-c", source.path])
    return target


def _replace(target: Path, command: Sequence[object]) -> None:
    """Create `target` atomically, because other processes may create it at the same time."""
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    _run([*command, "-o", unfinished])
    unfinished.replace(target)


def build(name: str, sources: Sequence[Source], mode: str, folder: Path) -> Path:
    """Compile and link a program; returns its path. Two compilers run at a time."""
    # The runtime is never instrumented, because TSan would report the emulator's own bookkeeping.
    everything = [*sources, *(Source(path, ("-O2",), sanitized=False) for path in RUNTIME)]
    with ThreadPoolExecutor(max_workers=2) as pool:
        objects = list(pool.map(lambda source: _object(source, mode, folder), everything))
    program = folder / f"{name}-{mode}-{_digest(*(o.name.encode() for o in objects))}"
    if not program.exists():
        _replace(program, [CXX, *SANITIZERS[mode], *objects])
    return program


def run(program: Path, *arguments: object, timeout: float = 300) -> Result:
    """Run a program; its stdout and stderr are combined."""
    done = subprocess.run(
        [*_fixed_addresses(), str(program), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        env={**os.environ, **ENVIRONMENT},
    )
    return Result(done.returncode, done.stdout)
