"""Tests specific to CUDA: the same bits as the CPU, graphs, streams, launches without synchronization.

The tests of values, gradients, layouts and bad input in the other files run on CUDA too, if they have a device
parameter. The losses are in test_cuda_losses.py.
"""

import math

import pytest
import torch
from helpers import FLOATS
from helpers.cuda import at_offset, captured, inputs, kernels_of

from pygan import NoiseStream, instance_noise
from pygan.fused_losses import discriminator_loss, generator_loss

pytestmark = pytest.mark.cuda

INPUTS = [*FLOATS, torch.uint8]
TOP = 2**64 - 1
# A thread's 16-byte vector, a warp, a block, more than one block, and sizes with odd tails.
SIZES = [1, 3, 4, 5, 31, 32, 33, 255, 256, 257, 1023, 4097, 1_000_003]


# --- the bits of the CPU ---------------------------------------------------------------------------


@pytest.mark.parametrize("out_dtype", FLOATS)
@pytest.mark.parametrize("in_dtype", INPUTS)
@pytest.mark.parametrize("size", SIZES)
def test_noise_is_bitwise_equal_to_the_cpu(size, in_dtype, out_dtype):
    if size > 100_000 and torch.float32 not in (in_dtype, out_dtype):
        pytest.skip("large sizes for fp32 on one side")
    x = inputs((size,), in_dtype)
    each = torch.rand(size, generator=torch.Generator().manual_seed(1))
    options = {"bias": -0.5, "dtype": out_dtype}
    one = torch.tensor(0.3, dtype=torch.float64)
    factors = [(0.7, 1 / 3), (one, 1 / 3), (each, 1 / 3), (each, each), (0.7, each), (0.7, one)]
    for offset in (0, 1, 4, 258, 4 * 2**32 - 130):
        cpu = NoiseStream(TOP - 4, step=TOP, offset=offset)
        gpu = NoiseStream(TOP - 4, step=TOP, offset=offset, device="cuda")
        for misaligned in (0, 1, 3):
            for sigma, scale in factors:
                want = instance_noise(x, sigma, stream=cpu, scale=scale, **options)
                given, scaled = (
                    f.cuda() if isinstance(f, torch.Tensor) else f for f in (sigma, scale)
                )
                moved = at_offset(x, misaligned)
                got = instance_noise(moved, given, stream=gpu, scale=scaled, **options)
                assert torch.equal(got.cpu(), want)
                target = at_offset(torch.zeros(size, dtype=out_dtype), 3 - misaligned)
                gpu.load_state_dict(cpu.state_dict())
                instance_noise(moved, given, stream=gpu, out=target, scale=scaled, bias=-0.5)
                want = instance_noise(x, sigma, stream=cpu, scale=scale, **options)
                assert torch.equal(target.cpu(), want)
                assert gpu.state_dict() == cpu.state_dict()


