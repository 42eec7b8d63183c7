"""instance_noise with a tensor as scale: one value, or one per sample, as in diffusion models."""

import itertools

import pytest
import torch
from helpers import DEVICES, FLOATS
from helpers.noise import INPUTS, LAYOUTS, SHAPE, inputs
from helpers.sync import NoSync

from pygan import NoiseStream, instance_noise, instance_noise_pair, reference

pytestmark = pytest.mark.usefixtures("fresh")


def at(offset=0, device="cpu"):
    return NoiseStream(5, step=6, offset=offset, device=device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("out_dtype", FLOATS)
@pytest.mark.parametrize("in_dtype", INPUTS)
def test_scale_per_sample_equals_a_call_per_sample(in_dtype, out_dtype, device):
    """Calls with a number are tested exactly in test_noise_op.py."""
    for shape in [(5, 2, 31), (3, 1500), (260,)]:
        x = inputs(torch.Size(shape).numel(), in_dtype).view(shape).to(device)
        n = x[0].numel()
        for dtype, kind in itertools.product((torch.float32, torch.float64), ("each", "one", 0.1)):
            scale = torch.linspace(-1, 1 / 3, len(x), dtype=dtype, device=device)
            sigma = {
                "each": torch.linspace(0, 1, len(x), device=device),
                "one": torch.tensor(0.3, dtype=torch.float64, device=device),
            }.get(kind, kind)
            got = instance_noise(
                x, sigma, stream=at(7, device), scale=scale, bias=-1.0, dtype=out_dtype
            )
            for k in range(0, len(x), 1 + len(x) // 7):
                own = sigma[k].item() if kind == "each" else sigma
                want = instance_noise(
                    *(x[k], own),
                    stream=at(7 + k * n, device),
                    scale=scale[k].item(),
                    bias=-1.0,
                    dtype=out_dtype,
                )
                assert torch.equal(got[k], want)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scale_of_one_value_equals_the_number(dtype, device):
    x = torch.randn(5, 300, device=device)
    scale = torch.tensor(0.3, dtype=dtype)
    for sigma in (0.5, torch.tensor(0.5, device=device), torch.rand(5, device=device)):
        want = instance_noise(x, sigma, stream=at(0, device), scale=scale.item(), bias=2.0)
        # A tensor in host memory is accepted too, as for sigma: reading it does not synchronize.
        for given in (scale.to(device), scale, scale.to(device).expand(5)):
            got = instance_noise(x, sigma, stream=at(0, device), scale=given, bias=2.0)
            assert torch.equal(got, want)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", [0.5, "0-d", "per sample"])
def test_scale_per_sample_in_every_layout(kind, layout, device):
    x = LAYOUTS[layout](torch.randn(SHAPE, device=device))
    rows = torch.rand(SHAPE[0], 2, dtype=torch.float64, device=device)
    scale = rows[:, 0]  # strided
    sigma = {"0-d": rows[0, 1], "per sample": rows[:, 1]}.get(kind, kind)
    out = instance_noise(x, sigma, stream=at(0, device), scale=scale)
    assert out.stride(0) == out[0].numel()  # samples are contiguous, as for sigma per sample
    z = instance_noise(torch.zeros_like(out), 1.0, stream=at(0, device))
    sigmas = torch.as_tensor(sigma, device=device).expand(SHAPE[0])
    want = x.double() * scale.view(-1, 1, 1, 1) + sigmas.view(-1, 1, 1, 1) * z.double()
    torch.testing.assert_close(out.double(), want, rtol=1e-6, atol=1e-6)
    for target in (torch.empty_like(out), torch.empty(*SHAPE, 2, device=device)[..., 0]):
        instance_noise(x, sigma, stream=at(0, device), scale=scale, out=target)
        assert torch.equal(target, out)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0), (1,), (1, 9), (4,), (300, 1), (3, 70_001)])
def test_scale_per_sample_of_any_size(shape, device):
    x = torch.randn(shape, device=device)
    scale = torch.linspace(0.0, 1.0, shape[0], device=device)
    stream = at(0, device)
    out = instance_noise(x, 0.5, stream=stream, scale=scale)
    want = reference.instance_noise(x, 0.5, seed=5, step=6, scale=scale)
    assert out.shape == shape and stream.step == 7
    torch.testing.assert_close(out, want, rtol=1e-5, atol=1e-5)
    alone = instance_noise(x, 0.5, stream=at(0, device), scale=scale, out=x.clone())
    assert torch.equal(alone, out)


