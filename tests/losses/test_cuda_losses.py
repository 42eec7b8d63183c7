"""The losses on CUDA: agreement with the reference and the CPU, launches, graphs, and no synchronization.

The tests of values, gradients, layouts and bad input in the other files run on CUDA too, if they have a device
parameter.
"""

import pytest
import torch
from helpers import FLOATS
from helpers.cuda import at_offset, captured, inputs, kernels_of
from helpers.losses import CASES, RELATIVISTIC, TO_MEAN, Case, as_list, assert_same_bits, detached

from pygan import reference
from pygan.fused_losses import LOSSES, discriminator_loss, generator_loss

pytestmark = pytest.mark.cuda

# The number of tensors that a launch handles; more take several launches.
ONE_LAUNCH, MANY = 20, 150


def logits(case, shape, dtype, offset=1):
    """A misaligned tensor on the GPU for each role."""
    tensors = (3 * inputs(shape, torch.float32, seed) for seed in range(len(case.roles)))
    return [at_offset(x.to(dtype), k + offset) for k, x in enumerate(tensors)]


def scales(case, count, dtype=torch.float32):
    """A list of `count` tensors of different sizes on the GPU for each role."""
    sizes = [17 * k % 301 + 1 for k in range(count)]
    whole = logits(case, (sum(sizes),), dtype)
    return [list(x.split(sizes)) for x in whole]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", [1, 33, 257, 8193, 1_000_003, 5_000_011])
def test_losses_of_large_tensors_against_reference(size, dtype, case):
    """Sizes that need many blocks, and more than one wave of blocks."""
    leaves = [x.requires_grad_() for x in logits(case, (size,), dtype)]
    wide = [x.detach().double().requires_grad_() for x in leaves]
    value, stats = case.call(leaves, return_stats=True)
    want, truths = case.call(wide, reference, return_stats=True)
    terms = as_list(case.call([x.detach() for x in wide], reference, reduction="none"))
    math_eps = torch.finfo(value.dtype).eps
    # Terms within 2.5 ulp (csrc/math/elementary.h) of the rounded logits that are compared or subtracted, then wide
    # sums; fp64 sums of `size` terms add their own rounding.
    sums = 1 + (size**0.5 if dtype == torch.float64 else 0)
    parts = [t.abs().mean().item() for t in (*terms, *wide)]
    torch.testing.assert_close(
        value.double(), want, rtol=0, atol=(2.5 + sums) * math_eps * sum(parts)
    )
    for field, truth in zip(stats, truths, strict=True):
        slack = (4 + sums) * math_eps * 4
        torch.testing.assert_close(
            field.double(), truth.double(), rtol=slack, atol=slack, equal_nan=True
        )
    got = torch.autograd.grad(value, leaves)
    largest = max(x.abs().max().item() for x in wide)
    for g, w in zip(got, torch.autograd.grad(want, wide), strict=True):
        eps, tiny = torch.finfo(dtype).eps, torch.finfo(dtype).tiny
        own = (eps / 2 if dtype.itemsize == 2 else 0) + (4 + sums) * math_eps
        # A slope changes by at most as much as its logit.
        slack = (1 + largest) * math_eps / size + tiny * eps
        torch.testing.assert_close(g.double(), w, rtol=own, atol=slack)
    assert torch.equal(case.call(leaves), case.call([x.detach().clone() for x in leaves]))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", [c for c in CASES if c.loss != RELATIVISTIC[1]], ids=str)
def test_terms_and_gradients_are_bitwise_equal_to_the_cpu(case, dtype):
    """Elementwise results use the same arithmetic. (Means are sums in another order.)"""
    gpu = logits(case, (100_003,), dtype)
    results = []
    for given in (gpu, [x.cpu() for x in gpu]):
        leaves = [detached(x) for x in given]
        terms = as_list(case.call(leaves, reduction="none"))
        value = case.call(leaves, reduction="sum")
        grads = torch.autograd.grad(value, leaves)
        own = as_list(case.call(given, suffix="_and_grad", reduction="sum").grads)
        results.append([t.detach().cpu() for t in (*terms, *grads, *own)])
    assert_same_bits(*results)


@pytest.mark.parametrize("count", [1, ONE_LAUNCH, MANY, 1000])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_lists_agree_with_the_cpu(case, count):
    """As many tensors as a launch handles, and more."""
    weights = [0.5 + k % 7 for k in range(count)]
    gpu = scales(case, count)
    results = []
    for given in (gpu, [[x.cpu() for x in tensors] for tensors in gpu]):
        leaves = [detached(x) for x in given]
        value, stats = case.call(leaves, weights=weights, return_stats=True)
        grads = torch.autograd.grad(value, as_list(leaves))
        own = case.call(given, suffix="_and_grad", weights=weights, return_stats=True)
        again = [own.loss, *own.stats, *as_list(own.grads)]
        results.append([t.detach().cpu() for t in (value, *stats, *grads, *again)])
    for got, want in zip(*results, strict=True):
        # Sums in another order, rounded to fp32 once; also the means with which logits are compared.
        scale = max(1.0, want.abs().max().item())
        torch.testing.assert_close(got, want, rtol=0, atol=16 * 2.0**-24 * scale, equal_nan=True)


