"""The fused losses for non-contiguous logits, with a different layout for each tensor."""

import math

import pytest
import torch
from helpers import DEVICES, FLOATS
from helpers.losses import (
    DISTINCT,
    RELATIVISTIC,
    TO_MEAN,
    Case,
    as_list,
    compare,
    detached,
    logits_like,
)

LAYOUTS = {
    "contiguous": lambda x: x.clone(),
    "transposed": lambda x: x.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "sliced": lambda x: torch.stack([x, torch.full_like(x, math.nan)], -1)[..., 0],
    "sliced rows": lambda x: torch.cat([x, torch.full_like(x, math.nan)], 1)[:, : x.shape[1]],
    "expanded": lambda x: x[:, :1].expand(x.shape),
    # One element past the start of an allocation: vector loads may only assume the alignment of an element.
    "misaligned": lambda x: torch.cat([x.flatten()[:1], x.flatten()])[1:].view(x.shape),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(3, 5, 7, 11), (2, 3, 64, 65)])
def test_layouts(shape, dtype, layout, device):
    cases = [Case("non_saturating", phase) for phase in ("discriminator", "generator")]
    for case in [*cases, *(Case(loss, "discriminator") for loss in RELATIVISTIC)]:
        draws = []
        for seed in range(2):
            tensors = logits_like(case.roles, shape, dtype, device, seed)
            draws.append([LAYOUTS[layout](x) for x in tensors])
        compare(case, draws, ["mean", "sum", "none"] if shape[0] == 3 else ["mean"])
    generator = cases[1]
    for x in draws[0]:
        leaf = x.detach().requires_grad_()
        terms = generator.call([leaf], reduction="none")
        (grad,) = torch.autograd.grad(generator.call([leaf], reduction="sum"), leaf)
        assert terms.stride() == grad.stride() == torch.empty_like(x).stride()
        plain = x.contiguous()
        assert torch.equal(terms, generator.call([plain], reduction="none"))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("other", LAYOUTS)
@pytest.mark.parametrize("case", [c for c in DISTINCT if len(c.roles) == 2], ids=str)
def test_real_and_fake_in_different_layouts(case, other, device):
    """Pairs consist of elements with the same indices, wherever they are in memory."""
    for layout in ("contiguous", "channels_last", "sliced"):
        tensors = logits_like(case.roles, (3, 5, 7, 2), torch.float32, device, 0)
        tensors = [LAYOUTS[layout](tensors[0]), LAYOUTS[other](tensors[1])]
        compare(case, [tensors])
        for inputs in (tensors, tensors[::-1]):
            leaves = [detached(x) for x in inputs]
            plain = [detached(x.contiguous()) for x in inputs]
            results = []
            for given in (leaves, plain):
                terms = as_list(case.call(given, reduction="none"))
                total = sum(t.sum() for t in terms)
                results.append([*terms, *torch.autograd.grad(total, given)])
            for t, p in zip(*results, strict=True):
                assert t.shape == p.shape
                if case.loss not in TO_MEAN:  # its means are sums in memory order
                    assert torch.equal(t, p)
