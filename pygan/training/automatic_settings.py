"""The choices of `pygan train` based on the images and the machine: sample size and number of threads."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pygan.training.models import fitting_side, halvings

__all__ = ["item_size", "threads"]

_SQUARE = 1.2  # proportions up to which a square is cut out
_ALIKE = 1.15  # of the proportions of most images, if they are to be kept
_GAIN = 0.85  # of the time, for which more threads are taken


def item_size(sizes: Sequence[tuple[int, int]], largest: int) -> tuple[int, int]:
    """(height, width) of samples for images of these sizes.

    The shorter side is that of the median image, if it is not above `largest`, rounded down to what `dcgan` takes;
    images smaller than 8 pixels are enlarged. It is a square, unless nearly all images have the same other proportions.
    """
    short = fitting_side(min(largest, int(statistics.median(min(size) for size in sizes))))
    ratios = sorted(width / height for height, width in sizes)
    low, ratio, high = (ratios[round(q * (len(ratios) - 1))] for q in (0.05, 0.5, 0.95))
    if high > _ALIKE * low or max(ratio, 1 / ratio) < _SQUARE:
        return short, short
    n = halvings(short)
    assert n is not None
    long = max(1, round(short * max(ratio, 1 / ratio) / 2**n)) * 2**n
    return (short, long) if ratio > 1 else (long, short)


def threads(generator: nn.Module, discriminator: nn.Module, *inputs: Sequence[Tensor]) -> int:
    """The number of CPU threads, up to that of torch now, with which the networks are fastest. One that gains little is
    not taken: on a busy machine threads wait for each other.

    Args:
        inputs: of the generator and of the discriminator.
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
            if took >= _GAIN * least:
                break
            best, least = count, took
    finally:
        torch.set_num_threads(most)
        for network in (generator, discriminator):
            network.zero_grad()
    return best


def _seconds(generator: nn.Module, discriminator: nn.Module, *inputs: Sequence[Tensor]) -> float:
    """Forward and backward through both, without their running statistics."""
    began = time.perf_counter()
    for network, arguments in zip((generator, discriminator), inputs, strict=True):
        network.eval()
        network(*arguments).sum().backward()
        network.train()
    return time.perf_counter() - began
