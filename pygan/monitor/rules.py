"""The rules: each checks a window of readings for one state, and returns the evidence if it finds the state.

A rule's thresholds for staying in a state (`held`) are looser than those for entering it, so that a measure near the
threshold gives one diagnosis instead of many. Comparisons with NaN are false, so unmeasurable states are not found.
docs/monitor.md lists the margins of healthy runs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from pygan import _loss_arguments, fused_losses
from pygan.monitor.oscillation import Swing, swing
from pygan.monitor.states import State
from pygan.monitor.window import WINDOWS, Window

__all__ = ["RULES", "Finding"]

LOG2 = math.log(2.0)
EARLIER = WINDOWS - 1
"""How many windows back to compare, before a slow training counts as stalled."""


class Finding(NamedTuple):
    evidence: str
    numbers: dict[str, float]


class _LossProperties(NamedTuple):
    """Properties of a loss that the rules need; a critic's logits have neither a middle nor a unit."""

    chance: float
    """The discriminator's loss when it cannot tell; NaN for a critic's loss and for a custom loss."""
    by_sign: bool
    """Whether a logit's sign decides."""
    bounds_jsd: bool


@functools.cache
def _properties(loss: str) -> _LossProperties:
    info = _loss_arguments.info(loss) if loss in fused_losses.LOSSES else None
    if info is None or (info.compared == _loss_arguments.ALONE and not info.d_targets):
        return _LossProperties(math.nan, by_sign=False, bounds_jsd=False)
    x = torch.tensor([info.undecided])
    chance = fused_losses.discriminator_loss(x, x, loss=loss).item()
    return _LossProperties(
        chance, info.d_targets and info.undecided == 0, info.smooths and info.probabilities
    )


def supports_disjoint(window: Window, held: bool) -> Finding | None:
    bound = window.mean("jsd_bound")
    if not bound >= (0.95 if held else 0.98) * LOG2:
        return None
    d_loss = window.mean("d_loss")
    return Finding(
        f"The bound on the Jensen-Shannon divergence averaged {bound:.4f} over {window.steps} steps, with a maximum of "
        f"log 2 = {LOG2:.4f}, and the discriminator's loss {d_loss:.2g}.",
        {"jsd_bound": bound, "d_loss": d_loss},
    )


def discriminator_won(window: Window, held: bool) -> Finding | None:
    sensitivity, peak = window.sensitivity(), window.peak_sensitivity
    limit = max(0.05, 0.01 * peak) * (3.0 if held else 1.0)
    separated = _separated(window, held)
    if separated is None or not sensitivity < limit:
        return None
    gradient = float(window.series("g_grad", window.size).mean())
    return Finding(
        f"{separated.evidence} The generator's gradient has vanished: its norm was {gradient:.2g}; multiplied by the "
        f"norm of the parameters, {sensitivity:.2g}, down from a peak of {peak:.2g}.",
        {**separated.numbers, "g_grad": gradient, "sensitivity": sensitivity, "peak": peak},
    )


def _separated(window: Window, held: bool) -> Finding | None:
    known = _properties(window.loss)
    if known.by_sign:
        real, fake = window.mean("real_accuracy"), window.mean("fake_accuracy")
        if not min(real, fake) >= (0.97 if held else 0.99):
            return None
        return Finding(
            f"The discriminator's accuracies were {real:.3f} (real) and {fake:.3f} (generated) over {window.steps} "
            "steps.",
            {"real_accuracy": real, "fake_accuracy": fake},
        )
    d_loss = window.mean("d_loss")
    if not d_loss <= (0.06 if held else 0.02) * known.chance:
        return None
    return Finding(
        f"The discriminator's loss was {d_loss:.2g} over {window.steps} steps; guessing gives {known.chance:.3f}.",
        {"d_loss": d_loss},
    )


def sigmoid_output(window: Window, held: bool) -> Finding | None:
    # Least squares also accepts probabilities, and a custom loss may.
    if not window.ends_in_sigmoid or window.loss in ("least_squares", ""):
        return None
    real, fake = window.mean("real_logit"), window.mean("fake_logit")
    return Finding(
        f"The discriminator ends in a sigmoid, and its probabilities are used as logits: their means were {real:.3f} "
        f"(real) and {fake:.3f} (generated) over {window.steps} steps, and none can be negative.",
        {"real_logit": real, "fake_logit": fake},
    )


def discriminator_blind(window: Window, held: bool) -> Finding | None:
    # Its discriminator looks blind too, but strengthening it is not the remedy.
    if sigmoid_output(window, held):
        return None
    energy, before = window.mean("energy"), window.mean("energy", windows_ago=EARLIER)
    # A falling energy distance shows that the generator is learning, even if slowly.
    if not (energy > (0.13 if held else 0.2) and energy > (0.75 if held else 0.9) * before):
        return None
    gap = window.mean("real_logit") - window.mean("fake_logit")
    differ = (
        f"Real and generated samples differ (energy distance {energy:.2f} of at most 1, {before:.2f} "
        f"{EARLIER * window.steps} steps earlier)"
    )
    numbers = {"energy": energy, "energy_before": before, "gap": gap}
    known = _properties(window.loss)
    if known.bounds_jsd:
        bound = window.mean("jsd_bound")
        if not bound < (0.04 if held else 0.02):
            return None
        # E log cosh(a / 2) over the logits a of both kinds, exactly: softplus(a) = log 2 + a / 2 + log cosh(a / 2).
        typical = 2.0 * math.acosh(math.exp(min(300.0, max(0.0, gap / 4.0 - bound))))
        loss = 2.0 * (LOG2 - bound)
        return Finding(
            f"{differ}, but the discriminator does not see it: without smoothing its loss was {loss:.3f} "
            f"(2 log 2 = 1.386 at D = 1/2), a typical logit {typical:.2g}, and the mean logits {gap:.2g} apart.",
            {**numbers, "loss": loss, "typical_logit": typical},
        )
    if not math.isnan(known.chance) and gap < (0.1 if held else 0.05):
        return Finding(
            f"{differ}, but the discriminator does not see it: its mean logits are {gap:.2g} apart.",
            numbers,
        )
    return None


