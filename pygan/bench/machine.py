"""The machine and software on which a benchmark ran, as far as readers need them to interpret its numbers."""

from __future__ import annotations

import datetime
import os
import sys
from pathlib import Path
from typing import Any

import torch

import pygan

__all__ = ["about", "bind_threads", "cache_size"]


# Each of these configures the binding of OpenMP's threads.
BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")


def bind_threads() -> None:
    """Restart this program with each OpenMP thread bound to a processor, unless the environment configures the binding.

    Otherwise the threads of a pool may share a processor for a whole benchmark: on two processors, two threads took 46
    µs instead of 28 in one process out of six.
    """
    if not any(name in os.environ for name in BINDING):
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "OMP_PROC_BIND": "true"})


def cache_size() -> int:
    """Size of the CPU's largest cache in bytes; 32 MiB if the system does not report it."""
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
