"""The device code, run on the host by the emulator in tests/simt (see its README).

Needs only g++, without torch or a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from simt import plants, toolchain
from simt.toolchain import CSRC, MODES, SIMT, Result, Source

pytestmark = pytest.mark.skipif(
    toolchain.compiler_version() is None, reason=f"no C++ compiler ({toolchain.CXX})"
)

# The sources of each program, except for the emulator itself.
PROGRAMS = {
    "emulator": [Source(SIMT / "cases" / "emulator.cpp")],
    "toys": [Source(SIMT / "planted" / "toys.cpp")],
    "loss": [
        Source(SIMT / "cases" / "loss.cpp"),
        Source(CSRC / "cuda" / "loss_sums.cu"),
        Source(CSRC / "cuda" / "loss_pointwise.cu"),
    ],
    "features": [
        Source(SIMT / "cases" / "features.cpp"),
        Source(CSRC / "cuda" / "features.cu"),
    ],
    "noise": [
        Source(SIMT / "cases" / "noise.cpp", ("-DPYGAN_CPU_ISA=baseline",)),
        Source(CSRC / "cuda" / "noise.cu"),
        Source(CSRC / "cpu" / "noise.cpp", ("-DPYGAN_CPU_ISA=baseline",)),
    ],
}

Execute = Callable[..., Result]


@pytest.fixture(scope="session")
def build_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = getattr(request.config, "cache", None)  # absent with -p no:cacheprovider
    return cache.mkdir("simt") if cache else tmp_path_factory.mktemp("simt")


@pytest.fixture(scope="session")
def programs(build_folder: Path) -> dict[str, list[Source]]:
    """Name -> sources, including those with planted bugs. The patched kernels have a fixed path in the cache folder,
    because the path is part of the compiled objects' keys."""
    include = plants.patched_kernels(build_folder / "patched")
    bug = ("-include", str(SIMT / "planted" / "bug.h"))
    planted = {
        f"planted_{name}": [Source(SIMT / "planted" / f"{name}.cpp", bug, (include,))]
        for name in ("loss", "features", "noise")
    }
    return {**PROGRAMS, **planted}


@pytest.fixture(scope="session")
def execute(build_folder: Path, programs: dict[str, list[Source]]) -> Execute:
    """execute(name, mode, *arguments) builds a program if necessary, and runs it."""
    built: dict[tuple[str, str], Path] = {}

    def execute(name: str, mode: str, *arguments: object) -> Result:
        reason = toolchain.missing_runtime(mode)
        if reason is not None:
            pytest.skip(reason)
        if (name, mode) not in built:
            built[name, mode] = toolchain.build(name, programs[name], mode, build_folder)
        return toolchain.run(built[name, mode], *arguments)

    return execute


def assert_clean(result: Result) -> None:
    assert result.returncode == 0, result.output
    assert result.output.endswith("clean\n")


def assert_reported(result: Result, *messages: str) -> None:
    assert result.returncode != 0, result.output
    for message in messages:
        assert message in result.output


# --- The emulator ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_emulator_semantics(execute: Execute, mode: str) -> None:
    assert_clean(execute("emulator", mode, "semantics", 1))


MISUSES = {
    "block_too_large": ("bad launch at", "emulator.cpp:", "1 to 1024 threads, got 1025"),
    "block_empty": ("bad launch at", "emulator.cpp:", "1 to 1024 threads, got 0"),
    "grid_empty": ("bad launch at", "emulator.cpp:", "1 to 2^31 - 1 blocks, got 0"),
    "grid_too_large": ("bad launch at", "emulator.cpp:", "1 to 2^31 - 1 blocks, got 2147483648"),
    "too_much_shared": ("bad launch", "shared array large has 49156 bytes"),
    "exits_before_barrier": ("divergent barrier", "emulator.cpp:", "the kernel"),
    "two_barriers": ("divergent barrier", "emulator.cpp:", "threads wait at"),
    "lane_not_in_mask": ("bad mask", "emulator.cpp:", "lacks its own lane"),
    "lane_not_in_block": ("bad mask", "emulator.cpp:", "the block has no thread 31"),
    "reads_outside_mask": ("bad mask", "emulator.cpp:", "reads lane 7, not in mask 0x00000003"),
    "different_masks": ("bad mask", "emulator.cpp:", "0x00000003", "0x00000007"),
    "different_operations": ("divergent warp operation", "emulator.cpp:", "shuffle", "ballot"),
    "cyclic_wait": ("deadlock", "emulator.cpp:", "no thread can run"),
    "spin": ("deadlock", "emulator.cpp:", "waits for one that cannot come"),
}


