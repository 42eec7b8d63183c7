"""The part of the packaging that depends on the machine; everything static is in pyproject.toml."""

import sys
from pathlib import Path

from setuptools import setup

sys.path.insert(0, str(Path(__file__).resolve().parent / "tools"))

from pygan_build_backend import TORCH_REQUIREMENT
from setup_helpers.extension import CMakeBuild, CMakeExtension
from setup_helpers.torch_info import TorchError, find_torch

# A wheel works only with the torch series that it was compiled for, because torch's C++ ABI changes with each series;
# an sdist can be compiled for any series.
try:
    torch = TORCH_REQUIREMENT if "sdist" in sys.argv else f"torch=={find_torch().series}.*"
except TorchError as error:
    sys.exit(f"error: {error}")

setup(
    ext_modules=[CMakeExtension("pygan._C")],
    cmdclass={"build_ext": CMakeBuild},
    install_requires=[torch, "numpy"],
)
