"""Writes the settings of torch and CUDA that CMakeLists.txt needs, for builds without setup.py."""

import os
import sys
from pathlib import Path

from setup_helpers import cuda
from setup_helpers.extension import ROOT, settings, write_settings
from setup_helpers.torch_info import TorchError, find_torch

if __name__ == "__main__":
    init = (ROOT / "pygan" / "__init__.py").read_text()
    version = next(
        line.split('"')[1] for line in init.splitlines() if line.startswith("__version__")
    )
    try:
        torch = find_torch()
        config = cuda.configure(torch, os.environ)
    except (TorchError, cuda.CudaError) as error:
        sys.exit(f"error: {error}")
    print(f"pygan: {config.reason}")
    write_settings(Path(sys.argv[1]), settings(torch, config, version))
