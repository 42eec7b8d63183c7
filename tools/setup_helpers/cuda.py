"""Decides whether to build the CUDA kernels, with which compiler and for which architectures.

Whether they are built depends on the installed torch and the available compilers, never on a GPU, because wheels are
built on machines without one. If there is a GPU, it determines the architectures.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .torch_info import TorchInfo

DEFAULT_ARCHS = ("7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "11.0", "12.0+PTX")

# The names in TORCH_CUDA_ARCH_LIST, with their meaning in torch.utils.cpp_extension.
NAMED_ARCHS = {
    "Kepler+Tesla": "3.7",
    "Kepler": "3.5+PTX",
    "Maxwell+Tegra": "5.3",
    "Maxwell": "5.0;5.2+PTX",
    "Pascal": "6.0;6.1+PTX",
    "Volta+Tegra": "7.2",
    "Volta": "7.0+PTX",
    "Turing": "7.5+PTX",
    "Ampere+Tegra": "8.7",
    "Ampere": "8.0;8.6+PTX",
    "Ada": "8.9+PTX",
    "Hopper": "9.0+PTX",
    "Blackwell+Tegra": "11.0",
    "Blackwell": "10.0;10.3;12.0;12.1+PTX",
}


class CudaError(RuntimeError):
    """The CUDA kernels were requested (PYGAN_CUDA=1), or options for them, but they cannot be built."""


@dataclass(frozen=True)
class Compiler:
    """A working nvcc."""

    nvcc: Path
    version: str  # "13.0"
    root: Path  # the folder with bin/ and include/
    found_by: str  # "CUDA_HOME", "PATH", ...

    @property
    def major(self) -> str:
        return self.version.split(".")[0]


@dataclass(frozen=True)
class CudaConfig:
    """The decision; `reason` is a sentence that build_info() reports."""

    reason: str
    compiler: Compiler | None = None
    archs: tuple[str, ...] = ()  # "8.0", "12.0+PTX"
    include_dirs: tuple[Path, ...] = ()  # for C++ files that include torch's CUDA headers
    kernel_include_dirs: tuple[Path, ...] = ()  # for nvcc, if it has no headers of its own
    cudart: Path | None = None

    @property
    def enabled(self) -> bool:
        return self.compiler is not None


def _probe(nvcc: Path, found_by: str) -> Compiler | None:
    """The compiler at a path, or None if there is none that works."""
    if not nvcc.is_file():
        return None
    try:
        banner = subprocess.run(
            [str(nvcc), "--version"], capture_output=True, text=True, timeout=60
        ).stdout
        # nvcc may be a script or a link, so ask it for the location of its toolkit.
        plan = subprocess.run(
            [str(nvcc), "--dryrun", "-c", "-x", "cu", os.devnull, "-o", os.devnull],
            capture_output=True,
            text=True,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"release (\d+\.\d+)", banner)
    if not version:
        return None
    top = re.search(r"^#\$ TOP=(.+)$", plan.stderr, re.MULTILINE)
    root = Path(top.group(1).strip()) if top else nvcc.parent.parent
    return Compiler(nvcc, version.group(1), root.resolve(), found_by)


def find_compilers(site_dirs: Iterable[str], environ: Mapping[str, str]) -> list[Compiler]:
    """Every working nvcc, in order of preference: CUDA_HOME, PATH, /usr/local/cuda, PyPI's wheels."""
    places = [
        (Path(environ[v]) / "bin" / "nvcc", v) for v in ("CUDA_HOME", "CUDA_PATH") if environ.get(v)
    ]
    on_path = shutil.which("nvcc", path=environ.get("PATH", ""))
    if on_path:
        places.append((Path(on_path), "PATH"))
    places.append((Path("/usr/local/cuda/bin/nvcc"), "/usr/local/cuda"))
    for site in site_dirs:
        places += [(nvcc, "PyPI wheels") for nvcc in sorted(Path(site).glob("nvidia/cu*/bin/nvcc"))]
    found = {}
    for nvcc, found_by in places:
        compiler = _probe(nvcc, found_by)
        if compiler:
            found.setdefault(compiler.root, compiler)
    return list(found.values())


def wheel_requirements(cuda_version: str) -> list[str]:
    """The PyPI packages that together form a compiler for torch's CUDA version ("13.0").

    Empty before CUDA 13: earlier wheels do not contain nvcc itself.
    """
    if int(cuda_version.split(".")[0]) < 13:
        return []
    pinned = [
        f"{name}=={cuda_version}.*"
        for name in ("nvidia-cuda-nvcc", "nvidia-cuda-crt", "nvidia-nvvm")
    ]
    return [*pinned, "nvidia-cuda-cccl"]


def parse_archs(text: str) -> tuple[str, ...]:
    """TORCH_CUDA_ARCH_LIST ("8.0;9.0a 12.0+PTX", "Ampere;Hopper") as a tuple of numbers.

    Raises:
        CudaError: an entry is neither a name nor major.minor, optionally followed by a or f and by +PTX.
    """
    entries = [entry for entry in re.split(r"[;,\s]+", text) if entry]
    archs = [arch for entry in entries for arch in NAMED_ARCHS.get(entry, entry).split(";")]
    for arch in archs:
        if not re.fullmatch(r"\d+\.\d[af]?(\+PTX)?", arch):
            raise CudaError(
                "TORCH_CUDA_ARCH_LIST: each entry must look like 8.0, 9.0a or 12.0+PTX, or be one of "
                f"{', '.join(NAMED_ARCHS)}, got {arch!r}"
            )
    return tuple(dict.fromkeys(archs))


