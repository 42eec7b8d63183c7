"""Instance noise: ``x * scale + bias + sigma * z`` in one pass, z never stored.

Noise added to the real *and* the generated inputs of the discriminator widens both distributions
until they overlap (Sønderby et al. 2017; Arjovsky and Bottou 2017); sigma is annealed towards 0.

z is a pure function of (seed, step, index of the element): the same bits on every CPU and GPU, for
any number of threads or processes. csrc/math/noise.h specifies the stream, version 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor

from pygan import _ops
from pygan._compile import compiled_since_2_8
from pygan._validation import check_bool, describe, number, tensors
from pygan.stream import NoiseStream

__all__ = ["instance_noise", "instance_noise_pair"]


@overload
def instance_noise(
    x: Tensor,
    sigma: float | Tensor,
    *,
    stream: NoiseStream | None = None,
    generator: torch.Generator | None = None,
    scale: float | Tensor = 1.0,
    bias: float = 0.0,
    dtype: torch.dtype | None = None,
    out: Tensor | None = None,
) -> Tensor: ...


@overload
def instance_noise(
    x: Sequence[Tensor],
    sigma: float | Tensor,
    *,
    stream: NoiseStream | None = None,
    generator: torch.Generator | None = None,
    scale: float | Tensor = 1.0,
    bias: float = 0.0,
    dtype: torch.dtype | None = None,
    same_noise: bool = False,
    out: Sequence[Tensor] | None = None,
) -> list[Tensor]: ...


@compiled_since_2_8
def instance_noise(
    x: Tensor | Sequence[Tensor],
    sigma: float | Tensor,
    *,
    stream: NoiseStream | None = None,
    generator: torch.Generator | None = None,
    scale: float | Tensor = 1.0,
    bias: float = 0.0,
    dtype: torch.dtype | None = None,
    same_noise: bool = False,
    out: Tensor | Sequence[Tensor] | None = None,
) -> Tensor | list[Tensor]:
    """``x * scale + bias + sigma * z`` with z ~ N(0, 1), in one read and one write.

    Differentiable in x (the gradient is ``scale * grad``), in sigma (z is drawn again) and in scale.

    Args:
        x: float32, float64, float16, bfloat16 or uint8, any shape and strides. Or a list of such tensors, as of an
            image pyramid: the same noise as in calls for one after the other, in one launch for up to 40 neighbors
            of one dtype.
        sigma: standard deviation: a number, a 0-d tensor, or one value per sample, shape (N,) for x of
            shape (N, ...); tensors are float32 or float64. Under torch.compile a number is compiled in
            (each new one recompiles); as a tensor sigma changes freely, and without a sync.
        stream: where the noise comes from; each tensor moves it on by one step. Without one, a seed is
            drawn from ``generator``, or else from PyTorch's default generator of x's device: then
            ``torch.manual_seed`` reproduces a run.
        generator: see ``stream``; not both.
        scale, bias: applied to x first, so that uint8 images need no pass of their own. scale is a number, a 0-d tensor
            or one value per sample, as sigma: ``sqrt(abar_t) * x + sigma_t * z`` of a diffusion takes one of each.
        dtype: of the result; x's own by default (the default dtype for uint8).
        same_noise: for a list of tensors of one shape: all get the same z, and the stream moves on by one step. The
            results have the memory format of the first.
        out: a tensor of x's shape to write to, x itself included, or a list of them. Not differentiable.

    Returns:
        A tensor of x's shape, in x's memory format (or ``out``); a list of them for a list. The math is in float32,
        in float64 where x or the result is; the result is rounded once.

    Raises:
        TypeError, ValueError: an argument that does not fit, with its name.
        RuntimeError: ``out`` where something requires grad; in a worker of a DataLoader, a stream from outside of it.
        NotImplementedError: forward-mode derivatives, torch.func, and torch.jit.trace with a stream.
        Nothing is written then, and the stream stays where it was.
    """
    op = "pygan.instance_noise"
    one = isinstance(x, Tensor)
    xs = tensors(op, "x", x)
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise TypeError(f"{op}: dtype must be a torch.dtype, got {type(dtype).__name__}")
    outs = None if out is None else tensors(op, "out", out)
    if outs is not None and isinstance(out, Tensor) != one:
        raise TypeError(f"{op}: out must be a tensor where x is one, and a list where x is one")
    for given in outs or ():
        if dtype is not None and dtype != given.dtype:
            raise TypeError(f"{op}: dtype must be that of out, {given.dtype}, or None, got {dtype}")
    if same_noise is not False:
        check_bool(op, "same_noise", same_noise)
        if one:
            raise ValueError(f"{op}: same_noise must be False where x is one tensor, got True")
        xs = _laid_out_alike(xs)
    n = len(xs)
    sigmas, sigma_value = _factor(op, "sigma", sigma)
    scales, scale_value = _factor(op, "scale", scale)
    affine = [scale_value] * n, [number(op, "bias", bias)] * n
    call = _Call(xs, sigmas, sigma_value, scales, *affine, dtype, False, same_noise)
    place = _Place.of(op, call, stream, generator, outs)
    if outs is not None:
        args = (xs, sigmas, sigma_value, scales, *place, *affine, False, same_noise)
        _ops.instance_noise_out_directly(*args, out=outs)
        return outs[0] if one else outs
    results = _singly(call, place) if call.is_learnt() else _together(call, place)
    return results[0] if one else results


@compiled_since_2_8
def instance_noise_pair(
    real: Tensor,
    fake: Tensor,
    sigma: float | Tensor,
    *,
    stream: NoiseStream | None = None,
    generator: torch.Generator | None = None,
    scale: float | Tensor = 1.0,
    bias: float = 0.0,
    dtype: torch.dtype | None = None,
    same_noise: bool = False,
) -> Tensor:
    """Noisy real and noisy fake samples as one batch, for one pass of the discriminator over both.

    The batch is ``torch.cat([instance_noise(real, ...), instance_noise(fake, ...)])``, the stream moving on by two
    steps, without the copies (but in compiled code, where sigma or scale requires grad, or where the layouts differ).
    Differentiable in both, in sigma and in scale.

        logits = D(pygan.instance_noise_pair(real, G(z), sigma))
        real_logits, fake_logits = logits.split([len(real), len(fake)])

    Args:
        real: (N, ...), any dtype and strides that :func:`instance_noise` takes. Its memory format is that of the batch.
        fake: (M, ...), the same shape but for the first dimension.
        sigma: a number, a 0-d tensor, or one value per sample of the batch, shape (N + M,).
        stream, generator: as for :func:`instance_noise`.
        scale, bias: of *real* alone: images as they are stored, where fake ones are what the generator made of them.
            Scale may also be one value per sample of the batch, shape (N + M,), a tensor like sigma.
        dtype: of the batch; by default that of real and fake (the wider; uint8 counts for nothing).
        same_noise: real and fake, of one shape, get the same z, and the stream moves on by one step.

    Returns:
        (N + M, ...).

    Raises:
        TypeError, ValueError: as for :func:`instance_noise`.
    """
    op = "pygan.instance_noise_pair"
    xs = [real, fake]
    for name, x in (("real", real), ("fake", fake)):
        if not isinstance(x, Tensor):
            raise TypeError(f"{op}: {name} must be a tensor, got {describe(x)}")
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise TypeError(f"{op}: dtype must be a torch.dtype, got {type(dtype).__name__}")
    if same_noise is not False:
        check_bool(op, "same_noise", same_noise)
        xs = _laid_out_alike(xs)
    sigmas, sigma_value = _factor(op, "sigma", sigma)
    scales, scale_value = _factor(op, "scale", scale)
    affine = [scale_value, 1.0], [number(op, "bias", bias), 0.0]
    call = _Call(xs, sigmas, sigma_value, scales, *affine, dtype, True, same_noise)
    place = _Place.of(op, call, stream, generator, None)
    # Compiled too: inductor (torch 2.15) fails on an op that writes to two views of one channels-last tensor.
    if call.is_learnt() or _ops.is_compiling():
        if dtype is None:
            floats = [x.dtype for x in xs if x.is_floating_point()] or [torch.get_default_dtype()]
            dtype = torch.promote_types(floats[0], floats[-1])
            call = _Call(xs, sigmas, sigma_value, scales, *affine, dtype, True, same_noise)
        return torch.cat(_singly(call, place)).contiguous(memory_format=_memory_format(real))
    (batch,) = _together(call, place)
    return batch


class _Call(NamedTuple):
    """The op's arguments but for the place in the stream. (Never sliced: Dynamo of torch 2.8 takes no slice.)"""

    x: list[Tensor]
    sigma: Tensor | None
    sigma_value: float
    scale: Tensor | None
    scale_value: list[float]
    bias: list[float]
    dtype: torch.dtype | None
    cat: bool
    same: bool

    def is_learnt(self) -> bool:
        """Whether a gradient of sigma or scale is wanted."""
        return (
            (self.sigma is not None and self.sigma.requires_grad)
            or (self.scale is not None and self.scale.requires_grad)
        ) and torch.is_grad_enabled()


