"""The exact gradient penalties as functions (R1, R2, WGAN-GP), and the gradients of logits with respect to samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor

from pygan import _penalty_checks as checked
from pygan._precision import wide
from pygan._validation import check_bool, number

__all__ = ["gradient_penalty", "interpolate", "r1", "r1_and_r2", "r2"]


def r1(samples: Tensor, logits: Any, gamma: float, *, reduction: str = "mean") -> Tensor:
    r"""γ/2 · E‖∇D(x)‖² (Mescheder et al. 2018, eq. 9), for your own training loop.

        real = real.requires_grad_()
        real_logits = D(real)
        loss = pygan.fused_losses.discriminator_loss(real_logits, D(fake.detach()))
        loss = loss + pygan.penalties.r1(real, real_logits, gamma=10.0)

    Args:
        samples: the real samples (N, ...) given to the discriminator; they must require a gradient.
        logits: the discriminator's logits for them: a tensor (N, ...), or a list of such tensors. Their sum for each
            sample is differentiated.
        gamma: γ, positive.
        reduction: "mean", a 0-d tensor; or "none", the penalty of each sample, (N,).

    Returns:
        The penalty, at least float32, differentiable with respect to the discriminator's parameters.

    Raises:
        TypeError: samples is not a floating-point tensor; logits are not tensors; gamma is not a number.
        ValueError: samples without a batch, or that do not require a gradient; logits whose first dimension is not that
            of the samples, such as their mean; gamma out of range; an unknown reduction.
        RuntimeError: the logits do not depend on the samples.
    """
    return _zero_centered("pygan.penalties.r1", samples, logits, gamma, reduction)


def r2(samples: Tensor, logits: Any, gamma: float, *, reduction: str = "mean") -> Tensor:
    """:func:`r1` on generated samples, ``fake.detach().requires_grad_()``. For both, see :func:`r1_and_r2`."""
    return _zero_centered("pygan.penalties.r2", samples, logits, gamma, reduction)


@overload
def r1_and_r2(
    real: Tensor,
    fake: Tensor,
    real_logits: Any,
    fake_logits: Any,
    gamma: float,
    *,
    reduction: Literal["mean"] = "mean",
) -> Tensor: ...
@overload
def r1_and_r2(
    real: Tensor,
    fake: Tensor,
    real_logits: Any,
    fake_logits: Any,
    gamma: float,
    *,
    reduction: Literal["none"],
) -> tuple[Tensor, Tensor]: ...
def r1_and_r2(
    real: Tensor,
    fake: Tensor,
    real_logits: Any,
    fake_logits: Any,
    gamma: float,
    *,
    reduction: str = "mean",
) -> Tensor | tuple[Tensor, Tensor]:
    r"""γ/2 · (E‖∇D(x)‖² + E‖∇D(G(z))‖²), as in R3GAN (Huang et al. 2024), with one double backward.

        real, fake = real.requires_grad_(), fake.detach().requires_grad_()
        real_logits, fake_logits = D(torch.cat([real, fake])).chunk(2)
        loss = pygan.fused_losses.discriminator_loss(real_logits, fake_logits, loss="relativistic")
        loss = loss + pygan.penalties.r1_and_r2(real, fake, real_logits, fake_logits, gamma=1.0)

    The logits may come from one forward pass, as here, or from two. In a joint pass, layers that mix samples
    (BatchNorm, minibatch standard deviation) have gradients from one side to the other, which are part of the penalty.

    Args:
        real, fake: samples (N, ...) and (M, ...) before they are joined, two separate tensors that require a gradient;
            neither may be computed from the other.
        real_logits, fake_logits: the discriminator's logits for them, each as for :func:`r1`.
        gamma: γ of both penalties, positive.
        reduction: "mean", the sum of the two means; or "none", the penalties of the real samples (N,) and those of the
            generated ones (M,).

    Raises:
        TypeError, ValueError, RuntimeError: as for :func:`r1`.
    """
    op = "pygan.penalties.r1_and_r2"
    if real is fake:
        raise ValueError(f"{op}: real and fake must be two tensors, got the same one twice")
    sides = {"real": (real, real_logits), "fake": (fake, fake_logits)}
    values = _zero_centered_of(op, sides, gamma, reduction)
    if reduction == "none":
        return values[0], values[1]
    return values[0].mean() + values[1].mean()


def gradient_penalty(
    samples: Tensor,
    logits: Any,
    weight: float = 10.0,
    *,
    target: float = 1.0,
    one_sided: bool = False,
    reduction: str = "mean",
) -> Tensor:
    r"""weight · E(‖∇D(x)‖ − target)², with one norm per sample, for your own training loop.

        x = pygan.penalties.interpolate(real, fake)
        penalty = pygan.penalties.gradient_penalty(x, D(x))  # WGAN-GP: Gulrajani et al. 2017, eq. 3

    Args:
        samples, logits, reduction: as for :func:`r1`. WGAN-GP uses samples between real and generated ones, DRAGAN
            (Kodali et al. 2017) samples near real ones, other methods real or generated ones.
        weight: λ, positive.
        target: the target norm, non-negative.
        one_sided: penalize only norms above the target (Petzka et al. 2018).

    Raises:
        TypeError, ValueError, RuntimeError: as for :func:`r1`; target out of range; one_sided is not a bool.
    """
    op = "pygan.penalties.gradient_penalty"
    check_bool(op, "one_sided", one_sided)
    checked.reduction(op, reduction)
    weight = checked.positive(op, "weight", weight)
    target = number(op, "target", target)
    if not 0.0 <= target < float("inf"):
        raise ValueError(f"{op}: target must be finite and non-negative, got {target}")
    (gradient,) = _checked_gradients(op, {"": (samples, logits)})
    excess = torch.linalg.vector_norm(gradient, dim=1) - target
    if one_sided:
        excess = excess.relu()
    return checked.reduced(weight * excess.square(), reduction)


def interpolate(real: Tensor, fake: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Points drawn uniformly on the lines between pairs of real and generated samples, one point per pair.

    Args:
        real, fake: (N, ...), floating-point tensors of the same shape and device. Under autocast their dtypes may
            differ.
        generator: the generator to draw the positions from; None: PyTorch's default one.

    Returns:
        A leaf (N, ...) that requires a gradient.

    Raises:
        TypeError: real or fake is not a floating-point tensor.
        ValueError: the shapes or devices differ, or there is no batch.
    """
    op = "pygan.penalties.interpolate"
    checked.batch(op, "real", real)
    checked.batch(op, "fake", fake)
    if real.shape != fake.shape:
        raise ValueError(
            f"{op}: real and fake must have the same shape, got {tuple(real.shape)} and {tuple(fake.shape)}"
        )
    if real.device != fake.device:
        raise ValueError(
            f"{op}: real and fake must be on the same device, got {real.device} and {fake.device}"
        )
    shape = (len(real), *[1] * (real.dim() - 1))
    share = torch.rand(shape, generator=generator, device=real.device)
    return between(real, fake, share)


