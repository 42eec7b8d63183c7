"""Instance noise in plain PyTorch, for :mod:`pygan.reference`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pygan._validation import check_dense

_WORD = 0xFFFFFFFF


def philox4x32(counter: Tensor, key: Tensor) -> Tensor:
    """Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

    Args:
        counter: int64 tensor (..., 4) of 32-bit words, each in [0, 2^32).
        key: int64 tensor (..., 2) of 32-bit words, broadcast against the counter.

    Returns:
        int64 tensor (..., 4) of 32-bit words.
    """
    c0, c1, c2, c3 = counter.unbind(-1)
    k0, k1 = key.unbind(-1)
    for _ in range(10):
        hi0, lo0 = _multiply_32x32(c0, 0xD2511F53)
        hi1, lo1 = _multiply_32x32(c2, 0xCD9E8D57)
        c0, c1, c2, c3 = hi1 ^ c1 ^ k0, lo1, hi0 ^ c3 ^ k1, lo0
        k0, k1 = (k0 + 0x9E3779B9) & _WORD, (k1 + 0xBB67AE85) & _WORD
    return torch.stack((c0, c1, c2, c3), dim=-1)


def normal(
    seed: int, step: int, offset: int, n: int, *, device: torch.device | str | None = None
) -> Tensor:
    """Elements offset, ..., offset + n - 1 of the noise stream (seed, step), as exactly as float64 allows.

    Element e belongs to counter c = e // 4, whose words w0..w3 are Philox4x32-10 of (c low, c high, step low, step
    high) under the key (seed low, seed high). By Box and Muller (1958), with u = (w0 + 1/2) / 2^32 in (0, 1],

    ``z[4c], z[4c + 1] = sqrt(-2 ln u) (cos, sin)(2 pi w1 / 2^32)``, and z[4c + 2], z[4c + 3] likewise from w2, w3.

    u is rounded to float32 (w0 first, then the sum), which belongs to the definition of the stream; from there on
    everything here is float64. The kernels' z is this number up to the float32 rounding of their own polynomials.

    Args:
        seed, step: 64-bit integers; a negative one stands for the same bits as an unsigned one.
        offset, n: non-negative.

    Returns:
        float64 tensor (n,).
    """
    if offset < 0 or n < 0:
        raise ValueError(f"normal: offset and n must be non-negative, got {offset} and {n}")
    first = offset // 4
    count = (offset + n + 3) // 4 - first
    c = first + torch.arange(count, dtype=torch.int64, device=device)
    counter = torch.stack(
        (
            c & _WORD,
            c >> 32,
            torch.full_like(c, step & _WORD),
            torch.full_like(c, step >> 32 & _WORD),
        ),
        dim=-1,
    )
    key = torch.tensor([seed & _WORD, seed >> 32 & _WORD], dtype=torch.int64, device=device)
    words = philox4x32(counter, key)
    u = words[:, 0::2].float() * 2.0**-32 + 2.0**-33  # (count, 2)
    radius = torch.sqrt(-2.0 * torch.log(u.double()))
    angle = words[:, 1::2].double() * (2.0 * math.pi / 2.0**32)
    z = torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), dim=-1).flatten()
    return z[offset - 4 * first :][:n]


def instance_noise(
    x: Tensor,
    sigma: float | Tensor,
    *,
    seed: int,
    step: int,
    offset: int = 0,
    scale: float | Tensor = 1.0,
    bias: float = 0.0,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """``x * scale + bias + sigma * z`` with z from :func:`normal` (instance noise: Sønderby et al. 2017, section 3.2;
    Arjovsky and Bottou 2017).

    The i-th element *in memory order* of the result (that of ``torch.empty_like(x)``) takes element offset + i of the
    stream, so that a tensor and its channels-last copy get the same values at the same addresses.

    Args:
        x: tensor of any shape and dtype.
        sigma, scale: a number, a 0-d tensor, or one value per sample, shape (x.shape[0],).
        seed, step, offset: see :func:`normal`.
        dtype: floating dtype of the result; default: that of x if floating, else the default dtype.

    Returns:
        Tensor of x's shape, computed in float64 and rounded once to ``dtype``.
    """
    check_dense("instance_noise", "x", x)
    if dtype is None:
        dtype = x.dtype if x.dtype.is_floating_point else torch.get_default_dtype()
    memory = torch.empty_like(x, dtype=torch.float64)
    z = normal(seed, step, offset, x.numel(), device=x.device).as_strided(
        memory.shape, memory.stride()
    )
    out = x.double() * _spread(scale, x) + bias + _spread(sigma, x) * z
    return out.to(dtype)


def _spread(factor: float | Tensor, x: Tensor) -> float | Tensor:
    """For a product with x."""
    if not isinstance(factor, Tensor):
        return factor
    factor = factor.double()
    return factor.view(-1, *[1] * (x.dim() - 1)) if factor.dim() == 1 else factor


def _multiply_32x32(a: Tensor, b: int) -> tuple[Tensor, Tensor]:
    """High and low word of the 64-bit product, by 16-bit halves so that nothing leaves int64."""
    low, high = (a & 0xFFFF) * b, (a >> 16) * b
    return (high + (low >> 16)) >> 16, (((high & 0xFFFF) << 16) + low) & _WORD
