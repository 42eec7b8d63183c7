"""instance_noise: its exact arithmetic, compared with rational numbers, and every shape of sigma."""

import math
from fractions import Fraction

import pytest
import torch
from helpers import DEVICES, FLOATS, math_type
from helpers.noise import INPUTS, LAYOUTS, SHAPE, inputs, z_of

from pygan import NoiseStream, instance_noise

# --- the arithmetic --------------------------------------------------------------------------------

FORMATS = {  # (digits, exponent of the smallest subnormal)
    torch.float64: (53, -1074),
    torch.float32: (24, -149),
    torch.float16: (11, -24),
    torch.bfloat16: (8, -133),
}


def rounded(value, dtype):
    """A rational number, rounded to the nearest in dtype, ties to even."""
    digits, smallest = FORMATS[dtype]
    if value == 0:
        return value
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** max(exponent - digits + 1, smallest)
    return round(value / unit) * unit


def exactly(x, sigma, z, scale, bias, dtype):
    """fma(sigma, z, fma(x, scale, bias)) in the computation dtype, then rounded once to dtype."""
    m = math_type(x.dtype, dtype)
    sigma, scale, bias = (rounded(Fraction(v), m) for v in (sigma, scale, bias))
    out = []
    for element, normal in zip(x.double().tolist(), z.double().tolist(), strict=True):
        inner = rounded(Fraction(element) * scale + bias, m)
        out.append(rounded(rounded(sigma * Fraction(normal) + inner, m), dtype))
    return out


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("out_dtype", FLOATS)
@pytest.mark.parametrize("in_dtype", INPUTS)
def test_definition_to_the_last_bit(in_dtype, out_dtype, device):
    n = 150
    x = inputs(n, in_dtype)
    z = z_of(n, 5, 6, 7)
    cases = [(1.0, 1.0, 0.0), (0.1, 2 / 255, -1.0), (1e-6, 1e-3, 1e-7), (0.0, 1 / 3, 0.1)]
    for sigma, scale, bias in cases:
        stream = NoiseStream(5, step=6, offset=7, device=device)
        options = {"scale": scale, "bias": bias, "dtype": out_dtype}
        got = instance_noise(x.to(device), sigma, stream=stream, **options)
        assert got.dtype == out_dtype
        want = exactly(x, sigma, z, scale, bias, out_dtype)
        assert [Fraction(g) for g in got.double().tolist()] == want
        # sigma as a tensor uses the same arithmetic.
        for dtype in (torch.float32, torch.float64):
            given = torch.tensor(sigma, dtype=dtype)
            want = exactly(x, given.item(), z, scale, bias, out_dtype)
            for tensor in (given.to(device), given.to(device).expand(n)):
                stream = NoiseStream(5, step=6, offset=7, device=device)
                got = instance_noise(x.to(device), tensor, stream=stream, **options)
                assert [Fraction(g) for g in got.double().tolist()] == want


@pytest.mark.parametrize("device", DEVICES)
def test_fp64_is_rounded_to_16_bits_directly(device):
    """Via fp32, a tie in fp32 and then in fp16 would be rounded twice."""
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        half = torch.finfo(dtype).eps / 2
        x = torch.tensor([1 + half + 2.0**-40, 1 + half - 2.0**-40, 1 + half, 1 + 3 * half])
        x = torch.cat([x, -x]).double()
        x[:2] = torch.tensor([1 + half + 2.0**-40, 1 + half - 2.0**-40], dtype=torch.float64)
        x[4:6] = -x[:2]
        stream = NoiseStream(0, device=device)
        got = instance_noise(x.to(device), 0.0, stream=stream, dtype=dtype).cpu()
        want = [rounded(Fraction(v), dtype) for v in x.tolist()]
        assert [Fraction(g) for g in got.double().tolist()] == want


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_non_finite_elements_and_overflow(dtype, device):
    x = torch.tensor([math.inf, -math.inf, math.nan, torch.finfo(dtype).max, 1.0]).to(dtype)
    if dtype == torch.float64:
        x[3] = torch.finfo(dtype).max
    out = instance_noise(x.to(device), 0.5, stream=NoiseStream(1, device=device), scale=2.0).cpu()
    assert out[0] == out[3] == math.inf and out[1] == -math.inf and out[2].isnan()
    assert out[4].isfinite()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", INPUTS)
