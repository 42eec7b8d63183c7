"""Settings that `pygan train` chooses from the images and the machine: sample size and number of threads."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pygan.training.models import fitting_side

__all__ = ["item_size", "threads"]

_MAX_SQUARE_RATIO = 1.2  # images are cropped to squares if the median aspect ratio is below this
_SAME_RATIO = 1.15  # the aspect ratio is kept if those of most images differ by at most this factor
_MIN_SPEEDUP = 0.85  # more threads are used if they reduce the time to at most this share


def item_size(sizes: Sequence[tuple[int, int]], largest: int) -> tuple[int, int]:
    """(height, width) of samples for images of these sizes.

    The shorter side is that of the median image, at most `largest`, rounded down to a multiple of 4; images smaller
    than 8 pixels are enlarged. The samples are square unless nearly all images share another aspect ratio.
    """
    short = fitting_side(min(largest, int(statistics.median(min(size) for size in sizes))))
    ratios = sorted(width / height for height, width in sizes)
    low, ratio, high = (ratios[round(q * (len(ratios) - 1))] for q in (0.05, 0.5, 0.95))
    if high > _SAME_RATIO * low or max(ratio, 1 / ratio) < _MAX_SQUARE_RATIO:
        return short, short
    long = round(short * max(ratio, 1 / ratio) / 4) * 4
    return (short, long) if ratio > 1 else (long, short)


def threads(generator: nn.Module, discriminator: nn.Module, *inputs: Sequence[Tensor]) -> int:
    """The number of CPU threads, at most torch's current one, with which the networks are fastest. More threads are not
    used for a small gain: on a busy machine they wait for each other.

    Args:
        inputs: the arguments of the generator and those of the discriminator.
    """
    most = torch.get_num_threads()
    if "OMP_NUM_THREADS" in os.environ:
        return most
    best, least = 1, float("inf")
    counts = sorted({*(1 << i for i in range(most.bit_length())), most})
    try:
        for count in counts:
            torch.set_num_threads(count)
            took = min(_seconds(generator, discriminator, *inputs) for _ in range(3))
            if took >= _MIN_SPEEDUP * least:
                break
            best, least = count, took
    finally:
        torch.set_num_threads(most)
        for network in (generator, discriminator):
            network.zero_grad()
    return best


def _seconds(generator: nn.Module, discriminator: nn.Module, *inputs: Sequence[Tensor]) -> float:
    """Time of a forward and a backward pass through both networks, without updating running statistics."""
    start = time.perf_counter()
    for network, arguments in zip((generator, discriminator), inputs, strict=True):
        network.eval()
        network(*arguments).sum().backward()
        network.train()
    return time.perf_counter() - start
