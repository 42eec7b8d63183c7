"""Instance noise: ``x * scale + bias + sigma * z`` in one pass, without storing z.

Noise added to the real *and* the generated inputs of the discriminator widens both distributions
until they overlap (Sønderby et al. 2017; Arjovsky and Bottou 2017); sigma is annealed towards 0.

z is a pure function of (seed, step, element index): every CPU and GPU produces the same bits, with any number of
threads or processes. csrc/math/noise.h specifies version 1 of the stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor

from pygan import _ops
from pygan._compile import compiled_since_2_8
from pygan._validation import check_bool, check_dense, describe, number, tensors
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

    Differentiable in x (the gradient is ``scale * grad``), in sigma (z is regenerated) and in scale.

    Args:
        x: float32, float64, float16, bfloat16 or uint8, any shape and strides. Or a list of such tensors, such as an
            image pyramid: it gets the noise of one call per tensor, with one launch for up to 40 consecutive tensors
            of the same dtype.
        sigma: standard deviation: a number, a 0-d tensor, or one value per sample, shape (N,) for x of
            shape (N, ...); tensors are float32 or float64. torch.compile treats a number as a constant
            (a new value recompiles); a tensor can change freely, without a host synchronization.
        stream: the source of the noise; each tensor advances it by one step. Without a stream, a seed is
            drawn from ``generator``, or from PyTorch's default generator of x's device, so
            ``torch.manual_seed`` reproduces a run.
        generator: see ``stream``; give at most one of the two.
        scale, bias: applied to x first, so uint8 images need no separate conversion. scale is a number, a 0-d tensor
            or one value per sample, like sigma; diffusion's ``sqrt(abar_t) * x + sigma_t * z`` uses one of each.
        dtype: dtype of the result; by default x's (the default dtype for uint8).
        same_noise: for a list of tensors of the same shape: all get the same z, and the stream advances by one step.
            The results have the memory format of the first tensor.
        out: a tensor of x's shape to write to, possibly x itself, or a list of such tensors. Not differentiable.

    Returns:
        A tensor of x's shape, in x's memory format (or ``out``); a list of tensors for a list. The math is in float32,
        or in float64 if x or the result is float64; the result is rounded once.

    Raises:
        TypeError, ValueError: an invalid argument; the message names it.
        RuntimeError: ``out`` is given and an input requires grad; a DataLoader worker uses a stream made outside it.
        NotImplementedError: forward-mode derivatives, torch.func, and torch.jit.trace with a stream.
        After an error nothing has been written, and the stream has not advanced.
    """
    op = "pygan.instance_noise"
    one = isinstance(x, Tensor)
    xs = tensors(op, "x", x)
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise TypeError(f"{op}: dtype must be a torch.dtype, got {type(dtype).__name__}")
    outs = None if out is None else tensors(op, "out", out)
    if outs is not None and isinstance(out, Tensor) != one:
        raise TypeError(
            f"{op}: out must be a tensor if x is a tensor, and a list if x is a list, got {describe(out)} for "
            f"{describe(x)}"
        )
    for given in outs or ():
        if dtype is not None and dtype != given.dtype:
            raise TypeError(f"{op}: dtype must be that of out, {given.dtype}, or None, got {dtype}")
    if same_noise is not False:
        check_bool(op, "same_noise", same_noise)
        if one:
            raise ValueError(f"{op}: same_noise must be False for a single tensor, got True")
        check_dense(op, "x", *xs)
        xs = _laid_out_alike(xs)
    n = len(xs)
    sigmas, sigma_value = _factor(op, "sigma", sigma)
    scales, scale_value = _factor(op, "scale", scale)
    affine = [scale_value] * n, [number(op, "bias", bias)] * n
    call = _Call(xs, sigmas, sigma_value, scales, *affine, dtype, False, same_noise)
    try:
        place = _Place.of(op, call, stream, generator, outs)
        if outs is not None:
            args = (xs, sigmas, sigma_value, scales, *place, *affine, False, same_noise)
            _ops.instance_noise_out_unboxed(*args, out=outs)
            return outs[0] if one else outs
        results = _singly(call, place) if call.is_learnt() else _together(call, place)
    except RuntimeError:  # NotImplementedError, and that of a memory format
        _check_layouts(op, call, x=xs, out=outs or ())
        raise
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

    The batch equals ``torch.cat([instance_noise(real, ...), instance_noise(fake, ...)])``, and the stream advances by
    two steps. The copies of ``torch.cat`` are avoided, except in compiled code, if sigma or scale requires grad, or if
    the layouts differ. Differentiable in real, fake, sigma and scale.

        logits = D(pygan.instance_noise_pair(real, G(z), sigma))
        real_logits, fake_logits = logits.split([len(real), len(fake)])

    Args:
        real: (N, ...), any dtype and strides that :func:`instance_noise` takes. The batch has its memory format.
        fake: (M, ...), the same shape except for the first dimension.
        sigma: a number, a 0-d tensor, or one value per sample of the batch, shape (N + M,).
        stream, generator: as for :func:`instance_noise`.
        scale, bias: applied to *real* only, because stored images need converting and generated ones do not.
            scale may also be a tensor like sigma, with one value per sample of the batch, shape (N + M,).
        dtype: dtype of the batch; by default the wider of real's and fake's (uint8 does not count).
        same_noise: real and fake, of the same shape, get the same z, and the stream advances by one step.

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
        check_dense(op, "real and fake", *xs)
        xs = _laid_out_alike(xs)
    sigmas, sigma_value = _factor(op, "sigma", sigma)
    scales, scale_value = _factor(op, "scale", scale)
    affine = [scale_value, 1.0], [number(op, "bias", bias), 0.0]
    call = _Call(xs, sigmas, sigma_value, scales, *affine, dtype, True, same_noise)
    try:
        place = _Place.of(op, call, stream, generator, None)
        # In compiled code too: inductor (torch 2.15) fails on an op that writes to two views of one channels-last
        # tensor.
        if call.is_learnt() or _ops.is_compiling():
            if dtype is None:
                floats = [x.dtype for x in xs if x.is_floating_point()]
                floats = floats or [torch.get_default_dtype()]
                dtype = torch.promote_types(floats[0], floats[-1])
                call = _Call(xs, sigmas, sigma_value, scales, *affine, dtype, True, same_noise)
            return torch.cat(_singly(call, place)).contiguous(memory_format=_memory_format(real))
        (batch,) = _together(call, place)
    except RuntimeError:  # NotImplementedError, and that of a memory format
        _check_layouts(op, call, real=xs[:1], fake=xs[1:])
        raise
    return batch


