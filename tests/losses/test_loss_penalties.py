"""The losses in training steps with gradient penalties and mixed precision.

A penalty differentiates a gradient through the discriminator and the loss; the reference is the same training step with
the loss in plain PyTorch.
"""

import pytest
import torch
from helpers import DEVICES
from helpers.losses import CASES, DISTINCT, Case, by_scale, combined
from helpers.truth import reduced
from torch import nn

from pygan.fused_losses import LOSSES, discriminator_loss, generator_loss


class Discriminator(nn.Module):
    """A tiny discriminator that returns logits of two scales, with patches of different sizes."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh())
        self.patches = nn.Conv2d(3, 1, 2)
        self.whole = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 1))

    def forward(self, images):
        features = self.trunk(images)
        return [self.patches(features), self.whole(features)]


def plain(case, inputs, weights):
    """The loss for lists of logits, with PyTorch's own functions."""
    scales = [reduced(case.eager(scale), "mean") for scale in by_scale(inputs)]
    return combined(scales, weights, "mean")[0]


def squared_norm(grads):
    return grads.pow(2).flatten(1).sum(1)


def penalty_of(kind, net, value, real, fake):
    """The penalty of a step whose loss is `value`, on images that require grad."""
    if kind == "loss":  # on the gradient of the loss itself, which differentiates the loss twice
        slopes = torch.autograd.grad(value, (real, fake), create_graph=True)
        return sum(squared_norm(s).mean() for s in slopes)
    images = {"R1": real, "R2": fake, "WGAN-GP": real + 0.3 * (fake - real)}[kind]
    images = images.detach().requires_grad_()
    logits = net(images)
    (slope,) = torch.autograd.grad(sum(t.sum() for t in logits), images, create_graph=True)
    if kind == "WGAN-GP":  # Gulrajani et al. 2017
        return (squared_norm(slope).sqrt() - 1).pow(2).mean()
    return squared_norm(slope).mean()  # Mescheder et al. 2018


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["R1", "R2", "WGAN-GP", "loss"])
@pytest.mark.parametrize("scales", [1, 2])
@pytest.mark.parametrize("case", DISTINCT, ids=str)
def test_gradient_penalties_through_a_discriminator(case, scales, kind, device):
    torch.manual_seed(0)
    net = Discriminator().double().to(device)
    images = torch.randn(2, 4, 1, 6, 6, dtype=torch.float64, device=device)
    weights = [1.0, 0.3][:scales]

    def step(loss):
        real, fake = (x.clone().requires_grad_() for x in images)
        logits = {"real": net(real)[:scales], "fake": net(fake)[:scales]}
        value = loss([logits[role] for role in case.roles])
        if "real" not in case.roles:  # so that the images have a gradient
            value = value + 0 * sum(t.sum() for t in logits["real"])
        total = value + 10 * penalty_of(kind, net, value, real, fake)
        return [
            value,
            total,
            *torch.autograd.grad(total, list(net.parameters()), allow_unused=True),
        ]

    def fused(inputs):
        if scales == 1:
            return case.call([x[0] for x in inputs])
        return case.call(inputs, weights=weights)

    torch.testing.assert_close(step(fused), step(lambda inputs: plain(case, inputs, weights)))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("loss", LOSSES)
def test_wgan_gp_penalty_through_a_fused_loss(loss, device):
    """WGAN-GP's norm of the gradient of fused terms: mixed second derivatives of both inputs."""
    torch.manual_seed(0)
    real, fake = torch.randn(2, 5, dtype=torch.float64, device=device)
    scale = torch.tensor(1.5, dtype=torch.float64, device=device, requires_grad=True)
    case = Case(loss, "discriminator")
    results = []
    for fused in (True, False):
        x, y = (t.clone().requires_grad_() for t in (real, fake))
        inputs = [scale * x, scale * y]
        if fused:
            terms = case.call(inputs, reduction="none")
            terms = terms if isinstance(terms, tuple) else (terms,)
        else:
            terms = case.eager(inputs)
        total = sum(t.sum() for t in terms)
        slopes = torch.autograd.grad(total, (x, y), create_graph=True)
        penalty = sum((s.norm() - 1) ** 2 for s in slopes)
        results.append([total, penalty, *torch.autograd.grad(total + penalty, (scale, x, y))])
    torch.testing.assert_close(*results)


# --- mixed precision -------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_autocast_and_a_grad_scaler(case, device):
    """16-bit logits in lists under autocast, fp32 losses, gradients scaled by 2^16. Gradients of the logits have the
    same digits, in spite of bfloat16 in between; further back, a GPU may add in different orders."""
    torch.manual_seed(0)
    net = Discriminator().to(device)
    images = {"real": torch.randn(4, 1, 6, 6), "fake": torch.randn(4, 1, 6, 6)}
    scaler = torch.amp.GradScaler(device)
    with torch.autocast(device, torch.bfloat16):
        logits = [net(images[role].to(device)) for role in case.roles]
        value, stats = case.call(logits, weights=[1.0, 0.5], return_stats=True)
    assert value.dtype == stats.d_fake.dtype == torch.float32
    assert torch.equal(value, case.call(logits, weights=[1.0, 0.5]))
    leaves = [t for scales in logits for t in scales]
    assert all(t.dtype == torch.bfloat16 for t in leaves)
    inputs = [*leaves, *net.parameters()]
    plain_grads = torch.autograd.grad(value, inputs, retain_graph=True)
    scaled_grads = torch.autograd.grad(scaler.scale(value), inputs)
    for i, (plain_grad, scaled) in enumerate(zip(plain_grads, scaled_grads, strict=True)):
        if device == "cpu" or i < len(leaves):
            assert torch.equal(plain_grad * 2.0**16, scaled)
        else:
            torch.testing.assert_close(plain_grad, scaled / 2.0**16, rtol=2e-2, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_grad_scaler_skips_the_step_of_an_infinite_gradient(loss, device):
    weight = nn.Parameter(torch.ones(3, device=device))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    scaler = torch.amp.GradScaler(device, init_scale=2.0**4)
    for bad in (True, False):
        fake = torch.tensor([1.0, float("nan") if bad else 2.0, 3.0], device=device) * weight
        real = torch.tensor([0.5, 1.0, -1.0], device=device) * weight
        optimizer.zero_grad()
        value, stats = discriminator_loss(real, fake, loss=loss, return_stats=True)
        assert stats.nonfinite.item() == bad
        # Linear terms have finite slopes at NaN; the layer that computed the logits does not.
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(weight.detach().cpu(), torch.ones(3)) == bad


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_are_the_same_under_autocast(dtype, device):
    x = torch.linspace(-3, 3, 100, device=device).to(dtype)
    for listed in (False, True):
        logits = [x, x.flip(0)] if listed else x
        outside = generator_loss(logits, return_stats=True)
        with torch.autocast(device, dtype):
            inside = generator_loss(logits, return_stats=True)
        assert torch.equal(inside[0], outside[0])
        for a, b in zip(inside[1], outside[1], strict=True):
            assert torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))
