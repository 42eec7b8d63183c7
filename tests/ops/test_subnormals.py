"""torch.set_flush_denormal does not affect the kernels, whichever thread computes the results."""

import pytest
import torch
from helpers import FLOATS, each_way_to_run
from helpers.losses import RELATIVISTIC, as_list, cases_of, detached
from helpers.noise import noise_dot

from pygan import NoiseStream, instance_noise
from pygan.fused_losses import LOSSES, generator_loss

pytestmark = pytest.mark.skipif(
    not torch.set_flush_denormal(False), reason="this CPU cannot flush subnormal numbers"
)


@pytest.fixture
def flushing():
    """During the test, this thread and the threads that it starts flush subnormal numbers to zero."""
    assert torch.set_flush_denormal(True)
    assert (torch.tensor([1e-38]) * 0.1).item() == 0
    yield
    torch.set_flush_denormal(False)


def each_way_against_unflushed(results):
    """Compares bits as integers, because PyTorch's own functions would read the values as zeros."""

    def bits():
        integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}
        return [t.detach().view(integers[t.element_size()]) for t in results()]

    torch.set_flush_denormal(False)
    want = bits()
    torch.set_flush_denormal(True)
    assert any(t.count_nonzero() for t in want)
    for way in each_way_to_run():
        for got, t in zip(bits(), want, strict=True):
            assert torch.equal(got, t), way


def tiny(n, dtype):
    """Subnormal numbers of this dtype, with both signs."""
    digits = {torch.float16: 10, torch.bfloat16: 7, torch.float32: 23, torch.float64: 52}[dtype]
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    bits = torch.randint(2**digits, (n,), generator=torch.Generator().manual_seed(0))
    return bits.to(integer).view(dtype) * torch.tensor([1, -1], dtype=dtype).repeat(n)[:n]


def test_subnormal_half_precision_numbers_are_preserved(flushing, restore):
    x = torch.tensor([6e-5, 3e-5, -1e-5], dtype=torch.float16)
    for way in each_way_to_run():
        got = instance_noise(x, 0.0, stream=NoiseStream(0), scale=1e4, dtype=torch.float32)
        torch.testing.assert_close(got, torch.tensor([0.6, 0.3, -0.1]), rtol=1e-2, atol=0), way


@pytest.mark.parametrize("dtype", FLOATS)
def test_noise(dtype, flushing, restore):
    x, least = tiny(20_001, dtype), torch.finfo(dtype).tiny
    sigma = torch.full((20_001,), 0.1 * least, dtype=torch.float64)

    def results():
        stream = NoiseStream(0)
        out = [
            instance_noise(x, 0.0, stream=stream, scale=0.5),
            instance_noise(x, least, stream=stream),
            instance_noise(x, sigma, stream=stream),
        ]
        return [*out, noise_dot(x, x.stride(), stream.state, 0, -1)]

    each_way_against_unflushed(results)


@pytest.mark.parametrize("size", ["subnormal logits", "subnormal gradients"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_and_gradients(loss, dtype, size, flushing, restore):
    if size == "subnormal logits":
        real = tiny(18_001, dtype)
    else:  # the sigmoid's gradients are; with this weight, those of all losses are
        real = torch.linspace(-100, 100, 18_001, dtype=torch.float64).to(dtype)
    options = {"reduction": "sum", "weights": [torch.finfo(dtype).tiny]}

    def results():
        out = []
        for case in cases_of(loss):
            inputs = [[x] for x in (real, real.flip(0))[: len(case.roles)]]
            got = case.call(inputs, suffix="_and_grad", return_stats=True, **options)
            leaves = [detached(x) for x in inputs]
            value = case.call(leaves, **options)
            out += [got.loss, *as_list(got.grads), *got.stats, value]
            for factor in (0.3, 1.0):
                grad = torch.full_like(value, factor)
                out += torch.autograd.grad(value, as_list(leaves), grad, retain_graph=True)
            leaves = [detached(x[0]) for x in inputs]
            if loss in RELATIVISTIC:  # its terms start with differences computed by PyTorch
                continue
            out += as_list(case.call(leaves, reduction="none"))
        return out

    each_way_against_unflushed(results)


def test_the_flag_is_not_changed(flushing):
    instance_noise(torch.zeros(100_000), 0.5, stream=NoiseStream(0))
    generator_loss(torch.zeros(100_000), return_stats=True)
    assert (torch.tensor([1e-38]) * 0.1).item() == 0
