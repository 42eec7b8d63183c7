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
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from pygan._reference_checks import scales_of, weights_of
from pygan._reference_noise import instance_noise, normal, philox4x32
from pygan.fused_losses import LossStats

__all__ = [
    "LOSSES",
    "discriminator_loss",
    "feature_matching",
    "generator_loss",
    "instance_noise",
    "normal",
    "philox4x32",
]


def _softplus(t: Tensor) -> Tensor:
    # Not F.softplus: it returns t itself above its threshold of 20, wrong by 2e-9, which float64 can see.
    # logsigmoid is min(0, t) - log1p(exp(-|t|)) and has both derivatives at every t, 0 and +-inf included.
    return -F.logsigmoid(-t)


def _cross_entropy(r: Tensor, f: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    # As in Salimans et al. 2016. A term of weight 0 is left out, lest it be infinite and make a NaN.
    weighted = ((1.0 - eps, -r), (eps, r))
    return torch.stack([w * _softplus(t) for w, t in weighted if w]).sum(0), _softplus(f)


class _Loss(NamedTuple):
    """One GAN loss, element by element; reductions, scales and weights are common to all."""

    discriminator: Callable[[Tensor, Tensor, float], tuple[Tensor, ...]]
    """(r, f, label smoothing) -> (terms of the real samples, terms of the fakes), or one of both."""
    generator: Callable[..., tuple[Tensor, ...]]
    """(f) or, of a relativistic loss, (f, r) -> terms, those of the fakes first."""
    smooths: bool = False
    """Whether the loss has targets that label smoothing can soften."""
    relativistic: bool = False
    """Whether a sample is judged against samples of the other kind."""


_TABLE: dict[str, _Loss] = {
    # Goodfellow et al. 2014, section 3: the generator maximises log D(G(z)).
    "non_saturating": _Loss(_cross_entropy, lambda f: (_softplus(-f),), smooths=True),
    # Goodfellow et al. 2014, equation 1: the generator minimises log(1 - D(G(z))), flat where D(G(z)) is near 0.
    "minimax": _Loss(_cross_entropy, lambda f: (-_softplus(f),), smooths=True),
    # Lim and Ye 2017; Miyato et al. 2018: what is right by a margin of 1 teaches nothing more.
    "hinge": _Loss(lambda r, f, _: ((1 - r).relu(), (1 + f).relu()), lambda f: (-f,)),
    # Mao et al. 2017: regression on the targets 1 (real) and 0 (fake).
    "least_squares": _Loss(
        lambda r, f, eps: ((r - (1 - eps)).square() / 2, f.square() / 2),
        lambda f: ((f - 1).square() / 2,),
        smooths=True,
    ),
    # Arjovsky et al. 2017: a critic, not a classifier; something else must keep it Lipschitz.
    "wasserstein": _Loss(lambda r, f, _: (-r, f), lambda f: (-f,)),
    # Jolicoeur-Martineau 2019: each real sample against the fake one that it is paired with.
    "relativistic": _Loss(
        lambda r, f, _: (_softplus(-(r - f)),),
        lambda f, r: (_softplus(-(f - r)),),
        relativistic=True,
    ),
    # The same paper: each sample against the mean of the other kind; gradients flow into the means.
    "relativistic_average": _Loss(
        lambda r, f, _: (_softplus(-(r - f.mean())), _softplus(f - r.mean())),
        lambda f, r: (_softplus(-(f - r.mean())), _softplus(r - f.mean())),
        relativistic=True,
    ),
}

_REDUCE: dict[str, Callable[[Tensor], Tensor]] = {"mean": torch.mean, "sum": torch.sum}

LOSSES: tuple[str, ...] = tuple(_TABLE)
"""The names that `loss=` takes."""


def discriminator_loss(
    real_logits: Tensor | Sequence[Tensor],
    fake_logits: Tensor | Sequence[Tensor],
    *,
    loss: str = "non_saturating",
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    weights: Sequence[float] | None = None,
    return_stats: bool = False,
) -> Any:
    """The discriminator's loss, to be minimised; the formulas stand in the table above.

    Args:
        real_logits, fake_logits: floating tensors of any shapes, whose sizes may differ (except under
            ``relativistic``); or two lists of as many tensors, one per scale, whose losses are added.
        loss: one of :data:`LOSSES`.
        label_smoothing: eps in [0, 1]; the real target is 1 - eps (Salimans et al. 2016). The losses without
            targets (hinge, wasserstein, relativistic ones) take 0 only.
        reduction: ``"mean"`` or ``"sum"`` (of each tensor by itself; then they are added), or ``"none"``.
        weights: one finite number per scale, the factor of its loss; None: all 1.
        return_stats: also return :class:`pygan.fused_losses.LossStats`, over the logits of all scales.

    Returns:
        A 0-d tensor, float64 for float64 logits and float32 otherwise; with ``reduction="none"`` the pair
        (real terms, fake terms) in the shapes of the logits (``relativistic``: one tensor, the terms of the
        pairs), each a list if lists were given; and the statistics if asked for.

    Raises:
        ValueError: unknown loss or reduction, smoothing out of range or not for this loss, an empty tensor whose
            mean is asked for, lists or shapes that do not match, weights that do not fit.
        TypeError: logits that are not floating tensors of one dtype, weights or smoothing that are no numbers.
    """
    op = "discriminator_loss"
    entry = _entry(op, loss, reduction)
    if not isinstance(label_smoothing, Real):
        kind = type(label_smoothing).__name__
        raise TypeError(f"{op}: label_smoothing must be a number, got {kind}")
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"{op}: label_smoothing must be from 0 to 1, got {label_smoothing}")
    if label_smoothing and not entry.smooths:
        raise ValueError(
            f"{op}: label_smoothing must be 0 for loss={loss!r}, got {label_smoothing}"
        )
    real, fake = scales_of(op, loss, reduction, real_logits=real_logits, fake_logits=fake_logits)
    terms = [entry.discriminator(r, f, label_smoothing) for r, f in zip(real, fake, strict=True)]
    bounds = loss in ("non_saturating", "minimax")
    stats = _stats(loss, real, fake, bounds, label_smoothing) if return_stats else None
    return _result(op, fake_logits, terms, reduction, weights, stats)


