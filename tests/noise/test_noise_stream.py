"""NoiseStream: version 1 of the stream, and the source of noise without a stream.

Two layers, each tested against an independent source: the words (Random123's vectors) and the normals (pygan.reference
in fp64, within a derived bound). The third layer, the arithmetic around them, is tested in test_noise_op.py.
"""

import copy

import pytest
import torch
from helpers import DEVICES
from helpers.noise import SHAPE, TOP, z_of

import pygan
from pygan import _C, NoiseStream, instance_noise, reference

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


# Elements 0 to 63 of seed 0x0123456789abcdef, step 5, offset 2: the bits of version 1 of the stream. Changing any of
# them would break the reproducibility of existing runs.
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


@pytest.mark.parametrize("device", DEVICES)
def test_without_a_stream_torch_manual_seed_is_used(device):
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
def test_a_generator_determines_the_noise_and_the_default_one_is_untouched(device):
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
    assert saved["step"] == 2**63  # a copy, not a view of the state
    # In the same memory, because captured graphs read it.
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
    # z within RELATIVE, and the roundings of two fma with results of at most 8.
    assert (got - want).abs().max() <= 8 * (RELATIVE + 2 * 2.0**-24)
