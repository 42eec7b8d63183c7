"""Bad input to the losses: lists and weights, pairs and means, smoothing for losses without labels.

As in test_bad_input_losses.py: each case is a call, its error, and the message from its beginning.
"""

import math

import pytest
import torch
from helpers import raises
from helpers.losses import RELATIVISTIC

from pygan.fused_losses import discriminator_loss, generator_loss

D, G = "pygan.fused_losses.discriminator_loss: ", "pygan.fused_losses.generator_loss: "
R, F = torch.linspace(-1, 1, 4), torch.linspace(-2, 2, 4)
SHORT = torch.linspace(-2, 2, 3)

LIST_CASES = {
    "a list and a tensor": (
        lambda **kw: discriminator_loss([R], F, **kw),
        ValueError,
        D + "real_logits and fake_logits must both be tensors, or lists of the same length, got ",
        "a list of length 1 and a tensor of shape (4,)",
    ),
    "a tensor and a list": (
        lambda **kw: discriminator_loss(R, [F], **kw),
        ValueError,
        D + "real_logits and fake_logits must both be tensors, or lists of the same length, got ",
        "a tensor of shape (4,) and a list of length 1",
    ),
    "lengths": (
        lambda **kw: discriminator_loss([R, R], [F], **kw),
        ValueError,
        D + "real_logits and fake_logits must both be tensors, or lists of the same length, got ",
        "a list of length 2 and a list of length 1",
    ),
    "lengths of the generator": (
        lambda **kw: generator_loss([F], real_logits=[R, R], loss="relativistic", **kw),
        ValueError,
        G + "real_logits and fake_logits must both be tensors, or lists of the same length, got ",
    ),
    "no tensors": (
        lambda **kw: discriminator_loss([], [], **kw),
        ValueError,
        D,
        "_logits must hold at least one tensor, got an empty list",
    ),
    "no tensors of the generator": (
        lambda **kw: generator_loss([], **kw),
        ValueError,
        G + "fake_logits must hold at least one tensor, got an empty list",
    ),
    "no tensor in a list": (
        lambda **kw: generator_loss([F, None], **kw),
        TypeError,
        G + "fake_logits[1] must be a tensor, got NoneType",
    ),
    "a list in a list": (
        lambda **kw: generator_loss([F, [F, F]], **kw),
        TypeError,
        G
        + "fake_logits[1] must be a tensor, the logits of a scale, got a list of length 2; select them from the "
        "discriminator's output: for lists of layers, [layers[-1] for layers in outputs]",
    ),
    "a tuple in a list": (
        lambda **kw: discriminator_loss([(R, R)], [(F, F)], **kw),
        TypeError,
        D + "real_logits[0] must be a tensor, the logits of a scale, got a tuple of length 2",
    ),
    "logits and features in a tuple": (
        lambda **kw: discriminator_loss((R, R), (F, F), **kw),
        TypeError,
        D
        + "real_logits must be a tensor or a list of tensors, one for each scale, got a tuple of length 2; select the "
        "logits from the discriminator's output, or pass a list if all of them are logits",
    ),
    "a generator of tensors": (
        lambda **kw: generator_loss((x for x in [F]), **kw),
        TypeError,
        G + "fake_logits must be a tensor or a list of tensors, got generator",
    ),
    "dtypes in a list": (
        lambda **kw: discriminator_loss([R, R], [F, F.half()], **kw),
        TypeError,
        D + "fake_logits[1] must have the dtype of real_logits[0], ",
        "got torch.float16",
    ),
    "integers in a list": (
        lambda **kw: discriminator_loss([R, R.long()], [F, F], **kw),
        TypeError,
        D + "real_logits[1] must be float32, float64, float16 or bfloat16, got ",
    ),
    "devices in a list": (
        lambda **kw: discriminator_loss([R, R.to("meta")], [F, F], **kw),
        ValueError,
        D + "real_logits[1] must be on the device of real_logits[0], cpu, got meta",
    ),
    "devices of a pair": (
        lambda **kw: discriminator_loss(R, F.to("meta"), loss="relativistic", **kw),
        ValueError,
        D + "fake_logits must be on the device of real_logits, cpu, got meta",
    ),
    "devices of means": (
        lambda **kw: generator_loss(F, real_logits=R.to("meta"), loss="relativistic_average", **kw),
        ValueError,
        G + "real_logits must be on the device of fake_logits, cpu, got meta",
    ),
    "shapes of a pair": (
        lambda **kw: discriminator_loss(R, SHORT, loss="relativistic", **kw),
        ValueError,
        D + "fake_logits must have the shape of real_logits",
        'loss="relativistic"',
        "[4], got [3]",
    ),
    "shapes of a pair, as many elements": (
        lambda **kw: discriminator_loss(R, F.view(2, 2), loss="relativistic", **kw),
        ValueError,
        D + "fake_logits must have the shape of real_logits",
        "[4], got [2, 2]",
    ),
    "shapes of a pair in a list": (
        lambda **kw: generator_loss([F, F], real_logits=[R, SHORT], loss="relativistic", **kw),
        ValueError,
        G,
        "[1] must have the shape of ",
        'loss="relativistic"',
    ),
    "pair for the generator": (
        lambda **kw: generator_loss(F, loss="relativistic", **kw),
        ValueError,
        G + 'real_logits must be given for loss="relativistic"',
        ", got None",
    ),
    "mean for the generator": (
        lambda **kw: generator_loss([F], loss="relativistic_average", **kw),
        ValueError,
        G + 'real_logits must be given for loss="relativistic_average"',
        ", got None",
    ),
    "None for the discriminator": (
        lambda **kw: discriminator_loss(None, F, loss="relativistic", **kw),
        TypeError,
        D + "real_logits must be a tensor or a list of tensors, got NoneType",
    ),
    "mean of nothing": (
        lambda **kw: discriminator_loss(R[:0], F, loss="relativistic_average", **kw),
        ValueError,
        D + "real_logits must not be empty for ",
        ", got shape [0]",
    ),
    "mean of nothing in a list": (
        lambda **kw: generator_loss(
            [F, F[:0]], real_logits=[R, R], loss="relativistic_average", **kw
        ),
        ValueError,
        G + "fake_logits[1] must not be empty for ",
        ", got shape [0]",
    ),
    "weights of tensors": (
        lambda **kw: discriminator_loss(R, F, weights=[1.0], **kw),
        ValueError,
        D + "weights must be one number unless the logits are lists, got a list of length 1",
    ),
    "too many weights": (
        lambda **kw: discriminator_loss([R, R], [F, F], weights=[1.0, 2.0, 3.0], **kw),
        ValueError,
        D + "weights must hold one number for each of the 2 scale(s), got 3",
    ),
    "no weights": (
        lambda **kw: generator_loss([F], weights=[], **kw),
        ValueError,
        G + "weights must hold one number for each of the 1 scale(s), got 0",
    ),
    "weights nan": (
        lambda **kw: generator_loss([F, F], weights=[1.0, math.nan], **kw),
        ValueError,
        G + "weights[1] must be finite, got nan",
    ),
    "weights infinite": (
        lambda **kw: generator_loss([F], weights=(-math.inf,), **kw),
        ValueError,
        G + "weights[0] must be finite, got -inf",
    ),
    "weights of strings": (
        lambda **kw: generator_loss([F, F], weights=[1.0, "2"], **kw),
        TypeError,
        G + "weights[1] must be a number, got str",
    ),
    "a string of weights": (
        lambda **kw: generator_loss([F, F], weights="12", **kw),
        TypeError,
        G
        + "weights must be a number, a 0-d tensor, or a list of numbers, one for each scale, got str",
    ),
    "a number that is not finite": (
        lambda **kw: generator_loss([F, F], weights=math.inf, **kw),
        ValueError,
        G + "weights must be finite, got inf",
    ),
    "weights in a tensor": (
        lambda **kw: generator_loss([F, F], weights=torch.ones(2), **kw),
        ValueError,
        G
        + "weights must be 0-d if given as a tensor, got a tensor of shape (2,); for one weight per scale pass "
        "a list of numbers, for one per sample multiply the terms of ",
    ),
}
LIST_CASES |= {
    f"smoothing of {loss}": (
        lambda loss=loss, **kw: discriminator_loss(R, F, loss=loss, label_smoothing=0.1, **kw),
        ValueError,
        D + f'label_smoothing must be 0 for loss="{loss}"',
        ", got 0.1",
    )
    for loss in ("hinge", "wasserstein", *RELATIVISTIC)
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LIST_CASES)
def test_invalid_lists_are_refused_by_the_losses(name, reduction):
    call, error, *message = LIST_CASES[name]
    for stats in (False, True):
        with raises(error, *message) as caught:
            call(reduction=reduction, return_stats=stats)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", LIST_CASES)
def test_losses_with_gradients_change_nothing(name, monkeypatch):
    """The same while autograd records: no gradient remains, and no logit has changed."""
    call, error, *message = LIST_CASES[name]
    leaves = {key: globals()[key].clone().requires_grad_() for key in ("R", "F", "SHORT")}
    for key, leaf in leaves.items():
        monkeypatch.setitem(globals(), key, leaf)
    generator = torch.get_rng_state()
    with raises(error, *message):
        call()
    assert torch.equal(torch.get_rng_state(), generator)
    monkeypatch.undo()
    for key, leaf in leaves.items():
        assert leaf.grad is None and leaf._version == 0 and torch.equal(leaf, globals()[key])
