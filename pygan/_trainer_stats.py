"""TrainStats and how GANTrainer computes them: means over the processes, and the latest values of the penalties."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pygan import _parallel as parallel
from pygan._loss_results import mixable, mixed
from pygan._trainer_batches import Share
from pygan._trainer_losses import NONFINITE
from pygan.fused_losses import LossStats

__all__ = ["Reports", "TrainStats"]


class _Fields(NamedTuple):
    d_loss: Tensor
    """The discriminator's loss; 2 log 2 = 1.386 when it cannot tell real from generated."""
    g_loss: Tensor
    """The generator's adversarial loss; log 2 = 0.693 in that case (non-saturating). Excludes `adversarial_weight` and
    the terms of ``generator_terms``."""
    real_logit: Tensor
    fake_logit: Tensor
    d_real: Tensor
    """D(x)."""
    d_fake: Tensor
    """D(G(z)) in the discriminator step."""
    d_fake_after: Tensor
    """D(G(z)) in the generator step, with the updated discriminator."""
    real_accuracy: Tensor
    """Fraction of the real samples' logits classified as real; :class:`pygan.fused_losses.LossStats` defines this for
    each loss."""
    fake_accuracy: Tensor
    """Fraction of the generated samples' logits classified as fake."""
    real_sign: Tensor
    """Mean sign of the real samples' decisions; near 1 means an overfitting discriminator (Karras et al. 2020b). It
    has no meaning with wasserstein."""
    jsd_bound: Tensor
    """Lower bound on the Jensen-Shannon divergence in nats; while it is stuck at log 2 = 0.693, the generator learns
    nothing."""
    nonfinite: Tensor
    """Logits that were NaN or infinite in the discriminator step."""
    g_nonfinite: Tensor
    """The same in the generator step."""
    penalty: Tensor
    """The sum of the latest values of the penalties; not part of d_loss."""


class TrainStats(_Fields):
    """Statistics of one iteration: detached 0-d tensors on the device. ``torch.stack(stats).tolist()`` reads all fields
    with a single synchronization, :meth:`numbers` the generator's terms as well. Means are over the batch; with several
    discriminator steps, over the batch of the last. Before ``discriminator_start``, everything except the terms is 0.

    Attributes:
        terms: the results of ``generator_terms``, detached, by name.
    """

    terms: Mapping[str, Tensor] = MappingProxyType({})

    def _replace(self, **changed: Any) -> TrainStats:
        stats = super()._replace(**changed)
        stats.terms = self.terms
        return stats

    def numbers(self) -> dict[str, float]:
        """Fields and terms by name, read with a single synchronization."""
        names = [*self._fields, *self.terms]
        values = torch.stack([x.float() for x in (*self, *self.terms.values())]).tolist()
        return dict(zip(names, values, strict=True))


# The statistics that are sums over the batch, not means.
_COUNTS = {TrainStats._fields.index(name) for name in ("nonfinite", "g_nonfinite")}


class Reports:
    """Computes what the steps return: statistics of the whole batch, over all processes that share it.

    Args:
        penalties: number of penalties.
        device: the discriminator's device.

    Attributes:
        penalties: the latest value of each penalty, 0-d.
    """

    def __init__(self, penalties: int, device: torch.device) -> None:
        self._none = torch.zeros((), device=device)
        self.penalties = [torch.zeros_like(self._none) for _ in range(penalties)]
        self._fresh: dict[int, tuple[Tensor, float]] = {}

    def resize(self, penalties: int) -> None:
        """Adjust to the current number of penalties, because a trainer's list may change."""
        if penalties == len(self.penalties):
            return
        missing = penalties - len(self.penalties)
        self.penalties += [torch.zeros_like(self._none) for _ in range(missing)]
        del self.penalties[penalties:]

    def computed(self, index: int, value: Tensor, share: Share) -> None:
        """Record a penalty's value on this process's share of a batch."""
        self._fresh[index] = value, share.weight

    def nothing(self, device: torch.device) -> tuple[Tensor, LossStats]:
        """Loss and statistics before adversarial training starts: zeros."""
        zero = self._none.to(device)
        return zero, LossStats(*[zero] * len(LossStats._fields))

    def of_iteration(
        self,
        of_d: tuple[Tensor, LossStats],
        of_g: tuple[Tensor, LossStats],
        terms: dict[str, Tensor],
        share: Share,
    ) -> TrainStats:
        """TrainStats from (loss, statistics) of the last discriminator step and the generator step, and its terms."""
        (d_loss, d), (g_loss, g) = of_d, of_g
        values = [d_loss, g_loss, d.real_logit, d.fake_logit, d.d_real, d.d_fake, g.d_fake]
        values += [d.real_accuracy, d.fake_accuracy, d.real_sign, d.jsd_bound]
        values += [d.nonfinite, g.nonfinite]
        fields = len(values)
        order = sorted(terms)  # the same in all processes
        values = self._over_processes(values + [terms[name] for name in order], _COUNTS, share)
        stats = TrainStats._make([*values[:fields], self._penalty_sum(d_loss.device)])
        if terms:
            means = dict(zip(order, values[fields:], strict=True))
            stats.terms = {name: means[name] for name in terms}
        return stats

    def of_phase(self, part: tuple[Tensor, LossStats], share: Share) -> tuple[Tensor, LossStats]:
        """(loss, statistics) of one step of one network, over all processes."""
        if share.first is None:
            self._over_processes([], set(), share)
            return part
        numbers = self._over_processes(mixable(*part), {NONFINITE + 1}, share)
        return mixed(numbers, part[1].nonfinite.dtype)

    def _over_processes(self, values: list[Tensor], counts: set[int], share: Share) -> list[Tensor]:
        """Means over the processes, or sums for the indices in `counts`; also reduces the new penalty values."""
        computed = [value for value, _ in self._fresh.values()]
        if share.first is not None:
            world = torch.distributed.get_world_size()
            factors = [1.0 if i in counts else share.weight / world for i in range(len(values))]
            factors += [weight / world for _, weight in self._fresh.values()]
            reduced = parallel.summed([*values, *computed], factors)
            values, computed = reduced[: len(values)], reduced[len(values) :]
        for i, value in zip(self._fresh, computed, strict=True):
            self.penalties[i] = value
        self._fresh.clear()
        return values

    def _penalty_sum(self, device: torch.device) -> Tensor:
        """The sum, on the discriminator's device, which may have changed since a lazy penalty was last computed."""
        if self._none.device != device:
            self._none = self._none.to(device)
            self.penalties = [value.to(device) for value in self.penalties]
        return sum(self.penalties, self._none)
