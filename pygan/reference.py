"""Reference implementations of every op in plain PyTorch: slow, short, and close to the papers' notation.

The tests compare the kernels with them, and the documentation quotes them. Nothing here is
fused or approximated: everything is computed in float64 with PyTorch's own functions and rounded once at the end, so
the result is within half a unit in the last place of the exact value. All functions are twice differentiable
with autograd and work for any shape and strides, on any device that supports float64.

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

from pygan._reference_checks import scales_of, targets_of, weights_of
from pygan._reference_noise import instance_noise, normal, philox4x32
from pygan._validation import check_dense
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
    # Not F.softplus: above its threshold of 20 it returns t itself, an error of 2e-9, visible in float64.
    # logsigmoid is min(0, t) - log1p(exp(-|t|)) and has both derivatives at every t, including 0 and +-inf.
    return -F.logsigmoid(-t)


class _Targets(NamedTuple):
    """The targets of the logits: probabilities, logits or margins, depending on the loss."""

    real: float
    fake: float
    generator: float = 1.0


def _cross_entropy(x: Tensor, target: float) -> Tensor:
    # Skip terms of weight 0: an infinite one would turn into a NaN.
    weighted = ((target, -x), (1.0 - target, x))
    return torch.stack([w * _softplus(t) for w, t in weighted if w]).sum(0)


def _classified(r: Tensor, f: Tensor, t: _Targets) -> tuple[Tensor, Tensor]:
    return _cross_entropy(r, t.real), _cross_entropy(f, t.fake)


def _margins(r: Tensor, f: Tensor, t: _Targets) -> tuple[Tensor, Tensor]:
    return (t.real - r).relu(), (f - t.fake).relu()


def _squares(x: Tensor, target: float) -> Tensor:
    return (x - target).square() / 2


class _Loss(NamedTuple):
    """The elementwise terms of one GAN loss; all losses share the reductions, scales and weights."""

    discriminator: Callable[..., tuple[Tensor, ...]]
    """(r, f, targets) -> (terms of the real samples, terms of the fakes); for a relativistic loss, (r, f, mean) -> the
    same, or the terms of the pairs."""
    generator: Callable[..., tuple[Tensor, ...]] | None = None
    """(f, targets) -> terms. None for relativistic losses: the discriminator's terms with r and f exchanged."""
    targets: _Targets | None = None
    """The loss's default targets, if it has targets."""
    smooths: bool = False
    """Whether it supports label smoothing."""

    @property
    def relativistic(self) -> bool:
        """Whether samples are compared with samples of the other kind."""
        return self.generator is None


_TABLE: dict[str, _Loss] = {
    # Goodfellow et al. 2014, section 3: the generator maximizes log D(G(z)).
    "non_saturating": _Loss(
        _classified, lambda f, t: (_cross_entropy(f, t.generator),), _Targets(1, 0), smooths=True
    ),
    # Goodfellow et al. 2014, equation 1: the generator minimizes log(1 - D(G(z))), flat where D(G(z)) is near 0.
    "minimax": _Loss(_classified, lambda f, _: (-_softplus(f),), _Targets(1, 0), smooths=True),
    # Lim and Ye 2017; Miyato et al. 2018: logits beyond the margin of 1 have no gradient.
    "hinge": _Loss(_margins, lambda f, _: (-f,), _Targets(1, -1)),
    # The generator has a margin too, as in vocoders (Défossez et al. 2022, section 3.4).
    "clipped_hinge": _Loss(_margins, lambda f, t: ((t.generator - f).relu(),), _Targets(1, -1)),
    # Mao et al. 2017: regression on the targets 1 (real) and 0 (fake).
    "least_squares": _Loss(
        lambda r, f, t: (_squares(r, t.real), _squares(f, t.fake)),
        lambda f, t: (_squares(f, t.generator),),
        _Targets(1, 0),
        smooths=True,
    ),
    # Arjovsky et al. 2017: a critic, not a classifier; its Lipschitz constraint must come from elsewhere.
    "wasserstein": _Loss(lambda r, f, _: (-r, f), lambda f, _: (-f,)),
    # Jolicoeur-Martineau 2018: each real sample against the fake sample it is paired with.
    "relativistic": _Loss(lambda r, f, _: (_softplus(-(r - f)),)),
    # The same paper: each sample against the mean of the other kind; gradients flow into the means.
    "relativistic_average": _Loss(
        lambda r, f, mean: (_softplus(-(r - mean(f))), _softplus(f - mean(r)))
    ),
    # The same with the hinge and with least squares, the latter with the 1/2 of "least_squares".
    "relativistic_hinge": _Loss(lambda r, f, _: ((1 - (r - f)).relu(),)),
    "relativistic_average_hinge": _Loss(
        lambda r, f, mean: ((1 - (r - mean(f))).relu(), (1 + (f - mean(r))).relu())
    ),
    "relativistic_average_least_squares": _Loss(
        lambda r, f, mean: (_squares(r - mean(f), 1), _squares(f - mean(r), -1))
    ),
}

