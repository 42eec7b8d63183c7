"""Calls every raw op with odd arguments: `python raw_ops.py SEED COUNT`.

Each call must return or raise, and change nothing if it raises; on meta it must behave the same, with the same shapes,
dtypes and strides. Prints the calls that do not, and exits with status 1, or by a signal after an invalid access.
"""

from __future__ import annotations

import faulthandler
import logging
import random
import sys
import warnings
from collections import Counter
from collections.abc import Callable

import torch
from arguments import FLOATS, SHAPES, Subclass, fenced, flat, odd, tensor
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from pygan import _C
from pygan._loss_arguments import TO_MEAN, compared, info
from pygan.fused_losses import LOSSES

ops = torch.ops.pygan
# NotImplementedError is a RuntimeError; AssertionErrors come from fake tensors mixed with real ones.
ERRORS = (TypeError, ValueError, RuntimeError, AssertionError)
Rng = random.Random
Arguments = list[object]


# --- good calls ---------------------------------------------------------------------------------------


def loss(r: Rng) -> Arguments:
    """logits, roles, loss, label_smoothing, weights, reduction"""
    index = r.randrange(len(LOSSES))
    generator, scales = r.random() < 0.4, r.choice([1, 1, 2])
    dtype, shape = r.choice(FLOATS), r.choice([s for s in SHAPES if 0 not in s])
    kinds = [2, 3] if generator else [0, 1]
    if generator and compared(index) == 0:
        kinds = [2]
    roles = [kind for kind in kinds for _ in range(scales)]
    smooths = not generator and LOSSES[index] in ("non_saturating", "minimax", "least_squares")
    weights = r.choice([[], [0.5, -1.0][:scales]])
    eps = r.choice([0.0, 0.1]) if smooths else 0.0
    return [[tensor(r, shape, dtype) for _ in roles], roles, index, eps, weights, r.randrange(2)]


def targets(r: Rng, known: Arguments) -> tuple[list[float], bool]:
    """targets, detach_means"""
    of_loss, generator = info(LOSSES[known[2]]), known[1][0] == 2
    aims = (of_loss.g_target if generator else of_loss.d_targets) and known[3] == 0
    wanted = [[0.25] if generator else [0.75, 0.125]] if aims else []
    return r.choice(
        [[], *wanted]
    ), not generator and of_loss.compared == TO_MEAN and r.random() < 0.5


def with_wants(r: Rng) -> Arguments:
    known = loss(r)
    return [*known, r.random() < 0.5, *targets(r, known), r.random() < 0.5]


