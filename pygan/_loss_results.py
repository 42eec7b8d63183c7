"""What the functions of :mod:`pygan.fused_losses` return in addition to the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from pygan import _loss_arguments as arguments
from pygan import _ops
from pygan._validation import check_bool

Logits: TypeAlias = Tensor | Sequence[Tensor]


class LossStats(NamedTuple):
    """Statistics of the logits: detached 0-d tensors in the loss's dtype, on the logits' device.

    They cover the logits of all scales. Statistics of the real logits are NaN if none were given. Accuracies and
    signs use the loss's own decision rule: a logit's sign; for ``least_squares``, whether it is above the
    middle between the targets, (1 - label_smoothing) / 2; for the relativistic losses, the sign of
    its difference from the logit, or the mean, that it is compared with. ``wasserstein`` and the
    relativistic losses leave an offset of the logits undetermined, so D(x) and D(G(z)) have no meaning, and
    for ``wasserstein`` neither do accuracies and signs.
    """

    real_logit: Tensor
    """Mean real logit."""
    fake_logit: Tensor
    """Mean fake logit."""
    d_real: Tensor
    """Mean D(x), the probability that D assigns to a real sample being real."""
    d_fake: Tensor
    """Mean D(G(z))."""
    real_accuracy: Tensor
    """Fraction of the real logits classified as real (positive, but see above)."""
    fake_accuracy: Tensor
    """Fraction of the fake logits classified as fake (negative, but see above)."""
    real_sign: Tensor
    """Mean sign of the real logits' decisions, the overfitting measure r_t of Karras et al. 2020b (ADA)."""
    jsd_bound: Tensor
    """Lower bound on the Jensen-Shannon divergence in nats, log 2 - L/2 with L the discriminator's
    loss without smoothing (Goodfellow et al. 2014, theorem 1); NaN for the generator, and for losses
    other than non_saturating and minimax."""
    nonfinite: Tensor
    """Number of logits that are NaN or infinite."""
    fake_sign: Tensor
    """Mean sign of the fake logits' decisions: near -1 if the discriminator detects all of them."""
    real_std: Tensor
    """Standard deviation of the real logits (divided by n, not n - 1)."""
    fake_std: Tensor
    """Standard deviation of the fake logits."""


class LossParts(NamedTuple):
    """The loss of each side and scale, for logging: detached, in the loss's dtype, on the logits' device.

    Weights are not applied, so that a scale of weight 0 still has a value; without weights, the parts sum to the loss.
    0-d for a tensor; shape (K,) for a list of K scales.
    """

    real: Tensor | None
    """The real logits' part; None if the loss does not use them. For ``relativistic`` and ``relativistic_hinge``,
    whose pairs have a single loss, this is the discriminator's loss, and ``fake`` is None."""
    fake: Tensor | None
    """The fake logits' part; for such pairs, this is the generator's loss, and ``real`` is None."""


class LossAndGrad(NamedTuple):
    """A loss and its gradients, detached."""

    loss: Tensor
    """0-d."""
    grads: tuple[Any, ...]
    """The gradient with respect to each logits argument, in order: a tensor like it, or a list of tensors."""
    stats: LossStats | None
    """None unless requested."""
    parts: LossParts | None = None
    """None unless requested."""

    def backward(self, *logits: Logits, retain_graph: bool = False) -> None:
        """Runs the backward pass from the logits with these gradients, as ``loss.backward()`` would from the loss.

        Equivalent to ``torch.autograd.backward(logits, grads, retain_graph)`` for tensors and lists of them, but calls
        autograd's engine directly: for small batches, PyTorch's wrapper takes longer than the engine.

        Args:
            logits: the arguments of the function that returned this, in the order of :attr:`grads`; trailing
                ones may be omitted, such as real logits that need no gradient.
            retain_graph: keep the graph of the logits, for another backward pass through it.

        Raises:
            ValueError: more logits than gradients; a list instead of a tensor, or of another length;
                another shape, dtype or device; logits that do not require a gradient.
            TypeError: logits that are neither tensors nor lists of them; retain_graph is not a bool.
        """
        op = "pygan.fused_losses.LossAndGrad.backward"
        check_bool(op, "retain_graph", retain_graph)
        outputs, grads = arguments.paired(op, logits, self.grads)
        _ops.backward(outputs, grads, retain_graph)


def stats_of(numbers: Tensor) -> LossStats:
    """The statistics, which come first in the op's numbers."""
    return LossStats(*_ops.scalars(numbers, len(LossStats._fields)))


def parts_of(numbers: Tensor, call: arguments.Call, like: Logits) -> LossParts:
    """The parts, which come last in the op's numbers."""
    logits, roles, index = call[:3]
    compared = arguments.compared(index)
    count = len(logits) // 2 if compared == arguments.PAIRED else len(logits)
    numbers = numbers[numbers.numel() - count :]
    scales = 1 if isinstance(like, Tensor) else len(like)
    by_scale = compared == arguments.TO_MEAN  # else side by side
    sides = numbers.view(scales, 2).unbind(1) if by_scale else torch.split(numbers, scales)
    if isinstance(like, Tensor):
        sides = tuple(side[0] for side in sides)
    of_role = dict(zip(roles[::scales], sides, strict=False))
    real = of_role.get(arguments.REAL, of_role.get(arguments.GENERATOR_REAL))
    return LossParts(real, of_role.get(arguments.FAKE, of_role.get(arguments.GENERATOR_FAKE)))


# --- statistics of parts of a batch -----------------------------------------------------------------


def mixable(loss: Tensor, stats: LossStats) -> list[Tensor]:
    """The loss and the statistics in a form that can be averaged over parts of a batch: standard deviations become
    second moments. In float64, because a large mean would cancel in float32."""
    loss, *numbers = torch.stack([loss, *stats]).double().unbind()
    wide = LossStats(*numbers)
    second = wide._replace(
        real_std=wide.real_std.square() + wide.real_logit.square(),
        fake_std=wide.fake_std.square() + wide.fake_logit.square(),
    )
    return [loss, *second]


def mixed(numbers: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, LossStats]:
    """Loss and statistics of the whole batch, from means of the results of `mixable`."""
    loss, *rest = numbers
    stats = LossStats(*rest)
    stats = stats._replace(
        real_std=(stats.real_std - stats.real_logit.square()).clamp(min=0).sqrt(),
        fake_std=(stats.fake_std - stats.fake_logit.square()).clamp(min=0).sqrt(),
    )
    loss, *rest = torch.stack([loss, *stats]).to(dtype).unbind()
    return loss, LossStats(*rest)
