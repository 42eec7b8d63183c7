"""GAN losses in one pass over the logits.

Each call reads the logits once and returns the loss and, on request, commonly logged statistics, all as
tensors on the logits' device: nothing is copied to the host. :mod:`pygan.reference` has the same
functions written in plain PyTorch.

Logits are the discriminator's outputs before any sigmoid, with any shape and strides, in
float32, float64, float16 or bfloat16; the math and the loss are in float32 (float64 for float64).
Multi-scale discriminators return a list of tensors: pass the lists, and each call reduces them to one
loss. First and second derivatives are supported. ``torch.compile`` treats ``label_smoothing``, targets,
and numeric ``weights`` as constants, like any number given to an op: a new value recompiles.

With s(t) = log(1 + exp(t)), real logits r, fake logits f and label smoothing ε:

====================  ==========================================  ================================
loss                  discriminator                               generator
====================  ==========================================  ================================
non_saturating        mean((1-ε) s(-r) + ε s(r)) + mean(s(f))     mean(s(-f))
minimax               the same                                    mean(-s(f))
hinge                 mean(relu(1-r)) + mean(relu(1+f))           mean(-f)
clipped_hinge         the same                                    mean(relu(1-f))
least_squares         ½ mean((r-(1-ε))²) + ½ mean(f²)             ½ mean((f-1)²)
wasserstein           mean(f) - mean(r)                           mean(-f)
relativistic          mean(s(-(r-f)))                             mean(s(-(f-r)))
relativistic_average  mean(s(-(r-mean(f)))) + mean(s(f-mean(r)))  the same, r and f exchanged
====================  ==========================================  ================================

``relativistic_hinge``, ``relativistic_average_hinge`` and ``relativistic_average_least_squares`` use the same
differences d, with relu(1-d) or ½ (d-1)² instead of s(-d), and relu(1+d) or ½ (d+1)² instead of s(d).

``least_squares`` includes its paper's factor ½, which most codebases omit: ``weights=2`` matches them.

``real_target``, ``fake_target`` and the generator's ``target`` replace the targets in the table: the
probability for non_saturating and minimax, the logit for least_squares (Mao's b, a and c), the margin for the hinges
(relu(t-r) and relu(f-t), with t = 1 and -1 by default). ``label_smoothing=ε`` is ``real_target=1-ε``.

Goodfellow et al. 2014 (equation 1; non_saturating: section 3), Lim and Ye 2017, Mao et al. 2017,
Arjovsky et al. 2017, Jolicoeur-Martineau 2018; label smoothing: Salimans et al. 2016.
"""

from typing import Any

from pygan import _loss_arguments as arguments
from pygan import _loss_calls as calls
from pygan._compile import compiled_since_2_8
from pygan._feature_matching import feature_matching, feature_matching_and_grad
from pygan._loss_arguments import LOSSES
from pygan._loss_calls import Weights
from pygan._loss_results import Logits, LossAndGrad, LossParts, LossStats

__all__ = [
    "LOSSES",
    "LossAndGrad",
    "LossParts",
    "LossStats",
    "compares",
    "discriminator_loss",
    "discriminator_loss_and_grad",
    "fake_loss",
    "feature_matching",
    "feature_matching_and_grad",
    "generator_loss",
    "generator_loss_and_grad",
    "real_loss",
]


def compares(loss: str) -> bool:
    """Whether this loss compares real with fake logits, so that the generator's loss needs both."""
    return arguments.info(loss).compared != arguments.ALONE


