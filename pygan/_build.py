"""The build and its environment: checked on import, reported by build_info().

`pygan._ops`, and with it every module that calls the extension, imports `_C` from here, so that the same messages
appear if another project's __init__.py has replaced this package's, and imports nothing.
"""

import json
import platform
import sys
import warnings
from pathlib import Path
from typing import Any

import torch  # before _C, which uses torch's libraries without linking to their folders

__all__ = ["_C", "build_info"]

_REINSTALL = "reinstall it with `pip install --no-cache-dir --force-reinstall --no-deps .` in a checkout of it"


def _check_package(folder: Path) -> None:
    """PyPI's other `pygan` installs into the same folder: __init__.py belongs to whichever was installed last, and
    uninstalling either one removes it.

    Raises:
        ImportError: pygan/__init__.py is not this project's.
    """
    if not hasattr(sys.modules["pygan"], "__version__"):
        raise ImportError(
            f"{folder}/__init__.py is not pygan-fused's: PyPI's other project `pygan` has replaced it, or removed it. "
            f"Run `pip uninstall pygan`; this package is pygan-fused: {_REINSTALL}"
        )
    if (folder / "samplabledata").is_dir():  # exists only in that project
        warnings.warn(
            f"PyPI's other project `pygan` is installed into {folder} as well, and uninstalling it will remove "
            f"__init__.py. Run `pip uninstall pygan`; this package is pygan-fused: {_REINSTALL}",
            stacklevel=2,
        )


def _check_torch(folder: Path) -> str:
    """The torch that the kernels were built for.

    Raises:
        ImportError: they were never built, or for another torch than the running one.
    """
    running = f"torch {torch.__version__}"
    try:
        # Read before the module is loaded, because loading it under another C++ ABI may crash instead of raising.
        built = json.loads((folder / "_C.json").read_text())
    except FileNotFoundError:
        raise ImportError(
            f"pygan's kernels are not built in {folder}: run `pip install -e . --no-build-isolation` "
            "in the checkout, or import pygan from outside it if it is installed"
        ) from None
    series = [
        version.split("+")[0].split(".")[:2] for version in (built["torch"], torch.__version__)
    ]
    cuda = [(version or "none").split(".")[0] for version in (built["cuda"], torch.version.cuda)]
    # A build without CUDA kernels works with any torch of its series; one with them needs torch's CUDA libraries.
    if series[0] != series[1] or (built["cuda"] and cuda[0] != cuda[1]):
        raise ImportError(
            f"pygan was built for torch {built['torch']}, but {running} is running: {_REINSTALL}"
        )
    return str(built["torch"])


_check_package(Path(__file__).parent)
_built_for = _check_torch(Path(__file__).parent)
try:
    from pygan import _C
except ImportError as error:
    raise ImportError(
        f"pygan was built for torch {_built_for} and does not load with torch {torch.__version__} "
        f"({str(error).splitlines()[0]}): {_REINSTALL}"
    ) from error


def build_info() -> dict[str, Any]:
    """The build and the backends that run. Does not initialize or synchronize a GPU.

    Returns:
        A dict with

        * ``version``, ``torch`` (built for), ``torch_running``, ``compiler``, ``python``, ``platform``: strings;
        * ``cuda`` (bool: the CUDA kernels are in this build), ``cuda_reason`` (why, or why not), ``cuda_version``
          (of nvcc; ``""`` without CUDA), ``cuda_archs`` (list such as ``["8.0", "12.0+PTX"]``);
        * ``cpu_capability`` (the instruction set that runs: ``baseline``, ``avx2`` or ``avx512``), ``threads``
          (PyTorch's, which the CPU kernels share), ``devices`` (names of the visible CUDA devices).
    """
    config = _C.build_config()
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "version": config["version"],
        "torch": config["torch"],
        "torch_running": str(torch.__version__),
        "cuda": bool(config["cuda_version"]),
        "cuda_reason": config["cuda_reason"],
        "cuda_version": config["cuda_version"],
        "cuda_archs": [arch for arch in config["cuda_archs"].split(";") if arch],
        "cpu_capability": _C.cpu_capability(),
        "threads": torch.get_num_threads(),
        "devices": devices,
        "compiler": config["cxx"],
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
