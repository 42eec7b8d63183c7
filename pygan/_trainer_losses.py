"""GANTrainer's losses, given by name or as a custom object, and their backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from pygan import _ops, fused_losses
from pygan._loss_results import mixable, mixed
from pygan._penalty_base import NO_GRADIENT, DiscriminatorPass
from pygan._precision import wide
from pygan._trainer_discriminator import BackwardPass
from pygan._validation import describe
from pygan.fused_losses import LossAndGrad, LossStats

__all__ = ["NONFINITE", "LossFunctions", "Losses", "Result", "accumulate", "combined"]

NONFINITE = LossStats._fields.index("nonfinite")


class LossFunctions(Protocol):
    """Interface of a custom loss for ``GANTrainer(loss=...)``. The module `pygan.fused_losses` implements it.

    Both functions get the discriminator's unmodified output. Statistics and penalties use only the logits, which
    ``GANTrainer(logits=...)`` selects if the output contains anything else. If the object has an attribute `compares`
    that is true, its `generator_loss` gets the discriminator's output for real samples, without a graph, as a second
    argument. If the object has ``state_dict`` and ``load_state_dict``, its state becomes part of the trainer's.
    """

    def discriminator_loss(self, real_output: Any, fake_output: Any, /) -> Tensor:
        """The discriminator's loss, 0-d, from its outputs for real and for generated samples."""

    def generator_loss(self, fake_output: Any, /) -> Tensor:
        """The generator's loss, 0-d."""


class Result(NamedTuple):
    """A loss that is ready for its backward pass."""

    loss: Tensor | None
    """Detached; None, like the statistics, for a single side."""
    stats: LossStats | None
    outputs: list[Tensor]
    """The tensors from which the backward pass starts."""
    grads: Sequence[Tensor | None]
    """The gradients of `outputs`; None means 1."""

    def times(self, factor: float | Tensor) -> Result:
        """The same loss with its gradients multiplied by `factor`, each rounded once."""
        ones = [torch.ones_like(x) if g is None else g for x, g in zip(self.outputs, self.grads)]
        return self._replace(grads=[(wide(g) * factor).to(g.dtype) for g in ones])

    def backward(
        self, terms: Sequence[Tensor], weight: float, scaler: torch.amp.GradScaler | None
    ) -> None:
        """The backward pass of `weight` times the sum of the loss and the 0-d terms.

        Raises:
            RuntimeError: one of them does not depend on any trained parameter.
        """
        outputs = [*self.outputs, *terms]
        grads: list[Tensor | None] = [*self.grads, *[None] * len(terms)]
        for x in outputs:
            if not x.requires_grad:
                raise RuntimeError(NO_GRADIENT.format("the trained parameters"))
        if weight != 1.0 or scaler is not None:
            weighted = [
                torch.full_like(x, weight) if g is None else g * weight
                for x, g in zip(outputs, grads, strict=True)
            ]
            grads = [*weighted] if scaler is None else [scaler.scale(g) for g in weighted]
        _ops.backward(outputs, grads)


