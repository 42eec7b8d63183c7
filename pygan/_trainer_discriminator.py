"""DiscriminatorRunner: runs the discriminator in GANTrainer's steps, on samples and on the inputs of penalties."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from pygan import _trainer_output_checks as outputs
from pygan._device_numbers import host_number
from pygan._forward_replay import Replay
from pygan._penalty_base import DiscriminatorPass, Penalty, differentiated
from pygan._trainer_player import Player
from pygan._trees import mapped
from pygan.modules import InstanceNoise
from pygan.stream import NoiseStream

__all__ = ["BackwardPass", "DiscriminatorRunner", "Sides"]

Sides = dict[str, Any]
"""Something for each of the sides "real" and "fake"."""


@dataclass
class BackwardPass:
    """The part of the discriminator's step that shares one backward pass."""

    names: tuple[str, ...]
    """The sides with new logits in this backward pass: "real", "fake" or both."""
    real: DiscriminatorPass
    fake: DiscriminatorPass
    due: list[tuple[int, Penalty]]
    probes: list[DiscriminatorPass | None]

    def penalty_values(self, steps: int) -> list[tuple[int, Tensor, Tensor]]:
        """The index of each due penalty, its value after `steps` iterations, and its term of the loss."""
        found = []
        for (index, penalty), probe in zip(self.due, self.probes, strict=True):
            value = penalty.value(self.real, self.fake, probe, host_number(steps, "step"))
            found.append((index, value, value if penalty.every == 1 else penalty.every * value))
        return found

    def release(self) -> None:
        """Keep only the logits: features are as large as the graph."""
        self.real, self.fake = (
            DiscriminatorPass(x.samples, x.inputs, None, x.logits) for x in (self.real, self.fake)
        )
        self.probes = []