@compiled_since_2_8
def discriminator_loss(
    real_logits: Logits,
    fake_logits: Logits,
    *,
    loss: str = "non_saturating",
    label_smoothing: float = 0.0,
    real_target: float | None = None,
    fake_target: float | None = None,
    reduction: str = "mean",
    weights: Weights = None,
    detach_means: bool = False,
    return_stats: bool = False,
    return_parts: bool = False,
) -> Any:
    """The discriminator's loss.

    ``non_saturating`` is −V(D, G) of Goodfellow et al. 2014 (eq. 1) on logits; for the others, see the module's table.

    Args:
        real_logits: D's logits on real samples, any shape; or a list of such tensors, one per scale.
        fake_logits: D's logits on generated samples, any shape; may differ in size from real_logits (except for
            ``relativistic``, which pairs them). If real_logits is a list, a list of the same length.
        loss: one of :data:`LOSSES`.
        label_smoothing: ε in [0, 1], one-sided: the real target is 1 - ε (Salimans et al. 2016, 3.4).
            For ``non_saturating``, ``minimax`` and ``least_squares``.
        real_target, fake_target: replace the loss's targets (see the module's description): soft labels,
            least squares' b and a (Mao et al. 2017, eq. 2), the hinges' margins. None keeps the loss's own.
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` for the unreduced terms.
        weights: a number that multiplies the loss, or a 0-d tensor on the logits' device, such as the result of
            :func:`pygan.penalties.adaptive_weight`; for lists, also a list with one number per scale; default:
            1. The losses of the scales are added.
        detach_means: for ``relativistic_average`` and its variants: no gradient flows through the means, as
            in ESRGAN (Wang et al. 2018b).
        return_stats: also return :class:`LossStats`, from the same pass.
        return_parts: also return :class:`LossParts`, the loss of each side and scale, from the same pass.

    Returns:
        The loss, a 0-d tensor. For ``reduction="none"``, the pair ``(real_terms, fake_terms)`` in the
        logits' shapes (lists for lists); for ``relativistic`` and ``relativistic_hinge``, only the
        terms of the pairs. With ``return_stats`` or ``return_parts``, a tuple of that, the
        statistics, and the parts.

    Raises:
        ValueError: unknown loss or reduction, a target that is out of range or that the loss does not have, empty
            logits with a mean, logits on different devices, shapes that cannot be paired, lists or
            weights of different lengths, ``return_parts`` with unreduced terms.
        TypeError: logits that are not floating-point tensors or differ in dtype; weights that are not
            numbers; flags that are not bools.
    """
    op = "pygan.fused_losses.discriminator_loss"
    call = arguments.discriminator(
        op,
        real_logits,
        fake_logits,
        (loss, label_smoothing, reduction, weights, real_target, fake_target, detach_means),
    )
    return calls.loss(op, call, weights, fake_logits, return_stats, return_parts)


@compiled_since_2_8
def real_loss(
    real_logits: Logits,
    *,
    loss: str = "non_saturating",
    label_smoothing: float = 0.0,
    target: float | None = None,
    reduction: str = "mean",
    weights: Weights = None,
    return_stats: bool = False,
    return_parts: bool = False,
) -> Any:
    """The real logits' part of :func:`discriminator_loss`, for losses that do not compare real with fake.

    Separate backward passes through this and :func:`fake_loss`, as in PyTorch's DCGAN example and StyleGAN3, accumulate
    the gradients of the sum and free one side's graph before the other is built:

        pygan.fused_losses.real_loss(D(real)).backward()
        pygan.fused_losses.fake_loss(D(fake.detach())).backward()

    Args:
        real_logits, loss, label_smoothing, reduction, weights, return_stats, return_parts: as for
            :func:`discriminator_loss`, except that `loss` must not be relativistic. The other side's statistics
            and the bound on the divergence are NaN.
        target: `real_target` of :func:`discriminator_loss`.

    Returns:
        The loss, a 0-d tensor; for ``reduction="none"``, the terms in the logits' shape (a list for a list).
        With ``return_stats`` or ``return_parts``, a tuple of that, the statistics, and the parts.

    Raises:
        ValueError, TypeError: as for :func:`discriminator_loss`; a loss that compares real with fake logits.
    """
    op = "pygan.fused_losses.real_loss"
    options = (loss, label_smoothing, reduction, weights, target, None, False)
    call = arguments.side(op, True, real_logits, options)
    return calls.loss(op, call, weights, real_logits, return_stats, return_parts)


@compiled_since_2_8
def fake_loss(
    fake_logits: Logits,
    *,
    loss: str = "non_saturating",
    target: float | None = None,
    reduction: str = "mean",
    weights: Weights = None,
    return_stats: bool = False,
    return_parts: bool = False,
) -> Any:
    """The fake logits' part of :func:`discriminator_loss`; `target` is its fake_target. See :func:`real_loss`."""
    op = "pygan.fused_losses.fake_loss"
    options = (loss, 0.0, reduction, weights, None, target, False)
    call = arguments.side(op, False, fake_logits, options)
    return calls.loss(op, call, weights, fake_logits, return_stats, return_parts)