class Losses:
    """The two losses of a GAN.

    Args:
        loss: one of ``pygan.fused_losses.LOSSES``, or :class:`LossFunctions`.
        label_smoothing, weights: options of the named losses.
    """

    def __init__(
        self,
        loss: str | LossFunctions,
        label_smoothing: float,
        weights: float | Sequence[float] | None,
    ) -> None:
        self.loss, self.label_smoothing, self.weights = loss, label_smoothing, weights
        compares = getattr(loss, "compares", False)
        if isinstance(loss, str):
            compares = fused_losses.compares(loss)
        # The module fused_losses has a function of that name.
        self.compares = not callable(compares) and bool(compares)
        """Whether the generator's loss needs the discriminator's output for real samples."""

    def discriminator(self, backward: BackwardPass, *, scaled: bool) -> Result:
        """The discriminator's loss; `scaled` says whether a GradScaler scales the gradients."""
        real, fake = backward.real, backward.fake
        if len(backward.names) < 2:
            return self._of_one(backward, scaled)
        if not isinstance(self.loss, str):
            value = _checked(
                "discriminator_loss", self.loss.discriminator_loss(real.output, fake.output)
            )
            return Result(value.detach(), self.numbers(real, fake)[1], [value], [None])
        real_logits, fake_logits = _scalable(real.logits, scaled), _scalable(fake.logits, scaled)
        result = self._of_both(real_logits, fake_logits)
        assert result.stats is not None
        outputs, grads = _listed(real_logits, fake_logits), _listed(*result.grads)
        return Result(result.loss, result.stats, outputs, grads)

    def numbers(self, real: DiscriminatorPass, fake: DiscriminatorPass) -> tuple[Tensor, LossStats]:
        """The discriminator's loss and statistics; for a custom loss, only the statistics are meaningful."""
        result = self._of_both(_detached(real.logits), _detached(fake.logits))
        assert result.stats is not None
        return result.loss, self._own(result.stats)

    def _of_both(self, real_logits: Any, fake_logits: Any) -> LossAndGrad:
        return fused_losses.discriminator_loss_and_grad(
            real_logits,
            fake_logits,
            loss=self.loss if isinstance(self.loss, str) else "non_saturating",
            label_smoothing=self.label_smoothing,
            weights=self.weights,
            return_stats=True,
        )

    def _of_one(self, backward: BackwardPass, scaled: bool) -> Result:
        """The part of the loss for the side in this pass; empty if there is none."""
        options: dict[str, Any] = {"loss": self.loss, "weights": self.weights}
        values = []
        if "real" in backward.names:
            logits = _scalable(backward.real.logits, scaled)
            options["label_smoothing"] = self.label_smoothing
            values = [fused_losses.real_loss(logits, **options)]
        elif "fake" in backward.names:
            values = [fused_losses.fake_loss(_scalable(backward.fake.logits, scaled), **options)]
        return Result(None, None, values, [None] * len(values))

    def generator(
        self,
        fake: DiscriminatorPass,
        real: DiscriminatorPass | None,
        *,
        scaled: bool,
        differentiable: bool,
    ) -> Result:
        """The generator's loss; `real` is for losses that compare. `differentiable`: `outputs` is the loss itself."""
        if not isinstance(self.loss, str):
            asked = [fake.output] if real is None else [fake.output, real.output]
            value = _checked("generator_loss", self.loss.generator_loss(*asked))
            numbers = fused_losses.generator_loss_and_grad(
                _detached(fake.logits), return_stats=True
            )
            assert numbers.stats is not None
            return Result(value.detach(), self._own(numbers.stats), [value], [None])
        fake_logits = _scalable(fake.logits, scaled)
        real_logits = None if real is None else _scalable(real.logits, scaled)
        options: dict[str, Any] = {"loss": self.loss, "weights": self.weights}
        options |= {"real_logits": real_logits, "return_stats": True}
        if differentiable:
            value, stats = fused_losses.generator_loss(fake_logits, **options)
            return Result(value.detach(), stats, [value], [None])
        result = fused_losses.generator_loss_and_grad(fake_logits, **options)
        assert result.stats is not None
        return Result(result.loss, result.stats, _listed(fake_logits), _listed(result.grads[0]))

    def _own(self, stats: LossStats) -> LossStats:
        """The statistics, without the bound on the divergence for a custom loss, to which it does not apply."""
        if isinstance(self.loss, str):
            return stats
        return stats._replace(jsd_bound=torch.full_like(stats.jsd_bound, float("nan")))


def _checked(verb: str, value: Any) -> Tensor:
    """The result of a custom loss's method."""
    if not isinstance(value, Tensor) or value.dim() != 0:
        raise TypeError(f"GANTrainer: loss.{verb} must return a 0-d tensor, got {describe(value)}")
    return value


def accumulate(totals: dict[Any, Tensor], key: Any, weight: float, value: Tensor) -> None:
    """Adds the value of a micro-batch, of the given weight, to that of the whole batch."""
    # A leaf is copied, because the optimizer changes it in place.
    value = weight * value.detach() if weight != 1.0 or value.is_leaf else value.detach()
    totals[key] = totals[key] + value if key in totals else value


def combined(numbers: list[tuple[float, Tensor, LossStats]]) -> tuple[Tensor, LossStats]:
    """Loss and statistics of the whole batch, from (weight, loss, statistics) of its micro-batches."""
    if len(numbers) == 1:
        return numbers[0][1:]
    table = torch.stack([torch.stack(mixable(loss, stats)) for _, loss, stats in numbers])
    means = sum(weight * row for (weight, *_), row in zip(numbers, table))
    means[NONFINITE + 1] = table[:, NONFINITE + 1].sum()
    return mixed(means.unbind(), numbers[0][2].nonfinite.dtype)


def _scalable(logits: Any, scaled: bool) -> Any:
    """fp16 logits as fp32 if gradients are scaled, so that each gradient is scaled before it is rounded to fp16: the
    gradient of a mean over many logits underflows in fp16."""
    if not scaled or logits is None:
        return logits
    if isinstance(logits, Tensor):
        return logits.float() if logits.dtype == torch.float16 else logits
    return [_scalable(x, scaled) for x in logits]


def _listed(*given: Any) -> list[Tensor]:
    return [x for each in given for x in ([each] if isinstance(each, Tensor) else each)]


def _detached(logits: Any) -> Any:
    return logits.detach() if isinstance(logits, Tensor) else [x.detach() for x in logits]
