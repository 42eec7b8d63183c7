"""What every penalty of GANTrainer is, and what the trainer does for it: one double backward for all of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor

from pygan._sample_gradients import gradients_by_sample
from pygan.stream import NoiseStream

__all__ = ["NO_GRADIENT", "Judged", "Penalty", "differentiated", "second_derivatives"]


class Judged(NamedTuple):
    """One side, real or generated, on its way through the discriminator."""

    samples: Tensor
    """(N, ...); requires grad where a penalty asks for it."""
    inputs: Tensor
    """What the discriminator got: `samples`, augmented and with noise."""
    output: Any
    """What the discriminator returned; None where it was not asked."""
    logits: Any
    """The logits in it: a tensor, or a list of them; None where it was not asked."""
    gradient: Tensor | None = None
    """(N, elements of a sample), at least float32: the gradient of the sum of the logits by the samples, differentiable
    in turn, where a penalty asks for it."""


class Penalty:
    """Base class of the penalties. One with ``state_dict`` and ``load_state_dict`` has its state in the trainer's.

    Attributes:
        every: the penalty is computed in every `every`-th discriminator step, and multiplied by `every` ("lazy
            regularization", Karras et al. 2020a, section 3.1, who also scale Adam's learning rate and betas for it).
    """

    every: int = 1

    @property
    def differentiates(self) -> frozenset[str]:
        """Which of "real", "fake" and "probe" need the gradient of their logits: it is in :class:`Judged`, and that of
        all penalties takes one pass."""
        return frozenset()

    @property
    def reads(self) -> frozenset[str]:
        """Whose of "real" and "fake" logits, or gradients of these, `value` looks at, beside the probe's. (Where the
        trainer judges the sides separately, a penalty may read one at the most.)"""
        return frozenset({"real", "fake"})

    @property
    def compares(self) -> str | None:
        """The side, "real" or "fake", whose logits the probe's are compared with: its forward pass is that of the
        side once more, with the same random numbers and buffers, and leaves no trace in either."""
        return None

    def probe(self, real: Judged, fake: Judged, stream: NoiseStream) -> Tensor | None:
        """Further inputs (N, ...) at which the discriminator is to be asked, if any; leaves that require a gradient if
        the penalty differentiates them. It is asked before the discriminator is: real and fake have no logits yet."""
        return None

    def value(self, real: Judged, fake: Judged, probe: Judged | None, step: int) -> Tensor:
        """The penalty, 0-d, without the factor `every`, after `step` iterations."""
        raise NotImplementedError


NO_GRADIENT = (
    "GANTrainer: logits, loss and penalties must be differentiable by {}, got one that is not (neither augment, nor a "
    "network, nor a loss of your own may detach what it is given)"
)
# What torch says where there are none: of single ops, of autograd functions, and of compiled networks.
_NO_SECOND = re.compile(
    "derivative for|once_differentiable|donated buffers|not currently support double backward"
)


def differentiated(
    penalties: Sequence[Penalty], real: Judged, fake: Judged, probes: Sequence[Judged | None]
) -> tuple[Judged, Judged, list[Judged | None]]:
    """The same with the gradients that the penalties ask for, all from one backward pass.

    Raises:
        RuntimeError: logits do not depend on their samples.
    """
    judged: list[Judged | None] = [real, fake, *probes]
    wanted = [any(side in p.differentiates for p in penalties) for side in ("real", "fake")]
    wanted += ["probe" in p.differentiates for p in penalties]
    asked = {i: x for i, (x, yes) in enumerate(zip(judged, wanted, strict=True)) if x and yes}
    if asked:
        gradients = gradients_by_sample(
            [x.logits for x in asked.values()], [x.samples for x in asked.values()]
        )
        for (i, x), gradient in zip(asked.items(), gradients, strict=True):
            if gradient is None:
                raise RuntimeError(NO_GRADIENT.format("the samples"))
            judged[i] = x._replace(gradient=gradient)
    first, second, *others = judged
    assert first is not None and second is not None
    return first, second, others


@contextmanager
def second_derivatives(penalties: Sequence[Penalty]) -> Iterator[None]:
    """Within it, where the penalties are differentiated, torch's error for an op without a second derivative says what
    to do."""
    try:
        yield
    except RuntimeError as error:
        names = [type(p).__name__ for p in penalties if p.differentiates]
        if not names or not _NO_SECOND.search(str(error)):
            raise
        raise RuntimeError(
            f"GANTrainer: the discriminator must have second derivatives for {', '.join(names)}, got: {error} "
            "(R1 and R2 with sigma= need none; scaled_dot_product_attention has them within "
            "torch.nn.attention.sdpa_kernel(SDPBackend.MATH), a compiled network where it is not compiled)"
        ) from error
