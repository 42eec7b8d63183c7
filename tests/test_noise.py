"""instance_noise and NoiseStream: the stream, version 1, its exact arithmetic, its derivatives.

Three layers, each tested against something it did not come from: the words (Random123's vectors), the
normals (pygan.reference in fp64, within a bound that is derived), and the arithmetic around them (exact
rational numbers, to the last bit).
"""

import copy
import itertools
import math
from fractions import Fraction

import pytest
import torch

import pygan
from pygan import _C, NoiseStream, instance_noise, reference

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
INPUTS = [*FLOATS, torch.uint8]
TOP = 2**64 - 1
noise_at = torch.ops.pygan.instance_noise_at
noise_dot = torch.ops.pygan.noise_dot


def z_of(n, seed, step=0, offset=0, device="cpu"):
    """The stream itself, fp32."""
    stream = NoiseStream(seed, step=step, offset=offset, device=device)
    return instance_noise(torch.zeros(n, device=device), 1.0, stream=stream)


def math_type(*dtypes):
    return torch.float64 if torch.float64 in dtypes else torch.float32


def available_capabilities():
    before = _C.cpu_capability()
    names = []
    for name in ("baseline", "avx2", "avx512"):
        try:
            _C.use_cpu_capability(name)
        except RuntimeError:
            continue
        names.append(name)
    _C.use_cpu_capability(before)
    return names


CAPABILITIES = available_capabilities()


@pytest.fixture
def restore():
    """Puts the instruction set and the number of threads back."""
    capability, threads = _C.cpu_capability(), torch.get_num_threads()
    yield
    _C.use_cpu_capability(capability)
    torch.set_num_threads(threads)


# --- the words -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # kat_vectors of Random123, "philox 4x32 10"
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)  # fmt: skip
def test_philox_known_answers(counter, key, words):
    counter, key, words = ([int(w, 16) for w in text.split()] for text in (counter, key, words))
    assert list(_C.philox4x32(counter, key)) == words


# --- the normals -----------------------------------------------------------------------------------

# Why |z - reference| <= 11 * 2^-24 |reference| + 1e-14. Both start from the same fp32 u. With
# h = 2^-24, the largest relative error of one fp32 rounding:
# * -2 ln u = f p(f) + e c, f exact: p is within 1.7e-7 = 2.9 h of its function, and Horner's last steps
#   and the constant e c round about 3 h and 2 h. Worst where the two cancel, e = -1 and f = sqrt(2) - 1:
#   (1.39 * 2 + 0.69 * 5.9) / 0.69 h = 10 h, and h for the last fma. The square root halves that to 5.5 h
#   and rounds, 6.5 h.
# * The angle: y rounds to fp32 (h), which moves cos by at most (pi/4) tan(pi/4) h = 0.8 h, sin by h; so
#   does y^2, by half as much; the polynomials are within 0.65 h and 0.05 h and round 1.5 h; sin has one
#   product more, h. Together 3.4 h and 3.9 h.
# * The product with the radius: h/2 on average, h at worst.
# Sum: 11 h and a little for products of errors, of order h^2. 1e-14 is what 2 pi w / 2^32 in fp64 is off by
# (2 pi 2^-53, times a radius of at most 6.8), which matters where z is next to 0.
RELATIVE, ABSOLUTE = 11.5 * 2.0**-24, 1e-14