class _Place(NamedTuple):
    state: Tensor
    offset: list[int]

    @classmethod
    def of(
        cls,
        op: str,
        call: _Call,
        stream: NoiseStream | None,
        generator: torch.Generator | None,
        out: list[Tensor] | None,
    ) -> _Place:
        if generator is None and isinstance(stream, NoiseStream):
            stream.check_place(op)
            return cls(stream.state, [stream.offset_of(x) for x in call.x])
        if generator is not None and not isinstance(generator, torch.Generator):
            kind = type(generator).__name__
            raise TypeError(f"{op}: generator must be a torch.Generator, got {kind}")
        if stream is None:
            dtype = None if out is not None else call.dtype
            x, sigma, value, scale, scale_value, bias, _, cat, same = call
            written = [] if out is None else out
            drawn = _ops.noise_draw(
                x, sigma, value, scale, scale_value, bias, dtype, cat, same, written, generator
            )
            return cls(drawn, [0] * len(call.x))
        if generator is not None:
            raise ValueError(f"{op}: generator must be None where a stream is given, got both")
        raise TypeError(f"{op}: stream must be a NoiseStream, got {type(stream).__name__}")


def _together(call: _Call, place: _Place) -> list[Tensor]:
    x, sigma, value, scale, scale_value, bias, dtype, cat, same = call
    return _ops.instance_noise_directly(
        x, sigma, value, scale, *place, scale_value, bias, dtype, cat, same
    )


