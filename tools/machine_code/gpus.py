"""The GPUs that predictions are made for: what a streaming kernel needs to know of each.

Bandwidth, clocks and the number of multiprocessors (SMs) are the data sheets' (Tesla T4, A100, L40S,
H100) and white papers'; NVIDIA's DGX B200 for the last. What an SM holds and does in a clock is in the
CUDA C++ Programming Guide: tables of technical specifications and of arithmetic throughput for each
compute capability. Where the guide gives a range or says nothing, the lower number stands here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GPU:
    """One GPU. Throughputs are threads an SM and clock."""

    name: str
    arch: str
    sms: int
    ghz: float  # boost
    gb_s: float  # of its memory, as the data sheet has it
    fp32: int
    fp64: int
    warps: int  # resident in an SM, at most
    blocks: int
    shared_kb: int  # an SM
    latency_ns: int  # of a load from DRAM while the memory is busy
    registers: int = 1 << 16  # an SM
    issue: int = 128  # four schedulers, a warp each
    integer: int = 64  # and comparisons, selections, logic, shifts
    multiply: int = 64  # of integers; shares its pipe with fp32
    special: int = 16  # MUFU and conversions
    memory: int = 16  # threads whose 4 bytes move: 64 bytes between an SM and L2

    @property
    def bytes_a_clock(self) -> float:
        """Of an SM's equal part of the memory's bandwidth."""
        return self.gb_s / self.ghz / self.sms

    @property
    def latency(self) -> float:
        """In clocks."""
        return self.latency_ns * self.ghz

    def resident_blocks(self, threads: int, registers: int, shared: int) -> int:
        """Of these threads, registers a thread and bytes of shared memory, an SM's at a time."""
        block_warps = -(-threads // 32)
        # Registers are handed out to a warp in 256s, and the warps of a block go to four schedulers.
        of_warp = -(-registers * 32 // 256) * 256
        by_registers = self.registers // 4 // of_warp * 4 // block_warps
        # From sm_80 on, the system keeps 1 KB of each block's.
        own = shared + (0 if self.arch == "sm_75" else 1024)
        by_shared = self.shared_kb * 1024 // max(own, 1)
        return min(by_registers, by_shared, self.blocks, self.warps // block_warps)


# A loaded memory answers about twice as late as an idle one (measured by others: some 0.4 us for GDDR6,
# 0.5 for HBM of A100 and H100); B200 is taken to be slower still, its memory being behind two dies.
GPUS = (
    GPU("T4", "sm_75", 40, 1.59, 320, 64, 2, 32, 16, 64, 800),
    GPU("A100", "sm_80", 108, 1.41, 1555, 64, 32, 64, 32, 164, 1000),  # SXM, 40 GB
    GPU("L40S", "sm_89", 142, 2.52, 864, 128, 2, 48, 24, 100, 800),
    GPU("H100", "sm_90", 132, 1.98, 3350, 128, 64, 64, 32, 228, 1000),  # SXM
    GPU("B200", "sm_100", 148, 1.965, 8000, 128, 64, 64, 32, 228, 1200),
)
