"""The states that a monitor can find, their diagnoses, and their remedies."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

__all__ = ["REMEDIES", "Diagnosis", "State"]


class State(str, Enum):
    """A training problem. The values are strings, for logs: ``State("oscillation") is State.OSCILLATION``."""

    SUPPORTS_DISJOINT = "supports_disjoint"
    """The bound on the Jensen-Shannon divergence stays at log 2, whatever the generator does."""
    DISCRIMINATOR_WON = "discriminator_won"
    """The discriminator is never wrong, and the generator's gradient has vanished."""
    DISCRIMINATOR_BLIND = "discriminator_blind"
    """D = 1/2 everywhere, although real and generated samples differ: the discriminator learns nothing."""
    SIGMOID_OUTPUT = "sigmoid_output"
    """The discriminator ends in a sigmoid, and its probabilities are used as logits."""
    GENERATOR_SATURATED = "generator_saturated"
    """Minimax with D(G(z)) near 0, where the loss is flat in the logits."""
    OSCILLATION = "oscillation"
    """The two networks circle each other with a steady period, without converging."""
    MODE_COLLAPSE = "mode_collapse"
    """Suspected: the samples of a batch are much less diverse than real ones."""
    COLLAPSE_WITHIN_LABELS = "collapse_within_labels"
    """Suspected: the samples of a batch with the same label are much less diverse than real ones."""
    NON_FINITE = "non_finite"
    """NaN or infinite values, with their origin."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Diagnosis:
    """A state that was entered, based on the statistics up to `step`. ``dataclasses.asdict`` converts it for JSON."""

    state: State
    """The state that was entered."""
    step: int
    """The iteration (counted from 1, like `GANTrainer.steps`) of the newest statistics."""
    evidence: str
    """What was observed, in a sentence."""
    remedy: str
    """What to do about it, in a sentence."""
    numbers: dict[str, float | str | list[str]] = field(default_factory=dict)
    """The evidence's numbers by name."""
    action: str = ""
    """The monitor's own action, if any; otherwise empty."""

    def __str__(self) -> str:
        name = self.state.value.replace("non_", "non-").replace("_", " ")
        action = f" Done: {self.action}" if self.action else ""
        return f"step {self.step}: {name}: {self.evidence} {self.remedy}{action}"


REMEDIES = {
    State.SUPPORTS_DISJOINT: (
        "Add instance noise to both inputs of the discriminator and anneal it, or weaken the discriminator: R1, "
        "fewer discriminator steps, a lower learning rate."
    ),
    State.DISCRIMINATOR_WON: (
        "Restore the generator's gradient: instance noise, R1 (or a larger gamma), fewer discriminator steps, a lower "
        "learning rate for the discriminator."
    ),
    State.DISCRIMINATOR_BLIND: (
        "Strengthen the discriminator: more discriminator steps, a higher learning rate or a larger network, less "
        "regularization, less noise; or slow the generator down."
    ),
    State.SIGMOID_OUTPUT: (
        "Remove the sigmoid at the end of the discriminator: the losses take its raw output, the logits."
    ),
    State.GENERATOR_SATURATED: (
        'Use loss="non_saturating", which has the same fixed point and a gradient where this one has none.'
    ),
    State.OSCILLATION: (
        "Damp the dynamics: R1 (or a larger gamma) or instance noise, less momentum (Adam with beta1 = 0), lower "
        "learning rates."
    ),
    State.MODE_COLLAPSE: (
        "Slow the generator down or take more discriminator steps, regularize with R1 and R2 on a relativistic "
        "loss, or add instance noise if the supports are disjoint."
    ),
    State.COLLAPSE_WITHIN_LABELS: (
        "Check that the generator uses its latent and not only the labels, give the discriminator less of an advantage "
        "(R1 and R2 on a relativistic loss), or slow the generator down."
    ),
    State.NON_FINITE: "",  # depends on where they began: see nonfinite.py
}
