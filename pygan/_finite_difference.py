"""R1 and R2 as a finite difference of two forward passes, without a double backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pygan import _penalty_checks as checked
from pygan._forward_replay import Replay, check_capture
from pygan._parallel import data_parallel, sync_buffers, unwrapped, without_sync
from pygan._precision import wide
from pygan._validation import describe
from pygan.noise import instance_noise
from pygan.stream import NoiseStream

__all__ = ["Approximation", "approximate_r1", "approximate_r2"]


class Approximation(NamedTuple):
    """What :func:`approximate_r1` and :func:`approximate_r2` return."""

    penalty: Tensor
    """At least float32, differentiable with respect to the discriminator's parameters."""
    output: Any
    """The discriminator's output for the samples; use it for the loss, without another pass."""


def approximate_r1(
    discriminator: nn.Module,
    samples: Tensor,
    *conditions: Any,
    gamma: float,
    sigma: float,
    of: str = "sample",
    logits: Callable[[Any], Any] | None = None,
    stream: NoiseStream | None = None,
    reduction: str = "mean",
) -> Approximation:
    r"""γ/(2σ²) · E (D(x + σz) − D(x))², z ~ N(0, I): an estimate of :func:`pygan.penalties.r1` without a second
    derivative (Lin et al. 2025, "Diffusion Adversarial Post-Training for One-Step Video Generation": their λ is
    γ/(2σ²), 100 at σ = .01).

        penalty, real_logits = pygan.penalties.approximate_r1(D, real, gamma=0.02, sigma=0.01)
        loss = pygan.fused_losses.discriminator_loss(real_logits, D(fake.detach()))
        loss = loss + penalty

    This function runs both forward passes. The pass of the perturbed samples uses the same random numbers and buffers
    as that of the samples, and restores them afterwards: torch's generators (the CPU's, that of the discriminator's
    device, and those that its modules keep), the noise streams of its modules, and its buffers. Dropout therefore drops
    the same units in both. Random numbers from elsewhere, such as numpy, must not differ between the two passes, and a
    sample's logits must depend on that sample alone: BatchNorm in training mode makes the estimate wrong.

    Args:
        discriminator: a module, or one wrapped by DistributedDataParallel or torch.compile.
        samples: (N, ...), floating-point.
        conditions: further positional arguments of the discriminator, such as labels.
        gamma, sigma: γ and σ, positive. The logits' rounding error is divided by σ too, so bf16 and fp16 need a larger
            one.
        of: "sample": a sample's logits are summed before the difference is squared, because
            :func:`pygan.penalties.r1` uses the gradient of their sum; "logit": each logit's difference is squared, and
            the squares are summed over the sample.
        logits: ``output -> logits``, for a discriminator that returns more than logits; (N, ...) or a list of tensors.
        stream: the stream to draw z from; None: a seed from PyTorch's default generator.
        reduction: "mean", a 0-d tensor; or "none", the penalty of each sample, (N,).

    Raises:
        TypeError: an argument of the wrong type; logits that are not tensors.
        ValueError: samples without a batch; logits whose first dimension is not that of the samples; a number out of
            range; an unknown `of` or reduction.
        RuntimeError: a CUDA graph is being captured, in which the random numbers cannot be replayed.
    """
    op = "pygan.penalties.approximate_r1"
    return _approximate(
        op, discriminator, samples, conditions, gamma, sigma, of, logits, stream, reduction
    )


def approximate_r2(
    discriminator: nn.Module,
    samples: Tensor,
    *conditions: Any,
    gamma: float,
    sigma: float,
    of: str = "sample",
    logits: Callable[[Any], Any] | None = None,
    stream: NoiseStream | None = None,
    reduction: str = "mean",
) -> Approximation:
    """:func:`approximate_r1` on generated samples, ``fake.detach()``."""
    op = "pygan.penalties.approximate_r2"
    return _approximate(
        op, discriminator, samples, conditions, gamma, sigma, of, logits, stream, reduction
    )


def check_of(op: str, of: Any) -> None:
    if not isinstance(of, str) or of not in ("sample", "logit"):
        raise ValueError(f"{op}: of must be sample or logit, got {of!r}")


def squared_slopes(moved: Any, logits: Any, sigma: float, of: str) -> Tensor:
    """(N,), at least float32: the square of (difference of a sample's logits / sigma)."""
    pairs = zip(_listed(moved), _listed(logits), strict=True)
    # reshape: a batch of one may have a 0-d logit.
    slopes = [((wide(a) - wide(b)) / sigma).reshape(a.shape[:1].numel(), -1) for a, b in pairs]
    if of == "sample":
        return torch.stack([x.sum(1) for x in slopes]).sum(0).square()
    return torch.stack([x.square().sum(1) for x in slopes]).sum(0)


def _approximate(
    op: str,
    discriminator: nn.Module,
    samples: Tensor,
    conditions: tuple[Any, ...],
    gamma: float,
    sigma: float,
    of: str,
    pick: Callable[[Any], Any] | None,
    stream: NoiseStream | None,
    reduction: str,
) -> Approximation:
    if not isinstance(discriminator, nn.Module):
        raise TypeError(
            f"{op}: discriminator must be an nn.Module, because its buffers and streams are restored, got "
            f"{describe(discriminator)}"
        )
    checked.batch(op, "samples", samples)
    gamma, sigma = checked.positive(op, "gamma", gamma), checked.positive(op, "sigma", sigma)
    check_of(op, of)
    if pick is not None and not callable(pick):
        raise TypeError(f"{op}: logits must be a callable or None, got {describe(pick)}")
    if stream is not None and not isinstance(stream, NoiseStream):
        raise TypeError(f"{op}: stream must be a NoiseStream or None, got {describe(stream)}")
    checked.reduction(op, reduction)

    def logits_in(output: Any) -> list[Tensor]:
        found = output if pick is None else pick(output)
        return checked.logits(op, "the discriminator's logits", found, len(samples))

    check_capture(op, samples.device, draws=None)
    moved = instance_noise(samples, sigma, stream=stream)
    wrapper = data_parallel(discriminator)
    sync_buffers(wrapper)
    replay = Replay(op, unwrapped(discriminator), samples.device)
    # Before the pass of the samples, which must be the last one that DistributedDataParallel sees.
    with without_sync(wrapper), replay.again():
        moved_logits = logits_in(discriminator(moved, *conditions))
    output = discriminator(samples, *conditions)
    slopes = squared_slopes(moved_logits, logits_in(output), sigma, of)
    return Approximation(checked.reduced(0.5 * gamma * slopes, reduction), output)


def _listed(logits: Any) -> list[Tensor]:
    return [logits] if isinstance(logits, Tensor) else list(logits)
