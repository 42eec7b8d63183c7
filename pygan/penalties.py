r"""Gradient penalties of the discriminator, for ``GANTrainer(penalties=...)``.

    r3gan = {"loss": "relativistic", "penalties": [R1(1.0), R2(1.0)]}
    trainer = pygan.GANTrainer(G, D, g_optimizer, d_optimizer, latent=128, **r3gan)

With s(x) the sum of the logits that the discriminator gives the sample x:

===================  ======================================================  ==========================
penalty              value                                                   source
===================  ======================================================  ==========================
R1                   γ/2 · mean over real x of ‖∇s(x)‖²                      Mescheder et al. 2018
R2                   the same over generated x                               Mescheder et al. 2018
R1, R2 with sigma    γ/(2σ²) · mean of (s(x + σz) − s(x))², z ~ N(0, I)      Lin et al. 2025, section 3
GradientPenalty      weight · mean of (‖∇s(x̂)‖ − 1)², x̂ between the two      Gulrajani et al. 2017, eq. 3
LeCam                distance of the logits from averages of their means     Tseng et al. 2021, section 3.2
===================  ======================================================  ==========================

Gradients are taken with respect to the samples before augmentation and noise. All penalties of a step share one double
backward.

For your own training loop, use the functions :func:`r1`, :func:`r2`, :func:`r1_and_r2` and :func:`gradient_penalty`
on samples and logits, or :func:`approximate_r1` and :func:`approximate_r2`, which use a finite difference, and call
:class:`LeCam` with the logits. For generators, see :class:`PathLength` and :func:`adaptive_weight`, which balances
losses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from pygan import _penalty_checks as checked
from pygan._device_numbers import scheduled
from pygan._finite_difference import (
    Approximation,
    approximate_r1,
    approximate_r2,
    check_of,
    squared_slopes,
)
from pygan._generator_terms import PathLength, adaptive_weight
from pygan._gradient_penalties import between, gradient_penalty, interpolate, r1, r1_and_r2, r2
from pygan._lecam import LeCam
from pygan._penalty_base import DiscriminatorPass, Penalty
from pygan._validation import check_int
from pygan.noise import instance_noise
from pygan.schedules import Adaptive, DiffusionMixture, Schedule
from pygan.stream import NoiseStream

__all__ = [
    "R1",
    "R2",
    "Approximation",
    "DiscriminatorPass",
    "GradientPenalty",
    "LeCam",
    "PathLength",
    "Penalty",
    "adaptive_weight",
    "approximate_r1",
    "approximate_r2",
    "gradient_penalty",
    "interpolate",
    "r1",
    "r1_and_r2",
    "r2",
]


@dataclass(frozen=True)
class _Lazy(Penalty):
    """Base of R1, R2 and GradientPenalty."""

    every: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        check_int(type(self).__name__, "every", self.every)

    def _check(self, **numbers: object) -> None:
        for name, value in numbers.items():
            checked.positive(type(self).__name__, name, value)


@dataclass(frozen=True)
class _ZeroCentered(_Lazy):
    """Base of R1 and R2; `side` selects the samples."""

    gamma: float | Schedule
    sigma: float | None = field(default=None, kw_only=True)
    of: str = field(default="sample", kw_only=True)
    side: ClassVar[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.gamma, (Adaptive, DiffusionMixture)):
            raise TypeError(
                f"{type(self).__name__}: gamma must be a number or a schedule that depends on the step count alone, "
                f"got {type(self.gamma).__name__}"
            )
        if not isinstance(self.gamma, Schedule):
            self._check(gamma=self.gamma)
        if self.sigma is not None:
            self._check(sigma=self.sigma)
        check_of(type(self).__name__, self.of)
        if self.of == "logit" and self.sigma is None:
            raise ValueError(
                f"{type(self).__name__}: of must be 'sample' without sigma, because the gradient is taken of the sum "
                "of a sample's logits, got 'logit'"
            )

    @property
    def differentiates(self) -> frozenset[str]:
        return frozenset() if self.sigma else frozenset({self.side})

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({self.side})

    @property
    def compares(self) -> str | None:
        return self.side if self.sigma else None

    def probe(
        self, real: DiscriminatorPass, fake: DiscriminatorPass, stream: NoiseStream
    ) -> Tensor | None:
        if self.sigma is None:
            return None
        inputs = (real if self.side == "real" else fake).inputs
        return instance_noise(inputs, self.sigma, stream=stream)

    def value(
        self,
        real: DiscriminatorPass,
        fake: DiscriminatorPass,
        probe: DiscriminatorPass | None,
        step: int,
    ) -> Tensor:
        own = real if self.side == "real" else fake
        if probe is None or self.sigma is None:
            assert own.gradient is not None
            squares = own.gradient.square()
        else:
            squares = squared_slopes(probe.logits, own.logits, self.sigma, self.of)
        # One factor, because each operation on a 0-d tensor takes as long as on a small batch, and has a derivative.
        gamma, total, half = self.gamma, squares.sum(), 0.5 / len(squares)
        if isinstance(gamma, Schedule):
            return scheduled(gamma, step, total, half) * total
        return half * gamma * total


class R1(_ZeroCentered):
    r"""γ/2 · E‖∇D(x)‖² on real samples (Mescheder et al. 2018, "Which Training Methods for GANs do actually
    Converge?", eq. 9).

    Args:
        gamma: γ, positive; or a schedule from `pygan.schedules`, such as ``Cosine(1.0, 0.1, steps)``, as in R3GAN.
            The schedule is evaluated at the iteration count and needs no call of `step()`; a negative or non-finite
            value makes the step raise ValueError.
        every: see :class:`Penalty`.
        sigma: standard deviation, in units of the discriminator's input, of a finite difference that replaces the
            gradient: no double backward, so the discriminator needs no second derivative (Lin et al. 2025, "Diffusion
            Adversarial Post-Training for One-Step Video Generation": their λ is γ/(2σ²), 100 at σ = .01). None: the
            exact gradient. The logits' rounding error is divided by sigma too, so bf16 and fp16 need a larger one.
        of: with sigma, which difference to square if a sample has several logits: "sample", the difference of their
            sum, like the gradient of the sum; or "logit", the difference of each, with squares summed over the sample.

    With sigma, the discriminator runs on the perturbed samples from the same starting point as the forward pass it is
    compared with: the same states of torch's generators (the CPU's, its device's, and those that are
    attributes of its modules), of its modules' noise streams, and of its buffers. Dropout therefore drops the same
    units in both, and all states are restored afterwards. Random numbers from elsewhere, such as numpy, must
    not differ between the two passes, and a sample's logits must depend on that sample alone: BatchNorm in training
    mode makes the estimate wrong. A CUDA graph can capture it only if an earlier step has
    shown that the discriminator draws no random numbers.

    Raises:
        TypeError, ValueError: an argument is not a number, or is out of range; an unknown `of`, or "logit" without
            sigma.
    """

    side = "real"


class R2(_ZeroCentered):
    """:class:`R1` on generated samples. R3GAN uses both (Huang et al. 2024); together they take one double
    backward."""

    side = "fake"


@dataclass(frozen=True)
class GradientPenalty(_Lazy):
    """weight · E(‖∇D(x̂)‖ − 1)², with x̂ uniform on the lines between real and generated inputs and one norm per sample
    (WGAN-GP, Gulrajani et al. 2017, "Improved Training of Wasserstein GANs", eq. 3: weight = 10).

    Args:
        every: see :class:`Penalty`.
        weight: λ, positive.

    Raises:
        TypeError, ValueError: an argument is not a number, or is out of range. A step raises ValueError if real and
            generated samples differ in shape.
    """

    weight: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check(weight=self.weight)

    @property
    def differentiates(self) -> frozenset[str]:
        return frozenset({"probe"})

    @property
    def reads(self) -> frozenset[str]:
        return frozenset()

    def probe(
        self, real: DiscriminatorPass, fake: DiscriminatorPass, stream: NoiseStream
    ) -> Tensor:
        a, b = real.inputs, fake.inputs
        if a.shape != b.shape:
            raise ValueError(
                "GradientPenalty: real and generated samples must have the same shape, got "
                f"{tuple(a.shape)} and {tuple(b.shape)}"
            )
        z = torch.zeros(len(a), *[1] * (a.dim() - 1), device=a.device)
        # Uniform numbers from the stream's normals, so that a sample's do not depend on the number of processes.
        return between(a, b, torch.special.ndtr(instance_noise(z, 1.0, stream=stream)))

    def value(
        self,
        real: DiscriminatorPass,
        fake: DiscriminatorPass,
        probe: DiscriminatorPass | None,
        step: int,
    ) -> Tensor:
        assert probe is not None and probe.gradient is not None
        norms = torch.linalg.vector_norm(probe.gradient, dim=1)
        return self.weight * (norms - 1.0).square().mean()
