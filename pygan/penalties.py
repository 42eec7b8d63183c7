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
===================  ======================================================  ==========================

The gradients are by the samples as the loop and the generator hand them over, before augmentation and noise.

For a loop of your own they are functions: :func:`r1`, :func:`r2` and :func:`gradient_penalty`, of samples and logits.
:func:`adaptive_weight` balances a generator's losses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from pygan._arguments import check_int, number
from pygan._sample_gradients import (
    adaptive_weight,
    between,
    gradient_by_sample,
    gradient_penalty,
    interpolate,
    r1,
    r2,
    wide,
)
from pygan.noise import instance_noise
from pygan.schedules import Adaptive, DiffusionMixture, Schedule
from pygan.stream import NoiseStream

__all__ = [
    "R1",
    "R2",
    "GradientPenalty",
    "Penalty",
    "adaptive_weight",
    "gradient_penalty",
    "interpolate",
    "r1",
    "r2",
]


class Judged(NamedTuple):
    """One side, real or generated, on its way through the discriminator."""

    samples: Tensor
    """(N, ...); requires grad where a penalty asks for it."""
    inputs: Tensor
    """What the discriminator got: `samples`, augmented and with noise."""
    output: Any
    """What the discriminator returned; None before it was asked."""
    logits: Any
    """The logits in it: a tensor, or a list of them."""


@dataclass(frozen=True)
class Penalty:
    """Base class of the penalties. One with ``state_dict`` and ``load_state_dict`` has its state in the trainer's.

    Args:
        every: the penalty is computed in every `every`-th discriminator step, and multiplied by `every` ("lazy
            regularisation", Karras et al. 2020, section 3.1, who also scale Adam's learning rate and betas for it).

    Raises:
        ValueError: an argument out of range.
    """

    every: int = field(default=1, kw_only=True)

    @property
    def differentiates(self) -> frozenset[str]:
        """Which of "real" and "fake" need a gradient by their samples."""
        return frozenset()

    @property
    def compares(self) -> str | None:
        """The side, "real" or "fake", whose logits the probe's are compared with: its forward pass is that of the
        side once more, with the same random numbers and buffers, and leaves no trace in either."""
        return None

    def __post_init__(self) -> None:
        check_int(type(self).__name__, "every", self.every)

    def probe(self, real: Judged, fake: Judged, stream: NoiseStream) -> Tensor | None:
        """Further inputs (N, ...) at which the discriminator is to be asked, if any.

        Before it has judged the generated samples: to DistributedDataParallel these must come last.
        """
        return None

    def value(self, real: Judged, fake: Judged, probe: Judged | None, step: int) -> Tensor:
        """The penalty, 0-d, without the factor `every`, after `step` iterations."""
        raise NotImplementedError

    def _check(self, **numbers: object) -> None:
        for name, value in numbers.items():
            if isinstance(value, bool):
                raise TypeError(f"{type(self).__name__}: {name} must be a number, got bool")
            if not 0.0 < number(type(self).__name__, name, value) < float("inf"):
                raise ValueError(
                    f"{type(self).__name__}: {name} must be positive and finite, got {value}"
                )


@dataclass(frozen=True)
class _ZeroCentered(Penalty):
    """What R1 and R2 share; `side` says on which samples."""

    gamma: float | Schedule
    sigma: float | None = field(default=None, kw_only=True)
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

    @property
    def differentiates(self) -> frozenset[str]:
        return frozenset() if self.sigma else frozenset({self.side})

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
            squares = _gradient(judged.logits, judged.samples).square().sum(1)
        else:
            rise = _by_sample(probe.logits) - _by_sample(judged.logits)
            squares = (rise / self.sigma).square()
        gamma = self.gamma
        if isinstance(gamma, Schedule):
            gamma = gamma.checked_value(step)
        return 0.5 * gamma * squares.mean()


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

    With sigma the discriminator sees the moved samples in a forward pass that starts as the one it is compared with
    did: with the same states of torch's generators (the CPU's and that of the discriminator's device), of the streams
    of its InstanceNoise modules, and of its buffers. So dropout drops the same in both. After it they are all as if it
    had not been. What a discriminator draws from elsewhere (numpy, a generator of its own) must not change between the
    two, and a sample's logits must depend on this sample alone: with BatchNorm in training mode the estimate is of
    something else. While a CUDA graph is captured, a discriminator that draws random numbers is refused.

    Raises:
        TypeError, ValueError: an argument that is no number, or out of range.
    """

    side = "real"


class R2(_ZeroCentered):
    """:class:`R1` on generated samples; R3GAN uses both (Huang et al. 2024)."""

    side = "fake"


@dataclass(frozen=True)
class GradientPenalty(Penalty):
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
        assert probe is not None
        norms = torch.linalg.vector_norm(_gradient(probe.logits, probe.inputs), dim=1)
        return self.weight * (norms - 1.0).square().mean()


NO_GRADIENT = (
    "GANTrainer: logits, loss and penalties must be differentiable by {}, got one that is not (neither augment, nor a "
    "network, nor a loss of your own may detach what it is given)"
)
# What torch says where there are none: of single ops, of autograd functions, and of compiled networks.
_NO_SECOND = re.compile(
    "derivative for|once_differentiable|donated buffers|not currently support double backward"
)


@contextmanager
def second_derivatives(penalties: Sequence[Penalty]) -> Iterator[None]:
    """Within it, where the penalties are differentiated, torch's error for an op without a second derivative says what
    to do."""
    try:
        yield
    except RuntimeError as error:
        names = [type(p).__name__ for p in penalties if p.compares is None]
        if not names or not _NO_SECOND.search(str(error)):
            raise
        raise RuntimeError(
            f"GANTrainer: the discriminator must have second derivatives for {', '.join(names)}, got: {error} "
            "(R1 and R2 with sigma= need none; scaled_dot_product_attention has them within "
            "torch.nn.attention.sdpa_kernel(SDPBackend.MATH), a compiled network where it is not compiled)"
        ) from error


def _gradient(logits: Any, samples: Tensor) -> Tensor:
    gradient = gradient_by_sample(logits, samples)
    if gradient is None:
        raise RuntimeError(NO_GRADIENT.format("the samples"))
    return gradient


def _by_sample(logits: Any) -> Tensor:
    """(N,): the sum of each sample's logits."""
    outputs = [logits] if isinstance(logits, Tensor) else list(logits)
    sums = [wide(x.flatten(1)).sum(1) if x.dim() > 1 else wide(x.view(-1)) for x in outputs]
    return torch.stack(sums).sum(0)