def test_sigma_zero_gives_the_scaled_input_and_advances_the_stream(dtype, device):
    x = inputs(1000, dtype).to(device)
    stream = NoiseStream(3, step=9, device=device)
    out = instance_noise(x, 0.0, stream=stream)
    assert out.dtype == (dtype if dtype.is_floating_point else torch.get_default_dtype())
    assert torch.equal(out, x.to(out.dtype))
    out = instance_noise(x, torch.zeros((), device=device), stream=stream, scale=2.0, bias=0.5)
    m = math_type(out.dtype)
    assert torch.equal(out, (x.to(m) * 2 + 0.5).to(out.dtype))
    assert stream.step == 11


def test_integers_become_the_default_dtype():
    before = torch.get_default_dtype()
    x = torch.zeros(4, dtype=torch.uint8)
    try:
        for dtype in FLOATS:
            torch.set_default_dtype(dtype)
            assert instance_noise(x, 1.0, stream=NoiseStream(0)).dtype == dtype
    finally:
        torch.set_default_dtype(before)


# --- sigma -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("sigma_dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_sigma_per_sample(layout, sigma_dtype, device):
    x = LAYOUTS[layout](torch.randn(SHAPE, device=device))
    sigma = torch.rand(SHAPE[0], dtype=sigma_dtype, device=device)
    sigma[1] = 0
    strided = torch.stack([sigma, sigma + 1], 1)[:, 0]
    for given in (sigma, strided):
        out = instance_noise(x, given, stream=NoiseStream(5, device=device))
        # z in the memory order of the result, whose samples are contiguous.
        unit = NoiseStream(5, device=device)
        z = instance_noise(torch.zeros_like(out), 1.0, stream=unit)
        for k, own in enumerate(sigma.float().tolist()):
            fma = (x[k].double() + own * z[k].double()).float()  # exact product, rounded twice
            torch.testing.assert_close(out[k], fma, rtol=2.0**-23, atol=0)
        assert torch.equal(out[1], x[1])
    # The same value for all samples is bitwise equal to a number if samples are contiguous anyway.
    same = instance_noise(x, torch.full_like(sigma, 0.5), stream=NoiseStream(5, device=device))
    number = instance_noise(x, 0.5, stream=NoiseStream(5, device=device))
    if number.stride(0) == number[0].numel():
        assert torch.equal(same, number) and same.stride() == number.stride()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(4,), (1, 9), (300, 1), (5, 2), (3, 70_001)])
def test_sigma_per_sample_of_any_size(shape, device):
    sigma = torch.linspace(0.0, 1.0, shape[0], device=device)
    out = instance_noise(
        torch.zeros(shape, device=device), sigma, stream=NoiseStream(6, device=device)
    )
    z = z_of(math.prod(shape), 6, device=device).view(shape)
    assert torch.equal(out, z * sigma.view(-1, *[1] * (len(shape) - 1)))


@pytest.mark.parametrize("device", DEVICES)
def test_sigma_as_a_tensor_equals_the_number(device):
    x = torch.randn(1000, device=device)
    number = instance_noise(x, 0.25, stream=NoiseStream(2, device=device))
    # A tensor in host memory is accepted too: reading it does not synchronize.
    for tensor in (torch.tensor(0.25, device=device), torch.tensor(0.25)):
        assert torch.equal(instance_noise(x, tensor, stream=NoiseStream(2, device=device)), number)
    assert torch.equal(instance_noise(x[0], 0.25, stream=NoiseStream(2, device=device)), number[0])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(0,), (0, 3, 8, 8), (2, 0)])
def test_an_empty_tensor_advances_the_stream(shape, device):
    for sigma in (0.5, torch.tensor(0.5, device=device), torch.rand(shape[0], device=device)):
        stream = NoiseStream(2, step=5, device=device)
        x = torch.zeros(shape, device=device, requires_grad=True)
        out = instance_noise(x, sigma, stream=stream)
        assert out.shape == shape and stream.step == 6
        out.sum().backward()
        assert x.grad.shape == shape
        instance_noise(x.detach(), sigma, stream=stream, out=torch.zeros(shape, device=device))
        assert stream.step == 7
