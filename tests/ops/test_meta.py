"""The ops on fake and meta tensors, and under autocast: shapes, dtypes and strides equal those of real results."""

import pytest
import torch
from helpers import DEVICES, FLOATS
from helpers.losses import CASES, as_list
from torch._subclasses.fake_tensor import FakeTensorMode

from pygan import NoiseStream, instance_noise
from pygan.fused_losses import discriminator_loss, generator_loss

pytestmark = pytest.mark.usefixtures("fresh")


LAYOUTS = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "batch last": lambda x: x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
    "sliced": lambda x: x[:, ::2],
    "expanded": lambda x: x[:, :1].expand(x.shape),
}


def layout_of(tensors):
    return [(tuple(t.shape), t.dtype, t.stride(), t.requires_grad) for t in tensors]


def everything(x, each, stream):
    """All public calls with x as images and as logits."""
    results = [
        instance_noise(x, 0.5, stream=stream),
        instance_noise(x, each[0], stream=stream, dtype=torch.float16),
        instance_noise(x, each, stream=stream),
        instance_noise(x, each.detach(), stream=stream, dtype=torch.float64),
        instance_noise(x, 0.5, stream=stream, scale=each),
        *instance_noise([x, x.flip(3)], 0.5, stream=stream, scale=each[0], same_noise=True),
    ]
    value, stats = discriminator_loss(x, x[1:], return_stats=True)
    results += [value, *stats, generator_loss(x, reduction="none")]
    results += torch.autograd.grad(value, x)
    results += torch.autograd.grad(sum(t.sum().float() for t in results[:5]), [x, each])
    return results


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", ["fake", "meta"])
def test_meta_shapes_dtypes_and_strides(kind, dtype, layout):
    def arguments(device):
        x = LAYOUTS[layout](torch.zeros(4, 6, 5, 7, dtype=dtype, device=device))
        each = torch.zeros(4, device=device).requires_grad_()
        return x.requires_grad_(), each, NoiseStream(1, device=device)

    want = layout_of(everything(*arguments("cpu")))
    if kind == "fake":
        with FakeTensorMode():
            got = layout_of(everything(*arguments("cpu")))
    else:
        got = layout_of(everything(*arguments("meta")))
    assert got == want


def losses(x):
    """All results of the losses for x and tensors of its shape in another layout."""
    y = x.detach().flip(3).contiguous().requires_grad_()
    results = []
    for case in CASES:
        inputs = [{"real": x, "fake": y}[role] for role in case.roles]
        lists = [[t, t[1:]] for t in inputs]
        value, stats = case.call(inputs, return_stats=True)
        results += [value, *stats, case.call(lists, weights=[1.0, 0.5])]
        results += as_list(case.call(lists, reduction="none", weights=[1.0, 0.5]))
        results += torch.autograd.grad(value, inputs)
        for given in (inputs, lists):
            got = case.call(given, suffix="_and_grad", return_stats=True)
            results += [got.loss, *as_list(got.grads), *got.stats]
    return results


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", ["fake", "meta"])
def test_meta_of_the_losses(kind, dtype, layout):
    def logits(device):
        x = LAYOUTS[layout](torch.zeros(4, 6, 5, 7, dtype=dtype, device=device))
        return x.detach().requires_grad_()

    want = layout_of(losses(logits("cpu")))
    if kind == "fake":
        with FakeTensorMode():
            got = layout_of(losses(logits("cpu")))
    else:
        got = layout_of(losses(logits("meta")))
    assert got == want


def test_fake_tensors_are_checked_like_real_ones():
    with FakeTensorMode():
        with pytest.raises(
            ValueError, match=r"pygan\.fused_losses\.discriminator_loss: fake_logits must have the"
        ):
            discriminator_loss(torch.zeros(3), torch.zeros(2), loss="relativistic")
        with pytest.raises(
            ValueError, match=r"pygan\.fused_losses\.discriminator_loss: label_smoothing must be 0"
        ):
            discriminator_loss(torch.zeros(3), torch.zeros(2), loss="hinge", label_smoothing=0.1)
        with pytest.raises(
            TypeError, match=r"pygan\.fused_losses\.discriminator_loss: fake_logits must have"
        ):
            discriminator_loss(torch.zeros(3), torch.zeros(3).half())
        with pytest.raises(
            ValueError, match=r"pygan\.fused_losses\.generator_loss: fake_logits must not be empty"
        ):
            generator_loss(torch.zeros(0))


# --- autocast --------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_does_not_affect_the_ops(dtype, device):
    """The ops handle 16-bit input correctly themselves, so autocast does not change their inputs."""
    net = torch.nn.Linear(8, 1).to(device)
    data = torch.linspace(-1, 1, 80, device=device).view(10, 8)
    with torch.autocast(device, dtype):
        noisy = instance_noise(data, 0.5, stream=NoiseStream(1, device=device))
        assert noisy.dtype == torch.float32
        logits = net(noisy)
        assert logits.dtype == dtype
        value, stats = generator_loss(logits, return_stats=True)
    assert value.dtype == stats.d_fake.dtype == torch.float32
    assert torch.equal(value, generator_loss(logits.detach()))
    value.backward()
    assert net.weight.grad.dtype == torch.float32 and net.weight.grad.abs().sum() > 0


def test_strides_of_a_single_sample_with_sigma_per_sample():
    x = torch.randn(4, 3, 8, 8).to(memory_format=torch.channels_last)[::4]
    sigma = torch.tensor([0.1])
    real = instance_noise(x, sigma, stream=NoiseStream(0))
    with FakeTensorMode() as mode:
        fake = instance_noise(mode.from_tensor(x), mode.from_tensor(sigma), stream=NoiseStream(0))
    # The stride of a dimension of one element has no meaning, and torch's own fake tensors differ in it.
    assert real.stride()[1:] == fake.stride()[1:] == x.stride()[1:]
