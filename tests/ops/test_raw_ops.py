"""torch.ops.pygan.* and pygan._C refuse invalid arguments that the Python functions never pass, on the CPU and on
meta."""

import os
import subprocess
import sys

import pytest
import torch
from helpers import CAPABILITIES, ROOT, raises

from pygan import _C

ops = torch.ops.pygan
AVERAGE = 6  # the index of relativistic_average
X = torch.linspace(-1, 1, 10)
STATE = torch.tensor([1, 2])
LOSS = ([0, 1], 0, 0.0, [], 1)  # roles, loss, label_smoothing, weights, reduction


def dot(grad=X, stride=(1,), state=STATE, offset=0, samples=-1):
    return ops.noise_dot, (grad, list(stride), state, offset, samples)


def backward(grad=X[0], means=X[:0], loss=0, dtype=torch.float32):
    return ops.gan_loss_backward, (grad, [X.to(dtype), X.to(dtype)], means, [0, 1], loss, *LOSS[2:])


def noise(x=X, sigma=None, scale=None, state=STATE, offset=0, same=False):
    xs = x if isinstance(x, list) else [x]
    each = [1.0] * len(xs)
    place = state, [offset] * len(xs)
    return ops.instance_noise, (xs, sigma, 0.5, scale, *place, each, each, None, False, same)


def draw(x, sigma=None, out=()):
    return ops.noise_draw, (x, sigma, 0.5, None, [1.0], [0.0], None, False, False, list(out), None)


STATE_MUST = "state must be an int64 tensor {seed, step}, got "
STRIDE_MUST = "stride must be that of a dense tensor of grad's shape"
MEANS_MUST = "pygan::gan_loss_backward: means must be the "
GRAD_MUST = (
    "pygan::gan_loss_backward: grad must be a single number like the loss, torch.float32 on "
)
REFUSED = {
    "draw for nothing": (*draw([], torch.ones(())), "x must hold at least one tensor"),
    "noise for nothing": (*noise([]), "x must hold at least one tensor"),
    "draw, out too many": (*draw([X], out=[X, X]), "out must have as many tensors as x, 1, got 2"),
    "dot, stride with gaps": (*dot(stride=[2]), STRIDE_MUST),
    "dot, stride that repeats": (*dot(stride=[0]), STRIDE_MUST),
    "dot, negative stride": (*dot(stride=[-1]), STRIDE_MUST),
    "dot, least stride": (*dot(stride=[-(2**63)]), STRIDE_MUST),
    "dot, no stride": (*dot(stride=[]), STRIDE_MUST),
    "dot, samples apart": (*dot(X.view(2, 5), [1, 2], samples=2), STRIDE_MUST),
    "dot of bool": (*dot(X > 0), "grad must be float32, float64, float16 or bfloat16, got "),
    "dot of int8": (*dot(X.to(torch.int8)), "grad must be float32, float64, float16 or bfloat16"),
    "dot, 3 samples of 10": (*dot(samples=3), "samples must be -1, or the size of grad's first"),
    "dot, samples of a number": (*dot(X[0], [], samples=1), "samples must be -1, or the size"),
    "dot, negative samples": (*dot(samples=-2), "samples must be -1, or the size of grad's first"),
    "dot, offset": (*dot(offset=-1), "offset must not be negative, got -1"),
    "dot, state of nothing": (*dot(state=STATE[:0]), STATE_MUST),
    "dot, state of one": (*dot(state=STATE[:1]), STATE_MUST),
    "dot, state of floats": (*dot(state=X[:2]), STATE_MUST),
    "dot, state with gaps": (*dot(state=torch.arange(4)[::2]), STATE_MUST),
    "noise, state of one": (*noise(state=STATE[:1]), STATE_MUST),
    "noise, state as scale": (*noise(scale=STATE[0]), "scale must be a float32 or float64 tensor, got "),
    "noise, the same of unlike shapes": (
        *noise([X, X[1:]], same=True), "x[1] must have the shape of x[0], [10], for same_noise=True, got [9]"),
    "backward, means of fp64": (*backward(means=X[:4].double(), loss=AVERAGE), MEANS_MUST),
    "backward, too few means": (*backward(means=X[:3], loss=AVERAGE), MEANS_MUST),
    "backward, means with gaps": (*backward(means=X[:8:2], loss=AVERAGE), MEANS_MUST),
    "backward, means too many": (*backward(means=X[:4]), MEANS_MUST),
    "backward, grad of fp64": (*backward(X[0].double()), GRAD_MUST),
    "backward, grad of fp16": (*backward(X[0].half(), dtype=torch.float16), GRAD_MUST),
    "backward, grad of bool": (*backward(X[0] > 0), GRAD_MUST),
    "backward, grad of two": (*backward(X[:2]), GRAD_MUST),
    "smoothing": (
        ops.gan_loss, ([X, X], [0, 1], 0, 1.5, [], 1, False), "label_smoothing must be from 0 to 1, got 1.5"),
    "smoothing of terms": (
        ops.gan_loss_terms, ([X, X], [0, 1], 2, 0.1, 0), 'label_smoothing must be 0 for loss="hinge"'),
    "weights": (
        ops.gan_loss, ([X, X], [0, 1], 0, 0.0, [float("nan")], 1, False), "weights must be finite"),
    "order": (ops.gan_loss_terms, ([X], [0], 0, 0.0, 3), "order must be 0, 1 or 2, got 3"),
}  # fmt: skip


