"""For the generator's loss: the adaptive adversarial weight, and the path length penalty."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from pygan import _penalty_checks as checked
from pygan._precision import wide
from pygan._running_means import RunningMeans
from pygan._validation import describe

__all__ = ["PathLength", "adaptive_weight"]


class PathLength(RunningMeans):
    """weight · E(‖Jᵀy‖ − a)², with J the generator's Jacobian with respect to its latents, y normal noise and a an
    exponential moving average of the norms (Karras et al. 2020a, StyleGAN2, section 3.2, equation 4).

        path = pygan.penalties.PathLength()
        z = torch.randn(4, 128, requires_grad=True)
        loss = path(G(z), z)

    Use it in the generator's step of your own training loop, or in ``generator_terms``; GANTrainer's ``penalties`` are
    for the discriminator. If you compute it only every n-th step, multiply it by n.

    In training mode, each call first updates the average, which starts at 0; in eval mode, no call does. The average is
    a constant for the gradient, as in the paper, and a buffer on the images' device that stays float64 whatever the
    module is converted to. Updating it never synchronizes. If ``torch.distributed`` is initialized, it covers all
    processes, and every process must make the call.

    Args:
        weight: positive.
        decay: decay of the average, from 0 to below 1.

    Attributes:
        averages: a, shape (1,).

    Raises:
        TypeError, ValueError: an argument is not a number, or is out of range.
    """

    def __init__(self, weight: float = 2.0, decay: float = 0.99) -> None:
        super().__init__("PathLength", (1,), decay, 0)
        self.weight = checked.positive("PathLength", "weight", weight)

    def forward(
        self, images: Tensor, latents: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """The penalty, 0-d, at least float32, differentiable with respect to the generator's parameters.

        Args:
            images: (N, C, ...), the generator's output for the latents. y has variance 1 / (pixels of an image), so
                that the penalty does not depend on the resolution.
            latents: (N, ...), which must require a gradient. For three dimensions, (N, layers, width), such as
                StyleGAN's w, the squared norm is averaged over the layers.
            generator: the generator to draw y from; None: PyTorch's default one.

        Raises:
            TypeError: images or latents are not floating-point tensors.
            ValueError: there is no batch, the batch sizes differ, or the latents do not require a gradient.
            RuntimeError: the images do not depend on the latents. After any error the average is unchanged.
        """
        checked.batch("PathLength", "images", images)
        checked.batch("PathLength", "latents", latents)
        if len(images) != len(latents):
            raise ValueError(
                f"PathLength: latents must have as many samples as images, {len(images)}, got {len(latents)}"
            )
        if not latents.requires_grad:
            raise ValueError(
                "PathLength: latents must require a gradient (latents.requires_grad_()) before they go through the "
                "generator, got latents that do not"
            )
        y = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
        gradient = None
        if images.requires_grad:
            (gradient,) = torch.autograd.grad(
                images,
                latents,
                y / prod(images.shape[2:]) ** 0.5,
                create_graph=True,
                allow_unused=True,
            )
        if gradient is None:
            raise RuntimeError(
                "PathLength: images must depend on latents, got images that do not; compute them from the same tensor, "
                "not from a copy, and not under torch.no_grad()"
            )
        layers = latents.shape[1] if latents.dim() == 3 else 1
        lengths = torch.linalg.vector_norm(wide(gradient.flatten(1)), dim=1) / layers**0.5
        (average,), _ = self._moved([lengths.detach()])
        return self.weight * (lengths - average).square().mean()

    def extra_repr(self) -> str:
        return f"{self.weight}, decay={self.decay}"


def adaptive_weight(
    reconstruction_loss: Tensor,
    g_loss: Tensor,
    last_layer: Tensor,
    *,
    eps: float = 1e-4,
    maximum: float = 1e4,
) -> Tensor:
    """The adversarial loss's weight that makes its gradient at the last layer as large as the reconstruction's:
    ‖∇ reconstruction‖ / (‖∇ adversarial‖ + eps), at most `maximum` (Esser et al. 2021, VQGAN, eq. 7).

        weight = pygan.penalties.adaptive_weight(reconstruction_loss, g_loss, last_layer)
        loss = reconstruction_loss + weight * g_loss

    Args:
        reconstruction_loss, g_loss: 0-d; their graphs are retained.
        last_layer: the last layer's weight, with respect to which both losses are differentiated.

    Returns:
        A detached 0-d tensor on the device. Does not synchronize.

    Raises:
        TypeError: a loss or last_layer is not a tensor.
        ValueError: a loss has more than one element; last_layer does not require a gradient; eps or maximum is not
            positive and finite.
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
