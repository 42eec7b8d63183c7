"""Which of a run's metrics its loss defines."""

from __future__ import annotations

__all__ = ["undefined_metrics"]

_BOUND = {"jsd_bound"}
_PROBABILITIES = {"d_real", "d_fake", "d_fake_after"}
_DECISIONS = {"real_accuracy", "fake_accuracy", "real_sign"}


def undefined_metrics(loss: str) -> set[str]:
    """The metrics that have no meaning with a loss of `pygan.fused_losses`; :class:`pygan.fused_losses.LossStats` says
    why."""
    if loss == "wasserstein":
        return _BOUND | _PROBABILITIES | _DECISIONS
    if loss.startswith("relativistic"):
        return _BOUND | _PROBABILITIES
    return set() if loss in ("non_saturating", "minimax") else _BOUND
