"""instance_noise of lists, and instance_noise_pair: same noise as consecutive calls for single tensors."""

import pytest
import torch
from helpers import DEVICES, raises
from helpers.noise import INPUTS, LAYOUTS, SHAPE, inputs
from torch.testing._internal import two_tensor

from pygan import NoiseStream, instance_noise, instance_noise_pair

pytestmark = pytest.mark.usefixtures("fresh")


def pyramid(device, batch=3, count=5):
    """Tensors of different shapes, dtypes and layouts."""
    layouts = list(LAYOUTS.values())
    tensors = []
    for k in range(count):
        shape = (batch, 1 + k % 4, 5 + 7 * (k % 3), 3)
        n = torch.Size(shape).numel()
        x = inputs(n, INPUTS[k % len(INPUTS)], seed=k).view(shape)
        tensors.append(layouts[k % len(layouts)](x).to(device))
    return tensors


def sigmas(device, batch=3):
    return {
        "number": 0.5,
        "0-d": torch.tensor(0.3, device=device),
        "per sample": torch.rand(batch, device=device, dtype=torch.float64),
    }


def same(a, b):
    assert (a.dtype, a.shape, a.stride()) == (b.dtype, b.shape, b.stride())
    assert torch.equal(a, b)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", sigmas("cpu"))
@pytest.mark.parametrize("count", [1, 5, 100])
def test_a_list_equals_consecutive_calls(count, kind, device):
    xs, sigma = pyramid(device, count=count), sigmas(device)[kind]
    streams = [NoiseStream(5, step=2**64 - 2, offset=7, device=device) for _ in range(2)]
    options = {"scale": 0.25, "bias": -1.0}
    for dtype in (None, torch.bfloat16):
        together = instance_noise(xs, sigma, stream=streams[0], dtype=dtype, **options)
        assert isinstance(together, list)
        for x, y in zip(xs, together, strict=True):
            alone = instance_noise(x, sigma, stream=streams[1], dtype=dtype, **options)
            same(y, alone)
            assert not torch.equal(y, instance_noise(x, 0.0, dtype=dtype, **options))
    assert streams[0].step == streams[1].step == (2 * count - 2) % 2**64


@pytest.mark.parametrize("device", DEVICES)
def test_list_into_given_tensors(device):
    xs = [x for x in pyramid(device) if x.is_floating_point()]
    streams = [NoiseStream(5, device=device) for _ in range(3)]
    expected = [x.clone() for x in instance_noise(xs, 0.5, stream=streams[0])]
    outs = [torch.empty_like(x) for x in xs]
    returned = instance_noise(tuple(xs), 0.5, stream=streams[1], out=outs)
    for out, back, y in zip(outs, returned, expected, strict=True):
        assert back is out and torch.equal(out, y)
    dense = [x.clone() for x in xs]
    instance_noise(dense, 0.5, stream=streams[2], out=dense)
    for x, y in zip(dense, expected, strict=True):
        assert torch.equal(x, y)


def test_list_without_a_stream():
    xs = pyramid("cpu")
    torch.manual_seed(3)
    a = instance_noise(xs, 0.5)
    torch.manual_seed(3)
    b = instance_noise(xs, 0.5)
    c = instance_noise(xs, 0.5)
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not any(torch.equal(x, y) for x, y in zip(b, c, strict=True))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(), (3,)])
def test_gradients_of_a_list(shape, device):
    xs = [torch.randn(3, n, dtype=torch.float64, device=device) for n in (4, 1, 9)]
    sigma = torch.rand(shape, dtype=torch.float64, device=device, requires_grad=True)
    xs[0].requires_grad_()
    xs[2].requires_grad_()
    plain = instance_noise(xs, sigma.detach(), stream=NoiseStream(1, device=device), scale=3.0)
    assert [y.requires_grad for y in plain] == [True, False, True]
    (alone,) = torch.autograd.grad(plain[2].sum(), xs[2])  # the other gradients are None
    assert torch.equal(alone, torch.full_like(alone, 3.0))

    def noisy(a, b, s):
        return tuple(
            instance_noise([a, xs[1], b], s, stream=NoiseStream(1, device=device), scale=3.0)
        )

    assert torch.autograd.gradcheck(noisy, (xs[0], xs[2], sigma))
    assert torch.autograd.gradgradcheck(noisy, (xs[0], xs[2], sigma))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced", "transposed"])