@pytest.mark.parametrize("misuse", MISUSES)
def test_emulator_reports_misuse(execute: Execute, misuse: str) -> None:
    assert_reported(execute("emulator", "plain", misuse, 1), *MISUSES[misuse])


def test_shared_arrays_have_red_zones(execute: Execute) -> None:
    result = execute("emulator", "asan", "beyond_shared", 1)
    assert_reported(result, "heap-buffer-overflow", "beyond_shared")


# --- The project's kernels ---------------------------------------------------------------------------


# Each run tries many interleavings; another seed also draws other data. TSan is slow, and detects nearly every race in
# any interleaving.
RUNS = [("plain", 1), ("plain", 2), ("asan", 1), ("asan", 2), ("tsan", 1)]


@pytest.mark.parametrize("program", ["loss", "features", "noise"])
@pytest.mark.parametrize(("mode", "seed"), RUNS)
def test_kernels(execute: Execute, program: str, mode: str, seed: int) -> None:
    brief = ["brief"] if mode == "tsan" or seed > 1 else []
    assert_clean(execute(program, mode, seed, *brief))


# --- Planted bugs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("program", ["loss", "features", "noise"])
def test_patched_kernels_without_a_bug_are_clean(execute: Execute, program: str, mode: str) -> None:
    assert_clean(execute(f"planted_{program}", mode, 0, 1))


@pytest.mark.parametrize(
    ("bug", "report"),
    [
        pytest.param(bug, report, id=f"{bug}-{report.mode}")
        for bug, reports in plants.REPORTS.items()
        for report in reports
    ],
)
def test_bugs_planted_in_real_kernels_are_found(
    execute: Execute, bug: str, report: plants.Report
) -> None:
    result = execute(f"planted_{report.program}", report.mode, plants.BUGS.index(bug), 1)
    assert_reported(result, *report.messages)


@pytest.mark.parametrize("mode", MODES)
def test_correct_toy_kernels_are_clean(execute: Execute, mode: str) -> None:
    assert_clean(execute("toys", mode, "none", 1))


TOY_BUGS = {
    "tail_out_of_bounds": [("asan", "use-after-poison"), ("plain", "out of bounds")],
    "tail_guard_missing": [("asan", "use-after-poison"), ("plain", "out of bounds")],
    "barrier_missing": [("tsan", plants.RACE), ("plain", plants.POISON)],
    "barrier_in_branch": [("plain", "divergent barrier")],
    "shuffle_in_branch": [("plain", "divergent warp operation")],
    "shared_uninitialized": [("plain", plants.POISON)],
    "fence_missing": [("tsan", plants.RACE)],
    "fence_too_early": [("tsan", plants.RACE)],
    "reader_fence_missing": [("tsan", plants.RACE)],
    "column_fence_missing": [("tsan", plants.RACE)],
    "column_reader_fence_missing": [("tsan", plants.RACE)],
    "counter_plain_reset": [("tsan", plants.RACE)],
    "misaligned_vector": [("asan", "misaligned address")],
    "index_overflow": [("asan", "signed integer overflow")],
}


@pytest.mark.parametrize(
    ("bug", "mode", "message"),
    [(bug, *report) for bug, reports in TOY_BUGS.items() for report in reports],
)
def test_bugs_planted_in_toy_kernels_are_found(
    execute: Execute, bug: str, mode: str, message: str
) -> None:
    assert_reported(execute("toys", mode, bug, 1), message)
