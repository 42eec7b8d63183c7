"""The penalties as functions, compared with published recipes and with the trainer's penalties."""

import pytest
import torch
from helpers import raises
from helpers.sync import NoSync
from torch import nn

from pygan import penalties
from pygan.penalties import adaptive_weight, gradient_penalty, interpolate, r1, r2


def discriminator(dtype=torch.float64, outputs=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, outputs)).to(dtype)


def samples(seed=1, n=5, dtype=torch.float64):
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gradients(penalty, network):
    return torch.autograd.grad(penalty, list(network.parameters())[:-1])


@pytest.mark.parametrize("function", [r1, r2])
@pytest.mark.parametrize("gamma", [1.0, 10])
def test_r1_equals_stylegan3s(function, gamma):
    """Its r1_grads, r1_penalty and loss: the gradient of the sum of the logits, squared and summed per sample, times
    gamma / 2."""
    D = discriminator()
    x = samples().requires_grad_()
    (grads,) = torch.autograd.grad(D(x).sum(), x, create_graph=True)
    by_sample = grads.square().sum(1) * (gamma / 2)
    torch.testing.assert_close(function(x, D(x), gamma, reduction="none"), by_sample)
    got, want = function(x, D(x), gamma), by_sample.mean()
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(gradients(got, D), gradients(want, D))


@pytest.mark.parametrize("target", [1.0, 100.0, 0.0])
@pytest.mark.parametrize("one_sided", [False, True])
def test_gradient_penalties_equal_wgan_gp_cyclegan_and_wgan_lp(target, one_sided):
    """CycleGAN calls the target `constant`; WGAN-LP is one-sided."""
    D = discriminator()
    torch.manual_seed(3)
    x = interpolate(samples(1), samples(2))
    torch.manual_seed(3)
    share = torch.rand(5, 1, device=x.device)
    torch.testing.assert_close(x.detach(), share * samples(1) + (1 - share) * samples(2))
    (grads,) = torch.autograd.grad(D(x).sum(), x, create_graph=True)
    excess = grads.norm(2, dim=1) - target
    want = 10.0 * (excess.clamp_min(0) if one_sided else excess).pow(2).mean()
    got = gradient_penalty(x, D(x), target=target, one_sided=one_sided)
    torch.testing.assert_close(got, want)
    if want != 0:
        torch.testing.assert_close(gradients(got, D), gradients(want, D))


def test_scales_are_summed_per_sample():
    one, two = discriminator(), discriminator(outputs=1)
    x = samples().requires_grad_()
    (grads,) = torch.autograd.grad(one(x).sum() + two(x).sum(), x)
    want = 0.5 * grads.square().sum(1)
    torch.testing.assert_close(r1(x, [one(x), two(x)], 1.0, reduction="none"), want)


@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_fp16_gradients_do_not_underflow_or_overflow(scale):
    x = torch.ones(2, 4, dtype=torch.float16, requires_grad=True)
    got = r1(x, (x * scale).sum(1), 2.0)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, torch.tensor(4 * float(torch.tensor(scale).half()) ** 2))


def test_samples_with_a_single_element():
    x = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    torch.testing.assert_close(r1(x, x.square(), 1.0, reduction="none"), 0.5 * (2 * x).square())
    one = x[:1]
    torch.testing.assert_close(r1(one, one.square().squeeze(), 1.0), torch.tensor(2.0))


def test_interpolation_with_mixed_dtypes_and_a_generator():
    a, b = samples(dtype=torch.float32), samples(2).bfloat16()
    one, two = (interpolate(a, b, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    assert one.dtype == torch.float32 and one.requires_grad and one.is_leaf
    assert torch.equal(one, two)


def vqgans(nll_loss, g_loss, last_layer):
    nll_grads = torch.autograd.grad(nll_loss, last_layer, retain_graph=True)[0]
    g_grads = torch.autograd.grad(g_loss, last_layer, retain_graph=True)[0]
    d_weight = torch.norm(nll_grads) / (torch.norm(g_grads) + 1e-4)
    return torch.clamp(d_weight, 0.0, 1e4).detach()


@pytest.mark.parametrize("factor", [1.0, 1e-7, 1e5])
def test_the_adaptive_weight_equals_vqgans(factor):
    torch.manual_seed(0)
    decoder, D = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6)), discriminator().float()
    x = samples(dtype=torch.float32)
    made = decoder(torch.randn(5, 4))
    reconstruction, g_loss = (x - made).abs().mean(), -factor * D(made).mean()
    with NoSync():
        weight = adaptive_weight(reconstruction, g_loss, decoder[-1].weight)
    assert not weight.requires_grad and weight.shape == ()
    torch.testing.assert_close(weight, vqgans(reconstruction, g_loss, decoder[-1].weight))
    (reconstruction + weight * g_loss).backward()  # the graphs are retained


def test_the_adaptive_weight_has_a_maximum():
    layer = torch.ones(3, requires_grad=True)
    # 2 / (0 + 1e-4) would be 20,000.
    assert adaptive_weight(2 * layer[0], 0 * layer[0], layer) == 1e4
    assert adaptive_weight(2 * layer[0], layer[0], layer, maximum=1.5) == 1.5


