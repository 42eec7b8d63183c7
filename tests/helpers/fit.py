"""A small run of pygan.fit, the same in every process that builds it, and comparison of its results."""

import contextlib
import functools
import json
import multiprocessing
import multiprocessing.forkserver
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import LinearLR
from torch.utils.data import Dataset

import pygan
from helpers import ROOT, accelerated_on, free_port
from pygan import checkpoint
from pygan.training import fit
from pygan.training.log import MetricsFile


class Augmented(Dataset):
    """Samples with random augmentation, from each of the commonly used generators."""

    def __init__(self, size, labels=False):
        self.x = torch.randn(size, 6, generator=torch.Generator().manual_seed(5))
        self.labels = labels

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        jitter = random.random() + np.random.rand() + torch.rand(()).item()  # noqa: NPY002
        x = self.x[index] + 0.1 * jitter
        return (x, index % 3) if self.labels else x


class Generator(nn.Module):
    """A generator with BatchNorm's buffers, and with dropout, which draws from the global generator."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 6)
        )

    def forward(self, z):
        return self.layers(z)


def networks(seed=0):
    """The networks, after seeding all generators, as reproducible scripts do."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    discriminator = nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
    return Generator(), discriminator


def plain_networks():
    """Networks without BatchNorm and dropout, so that the gradient of a batch is the mean over its shares."""
    networks()
    G = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 6))
    return G, nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))


def data(size=30):
    return torch.randn(size, 6, generator=torch.Generator().manual_seed(5))


def picture(samples):
    """A preview for samples that are not images."""
    return (samples.sigmoid() * 255).byte().cpu().numpy()[:, :, None]


def spread(sample):
    """An evaluation that draws from the global generators, which must not affect training."""
    torch.rand(3), np.random.rand(2), random.random()  # noqa: NPY002
    return {"spread": sample(40).std().item()}


def run(
    out,
    *,
    G=None,
    D=None,
    source=None,
    device="cpu",
    learning_rate=1e-2,
    schedule=True,
    **options,
):
    """Call fit with the objects of this module, unless `options` override them."""
    if G is None:
        G, D = networks()
    g = torch.optim.Adam(G.parameters(), lr=learning_rate)
    d = torch.optim.Adam(D.parameters(), lr=learning_rate)
    schedulers = [LinearLR(g, 1.0, 0.1, 50), LinearLR(d, 1.0, 0.1, 50)] if schedule else []
    options = {
        "latent": 4,
        "steps": 12,
        "batch_size": 8,
        "seed": 3,
        "log_every": 3,
        "checkpoint_every": 4,
        "sample_every": None,
        "monitor": False,
        "tensorboard": False,
        "lr_schedulers": schedulers,
        **options,
    }
    source = data() if source is None else source
    with contextlib.nullcontext() if "accelerator" in options else accelerated_on(device):
        return fit(G, D, source, g_optimizer=g, d_optimizer=d, out=out, **options)


FULL = {"noise": 0.3, "ema": 0.9, "penalties": [pygan.penalties.R1(0.1, every=2)]}


def metrics(out):
    """The lines of metrics.jsonl; each must be strict JSON."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    text = (out / "metrics.jsonl").read_text()
    assert text.endswith("\n") or not text
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def assert_equal(a, b):
    """Check that types and bits are equal throughout."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    elif isinstance(a, torch.Tensor):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
    else:
        assert a == b or (a != a and b != b)


def same_runs(a, b):
    """Check that the last checkpoints and all metrics of two runs are bitwise equal."""
    assert (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()
    paths = [checkpoint.latest(out / "checkpoints") for out in (a, b)]
    assert paths[0].name == paths[1].name
    assert_equal(*map(checkpoint.load, paths))


@functools.cache
def forkserver():
    """A context whose processes have already imported everything, and start in a tenth of a second instead of five."""
    context = multiprocessing.get_context("forkserver")
    modules = ["helpers.fit", "accelerate", "torch.utils.tensorboard", "torch._dynamo", "PIL.Image"]
    modules += ["torch.distributed.fsdp"]  # missing modules are skipped
    context.set_forkserver_preload(modules)
    with mock.patch.dict(os.environ, PYTHONPATH=str(ROOT / "tests")):
        multiprocessing.forkserver.ensure_running()
    return context


def start(function, *args, **kwargs):
    """Run the function in another process, whose exit code is the function's result."""
    process = forkserver().Process(target=_in_child, args=(function, args, kwargs))
    process.start()
    return process


def _in_child(function, args, kwargs):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    multiprocessing.set_start_method("fork", force=True)  # so that it can have DataLoader workers
    os.setsid()  # its own process group, for signals to the whole group
    sys.exit(function(*args, **kwargs))


def start_ranks(world, function, *args, **kwargs):
    """Run the function in `world` processes, as torchrun would start them."""
    port = free_port()
    return [start(_as_rank, rank, world, port, function, args, kwargs) for rank in range(world)]


def _as_rank(rank, world, port, function, args, kwargs):
    os.environ |= {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": f"{world}"}
    os.environ |= {"LOCAL_WORLD_SIZE": f"{world}", "OMP_NUM_THREADS": "1"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
    return function(*args, **kwargs)


def fit_in_child(out, **options):
    return run(out, **options).exit_code


def kill_at_write(call, function, *args, **kwargs):
    """Run the function, and kill the process before the call-th durable write."""
    calls = 0

    def before(original):
        def wrapped(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        return wrapped

    targets = [(os, "fsync"), (os, "replace"), (Path, "unlink"), (MetricsFile, "write")]
    with contextlib.ExitStack() as patches:
        for owner, name in targets:
            patches.enter_context(mock.patch.object(owner, name, before(getattr(owner, name))))
        return function(*args, **kwargs)


def slow_disk(function, *args, **kwargs):
    """Run the function with slow writes of checkpoints."""
    fsync = os.fsync

    def slow(file):
        time.sleep(0.02)
        fsync(file)

    with mock.patch.object(os, "fsync", slow):
        return function(*args, **kwargs)


class Items:
    """A minimal Dataset."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]
