"""Runs CMake and Ninja from setuptools; CMakeLists.txt is the only description of the build."""

from __future__ import annotations

import importlib
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension
from setuptools.command.build_ext import build_ext

from . import cuda
from .torch_info import TorchInfo, find_torch

ROOT = Path(__file__).resolve().parents[2]
BUILT_FOR = "_C.json"  # next to the module; pygan/_build.py reads it before it loads the module

# CPU seconds to compile everything except the CUDA kernels, and the kernels for one architecture (docs/decisions.md).
SECONDS_CPU, SECONDS_PER_ARCH = 150, 50


class CMakeExtension(Extension):
    """An extension module that CMake builds; setuptools only packages the result."""

    def __init__(self, name: str) -> None:
        super().__init__(name, sources=[])


def settings(torch: TorchInfo, config: cuda.CudaConfig, version: str) -> dict[str, str]:
    """The values of CMakeLists.txt's PYGAN_* cache variables."""
    compiler = config.compiler
    return {
        "PYGAN_VERSION": version,
        "PYGAN_EXTENSION_SUFFIX": sysconfig.get_config_var("EXT_SUFFIX"),
        "PYGAN_PYTHON_INCLUDE_DIR": sysconfig.get_paths()["include"],
        "PYGAN_TORCH_VERSION": torch.version,
        "PYGAN_TORCH_INCLUDE_DIRS": ";".join(torch.include_dirs),
        "PYGAN_TORCH_LIB_DIR": torch.lib_dir,
        "PYGAN_TORCH_DEFINITIONS": ";".join(torch.definitions),
        "PYGAN_CUDA": "ON" if config.enabled else "OFF",
        "PYGAN_CUDA_REASON": config.reason,
        "PYGAN_CUDA_VERSION": compiler.version if compiler else "",
        "PYGAN_CUDA_ARCHS": ";".join(config.archs),
        "PYGAN_CUDA_GENCODE": ";".join(cuda.gencode_flags(config.archs)),
        "PYGAN_CUDA_INCLUDE_DIRS": ";".join(map(str, config.include_dirs)),
        "PYGAN_CUDA_KERNEL_INCLUDE_DIRS": ";".join(map(str, config.kernel_include_dirs)),
        "PYGAN_CUDART": str(config.cudart or ""),
        "PYGAN_NVCC": str(compiler.nvcc) if compiler else "",
    }


def write_settings(path: Path, values: dict[str, str]) -> None:
    """Write the values as an initial-cache script for `cmake -C`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        f'set({name} [==[{value}]==] CACHE STRING "" FORCE)\n' for name, value in values.items()
    ]
    path.write_text("".join(lines))


def remove_foreign_cache(source: Path, build: Path) -> None:
    """Remove the build folder, with a message, if its CMake cache is for other folders or a missing compiler.

    CMake refuses such a cache, which exists in a checkout that was copied or moved with its build folder.
    """
    cache = build / "CMakeCache.txt"
    if not cache.is_file():
        return
    made = dict(re.findall(r"^(\w+):\w+=(.*)$", cache.read_text(), re.MULTILINE))
    compiler = made.get("CMAKE_CXX_COMPILER")
    for name, folder in (("CMAKE_HOME_DIRECTORY", source), ("CMAKE_CACHEFILE_DIR", build)):
        if Path(made.get(name, "")).resolve() != folder.resolve():
            reason = f"it was made for {made.get(name)}"
            break
    else:
        if compiler is None or shutil.which(compiler):
            return
        reason = f"its compiler, {compiler}, is gone"
    print(f"pygan: starting {build} anew: {reason}", flush=True)
    shutil.rmtree(build)


def find_tool(name: str) -> str:
    """The path of cmake or ninja: from their PyPI packages if installed, otherwise from PATH.

    Raises:
        RuntimeError: it is in neither.
    """
    try:  # `pip install --no-build-isolation` does not put the environment's bin/ on PATH
        package = importlib.import_module(name)
        folder = getattr(package, "CMAKE_BIN_DIR", None) or getattr(package, "BIN_DIR", None)
    except ImportError:
        folder = None
    found = (folder and shutil.which(name, path=folder)) or shutil.which(name)
    if not found:
        raise RuntimeError(
            f"{name} is needed to build pygan and was not found. Run `pip install {name}`."
        )
    return found


def parallel_jobs() -> int:
    """MAX_JOBS if set, as for torch's own extensions; otherwise one job per CPU, but at most one per 2 GB of memory."""
    if os.environ.get("MAX_JOBS"):
        return max(1, int(os.environ["MAX_JOBS"]))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(len(os.sched_getaffinity(0)), memory // 2**31))


def estimate(archs: int, jobs: int) -> str:
    """The message before the build: how long so many jobs take to compile for so many CUDA architectures."""
    minutes = (SECONDS_CPU + SECONDS_PER_ARCH * archs) / jobs / 60
    expected = "1 minute" if minutes <= 1 else f"{math.ceil(minutes)} minutes"
    return f"compiling, {jobs} files at a time: {expected} or so, the first time and on an idle machine"


class CMakeBuild(build_ext):
    """build_ext that configures, compiles and copies pygan._C; reports the decision about CUDA and its progress."""

    def build_extension(self, ext: CMakeExtension) -> None:
        torch = find_torch()
        config = cuda.configure(torch, os.environ)
        print(
            f"pygan: building for torch {torch.version}, Python {platform.python_version()}",
            flush=True,
        )
        print(f"pygan: {config.reason}", flush=True)
        if config.enabled:
            archs = " ".join(config.archs)
            print(f"pygan: CUDA architectures {archs} (TORCH_CUDA_ARCH_LIST chooses others)")

        # One folder per configuration, kept between builds, so that the next build compiles only what has changed.
        name = f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}-torch-{torch.version}"
        build = ROOT / "build" / (name + ("-cuda" if config.enabled else ""))
        remove_foreign_cache(ROOT, build)
        write_settings(
            build / "settings.cmake", settings(torch, config, self.distribution.get_version())
        )
        cmake, ninja = find_tool("cmake"), find_tool("ninja")
        configure = [
            cmake,
            "-S",
            str(ROOT),
            "-B",
            str(build),
            "-G",
            "Ninja",
            "-C",
            str(build / "settings.cmake"),
        ]
        subprocess.run([*configure, f"-DCMAKE_MAKE_PROGRAM={ninja}"], check=True)
        jobs = parallel_jobs()
        print(f"pygan: {estimate(len(config.archs), jobs)}", flush=True)
        subprocess.run(
            [cmake, "--build", str(build), "--parallel", str(jobs)],
            check=True,
            env={"NINJA_STATUS": "[%f/%t, %e s] ", **os.environ},
        )

        module = Path(self.get_ext_fullpath(ext.name)).resolve()
        module.parent.mkdir(parents=True, exist_ok=True)
        # Replaced, not overwritten, because a process may have the old file mapped.
        module.unlink(missing_ok=True)
        shutil.copy2(build / module.name, module)
        built = {"torch": torch.version, "cuda": torch.cuda if config.enabled else None}
        (module.parent / BUILT_FOR).write_text(json.dumps(built) + "\n")

    def copy_extensions_to_source(self) -> None:
        """For editable installs: copy _C.json together with the module."""
        super().copy_extensions_to_source()
        package = ROOT / self.extensions[0].name.split(".")[0]
        shutil.copy2(Path(self.build_lib) / package.name / BUILT_FOR, package / BUILT_FOR)
