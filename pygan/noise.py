"""Instance noise: ``x * scale + bias + sigma * z`` in one pass, z never stored.

Noise added to the real *and* the generated inputs of the discriminator widens both distributions
until they overlap (Sønderby et al. 2017; Arjovsky & Bottou 2017); sigma is annealed towards 0.

z is a pure function of (seed, step, index of the element): the same bits on every CPU and GPU, for
any number of threads or processes. csrc/math/noise.h specifies the stream, version 1.
"""

from numbers import Real
from typing import Any

import torch
from torch import Tensor

__all__ = ["NoiseStream", "instance_noise"]

_noise = torch.ops.pygan.instance_noise.default
_noise_out = torch.ops.pygan.instance_noise.out
_noise_at = torch.ops.pygan.instance_noise_at.default
_advance = torch.ops.pygan.noise_advance.default
_draw = torch.ops.pygan.noise_draw.default

_OP = "pygan.instance_noise"
_WORD = 1 << 64


def _signed(value: int) -> int:
    """The int64 with the bits of an unsigned 64-bit value."""
    return value - _WORD if value >= _WORD // 2 else value


class NoiseStream:
    """A position in the noise: seed, step and offset. Each draw moves the step on by one.

    The step lives in memory of ``device`` and is advanced by the kernel that draws, so a captured CUDA
    graph draws fresh noise at every replay, and nothing waits for the host.

    Each call draws anew, a recomputation too: inside ``torch.utils.checkpoint`` use no stream, since
    the checkpoint restores PyTorch's generators only.

    Args:
        seed: 0 to 2**64 - 1. Streams of different seeds are independent.
        step: of the first draw, 0 to 2**64 - 1.
        offset: index in the stream of a tensor's first element, 0 to 2**63 - 1. Processes that share a
            batch pass the index of their first element, and together draw what one process would.
        device: of the tensors that noise is drawn for.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(
        self,
        seed: int,
        *,
        step: int = 0,
        offset: int = 0,
        device: torch.device | str | None = None,
    ):
        self.state = torch.zeros(2, dtype=torch.int64, device=device)
        self._set(seed, step, offset)

    def _set(self, seed: int, step: int, offset: int) -> None:
        for name, value, bits in (("seed", seed, 64), ("step", step, 64), ("offset", offset, 63)):
            if isinstance(value, bool) or not isinstance(value, int):
                kind = type(value).__name__
                raise TypeError(f"pygan.NoiseStream: {name} must be an int, got {kind}")
            if not 0 <= value < 1 << bits:
                raise ValueError(
                    f"pygan.NoiseStream: {name} must be from 0 to 2**{bits} - 1, got {value}"
                )
        self.offset = offset
        # In place: what a captured graph holds is this memory.
        self.state.copy_(torch.tensor([_signed(seed), _signed(step)]))

    @property
    def device(self) -> torch.device:
        return self.state.device

    @property
    def seed(self) -> int:
        """The seed. Waits for the device."""
        return int(self.state[0]) % _WORD

    @property
    def step(self) -> int:
        """The step of the next draw. Waits for the device."""
        return int(self.state[1]) % _WORD

    def to(self, device: torch.device | str) -> "NoiseStream":
        """Moves the state to another device, in place; returns self."""
        self.state = self.state.to(device)
        return self

    def state_dict(self) -> dict[str, int]:
        """Seed, step and offset as plain ints: the stream continues from them bit for bit."""
        seed, step = self.state.tolist()
        return {"seed": seed % _WORD, "step": step % _WORD, "offset": self.offset}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continues where ``state_dict`` was taken, on this stream's own device."""
        if set(state_dict) != {"seed", "step", "offset"}:
            raise KeyError(
                "pygan.NoiseStream: state_dict must have the keys seed, step and offset, "
                f"got {sorted(state_dict)}"
            )
        self._set(state_dict["seed"], state_dict["step"], state_dict["offset"])

    def __repr__(self) -> str:
        known = {"offset": self.offset} if self.device.type == "meta" else self.state_dict()
        state = ", ".join(f"{key}={value}" for key, value in known.items())
        return f"NoiseStream({state}, device={str(self.device)!r})"


