"""Predicts from their machine code the CUDA kernels' share of the peak bandwidth. No GPU is needed.

The time of a streaming kernel is the maximum of the time to move its bytes and the times that `throughput.clocks`
counts along a path through its main loop; `instructions.main_loop` finds the path.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from machine_code import sass
from machine_code.gpus import GPU, GPUS
from machine_code.instructions import main_loop
from machine_code.throughput import clocks
from pygan import _C

ELEMENTS = 16 << 20  # elements of each tensor
THREADS = 256  # threads per block: kThreads in csrc/cuda/reduce.cuh
PIPES_SHOWN = ("fp32", "integer", "multiply", "special", "memory")
ATTAINABLE = 0.92  # attainable share of the data sheet's bandwidth

ASSUMPTIONS = (
    "Predicted from the machine code; nothing here was run on a GPU.",
    f"16 Mi elements a tensor (a loss has two), contiguous and aligned; all bytes come from DRAM and go there. The "
    f"memory's limit is {ATTAINABLE:.0%} of the data sheet's bandwidth; clocks are the boost clocks.",
    "Losses: the discriminator's of non_saturating, without label smoothing and statistics. Noise: one sigma, unless "
    "it says one per sample. Feature matching: l1, and the gradient from its signs.",
    "Throughputs an SM and clock are those of the CUDA C++ Programming Guide; 16 for MUFU and for all conversions; a "
    "32 x 32 -> 64 bit product counts as two multiplications. A pipe and a scheduler can be kept busy all the time.",
    "Latency: each warp by itself issues in order, waits for what an instruction reads (4 clocks for arithmetic, "
    "20 for MUFU and conversions, 30 for constants and shared memory, and for DRAM "
    + ", ".join(f"{gpu.name} {gpu.latency_ns} ns" for gpu in GPUS)
    + "), and resident warps overlap perfectly.",
    "Blocks are dealt out evenly, and the SM with the most of them decides. Limit and prediction both begin with one "
    "latency of DRAM; the prediction ends with half of one for each trip of the last block to L2.",
)


@dataclass(frozen=True)
class Case:
    """A kernel with its types, under its name in the table."""

    name: str
    dtype: str
    pattern: str  # matches the kernel's C++ name
    read: int  # bytes per element
    written: int
    tensors: int
    blocks: int  # maximum number of blocks: kMaxBlocks in csrc/cuda/reduce.cuh
    waits: int  # consecutive round trips to L2 by a block after the main loop
    trips: int  # additional round trips to L2 by the last block
    fp32: int  # minimum fp32 instructions per element; a kernel with fewer is not the one in the table
    singles: int = 0  # numbers loaded in addition to the vectors, per iteration

    @property
    def label(self) -> tuple[str, str]:
        return self.name, self.dtype


@dataclass(frozen=True)
class Row:
    """The prediction for a kernel on a GPU. Clocks are per SM and element."""

    kernel: str
    dtype: str
    gpu: str
    arch: str
    registers: int
    shared: int  # bytes per block
    local: int  # bytes per thread, including spills
    occupancy: float  # resident warps as a share of an SM's maximum
    bytes: float  # per element
    instructions: dict[str, float]  # per element, by pipe
    clocks: dict[str, float]  # by possible bottleneck
    bound: str  # the bottleneck
    predicted_share: float  # of the attainable bandwidth

    @property
    def label(self) -> tuple[str, str]:
        return self.kernel, self.dtype


BLOCKS = 1056  # maximum number of blocks per launch: kMaxBlocks in csrc/cuda/reduce.cuh


def _cases() -> tuple[Case, ...]:
    types = {
        "float32": ("float", 4),
        "bfloat16": ("pygan::bfloat16_t", 2),
        "uint8": ("unsigned char", 1),
    }
    cases = []
    for dtype in ("float32", "bfloat16"):
        name, size = types[dtype]
        sums = rf"\bgan_loss_sums_kernel<{name}, \(pygan::cuda::With\)"
        grad = rf"\bgan_loss_grad_kernel<{name}>"
        # Each block stores its sum, fences and counts; the last one reads the sums and writes the loss.
        cases += [
            Case("loss", dtype, sums + "0>", size, 0, 2, BLOCKS, 2, 4, 14),
            Case("loss and gradient", dtype, sums + "1>", size, size, 2, BLOCKS, 2, 4, 18),
            Case("loss backward", dtype, grad, size, size, 2, BLOCKS, 0, 0, 18),
        ]
        maps = rf"\bfeature_sums_kernel<{name}, \(pygan::Distance\)0, false>"
        slopes = rf"\bfeature_gradient_kernel<{name}>"
        # An element comprises one value of each map; a sign is a byte.
        cases += [
            Case("feature matching", dtype, maps, 2 * size, 0, 1, BLOCKS, 2, 4, 2),
            Case("feature gradient", dtype, slopes, 1, size, 1, BLOCKS, 0, 0, 1),
        ]
    for dtype, out in (("float32", "float32"), ("bfloat16", "bfloat16"), ("uint8", "bfloat16")):
        (x, read), (y, written) = types[dtype], types[out]
        pattern = rf"\binstance_noise_kernel<{x}, {y}>"
        label = dtype if dtype == out else f"{dtype} -> {out}"
        # Blocks count themselves at the start, and do not wait at the end.
        cases.append(Case("noise", label, pattern, read, written, 1, BLOCKS, 0, 0, 10))
        if dtype == out:  # a group loads its sample's sigma
            name = "noise, per sample"
            cases.append(Case(name, label, pattern, read, written, 1, BLOCKS, 0, 0, 10, singles=1))
    return tuple(cases)


CASES = _cases()


def predict(case: Case, kernel: sass.Kernel, gpu: GPU) -> Row:
    loop = main_loop(kernel.body, case.read, case.written, case.fp32, case.singles)
    warps = gpu.resident_blocks(THREADS, kernel.registers, kernel.shared) * THREADS // 32
    bytes_ = case.read + case.written
    elements = case.tensors * ELEMENTS
    tiles = elements // (THREADS * loop.elements)
    blocks = min(case.blocks, tiles)
    busiest = -(-blocks // gpu.sms) * gpu.sms / blocks
    trip = gpu.latency / 2
    own = clocks(loop, tiles / blocks, case.waits * trip, gpu, warps)
    bounds = {
        "bandwidth": bytes_ / (gpu.bytes_a_clock * ATTAINABLE),
        **{name: value * busiest for name, value in own.items()},
    }
    bound = max(bounds, key=lambda name: bounds[name])
    limit = bounds["bandwidth"] * elements / gpu.sms + gpu.latency
    time = bounds[bound] * elements / gpu.sms + gpu.latency + case.trips * trip
    pipes = Counter(instruction.pipe for instruction in loop.path)
    return Row(
        kernel=case.name,
        dtype=case.dtype,
        gpu=gpu.name,
        arch=gpu.arch,
        registers=kernel.registers,
        shared=kernel.shared,
        local=kernel.local,
        occupancy=warps / gpu.warps,
        bytes=bytes_,
        instructions={pipe: n / loop.elements for pipe, n in sorted(pipes.items())},
        clocks=bounds,
        bound=bound,
        predicted_share=limit / time,
    )


def rows(library: str | None = None) -> list[Row]:
    """A row for each kernel on each GPU, from the built extension module.

    Raises:
        FileNotFoundError: a tool is missing (see `sass`).
        ValueError: the library has no code for one of the GPUs, or a kernel has no main loop.
    """
    result = []
    for gpu in GPUS:
        pattern = "|".join(case.pattern for case in CASES)
        kernels = sass.read(library or _C.__file__, gpu.arch, pattern)
        for case in CASES:
            found = [k for name, k in kernels.items() if re.search(case.pattern, name)]
            if not found:
                raise ValueError(
                    f"this build has no {case.name} kernel for {gpu.arch} ({gpu.name})"
                )
            result.append(predict(case, found[0], gpu))
    return sorted(result, key=lambda row: [case.label for case in CASES].index(row.label))


def table(rows: Sequence[Row]) -> str:
    """The rows as text; instructions are per element."""
    head = (
        f"{'kernel':<18} {'dtype':<18} {'GPU':<5} {'regs':>4} {'spills':>6} {'shared':>6} {'warps':>5} {'bytes':>5} "
        f"{'instr':>5} {'fp32':>5} {'int':>5} {'mult':>5} {'spec':>5} {'mem':>5} {'bound':<9} predicted share"
    )
    lines = [head]
    for r in rows:
        counts = [r.instructions.get(pipe, 0) for pipe in PIPES_SHOWN]
        shown = " ".join(f"{n:>5.1f}" for n in (sum(r.instructions.values()), *counts))
        lines.append(
            f"{r.kernel:<18} {r.dtype:<18} {r.gpu:<5} {r.registers:>4} {r.local:>6} {r.shared:>6} "
            f"{r.occupancy:>5.0%} {r.bytes:>5.0f} {shown} {r.bound:<9} {r.predicted_share:>15.0%}"
        )
    return "\n".join(lines)