LAYOUTS = {
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "batch last": lambda x: x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
    "sliced": lambda x: x[:, :, ::2, 1:],
    "expanded": lambda x: x[:, :1].expand(x.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", INPUTS)
def test_layouts_are_bitwise_equal_to_the_cpu(dtype, layout):
    x = LAYOUTS[layout](inputs((5, 3, 16, 17), dtype))
    y = LAYOUTS[layout](inputs((5, 3, 16, 17), dtype).cuda())
    assert x.stride() == y.stride()
    for sigma in (0.5, torch.tensor(0.5), torch.rand(5)):
        want = instance_noise(x, sigma, stream=NoiseStream(1, offset=6))
        given = sigma.cuda() if isinstance(sigma, torch.Tensor) else sigma
        got = instance_noise(y, given, stream=NoiseStream(1, offset=6, device="cuda"))
        assert got.stride() == want.stride() and torch.equal(got.cpu(), want)


@pytest.mark.parametrize("dtype", FLOATS)
def test_gradient_of_sigma_agrees_with_the_cpu(dtype):
    """Sums of 1e5 fp64 products in different orders, so the last bits of fp64 may differ."""
    x = inputs((7, 100_003), dtype)
    grad = inputs(x.shape, dtype, seed=1)
    for shape in ((), (7,)):
        results = []
        for device in ("cpu", "cuda"):
            sigma = torch.ones(shape, dtype=torch.float64, device=device, requires_grad=True)
            stream = NoiseStream(3, device=device)
            instance_noise(x.to(device), sigma, stream=stream).backward(grad.to(device))
            results.append(sigma.grad.cpu())
        # fp32 results of fp64 sums, converted back: one rounding to fp32 each (none for fp64).
        rtol = 2 * torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps
        slack = 100_003 * 7 * 2.0**-53 * grad.double().abs().sum().item() * 6.8
        torch.testing.assert_close(*results, rtol=rtol, atol=slack)


# --- graphs ----------------------------------------------------------------------------------------


def test_a_graph_draws_new_noise_at_every_replay():
    x = torch.randn(10_001, device="cuda")
    sigma = torch.tensor(0.5, device="cuda")
    stream = NoiseStream(3, step=10, device="cuda")
    graph, out = captured(lambda: instance_noise(x, sigma, stream=stream, scale=sigma))
    assert stream.step == 12  # from the warm-up; capturing draws nothing
    for step in range(12, 16):
        sigma.fill_(0.1 * step)
        graph.replay()
        at_step = NoiseStream(3, step=step, device="cuda")
        want = instance_noise(x, sigma, stream=at_step, scale=sigma)
        assert torch.equal(out, want)
    assert stream.step == 16
    # Loading a checkpoint takes effect in the graph.
    stream.load_state_dict({"seed": 8, "step": 100, "offset": 0})
    graph.replay()
    loaded = NoiseStream(8, step=100, device="cuda")
    assert torch.equal(out, instance_noise(x, sigma, stream=loaded, scale=sigma))


def test_a_graph_without_a_stream_draws_new_noise():
    x = torch.zeros(10_001, device="cuda")
    graph, out = captured(lambda: instance_noise(x, 1.0))
    draws = []
    for _ in range(3):
        graph.replay()
        draws.append(out.clone())
    for i, a in enumerate(draws):
        assert abs(a.mean()) < 5 / 100 and abs(a.var() - 1) < 5 * math.sqrt(2) / 100
        for b in draws[:i]:
            assert not torch.equal(a, b)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_graph_of_a_whole_step(dtype):
    """Noise with a gradient for sigma, both losses, their statistics, and backward."""
    real, fake = (torch.randn(50_001, device="cuda").to(dtype).requires_grad_() for _ in range(2))
    sigma = torch.tensor(0.5, device="cuda", requires_grad=True)
    stream = NoiseStream(3, device="cuda")

    def step(stream=stream):
        noisy = instance_noise(real, sigma, stream=stream)
        value, stats = discriminator_loss(noisy, fake, label_smoothing=0.1, return_stats=True)
        other = generator_loss(fake, loss="minimax")
        grads = torch.autograd.grad(value + other, (real, fake, sigma))
        return [value, other, *stats, *grads]

    graph, results = captured(step)
    for replay in range(3):
        graph.replay()
        own = NoiseStream(3, step=2 + replay, device="cuda")
        for got, want in zip(results, step(own), strict=True):
            assert torch.equal(got, want)


# --- streams, launches, syncs ----------------------------------------------------------------------


def test_concurrent_cuda_streams():
    count = 8
    logits = [torch.randn(1_000_003, device="cuda") for _ in range(count)]
    wants = [generator_loss(x, return_stats=True) for x in logits]
    noise = [
        instance_noise(x, 0.5, stream=NoiseStream(k, device="cuda")) for k, x in enumerate(logits)
    ]
    own = [NoiseStream(k, device="cuda") for k in range(count)]
    streams = [torch.cuda.Stream() for _ in range(count)]
    torch.cuda.synchronize()
    for _ in range(10):
        results, drawn = [], []
        for stream in own:
            stream.state[1].zero_()
        torch.cuda.synchronize()
        for k, stream in enumerate(streams):
            with torch.cuda.stream(stream):
                results.append(generator_loss(logits[k], return_stats=True))
                drawn.append(instance_noise(logits[k], 0.5, stream=own[k]))
        torch.cuda.synchronize()
        for (value, stats), (want, want_stats) in zip(results, wants, strict=True):
            assert torch.equal(value, want)
            assert torch.equal(
                torch.stack(stats[:8]).nan_to_num(), torch.stack(want_stats[:8]).nan_to_num()
            )
        for got, want in zip(drawn, noise, strict=True):
            assert torch.equal(got, want)
        assert [s.step for s in own] == [1] * count


def test_work_is_queued_on_the_current_stream():
    """An op on a side stream must run after a long kernel on that stream."""
    side = torch.cuda.Stream()
    x = torch.zeros(1000, device="cuda")
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(50_000_000)
        x.fill_(3.0)
        value = generator_loss(x, reduction="sum")
        noisy = instance_noise(x, 0.0, stream=NoiseStream(1, device="cuda"))
    side.synchronize()
    assert torch.equal(noisy, torch.full_like(x, 3.0))
    assert torch.equal(value, generator_loss(torch.full_like(x, 3.0), reduction="sum"))


def test_no_synchronization_with_the_gpu():
    x = torch.randn(1000, device="cuda", requires_grad=True)
    sigma = torch.tensor(0.5, device="cuda", requires_grad=True)
    stream = NoiseStream(1, device="cuda")

    def step():
        noisy = instance_noise(x, sigma, stream=stream)
        instance_noise(x.detach(), 0.5)
        value, stats = discriminator_loss(noisy, x, label_smoothing=0.1, return_stats=True)
        value.backward()
        return stats

    step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("size", [100, 1_000_000])
def test_one_launch(size):
    x = torch.randn(size, device="cuda")
    stream = NoiseStream(1, device="cuda")
    sigma = torch.tensor(0.5, device="cuda")
    each = torch.rand(size, device="cuda")
    assert len(kernels_of(lambda: instance_noise(x, sigma, stream=stream))) == 1
    assert len(kernels_of(lambda: instance_noise(x, each, stream=stream, scale=each))) == 1
    alike = {"stream": stream, "same_noise": True}
    assert len(kernels_of(lambda: instance_noise([x, x], sigma, **alike))) == 1


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_the_tensors_device_is_used_not_the_current_one():
    with torch.cuda.device(0):
        x = torch.randn(10_000, device="cuda:1", requires_grad=True)
        value = generator_loss(x)
        value.backward()
        noisy = instance_noise(x.detach(), 0.5, stream=NoiseStream(1, device="cuda:1"))
    assert value.device == x.grad.device == noisy.device == torch.device("cuda:1")
    want = instance_noise(x.detach().cpu(), 0.5, stream=NoiseStream(1))
    assert torch.equal(noisy.cpu(), want)


def test_more_than_2_to_the_31_elements():
    """Indices have 64 bits: the last element of a tensor with 2^31 + 5 elements gets its own noise and gradient."""
    n = 2**31 + 5
    if torch.cuda.get_device_properties(0).total_memory < 20 * 2**30:
        pytest.skip("needs 20 GB")
    x = torch.zeros(n, dtype=torch.float16, device="cuda")
    x[-1] = 1.0
    tail = NoiseStream(1, offset=n - 1000)
    out = instance_noise(x, 1.0, stream=NoiseStream(1, device="cuda"))
    assert torch.equal(out[-1000:].cpu(), instance_noise(x[-1000:].cpu(), 1.0, stream=tail))
    del out
    x.requires_grad_()
    value = generator_loss(x, reduction="sum")
    (grad,) = torch.autograd.grad(value, x)
    slope = -torch.sigmoid(-torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(grad[-2:].cpu().float(), slope, atol=0, rtol=2**-11)
    want = (n - 1) * math.log(2) + math.log1p(math.exp(-1))
    assert abs(value.item() - want) <= 4 * 2.0**-24 * want
