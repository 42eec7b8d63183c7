"""Torch's own checks of custom ops, for every op.

opcheck compares the schema with what the op actually writes, and the meta function with the shapes and strides of real
results, and checks autograd under compilation.
"""

import pytest
import torch
from helpers import DEVICES
from helpers.losses import PAIRED, RELATIVISTIC, SMOOTHED, TO_MEAN
from torch.library import opcheck

from pygan.fused_losses import LOSSES

ops = torch.ops.pygan
pytestmark = pytest.mark.usefixtures("fresh")


def loss_calls(device):
    """name -> (op, args): the loss ops. Roles: 0 real, 1 fake; 2 fake, 3 real of the generator. Statistics are
    requested only from the loss for which none is NaN, because NaN does not equal itself."""
    real = torch.randn(5, 3, device=device, requires_grad=True)
    fake = torch.randn(7, device=device, requires_grad=True)
    # With real's shape, but other strides.
    other = torch.randn(3, 5, device=device).t().requires_grad_()
    small = [torch.randn(4, device=device, requires_grad=True) for _ in range(2)]
    grad = torch.tensor(2.0, device=device, requires_grad=True)
    calls = {}
    for loss, name in enumerate(LOSSES):
        eps = 0.1 if name in SMOOTHED else 0.0
        pair = [real, other if name in PAIRED else fake]
        kinds = {"": (pair, [0, 1], loss, eps, [])}
        known = name == "non_saturating"
        if known or name in RELATIVISTIC:  # the others are called in the same way
            lists = [pair[0], small[0], pair[1], small[1]]
            kinds[", lists"] = (lists, [0, 0, 1, 1], loss, eps, [0.5, -1.0])
            generator = ([fake], [2]) if known else (pair[::-1], [2, 3])
            kinds[", generator"] = (*generator, loss, 0.0, [])
        for kind, arguments in kinds.items():
            logits, *rest = arguments
            detached = [x.detach() for x in logits]
            means = ops.gan_loss.default(detached, *rest, 1, False)[1]
            # Statistics, targets, constant means, parts.
            of_d = kind != ", generator"
            detached_means = name in TO_MEAN and kind == ", lists"
            more = (known and not kind, [], detached_means, bool(kind))
            named = {
                "gan_loss": (*arguments, 0, *more),
                "gan_loss_and_grad": (detached, *rest, 0, *more),
                "gan_loss_backward": (grad, logits, means, *rest, 1, [], detached_means),
            }
            if name == "least_squares" and of_d:
                named["gan_loss"] = (
                    logits,
                    [0, 1],
                    loss,
                    0.0,
                    [],
                    0,
                    False,
                    [2.0, -1.0],
                    False,
                    True,
                )
            for op, args in named.items():
                calls[f"{op}, {name}{kind}"] = (getattr(ops, op).default, args)
            if name in RELATIVISTIC and kind != ", lists":
                calls[f"gan_loss_backward, {name}{kind}, without a graph"] = (
                    ops.gan_loss_backward.default,
                    (grad.detach(), detached, means, *rest, 1),
                )
        for order in (0, 1, 2) if known else (2,):
            logits = [real.t(), fake[::2]] if order < 2 else [real.detach().t(), fake.detach()[::2]]
            calls[f"gan_loss_terms, {name}, {order}"] = (
                ops.gan_loss_terms.default,
                (logits, [0, 1], loss, eps, order),
            )
    strided = ([real.t(), fake[::2]], [0, 1], 0, 0.0, [], 1, False)
    calls["gan_loss, strided"] = (ops.gan_loss.default, strided)
    return calls


def feature_calls(device):
    """name -> (op, args): feature matching, with maps of two layouts and dtypes."""
    fake = [torch.randn(5, 3, device=device), torch.randn(8, device=device).bfloat16()[::2]]
    real = [torch.randn(3, 5, device=device).t(), torch.randn(4, device=device).bfloat16()]
    leaves = [x.detach().requires_grad_() for x in fake]
    grad = torch.tensor(2.0, device=device, requires_grad=True)
    calls = {}
    for distance, norm in enumerate(("l1", "l2")):
        arguments = (real, [1.0, 0.5], distance, True, True)
        calls[f"feature_matching, {norm}"] = (ops.feature_matching.default, (leaves, *arguments))
        calls[f"feature_matching_and_grad, {norm}"] = (
            ops.feature_matching_and_grad.default,
            (fake, *arguments[:-1]),
        )
        _, _, multipliers, signs = ops.feature_matching.default(fake, *arguments)
        op = getattr(ops, f"feature_matching_{norm}_backward")
        for kind, by, maps in (("", grad, leaves), (", without a graph", grad.detach(), fake)):
            rest = (signs, [6, 15]) if norm == "l1" else (maps, real)
            name = f"feature_matching_{norm}_backward"
            calls[name + ("," + kind if kind else "")] = (op.default, (by, multipliers, *rest))
    return calls


