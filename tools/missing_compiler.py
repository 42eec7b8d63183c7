"""Prints the PyPI packages that contain a CUDA compiler for the installed torch; nothing if none is needed."""

import os

from setup_helpers import cuda
from setup_helpers.torch_info import find_torch

torch = find_torch()
if torch.cuda and os.environ.get("PYGAN_CUDA") != "0":
    majors = {compiler.major for compiler in cuda.find_compilers(torch.site_dirs, os.environ)}
    if torch.cuda.split(".")[0] not in majors:
        print(*cuda.wheel_requirements(torch.cuda))
