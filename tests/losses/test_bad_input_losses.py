"""Bad input to the losses: the error, its message from its beginning, and nothing changes.

Each case is a call, the type of its error and the beginning of the message. A case also checks that no generator was
drawn from and that no gradient remains.
"""

import math
from fractions import Fraction

import pytest
import torch
from helpers import raises

from pygan import fused_losses
from pygan.fused_losses import discriminator_loss, generator_loss

R, F = torch.linspace(-1, 1, 4), torch.linspace(-2, 2, 6)
LOSS_CASES = {
    # dtypes
    "real int": (
        lambda: discriminator_loss(R.long(), F),
        TypeError,
        "pygan.fused_losses.discriminator_loss: real_logits must be float32, float64, float16 or bfloat16, got ",
    ),
    "fake bool": (
        lambda: discriminator_loss(R, F > 0),
        TypeError,
        "pygan.fused_losses.discriminator_loss: fake_logits must be float32, float64, float16 or bfloat16, got ",
    ),
    "complex": (
        lambda: generator_loss(F.to(torch.complex64)),
        TypeError,
        "pygan.fused_losses.generator_loss: fake_logits must be float32, float64, float16 or bfloat16, got ",
    ),
    "fp8": (
        lambda: generator_loss(F.to(torch.float8_e5m2)),
        TypeError,
        "pygan.fused_losses.generator_loss: fake_logits must be float32, float64, float16 or bfloat16, got ",
    ),
    "mixed dtypes": (
        lambda: discriminator_loss(R, F.half()),
        TypeError,
        "pygan.fused_losses.discriminator_loss: fake_logits must have the dtype of real_logits, ",
    ),
    # no tensors
    "list": (
        lambda: discriminator_loss([1.0], F),
        TypeError,
        "pygan.fused_losses.discriminator_loss: real_logits[0] must be a tensor, got float",
    ),
    "array": (
        lambda: discriminator_loss(R, F.numpy()),
        TypeError,
        "pygan.fused_losses.discriminator_loss: fake_logits must be a tensor or a list of tensors, got ndarray",
    ),
    "None": (
        lambda: generator_loss(None),
        TypeError,
        "pygan.fused_losses.generator_loss: fake_logits must be a tensor or a list of tensors, got NoneType",
    ),
    # numbers too large for a float
    "smoothing, large": (
        lambda: discriminator_loss(R, F, label_smoothing=10**400),
        ValueError,
        "pygan.fused_losses.discriminator_loss: label_smoothing must be finite, got a number too large",
    ),
    "smoothing, a large fraction": (
        lambda: discriminator_loss(R, F, label_smoothing=Fraction(10**400)),
        ValueError,
        "pygan.fused_losses.discriminator_loss: label_smoothing must be finite, got a number too large",
    ),
    "weights, large": (
        lambda: generator_loss([F, F], weights=[1, 10**400]),
        ValueError,
        "pygan.fused_losses.generator_loss: weights[1] must be finite, got a number too large",
    ),
    # devices
    "devices": (
        lambda: discriminator_loss(R, F.to("meta")),
        ValueError,
        "pygan.fused_losses.discriminator_loss: fake_logits must be on the device of real_logits, cpu, got meta",
    ),
    "devices, the other way": (
        lambda: discriminator_loss(R.to("meta"), F),
        ValueError,
        "pygan.fused_losses.discriminator_loss: fake_logits must be on the device of real_logits, meta, got cpu",
    ),
    # empty under a mean
    "empty real": (
        lambda: discriminator_loss(R[:0], F),
        ValueError,
        'pygan.fused_losses.discriminator_loss: real_logits must not be empty for reduction="mean", got shape [0]',
    ),
    "empty fake": (
        lambda: discriminator_loss(R, torch.zeros(3, 0, 2)),
        ValueError,
        'pygan.fused_losses.discriminator_loss: fake_logits must not be empty for reduction="mean", got '
        "shape [3, 0, 2]",
    ),
    "empty generator": (
        lambda: generator_loss(F[:0]),
        ValueError,
        'pygan.fused_losses.generator_loss: fake_logits must not be empty for reduction="mean", got shape [0]',
    ),
    # options
    "loss": (
        lambda: discriminator_loss(R, F, loss="hing"),
        ValueError,
        "pygan.fused_losses.discriminator_loss: loss must be one of non_saturating, minimax",
        ", got 'hing'",
    ),
    "loss None": (
        lambda: generator_loss(F, loss=None),
        ValueError,
        "pygan.fused_losses.generator_loss: loss must be one of non_saturating, minimax",
        ", got None",
    ),
    "loss list": (
        lambda: generator_loss(F, loss=["minimax"]),
        (ValueError, TypeError),
        "pygan.fused_losses.generator_loss: loss must be one of non_saturating, minimax",
        ", got ['minimax']",
    ),
    "reduction": (
        lambda: discriminator_loss(R, F, reduction="average"),
        ValueError,
        "pygan.fused_losses.discriminator_loss: reduction must be one of mean, sum, none, got 'average'",
    ),
    "reduction number": (
        lambda: generator_loss(F, reduction=0),
        ValueError,
        "pygan.fused_losses.generator_loss: reduction must be one of mean, sum, none, got 0",
    ),
    "reduction list": (
        lambda: generator_loss(F, reduction=[]),
        (ValueError, TypeError),
        "pygan.fused_losses.generator_loss: reduction must be one of mean, sum, none, got []",
    ),
    "smoothing negative": (
        lambda: discriminator_loss(R, F, label_smoothing=-0.1),
        ValueError,
        "pygan.fused_losses.discriminator_loss: label_smoothing must be from 0 to 1, got -0.1",
    ),
    "smoothing large": (
        lambda: discriminator_loss(R, F, label_smoothing=1.5),
        ValueError,
        "pygan.fused_losses.discriminator_loss: label_smoothing must be from 0 to 1, got 1.5",
    ),
    "smoothing nan": (
        lambda: discriminator_loss(R, F, label_smoothing=math.nan),
        ValueError,
        "pygan.fused_losses.discriminator_loss: label_smoothing must be from 0 to 1, got nan",
    ),
    "smoothing str": (
        lambda: discriminator_loss(R, F, label_smoothing="0.1"),
        (ValueError, TypeError),
        "pygan.fused_losses.discriminator_loss: label_smoothing must be ",
        ", got ",
    ),
    "smoothing None": (
        lambda: discriminator_loss(R, F, label_smoothing=None),
        (ValueError, TypeError),
        "pygan.fused_losses.discriminator_loss: label_smoothing must be ",
        ", got ",
    ),
    # options that the loss does not support
    "real logits": (
        lambda: generator_loss(F, real_logits=R),
        ValueError,
        'pygan.fused_losses.generator_loss: real_logits must be None for loss="non_saturating"',
        ", got a tensor of shape (4,)",
    ),
    "real logits, minimax": (
        lambda: generator_loss(F, real_logits=[1.0], loss="minimax"),
        ValueError,
        'pygan.fused_losses.generator_loss: real_logits must be None for loss="minimax"',
        ", got a list of length 1",
    ),
}


