"""The interface of GANTrainer's penalties, and the double backward that they share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from pygan._gradient_penalties import gradients_by_sample
from pygan._parallel import gathered_throughout
from pygan.stream import NoiseStream

__all__ = ["NO_GRADIENT", "DiscriminatorPass", "Penalized", "Penalty", "differentiated"]


class DiscriminatorPass(NamedTuple):
    """One side's pass through the discriminator: its inputs and outputs for real or for generated samples."""

    samples: Tensor
    """(N, ...); requires grad if a penalty needs it."""
    inputs: Tensor
    """The discriminator's input: `samples`, augmented and with noise."""
    output: Any
    """The discriminator's output; None before the discriminator has run."""
    logits: Any
    """The logits in `output`: a tensor, or a list of tensors; None before the discriminator has run."""
    gradient: Tensor | None = None
    """(N, elements of a sample), at least float32: the gradient of the sum of the logits with respect to the samples,
    itself differentiable; None if no penalty needs it."""


class Penalty:
    """Base class of the penalties. If a penalty has ``state_dict`` and ``load_state_dict``, its state becomes part of
    the trainer's.

    Attributes:
        every: the penalty is computed in every `every`-th discriminator step and multiplied by `every` ("lazy
            regularization", Karras et al. 2020a, section 3.1, who also rescale Adam's learning rate and betas for it).
    """

    every: int = 1

    @property
    def differentiates(self) -> frozenset[str]:
        """Which of "real", "fake" and "probe" need the gradient of their logits, stored in :class:`DiscriminatorPass`.
        One backward pass computes the gradients for all penalties."""
        return frozenset()

    @property
    def reads(self) -> frozenset[str]:
        """Which of the "real" and "fake" logits, or their gradients, `value` uses, besides the probe's. (With
        ``separate=True``, a penalty may read at most one.)"""
        return frozenset({"real", "fake"})

    @property
    def compares(self) -> str | None:
        """The side, "real" or "fake", whose logits the probe's are compared with. The probe's forward pass uses the
        random numbers and buffers of that side's pass, and changes neither."""
        return None

    def probe(
        self, real: DiscriminatorPass, fake: DiscriminatorPass, stream: NoiseStream
    ) -> Tensor | None:
        """Further inputs (N, ...) for the discriminator, or None; leaves that require a gradient if the penalty
        differentiates them. Called before the discriminator runs, so real and fake have no logits yet."""
        return None

    def value(
        self,
        real: DiscriminatorPass,
        fake: DiscriminatorPass,
        probe: DiscriminatorPass | None,
        step: int,
    ) -> Tensor:
        """The penalty, 0-d, without the factor `every`, after `step` iterations."""
        raise NotImplementedError


NO_GRADIENT = (
    "GANTrainer: logits, loss and penalties must be differentiable with respect to {}, got one that is not (neither "
    "augment, nor a network, nor a custom loss may detach its inputs)"
)
# torch's messages for a missing second derivative: of an op, an autograd function, a compiled network.
_NO_SECOND = re.compile(
    "derivative for|once_differentiable|donated buffers|not currently support double backward"
)


def differentiated(
    penalties: Sequence[Penalty],
    real: DiscriminatorPass,
    fake: DiscriminatorPass,
    probes: Sequence[DiscriminatorPass | None],
) -> tuple[DiscriminatorPass, DiscriminatorPass, list[DiscriminatorPass | None]]:
    """The arguments with the gradients that the penalties need, computed in one backward pass.

    Raises:
        RuntimeError: logits do not depend on their samples.
    """
    passes: list[DiscriminatorPass | None] = [real, fake, *probes]
    sides = [p.differentiates for p in penalties]
    wanted = [side in frozenset().union(*sides) for side in ("real", "fake")]
    wanted += ["probe" in its for its in sides]
    asked = {i: x for i, (x, yes) in enumerate(zip(passes, wanted, strict=True)) if x and yes}
    if asked:
        gradients = gradients_by_sample(
            [x.logits for x in asked.values()], [x.samples for x in asked.values()]
        )
        for (i, x), gradient in zip(asked.items(), gradients, strict=True):
            if gradient is None:
                raise RuntimeError(NO_GRADIENT.format("the samples"))
            passes[i] = x._replace(gradient=gradient)
    first, second, *others = passes
    assert first is not None and second is not None
    return first, second, others


class Penalized:
    """Context of a discriminator's passes with penalties: keeps its sharded `units` gathered for a second backward
    pass, and explains torch's error for an op without a second derivative, if a penalty needs one."""

    def __init__(self, penalties: Sequence[Penalty], units: list[Any]) -> None:
        self._penalties = penalties
        self._gathered = gathered_throughout(units if penalties else [])

    def __enter__(self) -> None:
        self._gathered.__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self._gathered.__exit__(kind, error, traceback)
        if not isinstance(error, RuntimeError) or not _NO_SECOND.search(str(error)):
            return
        names = [type(p).__name__ for p in self._penalties if p.differentiates]
        if not names:
            return
        raise RuntimeError(
            f"GANTrainer: the discriminator must have second derivatives for {', '.join(names)}, got: {error} (R1 and "
            "R2 with sigma= need none; scaled_dot_product_attention has them within "
            "torch.nn.attention.sdpa_kernel(SDPBackend.MATH); use networks without torch.compile)"
        ) from error