def instance_noise(
    x: Tensor,
    sigma: float | Tensor,
    *,
    stream: NoiseStream | None = None,
    generator: torch.Generator | None = None,
    scale: float = 1.0,
    bias: float = 0.0,
    dtype: torch.dtype | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """``x * scale + bias + sigma * z`` with z ~ N(0, 1), in one read and one write.

    Differentiable in x (the gradient is ``scale * grad``) and in sigma (z is drawn again).

    Args:
        x: float32, float64, float16, bfloat16 or uint8, any shape and strides.
        sigma: standard deviation: a number, a 0-d tensor, or one value per sample, shape (N,) for x of
            shape (N, ...); tensors are float32 or float64. Under torch.compile a number is compiled in
            (each new one recompiles); as a tensor sigma changes freely, and without a sync.
        stream: where the noise comes from; each call moves it on by one step. Without one, a seed is
            drawn from ``generator``, or else from PyTorch's default generator of x's device: then
            ``torch.manual_seed`` reproduces a run.
        generator: see ``stream``; not both.
        scale, bias: applied to x first, so that uint8 images need no pass of their own.
        dtype: of the result; x's own by default (the default dtype for uint8).
        out: a tensor of x's shape to write to, x itself included. Not differentiable.

    Returns:
        A tensor of x's shape, in x's memory format (or ``out``). The math is in float32, in float64
        where x or the result is; the result is rounded once.

    Raises:
        TypeError, ValueError: an argument that does not fit, with its name. Nothing is written then,
            and the stream stays where it was.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{_OP}: x must be a tensor, got {type(x).__name__}")
    if isinstance(sigma, Tensor):
        tensor, value = sigma, 0.0
    else:
        tensor, value = None, _number("sigma", sigma)
    scale, bias = _number("scale", scale), _number("bias", bias)
    if out is not None and not isinstance(out, Tensor):
        raise TypeError(f"{_OP}: out must be a tensor, got {type(out).__name__}")
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise TypeError(f"{_OP}: dtype must be a torch.dtype, got {type(dtype).__name__}")
    if out is not None and dtype is not None and dtype != out.dtype:
        raise TypeError(f"{_OP}: dtype must be that of out, {out.dtype}, or None, got {dtype}")

    if generator is not None and not isinstance(generator, torch.Generator):
        kind = type(generator).__name__
        raise TypeError(f"{_OP}: generator must be a torch.Generator, got {kind}")

    if stream is None:
        result_type = dtype if out is None else out.dtype
        state = _draw(x, tensor, value, scale, bias, result_type, out, generator)
        offset = 0
    elif generator is not None:
        raise ValueError(f"{_OP}: generator must be None where a stream is given, got both")
    elif not isinstance(stream, NoiseStream):
        raise TypeError(f"{_OP}: stream must be a NoiseStream, got {type(stream).__name__}")
    else:
        state, offset = stream.state, stream.offset

    if out is not None:
        _noise_out(x, tensor, value, state, offset, scale, bias, out=out)
        return out
    if tensor is not None and tensor.requires_grad and torch.is_grad_enabled():
        # The gradient draws z again, from the state that is left behind here. (Not from state.clone(),
        # which torch.compile may take out.)
        before = _advance(x, tensor, value, state, offset, scale, bias, dtype)
        return _noise_at(x, tensor, value, before, offset, scale, bias, dtype)
    return _noise(x, tensor, value, state, offset, scale, bias, dtype)


def _number(name: str, value: Any) -> float:
    if not isinstance(value, (float, int, Real)):
        raise TypeError(f"{_OP}: {name} must be a number, got {type(value).__name__}")
    return float(value)
