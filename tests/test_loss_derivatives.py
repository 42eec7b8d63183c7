"""The losses under autograd: first and second derivatives, upstream gradients, graphs kept and overwritten."""

import numpy as np
import pytest
import torch
from helpers import DEVICES, FLOATS, math_type
from helpers_losses import (
    ROLES,
    SMOOTHINGS,
    assert_as_good,
    assert_same_bits,
    eager,
    fused,
    logits_like,
    reduced,
    ulp,
    wide,
)
from torch.testing._internal.two_tensor import TwoTensor

from pygan import reference
from pygan.fused_losses import LOSSES, discriminator_loss, generator_loss


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradcheck(reduction, smoothing, loss, device):
    for roles in ROLES:
        leaves = logits_like(roles, (3, 2), torch.float64, device, 5)
        leaves = [x.t() if i else x for i, x in enumerate(leaves)]  # one of them strided
        leaves = [x.requires_grad_() for x in leaves]

        def function(*tensors, roles=roles):
            return fused(roles, loss, smoothing, reduction, list(tensors))

        assert torch.autograd.gradcheck(function, leaves)
        assert torch.autograd.gradgradcheck(function, leaves)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_second_derivatives_of_every_dtype(dtype, device):
    """d/dx of (gradient . v), against the reference's, twice eager's error at most."""
    x, v = logits_like(["real", "fake"], (257,), dtype, device, 3)

    def second(function, cast):
        leaf = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(function(leaf.to(cast)), leaf, create_graph=True)
        (result,) = torch.autograd.grad((slope.to(cast) * v.to(cast)).sum(), leaf)
        return result

    for loss in LOSSES:
        got = second(lambda t, loss=loss: generator_loss(t, loss=loss), dtype)
        assert got.dtype == dtype
        sign = -1 if loss == "minimax" else 1
        double = x.double()
        slope = torch.sigmoid(double) * torch.sigmoid(-double) * sign * v.double() / x.numel()
        rival = second(
            lambda t, loss=loss: eager(["generator"], loss, 0.0, [t])[0].mean(), math_type(dtype)
        )
        assert_as_good(
            [[got]], {"eager": [[rival]]}, [[wide(slope, dtype)]], relative=False, what=loss
        )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_third_derivative_says_that_it_does_not_exist(reduction, device):
    x = torch.randn(5, dtype=torch.float64, device=device, requires_grad=True)
    value = generator_loss(x, reduction=reduction).sum()
    (first,) = torch.autograd.grad(value, x, create_graph=True)
    (second,) = torch.autograd.grad(first.pow(2).sum(), x, create_graph=True)
    with pytest.raises(
        NotImplementedError, match=r"pygan\.fused_losses: derivatives must be .* got a third"
    ):
        torch.autograd.grad(second.sum(), x)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_penalty_through_a_discriminator(loss, device):
    """An R1-like penalty on the loss's own gradient w.r.t. the images, trained through."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(3 * 16, 1)
    )
    net = net.double().to(device)
    real, fake = torch.randn(2, 4, 1, 6, 6, dtype=torch.float64, device=device)

    def gradients(function):
        images = real.clone().requires_grad_()
        value = function(net(images), net(fake))
        (slope,) = torch.autograd.grad(value, images, create_graph=True)
        total = value + 10 * slope.pow(2).sum((1, 2, 3)).mean()
        return [value, total, *torch.autograd.grad(total, list(net.parameters()))]

    got = gradients(lambda r, f: discriminator_loss(r, f, loss=loss, label_smoothing=0.1))

    def plain(r, f):
        terms = eager(ROLES[0], loss, 0.1, [r, f])
        return reduced(terms, "mean")

    torch.testing.assert_close(got, gradients(plain))


@pytest.mark.parametrize("device", DEVICES)
def test_what_does_not_require_grad_gets_none(device):
    real = torch.randn(4, device=device, requires_grad=True)
    fake = torch.randn(4, device=device)
    discriminator_loss(real, fake).backward()
    assert real.grad is not None and fake.grad is None
    with torch.no_grad():
        assert not discriminator_loss(real, fake).requires_grad
    assert not discriminator_loss(real.detach(), fake).requires_grad
    value, stats = discriminator_loss(real, fake, return_stats=True)
    assert value.requires_grad and not any(field.requires_grad for field in stats)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("factor", [1.0, 3.0, 65536.0])
def test_upstream_gradient_is_a_factor(factor, create_graph, dtype, device):
    """A scaled loss (GradScaler's 2^16) scales the gradients before they are rounded to 16 bits."""
    (x,) = logits_like(["fake"], (20_001,), dtype, device, 4)
    x -= 5
    leaf = x.clone().requires_grad_()
    value = generator_loss(leaf, loss="minimax") * factor
    (grad,) = torch.autograd.grad(value, leaf, create_graph=create_graph)
    want = wide(-torch.sigmoid(x.double()) * factor / x.numel(), dtype)
    error = np.abs(wide(grad, dtype) - want)
    # Rounded once from the math's type: half an ulp, and a few of the math's own (three products, a
    # quotient and exp: at most 8).
    own = 8 * ulp(want, math_type(dtype))
    assert (error <= ulp(want, dtype) / 2 + own).all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_retained_graph_gives_the_same_gradients_again(dtype, device):
    """Whoever got the first gradient may overwrite it."""
    real, fake = (
        x.requires_grad_() for x in logits_like(["real", "fake"], (500,), dtype, device, 4)
    )
    value = discriminator_loss(real, fake, label_smoothing=0.1)
    first = torch.autograd.grad(value, (real, fake), retain_graph=True)
    kept = [g.clone() for g in first]
    for g in first:
        g.zero_()
    assert_same_bits(kept, torch.autograd.grad(value, (real, fake), retain_graph=True))
    doubled = torch.autograd.grad(2 * value, (real, fake), retain_graph=True)
    if dtype != torch.float16:  # whose subnormals are rounded more finely when doubled
        assert_same_bits([2 * g for g in kept], doubled)
    nothing = torch.autograd.grad(0 * value, (real, fake), retain_graph=True)
    assert not any(g.any() for g in nothing)
    (only_fake,) = torch.autograd.grad(value, fake, retain_graph=True)
    assert torch.equal(only_fake, kept[1])
    value.backward()
    assert_same_bits(kept, [real.grad, fake.grad])
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        value.backward()


@pytest.mark.parametrize("device", DEVICES)
def test_logits_overwritten_before_backward(device):
    """Either the gradient of what the loss saw, or torch's error; never that of other logits."""
    x = torch.linspace(-2, 2, 50, device=device, requires_grad=True)
    logits = x * 1
    value = generator_loss(logits)
    want = -torch.sigmoid(-logits.detach()) / 50
    with torch.no_grad():
        logits.fill_(3.0)
    try:
        (grad,) = torch.autograd.grad(value, x)
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)  # noqa: PT017
    else:
        torch.testing.assert_close(grad, want)


def test_lazily_negated_tensors():
    """Logits and incoming gradients that are views with the negative bit set."""
    z = torch.complex(torch.zeros(3), torch.tensor([2.0, -1.0, 0.5])).requires_grad_()
    logits = z.conj().imag
    assert logits.is_neg()
    torch.testing.assert_close(
        generator_loss(logits), reference.generator_loss(logits.resolve_neg())
    )
    x = torch.randn(5, requires_grad=True)
    incoming = torch._neg_view(torch.tensor(1.0))
    (grad,) = torch.autograd.grad(generator_loss(x), x, grad_outputs=incoming)
    torch.testing.assert_close(grad, torch.sigmoid(-x.detach()) / 5)


@pytest.mark.parametrize("plain_first", [True, False])
def test_tensor_subclasses(plain_first):
    plain, wrapped = torch.randn(4, requires_grad=True), TwoTensor(torch.ones(4), torch.ones(4))
    pair = (plain, wrapped) if plain_first else (wrapped, plain)
    value = discriminator_loss(*pair)
    assert isinstance(value, TwoTensor)
    want = reference.discriminator_loss(*(t if t is plain else t.a for t in pair))
    torch.testing.assert_close(value.a, want)
