"""The fused losses' yardsticks: the same in plain PyTorch and in extended precision, and how wrong is too wrong.

How wrong may a kernel be? At most twice as wrong as PyTorch's own eager expression, measured against the
truth, plus one unit in the last place of the result (eager may hit the truth by luck). No tolerance
here was chosen by looking at results. The truth is pygan.reference, which is fp64, and 80-bit arithmetic
for fp64 itself.
"""

import math

import numpy as np
import torch
from torch.nn import functional as F

from pygan import reference
from pygan.fused_losses import LossStats, discriminator_loss, generator_loss

SMOOTHINGS = [0.0, 0.1]
DRAWS = 3  # worst of several, lest one lucky draw decide
ROLES = [["real", "fake"], ["generator"]]


# --- truth and yardstick ---------------------------------------------------------------------------


def eager(roles, loss, smoothing, tensors):
    """The terms as one writes them in plain PyTorch, one tensor of terms for each tensor of logits."""
    terms = []
    for role, x in zip(roles, tensors, strict=True):
        if role == "real" and smoothing:
            terms.append((1 - smoothing) * F.softplus(-x) + smoothing * F.softplus(x))
        elif role == "real":
            terms.append(F.softplus(-x))
        elif role == "fake":
            terms.append(F.softplus(x))
        else:
            terms.append({"non_saturating": F.softplus(-x), "minimax": -F.softplus(x)}[loss])
    return terms


def fused(roles, loss, smoothing, reduction, tensors, **kw):
    if roles == ["generator"]:
        return generator_loss(tensors[0], loss=loss, reduction=reduction, **kw)
    return discriminator_loss(
        *tensors, loss=loss, label_smoothing=smoothing, reduction=reduction, **kw
    )


def reference_of(roles, loss, smoothing, reduction, tensors, **kw):
    if roles == ["generator"]:
        return reference.generator_loss(tensors[0], loss=loss, reduction=reduction, **kw)
    return reference.discriminator_loss(
        *tensors, loss=loss, label_smoothing=smoothing, reduction=reduction, **kw
    )


def reduced(terms, reduction):
    return sum(getattr(t, reduction)() for t in terms)


def as_list(result):
    return list(result) if isinstance(result, tuple) else [result]


def wide(x, dtype):
    """As numpy values in which results of `dtype` can be judged."""
    values = x.detach().double().cpu().numpy()
    return values.astype(np.longdouble) if dtype == torch.float64 else values


def wide_terms(role, loss, eps, x):
    """Terms and slopes in numpy's extended precision, the truth for fp64."""
    one = np.longdouble(1)

    def softplus(t):
        return np.maximum(t, 0) + np.log1p(np.exp(-np.abs(t)))

    def sigmoid(t):
        u = np.exp(-np.abs(t))
        return np.where(t < 0, u, one) / (one + u)

    eps = np.longdouble(eps)
    if role == "real":
        return (one - eps) * softplus(-x) + eps * softplus(x), eps - sigmoid(-x)
    if role == "fake":
        return softplus(x), sigmoid(x)
    if loss == "non_saturating":
        return softplus(-x), -sigmoid(-x)
    return -softplus(x), -sigmoid(x)


def ulp(values, dtype):
    """The distance between neighbours of `dtype` at the magnitude of each value."""
    info = torch.finfo(dtype)
    _, exponent = np.frexp(np.abs(values))
    smallest = math.frexp(info.tiny)[1]
    one = np.asarray(values).dtype.type(1)
    return np.ldexp(one, np.maximum(exponent, smallest) - 1) * info.eps


def assert_as_good(got, rivals, want, *, relative, what):
    """`got` is at most twice as wrong as each rival, plus one ulp: in the largest absolute error and,
    where the result is well conditioned in every element (`relative`), in the largest error in ulps.

    got, rivals and want are lists over draws of lists of arrays."""
    dtype = got[0][0].dtype
    unit = [ulp(w, dtype) for draw in want for w in draw]
    truths = [w for draw in want for w in draw]

    def errors(draws):
        pairs = zip((t for draw in draws for t in draw), truths, strict=True)
        return [np.abs(wide(t, dtype) - w) for t, w in pairs]

    def worst(arrays):
        return max(float(a.max()) for a in arrays if a.size)

    own = errors(got)
    scaled = [e / u for e, u in zip(own, unit, strict=True)]
    for name, rival in rivals.items():
        theirs = errors(rival)
        bound = 2 * worst(theirs) + worst(unit)
        assert worst(own) <= bound, f"{what}: error {worst(own):.3g} > {bound:.3g} ({name})"
        if relative:
            bound = 2 * worst([e / u for e, u in zip(theirs, unit, strict=True)]) + 1
            assert worst(scaled) <= bound, f"{what}: {worst(scaled):.3g} ulp > {bound:.3g} ({name})"


def logits_like(roles, shape, dtype, device, seed):
    generator = torch.Generator().manual_seed(seed)
    return [
        (3 * torch.randn(shape, generator=generator) + (1 if role == "real" else -1))
        .to(dtype)
        .to(device)
        for role in roles
    ]


def eager_stats(real, fake):
    """What people write to log the same, in the dtype of the logits."""
    value = F.softplus(-real).mean() + F.softplus(fake).mean()
    return LossStats(
        real.mean(),
        fake.mean(),
        real.sigmoid().mean(),
        fake.sigmoid().mean(),
        (real > 0).to(real.dtype).mean(),
        (fake < 0).to(real.dtype).mean(),
        real.sign().mean(),
        math.log(2) - value / 2,
        ((~real.isfinite()).sum() + (~fake.isfinite()).sum()).to(real.dtype),
    )


# --- the same bits ---------------------------------------------------------------------------------


def results_of(real, fake, loss):
    """Everything that a pair of logits gives, as one list of tensors."""
    out = []
    for smoothing in SMOOTHINGS:
        for reduction in ("mean", "none"):
            for roles, tensors in ((ROLES[0], [real, fake]), (ROLES[1], [fake])):
                leaves = [x.detach().requires_grad_() for x in tensors]
                result, stats = fused(roles, loss, smoothing, reduction, leaves, return_stats=True)
                results = as_list(result)
                alone = as_list(fused(roles, loss, smoothing, reduction, leaves))
                assert_same_bits(results, alone, "the statistics change the loss")
                out += [t.detach() for t in results] + list(stats)
                out += torch.autograd.grad(sum(t.sum() for t in results), leaves)
    return out


def assert_same_bits(a, b, what=""):
    assert len(a) == len(b)
    for s, t in zip(a, b, strict=True):
        assert s.dtype == t.dtype and s.shape == t.shape
        assert torch.equal(s.isnan(), t.isnan()), what
        numbers = ~s.isnan()
        assert torch.equal(s[numbers], t[numbers]), what
        assert torch.equal(s[numbers].signbit(), t[numbers].signbit()), what
