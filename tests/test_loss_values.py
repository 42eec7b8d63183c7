"""The fused losses against pygan.reference: values and gradients, of every size, dtype and layout."""

import math

import pytest
import torch
from helpers import DEVICES, FLOATS, math_type
from helpers_losses import (
    DRAWS,
    ROLES,
    SMOOTHINGS,
    as_list,
    assert_as_good,
    assert_same_bits,
    eager,
    fused,
    logits_like,
    reduced,
    reference_of,
    results_of,
    wide,
    wide_terms,
)
from torch.nn import functional as F

import pygan
from pygan import _C, reference
from pygan.fused_losses import LOSSES, discriminator_loss, generator_loss

# Around a strip of SIMD lanes (64), a block (256) and a chunk of the sums (8192).
SIZES = [1, 3, 63, 64, 65, 255, 256, 257, 8191, 8192, 8193, 100_003]
REDUCTIONS = ["mean", "sum", "none"]


def truth(roles, loss, smoothing, reduction, tensors):
    """[results], [gradients of their sum], as numpy arrays."""
    dtype = tensors[0].dtype
    if dtype == torch.float64:
        pairs = [
            wide_terms(role, loss, smoothing, wide(x, x.dtype))
            for role, x in zip(roles, tensors, strict=True)
        ]
        if reduction == "none":
            return [value for value, _ in pairs], [slope for _, slope in pairs]
        over = [value.size if reduction == "mean" else 1 for value, _ in pairs]
        value = sum(value.sum() / n for (value, _), n in zip(pairs, over, strict=True))
        return [value], [slope / n for (_, slope), n in zip(pairs, over, strict=True)]
    leaves = [x.detach().double().requires_grad_() for x in tensors]
    results = as_list(reference_of(roles, loss, smoothing, reduction, leaves))
    grads = torch.autograd.grad(sum(t.sum() for t in results), leaves)
    return [wide(t, dtype) for t in results], [wide(t, dtype) for t in grads]


def compare(draws, loss, reductions=REDUCTIONS, smoothings=SMOOTHINGS):
    """Values and gradients for a list of draws: (roles, tensors)."""
    roles = draws[0][0]
    dtype = draws[0][1][0].dtype
    upcast = math_type(dtype)
    for smoothing in smoothings if "real" in roles else [0.0]:
        for reduction in reductions:
            values, grads, wanted, wanted_grads = [], [], [], []
            rivals = {name: ([], []) for name in ("eager", "eager in the math's type")}
            for _, tensors in draws:
                leaves = [t.detach().requires_grad_() for t in tensors]
                results = as_list(fused(roles, loss, smoothing, reduction, leaves))
                assert all(t.dtype == upcast for t in results)
                own = torch.autograd.grad(sum(t.sum() for t in results), leaves)
                assert all(g.dtype == dtype for g in own)
                values.append([t.detach() for t in results])
                grads.append(own)
                value, slope = truth(roles, loss, smoothing, reduction, tensors)
                wanted.append(value)
                wanted_grads.append(slope)
                for (rival, rival_grads), cast in zip(
                    rivals.values(), (dtype, upcast), strict=True
                ):
                    terms = eager(roles, loss, smoothing, [x.to(cast) for x in leaves])
                    results = terms if reduction == "none" else [reduced(terms, reduction)]
                    rival.append([t.detach() for t in results])
                    rival_grads.append(
                        torch.autograd.grad(sum(t.float().sum() for t in results), leaves)
                    )
            what = f"{roles}, {loss}, smoothing {smoothing}, {reduction}"
            # Smoothing makes the slope cross 0 and its relative error there unbounded, for anyone.
            both = rivals.items()
            assert_as_good(values, {k: v for k, (v, _) in both}, wanted, relative=True, what=what)
            assert_as_good(
                grads,
                {k: g for k, (_, g) in both},
                wanted_grads,
                relative=not smoothing,
                what=what + ", gradient",
            )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", SIZES)
def test_values_and_gradients(size, dtype, loss, device):
    for roles in ROLES:
        draws = [logits_like(roles, (size,), dtype, device, seed) for seed in range(DRAWS)]
        draws = [(roles, tensors) for tensors in draws]
        if size < 10_000:
            compare(draws, loss)
        else:
            compare(draws, loss, ["mean"], [0.1])


def test_real_and_fake_may_differ_in_size_and_shape():
    real, fake = torch.randn(7, 3), torch.randn(1000)
    got = discriminator_loss(real, fake)
    both = F.softplus(-real.double()).mean() + F.softplus(fake.double()).mean()
    torch.testing.assert_close(got, both.float())
    terms = discriminator_loss(real, fake, reduction="none")
    assert [t.shape for t in terms] == [real.shape, fake.shape]


# --- layouts ---------------------------------------------------------------------------------------

LAYOUTS = {
    "contiguous": lambda x: x.clone(),
    "transposed": lambda x: x.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "sliced": lambda x: torch.stack([x, torch.full_like(x, math.nan)], -1)[..., 0],
    "sliced rows": lambda x: torch.cat([x, torch.full_like(x, math.nan)], 1)[:, : x.shape[1]],
    "expanded": lambda x: x[:, :1].expand(x.shape),
    # One element past an allocation's start: no vector load may assume more than the element's alignment.
    "misaligned": lambda x: torch.cat([x.flatten()[:1], x.flatten()])[1:].view(x.shape),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(3, 5, 7, 11), (2, 3, 64, 65)])
def test_layouts(shape, dtype, layout, device):
    for roles in ROLES:
        draws = []
        for seed in range(2):
            tensors = logits_like(roles, shape, dtype, device, seed)
            draws.append((roles, [LAYOUTS[layout](x) for x in tensors]))
        compare(draws, "non_saturating", REDUCTIONS if shape[0] == 3 else ["mean"])
        for x in draws[0][1]:
            leaf = x.detach().requires_grad_()
            terms = generator_loss(leaf, reduction="none")
            (grad,) = torch.autograd.grad(generator_loss(leaf, reduction="sum"), leaf)
            assert terms.stride() == grad.stride() == torch.empty_like(x).stride()
            plain = x.contiguous()
            assert torch.equal(terms, generator_loss(plain, reduction="none"))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_one_logit_expanded(dtype, device):
    x = torch.tensor(0.7, dtype=dtype, device=device).expand(3, 1000)
    got = results_of(x, x, "non_saturating")
    plain = x.contiguous()
    assert_same_bits(got, results_of(plain, plain, "non_saturating"))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_empty(dtype, device):
    empty = torch.zeros(0, 4, dtype=dtype, device=device, requires_grad=True)
    full = torch.randn(5, device=device).to(dtype)
    for loss in LOSSES:
        value, stats = generator_loss(empty, loss=loss, reduction="sum", return_stats=True)
        assert value.item() == 0 and value.dtype == math_type(dtype)
        assert stats.nonfinite.item() == 0 and stats.fake_logit.isnan()
        (grad,) = torch.autograd.grad(value, empty)
        assert grad.shape == empty.shape and grad.dtype == dtype
        assert generator_loss(empty, loss=loss, reduction="none").shape == empty.shape
        value = discriminator_loss(empty, full, loss=loss, reduction="sum")
        only = discriminator_loss(empty, full, loss=loss, reduction="none")[1]
        torch.testing.assert_close(value, only.sum())


def test_losses_are_listed():
    assert LOSSES == reference.LOSSES == tuple(_C.loss_names())
    assert pygan.fused_losses.LOSSES is LOSSES
