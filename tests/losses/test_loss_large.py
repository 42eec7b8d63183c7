"""The losses for very many logits: more than 2^31, and in thousands of tensors."""

import math
import os

import pytest
import torch
from helpers import DEVICES
from helpers.losses import Case, as_list, assert_same_bits, detached
from helpers.truth import ulp, wide

from pygan.fused_losses import LOSSES, generator_loss


@pytest.mark.slow
def test_more_than_2_to_the_31_logits():
    """Indices have 64 bits. (The test for GPUs is in test_cuda.py.)"""
    if os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < 16 * 2**30:
        pytest.skip("needs 16 GB of free memory")
    n = 2**31 + 5
    x = torch.zeros(n, dtype=torch.bfloat16)
    places = [0, 2**31 - 2, 2**31 - 1, 2**31, n - 1]
    values = [1.0, 2.0, -4.0, 8.0, 16.0]
    x[places] = torch.tensor(values, dtype=x.dtype)
    # Sums of small integers are exact in any order; each position has its own value.
    value, stats = generator_loss(x, loss="wasserstein", reduction="sum", return_stats=True)
    assert value.item() == -sum(values)
    assert stats.nonfinite.item() == 0
    for got, want in ((stats.fake_logit, sum(values) / n), (stats.fake_accuracy, 1 / n)):
        assert abs(got.item() - want) <= ulp(wide(got, torch.float32), torch.float32)
    x[-1] = math.inf
    value, stats = generator_loss(x, reduction="sum", return_stats=True)
    assert stats.nonfinite.item() == 1
    want = math.fsum([(n - 5) * math.log(2), *(math.log1p(math.exp(-v)) for v in values[:-1])])
    # Every zero adds float32's softplus(0), in wide sums.
    slack = 2 * ulp(wide(value, torch.float32), torch.float32) + n * 2.0**-24
    assert abs(value.item() - want) <= slack


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "case",
    [Case("hinge", "generator"), *(Case(loss, "discriminator") for loss in LOSSES[-2:])],
    ids=str,
)
def test_ten_thousand_tensors(case, device):
    """Far more scales than anybody uses: the result is the sum over chunks of the list."""
    count, chunk, dtype = 10_000, 500, torch.float32
    generator = torch.Generator().manual_seed(0)
    sizes = (torch.arange(count) % 5 + 1).tolist()
    inputs = [
        list(torch.randn(sum(sizes), generator=generator).to(dtype).to(device).split(sizes))
        for _ in case.roles
    ]
    weights = torch.rand(count, generator=generator).tolist()
    leaves = [detached(x) for x in inputs]
    value, stats = case.call(leaves, weights=weights, return_stats=True)
    grads = torch.autograd.grad(value, as_list(leaves))
    total, slack, finite = 0.0, 0.0, 0.0
    for first in range(0, count, chunk):
        part = slice(first, first + chunk)
        own = [detached(x[part]) for x in inputs]
        loss, own_stats = case.call(own, weights=weights[part], return_stats=True)
        own_grads = torch.autograd.grad(loss, as_list(own))
        for k in range(len(inputs)):
            assert_same_bits(
                grads[k * count :][part], own_grads[k * chunk :][:chunk], "gradients of a chunk"
            )
        total += loss.item()
        slack += float(ulp(wide(loss, dtype), dtype))
        finite += own_stats.nonfinite.item()
    # Each loss is rounded, and is a sum with at most `chunk` fp64 roundings.
    magnitude = abs(total) + sum(x.abs().sum().item() for part in inputs for x in part)
    slack += float(ulp(wide(value, dtype), dtype)) + count * 2.0**-53 * magnitude
    assert abs(value.item() - total) <= slack
    assert stats.nonfinite.item() == finite == 0
