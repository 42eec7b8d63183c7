"""Losses as GANTrainer takes them, by name or as an object of the user's own, and the backward pass from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from pygan import _C, fused_losses
from pygan._loss_results import mixable, mixed
from pygan._penalty_base import NO_GRADIENT, Judged
from pygan.fused_losses import LossStats

__all__ = ["NONFINITE", "LossFunctions", "Losses", "Result", "combined"]

NONFINITE = LossStats._fields.index("nonfinite")


class LossFunctions(Protocol):
    """A loss of one's own, for ``GANTrainer(loss=...)``. The module `pygan.fused_losses` is one.

    Both get what the discriminator returned, as it is. Statistics and penalties are of the logits alone, which
    ``GANTrainer(logits=...)`` picks from it if it holds anything else. If the object has ``state_dict`` and
    ``load_state_dict``, its state is a part of the trainer's.
    """

    def discriminator_loss(self, real_output: Any, fake_output: Any, /) -> Tensor:
        """The discriminator's loss, 0-d, of what it returned for real and for generated samples."""

    def generator_loss(self, fake_output: Any, /) -> Tensor:
        """The generator's loss, 0-d."""


class Result(NamedTuple):
    """A loss in front of its backward pass."""

    loss: Tensor
    """Detached."""
    stats: LossStats
    outputs: list[Tensor]
    """Where the backward pass starts, and the gradients there; None stands for 1."""
    grads: Sequence[Tensor | None]

    def backward(
        self, terms: list[Tensor], weight: float, scaler: torch.amp.GradScaler | None
    ) -> None:
        """The backward pass of `weight` times the loss and the terms that are added to it, 0-d.

        Raises:
            RuntimeError: one of them depends on nothing that is trained.
        """
        outputs = [*self.outputs, *terms]
        grads: list[Tensor | None] = [*self.grads, *[None] * len(terms)]
        if not all(x.requires_grad for x in outputs):
            raise RuntimeError(NO_GRADIENT.format("the trained parameters"))
        if weight != 1.0 or scaler is not None:
            weighted = [
                torch.full_like(x, weight) if g is None else g * weight
                for x, g in zip(outputs, grads, strict=True)
            ]
            grads = [*weighted] if scaler is None else [scaler.scale(g) for g in weighted]
        _C.backward(outputs, grads)


class Losses:
    """The two losses of a GAN.

    Args:
        loss: one of ``pygan.fused_losses.LOSSES``, or :class:`LossFunctions`.
        label_smoothing, weights: of the named ones.
    """

    def __init__(
        self,
        loss: str | LossFunctions,
        label_smoothing: float,
        weights: float | Sequence[float] | None,
    ) -> None:
        self.loss, self.label_smoothing, self.weights = loss, label_smoothing, weights
        self.compares = isinstance(loss, str) and fused_losses.compares(loss)
        """Whether the generator's loss needs the real samples' logits."""

    def discriminator(self, real: Judged, fake: Judged, *, scaled: bool) -> Result:
        """The discriminator's; `scaled` says whether a GradScaler scales the gradients."""
        if not isinstance(self.loss, str):
            value = self.loss.discriminator_loss(real.output, fake.output)
            numbers = fused_losses.discriminator_loss_and_grad(
                _detached(real.logits), _detached(fake.logits), return_stats=True
            )
            return _own(value, numbers.stats)
        real_logits, fake_logits = _scalable(real.logits, scaled), _scalable(fake.logits, scaled)
        result = fused_losses.discriminator_loss_and_grad(
            real_logits,
            fake_logits,
            loss=self.loss,
            label_smoothing=self.label_smoothing,
            weights=self.weights,
            return_stats=True,
        )
        assert result.stats is not None
        judged = [*_listed(real_logits), *_listed(fake_logits)]
        grads = [*_listed(result.grads[0]), *_listed(result.grads[1])]
        return Result(result.loss, result.stats, judged, grads)

    def generator(self, fake: Judged, real_logits: Any, *, scaled: bool) -> Result:
        """The generator's; the logits of real samples are for the losses that compare with them."""
        if not isinstance(self.loss, str):
            value = self.loss.generator_loss(fake.output)
            numbers = fused_losses.generator_loss_and_grad(
                _detached(fake.logits), return_stats=True
            )
            return _own(value, numbers.stats)
        fake_logits, real_logits = _scalable(fake.logits, scaled), _scalable(real_logits, scaled)
        result = fused_losses.generator_loss_and_grad(
            fake_logits,
            real_logits=real_logits,
            loss=self.loss,
            weights=self.weights,
            return_stats=True,
        )
        assert result.stats is not None
        return Result(result.loss, result.stats, _listed(fake_logits), _listed(result.grads[0]))


def combined(results: list[tuple[float, Result]]) -> tuple[Tensor, LossStats]:
    """Loss and statistics of the whole, from those of its micro-batches and their weights."""
    if len(results) == 1:
        return results[0][1].loss, results[0][1].stats
    table = torch.stack([torch.stack(mixable(r.loss, r.stats)) for _, r in results])
    weights = [weight for weight, _ in results]
    means = sum(w * row for w, row in zip(weights, table))
    means[NONFINITE + 1] = table[:, NONFINITE + 1].sum()
    return mixed(means.unbind(), results[0][1].stats.nonfinite.dtype)


def _own(value: Tensor, stats: LossStats | None) -> Result:
    """The result of a loss of the user's own: the bound on the divergence is not its."""
    assert stats is not None
    stats = stats._replace(jsd_bound=torch.full_like(stats.jsd_bound, float("nan")))
    return Result(value.detach(), stats, [value], [None])


def _scalable(logits: Any, scaled: bool) -> Any:
    """fp16 logits as fp32 where gradients are scaled: the gradient by each is scaled before it is rounded to fp16, in
    which that of a mean over many logits underflows."""
    if not scaled or logits is None:
        return logits
    if isinstance(logits, Tensor):
        return logits.float() if logits.dtype == torch.float16 else logits
    return [_scalable(x, scaled) for x in logits]


def _listed(x: Any) -> list[Tensor]:
    return [x] if isinstance(x, Tensor) else list(x)


def _detached(logits: Any) -> Any:
    return logits.detach() if isinstance(logits, Tensor) else [x.detach() for x in logits]
