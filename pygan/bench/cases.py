"""The cases that `python -m pygan bench` times: each op, at a size and a dtype."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Callable, Iterator, Sequence

import torch

from pygan import fused_losses
from pygan.bench import feature_cases, loss_cases, noise_cases
from pygan.bench.case import Case

__all__ = ["cases", "names"]

# The default sizes: a batch of logits or of logit maps, and a batch of points or images.
LOGITS = (1, 1 << 6, 1 << 12, 1 << 16, 1 << 20)
ELEMENTS = (1 << 6, 1 << 12, 1 << 16, 1 << 20, 1 << 24)


def _table() -> dict[str, Callable[..., Iterator[Case]]]:
    """For every op, the function that creates its cases from (op, sizes, dtype, device)."""
    table: dict[str, Callable[..., Iterator[Case]]] = {}
    for player in ("discriminator", "generator"):
        for loss in fused_losses.LOSSES:
            table[f"{player}_loss[{loss}]"] = functools.partial(loss_cases.single, player, loss)
    for loss in fused_losses.LOSSES:
        table[f"discriminator_loss[{loss}, list of 8]"] = functools.partial(
            loss_cases.list_of_8, loss
        )
    table["discriminator_loss[non_saturating, statistics]"] = _for_each_size(loss_cases.statistics)
    for player in ("discriminator", "generator"):
        table[f"{player}_loss[HiFi-GAN, values]"] = functools.partial(loss_cases.hifigan, player)
    table["feature_matching[HiFi-GAN]"] = feature_cases.hifigan
    for op, make in (
        ("instance_noise", noise_cases.noise),
        ("instance_noise(out=)", noise_cases.noise),
        ("instance_noise(uint8)", noise_cases.images),
        ("instance_noise_pair", noise_cases.pair),
    ):
        table[op] = _for_each_size(make)
    return table


def names() -> list[str]:
    """The names of the ops, as --ops accepts them."""
    return list(_table())


def cases(
    patterns: Sequence[str],
    sizes: Sequence[int] | None,
    dtypes: Sequence[torch.dtype],
    device: torch.device,
) -> Iterator[Case]:
    """Every case whose op matches one of the patterns, by default at the sizes above. Lists have sizes of their own."""
    for dtype in dtypes:
        for op, make in _table().items():
            if op in patterns or any(fnmatch.fnmatchcase(op, p) for p in patterns):
                yield from make(op, sizes or (LOGITS if "loss" in op else ELEMENTS), dtype, device)


def _for_each_size(make: Callable[..., Case]) -> Callable[..., Iterator[Case]]:
    return lambda op, sizes, dtype, device: (make(op, n, dtype, device) for n in sizes)