def test_forward_process_of_a_diffusion_model():
    """sqrt(abar_t) x + sqrt(1 - abar_t) z, with a different t for each sample."""
    abar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    t = torch.tensor([0, 10, 500, 999])
    x = torch.randn(4, 3, 8, 8)
    noisy = instance_noise(x, (1 - abar[t]).sqrt(), scale=abar[t].sqrt(), stream=at())
    z = reference.normal(5, 6, 0, x.numel()).view_as(x)
    each = abar[t].view(-1, 1, 1, 1)
    want = each.sqrt() * x + (1 - each).sqrt() * z
    torch.testing.assert_close(noisy, want.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_scale_of_lists_equals_consecutive_calls(device):
    xs = [inputs(3 * n, d).view(3, n).to(device) for n, d in zip((4, 1, 90), INPUTS, strict=False)]
    factors = [torch.rand(3, device=device), torch.tensor(0.3, device=device), 0.5]
    for sigma, scale in itertools.product(factors, factors):
        streams = [at(3, device) for _ in range(3)]
        together = instance_noise(xs, sigma, stream=streams[0], scale=scale)
        into = [torch.empty_like(y) for y in together]
        instance_noise(xs, sigma, stream=streams[1], scale=scale, out=into)
        for x, y, out in zip(xs, together, into, strict=True):
            want = instance_noise(x, sigma, stream=streams[2], scale=scale)
            assert torch.equal(y, want) and torch.equal(out, want)
        assert streams[0].step == streams[1].step == streams[2].step


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("learnt", [False, True])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "transposed"])
def test_scale_of_a_pair_applies_to_both(layout, learnt, device):
    real = LAYOUTS[layout](inputs(840, torch.uint8).view(SHAPE)).to(device)
    fake = torch.randn(7, *SHAPE[1:], device=device)
    scale = torch.rand(4 + 7, device=device, requires_grad=learnt)
    one, other = scale.split([4, 7])
    stream, alone = at(3, device), at(3, device)
    batch = instance_noise_pair(real, fake, 0.5, stream=stream, scale=scale, bias=-1.0)
    each = [
        instance_noise(real, 0.5, stream=alone, scale=one, bias=-1.0),
        instance_noise(fake, 0.5, stream=alone, scale=other),
    ]
    assert torch.equal(batch, torch.cat(each)) and stream.step == alone.step == 8


def test_each_rank_scales_its_samples():
    x, scale = torch.randn(6, 5), torch.rand(6)
    whole = instance_noise(x, 0.5, stream=NoiseStream(7), scale=scale)
    halves = [
        instance_noise(part, 0.5, stream=NoiseStream.for_rank(7, rank, 2), scale=own)
        for rank, (part, own) in enumerate(zip(x.chunk(2), scale.chunk(2), strict=True))
    ]
    assert torch.equal(whole, torch.cat(halves))


def test_a_scale_on_the_device_does_not_synchronize():
    x, scale = torch.randn(4, 3, device="meta", requires_grad=True), torch.rand(4, device="meta")
    stream = NoiseStream(7, device="meta")
    with NoSync():
        for sigma in (0.5, scale[0], scale):
            for given in (scale, scale[0], scale.clone().requires_grad_()):
                instance_noise(x, sigma, stream=stream, scale=given).sum().backward()
            each = torch.cat([scale, scale])
            instance_noise_pair(x, x, 0.5, stream=stream, scale=each, same_noise=True)


def test_scale_without_a_stream():
    x, scale = torch.randn(4, 9), torch.rand(4)
    draws = []
    for _ in range(2):
        torch.manual_seed(3)
        draws.append(instance_noise(x, 0.5, scale=scale))
    assert torch.equal(*draws)


# --- gradients -------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("out_dtype", FLOATS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_gradient_of_x_is_scaled_per_sample(dtype, out_dtype, device):
    """By the given scale, not rounded to a 16-bit gradient dtype."""
    x = torch.randn(6, 4, device=device).to(dtype).t().requires_grad_()
    grad = torch.randn(4, 6, device=device).to(out_dtype)
    math = torch.float64 if torch.float64 in (dtype, out_dtype) else torch.float32
    for scale in (torch.linspace(0.1, 1, 4, device=device), torch.tensor(0.1, device=device)):
        column = scale.to(math).view(-1, 1)
        want = (grad.to(math) * column).to(dtype)
        for sigma in (0.5, torch.tensor(0.5, device=device, requires_grad=True)):
            out = instance_noise(x, sigma, stream=at(0, device), scale=scale, dtype=out_dtype)
            (got,) = torch.autograd.grad(out, x, grad)
            assert got.dtype == dtype
            assert torch.equal(got, want)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.uint8, *FLOATS])
