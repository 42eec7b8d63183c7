"""Terms of a generator's loss: the weight of its adversarial part."""

from __future__ import annotations

import torch
from torch import Tensor

from pygan import _penalty_checks as checked
from pygan._arguments import describe
from pygan._sample_gradients import wide

__all__ = ["adaptive_weight"]


def adaptive_weight(
    reconstruction_loss: Tensor,
    g_loss: Tensor,
    last_layer: Tensor,
    *,
    eps: float = 1e-4,
    maximum: float = 1e4,
) -> Tensor:
    """The weight that gives the generator's adversarial loss a gradient as large as the reconstruction's at the last
    layer: ‖∇ reconstruction‖ / (‖∇ adversarial‖ + eps), at most `maximum` (Esser et al. 2021, VQGAN, eq. 7).

        weight = pygan.penalties.adaptive_weight(reconstruction_loss, g_loss, last_layer)
        loss = reconstruction_loss + weight * g_loss

    Args:
        reconstruction_loss, g_loss: 0-d, whose graphs are kept.
        last_layer: the weight by which both are differentiated.

    Returns:
        A detached 0-d tensor on the device; nothing waits for it.

    Raises:
        TypeError: a loss or last_layer is no tensor.
        ValueError: a loss is not one number; last_layer requires no gradient; eps or maximum is not positive and
            finite.
        RuntimeError: a loss does not depend on the layer.
    """
    op = "pygan.penalties.adaptive_weight"
    eps, maximum = checked.positive(op, "eps", eps), checked.positive(op, "maximum", maximum)
    losses = {"reconstruction_loss": reconstruction_loss, "g_loss": g_loss}
    for name, value in {**losses, "last_layer": last_layer}.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{op}: {name} must be a tensor, got {describe(value)}")
    if not last_layer.requires_grad:
        raise ValueError(f"{op}: last_layer must require a gradient, got one that does not")
    norms = []
    for name, loss in losses.items():
        if loss.numel() != 1:
            raise ValueError(f"{op}: {name} must be one number, got {describe(loss)}")
        gradient = None
        if loss.requires_grad:
            (gradient,) = torch.autograd.grad(
                loss, last_layer, retain_graph=True, allow_unused=True
            )
        if gradient is None:
            raise RuntimeError(f"{op}: {name} must depend on last_layer, got one that does not")
        norms.append(torch.linalg.vector_norm(wide(gradient)))
    return (norms[0] / (norms[1] + eps)).clamp(0.0, maximum).detach()
