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
LeCam                of logits and averages of their means                   Tseng et al. 2021, section 3.2
===================  ======================================================  ==========================

The gradients are by the samples as the loop and the generator hand them over, before augmentation and noise. Those of
all penalties of a step take one double backward.

For a loop of your own they are functions: :func:`r1`, :func:`r2`, :func:`r1_and_r2` and :func:`gradient_penalty`, of
samples and logits; :func:`approximate_r1` and :func:`approximate_r2` by a finite difference. :class:`LeCam` is called
with the logits there. For generators there are :class:`PathLength` and :func:`adaptive_weight`, which balances losses.
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
from pygan._lecam import LeCam
from pygan._penalty_base import Judged, Penalty
from pygan._sample_gradients import between, gradient_penalty, interpolate, r1, r1_and_r2, r2
from pygan._validation import check_int
from pygan.noise import instance_noise
from pygan.schedules import Adaptive, DiffusionMixture, Schedule
from pygan.stream import NoiseStream

__all__ = [
    "R1",
    "R2",
    "Approximation",
    "GradientPenalty",
    "Judged",
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
    """What R1, R2 and GradientPenalty share."""

    every: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        check_int(type(self).__name__, "every", self.every)

    def _check(self, **numbers: object) -> None:
        for name, value in numbers.items():
            checked.positive(type(self).__name__, name, value)


@dataclass(frozen=True)
class _ZeroCentered(_Lazy):
    """What R1 and R2 share; `side` says on which samples."""

    gamma: float | Schedule
    sigma: float | None = field(default=None, kw_only=True)
    of: str = field(default="sample", kw_only=True)
    side: ClassVar[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.gamma, (Adaptive, DiffusionMixture)):
            raise TypeError(
                f"{type(self).__name__}: gamma must be a number or a schedule that follows the number of steps, "
                f"got {type(self.gamma).__name__}"
            )
        if not isinstance(self.gamma, Schedule):
            self._check(gamma=self.gamma)
        if self.sigma is not None:
            self._check(sigma=self.sigma)
        check_of(type(self).__name__, self.of)
        if self.of == "logit" and self.sigma is None:
            raise ValueError(
                f"{type(self).__name__}: of must be sample without sigma, because the gradient is that of the sum of a "
                "sample's logits, got 'logit'"
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

    def probe(self, real: Judged, fake: Judged, stream: NoiseStream) -> Tensor | None:
        if self.sigma is None:
            return None
        inputs = (real if self.side == "real" else fake).inputs
        return instance_noise(inputs, self.sigma, stream=stream)

    def value(self, real: Judged, fake: Judged, probe: Judged | None, step: int) -> Tensor:
        judged = real if self.side == "real" else fake
        if probe is None or self.sigma is None:
            assert judged.gradient is not None
            squares = judged.gradient.square().sum(1)
        else:
            squares = squared_slopes(probe.logits, judged.logits, self.sigma, self.of)
        gamma, mean = self.gamma, squares.mean()
        return 0.5 * (scheduled(gamma, step, mean) if isinstance(gamma, Schedule) else gamma) * mean


class R1(_ZeroCentered):
    r"""γ/2 · E‖∇D(x)‖² on real samples (Mescheder et al. 2018, "Which Training Methods for GANs do actually
    Converge?", eq. 9).

    Args:
        gamma: γ, positive; or a schedule of `pygan.schedules` for it, such as ``Cosine(1.0, 0.1, steps)``, as R3GAN
            uses one. It is asked for its value after that many iterations, and needs no call of `step()`; a value that
            is negative or not finite makes the step raise ValueError.
        every: see :class:`Penalty`.
        sigma: standard deviation, in units of the discriminator's input, of a finite difference that stands for the
            gradient: no double backward, so the discriminator needs no second derivative (Lin et al. 2025, "Diffusion
            Adversarial Post-Training for One-Step Video Generation": their λ is γ/(2σ²), 100 at σ = .01). None: the
            gradient. The rounding of the logits is divided by it too: in bf16 or fp16 it must be larger.
        of: with sigma, what is squared where a sample has several logits: "sample", the difference of their sum, as the
            gradient is that of the sum; or "logit", the difference of each, and the squares are summed over the sample.

    With sigma the discriminator sees the moved samples in a forward pass that starts as the one it is compared with
    did: with the same states of torch's generators (the CPU's, that of the discriminator's device, and those that are
    attributes of its modules), of the noise streams of its modules, and of its buffers. So dropout drops the same in
    both. After it they are all as if it had not been. What a discriminator draws from elsewhere, such as numpy, must
    not change between the two, and a sample's logits must depend on this sample alone: with BatchNorm in training mode
    the estimate is of something else. While a CUDA graph is captured, a discriminator that draws random numbers is
    refused, and one of which no step before the capture has shown that it does not.

    Raises:
        TypeError, ValueError: an argument that is no number, or out of range; an unknown `of`, or "logit" without
            sigma.
    """

    side = "real"


class R2(_ZeroCentered):
    """:class:`R1` on generated samples; R3GAN uses both (Huang et al. 2024), and together they take one double
    backward."""

    side = "fake"


@dataclass(frozen=True)
class GradientPenalty(_Lazy):
    """weight · E(‖∇D(x̂)‖ − 1)², x̂ uniform on the lines between real and generated inputs, one norm for each sample
    (WGAN-GP, Gulrajani et al. 2017, "Improved Training of Wasserstein GANs", eq. 3: weight = 10).

    Args:
        every: see :class:`Penalty`.
        weight: λ, positive.

    Raises:
        TypeError, ValueError: an argument that is no number, or out of range. A step raises ValueError where real and
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

    def probe(self, real: Judged, fake: Judged, stream: NoiseStream) -> Tensor:
        a, b = real.inputs, fake.inputs
        if a.shape != b.shape:
            raise ValueError(
                "GradientPenalty: real and generated samples must have one shape to be interpolated, got "
                f"{tuple(a.shape)} and {tuple(b.shape)}"
            )
        z = torch.zeros(len(a), *[1] * (a.dim() - 1), device=a.device)
        # The stream's normals, made uniform: any number of processes draws the same for a sample.
        return between(a, b, torch.special.ndtr(instance_noise(z, 1.0, stream=stream)))

    def value(self, real: Judged, fake: Judged, probe: Judged | None, step: int) -> Tensor:
        assert probe is not None and probe.gradient is not None
        norms = torch.linalg.vector_norm(probe.gradient, dim=1)
        return self.weight * (norms - 1.0).square().mean()