# --- launches ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, ONE_LAUNCH])
@pytest.mark.parametrize("size", [100, 1_000_000])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_launch_each(case, size, count):
    """The loss with its statistics, and the backward pass, for tensors and lists."""
    if case.loss in TO_MEAN:
        pytest.skip("see below")
    given = scales(case, count) if count else logits(case, (size,), torch.float32)
    leaves = [detached(x) for x in given]
    value = case.call(leaves)
    one = torch.ones((), device="cuda")
    calls = {
        "loss": lambda: case.call(given),
        "statistics": lambda: case.call(given, return_stats=True),
        "with gradients": lambda: case.call(given, suffix="_and_grad", return_stats=True),
        "backward": lambda: torch.autograd.grad(value, as_list(leaves), one, retain_graph=True),
    }
    for name, call in calls.items():
        assert len(kernels_of(call)) == 1, (name, kernels_of(call))


def test_terms_take_one_launch():
    x = torch.randn(1000, device="cuda")
    assert len(kernels_of(lambda: generator_loss(x, reduction="none"))) == 1
    assert len(kernels_of(lambda: generator_loss([x, x, x], reduction="none"))) == 1


@pytest.mark.parametrize("phase", ["discriminator", "generator"])
def test_means_take_an_additional_launch(phase):
    case = Case("relativistic_average", phase)
    given = logits(case, (100_000,), torch.float32)
    leaves = [detached(x) for x in given]
    value = case.call(leaves)
    one = torch.ones((), device="cuda")
    assert len(kernels_of(lambda: case.call(given, return_stats=True))) == 2
    assert len(kernels_of(lambda: case.call(given, suffix="_and_grad"))) == 3
    backward = kernels_of(lambda: torch.autograd.grad(value, leaves, one, retain_graph=True))
    assert len(backward) == 1


@pytest.mark.parametrize("count", [3, MANY])
@pytest.mark.parametrize("loss", LOSSES)
def test_no_synchronization_with_the_gpu(loss, count):
    case = Case(loss, "discriminator")
    given = scales(case, count)
    weights = [1.0 + k for k in range(count)]

    def step():
        leaves = [detached(x) for x in given]
        value, _ = case.call(leaves, weights=weights, return_stats=True)
        value.backward()
        case.call(leaves, weights=weights, suffix="_and_grad", return_stats=True)
        case.call(leaves, weights=weights, reduction="none")

    step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


# --- graphs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 3, MANY])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_graph_of_loss_and_gradients(case, count):
    given = scales(case, count) if count else logits(case, (50_001,), torch.bfloat16)
    leaves = [detached(x) for x in given]

    def step():
        value, stats = case.call(leaves, return_stats=True)
        grads = torch.autograd.grad(value, as_list(leaves))
        own = case.call(given, suffix="_and_grad", return_stats=True)
        return [value, *stats, *grads, own.loss, *own.stats, *as_list(own.grads)]

    graph, results = captured(step)
    for replay in range(3):
        with torch.no_grad():
            for x in as_list(given):  # the leaves share its memory
                x.mul_(-1.5 + replay)
        graph.replay()
        assert_same_bits([t.detach() for t in results], [t.detach() for t in step()])


@pytest.mark.parametrize("loss", ["non_saturating", *RELATIVISTIC])
def test_concurrent_replays_of_graphs(loss):
    """Each graph has its own counters, so that two graphs can run concurrently."""
    pairs = [torch.randn(2, 3_000_001, device="cuda").unbind() for _ in range(2)]
    graphs = [
        captured(lambda p=p: discriminator_loss(*p, loss=loss, return_stats=True)) for p in pairs
    ]
    wants = [discriminator_loss(*p, loss=loss) for p in pairs]
    streams = [torch.cuda.Stream() for _ in graphs]
    for stream in streams:
        stream.wait_stream(torch.cuda.current_stream())
    for _ in range(20):
        for stream, (graph, _) in zip(streams, graphs, strict=True):
            with torch.cuda.stream(stream):
                graph.replay()
    torch.cuda.synchronize()
    for (_, (value, _)), want in zip(graphs, wants, strict=True):
        assert torch.equal(value, want)