POSITIONS = {
    "start": (0, 0, 0),
    "seed": (1234, 0, 0),
    "seed above 2^63": (2**63 + 12345, 1, 0),
    "last seed and step": (TOP, TOP, 0),
    "step": (7, 2**32 + 5, 0),
    "step above 2^63": (7, 2**63 + 3, 0),
    "offset 1": (7, 1, 1),
    "offset 257": (7, 1, 257),
    # The counter is element / 4: its high word changes inside the tensor.
    "counter's high word": (7, 1, 4 * 2**32 - 130),
    "counter's high word, aligned": (7, 1, 4 * 2**32 - 256),
    "large offset": (7, 1, 2**62 + 3),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("position", POSITIONS)
def test_stream_against_reference(position, device):
    seed, step, offset = POSITIONS[position]
    for n in (1, 3, 5, 1000, 20_001):
        got = z_of(n, seed, step, offset, device).cpu().double()
        want = reference.normal(seed, step, offset, n)
        error = (got - want).abs()
        assert (error <= RELATIVE * want.abs() + ABSOLUTE).all()


# Element 0 to 63 of seed 0x0123456789abcdef, step 5, offset 2: the bits of version 1 of the stream. A change
# of any of them breaks every run that somebody wants to repeat.
VERSION_1 = """
bf6ba124 3f15db03 be8cddc7 3f149a25 bee59893 befa13e3 3fa94218 3eb57640
3f9480c6 3e1fbcac bf0a1910 3ef4160e bf2f3d4a 3f8449c9 be86b4d1 3e57d18d
bf3675dc bfb7859a bf8ecc9a 3ed41a2f be81cce6 be7abd99 be82bfc1 3f856431
bf3b3f79 bf4d986e bf281704 bf558dd9 3f03b05c befc12e8 3fd35a6f 3ee16c7b
3fd98023 3ecaf3f8 3f5076ae bf049f46 3f10aa81 3f7c6476 bf8821d6 3f9722c3
3f60744f bddd2d7f bd2d903a bd8a11aa bf94da68 bfa433ae 3ea72794 3f02314a
bec8b177 3ebc370a beb668f0 3c8bb113 3f697515 3f8e57cd 3f6c849e c0383251
3f8f66c6 3efd1b7b 3ef4f0ad 3f2e97f0 3e43ef1b bf1813f1 3f978738 c00b6f71
"""


@pytest.mark.parametrize("device", DEVICES)
def test_version_1_of_the_stream(device):
    z = z_of(64, 0x0123456789ABCDEF, 5, 2, device).cpu()
    bits = [f"{b % 2**32:08x}" for b in z.view(torch.int32).tolist()]
    assert bits == VERSION_1.split()


@pytest.mark.slow
def test_moments():
    n = 4_000_000
    z = z_of(n, 2024).double()
    # Mean and its standard error, of a sample of n normals.
    assert abs(z.mean()) <= 5 / math.sqrt(n)
    assert abs(z.pow(2).mean() - 1) <= 5 * math.sqrt(2 / n)
    assert abs(z.pow(3).mean()) <= 5 * math.sqrt(15 / n)
    assert abs(z.pow(4).mean() - 3) <= 5 * math.sqrt(96 / n)
    for lag in (1, 2, 3, 4, 256):  # pairs, counters, blocks
        assert abs((z[:-lag] * z[lag:]).mean()) <= 5 / math.sqrt(n)
        assert abs((z[:-lag].pow(2) * z[lag:].pow(2)).mean() - 1) <= 5 * math.sqrt(8 / n)
    # The tails: Box-Muller on 32 bits reaches past 5 (expected: 2.3 of 4e6).
    share = (z.abs() > 3).double().mean()
    p = math.erfc(3 / math.sqrt(2))
    assert abs(share - p) <= 5 * math.sqrt(p / n)


def test_draws_are_not_correlated():
    n = 200_000
    stream = NoiseStream(1)
    draws = [instance_noise(torch.zeros(n), 1.0, stream=stream) for _ in range(3)]
    draws += [z_of(n, 2), z_of(n, 2**32 + 1), z_of(n, 1, step=2**32)]
    for i, a in enumerate(draws):
        for b in draws[:i]:
            assert abs((a * b).double().mean()) <= 5 / math.sqrt(n)


# --- the arithmetic --------------------------------------------------------------------------------

FORMATS = {  # digits, exponent of the smallest subnormal
    torch.float64: (53, -1074),
    torch.float32: (24, -149),
    torch.float16: (11, -24),
    torch.bfloat16: (8, -133),
}


def rounded(value, dtype):
    """A rational number to the nearest of dtype, ties to even."""
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
    """fma(sigma, z, fma(x, scale, bias)) in the math's type, then rounded once to dtype."""
    m = math_type(x.dtype, dtype)
    sigma, scale, bias = (rounded(Fraction(v), m) for v in (sigma, scale, bias))
    out = []
    for element, normal in zip(x.double().tolist(), z.double().tolist(), strict=True):
        inner = rounded(Fraction(element) * scale + bias, m)
        out.append(rounded(rounded(sigma * Fraction(normal) + inner, m), dtype))
    return out


def inputs(n, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if dtype == torch.uint8:
        return torch.randint(0, 256, (n,), generator=generator, dtype=torch.uint8)
    x = torch.randn(n, generator=generator, dtype=torch.float64)
    x[: n // 4] *= 1e-3
    x[: n // 8] *= 1e-4  # subnormal in fp16
    return x.to(dtype)


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
        # sigma as a tensor is the same arithmetic.
        for dtype in (torch.float32, torch.float64):
            given = torch.tensor(sigma, dtype=dtype)
            want = exactly(x, given.item(), z, scale, bias, out_dtype)
            for tensor in (given.to(device), given.to(device).expand(n)):
                stream = NoiseStream(5, step=6, offset=7, device=device)
                got = instance_noise(x.to(device), tensor, stream=stream, **options)
                assert [Fraction(g) for g in got.double().tolist()] == want


@pytest.mark.parametrize("device", DEVICES)
def test_fp64_is_rounded_to_16_bits_once(device):
    """By way of fp32 a tie of fp32 and then of fp16 would be rounded twice."""
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
def test_sigma_zero_gives_the_scaled_input_and_moves_on(dtype, device):
    x = inputs(1000, dtype).to(device)
    stream = NoiseStream(3, step=9, device=device)
    out = instance_noise(x, 0.0, stream=stream)
    assert out.dtype == (dtype if dtype.is_floating_point else torch.get_default_dtype())
    assert torch.equal(out, x.to(out.dtype))
    out = instance_noise(x, torch.zeros((), device=device), stream=stream, scale=2.0, bias=0.5)
    m = math_type(out.dtype)
    assert torch.equal(out, (x.to(m) * 2 + 0.5).to(out.dtype))
    assert stream.step == 11


def test_integers_get_the_default_dtype():
    before = torch.get_default_dtype()
    x = torch.zeros(4, dtype=torch.uint8)
    try:
        for dtype in FLOATS:
            torch.set_default_dtype(dtype)
            assert instance_noise(x, 1.0, stream=NoiseStream(0)).dtype == dtype
    finally:
        torch.set_default_dtype(before)


# --- the same bits everywhere ----------------------------------------------------------------------


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
                instance_noise(x, sigma, stream=stream, scale=0.3, bias=-1.0, dtype=out_dtype)
                for sigma in (0.7, sigmas)
            ]
            assert stream.step == 0
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
def test_pieces_make_the_whole(dtype, device):
    """Ranks that pass the offset of their first element draw what one process would."""
    x = inputs(10_000, dtype).to(device)
    whole = instance_noise(x, 0.5, stream=NoiseStream(3, step=4, offset=11, device=device))
    for cuts in ([0, 5000, 10_000], [0, 1, 2, 5, 259, 260, 777, 8193, 10_000]):
        pieces = []
        for begin, end in itertools.pairwise(cuts):
            stream = NoiseStream(3, step=4, offset=11 + begin, device=device)
            pieces.append(instance_noise(x[begin:end], 0.5, stream=stream))
        assert torch.equal(torch.cat(pieces), whole)


SHAPE = (4, 6, 5, 7)
LAYOUTS = {
    "contiguous": lambda x: x.clone(),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0),
    "batch last": lambda x: x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
    "sliced": lambda x: torch.stack([x, torch.full_like(x, 99)], -1)[..., 0],
    "sliced rows": lambda x: torch.cat([x, torch.full_like(x, 99)], 1)[:, : x.shape[1]],
    "expanded": lambda x: x[:, :1].expand(x.shape),
    "misaligned": lambda x: torch.cat([x.flatten()[:1], x.flatten()])[1:].view(x.shape),
}


def in_memory_order(x):
    """The elements of a dense tensor as they lie in memory."""
    order = sorted(range(x.dim()), key=lambda d: -x.stride(d))
    return x.permute(order).flatten()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", INPUTS)
def test_layouts(dtype, layout, device):
    """The noise lies in memory order, whatever the layout; the result has x's, as empty_like would."""
    x = LAYOUTS[layout](inputs(math.prod(SHAPE), dtype).view(SHAPE).to(device))
    out_dtype = dtype if dtype.is_floating_point else torch.float32
    out = instance_noise(x, 0.5, stream=NoiseStream(8, step=1, offset=3, device=device))
    assert out.stride() == torch.empty_like(x).stride() and out.dtype == out_dtype
    dense = torch.empty_like(x).copy_(x)
    stream = NoiseStream(8, step=1, offset=3, device=device)
    flat = instance_noise(in_memory_order(dense), 0.5, stream=stream)
    assert torch.equal(in_memory_order(out), flat)

    # out= takes any layout; the noise is that of x's memory order all the same.
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
        if name == "strided":  # nothing beside it is touched
            assert (target._base[..., 0] == 7).all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_every_dtype_gets_the_same_noise(dtype, device):
    z = z_of(500, 4, device=device)
    zeros = torch.zeros(500, dtype=dtype, device=device)
    out = instance_noise(zeros, 1.0, stream=NoiseStream(4, device=device))
    assert torch.equal(out, z.to(dtype))


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
        # z in the memory order of the result, whose samples lie one after another.
        unit = NoiseStream(5, device=device)
        z = instance_noise(torch.zeros_like(out), 1.0, stream=unit)
        for k, own in enumerate(sigma.float().tolist()):
            fma = (x[k].double() + own * z[k].double()).float()  # exact product, rounded twice
            torch.testing.assert_close(out[k], fma, rtol=2.0**-23, atol=0)
        assert torch.equal(out[1], x[1])
    # One value for all is the same bits as a number, where samples lie one after another anyway.
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
    # One in host memory is welcome too: reading it waits for nothing.
    for tensor in (torch.tensor(0.25, device=device), torch.tensor(0.25)):
        assert torch.equal(instance_noise(x, tensor, stream=NoiseStream(2, device=device)), number)
    assert torch.equal(instance_noise(x[0], 0.25, stream=NoiseStream(2, device=device)), number[0])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(0,), (0, 3, 8, 8), (2, 0)])