# --- shared with the trainer's penalties ----------------------------------------------------------


def gradients_by_sample(logits: Sequence[Any], samples: Sequence[Tensor]) -> list[Tensor | None]:
    """For each tensor of samples, the gradient of the sum of all logits, (N, elements of a sample), at least float32
    and itself differentiable; None if no logits depend on the samples. Takes one backward pass."""
    listed = [x for each in logits for x in ([each] if isinstance(each, Tensor) else each)]
    listed = [x for x in listed if x.requires_grad]
    if not listed:
        return [None] * len(samples)
    # The gradient of the sum, which itself is not needed.
    ones = [torch.ones_like(x) for x in listed]
    gradients = torch.autograd.grad(listed, samples, ones, create_graph=True, allow_unused=True)
    return [
        # No view for samples that are vectors, because views take time in the graph too.
        None if g is None else wide(g if g.dim() == 2 else g.reshape(len(x), -1))
        for g, x in zip(gradients, samples, strict=True)
    ]


def between(real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """A leaf: `share` times the real samples plus 1 - `share` times the generated ones."""
    # Under autocast the generated samples may have lower precision than the real ones.
    dtype = torch.promote_types(real.dtype, fake.dtype)
    a, b = wide(real.detach().to(dtype)), wide(fake.detach().to(dtype))
    return torch.lerp(b, a, share.to(a.dtype)).to(dtype).requires_grad_()


def _zero_centered(op: str, samples: Tensor, logits: Any, gamma: float, reduction: str) -> Tensor:
    (values,) = _zero_centered_of(op, {"": (samples, logits)}, gamma, reduction)
    return checked.reduced(values, reduction)


def _zero_centered_of(
    op: str, sides: dict[str, tuple[Tensor, Any]], gamma: float, reduction: str
) -> list[Tensor]:
    """The penalty of each sample of each side."""
    gamma = checked.positive(op, "gamma", gamma)
    checked.reduction(op, reduction)
    return [0.5 * gamma * g.square().sum(1) for g in _checked_gradients(op, sides)]


def _checked_gradients(op: str, sides: dict[str, tuple[Any, Any]]) -> list[Tensor]:
    """The gradients for (samples, logits) by the side's name, which is empty for a single side."""
    for side, (samples, logits) in sides.items():
        name = side or "samples"
        checked.batch(op, name, samples)
        if not samples.requires_grad:
            raise ValueError(
                f"{op}: {name} must require a gradient ({name}.requires_grad_()) before they go through the "
                "discriminator, got samples that do not"
            )
        if side:
            checked.logits(op, f"{side}_logits", logits, len(samples), f"{side}'s")
        else:
            checked.logits(op, "logits", logits, len(samples))
    pairs = sides.values()
    gradients = gradients_by_sample([logits for _, logits in pairs], [x for x, _ in pairs])
    found = []
    for side, gradient in zip(sides, gradients, strict=True):
        if gradient is None:
            names = (f"{side}_logits", side) if side else ("logits", "the samples")
            raise RuntimeError(
                f"{op}: {names[0]} must depend on {names[1]}, got logits that do not; compute them from "
                "the same tensor, not from a copy or a part of it, and not under torch.no_grad()"
            )
        found.append(gradient)
    return found
