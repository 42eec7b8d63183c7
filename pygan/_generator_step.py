"""GeneratorStep: the data of one generator step, and the loss terms computed from it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeGuard

import torch
from torch import Tensor

from pygan._device_numbers import host_number, scheduled
from pygan._penalty_base import DiscriminatorPass
from pygan._precision import wide
from pygan._trainer_batches import MicroBatch
from pygan._trainer_discriminator import DiscriminatorRunner
from pygan._trainer_losses import Losses, Result
from pygan._trainer_samples import Generated
from pygan._trainer_stats import TrainStats
from pygan._validation import check_float, describe, number
from pygan.schedules import Schedule

__all__ = [
    "AdversarialWeight",
    "GeneratorStep",
    "GeneratorTerms",
    "adversarial",
    "is_function",
    "terms_of",
]


class GeneratorStep:
    """One generator step (of one micro-batch), for ``GANTrainer(generator_terms=...)`` and ``adversarial_weight``. The
    discriminator runs when one of its outputs is first read, and only once.

    Attributes:
        fake: the generated samples (N, ...), with their graph.
        output: everything the generator returned; `fake` is selected from it, or is the output itself.
        real: the real batch (N, ...); None in a `generator_step` without real samples.
        latent: (N, ...), or None if the generator gets none.
        labels: the labels given to the step, or None.
        steps: iterations done before this one.
        terms: for ``adversarial_weight``: the results of ``generator_terms``; empty before.
        g_loss: for ``adversarial_weight``: the adversarial loss, 0-d, with its graph; None before.
    """

    def __init__(
        self, runner: DiscriminatorRunner, micro: MicroBatch, generated: Generated, steps: int
    ) -> None:
        self._runner = runner
        self.output, self.fake = generated
        self.real, self.latent, self.labels = micro.real, micro.latent, micro.labels
        self.steps = host_number(steps, "GeneratorStep.steps")
        self.terms: dict[str, Tensor] = {}
        self.g_loss: Tensor | None = None

    @property
    def fake_output(self) -> Any:
        """The discriminator's output for the generated samples, augmented and with noise; with its graph."""
        return self.fake_pass.output

    @property
    def fake_logits(self) -> Any:
        """The logits of `fake_output`."""
        return self.fake_pass.logits

    @property
    def real_output(self) -> Any:
        """The discriminator's output for the real samples, augmented and with noise, without a graph.

        Raises:
            RuntimeError: the step has no real samples.
        """
        return self.real_pass.output

    @property
    def real_logits(self) -> Any:
        """The logits of `real_output`."""
        return self.real_pass.logits

    @cached_property
    def fake_pass(self) -> DiscriminatorPass:
        return self._runner.run_one_side(self.fake, self.labels)

    @cached_property
    def real_pass(self) -> DiscriminatorPass:
        if self.real is None:
            raise RuntimeError(
                "GANTrainer.generator_step: real must be a batch of real samples if generator_terms reads the "
                "discriminator's output for them, got None"
            )
        with torch.no_grad():
            return self._runner.run_one_side(self.real, self.labels)


GeneratorTerms = Callable[[GeneratorStep], dict[str, Tensor]]
AdversarialWeight = float | Tensor | Schedule | Callable[[GeneratorStep], Tensor]


def is_function(weight: AdversarialWeight) -> TypeGuard[Callable[[GeneratorStep], Tensor]]:
    """Whether the adversarial weight is a function of the step."""
    return callable(weight) and not isinstance(weight, Schedule)


def terms_of(step: GeneratorStep, generator_terms: GeneratorTerms | None) -> dict[str, Tensor]:
    """The terms that are added to the generator's adversarial loss, by name.

    Raises:
        TypeError, ValueError: not a dict of 0-d tensors with a graph.
    """
    if generator_terms is None:
        return {}
    terms = generator_terms(step)
    must = "GANTrainer: generator_terms must return a dict of 0-d tensors"
    if not isinstance(terms, dict):
        raise TypeError(f"{must} by name, got {describe(terms)}")
    for name, value in terms.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise TypeError(f"{must} by name, got {name!r}: {describe(value)}")
        if name in TrainStats._fields:
            raise ValueError(
                f"{must} whose names differ from those of the statistics, got {name!r}"
            )
        if value.dim() != 0:
            raise ValueError(f"{must}, got {name!r}: {describe(value)}")
        if not value.requires_grad:
            raise ValueError(
                f"{must} that depend on the generated samples, got {name!r} without a graph; omit terms that are not "
                "trained"
            )
    return terms


def adversarial(
    step: GeneratorStep, losses: Losses, weight: AdversarialWeight, *, scaled: bool
) -> Result:
    """The adversarial loss, with its gradients multiplied by its weight."""
    fake, real = step.fake_pass, step.real_pass if losses.compares else None
    result = losses.generator(fake, real, scaled=scaled, differentiable=is_function(weight))
    if is_function(weight):
        (step.g_loss,) = result.outputs
        weight = weight(step)
        if not isinstance(weight, Tensor) or weight.dim() != 0:
            raise TypeError(
                f"GANTrainer: adversarial_weight must return a 0-d tensor, got {describe(weight)}"
            )
        check_float("GANTrainer", "adversarial_weight's result", weight)
        weight = weight.detach()
    elif isinstance(weight, Schedule):
        weight = scheduled(weight, step.steps, wide(result.outputs[0]))
    elif not isinstance(weight, Tensor):
        weight = number("GANTrainer", "adversarial_weight", weight)
    if isinstance(weight, Tensor) and weight.device.type != "cpu":
        device = result.outputs[0].device
        if weight.device != device:
            raise ValueError(
                f"GANTrainer: adversarial_weight must be on the discriminator's device, {device}, or on the CPU, got "
                f"a tensor on {weight.device}"
            )
    return result.times(weight) if isinstance(weight, Tensor) or weight != 1 else result
