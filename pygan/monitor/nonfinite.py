"""Non-finite values: the step at which they first appeared, and the network in which they began.

The statistics of one step show this, because its phases have an order: the discriminator processes real, then generated
samples; it is updated; it processes generated samples again; the generator is updated.

=====================  ==========================  =============================================
real samples' logits   generated samples' logits   origin
=====================  ==========================  =============================================
not finite             finite                      the data (or the discriminator's answer to it)
finite                 not finite                  the generator, updated in the step before
not finite             not finite                  the discriminator
finite                 finite, then not finite     the discriminator, updated in this step
finite                 finite                      the network whose parameters are not finite
=====================  ==========================  =============================================

With several discriminator steps, the statistics are those of the last: bad data in an earlier step looks like a broken
discriminator.
"""

from __future__ import annotations

import math

from pygan.monitor.reading import STATS, Reading
from pygan.monitor.states import Diagnosis, State

__all__ = ["find"]

_REAL, _FAKE = STATS.index("real_logit"), STATS.index("fake_logit")
_COUNT, _AFTER = STATS.index("nonfinite"), STATS.index("g_nonfinite")
_NAMED = 3

_REMEDIES = {
    "data": "Look at the batches of this step: NaN, infinite or unscaled values.",
    "generator": "Lower the generator's learning rate, clip its gradient (max_grad_norm), and look at its last layers.",
    "discriminator": (
        "Lower the discriminator's learning rate, clip its gradient (max_grad_norm), or regularize it (R1)."
    ),
}


def find(reading: Reading) -> Diagnosis | None:
    for step, row in zip(reading.steps, reading.stats, strict=True):
        if row[_COUNT] or row[_AFTER] or not math.isfinite(row[_REAL] + row[_FAKE]):
            return _diagnosis(reading, step, row)
    if reading.nonfinite_parameters:
        return _diagnosis(reading, reading.steps[-1], reading.stats[-1])
    return None


def _diagnosis(reading: Reading, step: int, row: list[float]) -> Diagnosis:
    real, fake = math.isfinite(row[_REAL]), math.isfinite(row[_FAKE])
    count, after = row[_COUNT], row[_AFTER]
    names = reading.nonfinite_parameters
    if not real and fake:
        origin = "data"
        seen = f"{count:.0f} logits of real samples were not finite, but those of generated samples were."
    elif real and not fake:
        origin = "generator"
        seen = f"{count:.0f} logits of generated samples were not finite, but those of real samples were."
    elif not real:
        origin = "discriminator"
        seen = f"{count:.0f} logits of real and generated samples were not finite."
    elif after:
        origin = "discriminator"
        seen = f"All logits were finite before the discriminator's update, and {after:.0f} were not after it."
    else:
        origin = "generator" if names[0].startswith("G.") else "discriminator"
        seen = "All logits were finite, but parameters are not."
    # If both networks have them, list the network of origin first; bad data breaks the discriminator first.
    first = "G." if origin == "generator" else "D."
    names = sorted(names, key=lambda name: not name.startswith(first))
    named = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    looked = reading.steps[-1]
    held = f"{named or 'No parameter'} had such values at step {looked}."
    return Diagnosis(
        State.NON_FINITE,
        step,
        f"Non-finite values began in the {origin}. {seen} {held}",
        _REMEDIES[origin],
        {
            "origin": origin,
            "nonfinite": count,
            "g_nonfinite": after,
            "parameters": names[:_NAMED],
            "nonfinite_parameters": float(len(names)),
        },
    )
