"""The metrics of a run: what they mean, in a line each, and which the loss defines."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["metric_lines"]

# D is the discriminator, G the generator; docs/training.md says more.
_MEANINGS = {
    "d_loss": "loss of D, without penalties",
    "g_loss": "loss of G",
    "real_logit": "output of D for real samples, mean",
    "fake_logit": "output of D for generated samples, mean",
    "d_real": "D(x), mean: the sigmoid of D's output",
    "d_fake": "D(G(z)), mean",
    "d_fake_after": "D(G(z)) after the update of D",
    "real_accuracy": "share of real samples that D takes for real",
    "fake_accuracy": "share of generated samples that it recognizes",
    "real_sign": "mean sign of D on reals; near 1: D overfits",
    "jsd_bound": "lower bound of the JS divergence; at most 0.693",
    "nonfinite": "outputs of D that are NaN or infinite",
    "g_nonfinite": "the same in the update of G",
    "penalty": "sum of the penalties, as R1 + R2",
    "sigma": "standard deviation of the instance noise",
    "g_lr": "learning rate of G",
    "d_lr": "learning rate of D",
    "skipped": "updates skipped: gradients were not finite",
    "modes": "modes of the data among the samples",
    "high_quality": "share of samples near a mode",
    "reverse_kl": "KL of the modes' shares from equal ones",
    "sure": "share of samples that a classifier is sure about",
    "frechet_distance": "between features of real and generated samples",
    "precision": "share of samples that look real: quality",
    "recall": "share of the data that samples cover: variety",
    "coverage": "share of real samples near a generated one",
}
_MEANINGS |= {
    f"share_{digit}": f"share of samples that show the digit {digit}" for digit in range(10)
}

# The relativistic losses compare D's output for a real sample with that for generated ones.
_RELATIVISTIC_MEANINGS = {
    "real_accuracy": "share of reals that D ranks above generated ones",
    "fake_accuracy": "share of generated samples it ranks below reals",
    "real_sign": "mean sign of D(real) - D(fake); near 1: overfits",
}

_BOUND = {"jsd_bound"}
_PROBABILITIES = {"d_real", "d_fake", "d_fake_after"}


def metric_lines(metrics: Mapping[str, float], loss: str = "") -> list[str]:
    """A line for each metric, for the screen: name, value and meaning.

    Args:
        loss: the run's loss: metrics that it does not define are left out; "": the metrics do not depend on a loss.
    """
    meanings, left_out = _MEANINGS, _undefined(loss) if loss else set()
    if loss.startswith("relativistic"):
        meanings = {**_MEANINGS, **_RELATIVISTIC_MEANINGS}
    shown = {name: value for name, value in metrics.items() if name not in left_out}
    width = max(map(len, shown), default=0)
    lines = []
    for name, value in shown.items():
        text = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
        lines.append(f"  {name:<{width}}  {text:<10}  {meanings.get(name, '')}".rstrip())
    return lines


def _undefined(loss: str) -> set[str]:
    """The metrics that have no meaning with a loss of `pygan.fused_losses`; :class:`pygan.fused_losses.LossStats` says
    why."""
    if loss == "wasserstein":
        return _BOUND | _PROBABILITIES | _RELATIVISTIC_MEANINGS.keys()
    if loss.startswith("relativistic"):
        return _BOUND | _PROBABILITIES
    return set() if loss in ("non_saturating", "minimax") else _BOUND