def test_empty_tensor_moves_on(shape, device):
    for sigma in (0.5, torch.tensor(0.5, device=device), torch.rand(shape[0], device=device)):
        stream = NoiseStream(2, step=5, device=device)
        x = torch.zeros(shape, device=device, requires_grad=True)
        out = instance_noise(x, sigma, stream=stream)
        assert out.shape == shape and stream.step == 6
        out.sum().backward()
        assert x.grad.shape == shape
        instance_noise(x.detach(), sigma, stream=stream, out=torch.zeros(shape, device=device))
        assert stream.step == 7


# --- derivatives -----------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("out_dtype", FLOATS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_gradient_of_x_is_the_scaled_gradient(dtype, out_dtype, device):
    x = torch.randn(6, 4, device=device).to(dtype).t().requires_grad_()
    for sigma in (0.5, torch.tensor(0.5, device=device, requires_grad=True)):
        out = instance_noise(
            x, sigma, stream=NoiseStream(1, device=device), scale=0.25, dtype=out_dtype
        )
        grad = torch.randn(4, 6, device=device).to(out_dtype)
        (got,) = torch.autograd.grad(out, x, grad)
        assert got.dtype == dtype
        assert torch.equal(got, (grad * 0.25).to(dtype))


def exact_dot(grad, z):
    return math.fsum(a * b for a, b in zip(grad.tolist(), z.tolist(), strict=True))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("grad_layout", ["contiguous", "like x", "expanded", "batch last"])
