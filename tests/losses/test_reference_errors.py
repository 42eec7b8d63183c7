"""Errors of pygan.reference's losses."""

import math

import pytest
import torch

from pygan import reference

Z = torch.zeros(2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(loss="hing"), ValueError, "loss must be one of non_saturating, .*, got 'hing'"),
        (dict(reduction="max"), ValueError, "reduction must be 'mean', 'sum' or 'none', got 'max'"),
        (dict(label_smoothing=1.5), ValueError, "label_smoothing must be from 0 to 1, got 1.5"),
        (
            dict(label_smoothing=math.nan),
            ValueError,
            "label_smoothing must be from 0 to 1, got nan",
        ),
        (dict(label_smoothing="1"), TypeError, "label_smoothing must be a number, got str"),
        (
            dict(label_smoothing=0.1, loss="hinge"),
            ValueError,
            "label_smoothing must be 0 for loss='hinge', got 0.1",
        ),
        (dict(real_logits=Z[:0]), ValueError, r"real_logits must not be empty .* \(0,\)"),
        (
            dict(real_logits=Z[:0], loss="relativistic_average", reduction="sum"),
            ValueError,
            r"real_logits must not be empty .* \(0,\)",
        ),
        (
            dict(fake_logits=Z.long()),
            TypeError,
            "fake_logits must be a floating-point tensor, got torch.int64",
        ),
        (
            dict(fake_logits=Z.half()),
            TypeError,
            "fake_logits must have the dtype of real_logits, .*16",
        ),
        (
            dict(fake_logits=3.0),
            ValueError,
            "fake_logits must be a tensor or a list like real_logits",
        ),
        (
            dict(fake_logits=[Z]),
            ValueError,
            "fake_logits must be a tensor or a list like real_logits",
        ),
        (
            dict(real_logits=[], fake_logits=[]),
            ValueError,
            "real_logits must hold one tensor per scale",
        ),
        (
            dict(real_logits=[Z], fake_logits=[Z, Z]),
            ValueError,
            "fake_logits must hold one .* 2 and 1",
        ),
        (
            dict(real_logits=[Z], fake_logits=[1]),
            TypeError,
            "fake_logits must be a tensor or a list of",
        ),
        (
            dict(fake_logits=torch.zeros(3), loss="relativistic"),
            ValueError,
            r"real_logits and fake_logits must have the same shape .* got \[\(2,\)\] and \[\(3,\)\]",
        ),
        (
            dict(weights=[1.0]),
            ValueError,
            r"weights must be a finite number unless the logits are lists, got \[1.0\]",
        ),
        (
            dict(real_logits=[Z], fake_logits=[Z], weights=[]),
            ValueError,
            "weights must hold one .* 1 scale",
        ),
        (
            dict(real_logits=[Z], fake_logits=[Z], weights=[math.inf]),
            ValueError,
            "weights must hold one finite",
        ),
        (
            dict(real_logits=[Z], fake_logits=[Z], weights=["1"]),
            TypeError,
            "weights must be numbers, got",
        ),
        (
            dict(real_logits=[Z], fake_logits=[Z], weights=math.inf),
            TypeError,
            "weights must be a sequence",
        ),
    ],
)
def test_invalid_arguments_are_refused(arguments, error, message):
    call = {"real_logits": Z, "fake_logits": Z, **arguments}
    with pytest.raises(error, match="discriminator_loss: " + message):
        reference.discriminator_loss(call.pop("real_logits"), call.pop("fake_logits"), **call)


def test_invalid_arguments_of_the_generator_are_refused():
    with pytest.raises(ValueError, match=r"generator_loss: real_logits must be None .* got Tensor"):
        reference.generator_loss(Z, real_logits=Z)
    with pytest.raises(ValueError, match=r"generator_loss: real_logits must be given .* got None"):
        reference.generator_loss(Z, loss="relativistic")
