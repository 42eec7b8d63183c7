"""The losses for large, denormal and non-finite logits: values, gradients, statistics, bits."""

import math

import numpy as np
import pytest
import torch
from helpers import DEVICES, FLOATS, each_way_to_run, math_type
from helpers.losses import (
    DISTINCT,
    RELATIVISTIC,
    SMOOTHINGS,
    Case,
    as_list,
    assert_same_bits,
    detached,
    eager_results,
    eager_stats,
    results_of,
    truth,
    weighted,
)
from helpers.truth import ulp, wide

from pygan import reference
from pygan.fused_losses import LOSSES, LossStats, discriminator_loss, generator_loss

INF, NAN = math.inf, math.nan
EXTREMES = {
    "large": [1e4, -1e4, 5e3, -3e3, 88.8, -88.8, 103.9, -103.9, 104.5, -150.0, 17.0, -17.0],
    "fp16 limits": [65504.0, -65504.0, 2.0**-24, -(2.0**-24), 2.0**-14],
    "denormals": [1e-45, -1e-45, 1e-39, -1e-39, 5e-324, -5e-324, 0.0, -0.0],
    "+inf": [INF, 1.0, -2.0],
    "-inf": [-INF, 1.0, -2.0],
    "nan": [NAN, 1.0, -2.0],
    "mix": [INF, -INF, NAN, 1e4, -1e4, 0.0, 1.0],
    "all infinite": [INF, INF, -INF],
}


def errors_of(case, reduction, inputs, weights=None):
    """The worst errors of values and gradients, and eager's, in units in the last place of the largest number involved
    (absolute, because with smoothing, slopes near 0 are differences of large ones).

    On a GPU, eager's error counts as at least the possible error of the mean with which logits are compared: in fp64,
    which has no wider type for sums, it is one rounding of the largest logit, or none, depending on the order of the
    sum.

    Asserts that NaN and infinities occur exactly where the reference has them."""
    dtype, device = as_list(inputs)[0].dtype, as_list(inputs)[0].device.type
    results = []
    wider = [x.double() if isinstance(x, torch.Tensor) else [t.double() for t in x] for x in inputs]
    for given, module in ((inputs, {}), (wider, {"module": reference})):
        leaves = [detached(x) for x in given]
        values = as_list(case.call(leaves, reduction=reduction, **module, **weighted(weights)))
        grads = torch.autograd.grad(sum(t.sum() for t in values), as_list(leaves))
        results.append([*(t.detach() for t in values), *grads])
    baseline, baseline_grads = eager_results(case, reduction, inputs, weights, math_type(dtype))
    with np.errstate(invalid="ignore", over="ignore"):
        values, slopes = truth(case, reduction, inputs, weights)
    terms = baseline
    if reduction != "none":  # a sum may be smaller than its terms
        terms, _ = eager_results(case, "none", inputs, weights, math_type(dtype))
    mean_error = (
        0.0  # for a gradient: a slope changes by up to a quarter of the change of its logit
    )
    if device == "cuda" and case.loss == RELATIVISTIC[1] and dtype == torch.float64:
        logits = torch.cat(as_list(inputs))
        largest = logits[logits.isfinite()].abs().max().item() if logits.isfinite().any() else 0.0
        mean_error = ulp(largest, dtype) / (
            4 * len(as_list(inputs)[0]) if reduction == "mean" else 4
        )
    worst = []
    for k, (g, r, w, t) in enumerate(
        zip(results[0], [*baseline, *baseline_grads], results[1], [*values, *slopes], strict=True)
    ):
        what = f"{case}, {reduction}, result {k}"
        w = w.to(g.dtype)  # numbers too large for the dtype become infinite
        assert torch.equal(g.isnan(), w.isnan()), (what, g, w)
        assert torch.equal(g.isinf(), w.isinf()), (what, g, w)
        assert torch.equal(g.sign()[g.isinf()], w.sign()[w.isinf()]), (what, g, w)
        finite = (w.isfinite() & r.isfinite()).cpu().numpy()
        if finite.any():
            g, r, t = (x[finite] for x in (wide(g, g.dtype), wide(r, g.dtype), t))
            sizes = [np.abs(t).max()]
            if k < len(baseline):
                sizes += [float(x[x.isfinite()].abs().max()) for x in terms if x.isfinite().any()]
            unit = ulp(np.float64(max(sizes)), results[0][k].dtype)
            rival_error = float(np.abs(r - t).max() / unit)
            if k >= len(baseline):
                rival_error = max(rival_error, mean_error / unit)
            worst.append((float(np.abs(g - t).max() / unit), rival_error))
    return worst