def test_gradient_of_sigma(grad_layout, layout, device):
    """sum of grad * z, with the z that each element got, however x and grad lie in memory."""
    x = LAYOUTS[layout](torch.randn(SHAPE, device=device))
    grad = LAYOUTS[layout if grad_layout == "like x" else grad_layout](
        torch.randn(SHAPE, device=device)
    )
    for shape in ((), SHAPE[:1]):
        for dtype in (torch.float32, torch.float64):
            sigma = torch.rand(shape, dtype=dtype, device=device, requires_grad=True)
            stream = NoiseStream(9, step=3, offset=5, device=device)
            out = instance_noise(x, sigma, stream=stream)
            assert stream.step == 4
            unit = NoiseStream(9, step=3, offset=5, device=device)
            z = instance_noise(torch.zeros_like(out), 1.0, stream=unit)
            assert z.stride() == out.stride()
            (got,) = torch.autograd.grad(out, sigma, grad)
            assert got.dtype == dtype and got.shape == shape
            pairs = zip(grad, z, strict=True) if shape else [(grad, z)]
            for value, (g, normal) in zip(got.flatten().tolist(), pairs, strict=True):
                g, normal = g.flatten().double().cpu(), normal.flatten().double().cpu()
                want = exact_dot(g, normal)
                # fp64 sums of exact products, rounded to fp32.
                own = 2.0**-24 * abs(want) + g.numel() * 2.0**-53 * (g * normal).abs().sum().item()
                assert abs(value - want) <= own


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", [1, 257, 16_384, 100_003])
def test_gradient_of_sigma_of_every_dtype_and_size(n, dtype, device):
    x = torch.zeros(n, dtype=dtype, device=device)
    sigma = torch.tensor(0.5, device=device, dtype=math_type(dtype), requires_grad=True)
    out = instance_noise(x, sigma, stream=NoiseStream(9, offset=3, device=device))
    grad = inputs(n, dtype).to(device)
    out.backward(grad)
    g, z = grad.double().cpu(), z_of(n, 9, offset=3).double()
    want = exact_dot(g, z)
    rounding = abs(want) * torch.finfo(math_type(dtype)).eps / 2
    assert abs(sigma.grad.item() - want) <= rounding + n * 2.0**-53 * (g * z).abs().sum().item()


