"""Custom targets, constant means, and tensors as weights."""

import pytest
import torch
from helpers import DEVICES, FLOATS, math_type
from helpers.losses import LOSSES, TO_MEAN, assert_same_bits
from torch.nn import functional as F

from pygan import _loss_arguments, reference
from pygan.fused_losses import (
    compares,
    discriminator_loss,
    discriminator_loss_and_grad,
    fake_loss,
    generator_loss,
    generator_loss_and_grad,
    real_loss,
)


def bce(x, target):
    return F.binary_cross_entropy_with_logits(x, torch.full_like(x, target))


def squares(x, target):
    return (x - target).square().mean() / 2


# loss -> (function for real logits, for fake logits, for the generator or None), each of (logits, target), and targets
# to test.
WRITTEN_OUT = {
    "non_saturating": (bce, bce, bce, [(0.9, 0.1), (1.0, 0.3), (0.0, 1.0), (0.6, 0.0)]),
    "minimax": (bce, bce, None, [(0.9, 0.1), (0.7, 0.7)]),
    "least_squares": (squares, squares, squares, [(1.0, -1.0), (5.5, 0.25), (0.9, 0.1)]),
    "hinge": (
        lambda x, t: F.relu(t - x).mean(),
        lambda x, t: F.relu(x - t).mean(),
        None,
        [(1.0, 0.0), (0.5, -2.0), (-1.0, 3.0)],
    ),
}
WRITTEN_OUT["clipped_hinge"] = (
    *WRITTEN_OUT["hinge"][:2],
    lambda x, t: F.relu(t - x).mean(),
    WRITTEN_OUT["hinge"][3],
)
NAMED = [(loss, *targets) for loss, row in WRITTEN_OUT.items() for targets in row[3]]


def pair(device, dtype=torch.float64):
    torch.manual_seed(3)
    return [
        (2 * torch.randn(n, device=device, dtype=torch.float64)).to(dtype).requires_grad_()
        for n in (300, 77)
    ]


def check(value, want, leaves):
    torch.testing.assert_close(value, want)
    grads, true = (torch.autograd.grad(x, leaves, retain_graph=True) for x in (value, want))
    torch.testing.assert_close(grads, true)
    return grads


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("loss", "real_target", "fake_target"), NAMED)
def test_targets_match_the_formulas(loss, real_target, fake_target, device):
    real, fake = pair(device)
    of_real, of_fake, of_generator, _ = WRITTEN_OUT[loss]
    targets = {"real_target": real_target, "fake_target": fake_target}
    value = discriminator_loss(real, fake, loss=loss, **targets)
    want = of_real(real, real_target) + of_fake(fake, fake_target)
    grads = check(value, want, (real, fake))
    direct = discriminator_loss_and_grad(real, fake, loss=loss, **targets)
    assert_same_bits([direct.loss, *direct.grads], [value, *grads])
    torch.testing.assert_close(reference.discriminator_loss(real, fake, loss=loss, **targets), want)
    check(real_loss(real, loss=loss, target=real_target), of_real(real, real_target), [real])
    check(fake_loss(fake, loss=loss, target=fake_target), of_fake(fake, fake_target), [fake])
    terms = discriminator_loss(real, fake, loss=loss, reduction="none", **targets)
    check(sum(t.mean() for t in terms), want, (real, fake))
    if of_generator is not None:
        value = generator_loss(fake, loss=loss, target=real_target)
        grads = check(value, of_generator(fake, real_target), [fake])
        direct = generator_loss_and_grad(fake, loss=loss, target=real_target)
        assert_same_bits([direct.loss, *direct.grads], [value, *grads])
        wanted = reference.generator_loss(fake, loss=loss, target=real_target)
        torch.testing.assert_close(value, wanted)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("loss", "real_target", "fake_target"), NAMED)
def test_second_derivatives(loss, real_target, fake_target, device):
    leaves = [x.detach()[:5].requires_grad_() for x in pair(device)]

    def function(real, fake):
        targets = {"real_target": real_target, "fake_target": fake_target}
        return discriminator_loss(real, fake, loss=loss, **targets)

    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("loss", ["non_saturating", "minimax", "least_squares"])
def test_label_smoothing_equals_a_real_target(loss, dtype, device):
    real, fake = pair(device, dtype)
    smoothed = discriminator_loss_and_grad(real, fake, loss=loss, label_smoothing=0.25)
    targeted = discriminator_loss_and_grad(real, fake, loss=loss, real_target=0.75)
    assert_same_bits([smoothed.loss, *smoothed.grads], [targeted.loss, *targeted.grads])
    both = discriminator_loss(real, fake, loss=loss, label_smoothing=0.25, fake_target=0.125)
    assert torch.equal(
        both, discriminator_loss(real, fake, loss=loss, real_target=0.75, fake_target=0.125)
    )