def _check_layouts(op: str, call: _Call, **given: Sequence[Tensor]) -> None:
    """Refuses tensors that are not dense, for which the ops have no kernels."""
    factors = {"sigma": call.sigma, "scale": call.scale}
    named = {name: [x] for name, x in factors.items() if x is not None}
    for name, listed in {**given, **named}.items():
        check_dense(op, name, *listed)


class _Call(NamedTuple):
    """The op's arguments, except for the position in the stream. (Never sliced: torch 2.8's Dynamo cannot slice it.)"""

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
        """Whether sigma or scale needs a gradient."""
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
            raise ValueError(f"{op}: generator must be None if a stream is given, got both")
        raise TypeError(f"{op}: stream must be a NoiseStream, got {type(stream).__name__}")


def _together(call: _Call, place: _Place) -> list[Tensor]:
    x, sigma, value, scale, scale_value, bias, dtype, cat, same = call
    return _ops.instance_noise_unboxed(
        x, sigma, value, scale, *place, scale_value, bias, dtype, cat, same
    )


def _singly(call: _Call, place: _Place) -> list[Tensor]:
    """One op per tensor, differentiable in sigma and scale: sigma's gradient regenerates z from the stream states
    saved here."""
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
    """The tensors in the memory order of the first, which the noise follows; the op's checks handle unequal shapes."""
    first = xs[0]
    return [
        torch.empty_like(first, dtype=x.dtype, device=x.device).copy_(x)
        if x.shape == first.shape and x.stride() != first.stride()
        else x
        for x in xs
    ]


def _memory_format(x: Tensor) -> torch.memory_format:
    """The memory format of a batch whose first tensor is x."""
    if x.is_contiguous():
        return torch.contiguous_format
    for dim, format in ((4, torch.channels_last), (5, torch.channels_last_3d)):
        if x.dim() == dim and x.is_contiguous(memory_format=format):
            return format
    return torch.contiguous_format


def _factor(op: str, name: str, given: Any) -> tuple[Tensor | None, float]:
    """Sigma or scale as the op takes it: a tensor, or None and a number."""
    if type(given) is float:  # the fast path, as in number()
        return None, given
    if isinstance(given, Tensor):
        return given, 1.0
    if isinstance(given, (list, tuple)):
        raise TypeError(
            f"{op}: {name} must be a number, or a tensor with one value per sample, got {describe(given)}"
        )
    return None, number(op, name, given)
