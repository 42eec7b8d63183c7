"""The losses are bitwise reproducible for any number of threads, any instruction set, and from run to run."""

import pytest
import torch
from helpers import DEVICES, FLOATS, each_way_to_run
from helpers.losses import RELATIVISTIC, Case, assert_same_bits, detached, logits_like, results_of

from pygan.fused_losses import LOSSES

# Sizes within a chunk of the sums and beyond it. torch itself would sum 70,001 on several threads, as it does for the
# gradient of relativistic_average's unreduced terms; so with that size, only the mean is tested.
WAYS = [(257, dtype, False) for dtype in FLOATS]
WAYS += [(9_001, torch.bfloat16, False), (9_001, torch.float32, True)]
WAYS = [(loss, *way) for loss in LOSSES for way in WAYS]
WAYS += [(loss, 70_001, torch.float32, False) for loss in RELATIVISTIC]


@pytest.mark.parametrize(("loss", "size", "dtype", "listed"), WAYS)
def test_bits_do_not_depend_on_threads_or_instruction_set(loss, size, dtype, listed, restore):
    real, fake = logits_like(["real", "fake"], (size,), dtype, "cpu", 0)
    real[::11] *= 1000 / 11  # including saturated logits
    if listed:
        real, fake = ([*x.split([1, 100, size - 101]), x] for x in (real, fake))
    first = None
    for way in each_way_to_run():
        reductions = ("mean", "none") if size < 70_000 else ("mean",)
        results = results_of(real, fake, loss, reductions)
        first = results if first is None else first
        assert_same_bits(first, results, way)


@pytest.mark.parametrize("loss", RELATIVISTIC)
def test_gradients_of_a_graph_do_not_depend_on_threads(loss, restore):
    """With create_graph, which computes gradients with torch's functions, so that they can be differentiated."""
    case = Case(loss, "discriminator")
    first = None
    for way in each_way_to_run():
        leaves = [detached(x) for x in logits_like(case.roles, (70_001,), torch.float32, "cpu", 0)]
        grads = torch.autograd.grad(case.call(leaves), leaves, create_graph=True)
        results = [g.detach() for g in grads]
        first = results if first is None else first
        assert_same_bits(first, results, way)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("loss", LOSSES)
def test_bits_do_not_change_from_run_to_run(loss, device):
    real, fake = logits_like(["real", "fake"], (17_001,), torch.float32, device, 0)
    for r, f in ((real, fake), ([real[:9], real], [fake[:9], fake])):
        first = results_of(r, f, loss)
        for _ in range(2):
            assert_same_bits(first, results_of(r, f, loss))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("loss", LOSSES)
def test_bits_do_not_depend_on_the_other_scales(loss, device):
    """Terms and gradients of a scale do not depend on the other scales."""
    real, fake = logits_like(["real", "fake"], (9_001,), torch.float32, device, 0)
    alone = results_of(real[:700], fake[:700], loss)
    for where in (0, 1):
        pair = [[x, x[:700]][:: -1 if where else 1] for x in (real, fake)]
        beside = results_of(*pair, loss)
        sizes = {700}
        kept = [t for t in beside if t.numel() in sizes]
        assert_same_bits([t for t in alone if t.numel() in sizes], kept)
