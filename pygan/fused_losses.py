"""GAN losses in one pass over the logits.

Each call reads the logits once and returns the loss, and on request what people log beside it, as
tensors on the logits' device: nothing is copied to the host. :mod:`pygan.reference` has the same
functions written in plain PyTorch.

Logits are what the discriminator returns before any sigmoid, of any shape and any strides, in
float32, float64, float16 or bfloat16; the math and the loss are in float32 (float64 for float64).
Discriminators that judge at several scales return a list of tensors: hand the lists over, they are
reduced to one loss. First and second derivatives exist. Under ``torch.compile``, ``label_smoothing``
and ``weights`` are constants of the graph, as any number given to an op is: a new value compiles anew.

With s(t) = log(1 + exp(t)), real logits r, fake logits f and label smoothing ε:

====================  ==========================================  ================================
loss                  discriminator                               generator
====================  ==========================================  ================================
non_saturating        mean((1-ε) s(-r) + ε s(r)) + mean(s(f))     mean(s(-f))
minimax               the same                                    mean(-s(f))
hinge                 mean(relu(1-r)) + mean(relu(1+f))           mean(-f)
least_squares         ½ mean((r-(1-ε))²) + ½ mean(f²)             ½ mean((f-1)²)
wasserstein           mean(f) - mean(r)                           mean(-f)
relativistic          mean(s(-(r-f)))                             mean(s(-(f-r)))
relativistic_average  mean(s(-(r-mean(f)))) + mean(s(f-mean(r)))  the same, r and f exchanged
====================  ==========================================  ================================

``least_squares`` has the ½ of its paper, which most codebases leave out: ``weights=2`` gives theirs.

Goodfellow et al. 2014 (equation 1; non_saturating: section 3), Lim and Ye 2017, Mao et al. 2017,
Arjovsky et al. 2017, Jolicoeur-Martineau 2018; label smoothing: Salimans et al. 2016.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from pygan import _loss_arguments as arguments
from pygan._arguments import check_bool
from pygan._build import _C
from pygan._compile import compiled_since_2_8
from pygan._feature_matching import feature_matching, feature_matching_and_grad
from pygan._loss_arguments import LOSSES

__all__ = [
    "LOSSES",
    "LossAndGrad",
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

Logits: TypeAlias = Tensor | Sequence[Tensor]

# Bound once: looking an overload up costs a microsecond a call.
_gan_loss = torch.ops.pygan.gan_loss.default
_gan_loss_and_grad = torch.ops.pygan.gan_loss_and_grad.default
_gan_loss_terms = torch.ops.pygan.gan_loss_terms.default


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
    """Mean sign of the real logits' decisions, the overfitting measure r_t of Karras et al. 2020 (ADA)."""
    jsd_bound: Tensor
    """Lower bound of the Jensen-Shannon divergence in nats, log 2 - L/2 with L the discriminator's
    loss without smoothing (Goodfellow et al. 2014, theorem 1); NaN for the generator, and for losses
    other than non_saturating and minimax."""
    nonfinite: Tensor
    """Number of logits that are NaN or infinite."""


class LossAndGrad(NamedTuple):
    """A loss and its gradients, detached."""

    loss: Tensor
    """0-d."""
    grads: tuple[Any, ...]
    """By each of the logits arguments, in their order: a tensor like it, or a list of tensors."""
    stats: LossStats | None
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
        # Dynamo knows PyTorch's way alone.
        if torch.compiler.is_compiling():
            torch.autograd.backward(outputs, grads, retain_graph)
        else:
            _C.backward(outputs, grads, retain_graph)


def compares(loss: str) -> bool:
    """Whether this loss compares real with fake logits: its generator then needs both."""
    return arguments.compared(arguments.index_of(loss)) != arguments.ALONE


