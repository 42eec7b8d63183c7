r"""Divergences between two densities p and q, given on a grid or as distributions, and lower bounds on them from a
discriminator.

    jsd(p, q, dx=0.01)                                            # p, q: values of the densities on a grid
    jsd(Normal(0.0, 0.5), Normal(1.0, 0.5))                       # Estimate(value, standard_error)
    lower_bounds(real_logits, fake_logits).jsd                    # for any discriminator

With u = log p(x) − log q(x), all in nats:

=================  =======================================  ========================================
divergence         as an expectation over p and q           range
=================  =======================================  ========================================
`kl`               E_p[u]                                   0 to ∞; ∞ if q = 0 where p > 0
`reverse_kl`       E_q[−u], which is KL(q ‖ p)              0 to ∞; ∞ if p = 0 where q > 0
`jsd`              ½ E_p[log 2 + log σ(u)]                  0 to log 2
                   + ½ E_q[log 2 + log σ(−u)]
`total_variation`  ½ E_p[(1 − e⁻ᵘ)₊] + ½ E_q[(1 − eᵘ)₊]     0 to 1
=================  =======================================  ========================================

In a GAN, p is the data's density and q the generator's. The optimal discriminator's logit is u, and its
`value_function` is −2 log 2 + 2 JSD (Goodfellow et al. 2014, proposition 1, theorem 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, overload

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal
from torch.distributions.kl import kl_divergence
from torch.nn.functional import logsigmoid, relu
from torch.special import ndtr

from pygan._validation import check_float, check_int, check_values, is_number

__all__ = [
    "Estimate",
    "LowerBounds",
    "jsd",
    "kl",
    "lower_bounds",
    "optimal_discriminator",
    "reverse_kl",
    "total_variation",
    "value_function",
]


class Estimate(NamedTuple):
    """A number estimated from samples, or computed exactly."""

    value: Tensor
    """0-d."""
    standard_error: Tensor
    """0-d; 0 if the value is exact."""


class LowerBounds(NamedTuple):
    """Lower bounds on the divergences from a discriminator's logits, up to the standard error."""

    kl: Estimate
    reverse_kl: Estimate
    jsd: Estimate
    total_variation: Estimate


_Given = TypeVar("_Given", Tensor, Distribution)
_Side = Callable[[Tensor], Tensor]
# f and g of E_p[f(u)] + E_q[g(−u)]; None is 0.
_KL: tuple[_Side | None, _Side | None] = (lambda u: u, None)
_REVERSE_KL: tuple[_Side | None, _Side | None] = (None, lambda v: v)
_JSD = ((lambda u: 0.5 * (math.log(2.0) + logsigmoid(u))),) * 2
_TOTAL_VARIATION = ((lambda u: 0.5 * relu(-torch.expm1(-u))),) * 2
_VALUE = (logsigmoid, logsigmoid)


@overload
def kl(p: Tensor, q: Tensor, *, dx: float = ...) -> Tensor: ...
@overload
def kl(p: Distribution, q: Distribution, *, samples: int = ...) -> Estimate: ...
def kl(p: Any, q: Any, *, dx: float | None = None, samples: int | None = None) -> Any:
    """KL(p ‖ q), which maximum likelihood minimizes if p is the data; minimizing it covers every mode of p.

    Args:
        p, q: densities on the same grid, of any shape, non-negative, floating-point; or two distributions over the
            same events, without a batch shape.
        dx: for a grid, the volume of a cell, positive; None means 1, for probabilities. The space outside the grid
            counts as empty, and so does a cell whose density has underflowed to 0.
        samples: for distributions without a closed form, the number of samples to draw from each, with PyTorch's
            default generator; None means 100,000.

    Returns:
        Tensor: for densities on a grid, 0-d and differentiable with respect to them.
        Estimate: for distributions, differentiable with respect to their parameters: through the samples if the
        distribution supports it (``has_rsample``), otherwise with the score-function estimator.

    Raises:
        TypeError, ValueError: p and q do not match, or are not densities; dx given for distributions, or
            samples for a grid.
    """
    return _divergence("kl", _KL, p, q, dx, samples, closed=kl_divergence)


@overload
def reverse_kl(p: Tensor, q: Tensor, *, dx: float = ...) -> Tensor: ...
@overload
def reverse_kl(p: Distribution, q: Distribution, *, samples: int = ...) -> Estimate: ...
def reverse_kl(p: Any, q: Any, *, dx: float | None = None, samples: int | None = None) -> Any:
    """KL(q ‖ p), which penalizes q most where p is small; minimizing it may cover a single mode of p. Arguments as for
    :func:`kl`."""
    return _divergence(
        "reverse_kl", _REVERSE_KL, p, q, dx, samples, closed=lambda p, q: kl_divergence(q, p)
    )


@overload
def jsd(p: Tensor, q: Tensor, *, dx: float = ...) -> Tensor: ...
@overload
def jsd(p: Distribution, q: Distribution, *, samples: int = ...) -> Estimate: ...
def jsd(p: Any, q: Any, *, dx: float | None = None, samples: int | None = None) -> Any:
    """The Jensen-Shannon divergence, ½ KL(p ‖ m) + ½ KL(q ‖ m) with m = (p + q)/2. The discriminator's loss bounds it,
    and it is log 2 if p and q do not overlap. Arguments as for :func:`kl`."""
    return _divergence("jsd", _JSD, p, q, dx, samples)