_REDUCE: dict[str, Callable[[Tensor], Tensor]] = {"mean": torch.mean, "sum": torch.sum}

LOSSES: tuple[str, ...] = tuple(_TABLE)
"""The accepted names of `loss=`."""


def discriminator_loss(
    real_logits: Tensor | Sequence[Tensor],
    fake_logits: Tensor | Sequence[Tensor],
    *,
    loss: str = "non_saturating",
    label_smoothing: float = 0.0,
    real_target: float | None = None,
    fake_target: float | None = None,
    reduction: str = "mean",
    weights: float | Sequence[float] | None = None,
    detach_means: bool = False,
    return_stats: bool = False,
) -> Any:
    """The discriminator's loss, to be minimized; see the table of formulas in :mod:`pygan.fused_losses`.

    Args:
        real_logits, fake_logits: floating-point tensors of any shapes, whose sizes may differ (except for
            ``relativistic``); or two lists of equal length, one tensor per scale, whose losses are added.
        loss: one of :data:`LOSSES`.
        label_smoothing: eps in [0, 1]; the real target is 1 - eps (Salimans et al. 2016). Must be 0 for the losses
            without probabilities or labels (hinges, wasserstein, relativistic ones).
        real_target, fake_target: replace the loss's targets, as in :mod:`pygan.fused_losses`.
        reduction: ``"mean"`` or ``"sum"`` (of each tensor separately; then they are added), or ``"none"``.
        weights: one finite number, or one per scale, the factor of its loss; None: all 1.
        detach_means: block gradients through the means that logits are compared with.
        return_stats: also return :class:`pygan.fused_losses.LossStats`, over the logits of all scales.

    Returns:
        A 0-d tensor, float64 for float64 logits and float32 otherwise; with ``reduction="none"`` the pair
        (real terms, fake terms) in the shapes of the logits (``relativistic``: one tensor, the terms of the
        pairs), each a list if lists were given; and the statistics if requested.

    Raises:
        ValueError: unknown loss or reduction, smoothing out of range or not supported by the loss, the mean of an
            empty tensor, lists or shapes that do not match, weights of the wrong length.
        TypeError: logits that are not floating-point tensors of one dtype, weights or smoothing that are not numbers.
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
    targets = targets_of(op, loss, entry.targets, real_target, fake_target, label_smoothing)
    if detach_means and "average" not in loss:
        raise ValueError(f"{op}: detach_means must be False for loss={loss!r}, got True")
    real, fake = scales_of(op, loss, reduction, real_logits=real_logits, fake_logits=fake_logits)
    how = _means(detach_means) if entry.relativistic else targets
    terms = [entry.discriminator(r, f, how) for r, f in zip(real, fake, strict=True)]
    bounds = loss in ("non_saturating", "minimax")
    stats = _stats(loss, real, fake, bounds, targets) if return_stats else None
    return _result(op, fake_logits, terms, reduction, weights, stats)


def generator_loss(
    fake_logits: Tensor | Sequence[Tensor],
    *,
    real_logits: Tensor | Sequence[Tensor] | None = None,
    loss: str = "non_saturating",
    target: float | None = None,
    reduction: str = "mean",
    weights: float | Sequence[float] | None = None,
    return_stats: bool = False,
) -> Any:
    """The generator's loss, to be minimized; see the table of formulas in :mod:`pygan.fused_losses`.

    Args:
        fake_logits: floating-point tensor of any shape, or a list of them, one per scale.
        real_logits: the same for the real samples, for the relativistic losses; must be None for the others.
        loss, reduction, weights, return_stats: as in :func:`discriminator_loss`.
        target: target of the fake logits, for the losses whose generator has one; None means 1.

    Returns:
        As for :func:`discriminator_loss`; with ``reduction="none"``, terms in the shape of ``fake_logits``, or
        (fake terms, real terms) for ``relativistic_average``. Without real logits, their statistics and
        the JSD bound are NaN.

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
    if entry.generator is None:
        means = _means(False)
        terms = [entry.discriminator(f, r, means) for f, r in zip(*logits, strict=True)]
    else:
        aim = (entry.targets or _Targets(1, 0))._replace(
            generator=1.0 if target is None else target
        )
        terms = [entry.generator(f, aim) for f in logits[0]]
    real = logits[1] if given else []
    stats = _stats(loss, real, logits[0], False, entry.targets) if return_stats else None
    return _result(op, fake_logits, terms, reduction, weights, stats)