@compiled_since_2_8
def generator_loss(
    fake_logits: Logits,
    *,
    real_logits: Logits | None = None,
    loss: str = "non_saturating",
    target: float | None = None,
    reduction: str = "mean",
    weights: Weights = None,
    return_stats: bool = False,
    return_parts: bool = False,
) -> Any:
    """The generator's loss.

    ``non_saturating`` is −log D(G(z)) (Goodfellow et al. 2014, section 3); for the others, see the module's table. The
    gradient of ``minimax`` vanishes when D rejects the samples.

    Args:
        fake_logits: D's logits on generated samples, any shape; or a list of such tensors.
        real_logits: D's logits on real samples, required by the relativistic losses, which compare the two, and
            refused by the others.
        loss, reduction, weights, return_stats, return_parts: as in :func:`discriminator_loss`.
        target: the generator's target for fake logits: the probability for ``non_saturating``, the logit for
            ``least_squares`` (c), the margin for ``clipped_hinge``; None means 1. The others have no target.

    Returns:
        The loss, a 0-d tensor. For ``reduction="none"``, the terms in fake_logits' shape (a list
        for a list); for ``relativistic_average`` and its variants, the pair ``(fake_terms, real_terms)``. With
        ``return_stats`` or ``return_parts``, a tuple of that, the statistics, and the parts.

    Raises:
        ValueError, TypeError: as in :func:`discriminator_loss`; also real logits for a loss that does
            not use them, or none for one that needs them.
    """
    op = "pygan.fused_losses.generator_loss"
    options = (loss, 0.0, reduction, weights, target, None, False)
    call = arguments.generator(op, fake_logits, real_logits, options)
    return calls.loss(op, call, weights, fake_logits, return_stats, return_parts)


@compiled_since_2_8
def discriminator_loss_and_grad(
    real_logits: Logits,
    fake_logits: Logits,
    *,
    loss: str = "non_saturating",
    label_smoothing: float = 0.0,
    real_target: float | None = None,
    fake_target: float | None = None,
    reduction: str = "mean",
    weights: Weights = None,
    detach_means: bool = False,
    return_stats: bool = False,
    return_parts: bool = False,
) -> LossAndGrad:
    """:func:`discriminator_loss` and its gradients with respect to real_logits and fake_logits, from one
    pass and without autograd. :meth:`LossAndGrad.backward` propagates them through the discriminator::

        result = discriminator_loss_and_grad(real_logits, fake_logits)
        result.backward(real_logits, fake_logits)

    The arguments are those of :func:`discriminator_loss`; reduction is ``"mean"`` or ``"sum"``.

    Returns:
        :class:`LossAndGrad` with grads ``(d loss / d real_logits, d loss / d fake_logits)``.

    Raises:
        ValueError, TypeError: as in :func:`discriminator_loss`.
    """
    op = "pygan.fused_losses.discriminator_loss_and_grad"
    call = arguments.discriminator(
        op,
        real_logits,
        fake_logits,
        (loss, label_smoothing, reduction, weights, real_target, fake_target, detach_means),
    )
    return calls.loss_and_grad(op, call, weights, fake_logits, return_stats, return_parts)


@compiled_since_2_8
def generator_loss_and_grad(
    fake_logits: Logits,
    *,
    real_logits: Logits | None = None,
    loss: str = "non_saturating",
    target: float | None = None,
    reduction: str = "mean",
    weights: Weights = None,
    return_stats: bool = False,
    return_parts: bool = False,
) -> LossAndGrad:
    """:func:`generator_loss` and its gradients; see :func:`discriminator_loss_and_grad`.

    Returns:
        :class:`LossAndGrad` with grads ``(d loss / d fake_logits,)``, followed by
        ``d loss / d real_logits`` if real_logits were given.
    """
    op = "pygan.fused_losses.generator_loss_and_grad"
    options = (loss, 0.0, reduction, weights, target, None, False)
    call = arguments.generator(op, fake_logits, real_logits, options)
    return calls.loss_and_grad(op, call, weights, fake_logits, return_stats, return_parts)