@pytest.mark.parametrize("name", LOSS_CASES)
def test_invalid_logits_are_refused_by_the_losses(name):
    call, error, *message = LOSS_CASES[name]
    generator = torch.get_rng_state()
    with raises(error, *message) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize("name", LOSS_CASES)
def test_losses_with_gradients(name, monkeypatch):
    """The same messages while autograd records, and no gradient remains."""
    call, error, *message = LOSS_CASES[name]
    leaves = [t.clone().requires_grad_() for t in (R, F)]
    monkeypatch.setitem(globals(), "R", leaves[0])
    monkeypatch.setitem(globals(), "F", leaves[1])
    if name == "array":
        pytest.skip("a tensor that requires grad is no array")
    with raises(error, *message):
        call()
    assert all(t.grad is None for t in leaves)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_check_under_every_reduction(reduction):
    with raises(TypeError, "pygan.fused_losses.discriminator_loss: fake_logits must be float32"):
        discriminator_loss(R, F.long(), reduction=reduction, return_stats=True)
    with raises(TypeError, "pygan.fused_losses.generator_loss: fake_logits must be float32"):
        generator_loss(F.long(), reduction=reduction)


@pytest.mark.parametrize(
    ("real", "fake", "error", "message"),
    [
        (R, F.half(), TypeError, "fake_logits must have the dtype of real_logits"),
        (R, F.to("meta"), ValueError, "fake_logits must be on the device of real_logits"),
    ],
    ids=["dtype", "device"],
)
def test_logits_must_agree_for_unreduced_terms(real, fake, error, message):
    """reduction="none" runs an op per tensor, but is one call."""
    with raises(error, "pygan.fused_losses.discriminator_loss: " + message):
        discriminator_loss(real, fake, reduction="none")


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize(
    "name", ["label_smoothing", "real_target", "fake_target", "weights", "a weight"]
)
def test_a_bool_is_not_a_number(name, value):
    """True for label_smoothing would smooth by 1."""
    must = " must be a number, got bool"
    op = "pygan.fused_losses.discriminator_loss: "
    if name == "a weight":
        with raises(TypeError, op + "weights[1]" + must):
            discriminator_loss([R, R], [F, F], weights=[1.0, value])
        return
    with raises(TypeError, op + name + must):
        discriminator_loss(R, F, **{name: value})


@pytest.mark.parametrize("flag", ["return_stats", "return_parts"])
@pytest.mark.parametrize("value", ["yes", 1, None])
def test_flags_must_be_bools(flag, value):
    calls = {
        "discriminator_loss": (R, F),
        "discriminator_loss_and_grad": (R, F),
        "generator_loss": (F,),
        "generator_loss_and_grad": (F,),
        "real_loss": (R,),
        "fake_loss": (F,),
    }
    for name, logits in calls.items():
        with raises(TypeError, f"pygan.fused_losses.{name}: {flag} must be a bool, got "):
            getattr(fused_losses, name)(*logits, **{flag: value})