def assert_twice_eager(errors):
    own, baseline = (max(column) for column in zip((0.0, 0.0), *errors, strict=True))
    assert own <= 2 * baseline + 1, f"{own} > 2 * {baseline} + 1 ulp"


SMOOTH = [Case(loss, "discriminator", 1.0) for loss in ("non_saturating", "least_squares")]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", [*DISTINCT, *SMOOTH], ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_logits_match_the_reference(name, dtype, case, device):
    if name in ("+inf", "-inf", "nan") and dtype in (torch.float64, torch.bfloat16):
        pytest.skip("the mix has them for every dtype")
    x = torch.tensor(EXTREMES[name], dtype=torch.float64).to(dtype).to(device)
    others = [x.flip(0)]
    if case.loss in RELATIVISTIC:  # moderate logits that are compared with extreme ones
        others.append(torch.linspace(-1, 2, x.numel(), device=device).to(dtype))
    errors = []
    for y in others:
        for inputs in ([x, y], [y, x]) if len(others) == 2 else ([x, y],):
            for reduction in ("none", "mean"):
                errors += errors_of(case, reduction, inputs[: len(case.roles)])
    assert_twice_eager(errors)


ALONE = [1e4, -1e4, 65504.0, -65504.0, 2.0**-24, -1e-45, 0.0, 88.8, -104.5, INF, -INF, NAN]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", DISTINCT, ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
def test_extremes_in_single_tensors_and_lists(dtype, case, device):
    """Single logits, and each one as a scale, which does not affect the gradients of the others."""
    each = torch.tensor(ALONE, dtype=torch.float64).to(dtype).to(device).split(1)
    errors = []
    for x, y in zip(each, each[::-1], strict=True):
        errors += errors_of(case, "mean", [x, y][: len(case.roles)])
    assert_twice_eager(errors)
    errors = []
    scales = [list(each), list(each[::-1])][: len(case.roles)]
    for reduction in ("none", "sum"):
        errors += errors_of(case, reduction, scales, weights=[0.5] * 6 + [-2.0] * 6)
    assert_twice_eager(errors)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("name", EXTREMES)
def test_stats_of_extremes(name, smoothing, dtype, device):
    x = torch.tensor(EXTREMES[name], dtype=torch.float64).to(dtype).to(device)
    _, got = discriminator_loss(x, -x, label_smoothing=smoothing, return_stats=True)
    _, want = reference.discriminator_loss(x, -x, label_smoothing=smoothing, return_stats=True)
    baseline = eager_stats(*(t.to(math_type(dtype)) for t in (x, -x)))
    for field, g, r, w in zip(LossStats._fields, got, baseline, want, strict=True):
        assert torch.equal(g.isnan(), w.isnan()) and torch.equal(g.isinf(), w.isinf()), (
            field,
            g,
            w,
        )
        if w.isfinite() and r.isfinite():
            g, r, w = (wide(t, dtype) for t in (g, r, w))
            bound = 2 * abs(r - w) + ulp(w, math_type(dtype))
            if field.endswith("std"):  # the root of a difference of squares, which can cancel
                info, away = torch.finfo(math_type(dtype)), 2 * x.double().abs().max().item()
                bound += max(info.eps * away**2 / w, info.tiny**0.5) if w else 0
            assert abs(g - w) <= bound, (field, g, r, w)
        else:
            assert torch.equal(g.nan_to_num(), w.nan_to_num()), field
    assert got.nonfinite.item() == 2 * (~x.isfinite()).sum().item()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_non_finite_logits_are_counted_at_every_position(dtype, device):
    for size in (1, 64, 257, 9000):
        for place in {0, size // 2, size - 1}:
            for value in (NAN, INF, -INF):
                x = torch.ones(size, dtype=dtype, device=device)
                x[place] = value
                _, stats = generator_loss(x, return_stats=True)
                assert stats.nonfinite.item() == 1


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_certain_discriminator_does_not_give_nan(dtype, device):
    """Real logits of +inf and fake logits of -inf: loss and gradients are 0."""
    real = torch.full((5,), INF, dtype=dtype, device=device, requires_grad=True)
    fake = torch.full((5,), -INF, dtype=dtype, device=device, requires_grad=True)
    value = discriminator_loss(real, fake)
    assert value.item() == 0
    for grad in torch.autograd.grad(value, (real, fake)):
        assert torch.equal(grad, torch.zeros_like(grad))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", EXTREMES)
def test_bits_of_extremes_do_not_depend_on_instruction_set(name, loss, restore):
    for dtype in FLOATS:
        x = torch.tensor(EXTREMES[name] * 7, dtype=torch.float64).to(dtype)
        first = None
        for way in each_way_to_run():
            results = results_of(x, x.flip(0), loss)
            first = results if first is None else first
            assert_same_bits(first, results, way)
