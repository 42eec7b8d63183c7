"""Gradients of a discriminator's logits by the samples, and what the penalties make of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pygan._arguments import check_bool, describe, number, tensors

__all__ = ["adaptive_weight", "gradient_penalty", "interpolate", "r1", "r2"]


def r1(samples: Tensor, logits: Any, gamma: float, *, reduction: str = "mean") -> Tensor:
    r"""γ/2 · E‖∇D(x)‖² (Mescheder et al. 2018, eq. 9), for a loop of your own.

        real = real.requires_grad_()
        real_logits = D(real)
        loss = pygan.fused_losses.discriminator_loss(real_logits, D(fake.detach()))
        loss = loss + pygan.penalties.r1(real, real_logits, gamma=10.0)

    Args:
        samples: real samples (N, ...) that require a gradient, as the discriminator got them.
        logits: what it returned for them: a tensor (N, ...), or a list of such, whose sum for each sample is
            differentiated.
        gamma: γ, positive.
        reduction: "mean", a 0-d tensor; or "none", the penalty of each sample, (N,), as for reports.

    Returns:
        The penalty, at least float32, differentiable by the discriminator's parameters.

    Raises:
        TypeError: samples that are no floating tensor; logits that are no tensors; a gamma that is no number.
        ValueError: samples without a batch, or that require no gradient; logits whose first dimension is not that of
            the samples, such as their mean; a gamma out of range; an unknown reduction.
        RuntimeError: the logits do not depend on the samples.
    """
    return _zero_centered("r1", samples, logits, gamma, reduction)


def r2(samples: Tensor, logits: Any, gamma: float, *, reduction: str = "mean") -> Tensor:
    """:func:`r1` on generated samples, ``fake.detach().requires_grad_()``; R3GAN uses both (Huang et al. 2024)."""
    return _zero_centered("r2", samples, logits, gamma, reduction)


def gradient_penalty(
    samples: Tensor,
    logits: Any,
    weight: float = 10.0,
    *,
    target: float = 1.0,
    one_sided: bool = False,
    reduction: str = "mean",
) -> Tensor:
    r"""weight · E(‖∇D(x)‖ − target)², one norm for each sample, for a loop of your own.

        x = pygan.penalties.interpolate(real, fake)
        penalty = pygan.penalties.gradient_penalty(x, D(x))  # WGAN-GP: Gulrajani et al. 2017, eq. 3

    Args:
        samples, logits, reduction: as for :func:`r1`. The samples are between real and generated ones for WGAN-GP, real
            or generated ones for others, near real ones for DRAGAN (Kodali et al. 2017).
        weight: λ, positive.
        target: the norm that is aimed at, not negative.
        one_sided: only norms above the target are penalized (Petzka et al. 2018).

    Raises:
        TypeError, ValueError, RuntimeError: as :func:`r1`; a target out of range; one_sided that is no bool.
    """
    op = "pygan.penalties.gradient_penalty"
    check_bool(op, "one_sided", one_sided)
    weight = _positive(op, "weight", weight)
    target = number(op, "target", target)
    if not 0.0 <= target < float("inf"):
        raise ValueError(f"{op}: target must be finite and not negative, got {target}")
    excess = torch.linalg.vector_norm(_checked_gradient(op, samples, logits), dim=1) - target
    if one_sided:
        excess = excess.relu()
    return _reduced(op, weight * excess.square(), reduction)


def interpolate(real: Tensor, fake: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Points drawn uniformly on the lines between pairs of real and generated samples, one share for each sample.

    Args:
        real, fake: (N, ...), floating tensors of one shape on one device. Under autocast they may differ in dtype.
        generator: to draw the shares from; None: PyTorch's default one.

    Returns:
        A leaf (N, ...) that requires a gradient.

    Raises:
        TypeError: real or fake is no floating tensor.
        ValueError: the shapes or devices differ, or there is no batch.
    """
    op = "pygan.penalties.interpolate"
    _check_batch(op, "real", real)
    _check_batch(op, "fake", fake)
    if real.shape != fake.shape:
        raise ValueError(
            f"{op}: real and fake must have one shape, got {tuple(real.shape)} and {tuple(fake.shape)}"
        )
    if real.device != fake.device:
        raise ValueError(
            f"{op}: real and fake must be on one device, got {real.device} and {fake.device}"
        )
    shape = (len(real), *[1] * (real.dim() - 1))
    share = torch.rand(shape, generator=generator, device=real.device)
    return between(real, fake, share)