@pytest.mark.parametrize("kind", ["number", "per sample"])
def test_a_pair_equals_a_batch_of_both(kind, layout, device):
    real = inputs(torch.Size(SHAPE).numel(), torch.uint8).view(SHAPE)
    real = LAYOUTS[layout](real).to(device)
    fake = torch.randn(7, *SHAPE[1:], device=device)
    sigma = 0.5 if kind == "number" else torch.rand(4 + 7, device=device)
    each = [sigma, sigma] if kind == "number" else sigma.split([4, 7])
    streams = [NoiseStream(5, step=9, offset=3, device=device) for _ in range(2)]
    affine = {"scale": 1 / 127.5, "bias": -1.0}
    batch = instance_noise_pair(real, fake, sigma, stream=streams[0], **affine)
    one = instance_noise(real, each[0], stream=streams[1], **affine)
    other = instance_noise(fake, each[1], stream=streams[1])
    assert torch.equal(batch, torch.cat([one, other]))
    assert batch.dtype == torch.float32
    assert streams[0].step == streams[1].step == 11
    channels_last = layout == "channels_last"
    assert batch.is_contiguous(memory_format=torch.channels_last) == channels_last


@pytest.mark.parametrize(
    ("real", "fake", "dtype", "expected"),
    [
        (torch.uint8, torch.bfloat16, None, torch.bfloat16),
        (torch.float16, torch.float32, None, torch.float32),
        (torch.float64, torch.float32, torch.float16, torch.float16),
        (torch.uint8, torch.uint8, None, torch.float32),
    ],
)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_a_learned_sigma_does_not_change_a_pair(real, fake, dtype, expected, layout):
    pair = [inputs(7 * 24, real).view(7, 2, 4, 3), inputs(5 * 24, fake).view(5, 2, 4, 3)]
    pair[0] = LAYOUTS[layout](pair[0])
    sigma = torch.rand(12, dtype=torch.float64)
    plain = instance_noise_pair(*pair, sigma, dtype=dtype, stream=NoiseStream(1))
    sigma.requires_grad_()
    learnt = instance_noise_pair(*pair, sigma, dtype=dtype, stream=NoiseStream(1))
    assert plain.dtype == expected
    same(plain, learnt)


def test_pair_of_a_wrapper_subclass():
    two = two_tensor.TwoTensor(torch.ones(3, 2), torch.zeros(3, 2))
    batch = instance_noise_pair(two, two, 0.0, stream=NoiseStream(1))
    assert torch.equal(batch.a, torch.ones(6, 2)) and torch.equal(batch.b, torch.zeros(6, 2))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("needing", ["fake", "real", "both", "sigma", "sigmas", "all"])
def test_gradients_of_a_pair(needing, device):
    real = torch.randn(2, 3, dtype=torch.float64, device=device)
    fake = torch.randn(4, 3, dtype=torch.float64, device=device)
    sigma = torch.rand(6 if needing == "sigmas" else (), dtype=torch.float64, device=device)
    real.requires_grad_(needing in ("real", "both", "all"))
    fake.requires_grad_(needing in ("fake", "both", "all"))
    sigma.requires_grad_(needing in ("sigma", "sigmas", "all"))

    def batch(real, fake, sigma):
        stream = NoiseStream(1, device=device)
        return instance_noise_pair(real, fake, sigma, stream=stream, scale=3.0)

    assert torch.autograd.gradcheck(batch, (real, fake, sigma))
    assert torch.autograd.gradgradcheck(batch, (real, fake, sigma))


