"""What a monitor can find: the states, what is said of each, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

__all__ = ["REMEDIES", "Diagnosis", "State"]


class State(str, Enum):
    """What is wrong. The values are strings, for logs: ``State("oscillation") is State.OSCILLATION``."""

    SUPPORTS_DISJOINT = "supports_disjoint"
    """The bound of the Jensen-Shannon divergence stays at log 2: it reads the same whatever the generator does."""
    DISCRIMINATOR_WON = "discriminator_won"
    """The discriminator is never wrong, and the generator's gradient has vanished."""
    DISCRIMINATOR_BLIND = "discriminator_blind"
    """D = 1/2 everywhere though real and generated samples differ: the discriminator learns nothing."""
    SIGMOID_OUTPUT = "sigmoid_output"
    """The discriminator ends in a sigmoid, and its probabilities are taken for logits."""
    GENERATOR_SATURATED = "generator_saturated"
    """Minimax with D(G(z)) near 0, where the loss is flat in the logits."""
    OSCILLATION = "oscillation"
    """The two players turn about each other with a steady period, and do not come to rest."""
    MODE_COLLAPSE = "mode_collapse"
    """Suspected: the samples of a batch are much more alike than real ones are."""
    NON_FINITE = "non_finite"
    """NaN or infinite values, and where they began."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Diagnosis:
    """A state that was entered, as of the statistics of `step`. ``dataclasses.asdict`` gives what JSON can hold."""

    state: State
    step: int
    """The iteration (counted from 1, as `GANTrainer.steps`) that the newest of the statistics belong to."""
    evidence: str
    """A sentence."""
    remedy: str
    """A sentence."""
    numbers: dict[str, float | str | list[str]] = field(default_factory=dict)
    """The evidence's numbers by name."""
    action: str = ""
    """What the monitor has done about it by itself; empty: nothing."""

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
        "Give the generator a gradient again: instance noise, R1 (or more of it), fewer discriminator steps, a lower "
        "learning rate of the discriminator."
    ),
    State.DISCRIMINATOR_BLIND: (
        "Strengthen the discriminator: more discriminator steps, a higher learning rate or a larger network, less "
        "regularization, less noise; or slow the generator down."
    ),
    State.SIGMOID_OUTPUT: (
        "Take the sigmoid off the end of the discriminator: the losses take its raw output, the logits."
    ),
    State.GENERATOR_SATURATED: (
        'Use loss="non_saturating", which has the same fixed point and a gradient where this one has none.'
    ),
    State.OSCILLATION: (
        "Damp the game: R1 (or more of it) or instance noise, less momentum (Adam with beta1 = 0), lower learning "
        "rates."
    ),
    State.MODE_COLLAPSE: (
        "Slow the generator down or take more discriminator steps, regularize with R1 and R2 on a relativistic "
        "loss, or add instance noise where the supports are disjoint."
    ),
    State.NON_FINITE: "",  # depends on where they began: see nonfinite.py
}
