"""The losses as commonly written in PyTorch, with which pygan is compared."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from pygan import fused_losses

__all__ = ["DISCRIMINATOR", "GENERATOR", "eager", "fused"]

Loss = Callable[[Tensor, Tensor], Tensor]

s = F.softplus

DISCRIMINATOR: dict[str, Loss] = {
    "non_saturating": lambda r, f: s(-r).mean() + s(f).mean(),
    "minimax": lambda r, f: s(-r).mean() + s(f).mean(),
    "hinge": lambda r, f: F.relu(1 - r).mean() + F.relu(1 + f).mean(),
    "clipped_hinge": lambda r, f: F.relu(1 - r).mean() + F.relu(1 + f).mean(),
    "least_squares": lambda r, f: 0.5 * ((r - 1) ** 2).mean() + 0.5 * (f**2).mean(),
    "wasserstein": lambda r, f: f.mean() - r.mean(),
    "relativistic": lambda r, f: s(f - r).mean(),
    "relativistic_average": lambda r, f: s(f.mean() - r).mean() + s(f - r.mean()).mean(),
    "relativistic_hinge": lambda r, f: F.relu(1 - (r - f)).mean(),
    "relativistic_average_hinge": lambda r, f: (
        F.relu(1 - (r - f.mean())).mean() + F.relu(1 + (f - r.mean())).mean()
    ),
    "relativistic_average_least_squares": lambda r, f: (
        0.5 * ((r - f.mean() - 1) ** 2).mean() + 0.5 * ((f - r.mean() + 1) ** 2).mean()
    ),
}


def _swapped(loss: Loss) -> Loss:
    return lambda r, f: loss(f, r)


GENERATOR: dict[str, Loss] = {
    "non_saturating": lambda r, f: s(-f).mean(),
    "minimax": lambda r, f: -s(f).mean(),
    "hinge": lambda r, f: -f.mean(),
    "clipped_hinge": lambda r, f: F.relu(1 - f).mean(),
    "least_squares": lambda r, f: 0.5 * ((f - 1) ** 2).mean(),
    "wasserstein": lambda r, f: -f.mean(),
    # A loss that compares real with fake logits is the discriminator's with the two exchanged.
    **{name: _swapped(loss) for name, loss in DISCRIMINATOR.items() if fused_losses.compares(name)},
}


@functools.lru_cache(maxsize=4)
def _full(shape: torch.Size, dtype: torch.dtype, device: torch.device, value: float) -> Tensor:
    return torch.full(shape, value, dtype=dtype, device=device)


def _bce(logits: Tensor, target: float) -> Tensor:
    """Binary cross-entropy with a target that is created once, as careful users do."""
    targets = _full(logits.shape, logits.dtype, logits.device, target)
    return F.binary_cross_entropy_with_logits(logits, targets)


def eager(player: str, loss: str) -> dict[str, Loss]:
    """The expression above, and binary cross-entropy with logits if the loss can be written that way."""
    expression = (DISCRIMINATOR if player == "discriminator" else GENERATOR)[loss]
    found = {"expression": expression}
    if player == "discriminator" and loss in ("non_saturating", "minimax"):
        found["bce"] = lambda r, f: _bce(r, 1.0) + _bce(f, 0.0)
    elif player == "generator" and loss == "non_saturating":
        found["bce"] = lambda r, f: _bce(f, 1.0)
    elif player == "generator" and loss == "minimax":
        found["bce"] = lambda r, f: -_bce(f, 0.0)
    return found


def fused(player: str, loss: str) -> Callable[..., Tensor]:
    """pygan's loss, with the same arguments."""
    if player == "discriminator":
        return lambda r, f: fused_losses.discriminator_loss(r, f, loss=loss)
    if fused_losses.compares(loss):
        return lambda r, f: fused_losses.generator_loss(f, real_logits=r, loss=loss)
    return lambda r, f: fused_losses.generator_loss(f, loss=loss)
