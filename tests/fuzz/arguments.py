"""Arguments for the raw ops: valid ones, and odd ones to replace them.

Tensors end or begin at a protected page, so that a kernel that reads or writes one element too far crashes the process.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import random

import torch
from torch import Tensor

FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
ODD_DTYPES = [torch.uint8, torch.int8, torch.bool, torch.int64, torch.complex64, torch.float8_e5m2]
SHAPES = [
    (),
    (0,),
    (1,),
    (2,),
    (3,),
    (65,),
    (2, 3),
    (4, 3),
    (0, 3),
    (3, 0),
    (2, 1, 5),
    (1, 4),
    (4, 33),
]
INTS = [-(2**63), -2, -1, 0, 1, 2, 3, 5, 7, 2**31, 2**32, 2**62, 2**63 - 1, 2**63]
NUMBERS = [0.0, -0.0, 0.1, 0.5, 1.0, -1.0, 2.0, 1e-320, 1e308, math.nan, math.inf, -math.inf]

libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Subclass(Tensor):
    pass


def fenced(r: random.Random, count: int, dtype: torch.dtype) -> Tensor:
    """A vector of `count` elements that ends or begins at a protected page."""
    size = count * dtype.itemsize
    inside = max(1, -(-size // mmap.PAGESIZE)) * mmap.PAGESIZE
    memory = mmap.mmap(-1, inside + 2 * mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (address, address + mmap.PAGESIZE + inside):
        if libc.mprotect(page, mmap.PAGESIZE, 0) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
    begin = mmap.PAGESIZE + (inside - size if r.random() < 0.7 else 0)
    # There is no buffer without elements.
    data = torch.frombuffer(memory, dtype=torch.uint8, offset=begin, count=size) if size else None
    return torch.empty(0, dtype=dtype) if data is None else data.view(dtype)


def tensor(r: random.Random, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor of this shape, in one of the layouts that the ops support."""
    layout = r.choice(["plain"] * 4 + ["permuted", "sliced", "expanded", "overlapping"])
    count = math.prod(shape)
    if layout == "permuted":
        order = r.sample(range(len(shape)), len(shape))
        made = fenced(r, count, dtype).view([shape[d] for d in order])
        made = made.permute([order.index(d) for d in range(len(shape))])
    elif layout == "sliced" and shape:
        made = fenced(r, 2 * count, dtype).view([*shape[:-1], shape[-1] * 2])[..., ::2]
    elif layout == "expanded" and shape:
        made = fenced(r, math.prod(shape[1:]), dtype).view([1, *shape[1:]]).expand(shape)
    elif layout == "overlapping" and len(shape) == 2 and count:
        made = fenced(r, sum(shape) - 1, dtype).as_strided(shape, (1, 1))
    else:
        made = fenced(r, count, dtype).view(shape)
    source = (
        torch.randn(shape, dtype=torch.float64) if dtype.is_floating_point else torch.ones(shape)
    )
    if layout not in ("expanded", "overlapping"):
        made.copy_(source)
    return made.requires_grad_() if dtype in FLOATS and r.random() < 0.2 else made


def odd_tensor(r: random.Random, like: Tensor) -> object:
    """An odd replacement for a tensor."""
    if type(like) is not Tensor or like.layout != torch.strided:  # already odd
        like = torch.zeros(2)
    shape = tuple(like.shape)
    return r.choice(
        [
            lambda: tensor(r, shape, r.choice(FLOATS + ODD_DTYPES)),
            lambda: tensor(r, r.choice(SHAPES), like.dtype),
            lambda: tensor(r, r.choice(SHAPES), r.choice(FLOATS + ODD_DTYPES)),
            lambda: fenced(r, r.choice([0, 1, 2, 3]), like.dtype),
            lambda: like.detach().expand(2, *shape)[0],
            lambda: (
                like.detach().view(torch.uint8) if like.dim() and like.stride(-1) == 1 else like
            ),
            lambda: torch.empty(shape, dtype=like.dtype, device="meta"),
            lambda: torch.ones(shape).to_sparse(),
            lambda: torch.ones(shape).as_subclass(Subclass),
            lambda: torch.zeros(shape, dtype=torch.complex64).conj().imag,
            lambda: torch._efficientzerotensor(shape),
            lambda: torch._subclasses.FakeTensorMode().from_tensor(torch.zeros(shape)),
            lambda: None,
            lambda: 1.0,
        ]
    )()


def odd(r: random.Random, value: object, others: list[object]) -> object:
    """An odd replacement for an argument."""
    if isinstance(value, list):
        if value and r.random() < 0.6:
            k = r.randrange(len(value))
            return [*value[:k], odd(r, value[k], others), *value[k + 1 :]]
        return r.choice([[], value[:-1], [*value, *value], [*value, *value[:1]], None])
    if isinstance(value, Tensor):
        tensors = [t for t in flat(others) if isinstance(t, Tensor)]
        return r.choice(tensors) if r.random() < 0.2 else odd_tensor(r, value)
    if isinstance(value, (bool, torch.dtype)):
        return r.choice([True, False, None, *FLOATS, *ODD_DTYPES])
    if isinstance(value, int):
        return r.choice(INTS)
    if isinstance(value, float):
        return r.choice(NUMBERS)
    return r.choice([None, *INTS, *NUMBERS])  # an omitted optional argument


def flat(arguments: object) -> list[object]:
    if isinstance(arguments, (list, tuple)):
        return [x for part in arguments for x in flat(part)]
    return [arguments]
