"""What this build is made of and what it runs on: checked at import, reported by build_info()."""

import importlib
import json
import platform
from pathlib import Path
from typing import Any

import torch

_REINSTALL = "reinstall it with `pip install --no-cache-dir --force-reinstall --no-deps .` in a checkout of it"


def check_build() -> None:
    """Loads the extension module, or says in one line why it cannot be loaded.

    Raises:
        ImportError: the module was never built, or was built for another torch than the running one.
    """
    folder = Path(__file__).parent
    running = f"torch {torch.__version__}"
    try:
        # Read before the module is loaded: loading it under another C++ ABI may crash instead of raise.
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
    # A build without CUDA kernels runs with any torch of its series, one with them needs torch's CUDA libraries.
    if series[0] != series[1] or (built["cuda"] and cuda[0] != cuda[1]):
        raise ImportError(
            f"pygan was built for torch {built['torch']}, but {running} is running: {_REINSTALL}"
        )
    try:
        importlib.import_module("pygan._C")
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise ImportError(
            f"pygan was built for torch {built['torch']} and does not load with {running} ({reason}): {_REINSTALL}"
        ) from error


def build_info() -> dict[str, Any]:
    """What this build is and what it runs on. Nothing is initialised or synchronised on a GPU.

    Returns:
        A dict with

        * ``version``, ``torch`` (built for), ``torch_running``, ``compiler``, ``python``, ``platform``: strings;
        * ``cuda`` (bool: the CUDA kernels are in this build), ``cuda_reason`` (why, or why not), ``cuda_version``
          (of nvcc; ``""`` without CUDA), ``cuda_archs`` (list such as ``["8.0", "12.0+PTX"]``);
        * ``cpu_capability`` (the instruction set that runs: ``baseline``, ``avx2`` or ``avx512``), ``threads``
          (PyTorch's, which the CPU kernels share), ``devices`` (names of the visible CUDA devices).
    """
    from pygan import _C

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
