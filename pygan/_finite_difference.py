"""R1 and R2 by a finite difference of two forward passes: no double backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pygan import _penalty_checks as checked
from pygan._parallel import data_parallel, sync_buffers, unwrapped, without_sync
from pygan._replay import Replay, check_capture
from pygan._sample_gradients import wide
from pygan._validation import describe
from pygan.noise import instance_noise
from pygan.stream import NoiseStream

__all__ = ["Approximation", "approximate_r1", "approximate_r2"]


class Approximation(NamedTuple):
    """What :func:`approximate_r1` and :func:`approximate_r2` return."""

    penalty: Tensor
    """At least float32, differentiable by the discriminator's parameters."""
    output: Any
    """What the discriminator returned for the samples, for the loss: they need no further pass."""


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
    r"""γ/(2σ²) · E (D(x + σz) − D(x))², z ~ N(0, I), which estimates :func:`pygan.penalties.r1` without a second
    derivative (Lin et al. 2025, "Diffusion Adversarial Post-Training for One-Step Video Generation": their λ is
    γ/(2σ²), 100 at σ = .01).

        penalty, real_logits = pygan.penalties.approximate_r1(D, real, gamma=0.02, sigma=0.01)
        loss = pygan.fused_losses.discriminator_loss(real_logits, D(fake.detach()))
        loss = loss + penalty

    Both passes are made here. That of the moved samples draws the same random numbers and finds the same buffers as
    that of the samples, and leaves no trace in either: torch's generators (the CPU's, that of the discriminator's
    device, and those that its modules keep), the noise streams of its modules, and its buffers. So dropout drops the
    same in both. What it draws from elsewhere, such as numpy, must not change between the two, and a sample's logits
    must depend on this sample alone: with BatchNorm in training mode the estimate is of something else.

    Args:
        discriminator: a module, or one wrapped by DistributedDataParallel or torch.compile.
        samples: (N, ...), floating.
        conditions: further positional arguments of the discriminator, such as labels.
        gamma, sigma: γ and σ, positive. The rounding of the logits is divided by σ too: in bf16 or fp16 it must be
            larger.
        of: "sample": a sample's logits are summed before the difference is squared, as the gradient of
            :func:`pygan.penalties.r1` is that of their sum; "logit": each logit's difference is squared, and the
            squares are summed over the sample.
        logits: ``output -> logits``, for a discriminator that returns more than logits, (N, ...) or a list of such.
        stream: where z is drawn from; None: from a seed that PyTorch's default generator gives.
        reduction: "mean", a 0-d tensor; or "none", the penalty of each sample, (N,).

    Raises:
        TypeError: an argument that is not as described; logits that are no tensors.
        ValueError: samples without a batch; logits whose first dimension is not that of the samples; a number out of
            range; an unknown `of` or reduction.
        RuntimeError: a CUDA graph is being captured, in which random numbers cannot be drawn again.
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
    """(N,), at least float32: by sample, the square of the difference of its logits over sigma."""
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
            f"{op}: discriminator must be an nn.Module, whose buffers and streams can be found, got "
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
    # First, because to DistributedDataParallel the pass of the samples must be the last of the two.
    with without_sync(wrapper), replay.again():
        moved_logits = logits_in(discriminator(moved, *conditions))
    output = discriminator(samples, *conditions)
    slopes = squared_slopes(moved_logits, logits_in(output), sigma, of)
    return Approximation(checked.reduced(0.5 * gamma * slopes, reduction), output)


def _listed(logits: Any) -> list[Tensor]:
    return [logits] if isinstance(logits, Tensor) else list(logits)