@pytest.mark.parametrize("device", DEVICES)
def test_gradient_of_sigma_of_no_samples(device):
    sigma = torch.rand(0, device=device, requires_grad=True)
    x = torch.zeros(0, 3, device=device)
    instance_noise(x, sigma, stream=NoiseStream(9, device=device)).sum().backward()
    assert sigma.grad.shape == (0,)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "batch last"])
@pytest.mark.parametrize("sigma_shape", [(), (2,)])
def test_gradcheck(sigma_shape, layout, device):
    x = LAYOUTS[layout](torch.randn(2, 3, 2, 2, dtype=torch.float64, device=device))
    x.requires_grad_()
    sigma = torch.rand(sigma_shape, dtype=torch.float64, device=device, requires_grad=True)
    state = torch.tensor([3, 4], device=device)

    def function(x, sigma):
        return noise_at(x, sigma, 0.0, state, 5, 1.5, 0.25, None)

    assert torch.autograd.gradcheck(function, (x, sigma))
    assert torch.autograd.gradgradcheck(function, (x, sigma))


@pytest.mark.parametrize("device", DEVICES)
def test_backward_draws_the_step_of_its_forward(device):
    """Later draws, and later gradients, do not disturb an earlier one."""
    stream = NoiseStream(4, device=device)
    sigma = torch.tensor(0.5, device=device, requires_grad=True)
    outs = [instance_noise(torch.zeros(300, device=device), sigma, stream=stream) for _ in range(3)]
    for step in (2, 0, 1):
        (got,) = torch.autograd.grad(outs[step].sum(), sigma)
        z = z_of(300, 4, step, device=device)
        torch.testing.assert_close(got, z.double().sum().float())


@pytest.mark.parametrize("device", DEVICES)
def test_writing_to_out_is_seen_by_autograd(device):
    """A gradient that needs what out= has overwritten is an error, not a wrong number."""
    w = torch.randn(4, device=device, requires_grad=True)
    kept = w.exp()  # its gradient is itself
    with torch.no_grad():
        instance_noise(kept, 0.5, stream=NoiseStream(1, device=device), out=kept)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        kept.sum().backward()


def test_no_grad_keeps_nothing():
    x = torch.randn(4, requires_grad=True)
    sigma = torch.tensor(0.5, requires_grad=True)
    with torch.no_grad():
        assert not instance_noise(x, sigma, stream=NoiseStream(1)).requires_grad
    with torch.inference_mode():
        assert not instance_noise(x, sigma, stream=NoiseStream(1)).requires_grad
    assert instance_noise(x, 0.5, stream=NoiseStream(1)).requires_grad
    assert instance_noise(x.detach(), sigma, stream=NoiseStream(1)).requires_grad