@overload
def total_variation(p: Tensor, q: Tensor, *, dx: float = ...) -> Tensor: ...
@overload
def total_variation(p: Distribution, q: Distribution, *, samples: int = ...) -> Estimate: ...
def total_variation(p: Any, q: Any, *, dx: float | None = None, samples: int | None = None) -> Any:
    """½ ∫ |p − q|: the best discriminator has an accuracy of ½ + ½ TV. Arguments as for :func:`kl`."""
    return _divergence("total_variation", _TOTAL_VARIATION, p, q, dx, samples, closed=_normals)


def optimal_discriminator(p_data: _Given, p_g: _Given) -> Any:
    """D* = p_data / (p_data + p_g) (Goodfellow et al. 2014, proposition 1).

    Returns:
        Tensor: for densities on a grid, its *logits*, log p_data − log p_g; 0 where both are 0.
        Callable: for distributions, a function from samples to logits, like a discriminator.
    """
    if isinstance(p_data, Distribution):
        return lambda x: _log_ratio(p_data, p_g, x)
    _check_grid("optimal_discriminator", p_data, p_g)
    return _grid_log_ratio(p_data, p_g)


def value_function(
    discriminator: Any,
    p_data: Any,
    p_g: Any,
    *,
    dx: float | None = None,
    samples: int | None = None,
) -> Any:
    """V(D, G) = E_data[log D(x)] + E_G[log(1 − D(x))] (Goodfellow et al. 2014, eq. 1), which D maximizes: at least
    −2 log 2 if D is optimal, at most 0. For samples, use ``-fused_losses.discriminator_loss(...)``.

    Args:
        discriminator: its logits on the grid; for distributions, a callable from samples (N, ...) to logits (N,) or
            (N, 1).
        p_data, p_g, dx, samples: as for :func:`kl`.

    Returns:
        Tensor for a grid, Estimate for distributions, as for :func:`kl`.
    """
    if isinstance(p_data, Distribution):
        count = _check_distributions("value_function", p_data, p_g, dx, samples)
        return _estimate(_VALUE, p_data, p_g, lambda x: discriminator(x).flatten(), count)
    _check_grid("value_function", p_data, p_g)
    _check_grid("value_function", p_data, discriminator, logits=True)
    return _integral(_VALUE, p_data, p_g, discriminator, _check_cell("value_function", dx, samples))


def lower_bounds(real_logits: Tensor, fake_logits: Tensor) -> LowerBounds:
    """Lower bounds on the divergences between the real and the generated distribution from a discriminator's logits a.

    They hold for any discriminator and are tight for the optimal one: JSD after Goodfellow et al. 2014,
    KL ≥ E_p[a] − E_q[eᵃ] + 1 and the reverse KL after Nguyen et al. 2010, TV ≥ (sum of both accuracies) − 1. They hold
    in expectation over samples that the discriminator was *not* trained on; its own training data proves nothing.

    Args:
        real_logits, fake_logits: of any shape, one logit per sample.
    """
    for name, logits in (("real_logits", real_logits), ("fake_logits", fake_logits)):
        if not isinstance(logits, Tensor) or not logits.is_floating_point() or logits.numel() < 2:
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(
                f"divergences.lower_bounds: {name} must be a floating-point tensor with at least 2 logits, got {got}"
            )
        check_float("divergences.lower_bounds", name, logits)
    r, f = (
        x.flatten().to(torch.promote_types(x.dtype, torch.float32))
        for x in (real_logits, fake_logits)
    )
    right = ((r > 0).to(r.dtype) + 0.5 * (r == 0), (f < 0).to(f.dtype) + 0.5 * (f == 0))
    return LowerBounds(
        kl=_mean(r, -torch.expm1(f)),
        reverse_kl=_mean(-torch.expm1(-r), -f),
        jsd=_mean(_JSD[0](r), _JSD[1](-f)),
        total_variation=_mean(right[0] - 0.5, right[1] - 0.5),
    )


def _divergence(
    name: str,
    sides: tuple[_Side | None, _Side | None],
    p: Any,
    q: Any,
    dx: float | None,
    samples: int | None,
    closed: Callable[[Any, Any], Tensor] | None = None,
) -> Any:
    if not isinstance(p, Distribution):
        _check_grid(name, p, q)
        return _integral(sides, p, q, _grid_log_ratio(p, q), _check_cell(name, dx, samples))
    count = _check_distributions(name, p, q, dx, samples)
    if closed is not None:
        try:
            value = closed(p, q)
            return Estimate(value, torch.zeros_like(value))
        except NotImplementedError:  # no closed form for this pair
            pass
    return _estimate(sides, p, q, lambda x: _log_ratio(p, q, x), count)