@pytest.mark.parametrize("shape", [(), (4,)])
def test_gradient_of_scale_equals_the_sum(shape, dtype, device):
    x = inputs(4 * 70, dtype).view(4, 7, 10).to(device)
    scale = torch.rand(shape, device=device, requires_grad=True)
    out = instance_noise(x, 0.5, stream=at(0, device), scale=scale)
    grad = torch.randn(x.shape, device=device).to(out.dtype)
    (got,) = torch.autograd.grad(out, scale, grad)
    product = grad.double() * x.double()
    want = product.sum((1, 2)) if shape else product.sum()
    assert got.dtype == torch.float32 and got.shape == shape
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0), (4,), ()])
def test_gradient_of_scale_of_any_size(shape, device):
    x = torch.randn(shape, device=device)
    for size in ((), shape[:1]):
        scale = torch.rand(size, device=device, requires_grad=True)
        out = instance_noise(x, 0.5, stream=at(0, device), scale=scale)
        out.sum().backward()
        assert torch.equal(scale.grad, x if size == shape else x.sum(1) if size else x.sum())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "batch last"])
@pytest.mark.parametrize("scale_shape", [(), (2,)])
@pytest.mark.parametrize("sigma_shape", [(), (2,)])
def test_gradcheck(sigma_shape, scale_shape, layout, device):
    x = LAYOUTS[layout](torch.randn(2, 3, 2, 2, dtype=torch.float64, device=device))
    x.requires_grad_()
    sigma, scale = (
        torch.rand(shape, dtype=torch.float64, device=device, requires_grad=True)
        for shape in (sigma_shape, scale_shape)
    )
    y = torch.randn(2, 5, dtype=torch.float64, device=device, requires_grad=True)

    def of_one(x, sigma, scale):
        return instance_noise(x, sigma, stream=at(0, device), scale=scale)

    def of_x(x):
        return instance_noise(x, 0.5, stream=at(0, device), scale=scale.detach())

    def of_scale(scale):
        return instance_noise(x.detach(), 0.5, stream=at(0, device), scale=scale)

    def of_list(x, y, sigma, scale):
        return tuple(instance_noise([x, y], sigma, stream=at(0, device), scale=scale))

    for function, arguments in (
        (of_one, (x, sigma, scale)),
        (of_x, (x,)),
        (of_scale, (scale,)),
        (of_list, (x, y, sigma, scale)),
    ):
        assert torch.autograd.gradcheck(function, arguments)
        assert torch.autograd.gradgradcheck(function, arguments)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("needing", ["fake", "real", "both", "scale", "all"])
def test_gradients_of_a_pair(needing, device):
    real = torch.randn(2, 3, dtype=torch.float64, device=device)
    fake = torch.randn(4, 3, dtype=torch.float64, device=device)
    scale = torch.rand(6, dtype=torch.float64, device=device)
    real.requires_grad_(needing in ("real", "both", "all"))
    fake.requires_grad_(needing in ("fake", "both", "all"))
    scale.requires_grad_(needing in ("scale", "all"))

    def batch(real, fake, scale):
        return instance_noise_pair(real, fake, 0.5, stream=at(0, device), scale=scale)

    assert torch.autograd.gradcheck(batch, (real, fake, scale))
    assert torch.autograd.gradgradcheck(batch, (real, fake, scale))


@pytest.mark.parametrize("listed", [False, True])
def test_scale_must_not_change_before_the_backward_pass(listed):
    """The gradient of x needs it. (The gradient of sigma draws z again, so sigma may change.)"""
    x, scale = torch.randn(3, 4, requires_grad=True), torch.rand(3)
    out = instance_noise([x] if listed else x, 0.5, stream=at(), scale=scale)
    scale.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        (out[0] if listed else out).sum().backward()


def test_no_grad_saves_nothing():
    x, scale = torch.randn(4), torch.rand(4, requires_grad=True)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert not instance_noise(x, 0.5, stream=at(), scale=scale).requires_grad
    assert instance_noise(x, 0.5, stream=at(), scale=scale).requires_grad


@pytest.mark.parametrize("shape", [(1 << 18,), (1, 1 << 18)], ids=str)
def test_gradient_of_one_scale_has_the_same_bits_for_any_number_of_threads(shape):
    torch.manual_seed(0)
    x, weights = torch.randn(2, *shape)
    before, grads = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            scale = torch.full(() if len(shape) == 1 else (1,), 0.7, requires_grad=True)
            (instance_noise(x, 0.1, scale=scale) * weights).sum().backward()
            grads.append(scale.grad)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(grad, grads[0]) for grad in grads)
    torch.testing.assert_close(
        grads[0].double().sum(), (x.double() * weights.double()).sum(), rtol=1e-5, atol=1e-3
    )