@compiled_since_2_8
def discriminator_loss(
    real_logits: Logits,
    fake_logits: Logits,
    *,
    loss: str = "non_saturating",
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    weights: float | Sequence[float] | None = None,
    return_stats: bool = False,
) -> Any:
    """The discriminator's loss, for ``non_saturating`` −V(D, G) of Goodfellow et al. 2014 (eq. 1)
    on logits. The module's table has the others.

    Args:
        real_logits: D's logits on real samples, any shape; or a list of such tensors, one a scale.
        fake_logits: D's logits on generated samples, any shape; may differ in size (but for
            ``relativistic``, which pairs them). A list where real_logits is one, of its length.
        loss: one of :data:`LOSSES`.
        label_smoothing: ε in [0, 1], one-sided: the real target is 1 - ε (Salimans et al. 2016, 3.4).
            For ``non_saturating``, ``minimax`` and ``least_squares``.
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` for the terms.
        weights: a number by which to multiply the loss; for lists also one for each scale; default: 1. The
            losses of the scales are added.
        return_stats: also return :class:`LossStats`, from the same pass.

    Returns:
        The loss, a 0-d tensor. For ``reduction="none"``, the pair ``(real_terms, fake_terms)`` in the
        logits' shapes, each a list where the logits are; for ``relativistic`` the terms of the
        pairs alone. With ``return_stats``, a tuple of that and the statistics.

    Raises:
        ValueError: unknown loss or reduction, ε out of range or not honoured by the loss, empty
            logits under a mean, logits on different devices, shapes that cannot be paired, lists or
            weights of different lengths.
        TypeError: logits that are no floating tensors, or differ in dtype; weights that are no
            numbers.
    """
    op = "pygan.fused_losses.discriminator_loss"
    call = arguments.parse(
        op, False, loss, label_smoothing, reduction, weights, real_logits, fake_logits
    )
    return _loss(call, fake_logits, return_stats)


@compiled_since_2_8
def real_loss(
    real_logits: Logits,
    *,
    loss: str = "non_saturating",
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    weights: float | Sequence[float] | None = None,
    return_stats: bool = False,
) -> Any:
    """The part of :func:`discriminator_loss` that is of the real logits, for losses that do not compare.

    Running this and :func:`fake_loss` backward separately, as PyTorch's DCGAN example and StyleGAN3 do, gives the
    gradients of their sum, and frees the graph of one side before that of the other is built:

        pygan.fused_losses.real_loss(D(real)).backward()
        pygan.fused_losses.fake_loss(D(fake.detach())).backward()

    Args:
        real_logits, loss, label_smoothing, reduction, weights, return_stats: as for :func:`discriminator_loss`, `loss`
            being none of the relativistic ones. The statistics of the other side are NaN, and so is the bound of the
            divergence.

    Returns:
        The loss, a 0-d tensor; for ``reduction="none"`` the terms in the logits' shape, a list where the logits are.
        With ``return_stats``, a tuple of that and the statistics.

    Raises:
        ValueError, TypeError: as :func:`discriminator_loss`; a loss that compares real with fake logits.
    """
    op = "pygan.fused_losses.real_loss"
    call = arguments.parse_side(op, True, loss, label_smoothing, reduction, weights, real_logits)
    return _loss(call, real_logits, return_stats)


@compiled_since_2_8
def fake_loss(
    fake_logits: Logits,
    *,
    loss: str = "non_saturating",
    reduction: str = "mean",
    weights: float | Sequence[float] | None = None,
    return_stats: bool = False,
) -> Any:
    """The part of :func:`discriminator_loss` that is of the fake logits: see :func:`real_loss`."""
    op = "pygan.fused_losses.fake_loss"
    call = arguments.parse_side(op, False, loss, 0.0, reduction, weights, fake_logits)
    return _loss(call, fake_logits, return_stats)


@compiled_since_2_8
def generator_loss(
    fake_logits: Logits,
    *,
    real_logits: Logits | None = None,
    loss: str = "non_saturating",
    reduction: str = "mean",
    weights: float | Sequence[float] | None = None,
    return_stats: bool = False,
) -> Any:
    """The generator's loss, for ``non_saturating`` −log D(G(z)) (Goodfellow et al. 2014, section 3).
    The module's table has the others; the gradient of ``minimax`` vanishes where D rejects the
    samples.

    Args:
        fake_logits: D's logits on generated samples, any shape; or a list of such tensors.
        real_logits: D's logits on real samples, for ``relativistic`` and ``relativistic_average``,
            which compare the two; the others take none.
        loss, reduction, weights, return_stats: as in :func:`discriminator_loss`.

    Returns:
        The loss, a 0-d tensor. For ``reduction="none"``, the terms in fake_logits' shape (a list
        where it is one); for ``relativistic_average`` the pair ``(fake_terms, real_terms)``. With
        ``return_stats``, a tuple of that and the statistics.

    Raises:
        ValueError, TypeError: as in :func:`discriminator_loss`; also real logits for a loss that does
            not use them, and none for one that does.
    """
    op = "pygan.fused_losses.generator_loss"
    call = arguments.parse(op, True, loss, 0.0, reduction, weights, real_logits, fake_logits)
    return _loss(call, fake_logits, return_stats)


