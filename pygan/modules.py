"""InstanceNoise: instance noise as a module that anneals, checkpoints its stream position, and is off in eval()."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pygan import _ops
from pygan._compile import not_scriptable
from pygan._parallel import is_distributed
from pygan._validation import describe
from pygan.noise import instance_noise, instance_noise_pair
from pygan.schedules import Schedule
from pygan.stream import NoiseStream

__all__ = ["InstanceNoise"]


class InstanceNoise(nn.Module):
    """Adds sigma * N(0, I) to its input in training mode, and is the identity in `eval()`.

    Applied to real *and* generated samples before the discriminator, it widens both distributions until they overlap,
    so that the discriminator cannot separate them perfectly and its gradient stays informative (Sønderby et al. 2017,
    Arjovsky and Bottou 2017). Every call draws the next step of one noise stream: the values depend only on (seed, call
    number, element index), not on the device. Separate calls for real and generated samples therefore share neither
    the noise nor the standard deviations that `schedules.DiffusionMixture` draws.

        noise = pygan.InstanceNoise(pygan.schedules.Linear(0.5, 0.0, steps=10_000)).to(device)
        logits = discriminator(noise(images))
        noise.step()                             # anneal sigma, once per iteration

    Args:
        schedule: a :class:`pygan.schedules.Schedule`; for a fixed value, ``schedules.Constant(0.1)``.
        seed: 64-bit seed of the stream; None draws one from PyTorch's default generator, so that `torch.manual_seed`
            reproduces a run.

    If ``torch.distributed`` is initialized, the processes are assumed to split each batch evenly. With the same
    seed, they draw together what one process would draw for the whole batch (see :meth:`NoiseStream.for_rank`).

    Do not use it inside ``torch.utils.checkpoint``: a checkpoint restores only PyTorch's generators, so recomputing the
    forward pass would draw different noise. Apply it before the checkpointed function. The backward pass raises an
    error otherwise, under torch.compile too; with ``fullgraph=True`` the compiler reports it as a side effect.

    Use it in the training loop. In a ``DataLoader`` worker it raises RuntimeError, because every worker has a
    copy and all would draw the same noise: see :class:`NoiseStream`.

    `state_dict()` holds the stream's seed and step and the schedule's state, so a resumed run draws what the
    interrupted one would have drawn. (Saving reads the step from the GPU, which synchronizes.)
    """

    def __init__(self, schedule: Schedule, *, seed: int | None = None) -> None:
        super().__init__()
        if not isinstance(schedule, Schedule):
            raise TypeError(
                "pygan.InstanceNoise: schedule must be a pygan.schedules schedule (for a number: "
                f"schedules.Constant(0.1)), got {type(schedule).__name__}"
            )
        self.schedule = schedule
        if seed is None:
            seed = int(torch.randint(2**63 - 1, (), dtype=torch.int64))
        self._stream = NoiseStream(seed, device=schedule.sigma.device)

    @property
    def sigma(self) -> Tensor:
        """The schedule's 0-d float32 tensor: the current standard deviation (for a mixture, the largest)."""
        return self.schedule.sigma

    @property
    def stream(self) -> NoiseStream:
        """The stream that the calls draw from. It moves to the device of each input."""
        return self._stream

    def forward(self, x: Tensor) -> Tensor:
        """x (any shape and dtype) plus noise, in x's dtype if it is floating-point; x itself in eval().

        Raises:
            TypeError: x is not a tensor.
            RuntimeError: called during a backward pass, as ``torch.utils.checkpoint`` does, or in a DataLoader
                worker.
            ValueError, NotImplementedError: as for :func:`instance_noise`.
        """
        if not isinstance(x, Tensor):
            raise TypeError(f"pygan.InstanceNoise: x must be a tensor, got {describe(x)}")
        if not self.training:
            return x
        if x.device.type == "meta":  # shapes only: the stream does not advance
            return instance_noise(x, self.schedule.sigma.to("meta"))
        stream = self._ready(x)
        return instance_noise(x, self.schedule.draw(x, stream), stream=stream)

    def pair(self, real: Tensor, fake: Tensor) -> Tensor:
        """Noisy real and fake samples as one batch (N + M, ...), for one pass of the discriminator over both.

        Equals ``torch.cat([self(real), self(fake)])``, computed by :func:`pygan.instance_noise_pair`.

        Raises:
            TypeError, ValueError, RuntimeError: as for a call, and as for :func:`pygan.instance_noise_pair`.
        """
        sigma = self._sigma_of_both(real)
        if sigma is None:
            return torch.cat([self(real), self(fake)])
        return instance_noise_pair(real, fake, sigma, stream=self._stream)

    def each(self, real: Tensor, fake: Tensor) -> list[Tensor]:
        """``[self(real), self(fake)]``, with a single launch if both or neither of them require grad.

        Raises:
            TypeError, RuntimeError, ValueError, NotImplementedError: as for a call.
        """
        alike = all(isinstance(x, Tensor) for x in (real, fake))
        # Otherwise both results would require grad.
        alike = alike and real.requires_grad == fake.requires_grad
        sigma = self._sigma_of_both(real) if alike else None
        if sigma is None:
            return [self(real), self(fake)]
        return instance_noise([real, fake], sigma, stream=self._stream)

    def _sigma_of_both(self, real: Tensor) -> Tensor | None:
        """The standard deviation for one call on real and fake samples; None if that takes a call for each."""
        if not self.training or not isinstance(real, Tensor) or real.device.type == "meta":
            return None
        sigma = self.schedule.draw(real, self._ready(real))
        return sigma if sigma.dim() == 0 else None  # one value per sample would cover the real ones

    def _ready(self, x: Tensor) -> NoiseStream:
        """The stream, ready for a call on x."""
        if _ops.is_compiling():
            # A side effect on purpose: inside a checkpoint the compiler traces none and falls back to eager code.
            self._stream = self._stream
        elif torch._C._current_graph_task_id() != -1:
            raise RuntimeError(
                "pygan.InstanceNoise: forward must not be called in a backward pass, where it would draw different "
                "noise than the first time, got a call from there; apply it before the function given to "
                "torch.utils.checkpoint"
            )
        if self._stream.device != x.device:
            self._stream.to(x.device)
        if is_distributed():
            self._stream.rank = torch.distributed.get_rank()
        return self._stream

    def step(self, real_sign: Tensor | None = None) -> None:
        """Advance the schedule by one step. Does not synchronize.

        Args:
            real_sign: `real_sign` from the discriminator step's statistics, 0-d. `schedules.Adaptive` and
                `DiffusionMixture` respond to it; the other schedules ignore it.
        """
        self.schedule.step(real_sign)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> InstanceNoise:
        # .to(), .cuda() and the like move the stream with the schedule; .half() must not convert it.
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch has no annotation
        state = fn(self._stream.state)
        # A "meta" tensor has no data to copy; after to_empty(), load_state_dict() sets it.
        self._stream._keep(
            state if self._stream.device.type == "meta" else self._stream.state.to(state.device)
        )
        return self

    def __prepare_scriptable__(self) -> None:
        not_scriptable("pygan.InstanceNoise")

    def get_extra_state(self) -> dict[str, Any]:
        return self._stream.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self._stream.load_state_dict(state)