def generator_saturated(window: Window, held: bool) -> Finding | None:
    after = window.mean("d_fake_after")
    if window.loss != "minimax" or not after < (0.1 if held else 0.05):
        return None
    return Finding(
        f"D(G(z)) averaged {after:.2g} over {window.steps} steps, which is also the minimax loss's gradient with "
        f"respect to the logits; the non-saturating loss has {1.0 - after:.2f}.",
        {"d_fake": after},
    )


def oscillation(window: Window, held: bool) -> Finding | None:
    # Swings while approaching the data are transient; those without progress persist.
    energy, before = window.mean("energy"), window.mean("energy", windows_ago=EARLIER)
    closer = math.isfinite(energy) and not (before < 0.05 or energy > 0.9 * before)
    if closer and not held:
        return None
    # The longer series finds longer periods. Each must also have been present a window ago, to exclude transients.
    for windows in (2, 3):
        length = windows * window.size
        found, earlier = (_swing(window, length, ago, held) for ago in (0, window.size))
        if found is None or earlier is None or not 0.75 < found.period / earlier.period < 1.33:
            continue
        spacing = window.spacing(length)
        return Finding(
            f"The mean logits of real and generated samples swing by ±{found.amplitude:.2g} with a period of "
            f"{found.period * spacing:.0f} steps, and the swings do not decay (strength {found.strength:.2f}; over "
            f"{length * spacing:.0f} steps, the last third's amplitude is {found.lasting:.2f} times the first's).",
            {
                "period": found.period * spacing,
                "amplitude": found.amplitude,
                "strength": found.strength,
                "lasting": found.lasting,
            },
        )
    return None


def _swing(window: Window, length: int, before: int, held: bool) -> Swing | None:
    if window.count < length + before:
        return None
    real, fake = (window.series(name, length, before) for name in ("real_logit", "fake_logit"))
    gap = real - fake
    found = swing(gap)
    if found is None:
        return None
    # The loss defines a logit's unit (sigmoid, margin, labels), except for a critic, where it is relative to the mean.
    unit = 1.0 if not math.isnan(_properties(window.loss).chance) else 5.0 * abs(float(gap.mean()))
    factor = 0.7 if held else 1.0
    clear = (
        found.strength >= factor * 0.75
        and found.lasting >= factor * 0.8
        and found.amplitude >= factor * 0.1 * unit
    )
    return found if clear else None


def mode_collapse(window: Window, held: bool) -> Finding | None:
    return _collapse(window, held, "", window.best_diversity)


def collapse_within_labels(window: Window, held: bool) -> Finding | None:
    return _collapse(window, held, "label_", window.best_label_diversity)


def _collapse(window: Window, held: bool, prefix: str, best: float) -> Finding | None:
    """`prefix`: of the columns of the measures, "label_" within labels."""
    diversity = window.diversity(prefix)
    if held:
        found = diversity < 0.6
    else:
        fell = diversity < 0.45 and diversity < 0.5 * best
        found = fell or (diversity < 0.3 and _is_stalled(window, prefix))
    if not found:
        return None
    real, fake = (window.mean(f"{prefix}{side}_number") for side in ("real", "fake"))
    label = " with the same label" if prefix else ""
    return Finding(
        f"The generated samples of a batch{label} are as diverse as {fake:.1f} distinct samples, real ones as "
        f"{real:.1f}: a ratio of {diversity:.2f} over {window.steps} steps, down from {best:.2f} at best.",
        {"fake_number": fake, "real_number": real, "diversity": diversity, "best": best},
    )


def _is_stalled(window: Window, prefix: str) -> bool:
    """Whether neither the diversity has risen nor the distributions have come closer recently."""
    energy, before = (window.mean(f"{prefix}energy", windows_ago=ago) for ago in (0, EARLIER))
    risen = window.diversity(prefix) > 1.2 * window.diversity(prefix, windows_ago=EARLIER)
    return energy > 0.2 and energy > 0.9 * before and not risen


RULES: dict[State, Callable[[Window, bool], Finding | None]] = {
    State.SUPPORTS_DISJOINT: supports_disjoint,
    State.DISCRIMINATOR_WON: discriminator_won,
    State.SIGMOID_OUTPUT: sigmoid_output,
    State.DISCRIMINATOR_BLIND: discriminator_blind,
    State.GENERATOR_SATURATED: generator_saturated,
    State.OSCILLATION: oscillation,
    State.MODE_COLLAPSE: mode_collapse,
    State.COLLAPSE_WITHIN_LABELS: collapse_within_labels,
}
