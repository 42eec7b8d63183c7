"""The same noise for any number of threads and instruction set, in pieces, and in any layout and dtype."""

import itertools
import math

import pytest
import torch
from helpers import CAPABILITIES, DEVICES, FLOATS, each_way_to_run
from helpers.noise import INPUTS, LAYOUTS, SHAPE, TOP, inputs, noise_dot, z_of

from pygan import _C, NoiseStream, instance_noise


@pytest.mark.parametrize("out_dtype", FLOATS)
@pytest.mark.parametrize("in_dtype", INPUTS)
def test_bits_do_not_depend_on_threads_or_instruction_set(in_dtype, out_dtype, restore):
    n, offset = 40_003, 4 * 2**32 - 20_001
    x = inputs(n, in_dtype)
    sigmas = torch.rand(n, generator=torch.Generator().manual_seed(1))
    first = None
    for capability in CAPABILITIES:
        for threads in (1, 2):
            _C.use_cpu_capability(capability)
            torch.set_num_threads(threads)
            stream = NoiseStream(TOP, step=TOP - 1, offset=offset)
            results = [
                instance_noise(x, sigma, stream=stream, scale=scale, bias=-1.0, dtype=out_dtype)
                for sigma, scale in ((0.7, 0.3), (sigmas, 0.3), (sigmas, sigmas.double()))
            ]
            assert stream.step == 1
            if out_dtype == torch.float32:
                state = NoiseStream(TOP, offset=offset).state
                rows = results[0][:40_000].view(8, 5000)
                results.append(noise_dot(results[0], [1], state, offset, -1))
                results.append(noise_dot(rows, rows.stride(), state, offset, 8))
            first = results if first is None else first
            for a, b in zip(first, results, strict=True):
                assert torch.equal(a, b), (capability, threads)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_pieces_draw_the_noise_of_the_whole(dtype, device):
    """Ranks that pass the offset of their first element draw the noise of a single process."""
    x = inputs(10_000, dtype).to(device)
    whole = instance_noise(x, 0.5, stream=NoiseStream(3, step=4, offset=11, device=device))
    for cuts in ([0, 5000, 10_000], [0, 1, 2, 5, 259, 260, 777, 8193, 10_000]):
        pieces = []
        for begin, end in itertools.pairwise(cuts):
            stream = NoiseStream(3, step=4, offset=11 + begin, device=device)
            pieces.append(instance_noise(x[begin:end], 0.5, stream=stream))
        assert torch.equal(torch.cat(pieces), whole)


def in_memory_order(x):
    """The elements of a dense tensor in memory order."""
    order = sorted(range(x.dim()), key=lambda d: -x.stride(d))
    return x.permute(order).flatten()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", INPUTS)
def test_layouts(dtype, layout, device):
    """Noise follows the memory order in every layout; the result has x's layout, like empty_like."""
    x = LAYOUTS[layout](inputs(math.prod(SHAPE), dtype).view(SHAPE).to(device))
    out_dtype = dtype if dtype.is_floating_point else torch.float32
    out = instance_noise(x, 0.5, stream=NoiseStream(8, step=1, offset=3, device=device))
    assert out.stride() == torch.empty_like(x).stride() and out.dtype == out_dtype
    dense = torch.empty_like(x).copy_(x)
    stream = NoiseStream(8, step=1, offset=3, device=device)
    flat = instance_noise(in_memory_order(dense), 0.5, stream=stream)
    assert torch.equal(in_memory_order(out), flat)

    # out= supports any layout; the noise still follows x's memory order.
    targets = {
        "same": torch.empty_like(x, dtype=out_dtype),
        "contiguous": torch.empty(SHAPE, dtype=out_dtype, device=device),
        "strided": torch.full((*SHAPE, 2), 7.0, dtype=out_dtype, device=device)[..., 1],
        "misaligned": torch.empty(x.numel() + 1, dtype=out_dtype, device=device)[1:].view(SHAPE),
    }
    if dtype.is_floating_point and layout != "expanded":
        targets["in place"] = x
    for name, target in targets.items():
        stream = NoiseStream(8, step=1, offset=3, device=device)
        strides = target.stride()
        result = instance_noise(x, 0.5, stream=stream, out=target)
        assert result is target and target.stride() == strides
        assert torch.equal(target, out), name
        assert stream.step == 2
        if name == "strided":  # nothing outside it is written
            assert (target._base[..., 0] == 7).all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_every_dtype_gets_the_same_noise(dtype, device):
    z = z_of(500, 4, device=device)
    zeros = torch.zeros(500, dtype=dtype, device=device)
    out = instance_noise(zeros, 1.0, stream=NoiseStream(4, device=device))
    assert torch.equal(out, z.to(dtype))


@pytest.mark.parametrize("out_dtype", FLOATS)
@pytest.mark.parametrize("in_dtype", [torch.uint8, torch.float32])
def test_only_the_output_is_written(in_dtype, out_dtype, restore):
    for where in each_way_to_run():
        for n in (1, 3, 63, 64, 65, 127, 128, 129, 20_001):
            memory = torch.full((n + 128,), 99.0, dtype=out_dtype)
            instance_noise(
                inputs(n, in_dtype), 0.5, stream=NoiseStream(n, offset=n), out=memory[64:-64]
            )
            beside = torch.cat([memory[:64], memory[-64:]])
            assert torch.equal(beside, torch.full_like(beside, 99.0)), where
            assert not torch.equal(memory[64:-64], torch.full((n,), 99.0, dtype=out_dtype)), where
