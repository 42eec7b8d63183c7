"""Finds the torch to build against and describes it.

A child interpreter imports torch, never the build process: under pip's build isolation, that process cannot see the
environment that pip installs into, but its interpreter *is* that environment's, so that a child without pip's
PYTHONPATH sees the installed torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

OLDEST_TORCH = "2.6"  # see docs/decisions.md, Build

# Runs in the child. The last line of stdout is JSON; torch may print warnings before it.
_QUERY = """
import json, sys, sysconfig
import torch
from torch.utils import cpp_extension as ext
definitions = ["_GLIBCXX_USE_CXX11_ABI=%d" % torch.compiled_with_cxx11_abi()]
for name in ("COMPILER_TYPE", "STDLIB", "BUILD_ABI"):  # up to torch 2.8 pybind11's internals are keyed by these
    value = getattr(torch._C, "_PYBIND11_" + name, None)
    if value is not None:
        definitions.append('PYBIND11_%s="%s"' % (name, value))
# A driver that torch cannot use counts as no GPU.
gpus = range(torch.cuda.device_count()) if torch.version.cuda and torch.cuda.is_available() else ()
print(json.dumps({
    "version": torch.__version__,
    "cuda": torch.version.cuda,
    "gpus": sorted({"%d.%d" % torch.cuda.get_device_capability(gpu) for gpu in gpus}),
    "include_dirs": ext.include_paths(),
    "lib_dir": ext.TORCH_LIB_PATH,
    "definitions": definitions,
    "site_dirs": [p for p in sys.path if p.rstrip("/").endswith(("site-packages", "dist-packages"))],
}))
"""


class TorchError(RuntimeError):
    """There is no torch to build against, or it is too old; the message contains the remedy."""


@dataclass(frozen=True)
class TorchInfo:
    """The torch that the extension is compiled for."""

    version: str  # "2.13.0+cpu"
    cuda: str | None  # "13.0", or None for a build without CUDA
    include_dirs: tuple[str, ...]
    lib_dir: str
    definitions: tuple[str, ...]  # preprocessor definitions that its C++ ABI needs
    # The package folders of its environment (also for the nvidia-* wheels).
    site_dirs: tuple[str, ...]
    gpus: tuple[str, ...] = ()  # compute capabilities of the visible GPUs: "9.0"

    @property
    def series(self) -> str:
        """The release series, "2.13", within which the C++ ABI is stable."""
        return ".".join(self.version.split("+")[0].split(".")[:2])


def _environments() -> list[dict[str, str]]:
    """The environments to search for torch: first this one, then the one outside pip's isolation."""
    here = dict(os.environ)
    behind = {k: v for k, v in here.items() if k not in ("PYTHONPATH", "PYTHONNOUSERSITE")}
    return [here] if here == behind else [here, behind]


def _ask(code: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    # From the root folder, so that a folder `torch` in a checkout is not imported as the package.
    return subprocess.run(
        [sys.executable, "-c", code], env=env, cwd="/", capture_output=True, text=True
    )


def torch_is_installed() -> bool:
    """Whether there is a torch to build against without installing one into the build environment."""
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is None)"
    return any(_ask(code, env).returncode == 0 for env in _environments())


def _checked(torch: TorchInfo) -> TorchInfo:
    found, oldest = ([int(n) for n in v.split(".")] for v in (torch.series, OLDEST_TORCH))
    if found < oldest:
        raise TorchError(
            f"pygan needs torch {OLDEST_TORCH} or newer, and {sys.executable} has torch {torch.version}. "
            "Run `pip install --upgrade torch` first."
        )
    return torch


@cache
def find_torch() -> TorchInfo:
    """Find and describe the torch to build against.

    Raises:
        TorchError: no torch can be imported (the message contains the error of the last attempt), or it is older than
            OLDEST_TORCH. Untested newer versions are accepted.
    """
    reason = ""
    for env in _environments():
        answer = _ask(_QUERY, env)
        if answer.returncode == 0:
            fields = json.loads(answer.stdout.strip().splitlines()[-1])
            lists = {k: tuple(v) for k, v in fields.items() if isinstance(v, list)}
            return _checked(TorchInfo(**{**fields, **lists}))
        reason = (answer.stderr.strip().splitlines() or ["no message"])[-1]
    raise TorchError(
        f"pygan is built against an installed PyTorch, and {Path(sys.executable)} cannot import one ({reason}). "
        "Run `pip install torch` first."
    )