def loss_backward(r: Rng) -> Arguments:
    logits, *rest = known = loss(r)
    math = torch.float64 if logits[0].dtype == torch.float64 else torch.float32
    numbers = 4 * (len(logits) // 2) if compared(rest[1]) == TO_MEAN else 0
    return [tensor(r, (), math), logits, fenced(r, numbers, math), *rest, *targets(r, known)]


def terms(r: Rng) -> Arguments:
    known = loss(r)
    return [*known[:4], r.randrange(3), targets(r, known)[0]]


def features(r: Rng) -> Arguments:
    """fake, real, weights, distance, relative, signs"""
    count = r.choice([1, 2, 3])
    shapes = [r.choice([s for s in SHAPES if 0 not in s]) for _ in range(count)]
    dtypes = [r.choice(FLOATS) for _ in range(count)]
    fake, real = ([tensor(r, *one) for one in zip(shapes, dtypes, strict=True)] for _ in range(2))
    flags = [r.random() < 0.5 for _ in range(2)]
    return [fake, real, [0.5] * count, r.randrange(2), *flags]


def features_l1_backward(r: Rng) -> Arguments:
    fake = features(r)[0]
    signs = [fenced(r, x.numel(), torch.int8).view(x.shape) for x in fake]
    codes = [r.choice([5, 6, 7, 15]) for _ in fake]
    return [tensor(r, (), torch.float32), fenced(r, len(fake), torch.float32), signs, codes]


def features_l2_backward(r: Rng) -> Arguments:
    fake, real, *_ = features(r)
    return [tensor(r, (), torch.float32), fenced(r, len(fake), torch.float32), fake, real]


def state(r: Rng) -> Tensor:
    made = fenced(r, 2, torch.int64)
    made.copy_(torch.tensor([7, 8]))
    return made


def noise(r: Rng, dtypes: tuple[torch.dtype, ...] = (torch.uint8,)) -> Arguments:
    """x, sigma, sigma_value, scale, state, offset, scale_value, bias"""
    count, shape = r.choice([1, 1, 2, 3]), r.choice(SHAPES)
    x = [tensor(r, shape, r.choice([*FLOATS, *dtypes])) for _ in range(count)]
    sigma, scale = (
        None if one is None else tensor(r, one, r.choice([torch.float32, torch.float64]))
        for one in r.choices([None, (), shape[:1]], k=2)
    )
    offset = [r.choice([0, 5, 2**40]) for _ in x]
    return [x, sigma, 0.5, scale, state(r), offset, [2.0] * count, [0.5] * count]


def noise_cat(r: Rng) -> Arguments:
    return [*noise(r), r.choice([None, *FLOATS]), False, r.random() < 0.5]


def noise_out(r: Rng) -> Arguments:
    arguments = noise(r)
    arguments[0] = [x.detach() for x in arguments[0]]
    for k in (1, 3):
        arguments[k] = None if arguments[k] is None else arguments[k].detach()
    out = [tensor(r, tuple(x.shape), r.choice(FLOATS)).detach() for x in arguments[0]]
    return [*arguments, False, r.random() < 0.5, out]


def noise_at(r: Rng) -> Arguments:
    x, *factors, offset, scale, bias = noise(r)
    return [x[0], *factors, offset[0], scale[0], bias[0], r.choice([None, *FLOATS])]


def noise_draw(r: Rng) -> Arguments:
    x, sigma, value, scale, _, _, *affine = noise(r)
    dtype, same = r.choice([None, *FLOATS]), r.random() < 0.5
    return [x, sigma, value, scale, *affine, dtype, False, same, [], None]


def noise_dot(r: Rng) -> Arguments:
    grad = tensor(r, r.choice(SHAPES), r.choice(FLOATS))
    samples = r.choice([-1, len(grad) if grad.dim() else -1])
    return [grad, list(torch.empty_like(grad).stride()), state(r), r.choice([0, 5]), samples]


def backward(r: Rng) -> Arguments:
    outputs = [tensor(r, r.choice(SHAPES), r.choice(FLOATS)).detach() for _ in range(2)]
    outputs = [x.requires_grad_() for x in outputs]
    return [[x * 2 for x in outputs], [torch.ones_like(x) for x in outputs]]


def scalars(r: Rng) -> Arguments:
    return [fenced(r, 9, torch.float32), r.randrange(10)]


def out_last(op: Callable[..., object]) -> Callable[..., object]:
    return lambda *arguments: op(*arguments[:-1], out=arguments[-1])


OPS: dict[str, tuple[Callable[..., object], Callable[[Rng], Arguments]]] = {
    "gan_loss": (ops.gan_loss.default, with_wants),
    "gan_loss_and_grad": (ops.gan_loss_and_grad.default, with_wants),
    "gan_loss_backward": (ops.gan_loss_backward.default, loss_backward),
    "gan_loss_terms": (ops.gan_loss_terms.default, terms),
    "feature_matching": (ops.feature_matching.default, features),
    "feature_matching_and_grad": (
        ops.feature_matching_and_grad.default,
        lambda r: features(r)[:-1],
    ),
    "feature_matching_l1_backward": (
        ops.feature_matching_l1_backward.default,
        features_l1_backward,
    ),
    "feature_matching_l2_backward": (
        ops.feature_matching_l2_backward.default,
        features_l2_backward,
    ),
    "instance_noise": (ops.instance_noise.default, noise_cat),
    "instance_noise.out": (out_last(ops.instance_noise.out), noise_out),
    "instance_noise_at": (ops.instance_noise_at.default, noise_at),
    "noise_advance": (ops.noise_advance.default, noise_cat),
    "noise_draw": (ops.noise_draw.default, noise_draw),
    "noise_dot": (ops.noise_dot.default, noise_dot),
    "_C.gan_loss": (_C.gan_loss, with_wants),
    "_C.gan_loss_and_grad": (_C.gan_loss_and_grad, with_wants),
    "_C.instance_noise": (_C.instance_noise, noise_cat),
    "_C.instance_noise_out": (out_last(_C.instance_noise_out), noise_out),
    "_C.backward": (_C.backward, backward),
    "_C.scalars": (_C.scalars, scalars),
}


# --- what a call does ---------------------------------------------------------------------------------


def on_meta(arguments: Arguments) -> Arguments:
    """The same tensors without memory; tensors that shared memory still do."""
    storages: dict[int, torch.UntypedStorage] = {}

    def moved(x: object) -> object:
        if isinstance(x, list):
            return [moved(one) for one in x]
        if not isinstance(x, Tensor):
            return x
        memory = x.untyped_storage()
        if memory.data_ptr() not in storages:
            empty = torch.empty(memory.nbytes(), dtype=torch.uint8, device="meta")
            storages[memory.data_ptr()] = empty.untyped_storage()
        made = torch.empty(0, dtype=x.dtype, device="meta")
        made.set_(storages[memory.data_ptr()], 0, (memory.nbytes() // x.itemsize,))
        # set_ chooses the strides of dimensions of one element.
        made = made.as_strided(x.shape, x.stride(), x.storage_offset()).detach()
        return made.requires_grad_(x.requires_grad)

    return [moved(x) for x in arguments]


def comparable(name: str, arguments: Arguments) -> bool:
    """Whether each tensor has a counterpart on meta."""
    plain = [x for x in flat(arguments) if isinstance(x, Tensor)]
    return name not in ("_C.backward", "_C.scalars") and all(
        x.device.type == "cpu"
        and x.layout == torch.strided
        and not isinstance(x, (Subclass, FakeTensor))
        and not (x.is_neg() or x._is_zerotensor())
        for x in plain
    )


def result_of(op: Callable[..., object], arguments: Arguments) -> tuple[str, object]:
    try:
        made = op(*arguments)
    except ERRORS as error:
        return "refused", f"{type(error).__name__}: {str(error).splitlines()[0][:150]}"
    tensors = [x for x in flat(made) if isinstance(x, Tensor)]
    return "taken", [(tuple(x.shape), x.dtype, significant_strides(x)) for x in tensors]


def significant_strides(x: Tensor) -> list[int]:
    """The strides except for dimensions of one element, which torch.empty_like keeps on the CPU, but not on meta."""
    strides = x.stride() if x.layout == torch.strided and x.numel() else ()
    return [stride for size, stride in zip(x.shape, strides) if size != 1]


def bits(arguments: Arguments) -> list[Tensor]:
    found = [x for x in flat(arguments) if isinstance(x, Tensor)]
    found = [x.detach() for x in found if type(x) is Tensor and x.layout == torch.strided]
    kept = [
        x for x in found if x.device.type == "cpu" and not x.is_neg() and not x._is_zerotensor()
    ]
    return [
        torch.empty(x.shape, dtype=x.dtype).copy_(x).view(-1).view(torch.uint8)
        for x in kept
        if x.numel()
    ]


def shown(x: object) -> str:
    if isinstance(x, list):
        return f"[{', '.join(map(shown, x))}]"
    if not isinstance(x, Tensor):
        return repr(x)
    strides = x.stride() if x.layout == torch.strided else x.layout
    return f"{type(x).__name__}({tuple(x.shape)}, {strides}, {x.dtype}, {x.device}, grad={x.requires_grad})"


def one_call(name: str, r: Rng, counts: Counter[str]) -> str | None:
    """Make one call; returns a description of the problem, if any."""
    op, make = OPS[name]
    arguments = make(r)
    for _ in range(r.choice([0, 1, 1, 1, 2, 3])):
        k = r.randrange(len(arguments))
        arguments[k] = odd(r, arguments[k], arguments)
    before = bits(arguments)
    call = f"{name}{shown(arguments)}"
    meta = result_of(op, on_meta(arguments)) if comparable(name, arguments) else None
    got = result_of(op, arguments)
    counts[got[0]] += 1
    if got[0] == "refused":
        after = bits(arguments)
        if any(not torch.equal(a, b) for a, b in zip(before, after, strict=True)):
            return f"{call}\n    was refused ({got[1]}), but changed something"
    if meta is not None and (got[0] != meta[0] or (got[0] == "taken" and got[1] != meta[1])):
        return f"{call}\n    cpu: {got}\n    meta: {meta}"
    return None


def main(seed: str, count: int) -> int:
    faulthandler.enable()
    logging.disable(logging.ERROR)  # messages of fake tensors, whose errors are expected
    warnings.simplefilter("ignore")
    wrong = 0
    for name in OPS:
        counts: Counter[str] = Counter()
        for k in range(count):
            torch.manual_seed(k)
            fault = one_call(name, random.Random(f"{seed} {name} {k}"), counts)
            if fault is not None:
                wrong += 1
                if wrong <= 20:
                    print(f"{name}, {k}: {fault}", flush=True)
        print(name, dict(counts), flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
