"""The state that the checks share: the list of checks, the device, and the results of the running check so far.

A check is a function without arguments in one of the checks_*.py files. It returns a dictionary of JSON values, in
which "ok" says whether it passed; an exception means that it failed:

    @check(limit=60, cuda_only=True)
    def my_check():
        return {"wrong": wrong, "ok": not wrong}
"""

import contextlib
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


@dataclass(frozen=True)
class Check:
    """A check with its options for the runner."""

    function: Callable[[], dict]
    limit: float  # seconds until the runner abandons it
    cuda_only: bool  # with --device cpu, passes without being run
    on_request: bool  # runs only if --only names it

    @property
    def name(self) -> str:
        return self.function.__name__


@dataclass
class Session:
    """The state of this process."""

    device: str = "cuda"
    found: dict = field(default_factory=dict)  # reported even if the check does not finish
    # Killed if the check does not finish.
    children: list[subprocess.Popen] = field(default_factory=list)

    @property
    def cuda(self) -> bool:
        return self.device == "cuda"


CHECKS: list[Check] = []
session = Session()


def check(*, limit: float = 45, cuda_only: bool = False, on_request: bool = False):
    """Decorator that registers a check; see the module's docstring."""

    def register(function):
        CHECKS.append(Check(function, limit, cuda_only, on_request))
        return function

    return register


def sync():
    if session.cuda:
        torch.cuda.synchronize()


def sync_after_failure():
    """Wait for the work that a failed call launched, ignoring its error, which is already known."""
    with contextlib.suppress(RuntimeError):
        sync()


def worst(values):
    """The largest of the values; NaN counts as infinite, because max() may skip it."""
    return max((float("inf") if v != v else v for v in values), default=0.0)


def error_text(error, length=200):
    """Type and message of an error, without the lines that torch appends to every CUDA error."""
    text = f"{type(error).__name__}: {error}"
    return text.split("\nCUDA kernel errors")[0].split("\nSearch for")[0][:length]