X = torch.zeros(3, 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: r1(X, X.sum(1), 1.0), ValueError, "r1: samples must require a gradient"),
        (lambda: r2(X.int(), X, 1.0), TypeError,
         "r2: samples must be float32, float64, float16 or bfloat16, got torch.int32"),
        (lambda: r1([X], X, 1.0), TypeError, "r1: samples must be a floating-point tensor, got a list"),
        (lambda: r1(leaf(), 1.0, 1.0), TypeError, "r1: logits must be a tensor or a list"),
        (lambda: r1(leaf(), ["x"], 1.0), TypeError, "r1: logits[0] must be a tensor, got str"),
        (lambda: r1(leaf(), X.sum(1), 1.0), RuntimeError, "r1: logits must depend on the samples"),
        (lambda: penalty_of(r1, 0.0), ValueError, "r1: gamma must be positive and finite, got 0.0"),
        (lambda: penalty_of(r1, 10**400), ValueError, "r1: gamma must be finite"),
        (lambda: penalty_of(r1, 1.0, reduction="sum"), ValueError, "r1: reduction must be mean or none"),
        (lambda: penalty_of(gradient_penalty, "1"), TypeError, "gradient_penalty: weight must be a number"),
        (lambda: penalty_of(gradient_penalty, target=-1.0), ValueError, "gradient_penalty: target must be"),
        (lambda: r1(leaf(3, 0), X, 1.0), ValueError, "r1: samples must be a non-empty batch (N, ...)"),
        (lambda: r1(leaf(()), X, 1.0), ValueError, "r1: samples must be a non-empty batch (N, ...)"),
        (lambda: r1(leaf(), leaf().mean(), 1.0), ValueError, "r1: logits must have the samples' first dimension, 3"),
        (lambda: r2(leaf(), [X, X[:2]], 1.0), ValueError, "r2: logits must have the samples' first dimension, 3"),
        (lambda: penalty_of(gradient_penalty, one_sided="no"), TypeError, "gradient_penalty: one_sided must be a bool"),
        (lambda: interpolate(X, X[:2]), ValueError, "interpolate: real and fake must have the same shape"),
        (lambda: penalty_of(lambda x, y: r1(x, (y, x), 1.0)), TypeError,
         "r1: logits must be a tensor or a list of tensors, one for each scale, got a tuple"),
        (lambda: penalty_of(lambda x, y: r1(x, [[y, x]], 1.0)), TypeError,
         "r1: logits[0] must be a tensor, the logits of a scale, got a list of length 2; select them from"),
        (lambda: r1(leaf(), torch.nested.nested_tensor([*X], layout=torch.jagged), 1.0), TypeError,
         "r1: logits must be a dense tensor, got a nested one"),
        (lambda: interpolate(X.byte(), X), TypeError,
         "interpolate: real must be float32, float64, float16 or bfloat16, got torch.uint8"),
        (lambda: interpolate(X, "x"), TypeError, "interpolate: fake must be a floating-point tensor, got str"),
        (lambda: interpolate(X.sum(), X.sum()), ValueError, "interpolate: real must be a non-empty batch"),
        (lambda: interpolate(X, X.to("meta")), ValueError, "interpolate: real and fake must be on the same device"),
        (lambda: adaptive_weight(1.0, leaf().sum(), leaf()), TypeError, "adaptive_weight: reconstruction_loss must be"),
        (lambda: adaptive_weight(leaf().sum(), leaf(), leaf()), RuntimeError, "adaptive_weight: reconstruction_loss"),
        (lambda: adaptive_weight(leaf(), leaf(), leaf()), ValueError, "adaptive_weight: reconstruction_loss must be"),
        (lambda: adaptive_weight(X.sum(), X.sum(), nn.Linear(2, 2)), TypeError, "adaptive_weight: last_layer must be"),
        (lambda: adaptive_weight(X.sum(), X.sum(), X), ValueError, "adaptive_weight: last_layer must require"),
        (lambda: adaptive_weight(X.sum(), X.sum(), leaf()), RuntimeError, "adaptive_weight: reconstruction_loss"),
        (lambda: adaptive_weight(X.sum(), X.sum(), leaf(), eps=0.0), ValueError, "adaptive_weight: eps must be"),
    ],
)  # fmt: skip
def test_invalid_arguments_are_refused(call, error, message):
    with raises(error, f"pygan.penalties.{message}"):
        call()


def leaf(*shape):
    return torch.zeros(*(shape or X.shape), requires_grad=True)


def penalty_of(function, *arguments, **options):
    x = leaf()
    return function(x, x.square().sum(1), *arguments, **options)


def test_all_functions_are_public():
    assert {"r1", "r2", "gradient_penalty", "interpolate", "adaptive_weight"} <= set(
        penalties.__all__
    )


@pytest.mark.parametrize("form", ["tuple", "list of layers"])
def test_features_next_to_the_logits_are_not_treated_as_scales(form):
    """Otherwise their gradients would be added to those of the logits."""
    body, head = nn.Linear(6, 8), nn.Linear(8, 1)

    class Discriminator(nn.Module):
        def forward(self, x):
            features = body(x).relu()
            returned = (head(features), features)
            return returned if form == "tuple" else [list(returned)]

    D, x = Discriminator(), samples(dtype=torch.float32).requires_grad_()
    y = samples(2, dtype=torch.float32).requires_grad_()
    numbers = {"gamma": 1.0, "sigma": 0.1}
    lecam = penalties.LeCam(1.0, scales=2)
    calls = {
        "pygan.penalties.r1: logits": lambda: r1(x, D(x), 1.0),
        "pygan.penalties.r2: logits": lambda: r2(x, D(x), 1.0),
        "pygan.penalties.r1_and_r2: real_logits": lambda: penalties.r1_and_r2(
            x, y, D(x), D(y), 1.0
        ),
        "pygan.penalties.gradient_penalty: logits": lambda: gradient_penalty(x, D(x)),
        "pygan.penalties.approximate_r1: the discriminator's logits": lambda: (
            penalties.approximate_r1(D, x, **numbers)
        ),
        "LeCam: real_logits": lambda: lecam(D(x), D(y)),
    }
    for name, call in calls.items():
        one = "" if form == "tuple" else "[0]"
        with raises(TypeError, f"{name}{one} must be a tensor"):
            call()
    assert lecam.calls.item() == 0
