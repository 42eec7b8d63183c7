"""Reads the machine code (SASS) of the CUDA kernels in a built library.

It needs cuobjdump and nvdisasm, from the toolkit, NVIDIA's wheels or triton's wheel, and c++filt; no GPU is needed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch


@dataclass(frozen=True)
class Kernel:
    """A kernel's code for one architecture."""

    name: str  # the C++ name
    arch: str
    registers: int
    shared: int  # bytes a block
    local: int  # bytes per thread: stack and register spills
    body: str

    def of_16_bytes(self, operation: str) -> int:
        """Number of 16-byte loads (LDG) or stores (STG)."""
        return len(re.findall(rf"\b{operation}\.[\w.]*128\b", self.body))


def find_tools() -> Path | None:
    """The folder that contains cuobjdump and nvdisasm, or None."""
    site = Path(torch.__file__).parents[1]
    folders = [Path(p) for p in os.environ.get("PATH", "").split(os.pathsep)]
    folders += [Path("/usr/local/cuda/bin"), *sorted(site.glob("nvidia/cu*/bin"))]
    folders += [site / "triton" / "backends" / "nvidia" / "bin"]
    tools = ("cuobjdump", "nvdisasm")
    return next((d for d in folders if all(os.access(d / t, os.X_OK) for t in tools)), None)


@lru_cache
def dump(library: str, *options: str) -> str:
    """Run cuobjdump and return its output.

    Raises:
        FileNotFoundError: cuobjdump or c++filt is missing; the message says where to get it.
    """
    folder = find_tools()
    if folder is None:
        raise FileNotFoundError(
            "cuobjdump and nvdisasm were not found: pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm"
        )
    environ = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}
    command = [str(folder / "cuobjdump"), *options, library]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout


def plain(text: str) -> str:
    """Demangle the C++ names in a text."""
    if shutil.which("c++filt") is None:
        raise FileNotFoundError("c++filt was not found: it is in binutils, which come with g++")
    return subprocess.run(
        ["c++filt"], input=text, capture_output=True, text=True, check=True
    ).stdout


def read(library: str, arch: str, pattern: str = "") -> dict[str, Kernel]:
    """The kernels for an architecture (sm_90) whose demangled names match the pattern."""
    usage: dict[str, str] = {}
    for part in re.split(r"^arch = ", dump(library, "--dump-resource-usage"), flags=re.MULTILINE):
        if part.split(maxsplit=1)[:1] == [arch]:
            usage.update(re.findall(r"^\s*Function (.+):\n\s*(\S.*)$", part, flags=re.MULTILINE))
    names = dict(zip(usage, plain("\n".join(usage)).splitlines()))
    wanted = [mangled for mangled, name in names.items() if re.search(pattern, name)]
    if not wanted:
        return {}
    options = ["--dump-sass", "-arch", arch, *(["-fun", ",".join(wanted)] if pattern else [])]
    functions = re.split(r"^\s*Function : ", dump(library, *options), flags=re.MULTILINE)
    kernels = {}
    for mangled, _, body in (function.partition("\n") for function in functions[1:]):
        used = {k: int(v) for k, v in re.findall(r"(\w+):(\d+)", usage[mangled])}
        local = used["STACK"] + used["LOCAL"]
        kernel = Kernel(names[mangled], arch, used["REG"], used["SHARED"], local, body)
        kernels[kernel.name] = kernel
    return kernels
