"""The losses in numpy's extended precision, and how wrong is too wrong.

How wrong may a kernel be? At most twice as wrong as PyTorch's own eager expression, measured against the
truth, plus one unit in the last place of the result (eager may hit the truth by luck). No tolerance
here was chosen by looking at results.
"""

import math

import numpy as np
import torch


def reduced(terms, reduction):
    if reduction == "none":
        return list(terms)
    return [sum(getattr(t, reduction)() for t in terms)]


def wide(x, dtype):
    """As numpy values in which results of `dtype` can be judged."""
    values = x.detach().double().cpu().numpy()
    return values.astype(np.longdouble) if dtype == torch.float64 else values


def wide_softplus(t):
    return np.maximum(t, 0) + np.log1p(np.exp(-np.abs(t)))


def wide_sigmoid(t):
    u = np.exp(-np.abs(t))
    one = np.longdouble(1)
    return np.where(t < 0, u, one) / (one + u)


def wide_terms(case, role, x):
    """Terms and slopes of the losses whose terms see one logit, in numpy's extended precision."""
    eps = np.longdouble(case.smoothing)
    if case.phase == "generator":
        role = "generator"
    sign = 1 if role == "fake" else -1
    if case.loss == "wasserstein" or (case.loss, role) == ("hinge", "generator"):
        return sign * x, sign * np.ones_like(x)
    if case.loss == "hinge":
        return np.maximum(1 + sign * x, 0), np.where(1 + sign * x > 0, sign, 0).astype(x.dtype)
    if case.loss == "least_squares":
        away = x - {"real": 1 - eps, "fake": 0, "generator": 1}[role]
        return away * away / 2, away
    if (case.loss, role) == ("minimax", "generator"):
        return -wide_softplus(x), -wide_sigmoid(x)
    if role == "fake":
        return wide_softplus(x), wide_sigmoid(x)
    # A part of weight 0 must not turn an infinite logit into NaN.
    parts = [w * wide_softplus(t) for w, t in ((1 - eps, -x), (eps, x)) if w]
    return sum(parts), eps - wide_sigmoid(-x)


def wide_truth(case, reduction, inputs):
    """[results], [gradients of their sum] in numpy's extended precision, the truth for fp64."""
    x = [wide(t, torch.float64) for t in inputs]
    over = [np.longdouble(t.size if reduction == "mean" else 1) for t in x]
    if case.loss == "relativistic":
        terms = [wide_softplus(x[1] - x[0])]
        slope = wide_sigmoid(x[1] - x[0]) / over[0]
        slopes = [-slope, slope]
    elif case.loss == "relativistic_average":
        a, b = x
        terms = [wide_softplus(b.mean() - a), wide_softplus(b - a.mean())]
        p, q = wide_sigmoid(b.mean() - a) / over[0], wide_sigmoid(b - a.mean()) / over[1]
        slopes = [-p - q.sum() / a.size, q + p.sum() / b.size]
    else:
        pairs = [wide_terms(case, role, t) for role, t in zip(case.roles, x, strict=True)]
        terms = [value for value, _ in pairs]
        slopes = [slope / n for (_, slope), n in zip(pairs, over, strict=True)]
    return [np.asarray(t) for t in reduced(terms, reduction)], slopes


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
