"""Helpers for several test files: devices, dtypes, instruction sets, and matching of errors."""

import contextlib
import os
import re
import socket
import sys
import time
from pathlib import Path
from unittest import mock

import pytest
import torch

from pygan import _C
from pygan.training.sharding import SHARDS_ON_CPU

ROOT = Path(__file__).resolve().parents[2]
"""The root of the checkout."""

sharded_on_cpu = pytest.mark.skipif(
    not SHARDS_ON_CPU, reason="before torch 2.7 fully_shard needs GPUs"
)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def process_group(rank, port, world_size=2):
    """Context manager in a separate process: a process group with gloo."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world_size
    )
    try:
        yield
    finally:
        leave_process_group()


def leave_process_group():
    """End the process group, and give gloo's threads time to release the tensors of the last collective. They need
    Python's lock for that, and a thread that asks for it while Python exits aborts the process."""
    torch.distributed.destroy_process_group()
    time.sleep(0.3)


@contextlib.contextmanager
def accelerated_on(device):
    """Context manager in which pygan.fit uses this device instead of any GPU. accelerate caches the first device of a
    process, so its state is reset before and after."""

    def forget():
        if state := sys.modules.get("accelerate.state"):
            state.PartialState._reset_state()

    forget()
    with mock.patch.dict(os.environ, ACCELERATE_USE_CPU=str(device == "cpu")):
        yield
    forget()


def forget_accelerator():
    """Reset accelerate's state, because an Accelerator's precision applies to every later one in the process."""
    if state := sys.modules.get("accelerate.state"):
        state.AcceleratorState._reset_state(reset_partial_state=True)
        state.GradientState._reset_state()


def math_type(*dtypes):
    """The dtype in which the kernels compute."""
    return torch.float64 if torch.float64 in dtypes else torch.float32


def available_capabilities():
    before = _C.cpu_capability()
    names = []
    for name in ("baseline", "avx2", "avx512"):
        try:
            _C.use_cpu_capability(name)
        except RuntimeError:
            continue
        names.append(name)
    _C.use_cpu_capability(before)
    return names


CAPABILITIES = available_capabilities()


def each_way_to_run():
    """Iterate over every instruction set with 1 and 2 threads; use with the fixture `restore`."""
    for capability in CAPABILITIES:
        for threads in (1, 2):
            _C.use_cpu_capability(capability)
            torch.set_num_threads(threads)
            yield f"{capability}, {threads} threads"


def raises(error, message, *pieces):
    """pytest.raises for an error whose message begins like this, with these pieces later on the same line."""
    pattern = "^" + ".*".join(re.escape(piece) for piece in (message, *pieces))
    return pytest.raises(error, match=pattern)