class DiscriminatorRunner:
    """Runs the discriminator on samples.

    Args:
        player: the discriminator.
        noise, augment, logits, discriminator_inputs, penalties, joint, separate: GANTrainer's options, checked.
    """

    def __init__(
        self,
        player: Player,
        *,
        noise: InstanceNoise | None,
        augment: Callable[[Tensor], Tensor] | None,
        logits: Callable[[Any], Any] | None,
        discriminator_inputs: Callable[[Tensor, Any], tuple[Any, ...]] | None,
        penalties: list[Penalty],
        joint: bool,
        separate: bool,
    ) -> None:
        self._player = player
        self.noise, self.augment, self.logits, self.penalties = noise, augment, logits, penalties
        self.discriminator_inputs, self.joint, self.separate = discriminator_inputs, joint, separate

    def run_one_side(self, samples: Tensor, labels: Any) -> DiscriminatorPass:
        """Runs the discriminator on one side's samples, augmented and with noise, in the generator's step."""
        inputs = self._augmented(samples)
        if self.noise is not None:
            inputs = self.noise(inputs)
        # The discriminator's parameters get no gradient here, so DistributedDataParallel must not wait for it.
        return DiscriminatorPass(samples, inputs, *self._outputs_of(inputs, labels, reduced=False))

    def backward_passes(
        self,
        samples: Sides,
        labels: Sides,
        due: list[tuple[int, Penalty]],
        stream: NoiseStream,
        *,
        last: bool,
    ) -> Iterator[BackwardPass]:
        """Runs the discriminator on real and generated samples, and evaluates the inputs of the penalties that are
        `due` (with their indices). The caller runs each backward pass before requesting the next, which releases the
        previous one. In the last one, both sides have logits. `last` says whether the gradients are then complete."""
        wanted = {side for _, penalty in due for side in penalty.differentiates}
        leaves = {k: x.detach().requires_grad_() if k in wanted else x for k, x in samples.items()}
        inputs = leaves
        if self.augment is not None:
            inputs = {k: self._augmented(x) for k, x in leaves.items()}
        outputs.inputs(inputs["real"], inputs["fake"], joint=self.joint)
        batch = None
        if self.joint:
            xs = inputs["real"], inputs["fake"]
            batch = torch.cat(xs) if self.noise is None else self.noise.pair(*xs)
            if due:  # only the penalties read them
                inputs = dict(zip(inputs, batch.tensor_split(2), strict=True))
        elif self.noise is not None:
            inputs = dict(zip(inputs, self.noise.each(inputs["real"], inputs["fake"]), strict=True))
        sides = {k: DiscriminatorPass(x, inputs[k], None, None) for k, x in leaves.items()}
        if not self.separate:
            forward_passes: list[tuple[str, ...]] = (
                [("real", "fake")] if self.joint else [("real",), ("fake",)]
            )
            backward = self._backward_pass(forward_passes, sides, labels, due, stream, last, batch)
            yield backward
            backward.release()
            return
        for names in ("real",), (), ("fake",):
            its = [(i, penalty) for i, penalty in due if penalty.reads == set(names)]
            if names or its:
                backward = self._backward_pass(
                    [names], sides, labels, its, stream, last and "fake" in names
                )
                yield backward
                backward.release()
                sides["real"] = backward.real

    def _backward_pass(
        self,
        forward_passes: list[tuple[str, ...]],
        sides: Sides,
        labels: Sides,
        due: list[tuple[int, Penalty]],
        stream: NoiseStream,
        last: bool,
        batch: Tensor | None = None,
    ) -> BackwardPass:
        """The forward passes that share one backward pass: each names the sides in it; `batch` holds both sides.

        With DistributedDataParallel, only the last one may trigger the
        reduction, and broadcasting buffers (BatchNorm's) in between would overwrite what the backward pass needs.
        """
        sides, player, penalties = dict(sides), self._player, [penalty for _, penalty in due]
        moved = [penalty.probe(sides["real"], sides["fake"], stream) for penalty in penalties]
        compares = [penalty.compares for penalty in penalties]
        probes: list[DiscriminatorPass | None] = [None] * len(penalties)
        if any(compares):
            player.sync_buffers()

        def run_probes() -> None:
            for i, x in enumerate(moved):
                if x is not None and compares[i] is None:
                    probes[i] = DiscriminatorPass(
                        x, x, *self._outputs_of(x, labels["real"], reduced=False)
                    )

        for names in forward_passes:
            is_last = names is forward_passes[-1]
            if is_last and not player.units:
                run_probes()
            if any(compares):
                self._compare(names, sides, labels, moved, compares, probes)
            inputs = {k: sides[k].inputs for k in names}
            found = self._discriminate(inputs, labels, batch, reduced=last and is_last)
            for k in names:
                sides[k] = DiscriminatorPass(sides[k].samples, sides[k].inputs, *found[k])
        if player.units:
            # fully_shard finishes reducing a layer's gradients when the backward pass reaches its first forward pass.
            # It may never reach that of a probe whose gradient is penalized, and the remaining gradients would be lost.
            run_probes()
        real, fake = sides["real"], sides["fake"]
        if due:
            real, fake, probes = differentiated(penalties, real, fake, probes)
        return BackwardPass(sum(forward_passes, ()), real, fake, due, probes)

    def _compare(
        self,
        names: tuple[str, ...],
        sides: Sides,
        labels: Sides,
        moved: list[Tensor | None],
        compares: list[str | None],
        probes: list[DiscriminatorPass | None],
    ) -> None:
        """Runs the probes that are compared with these sides, each from the state in which the sides' own pass then
        starts."""
        player = self._player
        compared = [[i for i, side in enumerate(compares) if side == k] for k in names]
        if not any(compared):
            return
        replay = Replay("GANTrainer", player.bare, player.device, player.draws)
        for pair in zip_longest(*compared):
            xs: Sides = {k: sides[k].inputs if i is None else moved[i] for k, i in zip(names, pair)}
            with replay.again():
                found = self._discriminate(xs, labels, reduced=False)
            player.draws = player.draws or replay.draws
            for k, i in zip(names, pair, strict=True):
                if i is not None:
                    probes[i] = DiscriminatorPass(xs[k], xs[k], *found[k])

    def _augmented(self, samples: Tensor) -> Tensor:
        if self.augment is None:
            return samples
        return outputs.augmented(self.augment, samples, self.noise, self.penalties)

    def _discriminate(
        self, inputs: Sides, labels: Sides, batch: Tensor | None = None, *, reduced: bool
    ) -> dict[str, tuple[Any, Any]]:
        """Runs the discriminator on one side, or on both in one batch: the output and the logits of each."""
        if len(inputs) < 2:
            return {k: self._outputs_of(x, labels[k], reduced=reduced) for k, x in inputs.items()}
        if batch is None:
            batch = torch.cat(list(inputs.values()))
        together = mapped(lambda x, y: torch.cat([x, y]), labels["real"], labels["fake"])
        output, n = self._output(batch, together, reduced=reduced), len(batch) // 2
        halves = outputs.halves(output, n)
        return {k: (half, self._logits(half, n)) for k, half in zip(inputs, halves, strict=True)}

    def _outputs_of(self, inputs: Tensor, labels: Any, *, reduced: bool) -> tuple[Any, Any]:
        """The discriminator's output, and the logits in it."""
        output = self._output(inputs, labels, reduced=reduced)
        return output, self._logits(output, len(inputs))

    def _output(self, inputs: Tensor, labels: Any, *, reduced: bool) -> Any:
        """The discriminator's output; `reduced`: DistributedDataParallel reduces the gradients of this pass."""
        if self.discriminator_inputs is not None:
            found = self.discriminator_inputs(inputs, labels)
            arguments = outputs.arguments("discriminator_inputs", found)
        else:
            arguments = (inputs,) if labels is None else (inputs, labels)
        try:
            return self._player.run(*arguments, reduced=reduced)
        except (RuntimeError, TypeError) as error:
            if isinstance(error, TypeError) and self.discriminator_inputs is not None:
                raise
            bare = self._player.bare
            given = {"real and generated samples": arguments[0], "labels": labels}
            explained = outputs.input_error(error, "discriminator", given, bare)
            if explained is error:
                raise
            raise explained from error

    def _logits(self, output: Any, n: int) -> Any:
        by_sample = self.logits is None or any(penalty.compares for penalty in self.penalties)
        return outputs.logits(output, self.logits, n, by_sample=by_sample)