# --- where the noise comes from --------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
def test_without_a_stream_torch_seeds_the_run(device):
    x = torch.zeros(1000, device=device)
    torch.manual_seed(5)
    first, second = instance_noise(x, 1.0), instance_noise(x, 1.0)
    assert not torch.equal(first, second)
    torch.manual_seed(5)
    assert torch.equal(instance_noise(x, 1.0), first)
    assert torch.equal(instance_noise(x, 1.0), second)
    torch.manual_seed(6)
    assert not torch.equal(instance_noise(x, 1.0), first)


@pytest.mark.parametrize("device", DEVICES)
def test_generator(device):
    x = torch.zeros(1000, device=device)
    default = torch.get_rng_state()
    generator = torch.Generator(device).manual_seed(5)
    first, second = (instance_noise(x, 1.0, generator=generator) for _ in range(2))
    assert not torch.equal(first, second)
    again = torch.Generator(device).manual_seed(5)
    assert torch.equal(instance_noise(x, 1.0, generator=again), first)
    assert torch.equal(torch.get_rng_state(), default)


@pytest.mark.parametrize("device", DEVICES)
def test_a_stream_does_not_touch_torchs_generators(device):
    default = torch.get_rng_state()
    instance_noise(torch.zeros(10, device=device), 1.0, stream=NoiseStream(1, device=device))
    assert torch.equal(torch.get_rng_state(), default)


@pytest.mark.parametrize("device", DEVICES)
def test_stream_counts_its_draws(device):
    stream = NoiseStream(TOP, step=TOP - 1, offset=7, device=device)
    assert (stream.seed, stream.step, stream.offset) == (TOP, TOP - 1, 7)
    assert stream.device.type == device and stream.state.dtype == torch.int64
    x = torch.zeros(5, device=device)
    sigma = torch.tensor(1.0, device=device, requires_grad=True)
    draws = [
        instance_noise(x, 1.0, stream=stream),
        instance_noise(x, sigma.detach(), stream=stream),
        instance_noise(x, sigma, stream=stream),  # differentiable
        instance_noise(x, 1.0, stream=stream, out=torch.empty_like(x)),
    ]
    assert (stream.seed, stream.step, stream.offset) == (TOP, 2, 7)
    for step, draw in zip((TOP - 1, TOP, 0, 1), draws, strict=True):
        assert torch.equal(draw, z_of(5, TOP, step, 7, device))


@pytest.mark.parametrize("device", DEVICES)
def test_state_dict_continues_bit_for_bit(device):
    x = torch.randn(100, device=device)
    stream = NoiseStream(2**63 + 1, step=2**63 - 1, offset=9, device=device)
    instance_noise(x, 1.0, stream=stream)
    saved = stream.state_dict()
    assert saved == {"seed": 2**63 + 1, "step": 2**63, "offset": 9}
    want = instance_noise(x, 1.0, stream=stream)
    restored = NoiseStream(0, device=device)
    memory = restored.state.data_ptr()
    restored.load_state_dict(saved)
    assert restored.device == stream.device
    assert torch.equal(instance_noise(x, 1.0, stream=restored), want)
    assert saved["step"] == 2**63  # a copy, not a view of the stream
    # In the same memory, which captured graphs read.
    assert restored.state.data_ptr() == memory


def test_stream_can_be_copied_and_printed():
    stream = NoiseStream(5, step=2, offset=1)
    twin = copy.deepcopy(stream)
    instance_noise(torch.zeros(3), 1.0, stream=twin)
    assert (stream.step, twin.step) == (2, 3)
    assert repr(stream) == "NoiseStream(seed=5, step=2, offset=1, device='cpu')"


@pytest.mark.parametrize("device", DEVICES)
def test_reference_agrees(device):
    """pygan.reference.instance_noise is the same function, in fp64."""
    x = torch.randn(SHAPE, device=device).to(memory_format=torch.channels_last)
    sigma = torch.rand(SHAPE[0], device=device)
    options = {"scale": 0.5, "bias": 0.1}
    stream = NoiseStream(7, step=8, offset=9, device=device)
    got = pygan.instance_noise(x, sigma, stream=stream, **options)
    want = reference.instance_noise(x, sigma, seed=7, step=8, offset=9, **options)
    # z within RELATIVE, and the roundings of two fma of at most 8 in size.
    assert (got - want).abs().max() <= 8 * (RELATIVE + 2 * 2.0**-24)
