"""The plain-PyTorch truth of every op: slow, short, and readable beside the papers.

Tests compare the kernels with it, benchmarks race against it, and the documentation quotes it. Nothing here is
fused or approximated: everything is computed in float64 by PyTorch's own functions and rounded once at the end, so
the error against the exact value is half a unit in the last place of the result. All functions are differentiable
(twice) by autograd and work for any shape, strides and device that has float64.

Notation: r and f are the discriminator's logits for real and generated samples, s(t) = log(1 + exp(t)) is softplus,
D = sigmoid(logit). With L_D = mean s(-r) + mean s(f), the negative of the game's value V(D, G),
log 2 - L_D / 2 <= JSD(p_data || p_G) for every D (Goodfellow et al. 2014, section 4.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from pygan.fused_losses import LossStats

__all__ = [
    "LOSSES",
    "discriminator_loss",
    "generator_loss",
    "instance_noise",
    "normal",
    "philox4x32",
]


def _softplus(t: Tensor) -> Tensor:
    # Not F.softplus: it returns t itself above its threshold of 20, wrong by 2e-9, which float64 can see.
    # logsigmoid is min(0, t) - log1p(exp(-|t|)) and has both derivatives at every t, 0 and +-inf included.
    return -F.logsigmoid(-t)


def _cross_entropy(real: Tensor, fake: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    # As in Salimans et al. 2016. A term of weight 0 is left out, lest it be infinite and make a NaN.
    weighted = ((1.0 - smoothing, -real), (smoothing, real))
    real_terms = torch.stack([weight * _softplus(t) for weight, t in weighted if weight]).sum(0)
    return real_terms, _softplus(fake)


class _Loss(NamedTuple):
    """One GAN loss, per element; the reductions are common to all."""

    discriminator: Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]
    """(real logits, fake logits, label smoothing) -> (terms of the real samples, terms of the fakes)."""
    generator: Callable[[Tensor], Tensor]
    """fake logits -> terms."""


_TABLE: dict[str, _Loss] = {
    # Goodfellow et al. 2014, section 3: the generator maximises log D(G(z)).
    "non_saturating": _Loss(_cross_entropy, lambda fake: _softplus(-fake)),
    # Goodfellow et al. 2014, equation 1: the generator minimises log(1 - D(G(z))), flat where D(G(z)) is near 0.
    "minimax": _Loss(_cross_entropy, lambda fake: -_softplus(fake)),
}

_REDUCE: dict[str, Callable[[Tensor], Tensor]] = {"mean": torch.mean, "sum": torch.sum}

LOSSES: tuple[str, ...] = tuple(_TABLE)
"""The names that `loss=` takes."""


def discriminator_loss(
    real_logits: Tensor,
    fake_logits: Tensor,
    *,
    loss: str = "non_saturating",
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    return_stats: bool = False,
) -> Any:
    """The discriminator's loss, to be minimised.

    ``mean[(1 - eps) s(-r) + eps s(r)] + mean s(f)`` for ``non_saturating`` and ``minimax`` (they differ in the
    generator only), with eps = ``label_smoothing`` applied to the real samples only (Salimans et al. 2016).

    Args:
        real_logits, fake_logits: floating tensors of any shapes; their sizes may differ.
        loss: one of :data:`LOSSES`.
        label_smoothing: in [0, 1]; the real target is 1 - eps.
        reduction: ``"mean"`` or ``"sum"`` (of each tensor by itself; then the two are added), or ``"none"``.
        return_stats: also return :class:`pygan.fused_losses.LossStats`.

    Returns:
        A 0-d tensor, float64 for float64 logits and float32 otherwise; with ``reduction="none"`` the pair
        (real terms, fake terms) in the shapes of the logits; and the statistics if asked for.

    Raises:
        ValueError: unknown loss or reduction, smoothing out of range, or an empty tensor whose mean is asked for.
        TypeError: logits that are not floating.
    """
    op = "discriminator_loss"
    _check(op, loss, reduction, real_logits=real_logits, fake_logits=fake_logits)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"{op}: label_smoothing must be from 0 to 1, got {label_smoothing}")
    dtype = _result_dtype(real_logits, fake_logits)
    real, fake = real_logits.double(), fake_logits.double()
    real_terms, fake_terms = _TABLE[loss].discriminator(real, fake, label_smoothing)
    result: Any
    if reduction == "none":
        result = real_terms.to(dtype), fake_terms.to(dtype)
    else:
        result = (_REDUCE[reduction](real_terms) + _REDUCE[reduction](fake_terms)).to(dtype)
    return (result, _stats(real, fake, dtype)) if return_stats else result


def generator_loss(
    fake_logits: Tensor,
    *,
    real_logits: Tensor | None = None,
    loss: str = "non_saturating",
    reduction: str = "mean",
    return_stats: bool = False,
) -> Any:
    """The generator's loss, to be minimised.

    ``mean s(-f)`` for ``non_saturating`` and ``mean -s(f)`` for ``minimax``.

    Args:
        fake_logits: floating tensor of any shape.
        real_logits: for losses that compare the two; those of this table do not and take None only.
        loss, reduction, return_stats: as in :func:`discriminator_loss`.

    Returns:
        A 0-d tensor (float64 for float64 logits, float32 otherwise), or terms in the shape of ``fake_logits`` with
        ``reduction="none"``; and the statistics if asked for (those of the real samples and the JSD bound are NaN).

    Raises:
        ValueError, TypeError: as in :func:`discriminator_loss`.
    """
    op = "generator_loss"
    _check(op, loss, reduction, fake_logits=fake_logits)
    if real_logits is not None:
        raise ValueError(
            f"{op}: real_logits must be None for loss={loss!r}, which does not compare them, "
            f"got {type(real_logits).__name__}"
        )
    dtype = _result_dtype(fake_logits)
    fake = fake_logits.double()
    terms = _TABLE[loss].generator(fake)
    result = terms.to(dtype) if reduction == "none" else _REDUCE[reduction](terms).to(dtype)
    return (result, _stats(None, fake, dtype)) if return_stats else result


def philox4x32(counter: Tensor, key: Tensor) -> Tensor:
    """Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

    Args:
        counter: int64 tensor (..., 4) of 32-bit words, each in [0, 2^32).
        key: int64 tensor (..., 2) of 32-bit words, broadcast against the counter.

    Returns:
        int64 tensor (..., 4) of 32-bit words.
    """
    c0, c1, c2, c3 = counter.unbind(-1)
    k0, k1 = key.unbind(-1)
    for _ in range(10):
        hi0, lo0 = _multiply_32x32(c0, 0xD2511F53)
        hi1, lo1 = _multiply_32x32(c2, 0xCD9E8D57)
        c0, c1, c2, c3 = hi1 ^ c1 ^ k0, lo1, hi0 ^ c3 ^ k1, lo0
        k0, k1 = (k0 + 0x9E3779B9) & _WORD, (k1 + 0xBB67AE85) & _WORD
    return torch.stack((c0, c1, c2, c3), dim=-1)


def normal(
    seed: int, step: int, offset: int, n: int, *, device: torch.device | str | None = None
) -> Tensor:
    """Elements offset, ..., offset + n - 1 of the noise stream (seed, step), as exactly as float64 allows.

    Element e belongs to counter c = e // 4, whose words w0..w3 are Philox4x32-10 of (c low, c high, step low, step
    high) under the key (seed low, seed high). By Box and Muller (1958), with u = (w0 + 1/2) / 2^32 in (0, 1],

    ``z[4c], z[4c + 1] = sqrt(-2 ln u) (cos, sin)(2 pi w1 / 2^32)``, and z[4c + 2], z[4c + 3] likewise from w2, w3.

    u is rounded to float32 (w0 first, then the sum), which belongs to the definition of the stream; from there on
    everything here is float64. The kernels' z is this number up to the float32 rounding of their own polynomials.

    Args:
        seed, step: 64-bit integers; a negative one stands for the same bits as an unsigned one.
        offset, n: non-negative.

    Returns:
        float64 tensor (n,).
    """
    if offset < 0 or n < 0:
        raise ValueError(f"normal: offset and n must be non-negative, got {offset} and {n}")
    first = offset // 4
    count = (offset + n + 3) // 4 - first
    c = first + torch.arange(count, dtype=torch.int64, device=device)
    counter = torch.stack(
        (
            c & _WORD,
            c >> 32,
            torch.full_like(c, step & _WORD),
            torch.full_like(c, step >> 32 & _WORD),
        ),
        dim=-1,
    )
    key = torch.tensor([seed & _WORD, seed >> 32 & _WORD], dtype=torch.int64, device=device)
    words = philox4x32(counter, key)
    u = words[:, 0::2].float() * 2.0**-32 + 2.0**-33  # (count, 2)
    radius = torch.sqrt(-2.0 * torch.log(u.double()))
    angle = words[:, 1::2].double() * (2.0 * math.pi / 2.0**32)
    z = torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), dim=-1).flatten()
    return z[offset - 4 * first :][:n]


def instance_noise(
    x: Tensor,
    sigma: float | Tensor,
    *,
    seed: int,
    step: int,
    offset: int = 0,
    scale: float = 1.0,
    bias: float = 0.0,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """``x * scale + bias + sigma * z`` with z from :func:`normal` (instance noise: Sønderby et al. 2017, section 3.2;
    Arjovsky and Bottou 2017).

    The i-th element *in memory order* of the result (that of ``torch.empty_like(x)``) takes element offset + i of the
    stream, so that a tensor and its channels-last copy get the same values at the same addresses.

    Args:
        x: tensor of any shape and dtype.
        sigma: a number, a 0-d tensor, or one value per sample, shape (x.shape[0],).
        seed, step, offset: see :func:`normal`.
        dtype: floating dtype of the result; default: that of x if floating, else the default dtype.

    Returns:
        Tensor of x's shape, computed in float64 and rounded once to ``dtype``.
    """
    if dtype is None:
        dtype = x.dtype if x.dtype.is_floating_point else torch.get_default_dtype()
    memory = torch.empty_like(x, dtype=torch.float64)
    z = normal(seed, step, offset, x.numel(), device=x.device).as_strided(
        memory.shape, memory.stride()
    )
    if isinstance(sigma, Tensor):
        sigma = sigma.double()
        if sigma.dim() == 1:
            sigma = sigma.view(-1, *[1] * (x.dim() - 1))
    out = x.double() * scale + bias + sigma * z
    return out.to(dtype)


_WORD = 0xFFFFFFFF


def _multiply_32x32(a: Tensor, b: int) -> tuple[Tensor, Tensor]:
    """High and low word of the 64-bit product, by 16-bit halves so that nothing leaves int64."""
    low, high = (a & 0xFFFF) * b, (a >> 16) * b
    return (high + (low >> 16)) >> 16, (((high & 0xFFFF) << 16) + low) & _WORD


def _result_dtype(*logits: Tensor) -> torch.dtype:
    return torch.float64 if any(t.dtype == torch.float64 for t in logits) else torch.float32


def _stats(real: Tensor | None, fake: Tensor, dtype: torch.dtype) -> LossStats:
    """The statistics of one phase from float64 logits. Comparisons with NaN are false; means carry it on (IEEE)."""
    fake = fake.detach()
    nan = torch.full((), math.nan, dtype=torch.float64, device=fake.device)
    nonfinite = (~fake.isfinite()).sum().double()
    real_logit = d_real = real_accuracy = real_sign = jsd_bound = nan
    if real is not None:
        real = real.detach()
        nonfinite = nonfinite + (~real.isfinite()).sum()
        real_logit, d_real = real.mean(), real.sigmoid().mean()
        positive, negative = (real > 0).double(), (real < 0).double()
        real_accuracy, real_sign = positive.mean(), (positive - negative).mean()
        # From the unsmoothed loss whatever was optimised: a smoothed one is not -V and bounds nothing.
        value = _softplus(-real).mean() + _softplus(fake).mean()
        jsd_bound = math.log(2.0) - value / 2.0
    stats = LossStats(
        real_logit=real_logit,
        fake_logit=fake.mean(),
        d_real=d_real,
        d_fake=fake.sigmoid().mean(),
        real_accuracy=real_accuracy,
        fake_accuracy=(fake < 0).double().mean(),
        real_sign=real_sign,
        jsd_bound=jsd_bound,
        nonfinite=nonfinite,
    )
    return LossStats(*(value.to(dtype) for value in stats))


def _check(op: str, loss: str, reduction: str, **logits: Tensor) -> None:
    if loss not in _TABLE:
        raise ValueError(f"{op}: loss must be one of {', '.join(LOSSES)}, got {loss!r}")
    if reduction != "none" and reduction not in _REDUCE:
        raise ValueError(f"{op}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    for name, tensor in logits.items():
        if not tensor.dtype.is_floating_point:
            raise TypeError(f"{op}: {name} must be a floating tensor, got {tensor.dtype}")
        if tensor.numel() == 0 and reduction == "mean":
            raise ValueError(
                f"{op}: {name} must not be empty (the mean is undefined), got shape {tuple(tensor.shape)}"
            )
