"""What the functions of :mod:`pygan.fused_losses` return beside the loss."""

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
    """What the loss saw: detached 0-d tensors in the loss's dtype, on the logits' device.

    Over all logits of all scales. Those of the real logits are NaN where none were given. Accuracies and
    sign say how the discriminator decides as the loss has it: by a logit's sign; for ``least_squares``,
    by the side of the middle between its targets, (1 - label_smoothing) / 2; for the relativistic losses,
    by the difference to the logit, or the mean, that a logit is compared with. ``wasserstein`` and the
    relativistic losses leave an offset of the logits undetermined: D(x) and D(G(z)) mean nothing there, and
    under ``wasserstein`` neither do accuracies and sign.
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
    """Share of the real logits that are decided for real (positive, but see above)."""
    fake_accuracy: Tensor
    """Share of the fake logits that are decided for fake (negative, but see above)."""
    real_sign: Tensor
    """Mean sign of the real logits' decisions, the overfitting measure r_t of Karras et al. 2020b (ADA)."""
    jsd_bound: Tensor
    """Lower bound of the Jensen-Shannon divergence in nats, log 2 - L/2 with L the discriminator's
    loss without smoothing (Goodfellow et al. 2014, theorem 1); NaN for the generator, and for losses
    other than non_saturating and minimax."""
    nonfinite: Tensor
    """Number of logits that are NaN or infinite."""
    fake_sign: Tensor
    """Mean sign of the fake logits' decisions: near -1 where the discriminator sees through all of them."""
    real_std: Tensor
    """Standard deviation of the real logits (of all of them: divided by n, not n - 1)."""
    fake_std: Tensor
    """Standard deviation of the fake logits."""


class LossParts(NamedTuple):
    """The loss of each side and scale, as people log it: detached, in the loss's dtype, on the logits' device.

    Without the weights, so that a scale of weight 0 still has its loss; without weights the parts add up to the loss.
    Of a tensor 0-d; of a list of K scales (K,).
    """

    real: Tensor | None
    """Of the real logits; None where the loss sees none. Of ``relativistic`` and ``relativistic_hinge``, whose pairs
    have one loss, the discriminator's stands here and ``fake`` is None."""
    fake: Tensor | None
    """Of the fake logits; the generator's loss of such pairs stands here, and ``real`` is None."""


class LossAndGrad(NamedTuple):
    """A loss and its gradients, detached."""

    loss: Tensor
    """0-d."""
    grads: tuple[Any, ...]
    """By each of the logits arguments, in their order: a tensor like it, or a list of tensors."""
    stats: LossStats | None
    """None unless asked for."""
    parts: LossParts | None = None
    """None unless asked for."""

    def backward(self, *logits: Logits, retain_graph: bool = False) -> None:
        """Hands the gradients to autograd, from the logits on, as ``loss.backward()`` does from a loss.

        It is ``torch.autograd.backward(logits, grads, retain_graph)`` for tensors and lists of them, but goes to
        autograd's engine directly: for small batches PyTorch's way there takes longer than the engine.

        Args:
            logits: what was given to the function that made this, in the order of :attr:`grads`; those
                at the end may be left out, as real logits of which nothing is to be learnt.
            retain_graph: keep the graph behind the logits, for another backward pass through it.

        Raises:
            ValueError: more logits than gradients; a list where a tensor was given, or of another length;
                another shape, dtype or device; logits that require no gradient.
            TypeError: logits that are neither tensors nor lists of them; retain_graph that is no bool.
        """
        op = "pygan.fused_losses.LossAndGrad.backward"
        check_bool(op, "retain_graph", retain_graph)
        outputs, grads = arguments.paired(op, logits, self.grads)
        _ops.backward(outputs, grads, retain_graph)


def stats_of(numbers: Tensor) -> LossStats:
    """The statistics, with which the op's numbers begin."""
    return LossStats(*_ops.scalars(numbers, len(LossStats._fields)))


def parts_of(numbers: Tensor, call: arguments.Call, like: Logits) -> LossParts:
    """The parts, with which the op's numbers end."""
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
    """The loss and numbers of which the whole's are the weighted means of the parts': second moments for standard
    deviations. In float64, because of a large mean little else is left in float32."""
    loss, *numbers = torch.stack([loss, *stats]).double().unbind()
    wide = LossStats(*numbers)
    second = wide._replace(
        real_std=wide.real_std.square() + wide.real_logit.square(),
        fake_std=wide.fake_std.square() + wide.fake_logit.square(),
    )
    return [loss, *second]


def mixed(numbers: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, LossStats]:
    """Loss and statistics of the whole, from the means of mixable ones."""
    loss, *rest = numbers
    stats = LossStats(*rest)
    stats = stats._replace(
        real_std=(stats.real_std - stats.real_logit.square()).clamp(min=0).sqrt(),
        fake_std=(stats.fake_std - stats.fake_logit.square()).clamp(min=0).sqrt(),
    )
    loss, *rest = torch.stack([loss, *stats]).to(dtype).unbind()
    return loss, LossStats(*rest)
