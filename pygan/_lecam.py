"""LeCam: regularization of the discriminator with moving averages of its logits."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from pygan import _penalty_checks as checked
from pygan._penalty_base import DiscriminatorPass, Penalty
from pygan._precision import wide
from pygan._running_means import RunningMeans
from pygan._validation import check_float, check_int, describe, scales

__all__ = ["LeCam"]


class LeCam(RunningMeans, Penalty):
    """weight · (mean relu(r − a_f)² + mean relu(a_r − f)²), with r and f the logits of real and generated samples and
    a_r and a_f exponential moving averages of their means (Tseng et al. 2021, "Regularizing Generative Adversarial
    Networks under Limited Data", section 3.2; the one-sided squares follow the authors' code).

        lecam = pygan.penalties.LeCam(0.3)
        real_logits, fake_logits = D(real), D(fake.detach())
        loss = pygan.fused_losses.discriminator_loss(real_logits, fake_logits, loss="hinge")
        loss = loss + lecam(real_logits, fake_logits)

    In training mode, each call first updates the averages, a ← decay · a + (1 − decay) · mean; in eval mode, no call
    does. A non-finite mean leaves them unchanged. They are buffers on the logits' device that stay float64 whatever the
    module is converted to; updating them never synchronizes. In ``GANTrainer(penalties=...)`` they are part of the
    trainer's state, and each micro-batch of each discriminator step in which the penalty is due updates them.

    If ``torch.distributed`` is initialized, the means cover the logits of all processes, so that the averages are
    the same everywhere, and every process must make the call. The penalty uses the process's own logits.

    Args:
        weight: λ, positive; the penalty scales with the square of the logits.
        decay: decay of the averages, from 0 to below 1.
        start: for the first `start` calls, the penalty is 0 and the averages are the call's own means. With 0, the
            averages start at 0 and the penalty applies from the first call.
        scales: number of logits in the lists of a multi-scale discriminator: each scale has its own averages, and
            the penalty is the sum over the scales.
        every: see :class:`Penalty`.

    Attributes:
        averages: (2, scales): a_r and a_f.
        calls: number of updates, 0-d.

    Raises:
        TypeError, ValueError: an argument is not a number, or is out of range.
    """

    def __init__(
        self,
        weight: float,
        decay: float = 0.99,
        start: int = 1,
        *,
        scales: int = 1,
        every: int = 1,
    ) -> None:
        check_int("LeCam", "scales", scales)
        check_int("LeCam", "every", every)
        super().__init__("LeCam", (2, scales), decay, start)
        self.weight, self.every = checked.positive("LeCam", "weight", weight), every
        self.scales = scales

    def forward(self, real_logits: Any, fake_logits: Any) -> Tensor:
        """The penalty, 0-d, at least float32, differentiable with respect to the logits.

        Args:
            real_logits, fake_logits: floating-point tensors of any shapes, or lists of `scales` such tensors.

        Raises:
            TypeError: logits that are not floating-point tensors.
            ValueError: empty logits, another number of scales, or several devices. The averages are then unchanged.
        """
        real = self._checked("real_logits", real_logits)
        fake = self._checked("fake_logits", fake_logits)
        if len({x.device for x in real + fake}) > 1:
            raise ValueError(
                "LeCam: real_logits and fake_logits must be on one device, got "
                + ", ".join(sorted({str(x.device) for x in real + fake}))
            )
        averages, started = self._moved([x.detach() for x in real + fake])
        a_r, a_f = averages.to(wide(real[0]).dtype).unbind()
        above = [wide(r) - a_f[k] for k, r in enumerate(real)]
        below = [a_r[k] - wide(f) for k, f in enumerate(fake)]
        squares = [x.relu().square().mean() for x in above + below]
        penalty = self.weight * functools.reduce(torch.add, squares)
        return penalty if self.start == 0 else torch.where(started, penalty, 0.0)

    def value(
        self,
        real: DiscriminatorPass,
        fake: DiscriminatorPass,
        probe: DiscriminatorPass | None,
        step: int,
    ) -> Tensor:
        return self(real.logits, fake.logits)

    def extra_repr(self) -> str:
        return f"{self.weight}, decay={self.decay}, start={self.start}, scales={self.scales}, every={self.every}"

    def _checked(self, name: str, logits: Any) -> list[Tensor]:
        listed = scales("LeCam", name, logits)
        if len(listed) != self.scales:
            raise ValueError(
                f"LeCam: {name} must hold {self.scales} tensor(s), the number of scales, got {len(listed)}"
            )
        for x in listed:
            check_float("LeCam", name, x)
            if x.numel() == 0:
                raise ValueError(f"LeCam: {name} must not be empty, got {describe(x)}")
        return listed