def _integral(
    sides: tuple[_Side | None, _Side | None], p: Tensor, q: Tensor, u: Tensor, dx: float
) -> Tensor:
    """∫ p f(u) + q g(−u); a cell whose density is 0 contributes nothing, whatever its u."""
    total = p.new_zeros(())
    for density, side, ratio in ((p, sides[0], u), (q, sides[1], -u)):
        if side is not None:
            there = density > 0
            # The inner where keeps the gradient from multiplying 0 by infinity.
            total = total + (density * side(torch.where(there, ratio, 0.0))).where(there, 0.0).sum()
    return total * dx


def _estimate(
    sides: tuple[_Side | None, _Side | None],
    p: Distribution,
    q: Distribution,
    logits: Callable[[Tensor], Tensor],
    samples: int,
) -> Estimate:
    """E_p[f(u)] + E_q[g(−u)] by Monte Carlo."""
    values = []
    for source, side, sign in ((p, sides[0], 1.0), (q, sides[1], -1.0)):
        if side is not None:
            x = source.rsample((samples,)) if source.has_rsample else source.sample((samples,))
            value = side(sign * logits(x))
            if not source.has_rsample:
                # 1, with the gradient of log p(x): the score function's estimator (Williams 1992).
                score = source.log_prob(x)
                value = value * torch.exp(score - score.detach())
            values.append(value)
    return _mean(*values)


def _mean(*values: Tensor) -> Estimate:
    """The sum of the means of independent samples, with its standard error."""
    value = torch.stack([x.mean() for x in values]).sum()
    variance = torch.stack([x.detach().var() / x.numel() for x in values]).sum()
    return Estimate(value, variance.sqrt())


def _log_ratio(p: Distribution, q: Distribution, x: Tensor) -> Tensor:
    return p.log_prob(x) - q.log_prob(x)


def _grid_log_ratio(p: Tensor, q: Tensor) -> Tensor:
    empty = (p == 0) & (q == 0)
    return torch.where(empty, 1.0, p).log() - torch.where(empty, 1.0, q).log()


def _normals(p: Distribution, q: Distribution) -> Tensor:
    """Total variation of two one-dimensional Gaussians, from the points where their densities cross."""
    if not (isinstance(p, Normal) and isinstance(q, Normal)):
        raise NotImplementedError
    m, s, n, t = (x.double() for x in (p.loc, p.scale, q.loc, q.scale))
    if bool(s == t):
        return (2 * ndtr((m - n).abs() / (s + t)) - 1).to(p.loc.dtype)
    # log p = log q is a x² + 2 b x + c = 0.
    a = t**2 - s**2
    b = s**2 * n - t**2 * m
    c = (t * m) ** 2 - (s * n) ** 2 + 2 * (s * t) ** 2 * torch.log(s / t)
    # This form avoids cancellation if s and t are close, so that one root is far away.
    e = -(b + torch.copysign((b * b - a * c).sqrt(), b))
    low, high = (ndtr((x - m) / s) - ndtr((x - n) / t) for x in (e / a, c / e))
    return (high - low).abs().to(p.loc.dtype)


def _check_grid(op: str, p: Any, q: Any, logits: bool = False) -> None:
    for name, x in (("p", p), ("logits" if logits else "q", q)):
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(
                f"divergences.{op}: {name} must be a floating-point tensor, or both torch Distributions, got {got}"
            )
        check_values(f"divergences.{op}", name, x)
        check_float(f"divergences.{op}", name, x)
        if not (name == "logits" or bool((x >= 0).all())):
            raise ValueError(
                f"divergences.{op}: {name} must be a non-negative density, got {x.min()}"
            )
    if p.shape != q.shape or p.device != q.device:
        raise ValueError(
            f"divergences.{op}: both densities must be on the same grid, got shapes {tuple(p.shape)} and "
            f"{tuple(q.shape)} on {p.device} and {q.device}"
        )


def _check_cell(op: str, dx: Any, samples: int | None) -> float:
    """The volume of a grid's cell."""
    if samples is not None:
        raise ValueError(
            f"divergences.{op}: samples must be None for densities on a grid, got {samples!r}"
        )
    if dx is None:
        return 1.0
    if not is_number(dx) or not 0.0 < dx < math.inf:
        raise ValueError(
            f"divergences.{op}: dx must be a positive and finite number, or None, got {dx!r}"
        )
    return float(dx)


def _check_distributions(
    op: str, p: Distribution, q: Any, dx: float | None, samples: int | None
) -> int:
    """The number of samples to draw."""
    if dx is not None:
        raise ValueError(
            f"divergences.{op}: dx must be None for distributions, which have no grid, got {dx!r}"
        )
    if not isinstance(q, Distribution):
        raise TypeError(
            f"divergences.{op}: q must be a torch Distribution like p, got {type(q).__name__}"
        )
    if p.batch_shape or q.batch_shape or p.event_shape != q.event_shape:
        raise ValueError(
            f"divergences.{op}: p and q must be of the same events, without a batch shape, got events "
            f"{tuple(p.event_shape)} and {tuple(q.event_shape)}, batches {tuple(p.batch_shape)} and "
            f"{tuple(q.batch_shape)}"
        )
    samples = 100_000 if samples is None else samples
    check_int(f"divergences.{op}", "samples", samples, 2)
    return samples