def _singly(call: _Call, place: _Place) -> list[Tensor]:
    """One tensor after the other, differentiable in sigma and scale: the gradient of sigma draws z again, from the
    states that are left behind here."""
    xs, sigma, value, scale, scale_values, biases, dtype, cat, same = call
    states = _ops.noise_advance(
        xs, sigma, value, scale, *place, scale_values, biases, dtype, cat, same
    ).unbind()

    def each(factor: Tensor | None) -> list[Tensor | None]:
        if cat and factor is not None and factor.dim() == 1:
            return list(torch.split(factor, [len(x) for x in xs]))
        return [factor] * len(xs)

    alone = zip(each(sigma), each(scale), states, place.offset, scale_values, biases, strict=True)
    return [
        _ops.instance_noise_at(x, sigma, value, scale, state, offset, scale_value, bias, dtype)
        for x, (sigma, scale, state, offset, scale_value, bias) in zip(xs, alone, strict=True)
    ]


def _laid_out_alike(xs: list[Tensor]) -> list[Tensor]:
    """In the memory order of the first, which is that of the noise; shapes that differ are left to the checks."""
    first = xs[0]
    return [
        torch.empty_like(first, dtype=x.dtype, device=x.device).copy_(x)
        if x.shape == first.shape and x.stride() != first.stride()
        else x
        for x in xs
    ]


def _memory_format(x: Tensor) -> torch.memory_format:
    """That of a batch which begins with x."""
    if x.is_contiguous():
        return torch.contiguous_format
    for dim, format in ((4, torch.channels_last), (5, torch.channels_last_3d)):
        if x.dim() == dim and x.is_contiguous(memory_format=format):
            return format
    return torch.contiguous_format


def _factor(op: str, name: str, given: Any) -> tuple[Tensor | None, float]:
    """Sigma or scale as the op takes it: a tensor, or none and a number."""
    if type(given) is float:  # at once, as in number()
        return None, given
    if isinstance(given, Tensor):
        return given, 1.0
    if isinstance(given, (list, tuple)):
        raise TypeError(
            f"{op}: {name} must be a number, or a tensor for one value per sample, got {describe(given)}"
        )
    return None, number(op, name, given)
