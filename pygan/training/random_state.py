"""The global random generators of a process: saved in checkpoints, and used temporarily without side effects."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["isolated", "random_state", "set_random_state"]


def random_state(device: torch.device) -> dict[str, Any]:
    """The states of torch's (CPU and `device`), numpy's and Python's generators, as plain data for a checkpoint."""
    name, key, *numpy_rest = np.random.get_state()  # noqa: NPY002  # the global generator is meant
    version, words, gauss = random.getstate()
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [str(name), torch.from_numpy(np.array(key, np.int64)), *map(_plain, numpy_rest)],
        "python": [version, torch.tensor(words), gauss],
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Continue from what `random_state` returned."""
    torch.set_rng_state(state["torch"])
    name, key, *rest = state["numpy"]
    np.random.set_state((name, key.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def seed_all(seed: int, device: torch.device) -> None:
    """Seed the same generators. (torch.manual_seed would seed those of all devices.)"""
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


@contextmanager
def isolated(seed: int, device: torch.device) -> Iterator[None]:
    """Within it the generators are seeded with `seed`; afterwards they are as they were."""
    before = random_state(device)
    try:
        seed_all(seed, device)
        yield
    finally:
        set_random_state(before, device)


def _plain(number: Any) -> int | float:
    return float(number) if isinstance(number, float) else int(number)
