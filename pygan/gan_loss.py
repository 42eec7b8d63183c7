"""GANLoss: the loss of one side (real or generated) per call, the interface that many codebases share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from torch import Tensor

from pygan._loss_results import Logits
from pygan._validation import check_bool
from pygan.fused_losses import fake_loss, generator_loss, real_loss
from pygan.loss_modules import LossModule, Reduced, Result, Weights, zeros

__all__ = ["GANLoss"]


class GANLoss(LossModule[Result]):
    """The loss of one side per call, in the interface that BasicSR, pix2pix and CycleGAN share.

        criterion = pygan.GANLoss("hinge")
        d_loss = criterion(D(real), True) + criterion(D(fake.detach()), False)
        g_loss = criterion(D(fake), True, for_discriminator=False)

    The two flags choose between :func:`pygan.fused_losses.real_loss`, :func:`pygan.fused_losses.fake_loss` and
    :func:`pygan.fused_losses.generator_loss`. For ``non_saturating``, ``least_squares`` and ``wasserstein``, the
    generator's loss equals the loss of real logits, so ``criterion(D(fake), True)`` works too, with the discriminator's
    target and weights.

    Args:
        loss: one of ``pygan.fused_losses.LOSSES`` that does not compare real with fake logits.
        real_target, fake_target: the targets of the discriminator's logits, `target` of the functions.
        generator_target: the same for the generator.
        weights: as for the functions; if the predictions are lists, a list with one number per scale.
        generator_weights: replaces `weights` for the generator.
        reduction: as for the functions.

    Shape: a tensor, or a list of tensors, one per scale, to a 0-d tensor; with ``reduction="none"`` to the terms.

    Raises:
        TypeError, ValueError: as for the functions: invalid options raise when the module is constructed, invalid
            predictions when it is called; a flag that is not a bool; a target other than real for the generator.
    """

    @overload
    def __init__(
        self: GANLoss[Tensor],
        loss: str = ...,
        *,
        real_target: float | None = ...,
        fake_target: float | None = ...,
        generator_target: float | None = ...,
        weights: Weights = ...,
        generator_weights: Weights = ...,
        reduction: Reduced = ...,
    ) -> None: ...
    @overload
    def __init__(
        self: GANLoss[Any],
        loss: str = ...,
        *,
        real_target: float | None = ...,
        fake_target: float | None = ...,
        generator_target: float | None = ...,
        weights: Weights = ...,
        generator_weights: Weights = ...,
        reduction: str,
    ) -> None: ...
    def __init__(
        self,
        loss: str = "non_saturating",
        *,
        real_target: float | None = None,
        fake_target: float | None = None,
        generator_target: float | None = None,
        weights: Weights = None,
        generator_weights: Weights = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(
            loss,
            real_target=real_target,
            fake_target=fake_target,
            generator_target=generator_target,
            weights=weights,
            generator_weights=generator_weights,
            reduction=reduction,
        )
        if generator_weights is None:
            generator_weights = weights
        self._real = self._side(real_target, weights)
        self._fake = self._side(fake_target, weights)
        self._generator = self._side(generator_target, generator_weights)
        self.forward(zeros(weights), True)
        self.forward(zeros(weights), False)
        self.forward(zeros(generator_weights), True, for_discriminator=False)

    def _side(self, target: float | None, weights: Weights) -> dict[str, Any]:
        shared = {
            name: self._options[name] for name in ("loss", "reduction") if name in self._options
        }
        own = {"target": target, "weights": weights}
        return shared | {name: value for name, value in own.items() if value is not None}

    def forward(
        self, prediction: Logits, target_is_real: bool, for_discriminator: bool = True
    ) -> Result:
        op = "pygan.GANLoss"
        check_bool(op, "target_is_real", target_is_real)
        check_bool(op, "for_discriminator", for_discriminator)
        if for_discriminator:
            if target_is_real:
                return real_loss(prediction, **self._real)
            return fake_loss(prediction, **self._fake)
        if not target_is_real:
            raise ValueError(
                f"{op}: target_is_real must be True for the generator, whose target is real, got False"
            )
        return generator_loss(prediction, **self._generator)

    if TYPE_CHECKING:
        __call__ = forward
