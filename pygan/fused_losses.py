"""GAN losses in one pass over the logits.

Each call reads the logits once and returns the loss, and on request what people log beside it, as
tensors on the logits' device: nothing is copied to the host. :mod:`pygan.reference` has the same
functions written in plain PyTorch.

Logits are what the discriminator returns before any sigmoid, of any shape and any strides, in
float32, float64, float16 or bfloat16; the math and the loss are in float32 (float64 for float64).
First and second derivatives exist.
"""

from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pygan import _C

__all__ = ["LOSSES", "LossStats", "discriminator_loss", "generator_loss"]

#: The names that ``loss=`` takes.
LOSSES: tuple[str, ...] = tuple(_C.loss_names())

_INDEX = {name: index for index, name in enumerate(LOSSES)}
_REDUCTIONS = {"mean": 0, "sum": 1, "none": 2}
_NONE = _REDUCTIONS["none"]
# What a tensor of logits is to the op (csrc/math/losses.h, enum Role).
_REAL, _FAKE, _GENERATOR = 0, 1, 2

# Bound once: looking an overload up costs a microsecond a call.
_gan_loss = torch.ops.pygan.gan_loss.default
_gan_loss_terms = torch.ops.pygan.gan_loss_terms.default


class LossStats(NamedTuple):
    """What the loss saw: detached 0-d tensors in the loss's dtype, on the logits' device.

    Those of the real logits are NaN where none were given.
    """

    real_logit: Tensor
    """Mean real logit."""
    fake_logit: Tensor
    """Mean fake logit."""
    d_real: Tensor
    """Mean D(x), the probability that a real sample is taken for real."""
    d_fake: Tensor
    """Mean D(G(z))."""
    real_accuracy: Tensor
    """Share of the real logits that are positive."""
    fake_accuracy: Tensor
    """Share of the fake logits that are negative."""
    real_sign: Tensor
    """Mean sign of the real logits, the overfitting measure r_t of Karras et al. 2020 (ADA)."""
    jsd_bound: Tensor
    """Lower bound of the Jensen-Shannon divergence in nats, log 2 - L/2 with L the discriminator's
    logistic loss without smoothing (Goodfellow et al. 2014, theorem 1); NaN for the generator."""
    nonfinite: Tensor
    """Number of logits that are NaN or infinite."""


def discriminator_loss(
    real_logits: Tensor,
    fake_logits: Tensor,
    *,
    loss: str = "non_saturating",
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    return_stats: bool = False,
) -> Any:
    r"""The discriminator's loss, :math:`-V(D, G)` of Goodfellow et al. 2014 (eq. 1) on logits.

    With :math:`s(t) = \log(1 + e^t)`, real logits r, fake logits f and label smoothing ε:
    ``mean((1-ε) s(-r) + ε s(r)) + mean(s(f))``, for ``non_saturating`` and ``minimax`` alike.

    Args:
        real_logits: D's logits on real samples, any shape.
        fake_logits: D's logits on generated samples, any shape; may differ in size.
        loss: one of :data:`LOSSES`.
        label_smoothing: ε in [0, 1], one-sided: the real target is 1 - ε (Salimans et al. 2016, 3.4).
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` for the two tensors of terms.
        return_stats: also return :class:`LossStats`, from the same pass.

    Returns:
        The loss, a 0-d tensor; the pair ``(real_terms, fake_terms)`` in the logits' shapes for
        ``reduction="none"``. With ``return_stats``, a tuple of that and the statistics.

    Raises:
        ValueError: unknown loss or reduction, ε out of range, empty logits under a mean, logits on
            different devices.
        TypeError: logits that are no floating tensors, or differ in dtype.
    """
    op = "pygan.discriminator_loss"
    index, reduce = _options(op, loss, reduction, label_smoothing)
    logits = [_tensor(op, "real_logits", real_logits), _tensor(op, "fake_logits", fake_logits)]
    return _loss(logits, [_REAL, _FAKE], index, label_smoothing, reduce, return_stats)


def generator_loss(
    fake_logits: Tensor,
    *,
    real_logits: Tensor | None = None,
    loss: str = "non_saturating",
    reduction: str = "mean",
    return_stats: bool = False,
) -> Any:
    r"""The generator's loss on the discriminator's logits f of generated samples.

    With :math:`s(t) = \log(1 + e^t)`: ``non_saturating``: ``mean(s(-f))`` = −log D(G(z)) (Goodfellow
    et al. 2014, section 3); ``minimax``: ``mean(-s(f))`` = log(1 − D(G(z))) (eq. 1), whose gradient
    vanishes where D rejects the samples.

    Args:
        fake_logits: D's logits on generated samples, any shape.
        real_logits: D's logits on real samples, for losses that compare the two; the others take
            none.
        loss: one of :data:`LOSSES`.
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` for the tensor of terms.
        return_stats: also return :class:`LossStats`, from the same pass.

    Returns:
        The loss, a 0-d tensor; a tensor of fake_logits' shape for ``reduction="none"``. With
        ``return_stats``, a tuple of that and the statistics.

    Raises:
        ValueError: unknown loss or reduction, empty logits under a mean, real logits for a loss that
            does not use them.
        TypeError: logits that are no floating tensor.
    """
    op = "pygan.generator_loss"
    index, reduce = _options(op, loss, reduction, 0.0)
    if real_logits is not None:
        raise ValueError(
            f'{op}: real_logits must be None for loss="{loss}", which does not compare real and '
            f"fake, got {_describe(real_logits)}"
        )
    logits = [_tensor(op, "fake_logits", fake_logits)]
    return _loss(logits, [_GENERATOR], index, 0.0, reduce, return_stats)


def _loss(
    logits: list[Tensor],
    roles: list[int],
    index: int,
    label_smoothing: float,
    reduce: int,
    return_stats: bool,
) -> Any:
    if reduce != _NONE:
        # Dynamo can trace the op alone; everybody else takes the shorter way to it.
        gan_loss = _gan_loss if torch.compiler.is_compiling() else _C.gan_loss
        value, stats = gan_loss(logits, roles, index, label_smoothing, reduce, return_stats)
        return (value, LossStats(*stats.unbind())) if return_stats else value
    terms = _gan_loss_terms(logits, roles, index, label_smoothing, 0)
    result = terms[0] if len(terms) == 1 else tuple(terms)
    if not return_stats:
        return result
    # A sum, which is defined for empty logits too.
    stats = _gan_loss([x.detach() for x in logits], roles, index, label_smoothing, 1, True)[1]
    return result, LossStats(*stats.unbind())


def _options(op: str, loss: Any, reduction: Any, label_smoothing: Any) -> tuple[int, int]:
    index = _index(op, "loss", loss, _INDEX)
    reduce = _index(op, "reduction", reduction, _REDUCTIONS)
    if not isinstance(label_smoothing, (float, int, Real)):
        kind = type(label_smoothing).__name__
        raise TypeError(f"{op}: label_smoothing must be a number, got {kind}")
    if not 0.0 <= float(label_smoothing) <= 1.0:
        raise ValueError(f"{op}: label_smoothing must be from 0 to 1, got {label_smoothing}")
    return index, reduce


def _index(op: str, argument: str, name: Any, known: dict[str, int]) -> int:
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"{op}: {argument} must be one of {', '.join(known)}, got {name!r}")
    return known[name]


def _tensor(op: str, argument: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {argument} must be a tensor, got {_describe(value)}")
    return value


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return type(value).__name__