def generator_loss(
    fake_logits: Tensor | Sequence[Tensor],
    *,
    real_logits: Tensor | Sequence[Tensor] | None = None,
    loss: str = "non_saturating",
    reduction: str = "mean",
    weights: Sequence[float] | None = None,
    return_stats: bool = False,
) -> Any:
    """The generator's loss, to be minimised; the formulas stand in the table above.

    Args:
        fake_logits: floating tensor of any shape, or a list of them, one per scale.
        real_logits: the same for the real samples, for the relativistic losses; the others take None only.
        loss, reduction, weights, return_stats: as in :func:`discriminator_loss`.

    Returns:
        As :func:`discriminator_loss`; with ``reduction="none"``, terms in the shape of ``fake_logits``, or
        (fake terms, real terms) for ``relativistic_average``. The statistics of real samples that were not given are
        NaN, and so is the JSD bound.

    Raises:
        ValueError, TypeError: as in :func:`discriminator_loss`.
    """
    op = "generator_loss"
    entry = _entry(op, loss, reduction)
    if entry.relativistic and real_logits is None:
        raise ValueError(
            f"{op}: real_logits must be given for loss={loss!r}, which compares them, got None"
        )
    if real_logits is not None and not entry.relativistic:
        raise ValueError(
            f"{op}: real_logits must be None for loss={loss!r}, which does not compare them, "
            f"got {type(real_logits).__name__}"
        )
    given = {} if real_logits is None else {"real_logits": real_logits}
    logits = scales_of(op, loss, reduction, fake_logits=fake_logits, **given)
    terms = [entry.generator(*scale) for scale in zip(*logits, strict=True)]
    real = logits[1] if given else []
    stats = _stats(loss, real, logits[0], bounds=False) if return_stats else None
    return _result(op, fake_logits, terms, reduction, weights, stats)


