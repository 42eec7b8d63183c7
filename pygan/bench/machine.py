"""On what a benchmark ran: everything that a reader needs to make sense of its numbers."""

from __future__ import annotations

import datetime
import os
import sys
from pathlib import Path
from typing import Any

import torch

import pygan

__all__ = ["about", "bind_threads", "cache_size"]


# Any of these binds OpenMP's threads, or says not to.
BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")


def bind_threads() -> None:
    """Starts this program anew with a processor for each thread of OpenMP, unless the environment says where they go.

    Left to the system, the threads of a pool may share a processor for as long as a benchmark runs: in one process of
    six, on two processors, two threads took 46 µs where they else took 28.
    """
    if not any(name in os.environ for name in BINDING):
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "OMP_PROC_BIND": "true"})


def cache_size() -> int:
    """Bytes of the CPU's largest cache; 32 MiB where the system does not say."""
    sizes = [
        int(path.read_text().strip().removesuffix("K")) << 10
        for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
        if path.read_text().strip().endswith("K")
    ]
    return max(sizes, default=32 << 20)


def about(device: torch.device) -> dict[str, Any]:
    """Date, versions, the machine, the backend and the number of threads."""
    info = pygan.build_info()
    cuda = device.type == "cuda"
    return {
        "date": datetime.date.today().isoformat(),
        "pygan": info["version"],
        "torch": info["torch_running"],
        "compiler": info["compiler"],
        "python": info["python"],
        "platform": info["platform"],
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "cache": f"{cache_size() >> 20} MiB",
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "backend": f"cuda {info['cuda_version']}" if cuda else info["cpu_capability"],
        "threads": torch.get_num_threads(),
        "binding": ", ".join(f"{n}={os.environ[n]}" for n in BINDING if n in os.environ) or "none",
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown"
