"""GAN losses in one pass over the logits.

Each call reads the logits once and returns the loss, and on request what people log beside it, as
tensors on the logits' device: nothing is copied to the host. :mod:`pygan.reference` has the same
functions written in plain PyTorch.

Logits are what the discriminator returns before any sigmoid, of any shape and any strides, in
float32, float64, float16 or bfloat16; the math and the loss are in float32 (float64 for float64).
Discriminators that judge at several scales return a list of tensors: hand the lists over, they are
reduced to one loss. First and second derivatives exist. Under ``torch.compile``, ``label_smoothing``,
targets, and ``weights`` that are numbers are constants of the graph, as any number given to an op is: a
new value compiles anew.

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

``relativistic_hinge``, ``relativistic_average_hinge`` and ``relativistic_average_least_squares`` see the same
differences d: relu(1-d) or ½ (d-1)² instead of s(-d), and relu(1+d) or ½ (d+1)² instead of s(d).

``least_squares`` has the ½ of its paper, which most codebases leave out: ``weights=2`` gives theirs.

Other targets than the table's are given by ``real_target``, ``fake_target`` and the generator's ``target``: the
probability for non_saturating and minimax, the logit for least_squares (Mao's b, a and c), the margin for the hinges
(relu(t-r) and relu(f-t), t being 1 and -1). ``label_smoothing=ε`` is ``real_target=1-ε``.

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
    """Whether this loss compares real with fake logits: its generator then needs both."""
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
    """The discriminator's loss, for ``non_saturating`` −V(D, G) of Goodfellow et al. 2014 (eq. 1)
    on logits. The module's table has the others.

    Args:
        real_logits: D's logits on real samples, any shape; or a list of such tensors, one per scale.
        fake_logits: D's logits on generated samples, any shape; may differ in size (but for
            ``relativistic``, which pairs them). A list where real_logits is one, of its length.
        loss: one of :data:`LOSSES`.
        label_smoothing: ε in [0, 1], one-sided: the real target is 1 - ε (Salimans et al. 2016, 3.4).
            For ``non_saturating``, ``minimax`` and ``least_squares``.
        real_target, fake_target: other targets than the loss's own, as the module's table says: soft labels,
            least squares' b and a (Mao et al. 2017, eq. 2), the margins of the hinges. None: the loss's own.
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` for the terms.
        weights: a number by which to multiply the loss, or a 0-d tensor on the logits' device, such as
            :func:`pygan.penalties.adaptive_weight` gives; for lists also one number for each scale; default:
            1. The losses of the scales are added.
        detach_means: for ``relativistic_average`` and its kin: no gradient goes through the means, as
            ESRGAN has it (Wang et al. 2018b).
        return_stats: also return :class:`LossStats`, from the same pass.
        return_parts: also return :class:`LossParts`, the loss of each side and scale, from the same pass.

    Returns:
        The loss, a 0-d tensor. For ``reduction="none"``, the pair ``(real_terms, fake_terms)`` in the
        logits' shapes, each a list where the logits are; for ``relativistic`` and ``relativistic_hinge`` the
        terms of the pairs alone. With ``return_stats`` or ``return_parts``, a tuple of that, of the
        statistics, and of the parts.

    Raises:
        ValueError: unknown loss or reduction, a target out of range or that the loss does not have, empty
            logits under a mean, logits on different devices, shapes that cannot be paired, lists or
            weights of different lengths, parts of unreduced terms.
        TypeError: logits that are no floating tensors, or differ in dtype; weights that are no
            numbers; flags that are no bools.
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
    """The part of :func:`discriminator_loss` that is of the real logits, for losses that do not compare.

    Running this and :func:`fake_loss` backward separately, as PyTorch's DCGAN example and StyleGAN3 do, gives the
    gradients of their sum, and frees the graph of one side before that of the other is built:

        pygan.fused_losses.real_loss(D(real)).backward()
        pygan.fused_losses.fake_loss(D(fake.detach())).backward()

    Args:
        real_logits, loss, label_smoothing, reduction, weights, return_stats, return_parts: as for
            :func:`discriminator_loss`, `loss` being none of the relativistic ones. The statistics of the other side are
            NaN, and so is the bound of the divergence.
        target: the real_target there.

    Returns:
        The loss, a 0-d tensor; for ``reduction="none"`` the terms in the logits' shape, a list where the logits are.
        With ``return_stats`` or ``return_parts``, a tuple of that, of the statistics, and of the parts.

    Raises:
        ValueError, TypeError: as :func:`discriminator_loss`; a loss that compares real with fake logits.
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
    """The part of :func:`discriminator_loss` that is of the fake logits, `target` being its fake_target: see
    :func:`real_loss`."""
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
    """The generator's loss, for ``non_saturating`` −log D(G(z)) (Goodfellow et al. 2014, section 3).
    The module's table has the others; the gradient of ``minimax`` vanishes where D rejects the
    samples.

    Args:
        fake_logits: D's logits on generated samples, any shape; or a list of such tensors.
        real_logits: D's logits on real samples, for the relativistic losses, which compare the two; the
            others take none.
        loss, reduction, weights, return_stats, return_parts: as in :func:`discriminator_loss`.
        target: what fake logits are to be taken for: the probability for ``non_saturating``, the logit for
            ``least_squares`` (c), the margin for ``clipped_hinge``; None: 1. The others have none.

    Returns:
        The loss, a 0-d tensor. For ``reduction="none"``, the terms in fake_logits' shape (a list
        where it is one); for ``relativistic_average`` and its kin the pair ``(fake_terms, real_terms)``. With
        ``return_stats`` or ``return_parts``, a tuple of that, of the statistics, and of the parts.

    Raises:
        ValueError, TypeError: as in :func:`discriminator_loss`; also real logits for a loss that does
            not use them, and none for one that does.
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
    """:func:`discriminator_loss` and its gradients with respect to real_logits and fake_logits from the same
    pass, without autograd. :meth:`LossAndGrad.backward` hands them to what comes before the logits::

        result = discriminator_loss_and_grad(real_logits, fake_logits)
        result.backward(real_logits, fake_logits)

    The arguments are those of :func:`discriminator_loss`; reduction is ``"mean"`` or ``"sum"``.

    Returns:
        :class:`LossAndGrad`, its grads ``(d loss / d real_logits, d loss / d fake_logits)``.

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
    """:func:`generator_loss` and its gradients, as :func:`discriminator_loss_and_grad`.

    Returns:
        :class:`LossAndGrad`, its grads ``(d loss / d fake_logits,)``, followed by
        ``d loss / d real_logits`` where these are given.
    """
    op = "pygan.fused_losses.generator_loss_and_grad"
    options = (loss, 0.0, reduction, weights, target, None, False)
    call = arguments.generator(op, fake_logits, real_logits, options)
    return calls.loss_and_grad(op, call, weights, fake_logits, return_stats, return_parts)
