"""pygan.reference against things it did not come from: published vectors, textbook formulas, exact oracles."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from pygan import reference
from pygan.fused_losses import LossStats

WORD = st.integers(0, 2**32 - 1)
UINT64 = st.integers(0, 2**64 - 1)
# A busy machine must not fail a test, and the examples are the same in every run.
PROPERTY = settings(deadline=None, derandomize=True, max_examples=40)
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def python_philox(counter, key):
    """Philox4x32-10 in Python integers, which cannot overflow."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (
            p1 >> 32 ^ c1 ^ k0,
            p1 & 0xFFFFFFFF,
            p0 >> 32 ^ c3 ^ k1,
            p0 & 0xFFFFFFFF,
        )
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return [c0, c1, c2, c3]


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 " * 4, "00000000 " * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff " * 4, "ffffffff " * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            "243f6a88 85a308d3 13198a2e 03707344",
            "a4093822 299f31d0",
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_known_answers_of_random123(counter, key, expected):
    counter, key, expected = (
        torch.tensor([int(word, 16) for word in words.split()])
        for words in (counter, key, expected)
    )
    assert torch.equal(reference.philox4x32(counter, key), expected)


@PROPERTY
@given(
    counters=st.lists(st.lists(WORD, min_size=4, max_size=4), min_size=1, max_size=5),
    key=st.lists(WORD, min_size=2, max_size=2),
)
def test_philox_agrees_with_python_integers(counters, key):
    words = reference.philox4x32(torch.tensor(counters), torch.tensor(key))
    assert words.tolist() == [python_philox(counter, key) for counter in counters]


@PROPERTY
@given(seed=UINT64, step=UINT64, element=st.integers(0, 2**60))
def test_normal_is_the_published_formula(seed, step, element):
    c = element // 4
    split = lambda value: [value % 2**32, value >> 32]  # noqa: E731
    words = python_philox(split(c) + split(step), split(seed))
    pair = words[0:2] if element % 4 < 2 else words[2:4]
    angle = 2 * math.pi * pair[1] / 2**32
    turn = math.sin(angle) if element % 2 else math.cos(angle)
    u = np.float32(np.float32(pair[0]) / np.float32(2**32) + np.float32(2**-33))
    z = math.sqrt(-2 * math.log(u)) * turn
    assert reference.normal(seed, step, element, 1).item() == pytest.approx(z, rel=1e-12, abs=1e-12)


@PROPERTY
@given(offset=st.integers(0, 2**40), skip=st.integers(0, 9), n=st.integers(0, 20))
def test_normal_is_a_function_of_the_element_index(offset, skip, n):
    whole = reference.normal(1, 2, offset, skip + n)
    assert torch.equal(reference.normal(1, 2, offset + skip, n), whole[skip:])


def test_normal_takes_signed_and_unsigned_seeds():
    assert torch.equal(reference.normal(-1, -2, 0, 8), reference.normal(2**64 - 1, 2**64 - 2, 0, 8))


