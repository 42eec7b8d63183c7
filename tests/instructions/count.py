"""Counts the instructions of the built extension's CPU kernels, and records the limits.

``python tests/instructions/count.py`` prints the counts next to the recorded ones; with ``--renew`` it records those of
this build, which is appropriate after an intended change or a change of compiler.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from pygan import _C

HERE = Path(__file__).resolve().parent
RECORD = HERE / "counts.json"
CAPABILITIES = ("baseline", "avx2", "avx512")

# Number of elements for which instructions are counted: one block of a loss, eight of the noise.
ELEMENTS = 1024
# Only the main kernels: without hardware fma the compiler vectorizes little, and each step takes microseconds.
BASELINE = ("Logistic value, grad", "Logistic backward", "noise fp32")


@cache
def library(compiler: str = "g++") -> ctypes.CDLL:
    """Compile the counting code, which uses the kernels in the built extension."""
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder, "kernels.so")
        flags = ["-std=c++20", "-O1", "-shared", "-fPIC", f"-I{HERE.parents[1] / 'csrc'}"]
        subprocess.run([compiler, *flags, str(HERE / "kernels.cpp"), "-o", str(built)], check=True)
        loaded = ctypes.CDLL(str(built))
    loaded.case_name.restype = ctypes.c_char_p
    loaded.instructions.restype = ctypes.c_int64
    loaded.instructions.argtypes = [ctypes.c_size_t, ctypes.c_int, ctypes.c_int64]
    return loaded


def names() -> Iterator[tuple[int, str]]:
    index = 0
    while (name := library().case_name(index)) is not None:
        yield index, name.decode()
        index += 1


def count(capability: str) -> dict[str, int]:
    """Name -> instructions for ELEMENTS elements in the middle of a large array, as the difference of two runs."""
    table = _C.cpu_kernels(capability)
    run = library().instructions
    return {
        name: run(table, index, 2 * ELEMENTS) - run(table, index, ELEMENTS)
        for index, name in names()
        if capability != "baseline" or name in BASELINE
    }


def recorded() -> dict:
    return json.loads(RECORD.read_text())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--renew", action="store_true", help="record the counts of this build")
    options = parser.parse_args(arguments)
    record = recorded() if RECORD.exists() else {}
    for capability in CAPABILITIES:
        if not _C.cpu_kernels(capability):
            print(f"{capability}: not on this machine")
            continue
        counts = count(capability)
        before = record.get(capability, {})
        for name, instructions in counts.items():
            print(f"{capability:9}{name:32}{instructions:9}{before.get(name, 0):9}")
        record[capability] = counts
    if options.renew:
        record["compiler"] = _C.build_config()["cxx"]
        RECORD.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