@compiled_since_2_8
def discriminator_loss_and_grad(
    real_logits: Logits,
    fake_logits: Logits,
    *,
    loss: str = "non_saturating",
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    weights: float | Sequence[float] | None = None,
    return_stats: bool = False,
) -> LossAndGrad:
    """:func:`discriminator_loss` and its gradients by real_logits and fake_logits in the same pass,
    without autograd. What comes before the logits gets its gradients by :meth:`LossAndGrad.backward`::

        result = discriminator_loss_and_grad(real_logits, fake_logits)
        result.backward(real_logits, fake_logits)

    The arguments are those of :func:`discriminator_loss`; reduction is ``"mean"`` or ``"sum"``.

    Returns:
        :class:`LossAndGrad`, its grads ``(d loss / d real_logits, d loss / d fake_logits)``.

    Raises:
        ValueError, TypeError: as in :func:`discriminator_loss`.
    """
    op = "pygan.fused_losses.discriminator_loss_and_grad"
    call = arguments.parse(
        op, False, loss, label_smoothing, reduction, weights, real_logits, fake_logits
    )
    return _loss_and_grad(op, call, fake_logits, return_stats)


@compiled_since_2_8
def generator_loss_and_grad(
    fake_logits: Logits,
    *,
    real_logits: Logits | None = None,
    loss: str = "non_saturating",
    reduction: str = "mean",
    weights: float | Sequence[float] | None = None,
    return_stats: bool = False,
) -> LossAndGrad:
    """:func:`generator_loss` and its gradients, as :func:`discriminator_loss_and_grad`.

    Returns:
        :class:`LossAndGrad`, its grads ``(d loss / d fake_logits,)``, followed by
        ``d loss / d real_logits`` where these are given.
    """
    op = "pygan.fused_losses.generator_loss_and_grad"
    call = arguments.parse(op, True, loss, 0.0, reduction, weights, real_logits, fake_logits)
    return _loss_and_grad(op, call, fake_logits, return_stats)


def _loss(call: arguments.Call, like: Logits, return_stats: bool) -> Any:
    if call[-1] == arguments.NONE:
        terms = _terms(call, like)
        if not return_stats:
            return terms
        # A sum, which is defined for empty logits too.
        logits = [x.detach() for x in call[0]]
        numbers = _gan_loss(logits, *call[1:5], arguments.SUM, True)[1]
        return terms, _stats(numbers)
    # Dynamo can trace the op alone; everybody else takes the shorter way to it.
    gan_loss = _gan_loss if torch.compiler.is_compiling() else _C.gan_loss
    value, numbers = gan_loss(*call, return_stats)
    return (value, _stats(numbers)) if return_stats else value


def _loss_and_grad(op: str, call: arguments.Call, like: Logits, return_stats: bool) -> LossAndGrad:
    if call[-1] == arguments.NONE:
        raise ValueError(f'{op}: reduction must be mean or sum, got "none"')
    both = _gan_loss_and_grad if torch.compiler.is_compiling() else _C.gan_loss_and_grad
    value, numbers, grads = both(*call, return_stats)
    stats = _stats(numbers) if return_stats else None
    return LossAndGrad(value, arguments.by_argument(grads, like), stats)


def _terms(call: arguments.Call, like: Logits) -> Any:
    # Differences and means as autograd knows them; the form of the loss is the kernel's.
    logits, roles, index, smoothing, weights, _ = call
    scales = 1 if isinstance(like, Tensor) else len(like)
    compared = arguments.compared(index)
    if compared != arguments.ALONE:
        arguments.check(call)
        math = torch.float64 if logits[0].dtype == torch.float64 else torch.float32
        first = [x.to(math) for x in logits[:scales]]
        second = [x.to(math) for x in logits[scales:]]
        if compared == arguments.PAIRED:
            logits = [a - b for a, b in zip(first, second, strict=True)]
            roles = roles[:scales]
        else:
            logits = [a - _mean(b) for a, b in zip(first, second, strict=True)]
            logits += [b - _mean(a) for a, b in zip(first, second, strict=True)]
    terms = _gan_loss_terms(logits, roles, index, smoothing, 0)
    if weights:
        terms = [t * weights[i % scales] for i, t in enumerate(terms)]
    grouped = arguments.by_argument(terms, like)
    return grouped if len(grouped) > 1 else grouped[0]


def _mean(x: Tensor) -> Tensor:
    # Not torch's, whose bits depend on the number of threads: what the Wasserstein generator maximises.
    role, index = arguments.GENERATOR_FAKE, arguments.WASSERSTEIN
    return -_gan_loss([x], [role], index, 0.0, [], arguments.MEAN, False)[0]


def _stats(numbers: Tensor) -> LossStats:
    count = len(LossStats._fields)
    if torch.compiler.is_compiling():
        return LossStats(*numbers[:count].unbind())
    return LossStats(*_C.scalars(numbers, count))
