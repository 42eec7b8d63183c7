"""The fused losses as cases to call, the baselines in plain PyTorch, and their comparison.

The reference is pygan.reference, in fp64, and for fp64 itself the extended precision of helpers/truth.py, which also
defines the error bounds.
"""

import math
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch
from torch.nn import functional as F

from helpers import math_type
from helpers.truth import assert_as_accurate, reduced, wide, wide_truth
from pygan import _loss_arguments, fused_losses, reference
from pygan._loss_arguments import PAIRED as PAIRED_LOGITS
from pygan._loss_arguments import TO_MEAN as WITH_MEANS
from pygan.fused_losses import LOSSES, LossStats

SMOOTHED = ("non_saturating", "minimax", "least_squares")
PAIRED = tuple(loss for loss in LOSSES if _loss_arguments.info(loss).compared == PAIRED_LOGITS)
TO_MEAN = tuple(loss for loss in LOSSES if _loss_arguments.info(loss).compared == WITH_MEANS)
RELATIVISTIC = (*PAIRED, *TO_MEAN)
SMOOTHINGS = [0.0, 0.1, 1.0]
REDUCTIONS = ["mean", "sum", "none"]
DRAWS = 3  # the worst of several draws, so that a lucky one does not decide


class Case(NamedTuple):
    """One way to call a loss: everything except for the logits and the requested results."""

    loss: str
    phase: str
    smoothing: float = 0.0

    def __str__(self):
        return "-".join(str(x) for x in self if x)

    @property
    def roles(self):
        """The roles of the logits, in the order of the call's arguments."""
        if self.phase == "discriminator":
            return ["real", "fake"]
        return ["fake", "real"] if self.loss in RELATIVISTIC else ["fake"]

    def call(self, inputs, module=fused_losses, suffix="", **options):
        """Call module.discriminator_loss(*inputs) or generator_loss; the inputs are tensors or lists."""
        function = getattr(module, f"{self.phase}_loss{suffix}")
        if self.phase == "discriminator":
            return function(*inputs, loss=self.loss, label_smoothing=self.smoothing, **options)
        real = {"real_logits": inputs[1]} if len(inputs) > 1 else {}
        return function(inputs[0], loss=self.loss, **real, **options)

    def eager(self, inputs):
        """The terms as usually written in plain PyTorch, a list of one or two tensors."""
        with mock.patch.object(reference, "_softplus", F.softplus):
            return list(self._terms(inputs))

    def _terms(self, inputs):
        loss = reference._TABLE[self.loss]
        if loss.relativistic:
            # The generator's loss is the discriminator's with real and fake exchanged, as the inputs are.
            return loss.discriminator(*inputs, torch.Tensor.mean)
        if self.phase == "generator":
            return loss.generator(*inputs, loss.targets)
        targets = loss.targets and loss.targets._replace(real=1 - self.smoothing)
        return loss.discriminator(*inputs, targets)

    def is_conditioned(self, reduction, order, weights=None):
        """Whether the result is well conditioned, so that rounding its parts cannot cause a large relative error.

        Smoothing makes slopes, and values of least squares, cross 0, and rounded differences make the others do so; in
        sums, linear terms and scales of different signs cancel."""
        if self.loss in RELATIVISTIC and self.loss not in ("relativistic", "relativistic_average"):
            return False
        linear = self.loss == "wasserstein" or (self.loss, self.phase) == ("hinge", "generator")
        cancels = linear or (weights and min(weights) < 0)
        if order == 0 and reduction != "none" and cancels:
            return False
        return not self.smoothing or (order == 0 and self.loss != "least_squares")


PHASES = ["discriminator", "generator"]
CASES = [Case(loss, phase) for loss in LOSSES for phase in PHASES]
CASES += [Case(loss, "discriminator", 0.1) for loss in SMOOTHED]
# Without minimax's discriminator, which is that of non_saturating.
DISTINCT = [case for case in CASES if (case.loss, case.phase) != ("minimax", "discriminator")]


def cases_of(loss):
    return [case for case in CASES if case.loss == loss]


# --- truth and yardstick ---------------------------------------------------------------------------


def as_list(result):
    """The result of reduction="none", for tensors or lists, as a flat list; a loss as [loss]."""
    if isinstance(result, torch.Tensor):
        return [result]
    return [t for part in result for t in as_list(part)]


def by_scale(inputs):
    """The inputs of each scale; a single scale if they are tensors."""
    listed = not isinstance(inputs[0], torch.Tensor)
    return [list(scale) for scale in zip(*inputs, strict=True)] if listed else [inputs]


def combined(scales, factors, reduction):
    """The weighted results of the scales: all terms in the order of as_list, or the sum of the losses."""
    if reduction == "none":
        return [w * t for kind in zip(*scales, strict=True) for w, t in zip(factors, kind)]
    return [sum(w * loss for w, (loss,) in zip(factors, scales, strict=True))]


