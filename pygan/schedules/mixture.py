"""Diffusion-GAN's mixture: each sample gets its own noise level, from a set that grows with the adaptive rule."""

from __future__ import annotations

import torch
from torch import Tensor

from pygan import _ops
from pygan._validation import is_number
from pygan.schedules.adaptive import Feedback
from pygan.schedules.base import checked, checked_steps
from pygan.stream import NoiseStream

# Stream offset at which the levels are drawn, beyond the elements of any tensor.
_LEVELS = 1 << 62


class DiffusionMixture(Feedback):
    """A standard deviation per sample, drawn from the first T levels of a diffusion (Wang et al. 2022, "Diffusion-GAN",
    section 3).

    Level t = 1 ... t_max adds the noise of t steps of a DDPM with a linear beta schedule:
    ``sigma_t = noise_std * sqrt((1 - abar_t) / abar_t)``, abar_t the product of the 1 - beta up to t. A sample stays
    clean with probability `clean`; otherwise its t is drawn from 1 ... T, uniformly or in proportion to t ("priority").
    `step(real_sign)` moves T by ``sign(real_sign - target) * (t_max - t_min) / steps``, between t_min and t_max; like
    :class:`Adaptive`, it does not work with wasserstein.

    Differences from the paper and the authors' code:

    * In the paper, the discriminator gets ``sqrt(abar_t) x + sqrt(1 - abar_t) noise_std z``. Here x is not scaled,
      which is equivalent up to the scale of the input. sigma_t is therefore unbounded: with the defaults it is 0.17 at
      t = 500, 0.60 at 700 and 7.9 at 1,000.
    * In the paper, the discriminator sees t. To let it see sigma, call ``sigma = schedule.draw(x, stream)`` and
      ``pygan.instance_noise(x, sigma, stream=stream)`` instead of InstanceNoise.
    * The authors' code redistributes the betas for every T. Here level t always has the same noise, and the set grows.
    * Their code draws 32 levels when T changes and uses them until the next change. Here each sample draws its own.

    Args:
        steps: minimum number of calls of `step` from t_min to t_max, at least 1. For the 100,000 images of the
            authors' code: ``100_000 / (batch * interval)``.
        t_min, t_max: limits of T, the number of levels to draw from; positive integers, t_min < t_max.
        beta_start, beta_end: the first and the last beta, in (0, 1) (Ho et al. 2020, section 4).
        noise_std: factor of every sigma, in units of the data; positive.
        clean: fraction of the samples that get no noise, in [0, 1).
        distribution: "priority" or "uniform".
        target: the real_sign to maintain, between -1 and 1.

    Attributes:
        sigma: 0-d float32 buffer, sigma_T: the largest value that can currently be drawn.
        levels: float32 buffer (t_max + 1,), sigma_t at index t, 0 at index 0.
        position: T before rounding.

    The levels are drawn on the device from the noise stream of the call (see :meth:`Schedule.draw`): new ones for each
    call, and the same ones for the same seed and step. Processes that share a batch, each with the offset of its first
    element, draw what one process would.

    Raises:
        ValueError: a value out of range.
    """

    levels: Tensor

    def __init__(
        self,
        steps: int,
        *,
        t_min: int = 10,
        t_max: int = 1000,
        beta_start: float = 1e-4,
        beta_end: float = 2e-2,
        noise_std: float = 0.05,
        clean: float = 0.5,
        distribution: str = "priority",
        target: float = 0.6,
    ) -> None:
        name = "DiffusionMixture"
        checked_steps(name, "t_min", t_min)
        if checked_steps(name, "t_max", t_max) <= t_min:
            raise ValueError(f"{name}: t_max must be greater than t_min, {t_min}, got {t_max}")
        for argument, beta in (("beta_start", beta_start), ("beta_end", beta_end)):
            if not is_number(beta) or not 0.0 < beta < 1.0:
                raise ValueError(
                    f"{name}: {argument} must be a number between 0 and 1, got {beta!r}"
                )
        if checked(name, "noise_std", noise_std) == 0.0:
            raise ValueError(f"{name}: noise_std must be positive, got {noise_std!r}")
        if not is_number(clean) or not 0.0 <= clean < 1.0:
            raise ValueError(f"{name}: clean must be a number from 0 to below 1, got {clean!r}")
        if distribution not in ("priority", "uniform"):
            raise ValueError(
                f"{name}: distribution must be 'priority' or 'uniform', got {distribution!r}"
            )
        self.clean, self.distribution = float(clean), distribution
        levels = noise_std * _noise_to_signal(beta_start, beta_end, t_max)
        if not bool(levels.float().isfinite().all()):
            raise ValueError(
                f"{name}: t_max and the betas must leave some signal, got levels that overflow float32"
            )
        super().__init__(t_min, t_max, steps, t_min, target, sigma=float(levels[t_min]))
        self.register_buffer("levels", levels.float().to(self.sigma.device), persistent=False)

    @property
    def T(self) -> Tensor:
        """The number of levels to draw from: 0-d int64 tensor, on the device."""
        return self.position.round().long()

    def draw(self, x: Tensor, stream: NoiseStream) -> Tensor:
        """sigma for each sample of x (N, ...): shape (N,), float32.

        Raises:
            ValueError: x has no sample dimension, or is not on the schedule's device.
        """
        if x.dim() == 0:
            raise ValueError("DiffusionMixture: x must be a batch (N, ...), got a 0-d tensor")
        if x.device != self.levels.device:
            raise ValueError(
                f"DiffusionMixture: x must be on the schedule's device, {self.levels.device}, got {x.device}"
            )
        return self.levels[self._t(self._uniform(x, stream))]

    def _uniform(self, x: Tensor, stream: NoiseStream) -> Tensor:
        """N uniform numbers in [0, 1], the same on every device: they use only exactly rounded operations."""
        n = x.shape[0]
        first = stream.offset_of(x) // max(x.numel() // max(n, 1), 1)  # index of the first sample
        zeros = torch.zeros(n, 4, dtype=torch.float32, device=x.device)
        offset = _LEVELS + 4 * first
        z = _ops.instance_noise_at(zeros, None, 1.0, None, stream.state, offset, 1.0, 0.0, None)
        # A sum of two squared normals is an exponential variate a, and a / (a + b) of two such is uniform.
        a, b = z.square().view(n, 2, 2).sum(-1).unbind(-1)
        return a / (a + b).clamp_min(1e-30)  # 0 if both are 0

    def _t(self, u: Tensor) -> Tensor:
        """The levels, by inverse transform sampling: int64, from 0 to T, in u's shape."""
        T = self.position.round()
        # A product, because CUDA turns a division by a number into one, and the CPU does not.
        v = ((u - self.clean) * (1.0 / (1.0 - self.clean))).clamp_min(0.0)
        if self.distribution == "uniform":
            t = (v * T).floor() + 1.0
        else:
            # P(t <= k) = k (k + 1) / (T (T + 1))
            t = (0.5 * (torch.sqrt(1.0 + 4.0 * v * (T * (T + 1.0))) - 1.0)).ceil()
        t = torch.minimum(t.clamp_min(1.0), T.to(t.dtype))  # where v is 0 or 1
        return torch.where(u < self.clean, 0.0, t).long()

    def _refresh(self) -> None:
        self.sigma.copy_(self.levels.index_select(0, self.T.view(1)).squeeze(0))

    def extra_repr(self) -> str:
        return (
            f"steps={self.steps}, t_min={self.low}, t_max={self.high}, clean={self.clean}, "
            f"distribution={self.distribution!r}, target={self.target}"
        )


def _noise_to_signal(beta_start: float, beta_end: float, t_max: int) -> Tensor:
    """sqrt((1 - abar_t) / abar_t) for t = 0 ... t_max, in float64."""
    betas = torch.linspace(beta_start, beta_end, t_max, dtype=torch.float64, device="cpu")
    # (1 - abar) / abar = exp(-log abar) - 1, without the cancellation in 1 - abar for small t.
    ratios = torch.expm1(-torch.log1p(-betas).cumsum(0))
    return torch.cat([ratios.new_zeros(1), ratios]).sqrt()
