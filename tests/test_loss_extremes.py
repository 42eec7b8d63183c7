"""The losses of large, denormal and non-finite logits: values, gradients, statistics, bits."""

import math

import numpy as np
import pytest
import torch
from helpers import DEVICES, FLOATS, each_way_to_run, math_type
from helpers_losses import (
    ROLES,
    SMOOTHINGS,
    as_list,
    assert_same_bits,
    eager,
    eager_stats,
    fused,
    reduced,
    reference_of,
    results_of,
    ulp,
    wide,
)

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


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("name", EXTREMES)
def test_extremes(name, smoothing, dtype, loss, device):
    x = torch.tensor(EXTREMES[name], dtype=torch.float64).to(dtype).to(device)
    upcast = math_type(dtype)
    for roles in ROLES:
        tensors = [x] * len(roles)
        for reduction in ("none", "mean"):
            leaves = [t.clone().requires_grad_() for t in tensors]
            doubles = [t.double().requires_grad_() for t in tensors]
            rival_leaves = [t.clone().requires_grad_() for t in tensors]
            got = as_list(fused(roles, loss, smoothing, reduction, leaves))
            want = as_list(reference_of(roles, loss, smoothing, reduction, doubles))
            rival = eager(roles, loss, smoothing, [t.to(upcast) for t in rival_leaves])
            if reduction != "none":
                rival = [reduced(rival, reduction)]
            everything = [(got, rival, want)]
            everything.append(
                [
                    torch.autograd.grad(sum(t.sum() for t in values), inputs)
                    for values, inputs in ((got, leaves), (rival, rival_leaves), (want, doubles))
                ]
            )
            for triple in everything:
                for g, r, w in zip(*triple, strict=True):
                    w = w.to(g.dtype)  # what is too large for the dtype is infinite in it
                    assert torch.equal(g.isnan(), w.isnan()), (roles, reduction, g, w)
                    assert torch.equal(g.isinf(), w.isinf()), (roles, reduction, g, w)
                    assert torch.equal(g.sign()[g.isinf()], w.sign()[w.isinf()])
                    finite = w.isfinite() & r.isfinite()
                    g, r, w = (wide(t[finite], g.dtype) for t in (g, r, w))
                    if w.size:
                        # Absolute: with smoothing, slopes near 0 are differences of large ones.
                        bound = 2 * np.abs(r - w).max() + ulp(w, got[0].dtype).max()
                        assert np.abs(g - w).max() <= bound, (roles, reduction, g, w)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("name", EXTREMES)
def test_stats_of_extremes(name, smoothing, dtype, device):
    x = torch.tensor(EXTREMES[name], dtype=torch.float64).to(dtype).to(device)
    _, got = discriminator_loss(x, -x, label_smoothing=smoothing, return_stats=True)
    _, want = reference.discriminator_loss(x, -x, label_smoothing=smoothing, return_stats=True)
    rival = eager_stats(*(t.to(math_type(dtype)) for t in (x, -x)))
    for field, g, r, w in zip(LossStats._fields, got, rival, want, strict=True):
        assert torch.equal(g.isnan(), w.isnan()) and torch.equal(g.isinf(), w.isinf()), (
            field,
            g,
            w,
        )
        if w.isfinite() and r.isfinite():
            g, r, w = (wide(t, dtype) for t in (g, r, w))
            bound = 2 * abs(r - w) + ulp(w, math_type(dtype))
            assert abs(g - w) <= bound, (field, g, r, w)
        else:
            assert torch.equal(g.nan_to_num(), w.nan_to_num()), field
    assert got.nonfinite.item() == 2 * (~x.isfinite()).sum().item()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_nonfinite_is_counted_wherever_it_stands(dtype, device):
    for size in (1, 64, 257, 9000):
        for place in {0, size // 2, size - 1}:
            for value in (NAN, INF, -INF):
                x = torch.ones(size, dtype=dtype, device=device)
                x[place] = value
                _, stats = generator_loss(x, return_stats=True)
                assert stats.nonfinite.item() == 1


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_certain_discriminator_is_no_nan(dtype, device):
    """Real logits of +inf and fake ones of -inf: a loss of 0 and gradients of 0."""
    real = torch.full((5,), INF, dtype=dtype, device=device, requires_grad=True)
    fake = torch.full((5,), -INF, dtype=dtype, device=device, requires_grad=True)
    value = discriminator_loss(real, fake)
    assert value.item() == 0
    for grad in torch.autograd.grad(value, (real, fake)):
        assert torch.equal(grad, torch.zeros_like(grad))


@pytest.mark.parametrize("name", EXTREMES)
def test_bits_of_extremes_do_not_depend_on_instruction_set(name, restore):
    for dtype in FLOATS:
        x = torch.tensor(EXTREMES[name] * 7, dtype=torch.float64).to(dtype)
        first = None
        for way in each_way_to_run():
            results = results_of(x, x.flip(0), "non_saturating")
            first = results if first is None else first
            assert_same_bits(first, results, way)