def op_calls(device):
    """name -> (op, args, kwargs): every op that schemas.cpp registers."""
    x = torch.randn(4, 3, 8, 8, device=device, requires_grad=True)
    last = x.detach().to(memory_format=torch.channels_last).requires_grad_()
    batch_last = x.detach().permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2).requires_grad_()
    number = torch.tensor(0.5, device=device)
    each = torch.rand(4, device=device, requires_grad=True)
    state = torch.tensor([3, 4], device=device)
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8, device=device)
    one = torch.tensor(0.5, device=device, requires_grad=True)
    both = torch.rand(8, device=device)
    ones = [1.0, 1.0], [0.0, 1.0]  # scales, biases
    affine = [0, 1, 2], [1.0, 0.5, 2.0], [0.0, 1.0, 0.0]  # offsets, scales, biases
    calls = {
        "instance_noise": (
            ops.instance_noise.default,
            ([x], None, 0.5, None, state, [0], [1.0], [0.0], None, False, False),
        ),
        "instance_noise, sigma": (
            ops.instance_noise.default,
            ([last], number, 0.0, None, state, [0], [2.0], [0.0], torch.float16, False, False),
        ),
        "instance_noise, sigma per sample": (
            ops.instance_noise.default,
            ([batch_last], each.detach(), 0.0, None, state, [9], [1.0], [0.0], None, False, False),
        ),
        "instance_noise, list": (
            ops.instance_noise.default,
            ([x, images, last], each.detach(), 0.0, None, state, *affine, None, False, False),
        ),
        "instance_noise, pair": (
            ops.instance_noise.default,
            (
                [images, last],
                None,
                0.5,
                None,
                state,
                [0, 4],
                [0.5, 1.0],
                [1.0, 0.0],
                None,
                True,
                False,
            ),
        ),
        "instance_noise, scale per sample, the same noise": (
            ops.instance_noise.default,
            ([x, last], None, 0.5, each.detach(), state, [0, 0], *ones, None, False, True),
        ),
        "instance_noise, pair, scale per sample": (
            ops.instance_noise.default,
            ([images, last], number, 0.0, both, state, [0, 4], *ones, None, True, True),
        ),
        "instance_noise_at, scale": (
            ops.instance_noise_at.default,
            (last, each, 0.0, each, state, 0, 1.0, 0.5, None),
        ),
        "instance_noise_at, scale alone": (
            ops.instance_noise_at.default,
            (batch_last, None, 0.5, one, state, 0, 1.0, 0.0, None),
        ),
        "instance_noise_at": (
            ops.instance_noise_at.default,
            (x, each, 0.0, None, state, 0, 2.0, 0.0, None),
        ),
        "instance_noise_at, channels_last": (
            ops.instance_noise_at.default,
            (last, each, 0.0, None, state, 0, 2.0, 0.0, None),
        ),
        "instance_noise_at, batch last": (
            ops.instance_noise_at.default,
            (batch_last, one, 0.0, None, state, 0, 2.0, 0.0, torch.float64),
        ),
        "noise_advance": (
            ops.noise_advance.default,
            ([x, images, last], each, 0.0, each, state, *affine, None, False, True),
        ),
        "noise_dot": (ops.noise_dot.default, (x, x.stride(), state, 0, -1)),
        "noise_dot, in another order": (ops.noise_dot.default, (x, last.stride(), state, 5, 4)),
        "noise_draw": (
            ops.noise_draw.default,
            ([x, images, last], each, 0.0, each, *affine[1:], None, False, True, [], None),
        ),
    }
    calls = loss_calls(device) | feature_calls(device) | calls
    calls = {name: (*call, {}) for name, call in calls.items()}
    out = torch.empty(4, 3, 8, 8, device=device)
    calls["instance_noise.out"] = (
        ops.instance_noise.out,
        ([x.detach()], number, 0.0, None, state, [0], [2.0], [0.0], False, False),
        {"out": [out]},
    )
    calls["instance_noise.out, strided"] = (
        ops.instance_noise.out,
        ([last.detach(), images], None, 0.5, number, state, [0, 1], *ones, False, True),
        {"out": [out.new_empty(4, 3, 8, 16)[..., ::2], out]},
    )
    return calls


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", op_calls("cpu"))
def test_opcheck(name, device):
    op, args, kwargs = op_calls(device)[name]
    opcheck(op, args, kwargs)


def test_every_op_is_checked():
    registered = {
        f"{schema.name.removeprefix('pygan::')}.{schema.overload_name}".rstrip(".")
        for schema in torch._C._jit_get_all_schemas()
        if schema.name.startswith("pygan::")
    }
    assert registered == {name.split(",")[0] for name in op_calls("cpu")}
