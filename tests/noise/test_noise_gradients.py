"""instance_noise under autograd: the gradients of x and of sigma, for which the noise is drawn again."""

import math

import pytest
import torch
from helpers import DEVICES, FLOATS, math_type
from helpers.noise import LAYOUTS, SHAPE, inputs, noise_at, z_of

from pygan import NoiseStream, instance_noise


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("out_dtype", FLOATS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_gradient_of_x_is_the_scaled_upstream_gradient(dtype, out_dtype, device):
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
    """The sum of grad * z, with each element's own z, for any layouts of x and grad."""
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
def test_gradient_of_sigma_for_every_dtype_and_size(n, dtype, device):
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
def test_gradient_of_sigma_without_samples(device):
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
        return noise_at(x, sigma, 0.0, None, state, 5, 1.5, 0.25, None)

    assert torch.autograd.gradcheck(function, (x, sigma))
    assert torch.autograd.gradgradcheck(function, (x, sigma))


@pytest.mark.parametrize("device", DEVICES)
def test_backward_uses_the_step_of_its_forward(device):
    """Later draws and gradients do not affect an earlier one."""
    stream = NoiseStream(4, device=device)
    sigma = torch.tensor(0.5, device=device, requires_grad=True)
    outs = [instance_noise(torch.zeros(300, device=device), sigma, stream=stream) for _ in range(3)]
    for step in (2, 0, 1):
        (got,) = torch.autograd.grad(outs[step].sum(), sigma)
        z = z_of(300, 4, step, device=device)
        torch.testing.assert_close(got, z.double().sum().float())


@pytest.mark.parametrize("device", DEVICES)
def test_autograd_detects_writes_to_out(device):
    """If out= has overwritten what a gradient needs, it is an error, not a wrong number."""
    w = torch.randn(4, device=device, requires_grad=True)
    kept = w.exp()  # the gradient is the tensor itself
    with torch.no_grad():
        instance_noise(kept, 0.5, stream=NoiseStream(1, device=device), out=kept)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        kept.sum().backward()


def test_no_grad_saves_nothing():
    x = torch.randn(4, requires_grad=True)
    sigma = torch.tensor(0.5, requires_grad=True)
    with torch.no_grad():
        assert not instance_noise(x, sigma, stream=NoiseStream(1)).requires_grad
    with torch.inference_mode():
        assert not instance_noise(x, sigma, stream=NoiseStream(1)).requires_grad
    assert instance_noise(x, 0.5, stream=NoiseStream(1)).requires_grad
    assert instance_noise(x.detach(), sigma, stream=NoiseStream(1)).requires_grad


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("listed", [False, True])
def test_r1_through_the_noise(listed, device):
    """The penalty on the gradient with respect to the clean samples, and D's gradient, equal plain PyTorch."""
    D = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Softplus(), torch.nn.Linear(16, 1))
    D = D.to(device, torch.float64)
    x = torch.randn(5, 6, dtype=torch.float64, device=device, requires_grad=True)
    sigma = torch.rand(5, dtype=torch.float64, device=device, requires_grad=True)
    z = z_of(x.numel(), 7, 3, device=device).view_as(x).double()

    def fused():
        stream = NoiseStream(7, step=3, device=device)
        if listed:
            return instance_noise([x], sigma, stream=stream, scale=2.0)[0]
        return instance_noise(x, sigma, stream=stream, scale=2.0)

    results = []
    for noisy in (fused(), x * 2.0 + sigma.unsqueeze(1) * z):
        (slope,) = torch.autograd.grad(D(noisy).sum(), x, create_graph=True)
        penalty = slope.square().sum(1).mean()
        results.append(
            [penalty, *torch.autograd.grad(penalty, [*D.parameters(), x, sigma], allow_unused=True)]
        )
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)


def test_writes_in_inference_mode_are_detected():
    a = torch.tensor([1.0, 2.0], requires_grad=True)
    y = a.exp()
    with torch.inference_mode():
        instance_noise(torch.zeros(2), 0.0, out=y.detach())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_sigma_may_change_before_the_backward_pass():
    sigma = torch.tensor(0.5, requires_grad=True)
    out = instance_noise(torch.zeros(300), sigma, stream=NoiseStream(4))
    with torch.no_grad():
        sigma.mul_(0.5)
    out.sum().backward()
    torch.testing.assert_close(sigma.grad, z_of(300, 4).double().sum().float())