def moved(argument, device):
    if isinstance(argument, list):
        return [moved(one, device) for one in argument]
    return argument.to(device) if isinstance(argument, torch.Tensor) else argument


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", REFUSED)
def test_invalid_arguments_are_refused(name, device):
    op, arguments, message = REFUSED[name]
    if device == "meta":  # .to() leaves no gaps
        arguments = [
            torch.empty_strided(a.shape, a.stride(), dtype=a.dtype, device="meta")
            if isinstance(a, torch.Tensor)
            else moved(a, "meta")
            for a in arguments
        ]
    with pytest.raises((TypeError, ValueError, RuntimeError)) as caught:
        op(*arguments)
    text = str(caught.value)
    assert text.startswith("pygan") and message in text and "\n" not in text


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_tensors_on_two_devices(device):
    """Means, gradients and states on a different device than the logits, x or grad."""
    other = "meta" if device == "cpu" else "cpu"
    calls = [
        (*backward(means=X[:4], loss=AVERAGE), 2, MEANS_MUST),
        (*backward(), 0, GRAD_MUST),
        (*dot(), 2, "pygan::noise_dot: state must be on the device of grad, "),
        (*noise(), 4, "pygan.instance_noise: stream must be on the device of x, "),
    ]
    for op, arguments, k, message in calls:
        placed = [moved(a, device) for a in arguments]
        placed[k] = torch.empty_like(placed[k], device=other)
        with raises((ValueError, RuntimeError), message):
            op(*placed)


def test_means_of_the_forward_pass_are_accepted():
    _, means = ops.gan_loss([X, -X], [0, 1], AVERAGE, 0.0, [], 1, False)
    x = [X.clone().requires_grad_(), (-X).requires_grad_()]
    want = torch.autograd.grad(ops.gan_loss(x, [0, 1], AVERAGE, 0.0, [], 1, False)[0], x)
    grads = ops.gan_loss_backward(torch.ones(()), [X, -X], means, [0, 1], AVERAGE, 0.0, [], 1)
    for grad, one in zip(grads, want, strict=True):
        torch.testing.assert_close(grad, one)


@pytest.mark.parametrize(
    ("numbers", "count"), [(X, 11), (X[1:], 2), (X[::2], 2), (X.view(2, 5), 1), (X[:0], 1)]
)
def test_indices_beyond_the_scalars(numbers, count):
    with raises(ValueError, "pygan._C.scalars: numbers must be a vector of at least "):
        _C.scalars(numbers, count)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="guard pages by mprotect")
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_random_invalid_arguments(capability):
    """Thousands of calls, in a process that must exit normally."""
    command = [sys.executable, str(ROOT / "tests" / "fuzz" / "raw_ops.py"), capability, "1000"]
    env = {**os.environ, "PYGAN_CPU_CAPABILITY": capability, "OMP_NUM_THREADS": "2"}
    run = subprocess.run(command, capture_output=True, text=True, env=env, timeout=1200)
    assert run.returncode == 0, f"{run.returncode}\n{run.stdout}{run.stderr[-4000:]}"