def truth(case, reduction, inputs, weights=None):
    """[results], [gradients of their sum], as numpy arrays."""
    dtype = as_list(inputs)[0].dtype
    if dtype == torch.float64:
        scales = [wide_truth(case, reduction, scale) for scale in by_scale(inputs)]
        factors = [np.longdouble(w) for w in weights or [1] * len(scales)]
        # `scales` groups the gradients by scale, the result by input.
        return (
            combined([values for values, _ in scales], factors, reduction),
            combined([slopes for _, slopes in scales], factors, "none"),
        )
    leaves = [
        detached(x.double() if isinstance(x, torch.Tensor) else [t.double() for t in x])
        for x in inputs
    ]
    results = as_list(case.call(leaves, reference, reduction=reduction, **weighted(weights)))
    grads = torch.autograd.grad(sum(t.sum() for t in results), as_list(leaves))
    return [wide(t, dtype) for t in results], [wide(t, dtype) for t in grads]


def weighted(weights):
    return {} if weights is None else {"weights": weights}


def eager_results(case, reduction, inputs, weights, dtype):
    """Results and gradients of the usual expression, evaluated in `dtype`."""
    leaves = [detached(x) for x in inputs]
    scales = [
        reduced(case.eager([x.to(dtype) for x in scale]), reduction) for scale in by_scale(leaves)
    ]
    results = combined(scales, weights or [1] * len(scales), reduction)
    grads = torch.autograd.grad(sum(t.float().sum() for t in results), as_list(leaves))
    return [t.detach() for t in results], grads


def compare(case, draws, reductions=REDUCTIONS, weights=None):
    """Compare values and gradients with the reference and the baselines, for a list of draws of inputs."""
    dtype = as_list(draws[0])[0].dtype
    upcast = math_type(dtype)
    for reduction in reductions:
        got, want, baselines = [], [], {"eager": [], "eager in the math's type": []}
        for inputs in draws:
            leaves = [detached(x) for x in inputs]
            results = as_list(case.call(leaves, reduction=reduction, **weighted(weights)))
            assert all(t.dtype == upcast for t in results)
            grads = torch.autograd.grad(sum(t.sum() for t in results), as_list(leaves))
            assert all(g.dtype == dtype for g in grads)
            got.append(([t.detach() for t in results], grads))
            want.append(truth(case, reduction, inputs, weights))
            for collected, cast in zip(baselines.values(), (dtype, upcast), strict=True):
                collected.append(eager_results(case, reduction, inputs, weights, cast))
        for order in (0, 1):
            assert_as_accurate(
                [draw[order] for draw in got],
                {
                    name: [draw[order] for draw in collected]
                    for name, collected in baselines.items()
                },
                [draw[order] for draw in want],
                relative=case.is_conditioned(reduction, order, weights),
                what=f"{case}, {reduction}, order {order}",
            )


def logits_like(roles, shape, dtype, device, seed):
    generator = torch.Generator().manual_seed(seed)
    return [
        (3 * torch.randn(shape, generator=generator) + (1 if role == "real" else -1))
        .to(dtype)
        .to(device)
        for role in roles
    ]


def scales_like(case, shapes, dtype, device, seed):
    """A list of logits for each input of the case, one tensor per shape."""
    scales = [logits_like(case.roles, s, dtype, device, seed + k) for k, s in enumerate(shapes)]
    return [list(tensors) for tensors in zip(*scales, strict=True)]


def eager_stats(real, fake, bounds=True):
    """The same statistics as usually written, in the dtype of the logits."""
    value = F.softplus(-real).mean() + F.softplus(fake).mean()
    return LossStats(
        real.mean(),
        fake.mean(),
        real.sigmoid().mean(),
        fake.sigmoid().mean(),
        (real > 0).to(real.dtype).mean(),
        (fake < 0).to(real.dtype).mean(),
        real.sign().mean(),
        math.log(2) - value / 2 if bounds else torch.full_like(value, math.nan),
        ((~real.isfinite()).sum() + (~fake.isfinite()).sum()).to(real.dtype),
        fake.sign().mean(),
        real.std(correction=0),
        fake.std(correction=0),
    )


# --- the same bits ---------------------------------------------------------------------------------


def results_of(real, fake, loss, reductions=("mean", "none")):
    """All results for a pair of logits, or of lists of logits, as a list of tensors."""
    out = []
    for case in cases_of(loss):
        for reduction in reductions:
            inputs = [{"real": real, "fake": fake}[role] for role in case.roles]
            inputs = [detached(x) for x in inputs]
            result, stats = case.call(inputs, reduction=reduction, return_stats=True)
            results = as_list(result)
            alone = as_list(case.call(inputs, reduction=reduction))
            assert_same_bits(results, alone, "the statistics change the loss")
            out += [t.detach() for t in results] + list(stats)
            out += torch.autograd.grad(sum(t.sum() for t in results), as_list(inputs))
    return out


def detached(logits):
    """New leaves of a tensor or a list of tensors."""
    if isinstance(logits, torch.Tensor):
        return logits.detach().requires_grad_()
    return [x.detach().requires_grad_() for x in logits]


def assert_same_bits(a, b, what=""):
    assert len(a) == len(b)
    for s, t in zip(a, b, strict=True):
        assert s.dtype == t.dtype and s.shape == t.shape
        assert torch.equal(s.isnan(), t.isnan()), what
        numbers = ~s.isnan()
        assert torch.equal(s[numbers], t[numbers]), what
        assert torch.equal(s[numbers].signbit(), t[numbers].signbit()), what