def _result(
    op: str,
    logits: Any,
    terms: list[tuple[Tensor, ...]],
    reduction: str,
    weights: Sequence[float] | None,
    stats: LossStats | None,
) -> Any:
    listed = not isinstance(logits, Tensor)
    dtype = (logits[0] if listed else logits).dtype
    dtype = torch.float64 if dtype == torch.float64 else torch.float32
    factors = weights_of(op, weights, listed, len(terms))
    terms = [tuple(w * t for t in scale) for w, scale in zip(factors, terms, strict=True)]
    result: Any
    if reduction == "none":
        kinds = [[t.to(dtype) for t in kind] for kind in zip(*terms, strict=True)]
        results = tuple(kind if listed else kind[0] for kind in kinds)
        result = results if len(results) > 1 else results[0]
    else:
        reduced = [_REDUCE[reduction](t) for scale in terms for t in scale]
        result = torch.stack(reduced).sum().to(dtype)
    return result if stats is None else (result, LossStats(*(s.to(dtype) for s in stats)))


def _stats(
    loss: str, real: list[Tensor], fake: list[Tensor], bounds: bool, label_smoothing: float = 0.0
) -> LossStats:
    """The statistics of all scales together. Comparisons with NaN are false; means carry it on (IEEE)."""
    decided = [
        torch.cat([t.detach().flatten() for t in kind]) if kind else fake[0].new_empty(0)
        for kind in _decided(loss, real, fake, label_smoothing)
    ]
    for_real, for_fake = (decided[0] > 0).double(), (decided[0] < 0).double()
    f = torch.cat([t.detach().flatten() for t in fake])
    r = torch.cat([t.detach().flatten() for t in real]) if real else f[:0]  # whose means are NaN
    nan = f.new_tensor(math.nan)
    # From the unsmoothed loss whatever was optimised: a smoothed one is not -V and bounds nothing.
    value = _softplus(-r).mean() + _softplus(f).mean()
    return LossStats(
        real_logit=r.mean(),
        fake_logit=f.mean(),
        d_real=r.sigmoid().mean(),
        d_fake=f.sigmoid().mean(),
        real_accuracy=for_real.mean(),
        fake_accuracy=(decided[1] < 0).double().mean(),
        real_sign=(for_real - for_fake).mean(),
        jsd_bound=math.log(2.0) - value / 2.0 if bounds else nan,
        nonfinite=(~torch.cat([r, f]).isfinite()).sum().double(),
    )


def _decided(
    loss: str, real: list[Tensor], fake: list[Tensor], label_smoothing: float
) -> tuple[list[Tensor], list[Tensor]]:
    """What is positive where the discriminator takes a real (a fake) sample for real, negative where for generated: the
    logits from half way between the targets, and of losses that compare, the differences that these see."""
    if loss == "relativistic":
        differences = [r - f for r, f in zip(real, fake, strict=True)]
        return differences, [-d for d in differences]
    if loss == "relativistic_average":
        scales = list(zip(real, fake, strict=True))
        return [r - f.mean() for r, f in scales], [f - r.mean() for r, f in scales]
    middle = (1.0 - label_smoothing) / 2 if loss == "least_squares" else 0.0
    return [r - middle for r in real], [f - middle for f in fake]


def _entry(op: str, loss: str, reduction: str) -> _Loss:
    if not isinstance(loss, str) or loss not in _TABLE:
        raise ValueError(f"{op}: loss must be one of {', '.join(LOSSES)}, got {loss!r}")
    if not isinstance(reduction, str) or reduction not in (*_REDUCE, "none"):
        raise ValueError(f"{op}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    return _TABLE[loss]


def feature_matching(
    fake: Sequence[Tensor],
    real: Sequence[Tensor],
    *,
    norm: str = "l1",
    weights: Sequence[float] | None = None,
    relative: bool = False,
) -> tuple[Tensor, Tensor]:
    """The sum of the maps' distances, and the distance of each map (maps,), of flat lists of maps."""
    values = []
    for f, r in zip(fake, real, strict=True):
        d = f.double() - r.double()
        value = d.abs().mean() if norm == "l1" else d.square().mean()
        values.append(value / r.detach().double().abs().mean() if relative else value)
    factors = torch.tensor(
        [1.0] * len(values) if weights is None else list(weights),
        dtype=torch.float64,
        device=values[0].device,
    )
    dtype = torch.float64 if any(f.dtype == torch.float64 for f in fake) else torch.float32
    table = torch.stack(values)
    return (table * factors).sum().to(dtype), table.detach().to(dtype)
