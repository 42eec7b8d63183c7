"""The losses in numpy's extended precision, and the bounds for errors.

The error of a kernel, relative to the reference, must be at most twice that of PyTorch's own eager expression, plus one
unit in the last place of the result (because eager may be exact by luck). No tolerance was tuned to results.
"""

import math

import numpy as np
import torch


def reduced(terms, reduction):
    if reduction == "none":
        return list(terms)
    return [sum(getattr(t, reduction)() for t in terms)]


def wide(x, dtype):
    """Convert to numpy values with enough precision to measure errors of `dtype`."""
    values = x.detach().double().cpu().numpy()
    return values.astype(np.longdouble) if dtype == torch.float64 else values


def wide_softplus(t):
    return np.maximum(t, 0) + np.log1p(np.exp(-np.abs(t)))


def wide_sigmoid(t):
    u = np.exp(-np.abs(t))
    one = np.longdouble(1)
    return np.where(t < 0, u, one) / (one + u)


# The contribution of a logit x, and its slope, as functions of how real it looks.
WIDE_FORMS = {
    "hinge": lambda x: (np.maximum(1 - x, 0), np.where(x < 1, -1, 0).astype(x.dtype)),
    "linear": lambda x: (-x, -np.ones_like(x)),
    "logistic": lambda x: (wide_softplus(-x), -wide_sigmoid(-x)),
    "square": lambda x: ((x - 1) * (x - 1) / 2, x - 1),
}
# The forms of the discriminator and the generator, for losses whose terms depend on one logit.
WIDE_ALONE = {
    "non_saturating": ("logistic", "logistic"),
    "minimax": ("logistic", "minus what the discriminator minimizes"),
    "hinge": ("hinge", "linear"),
    "clipped_hinge": ("hinge", "hinge"),
    "least_squares": ("square", "square"),
    "wasserstein": ("linear", "linear"),
}
# The form of comparing losses, which compare pairs, or each logit with the mean of the other side.
WIDE_PAIRED = {"relativistic": "logistic", "relativistic_hinge": "hinge"}
WIDE_TO_MEAN = {
    "relativistic_average": "logistic",
    "relativistic_average_hinge": "hinge",
    "relativistic_average_least_squares": "square",
}


def wide_terms(case, role, x):
    """Terms and slopes in numpy's extended precision, for losses whose terms depend on one logit."""
    eps = np.longdouble(case.smoothing)
    d_form, g_form = WIDE_ALONE[case.loss]
    if case.phase == "generator":
        if g_form in WIDE_FORMS:
            return WIDE_FORMS[g_form](x)
        return -wide_softplus(x), -wide_sigmoid(x)
    if d_form == "square":
        away = x - {"real": 1 - eps, "fake": 0}[role]
        return away * away / 2, away
    if role == "fake":
        value, slope = WIDE_FORMS[d_form](-x)
        return value, -slope
    if not eps:
        return WIDE_FORMS[d_form](x)
    # A part with weight 0 must not turn an infinite logit into NaN.
    parts = [w * wide_softplus(t) for w, t in ((1 - eps, -x), (eps, x)) if w]
    return sum(parts), eps - wide_sigmoid(-x)


def wide_truth(case, reduction, inputs):
    """[results], [gradients of their sum] in numpy's extended precision, the reference for fp64."""
    x = [wide(t, torch.float64) for t in inputs]
    over = [np.longdouble(t.size if reduction == "mean" else 1) for t in x]
    if case.loss in WIDE_PAIRED:
        term, slope = WIDE_FORMS[WIDE_PAIRED[case.loss]](x[0] - x[1])
        terms, slopes = [term], [slope / over[0], -slope / over[0]]
    elif case.loss in WIDE_TO_MEAN:
        form = WIDE_FORMS[WIDE_TO_MEAN[case.loss]]
        a, b = x
        (of_a, p), (of_b, q) = form(a - b.mean()), form(a.mean() - b)
        p, q = p / over[0], -q / over[1]
        terms = [of_a, of_b]
        slopes = [p - q.sum() / a.size, q - p.sum() / b.size]
    else:
        pairs = [wide_terms(case, role, t) for role, t in zip(case.roles, x, strict=True)]
        terms = [value for value, _ in pairs]
        slopes = [slope / n for (_, slope), n in zip(pairs, over, strict=True)]
    return [np.asarray(t) for t in reduced(terms, reduction)], slopes


def ulp(values, dtype):
    """The distance between adjacent numbers of `dtype` at the magnitude of each value."""
    info = torch.finfo(dtype)
    _, exponent = np.frexp(np.abs(values))
    smallest = math.frexp(info.tiny)[1]
    one = np.asarray(values).dtype.type(1)
    return np.ldexp(one, np.maximum(exponent, smallest) - 1) * info.eps


def assert_as_accurate(got, baselines, want, *, relative, what):
    """Check that the error of `got` is at most twice that of each baseline, plus one ulp: for the largest absolute
    error and, if every element of the result is well conditioned (`relative`), for the largest error in ulps.

    `got`, `baselines` and `want` are lists over draws of lists of arrays."""
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
    for name, baseline in baselines.items():
        theirs = errors(baseline)
        bound = 2 * worst(theirs) + worst(unit)
        assert worst(own) <= bound, f"{what}: error {worst(own):.3g} > {bound:.3g} ({name})"
        if relative:
            bound = 2 * worst([e / u for e, u in zip(theirs, unit, strict=True)]) + 1
            assert worst(scaled) <= bound, f"{what}: {worst(scaled):.3g} ulp > {bound:.3g} ({name})"
