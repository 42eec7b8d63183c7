"""Judge: the discriminator's side of GANTrainer's steps, from samples to logits and what penalties want of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from pygan import _trainer_outputs as outputs
from pygan._parallel import NOTHING
from pygan._penalty_base import Judged, Penalty, differentiated
from pygan._player import Player
from pygan._replay import Replay
from pygan._trainer_batches import Part
from pygan.modules import InstanceNoise
from pygan.stream import NoiseStream

__all__ = ["Judge"]


class Judge:
    """Shows samples to the discriminator.

    Args:
        player: the discriminator.
        noise, augment, logits, penalties: as GANTrainer has checked them.
    """

    def __init__(
        self,
        player: Player,
        *,
        noise: InstanceNoise | None,
        augment: Callable[[Tensor], Tensor] | None,
        logits: Callable[[Any], Any] | None,
        penalties: list[Penalty],
    ) -> None:
        self._player = player
        self.noise, self.augment, self.logits, self.penalties = noise, augment, logits, penalties

    def one(self, samples: Tensor, labels: Tensor | None) -> Judged:
        """The samples as the discriminator sees them: augmented and with noise."""
        inputs = self._noisy(samples)
        return Judged(samples, inputs, *self._ask(inputs, labels))

    def both(
        self, part: Part, fake: Tensor, penalties: list[Penalty], stream: NoiseStream
    ) -> tuple[tuple[Judged, Judged], list[Judged | None]]:
        """Real samples, generated ones and what the penalties that are due want to know."""
        assert part.real is not None
        wanted = {side for penalty in penalties for side in penalty.differentiates}
        sides = []
        for name, samples in (("real", part.real), ("fake", fake)):
            leaf = samples.detach().requires_grad_() if name in wanted else samples
            sides.append(Judged(leaf, self._noisy(leaf), None, None))
        real, generated = sides
        outputs.inputs(real.inputs, generated.inputs)
        probes: list[Judged | None] = [None] * len(penalties)
        # Many forward passes, one backward: to DistributedDataParallel only the last may announce a reduction, and
        # broadcasting the buffers (BatchNorm's) in between would overwrite what the backward pass needs.
        with self._player.no_sync():
            compares = [penalty.compares for penalty in penalties]
            replays: dict[str | None, Replay] = {}
            if "real" in compares:
                self._player.sync_buffers()
                replays["real"] = self._replay()
            real = Judged(*real[:2], *self._ask(real.inputs, part.labels))
            inputs = [penalty.probe(real, generated, stream) for penalty in penalties]
            # Last those compared with the generated samples, whose own pass then starts where theirs did.
            for i in sorted(range(len(penalties)), key=lambda i: compares[i] == "fake"):
                x, side = inputs[i], compares[i]
                if x is None:
                    continue
                if side == "fake" and side not in replays:
                    replays[side] = self._replay()
                with replays[side].again() if side in replays else NOTHING:
                    probes[i] = Judged(x, x, *self._ask(x, part.labels))
            for replay in replays.values():
                self._player.draws = self._player.draws or replay.draws
        with self._player.no_sync(not part.last):
            generated = Judged(*generated[:2], *self._ask(generated.inputs, part.labels))
        real, generated, probes = differentiated(penalties, real, generated, probes)
        return (real, generated), probes

    def _replay(self) -> Replay:
        player = self._player
        return Replay("GANTrainer", player.bare, player.device, player.draws)

    def _noisy(self, samples: Tensor) -> Tensor:
        if self.augment is not None:
            samples = outputs.augmented(self.augment, samples, self.noise, self.penalties)
        return samples if self.noise is None else self.noise(samples)

    def _ask(self, inputs: Tensor, labels: Tensor | None) -> tuple[Any, Any]:
        """What the discriminator returned, and the logits in it."""
        D = self._player.network
        output = D(inputs) if labels is None else D(inputs, labels)
        compared = any(penalty.compares for penalty in self.penalties)
        return output, outputs.logits(output, self.logits, len(inputs), compared=compared)
