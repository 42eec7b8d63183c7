"""Bad input to the losses with gradients, and unsupported torch.func transforms of all losses.

As in test_bad_input_losses.py: the error, and its message from its beginning.
"""

import math

import pytest
import torch
from helpers import raises
from helpers.losses import CASES

from pygan.fused_losses import LOSSES, discriminator_loss_and_grad, generator_loss_and_grad

R, F = torch.linspace(-1, 1, 4), torch.linspace(-2, 2, 4)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("reduction", ["none", "average", None])
def test_backward_needs_a_scalar_loss(reduction, case):
    inputs = [R, F][: len(case.roles)]
    name = f"pygan.fused_losses.{case.phase}_loss_and_grad: reduction must be "
    with raises(ValueError, name, "mean", "sum", ", got "):
        case.call(inputs, suffix="_and_grad", reduction=reduction)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: discriminator_loss_and_grad(R, F, loss="hing"),
            ValueError,
            "discriminator_loss_and_grad: loss must be one of " + ", ".join(LOSSES),
        ),
        (
            lambda: discriminator_loss_and_grad(R, F, label_smoothing=2),
            ValueError,
            "discriminator_loss_and_grad: label_smoothing must be from 0 to 1, got 2",
        ),
        (
            lambda: generator_loss_and_grad(F, real_logits=R),
            ValueError,
            'generator_loss_and_grad: real_logits must be None for loss="non_saturating"',
        ),
        (
            lambda: generator_loss_and_grad(F, loss="relativistic"),
            ValueError,
            'generator_loss_and_grad: real_logits must be given for loss="relativistic"',
        ),
        (
            lambda: generator_loss_and_grad([F], weights=[math.nan]),
            ValueError,
            "generator_loss_and_grad: weights[0] must be finite, got nan",
        ),
        (
            lambda: generator_loss_and_grad(3.0),
            TypeError,
            "generator_loss_and_grad: fake_logits must be a tensor or a list of tensors, got float",
        ),
        (
            lambda: discriminator_loss_and_grad(R, F.half()),
            TypeError,
            "discriminator_loss",  # the op's own checks name the loss
        ),
        (
            lambda: discriminator_loss_and_grad(R[:0], F),
            ValueError,
            "discriminator_loss",
        ),
    ],
)
def test_loss_and_grad(call, error, message):
    with raises(error, "pygan.fused_losses." + message):
        call()


def of(*shapes, grad=True):
    return [torch.zeros(shape, requires_grad=grad) for shape in shapes]


@pytest.mark.parametrize(
    ("logits", "error", "message"),
    [
        ((), ValueError, "logits must be 1 to 2 arguments, got 0"),
        (of(3, 3, 3), ValueError, "logits must be 1 to 2 arguments, got 3"),
        (
            [of(3)],
            ValueError,
            "logits[0] must be the loss's logits, a tensor of shape (3,), got a list",
        ),
        ((2.5,), TypeError, "logits[0] must be a tensor or a list of tensors, got float"),
        (
            of(3, 4),
            ValueError,
            "logits[1] must have the shape, dtype and device of its gradient, (3,), torch.float32, cpu, "
            "got (4,), torch.float32, cpu",
        ),
        (
            [torch.zeros(3, dtype=torch.float64, requires_grad=True)],
            ValueError,
            "logits[0] must have the shape, dtype and device of its gradient, (3,), torch.float32, cpu, "
            "got (3,), torch.float64, cpu",
        ),
        (
            [torch.zeros(3, device="meta", requires_grad=True)],
            ValueError,
            "logits[0] must have the shape, dtype and device of its gradient, (3,), torch.float32, cpu, "
            "got (3,), torch.float32, meta",
        ),
        (
            of(3, grad=False),
            ValueError,
            "logits[0] must require a gradient, got a tensor that does",
        ),
    ],
)
def test_invalid_logits_are_refused_by_backward(logits, error, message):
    result = discriminator_loss_and_grad(torch.zeros(3), torch.zeros(3))
    with raises(error, "pygan.fused_losses.LossAndGrad.backward: " + message):
        result.backward(*logits)
    assert all(x.grad is None for x in logits if isinstance(x, torch.Tensor))


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ((of(3), of(3, 2)), "logits[0] must be the loss's logits, a list of length 2, got a list"),
        (
            (of(3, 1), of(3, 2)),
            "logits[0][1] must have the shape, dtype and device of its gradient, (2,), ",
        ),
        ((of(3, 2), of(3, 2, grad=False)), "logits[1][0] must require a gradient"),
        (
            (torch.zeros(3),),
            "logits[0] must be the loss's logits, a list of length 2, got a tensor",
        ),
    ],
)
def test_backward_of_lists(lists, message):
    result = discriminator_loss_and_grad(of(3, 2), of(3, 2))
    with raises(ValueError, "pygan.fused_losses.LossAndGrad.backward: " + message):
        result.backward(*lists)


# --- transforms ---------------------------------------------------------------------------------------

TRANSFORMS = {
    "grad": lambda f: torch.func.grad(f)(R),
    "jvp": lambda f: torch.func.jvp(f, (R,), (R,)),
    "vmap": lambda f: torch.func.vmap(f)(torch.stack([R, F])),
    "vmap of grad": lambda f: torch.func.vmap(torch.func.grad(f))(torch.stack([R, F])),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_transforms_are_refused_with_an_alternative(case, reduction, transform):
    def function(x):
        terms = case.call([x, x + 1][: len(case.roles)], reduction=reduction)
        return sum(t.sum() for t in (terms if isinstance(terms, tuple) else (terms,)))

    with pytest.raises(
        NotImplementedError, match=r"^pygan.*; use|^pygan.*, or use pygan\.reference"
    ):
        TRANSFORMS[transform](function)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms_of_loss_and_grad(transform):
    with pytest.raises(
        NotImplementedError, match=r"^pygan.*; use|^pygan.*, or use pygan\.reference"
    ):
        TRANSFORMS[transform](lambda x: generator_loss_and_grad(x).loss)
