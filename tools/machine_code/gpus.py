"""The GPUs for which predictions are made, with the properties that matter to streaming kernels.

Bandwidth, clocks and the number of multiprocessors (SMs) are from data sheets (Tesla T4, A100, L40S, H100, and NVIDIA's
DGX B200 for the last) and white papers. The resources of an SM and its throughput per clock are from the CUDA C++
Programming Guide's tables of technical specifications and arithmetic throughput for each compute capability. If the
guide gives a range or no number, the lower number is used.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GPU:
    """A GPU. Throughputs are in threads per SM and clock."""

    name: str
    arch: str
    sms: int
    ghz: float  # boost clock
    gb_s: float  # memory bandwidth in the data sheet
    fp32: int
    fp64: int
    warps: int  # maximum number of resident warps per SM
    blocks: int
    shared_kb: int  # an SM
    latency_ns: int  # of a load from busy DRAM
    registers: int = 1 << 16  # an SM
    issue: int = 128  # four schedulers with one warp each
    integer: int = 64  # also comparisons, selections, logic and shifts
    multiply: int = 64  # integer products; shares its pipe with fp32
    special: int = 16  # MUFU and conversions
    memory: int = 16  # threads that move 4 bytes each: 64 bytes between an SM and L2

    @property
    def bytes_a_clock(self) -> float:
        """Bytes per clock in an SM's equal share of the memory bandwidth."""
        return self.gb_s / self.ghz / self.sms

    @property
    def latency(self) -> float:
        """Memory latency in clocks."""
        return self.latency_ns * self.ghz

    def resident_blocks(self, threads: int, registers: int, shared: int) -> int:
        """Number of resident blocks per SM, for blocks with so many threads, registers per thread and bytes of shared
        memory."""
        block_warps = -(-threads // 32)
        # A warp gets registers in units of 256, and the warps of a block are distributed over four schedulers.
        of_warp = -(-registers * 32 // 256) * 256
        by_registers = self.registers // 4 // of_warp * 4 // block_warps
        # From sm_80 on, the system reserves 1 KB per block.
        own = shared + (0 if self.arch == "sm_75" else 1024)
        by_shared = self.shared_kb * 1024 // max(own, 1)
        return min(by_registers, by_shared, self.blocks, self.warps // block_warps)


# The latency of busy memory is about twice that of idle memory (published measurements: about 0.4 us for GDDR6, 0.5 for
# the HBM of A100 and H100); B200 is assumed to be slower still, because its memory is attached to two dies.
GPUS = (
    GPU("T4", "sm_75", 40, 1.59, 320, 64, 2, 32, 16, 64, 800),
    GPU("A100", "sm_80", 108, 1.41, 1555, 64, 32, 64, 32, 164, 1000),  # SXM, 40 GB
    GPU("L40S", "sm_89", 142, 2.52, 864, 128, 2, 48, 24, 100, 800),
    GPU("H100", "sm_90", 132, 1.98, 3350, 128, 64, 64, 32, 228, 1000),  # SXM
    GPU("B200", "sm_100", 148, 1.965, 8000, 128, 64, 64, 32, 228, 1200),
)
