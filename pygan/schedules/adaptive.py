"""Schedules that respond to the discriminator: their base class, and ADA's rule for sigma."""

from __future__ import annotations

import torch
from torch import Tensor

from pygan._validation import check_float, is_number
from pygan.schedules.base import Schedule, checked, checked_steps


class Feedback(Schedule):
    """Base class: a position that each step moves up if the discriminator overfits, and down if it does not.

    The measure is r_t, the mean sign of the logits of real samples (Karras et al. 2020b, equation 1), or of the loss's
    own decision value (:class:`pygan.fused_losses.LossStats`): 1 if all real samples look real to the discriminator, 0
    if it cannot tell. Not for wasserstein, which leaves an offset of the logits undetermined.

    A step moves the position by ``sign(r_t - target) * (high - low) / steps`` and clamps it to [low, high].

    For the losses non_saturating, minimax and hinge. With least_squares, an undecided discriminator outputs 1/2, so
    r_t is 1 whatever it learns; with wasserstein and the relativistic losses, only differences of logits matter.

    Attributes:
        position: 0-d buffer, in `state_dict()`. In float64, so that steps below float32's resolution still count.
    """

    position: Tensor

    def __init__(
        self, low: float, high: float, steps: int, start: float, target: float, sigma: float
    ) -> None:
        name = type(self).__name__
        if not is_number(target) or not -1.0 < target < 1.0:
            raise ValueError(
                f"{name}: target must be a number between -1 and 1, a mean sign, got {target!r}"
            )
        self.low, self.high, self.target = low, high, float(target)
        self.steps = checked_steps(name, "steps", steps)
        super().__init__(sigma)
        self.register_buffer("position", torch.tensor(start, dtype=torch.float64))

    def step(self, real_sign: Tensor | None = None) -> None:
        """Move the position toward the target. Does not synchronize.

        One call is one measurement. ADA averages the measure over 4 minibatches: to do so, call this every 4th
        iteration, with the mean of the 4. Processes that share a batch must average it among themselves first, or
        their schedules diverge; GANTrainer's statistics are already averaged.

        Args:
            real_sign: 0-d floating-point tensor on the schedule's device: `real_sign` of the statistics from
                :mod:`pygan.fused_losses` or :class:`pygan.GANTrainer`. NaN leaves the position unchanged.

        Raises:
            TypeError: not a floating-point tensor.
            ValueError: not 0-d, or on another device.
        """
        direction = torch.sign(self._checked_sign(real_sign) - self.target)  # of NaN: 0
        speed = (self.high - self.low) / self.steps
        self.position.add_(direction, alpha=speed).clamp_(self.low, self.high)
        self._move_to(self.count + 1)

    def _move_to(self, count: int) -> None:
        self.count = count
        self._refresh()

    def _refresh(self) -> None:
        """Write sigma, in place, from the position."""
        raise NotImplementedError

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.position.clamp_(self.low, self.high)  # it may have been saved with other limits
        super().set_extra_state(state)

    def _checked_sign(self, real_sign: Tensor | None) -> Tensor:
        name = f"{type(self).__name__}.step: real_sign"
        must = f"{name} must be the mean sign of the real logits, a 0-d floating-point tensor (stats.real_sign), got"
        if not isinstance(real_sign, Tensor):
            raise TypeError(f"{must} {type(real_sign).__name__}")
        if not real_sign.is_floating_point():
            raise TypeError(f"{must} {real_sign.dtype}")
        check_float(f"{type(self).__name__}.step", "real_sign", real_sign)
        if real_sign.dim() != 0:
            raise ValueError(f"{must} shape {tuple(real_sign.shape)}")
        if real_sign.device != self.position.device:
            raise ValueError(
                f"{name} must be on the schedule's device, {self.position.device}, got {real_sign.device}"
            )
        return real_sign.detach()  # or the position would keep the graph of every step


class Adaptive(Feedback):
    """ADA's rule for sigma (Karras et al. 2020b, "Training GANs with Limited Data", section 3).

    More noise if the discriminator overfits, less if it does not (for any loss except wasserstein):
    ``sigma += sign(real_sign - target) * (high - low) / steps``, clamped to [low, high].

        noise = pygan.InstanceNoise(pygan.schedules.Adaptive(0.0, 0.5, steps=8_000))
        noise.step(stats.real_sign)

    The paper controls the probability p of an augmentation, which takes at least 500,000 images from 0 to 1:
    ``p += sign(r_t - target) * (batch * interval) / (kimg * 1000)``. This corresponds to
    ``steps = kimg * 1000 / (batch * interval)``, about 7,800 for batches of 64 and a step in every iteration.

    Args:
        low, high: limits of sigma, non-negative, low < high.
        steps: minimum number of calls of `step` from one limit to the other, at least 1.
        start: the first sigma, from low to high; None (ADA's choice) means `low`.
        target: the real_sign to maintain, between -1 and 1.

    Attributes:
        position: sigma in float64.

    Raises:
        ValueError: a value out of range.
    """

    def __init__(
        self,
        low: float,
        high: float,
        steps: int,
        *,
        start: float | None = None,
        target: float = 0.6,
    ) -> None:
        low, high = checked("Adaptive", "low", low), checked("Adaptive", "high", high)
        if low >= high:
            raise ValueError(f"Adaptive: low must be less than high, {high!r}, got {low!r}")
        start = low if start is None else checked("Adaptive", "start", start)
        if not low <= start <= high:
            raise ValueError(f"Adaptive: start must be from {low!r} to {high!r}, got {start!r}")
        super().__init__(low, high, steps, start, target, sigma=start)

    def _refresh(self) -> None:
        self.sigma.copy_(self.position)

    def extra_repr(self) -> str:
        return f"low={self.low}, high={self.high}, steps={self.steps}, target={self.target}"