def _supported(compiler: Compiler, archs: Iterable[str]) -> tuple[str, ...]:
    """The architectures that this compiler supports, oldest first; PTX is added to the newest."""
    known = subprocess.run(
        [str(compiler.nvcc), "--list-gpu-code"], capture_output=True, text=True
    ).stdout.split()
    kept = [
        a
        for a in (arch.removesuffix("+PTX") for arch in archs)
        if "sm_" + a.replace(".", "") in known
    ]
    return (*kept[:-1], kept[-1] + "+PTX") if kept else ()


def _choose_archs(compiler: Compiler, gpus: Sequence[str], listed: str) -> tuple[str, ...]:
    """The architectures in TORCH_CUDA_ARCH_LIST; else those of this machine's GPUs, like torch's own extensions; else
    the defaults."""
    if listed:
        return parse_archs(listed)
    of_gpus = _supported(compiler, sorted(gpus, key=float))
    # PTX may work on a GPU that this compiler does not support.
    return of_gpus if gpus and len(of_gpus) == len(gpus) else _supported(compiler, DEFAULT_ARCHS)


def _cudart(compiler: Compiler, wheel_dirs: Iterable[Path]) -> Path | None:
    """The CUDA runtime to link: torch's own if it is a wheel, by its full name, because wheels have no libcudart.so."""
    folders = [d / "lib" for d in wheel_dirs] + [compiler.root / "lib64", compiler.root / "lib"]
    names = (f"libcudart.so.{compiler.major}", "libcudart.so", "libcudart_static.a")
    return next((d / n for n in names for d in folders if (d / n).is_file()), None)


def configure(torch: TorchInfo, environ: Mapping[str, str]) -> CudaConfig:
    """Decide according to PYGAN_CUDA (auto, 1 or 0); see the README's table.

    Raises:
        CudaError: PYGAN_CUDA=1 and the kernels cannot be built, or an option is invalid.
    """
    wish = environ.get("PYGAN_CUDA", "auto") or "auto"
    if wish not in ("auto", "1", "0"):
        raise CudaError(f"PYGAN_CUDA must be auto, 1 or 0, got {wish!r}")
    if wish == "0":
        return CudaConfig("CUDA kernels left out: PYGAN_CUDA=0")

    def no(why: str, remedy: str) -> CudaConfig:
        if wish == "1":
            raise CudaError(f"PYGAN_CUDA=1, but the CUDA kernels cannot be built: {why}. {remedy}")
        return CudaConfig(f"CUDA kernels left out: {why}")

    if torch.cuda is None:
        return no(
            f"torch {torch.version} is a build without CUDA",
            "Install a CUDA build of torch (on Linux, plain `pip install torch`), then install pygan again.",
        )
    major = torch.cuda.split(".")[0]
    compilers = find_compilers(torch.site_dirs, environ)
    compiler = next((c for c in compilers if c.major == major), None)
    if compiler is None:
        seen = "; ".join(f"{c.nvcc} is {c.version}" for c in compilers) or "no nvcc at all"
        wheels = wheel_requirements(torch.cuda)
        install = f"`pip install {' '.join(wheels)}`" if wheels else f"the CUDA {major} toolkit"
        return no(
            f"torch {torch.version} needs an nvcc of CUDA {major}, and CUDA_HOME, PATH, /usr/local/cuda and "
            f"the nvidia-cuda-nvcc wheel gave {seen}",
            f"Install {install} in torch's environment or set CUDA_HOME.",
        )

    wheel_dirs = [
        d for site in torch.site_dirs if (d := Path(site) / "nvidia" / f"cu{major}").is_dir()
    ]
    cudart = _cudart(compiler, wheel_dirs)
    if cudart is None:
        return no(
            f"no libcudart beside {compiler.nvcc}",
            f"Install `nvidia-cuda-runtime=={torch.cuda}.*`.",
        )
    # torch's CUDA headers include cusparse.h and other headers from the wheels, so those come first for C++. nvcc gets
    # them only if it has no headers itself, because it needs crt/ of its own version.
    own = compiler.root / "include"
    wheels = tuple(d / "include" for d in wheel_dirs if (d / "include").is_dir())
    include_dirs = (*wheels, own) if own.is_dir() and own not in wheels else wheels
    kernel_include_dirs = () if (own / "cuda_runtime.h").is_file() else wheels
    archs = _choose_archs(compiler, torch.gpus, environ.get("TORCH_CUDA_ARCH_LIST", ""))
    reason = (
        f"CUDA kernels built: torch {torch.version} is a build for CUDA {torch.cuda}, "
        f"and nvcc {compiler.version} was found ({compiler.found_by}: {compiler.nvcc})"
    )
    return CudaConfig(reason, compiler, archs, include_dirs, kernel_include_dirs, cudart)


def gencode_flags(archs: Iterable[str]) -> list[str]:
    """nvcc's flags for the architectures: machine code for each, and PTX for those with +PTX."""
    flags = []
    for arch in archs:
        number = arch.removesuffix("+PTX").replace(".", "")
        kinds = f"[compute_{number},sm_{number}]" if arch.endswith("+PTX") else f"sm_{number}"
        flags.append(f"-gencode=arch=compute_{number},code={kinds}")
    return flags