def test_normal_is_normal_and_its_streams_are_unrelated():
    n = 200_000
    z = reference.normal(11, 0, 0, n)
    uniform = torch.special.ndtr(z).sort().values
    grid = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    distance = (uniform - grid).abs().max() * math.sqrt(n)
    assert (
        distance < 1.95
    )  # Kolmogorov-Smirnov: exceeded once in a thousand seeds; this one is fixed
    for other in (
        reference.normal(12, 0, 0, n),
        reference.normal(11, 1, 0, n),
        reference.normal(11, 0, n, n),
    ):
        assert abs((z * other).mean()) < 4.5 / math.sqrt(n)
    assert abs((z[0::2] * z[1::2]).mean()) < 4.5 / math.sqrt(n / 2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_are_the_textbook_cross_entropies(dtype, smoothing):
    real, fake = torch.randn(5, 3).mul(4).to(dtype), torch.randn(7).mul(4).to(dtype)
    r, f = real.double(), fake.double()
    bce = F.binary_cross_entropy_with_logits
    d_loss = bce(r, torch.full_like(r, 1 - smoothing)) + bce(f, torch.zeros_like(f))
    expected = {
        "non_saturating": (d_loss, bce(f, torch.ones_like(f))),
        "minimax": (d_loss, torch.log1p(-f.sigmoid()).mean()),
    }
    assert set(expected) == set(reference.LOSSES)
    for loss, (d, g) in expected.items():
        ours = reference.discriminator_loss(real, fake, loss=loss, label_smoothing=smoothing)
        torch.testing.assert_close(ours.double(), d, rtol=3e-7, atol=0)
        ours = reference.generator_loss(fake, loss=loss)
        torch.testing.assert_close(ours.double(), g, rtol=3e-7, atol=0)
        assert ours.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("loss", reference.LOSSES)
def test_derivatives(loss):
    real = torch.tensor([-30.0, -2, 0, 1, 25], dtype=torch.float64, requires_grad=True)
    fake = torch.tensor([[-30.0, 0], [3, 30]], dtype=torch.float64, requires_grad=True)

    def d(r, f):
        return reference.discriminator_loss(r, f, loss=loss, label_smoothing=0.1)

    def g(f):
        return reference.generator_loss(f, loss=loss, reduction="none")

    for function, inputs in ((d, (real, fake)), (g, (fake,))):
        assert torch.autograd.gradcheck(function, inputs)
        assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("loss", reference.LOSSES)
def test_extreme_logits(loss):
    inf = math.inf
    fake = torch.tensor([1e4, -1e4, inf, -inf, math.nan], dtype=torch.float64, requires_grad=True)
    terms = reference.generator_loss(fake, loss=loss, reduction="none")
    (grad,) = torch.autograd.grad(terms.sum(), fake, create_graph=True)
    (second,) = torch.autograd.grad(grad[:4].sum(), fake)
    if loss == "non_saturating":
        expected, slope = [0, 1e4, 0, inf], [0, -1, 0, -1]
    else:
        expected, slope = [-1e4, 0, -inf, 0], [-1, 0, -1, 0]
    assert terms[:4].tolist() == expected
    assert terms[4].isnan()
    assert grad[:4].tolist() == slope
    assert grad[4].isnan()
    assert second[:4].tolist() == [0, 0, 0, 0]
    stats = reference.discriminator_loss(torch.zeros(2), fake, loss=loss, return_stats=True)[1]
    assert stats.nonfinite == 3
    assert stats.fake_logit.isnan()
    assert stats.fake_accuracy == 2 / 5


@PROPERTY
@given(
    counts=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6),
    error=st.floats(-3, 3),
)
def test_jsd_bound_is_the_divergence_at_the_optimal_discriminator(counts, error):
    """Two discrete distributions, given by how often each point was seen: the optimal logit is log p / q."""
    p = torch.tensor([c[0] for c in counts], dtype=torch.float64)
    q = torch.tensor([c[1] for c in counts], dtype=torch.float64)
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    jsd = ((p * (p / middle).log()).sum() + (q * (q / middle).log()).sum()) / 2

    def bound(logits, smoothing=0.0):
        real = logits.repeat_interleave(torch.tensor([c[0] for c in counts]))
        fake = logits.repeat_interleave(torch.tensor([c[1] for c in counts]))
        loss, stats = reference.discriminator_loss(
            real, fake, label_smoothing=smoothing, return_stats=True
        )
        if not smoothing:
            torch.testing.assert_close(stats.jsd_bound, math.log(2) - loss / 2)
        return stats.jsd_bound

    best = (p / q).log()
    torch.testing.assert_close(bound(best), jsd, rtol=1e-9, atol=1e-12)
    assert bound(best + error) <= jsd + 1e-12
    # Smoothing changes what is optimised, not what is a bound.
    assert torch.equal(bound(best + error, smoothing=0.3), bound(best + error))


