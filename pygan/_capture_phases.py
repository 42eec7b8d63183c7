"""Phases: iterations of a GANTrainer that make the same calls, of which one graph each is captured."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["Place", "phase_of", "phases_of", "places_of"]

Place = tuple[int, int]
"""The counts of an iteration: steps, d_updates."""

_AT_MOST = 100_000  # iterations among which to look for penalties that are due together


def phase_of(trainer: Any, place: Place) -> Any:
    """What the calls of an iteration depend on: which penalties are due in each discriminator step; None where the
    adversarial parts are off."""
    steps, d_updates = place
    if steps < trainer.discriminator_start:
        return None
    return tuple(
        tuple(i for i, p in enumerate(trainer.penalties) if (d_updates + j) % p.every == 0)
        for j in range(trainer.d_steps)
    )


def phases_of(trainer: Any) -> dict[Any, Place]:
    """All that the trainer will come through, and an iteration of each."""
    here = trainer.steps, trainer.d_updates
    found = {phase_of(trainer, here): here}
    steps = max(trainer.steps, trainer.discriminator_start)
    for i in range(min(_period(trainer), _AT_MOST)):
        place = steps, trainer.d_updates + i * trainer.d_steps
        found.setdefault(phase_of(trainer, place), place)
    return found


def places_of(trainer: Any, place: Place) -> list[Place]:
    """Iterations of the same phase that differ as much as they may: in what divides their counts, and in size. What
    a function of the user's own does in every n-th step, or from some step on, shows in one of them."""
    steps, d_updates = place
    start, period = trainer.discriminator_start, _period(trainer)
    if steps < start:
        far = {0, min(1, start - 1), start - 1}
    else:
        first = -(-start // 720_720) * 720_720  # which all numbers up to 16 divide
        far = {first, first + 1, first + 1_000_000_007}
    return [(steps, d_updates + i * period) for i, steps in enumerate(sorted(far))]


def _period(trainer: Any) -> int:
    return math.lcm(*(p.every for p in trainer.penalties))