def adaptive_weight(
    reconstruction_loss: Tensor,
    g_loss: Tensor,
    last_layer: Tensor,
    *,
    eps: float = 1e-4,
    maximum: float = 1e4,
) -> Tensor:
    """The weight that gives the generator's adversarial loss a gradient as large as the reconstruction's at the last
    layer: ‖∇ reconstruction‖ / (‖∇ adversarial‖ + eps), at most `maximum` (Esser et al. 2021, VQGAN, eq. 7).

        weight = pygan.penalties.adaptive_weight(reconstruction_loss, g_loss, last_layer)
        loss = reconstruction_loss + weight * g_loss

    Args:
        reconstruction_loss, g_loss: 0-d, whose graphs are kept.
        last_layer: the weight by which both are differentiated.

    Returns:
        A detached 0-d tensor on the device; nothing waits for it.

    Raises:
        TypeError: a loss or last_layer is no tensor.
        ValueError: a loss is not one number; last_layer requires no gradient; eps or maximum is not positive and
            finite.
        RuntimeError: a loss does not depend on the layer.
    """
    op = "pygan.penalties.adaptive_weight"
    eps, maximum = _positive(op, "eps", eps), _positive(op, "maximum", maximum)
    losses = {"reconstruction_loss": reconstruction_loss, "g_loss": g_loss}
    for name, value in {**losses, "last_layer": last_layer}.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{op}: {name} must be a tensor, got {describe(value)}")
    if not last_layer.requires_grad:
        raise ValueError(f"{op}: last_layer must require a gradient, got one that does not")
    norms = []
    for name, loss in losses.items():
        if loss.numel() != 1:
            raise ValueError(f"{op}: {name} must be one number, got {describe(loss)}")
        gradient = None
        if loss.requires_grad:
            (gradient,) = torch.autograd.grad(
                loss, last_layer, retain_graph=True, allow_unused=True
            )
        if gradient is None:
            raise RuntimeError(f"{op}: {name} must depend on last_layer, got one that does not")
        norms.append(torch.linalg.vector_norm(wide(gradient)))
    return (norms[0] / (norms[1] + eps)).clamp(0.0, maximum).detach()


# --- what the trainer's penalties share -----------------------------------------------------------


def gradient_by_sample(logits: Any, samples: Tensor) -> Tensor | None:
    """(N, elements of a sample), at least float32: the gradient of each sample's logits by the sample, differentiable
    in turn; None where the logits do not depend on the samples."""
    outputs = [x for x in ([logits] if isinstance(logits, Tensor) else logits) if x.requires_grad]
    if not outputs:
        return None
    (gradient,) = torch.autograd.grad(
        [x.sum() for x in outputs], samples, create_graph=True, allow_unused=True
    )
    return None if gradient is None else wide(gradient.reshape(len(samples), -1))


def between(real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """A leaf: `share` of the real samples, the rest of the generated ones."""
    # Under autocast the generated samples may be of lower precision than the real ones.
    dtype = torch.promote_types(real.dtype, fake.dtype)
    a, b = wide(real.detach().to(dtype)), wide(fake.detach().to(dtype))
    return torch.lerp(b, a, share.to(a.dtype)).to(dtype).requires_grad_()


def wide(x: Tensor) -> Tensor:
    """At least float32, in which the squares of an fp16 gradient neither vanish nor overflow."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _zero_centered(name: str, samples: Tensor, logits: Any, gamma: float, reduction: str) -> Tensor:
    op = f"pygan.penalties.{name}"
    gamma = _positive(op, "gamma", gamma)
    squares = _checked_gradient(op, samples, logits).square().sum(1)
    return _reduced(op, 0.5 * gamma * squares, reduction)


def _checked_gradient(op: str, samples: Any, logits: Any) -> Tensor:
    _check_batch(op, "samples", samples)
    if not samples.requires_grad:
        raise ValueError(
            f"{op}: samples must require a gradient (samples.requires_grad_()) before the discriminator sees them, "
            "got some that do not"
        )
    for x in tensors(op, "logits", logits):
        # squeeze() leaves no dimension of a batch of one.
        if x.shape[:1] != samples.shape[:1] and not (len(samples) == 1 and x.dim() == 0):
            raise ValueError(
                f"{op}: logits must have the samples' first dimension, {len(samples)}, got {describe(x)}"
            )
    gradient = gradient_by_sample(logits, samples)
    if gradient is None:
        raise RuntimeError(
            f"{op}: logits must depend on the samples, got some that do not: were they of a copy?"
        )
    return gradient


def _check_batch(op: str, name: str, samples: Any) -> None:
    if not isinstance(samples, Tensor) or not samples.is_floating_point():
        got = str(samples.dtype) if isinstance(samples, Tensor) else describe(samples)
        raise TypeError(f"{op}: {name} must be a floating tensor, got {got}")
    if samples.dim() == 0 or samples.numel() == 0:
        raise ValueError(
            f"{op}: {name} must be a batch (N, ...) that is not empty, got {describe(samples)}"
        )


def _positive(op: str, name: str, value: Any) -> float:
    checked = number(op, name, value)
    if not 0.0 < checked < float("inf"):
        raise ValueError(f"{op}: {name} must be positive and finite, got {checked}")
    return checked


def _reduced(op: str, values: Tensor, reduction: str) -> Tensor:
    if not isinstance(reduction, str) or reduction not in ("mean", "none"):
        raise ValueError(f"{op}: reduction must be mean or none, got {reduction!r}")
    return values.mean() if reduction == "mean" else values
