"""The time that a loop of machine code takes on an SM: throughput, schedulers and latency."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from machine_code.gpus import GPU
from machine_code.instructions import Instruction, Loop


def cost(instruction: Instruction) -> float:
    """Cost of an instruction in issue slots of its pipe."""
    if instruction.pipe == "memory":
        return instruction.width
    wide = instruction.pipe == "multiply" and any(
        s in instruction.operation for s in (".WIDE", ".HI")
    )
    return 2 if wide else 1


def throughput(gpu: GPU, pipe: str) -> int:
    """Threads per clock and SM."""
    rates = {"fp32": gpu.fp32, "fp64": gpu.fp64, "multiply": gpu.multiply, "special": gpu.special}
    return {**rates, "memory": gpu.memory, "integer": gpu.integer}.get(pipe, gpu.issue)


def warp_clocks(path: Sequence[Instruction], gpu: GPU, times: int = 1) -> float:
    """Clocks of the last of `times` passes along the path, for a warp that is alone on an SM."""
    latencies = {"fp32": 4, "integer": 4, "multiply": 4, "special": 20, "fp64": 16, "other": 30}
    ready: dict[str, float] = {}
    free: dict[str, float] = {}
    now = start = 0.0
    for _ in range(times):
        start = now
        for one in path:
            written, read = one.registers
            now = max(now + 1, free.get(one.pipe, 0), *(ready.get(r, 0) for r in read), 0)
            free[one.pipe] = now + cost(one) * gpu.issue / throughput(gpu, one.pipe)
            # A predicated load reads an optional tensor that the calls in the tables do not have.
            loads = one.moves("LDG") and not one.predicate
            waits = gpu.latency if loads else latencies.get(one.pipe, 30)
            ready.update((register, now + waits) for register in written)
    return now - start


def clocks(loop: Loop, rounds: float, waits: float, gpu: GPU, warps: int) -> dict[str, float]:
    """Clocks per element and SM for each possible bottleneck of a kernel within the SM.

    `rounds`: iterations of the loop per block; `waits`: clocks that a block waits before another one takes its place.
    """
    turns: dict[str, float] = defaultdict(float)
    ends = [*loop.before, *loop.after]
    for path, times in ((loop.path, rounds), (ends, 1)):
        for instruction in path:
            turns[instruction.pipe] += times * cost(instruction)
    busy = {pipe: n / throughput(gpu, pipe) for pipe, n in turns.items() if pipe != "other"}
    # If fp32 has two pipes, integer products use one of them.
    busy["fp32"] = max(busy.get("fp32", 0), (turns["fp32"] + turns["multiply"]) / gpu.fp32)
    busy["issue"] = (len(loop.path) * rounds + len(ends)) / gpu.issue
    alone = warp_clocks(loop.path, gpu, 2) * rounds + warp_clocks(ends, gpu) + waits
    busy["latency"] = alone / (32 * warps)
    return {name: value / (loop.elements * rounds) for name, value in busy.items()}