def test_statistics():
    real = torch.tensor([[2.0, -1.0], [0.0, 3.0]])
    fake = torch.tensor([-2.0, 0.0, 1.0])
    _, stats = reference.discriminator_loss(real, fake, return_stats=True)
    assert isinstance(stats, LossStats)
    assert stats.real_logit == 1
    torch.testing.assert_close(stats.fake_logit, torch.tensor(-1 / 3))
    torch.testing.assert_close(stats.d_real, real.sigmoid().mean())
    torch.testing.assert_close(stats.d_fake, fake.sigmoid().mean())
    # A logit of exactly 0 is neither real nor fake.
    assert stats.real_accuracy == 0.5
    torch.testing.assert_close(stats.fake_accuracy, torch.tensor(1 / 3))
    assert stats.real_sign == 0.25
    assert stats.nonfinite == 0
    assert all(value.shape == () and not value.requires_grad for value in stats)
    _, stats = reference.generator_loss(fake, return_stats=True)
    torch.testing.assert_close(stats.fake_logit, torch.tensor(-1 / 3))
    torch.testing.assert_close(stats.fake_accuracy, torch.tensor(1 / 3))
    for name in ("real_logit", "d_real", "real_accuracy", "real_sign", "jsd_bound"):
        assert getattr(stats, name).isnan()
    with pytest.raises(ValueError, match=r"generator_loss: real_logits must be None .* got Tensor"):
        reference.generator_loss(fake, real_logits=real)


def test_reductions():
    real, fake = torch.randn(2, 3, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    real_terms, fake_terms = reference.discriminator_loss(real, fake, reduction="none")
    assert (real_terms.shape, fake_terms.shape) == (real.shape, fake.shape)
    mean = reference.discriminator_loss(real, fake)
    torch.testing.assert_close(real_terms.mean() + fake_terms.mean(), mean)
    total = reference.discriminator_loss(real, fake, reduction="sum")
    torch.testing.assert_close(real_terms.sum() + fake_terms.sum(), total)
    assert reference.generator_loss(fake[:0], reduction="sum") == 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(loss="hing"), ValueError, "loss must be one of non_saturating, minimax, got 'hing'"),
        (dict(reduction="max"), ValueError, "reduction must be 'mean', 'sum' or 'none', got 'max'"),
        (dict(label_smoothing=1.5), ValueError, "label_smoothing must be from 0 to 1, got 1.5"),
        (dict(real_logits=torch.zeros(0)), ValueError, r"real_logits must not be empty .* \(0,\)"),
        (
            dict(fake_logits=torch.zeros(2, dtype=torch.int64)),
            TypeError,
            "fake_logits must be a floating tensor, got torch.int64",
        ),
    ],
)
def test_errors(arguments, error, message):
    call = {"real_logits": torch.zeros(2), "fake_logits": torch.zeros(2), **arguments}
    with pytest.raises(error, match="discriminator_loss: " + message):
        reference.discriminator_loss(call.pop("real_logits"), call.pop("fake_logits"), **call)


@PROPERTY
@given(shape=st.lists(st.integers(1, 4), min_size=4, max_size=4), offset=st.integers(0, 99))
def test_instance_noise_counts_in_memory_order(shape, offset):
    z = reference.normal(3, 4, offset, math.prod(shape))
    plain = torch.zeros(shape, dtype=torch.float64)
    out = reference.instance_noise(plain, 1.0, seed=3, step=4, offset=offset)
    assert torch.equal(out.flatten(), z)
    last = plain.to(memory_format=torch.channels_last)
    out = reference.instance_noise(last, 1.0, seed=3, step=4, offset=offset)
    samples, channels, height, width = shape
    assert torch.equal(out, z.view(samples, height, width, channels).permute(0, 3, 1, 2))


@pytest.mark.parametrize("dtype", DTYPES)
def test_instance_noise_scales_and_rounds_once(dtype):
    x = torch.randint(0, 256, (3, 5), dtype=torch.uint8)
    sigma = torch.tensor([0.0, 0.5, 2.0])
    z = reference.normal(1, 0, 0, 15).view(3, 5)
    exact = x.double() / 128 - 1 + sigma.double()[:, None] * z
    out = reference.instance_noise(x, sigma, seed=1, step=0, scale=1 / 128, bias=-1.0, dtype=dtype)
    assert torch.equal(out, exact.to(dtype))
    assert reference.instance_noise(x, 0.1, seed=1, step=0).dtype == torch.get_default_dtype()


def test_instance_noise_derivatives():
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    sigma = torch.rand(3, dtype=torch.float64, requires_grad=True)

    def noise(x, sigma):
        return reference.instance_noise(x, sigma, seed=1, step=0, scale=0.5)

    assert torch.autograd.gradcheck(noise, (x, sigma))
