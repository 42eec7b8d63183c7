"""Phases: groups of GANTrainer iterations that make the same calls; one graph is captured for each."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["Counts", "phase_of", "phases_of", "probes_of"]

Counts = tuple[int, int]
"""The counts of an iteration: steps, d_updates."""

_MAX_ITERATIONS = 100_000  # iterations to search for penalties that are due together


def phase_of(trainer: Any, counts: Counts) -> Any:
    """The phase of an iteration, on which its calls depend: the penalties that are due in each discriminator step; None
    before adversarial training starts."""
    steps, d_updates = counts
    if steps < trainer.discriminator_start:
        return None
    return tuple(
        tuple(i for i, p in enumerate(trainer.penalties) if (d_updates + j) % p.every == 0)
        for j in range(trainer.d_steps)
    )


def phases_of(trainer: Any) -> dict[Any, Counts]:
    """All phases that the trainer will reach, with an iteration of each."""
    here = trainer.steps, trainer.d_updates
    found = {phase_of(trainer, here): here}
    steps = max(trainer.steps, trainer.discriminator_start)
    for i in range(min(_period(trainer), _MAX_ITERATIONS)):
        counts = steps, trainer.d_updates + i * trainer.d_steps
        found.setdefault(phase_of(trainer, counts), counts)
    return found


def probes_of(trainer: Any, counts: Counts) -> list[Counts]:
    """Iterations of the same phase whose counts differ as much as possible, in their divisors and in size. They reveal
    user functions that behave differently in every n-th step, or from some step on."""
    steps, d_updates = counts
    start, period = trainer.discriminator_start, _period(trainer)
    if steps < start:
        probes = {0, min(1, start - 1), start - 1}
    else:
        first = -(-start // 720_720) * 720_720  # a multiple of all numbers up to 16
        probes = {first, first + 1, first + 1_000_000_007}
    return [(steps, d_updates + i * period) for i, steps in enumerate(sorted(probes))]


def _period(trainer: Any) -> int:
    return math.lcm(*(p.every for p in trainer.penalties))