@pytest.mark.parametrize("loss", WRITTEN_OUT)
def test_default_targets_have_no_effect(loss):
    real, fake = pair("cpu", torch.float32)
    own_real, own_fake = _loss_arguments.info(loss).targets
    plain = discriminator_loss_and_grad(real, fake, loss=loss)
    named = discriminator_loss_and_grad(
        real, fake, loss=loss, real_target=own_real, fake_target=own_fake
    )
    assert_same_bits([plain.loss, *plain.grads], [named.loss, *named.grads])


@pytest.mark.parametrize("loss", ["least_squares", "hinge"])
def test_statistics_decide_halfway_between_the_targets(loss):
    x = torch.tensor([0.4, 0.6, 1.4])
    _, stats = discriminator_loss(
        x, x, loss=loss, real_target=2.0, fake_target=-1.0, return_stats=True
    )
    torch.testing.assert_close(stats.real_accuracy, torch.tensor(2 / 3))
    torch.testing.assert_close(stats.fake_accuracy, torch.tensor(1 / 3))
    torch.testing.assert_close(stats.fake_sign, torch.tensor(1 / 3))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("listed", [False, True], ids=["tensors", "lists"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("loss", TO_MEAN)
def test_detached_means_have_no_gradient(loss, dtype, listed, device):
    """As in ESRGAN's discriminator, for which each mean is a constant."""
    real, fake = pair(device, dtype)
    wide = [x.detach().double().requires_grad_() for x in (real, fake)]
    want = reference.discriminator_loss(*wide, loss=loss, detach_means=True)
    r, f = wide
    form = {
        "relativistic_average": lambda d: F.softplus(-d),
        "relativistic_average_hinge": lambda d: F.relu(1 - d),
        "relativistic_average_least_squares": lambda d: (d - 1).square() / 2,
    }[loss]
    written = form(r - f.mean().detach()).mean() + form(-(f - r.mean().detach())).mean()
    torch.testing.assert_close(want, written)
    true = torch.autograd.grad(written, wide)
    given = [[real], [fake]] if listed else [real, fake]
    value = discriminator_loss(*given, loss=loss, detach_means=True)
    assert torch.equal(value, discriminator_loss(*given, loss=loss))
    grads = torch.autograd.grad(value, (real, fake))
    unit = torch.finfo(dtype).eps
    for got, w in zip(grads, true, strict=True):
        torch.testing.assert_close(got.double(), w, rtol=2 * unit, atol=8 * unit / len(got))
    direct = discriminator_loss_and_grad(*given, loss=loss, detach_means=True)
    direct_grads = [g[0] for g in direct.grads] if listed else direct.grads
    assert_same_bits([direct.loss, *direct_grads], [value, *grads])
    terms = discriminator_loss(*given, loss=loss, detach_means=True, reduction="none")
    terms = [t[0] for t in terms] if listed else terms
    through = torch.autograd.grad(sum(t.mean() for t in terms), (real, fake))
    for got, w in zip(through, true, strict=True):
        torch.testing.assert_close(got.double(), w, rtol=4 * unit, atol=8 * unit / len(got))


@pytest.mark.parametrize("loss", TO_MEAN)
def test_second_derivatives_with_detached_means(loss):
    leaves = [x.detach()[:4].requires_grad_() for x in pair("cpu")]
    value = discriminator_loss(*leaves, loss=loss, detach_means=True)
    want = reference.discriminator_loss(*leaves, loss=loss, detach_means=True)
    vectors = [torch.randn_like(x) for x in leaves]
    seconds = []
    for x in (value, want):
        slopes = torch.autograd.grad(x, leaves, create_graph=True)
        total = sum((s * v).sum() for s, v in zip(slopes, vectors, strict=True))
        seconds.append(
            torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
            if total.requires_grad
            else [torch.zeros_like(y) for y in leaves]
        )
    torch.testing.assert_close(*seconds)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_tensor_as_weight(loss, dtype, device):
    """Like an adaptive weight: the loss and all gradients times a number on the device."""
    real, fake = pair(device, dtype)
    fake = fake.detach()[:50].requires_grad_()
    real = real.detach()[:50].requires_grad_()
    weight = torch.tensor(0.375, device=device, dtype=torch.float32)
    for call, inputs in (
        (lambda **k: discriminator_loss(real, fake, loss=loss, **k), (real, fake)),
        (
            lambda **k: generator_loss(
                fake, **({"real_logits": real} if compares(loss) else {}), loss=loss, **k
            ),
            (fake,),
        ),
    ):
        value, want = call(weights=weight), call(weights=0.375)
        assert value.dtype == math_type(dtype)
        torch.testing.assert_close(value, want)
        for got, w in zip(*(torch.autograd.grad(x, inputs) for x in (value, want)), strict=True):
            torch.testing.assert_close(got, w)
        for got, w in zip(
            *(_flat(call(weights=x, reduction="none")) for x in (weight, 0.375)), strict=True
        ):
            torch.testing.assert_close(got, w)
    direct = [
        discriminator_loss_and_grad(real, fake, loss=loss, weights=w) for w in (weight, 0.375)
    ]
    torch.testing.assert_close(direct[0].loss, direct[1].loss)
    torch.testing.assert_close(direct[0].grads, direct[1].grads)
    assert not direct[0].loss.requires_grad


def test_a_learned_weight_gets_its_gradient():
    real, fake = pair("cpu", torch.float32)
    weight = torch.tensor(0.5, requires_grad=True)
    value = discriminator_loss(real, fake, weights=weight)
    (grad,) = torch.autograd.grad(value, weight)
    torch.testing.assert_close(grad, discriminator_loss(real, fake).detach())


def _flat(terms):
    return [terms] if isinstance(terms, torch.Tensor) else list(terms)


R = torch.randn(4)
D = "pygan.fused_losses.discriminator_loss: "
REFUSED = {
    "a probability above 1": (
        lambda: discriminator_loss(R, R, real_target=1.5),
        ValueError,
        D + 'real_target must be from 0 to 1 for loss="non_saturating", got 1.5',
    ),
    "a logit that is no number": (
        lambda: discriminator_loss(R, R, loss="least_squares", fake_target=float("nan")),
        ValueError,
        D + "fake_target must be finite, got nan",
    ),
    "a text": (
        lambda: discriminator_loss(R, R, loss="hinge", fake_target="0"),
        TypeError,
        D + "fake_target must be a number, got str",
    ),
    "a critic's": (
        lambda: discriminator_loss(R, R, loss="wasserstein", real_target=1.0),
        ValueError,
        D
        + 'real_target must be None for loss="wasserstein", where the discriminator has no target, got 1.0',
    ),
    "differences": (
        lambda: discriminator_loss(R, R, loss="relativistic_hinge", fake_target=1.0),
        ValueError,
        D
        + 'fake_target must be None for loss="relativistic_hinge", where the discriminator has no target',
    ),
    "both ways to say one thing": (
        lambda: discriminator_loss(R, R, label_smoothing=0.1, real_target=0.9),
        ValueError,
        D + "label_smoothing must be 0 if real_target is given, got 0.1",
    ),
    "the generator of hinge": (
        lambda: generator_loss(R, loss="hinge", target=1.0),
        ValueError,
        'generator_loss: target must be None for loss="hinge", where the generator has no target, got 1.0',
    ),
    "the generator of minimax": (
        lambda: generator_loss(R, loss="minimax", target=1.0),
        ValueError,
        'target must be None for loss="minimax", where the generator has no target',
    ),
    "one side": (
        lambda: real_loss(R, target=-1.0),
        ValueError,
        'pygan.fused_losses.real_loss: target must be from 0 to 1 for loss="non_saturating", got -1.0',
    ),
    "means where there are none": (
        lambda: discriminator_loss(R, R, detach_means=True),
        ValueError,
        D + 'detach_means must be False for loss="non_saturating", which uses no means, got True',
    ),
    "means of terms where there are none": (
        lambda: discriminator_loss(R, R, detach_means=True, reduction="none"),
        ValueError,
        D + 'detach_means must be False for loss="non_saturating"',
    ),
    "a whole number as weight": (
        lambda: discriminator_loss(R, R, weights=torch.tensor(2)),
        TypeError,
        D + "weights must be floating-point, got a tensor of torch.int64",
    ),
    "a weight elsewhere": (
        lambda: discriminator_loss(R, R, weights=torch.tensor(2.0, device="meta")),
        ValueError,
        D + "weights must be on the device of the logits, cpu, got meta",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unsupported_options_are_refused(name):
    call, error, message = REFUSED[name]
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
