"""The discriminator's loss on one side: real_loss and fake_loss, whose sum is the discriminator's loss."""

import pytest
import torch
from helpers import DEVICES, FLOATS, raises
from helpers.losses import SMOOTHED
from torch.library import opcheck
from torch.nn import functional as F

from pygan.fused_losses import (
    LOSSES,
    compares,
    discriminator_loss,
    fake_loss,
    real_loss,
)

ALONE = [loss for loss in LOSSES if not compares(loss)]


def logits(dtype=torch.float32, device="cpu", shapes=((5, 13), (9001,))):
    draw = torch.Generator().manual_seed(0)
    made = [3 * torch.randn(s, generator=draw, dtype=torch.float64) for s in shapes]
    return [x.to(device, dtype).requires_grad_() for x in made]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("loss", ALONE)
def test_the_sides_add_up_to_the_discriminator_loss(loss, dtype, reduction, device):
    real, fake = logits(dtype, device)
    eps = 0.1 if loss in SMOOTHED else 0.0
    options = {"loss": loss, "reduction": reduction}
    whole = discriminator_loss(real, fake, label_smoothing=eps, **options)
    sides = [real_loss(real, label_smoothing=eps, **options), fake_loss(fake, **options)]
    torch.testing.assert_close(sum(sides), whole, rtol=1e-6, atol=1e-6)
    want = torch.autograd.grad(whole, [real, fake])
    for side, leaf, gradient in zip(sides, (real, fake), want, strict=True):
        side.backward()  # backward one after the other
        assert torch.equal(leaf.grad, gradient)


@pytest.mark.parametrize("loss", ALONE)
def test_lists_weights_and_terms(loss):
    real, fake = logits(shapes=((4, 3), (7,))), logits(shapes=((2,), (3, 3)))
    weights = [0.5, -2.0]
    whole = discriminator_loss(real, fake, loss=loss, weights=weights)
    options = {"loss": loss, "weights": weights}
    torch.testing.assert_close(real_loss(real, **options) + fake_loss(fake, **options), whole)
    terms = discriminator_loss(real, fake, reduction="none", **options)
    for got, want in zip(
        (
            real_loss(real, reduction="none", **options),
            fake_loss(fake, reduction="none", **options),
        ),
        terms,
        strict=True,
    ):
        assert isinstance(got, list) and all(map(torch.equal, got, want))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("loss", ALONE)
def test_statistics_cover_only_the_side(loss, device):
    real, fake = logits(device=device)
    _, whole = discriminator_loss(real, fake, loss=loss, return_stats=True)
    of_real = {"real_logit", "d_real", "real_accuracy", "real_sign", "real_std"}
    of_fake = {"fake_logit", "d_fake", "fake_accuracy", "fake_sign", "fake_std"}
    for side, given, known in ((real_loss, real, of_real), (fake_loss, fake, of_fake)):
        _, stats = side(given, loss=loss, return_stats=True)
        for name, value in stats._asdict().items():
            if name in known:
                torch.testing.assert_close(value, getattr(whole, name))
            elif name == "nonfinite":
                assert value == 0
            else:
                assert value.isnan(), name


def test_second_derivatives():
    real, fake = logits(torch.float64, shapes=((6,), (5,)))
    for loss in ALONE:
        if loss in ("hinge", "wasserstein"):  # have no second derivatives
            continue
        assert torch.autograd.gradgradcheck(lambda x, loss=loss: real_loss(x, loss=loss), real)
        assert torch.autograd.gradgradcheck(lambda x, loss=loss: fake_loss(x, loss=loss), fake)


def test_pytorchs_dcgan_example():
    """Binary cross-entropy with targets 1 and 0, with separate backward passes."""
    torch.manual_seed(0)
    D = torch.nn.Linear(4, 1)
    x, y = torch.randn(2, 8, 4)
    F.binary_cross_entropy_with_logits(D(x), torch.ones(8, 1)).backward()
    F.binary_cross_entropy_with_logits(D(y), torch.zeros(8, 1)).backward()
    want = [p.grad.clone() for p in D.parameters()]
    D.zero_grad()
    real_loss(D(x)).backward()
    fake_loss(D(y)).backward()
    torch.testing.assert_close([p.grad for p in D.parameters()], want)


@pytest.mark.parametrize("role", [0, 1])
def test_opcheck(role, fresh):
    (x, _) = logits(shapes=((5, 3), (2,)))
    opcheck(torch.ops.pygan.gan_loss.default, ([x], [role], 0, 0.0, [], 0, False))


R = torch.zeros(3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: real_loss(R, loss="relativistic"), ValueError, "real_loss: loss must not compare real"),
        (lambda: fake_loss(R, loss="relativistic_average"), ValueError, "fake_loss: loss must not compare"),
        (lambda: real_loss(R, loss="hinge", label_smoothing=0.1), ValueError, "real_loss: label_smoothing must be 0"),
        (lambda: real_loss(R, label_smoothing=2), ValueError, "real_loss: label_smoothing must be from 0 to 1"),
        (lambda: fake_loss("x"), TypeError, "fake_loss: fake_logits must be a tensor or a list"),
        (lambda: real_loss([R], weights=[1, 2]), ValueError, "real_loss: weights must hold one number"),
        (lambda: real_loss(R[:0]), ValueError, "real_loss: real_logits must not be empty"),
        (lambda: fake_loss([R, R.int()]), TypeError, "fake_loss: fake_logits[1] must"),
        (lambda: fake_loss(R.int(), reduction="none"), TypeError, "fake_loss: fake_logits must be float32"),
        (lambda: fake_loss(R, reduction="all"), ValueError, "fake_loss: reduction must be one of mean, sum, none"),
    ],
)  # fmt: skip
def test_invalid_arguments_are_refused(call, error, message):
    with raises(error, f"pygan.fused_losses.{message}"):
        call()


def test_least_squares_without_the_half_equal_hifigans():
    real, fake = logits(shapes=((4, 9), (4, 9)))
    want = torch.mean((1 - real) ** 2) + torch.mean(fake**2)
    got = discriminator_loss(real, fake, loss="least_squares", weights=2)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(*(torch.autograd.grad(x, [real, fake]) for x in (got, want)))