PAIRS = {
    "real list": ({"real": [torch.ones(2, 3)]}, TypeError, "real must be a tensor, got a list of length 1"),
    "fake None": ({"fake": None}, TypeError, "fake must be a tensor, got NoneType"),
    "fake of longs": ({"fake": torch.ones(2, 3).long()}, TypeError,
                      "fake must be float32, float64, float16, bfloat16 or uint8, got torch.int64"),
    "samples of unlike shape": (
        {"fake": torch.ones(2, 4)}, ValueError,
        "fake must have samples of the shape of real's, [2, 3], got [2, 4]"),
    "no samples": ({"real": torch.ones(()), "fake": torch.ones(())}, ValueError,
                   "real must be a batch of samples, (N, ...), got a 0-d tensor"),
    "fake elsewhere": ({"fake": torch.ones(2, 3, device="meta")}, ValueError,
                       "fake must be on the device of real, cpu, got meta"),
    "sigma of one half": ({"sigma": torch.ones(2)}, ValueError,
                          "sigma must be a number, a 0-d tensor or one value per sample of real and "
                          "fake, shape [4], got shape [2]"),
    "sigma negative": ({"sigma": -1.0}, ValueError, "sigma must be finite and not negative, got -1"),
    "scale 0-d": ({"scale": torch.tensor(2.0)}, ValueError,
                  "scale must be a number (for real alone) or one value per sample of real and fake, "
                  "shape [4], got shape []"),
    "scale of one half": ({"scale": torch.ones(2)}, ValueError,
                          "scale must be a number (for real alone) or one value per sample of real "
                          "and fake, shape [4], got shape [2]"),
    "scale": ({"scale": "2"}, TypeError, "scale must be a number, got str"),
    "dtype": ({"dtype": torch.long}, TypeError, "dtype must be float32, float64, float16 or "),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_invalid_pairs_are_refused(name):
    change, error, message = PAIRS[name]
    arguments = {"real": torch.ones(2, 3), "fake": torch.ones(2, 3), "sigma": 0.5} | change
    stream = NoiseStream(5)
    with raises(error, "pygan.instance_noise_pair: " + message):
        instance_noise_pair(**arguments, stream=stream)
    assert stream.step == 0


def allocated(function):
    """Number of bytes that a call allocates, according to PyTorch."""
    with torch.profiler.profile(profile_memory=True) as profile:
        function()
    sizes = [event.self_cpu_memory_usage for event in profile.events()]
    return sum(size for size in sizes if size > 0)


def test_allocated_memory():
    """Only the output is allocated; a pair avoids the copies of concatenation."""
    stream, sigma = NoiseStream(1), torch.rand(64)
    real = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    fake = torch.randn(64, 3, 32, 32)
    n = fake.numel()
    call = {"stream": stream, "scale": 1 / 127.5, "bias": -1.0}
    assert allocated(lambda: instance_noise(fake, 0.5, stream=stream)) == 4 * n
    assert allocated(lambda: instance_noise(real, sigma, dtype=torch.bfloat16, **call)) == 2 * n
    assert allocated(lambda: instance_noise(fake, 0.5, stream=stream, out=fake)) == 0
    assert allocated(lambda: instance_noise([fake, fake], sigma, stream=stream)) == 8 * n
    assert allocated(lambda: instance_noise(fake, sigma, stream=stream, scale=sigma)) == 4 * n
    alike = {"stream": stream, "same_noise": True}
    assert allocated(lambda: instance_noise([fake, fake], sigma, **alike)) == 8 * n
    assert allocated(lambda: instance_noise_pair(real, fake, 0.5, **call)) == 8 * n
    two_calls = allocated(
        lambda: torch.cat([instance_noise(real, 0.5, **call), instance_noise(fake, 0.5)])
    )
    assert two_calls >= 16 * n
