"""Terms of a generator's loss: the weight of its adversarial part, and the path length."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from pygan import _penalty_checks as checked
from pygan._running_means import RunningMeans
from pygan._sample_gradients import wide
from pygan._validation import describe

__all__ = ["PathLength", "adaptive_weight"]


class PathLength(RunningMeans):
    """weight · E(‖Jᵀy‖ − a)², J the generator's Jacobian by its latents, y normal noise and a an exponential moving
    average of the norms (Karras et al. 2020a, StyleGAN2, section 3.2, equation 4).

        path = pygan.penalties.PathLength()
        z = torch.randn(4, 128, requires_grad=True)
        loss = path(G(z), z)

    It is for the generator's step of a loop of your own; GANTrainer's penalties are the discriminator's. Computed every
    n-th step only, it is multiplied by n there.

    In training mode each call first moves the average on, from 0, and in eval mode none does. It is a constant to the
    gradient, as in the paper. It is a buffer, float64 whatever the module is converted to, on the device of the images;
    nothing waits for it. Where ``torch.distributed`` is initialized, it is over all processes, and each has to call it.

    Args:
        weight: positive.
        decay: of the average, from 0 to below 1.

    Attributes:
        averages: (1,): a.

    Raises:
        TypeError, ValueError: an argument that is no number, or out of range.
    """

    def __init__(self, weight: float = 2.0, decay: float = 0.99) -> None:
        super().__init__("PathLength", (1,), decay, 0)
        self.weight = checked.positive("PathLength", "weight", weight)

    def forward(
        self, images: Tensor, latents: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """The penalty, 0-d, at least float32, differentiable by the generator's parameters.

        Args:
            images: (N, C, ...), what the generator made of the latents. y has variance 1 / (pixels of an image), so
                that the resolution does not matter.
            latents: (N, ...) that require a gradient. Of three dimensions, (N, layers, width) as StyleGAN's w, the
                square of the norm is the mean over the layers.
            generator: to draw y from; None: PyTorch's default one.

        Raises:
            TypeError: images or latents are no floating tensor.
            ValueError: there is no batch, they are not equally many, or the latents require no gradient.
            RuntimeError: the images do not depend on the latents. The average is as it was in each case.
        """
        checked.batch("PathLength", "images", images)
        checked.batch("PathLength", "latents", latents)
        if len(images) != len(latents):
            raise ValueError(
                f"PathLength: latents must be as many as images, {len(images)}, got {len(latents)}"
            )
        if not latents.requires_grad:
            raise ValueError(
                "PathLength: latents must require a gradient (latents.requires_grad_()) before the generator gets "
                "them, got some that do not"
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
                "PathLength: images must depend on latents, got some that do not; compute them from that very tensor, "
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