def _result(
    op: str,
    logits: Any,
    terms: list[tuple[Tensor, ...]],
    reduction: str,
    weights: float | Sequence[float] | None,
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


def _means(detached: bool) -> Callable[[Tensor], Tensor]:
    return lambda x: (x.detach() if detached else x).mean()


def _stats(
    loss: str, real: list[Tensor], fake: list[Tensor], bounds: bool, targets: _Targets | None
) -> LossStats:
    """The statistics of all scales together. Comparisons with NaN are false; means propagate it (IEEE)."""
    decided = [
        torch.cat([t.detach().flatten() for t in kind]) if kind else fake[0].new_empty(0)
        for kind in _decided(loss, real, fake, targets)
    ]
    for_real, for_fake = (decided[0] > 0).double(), (decided[0] < 0).double()
    f = torch.cat([t.detach().flatten() for t in fake])
    # Without real logits: empty, with means of NaN.
    r = torch.cat([t.detach().flatten() for t in real]) if real else f[:0]
    nan = f.new_tensor(math.nan)
    # Always from the unsmoothed loss: a smoothed one is not -V and gives no bound.
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
        fake_sign=((decided[1] > 0).double() - (decided[1] < 0).double()).mean(),
        real_std=r.std(correction=0),
        fake_std=f.std(correction=0),
    )


def _decided(
    loss: str, real: list[Tensor], fake: list[Tensor], targets: _Targets | None
) -> tuple[list[Tensor], list[Tensor]]:
    """The decision values of the real and the fake logits, positive if D decides for real: logits relative to the
    middle between the targets, or the differences that a relativistic loss uses."""
    if loss in ("relativistic", "relativistic_hinge"):
        differences = [r - f for r, f in zip(real, fake, strict=True)]
        return differences, [-d for d in differences]
    if "relativistic_average" in loss:
        scales = list(zip(real, fake, strict=True))
        return [r - f.mean() for r, f in scales], [f - r.mean() for r, f in scales]
    logistic = loss in ("non_saturating", "minimax")
    middle = 0.0 if targets is None or logistic else (targets.real + targets.fake) / 2
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
    """The sum of the maps' distances, and the distance of each map, shape (maps,), for flat lists of maps. The options
    are those of :func:`pygan.fused_losses.feature_matching`."""
    values = []
    for f, r in zip(fake, real, strict=True):
        check_dense("feature_matching", "fake", f)
        check_dense("feature_matching", "real", r)
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
