"""Bad input: the message names the op, the argument, the requirement and what was got, and nothing changes.

Here: input that concerns both losses and noise. The rest is in test_bad_input_losses.py and _noise.py.
"""

import pytest
import torch
from helpers import raises

import pygan
from pygan import NoiseStream, instance_noise
from pygan.fused_losses import discriminator_loss, generator_loss


@pytest.mark.cuda
def test_devices_of_a_gpu():
    x = torch.zeros(3, device="cuda")
    stream = NoiseStream(1)
    with raises(
        ValueError, "pygan.instance_noise: stream must be on the device of x, cuda:0, got cpu"
    ):
        instance_noise(x, 0.5, stream=stream)
    assert stream.step == 0
    with raises(
        ValueError, "pygan.instance_noise: sigma must be on the device of x, cuda:0, got cpu"
    ):
        instance_noise(x, torch.ones(3), stream=NoiseStream(1, device="cuda"))
    with raises(
        (TypeError, ValueError), "pygan.instance_noise: generator must be on the device of x"
    ):
        instance_noise(x, 0.5, generator=torch.Generator())
    with raises(
        ValueError,
        "pygan.fused_losses.discriminator_loss: fake_logits must be on the device of real_logits, cuda:0, got cpu",
    ):
        discriminator_loss(x, torch.zeros(3))


def test_unknown_instruction_set():
    before = pygan._C.cpu_capability()
    with raises(RuntimeError, "pygan: capability must be baseline, avx2 or avx512", 'got "sse"'):
        pygan._C.use_cpu_capability("sse")
    assert pygan._C.cpu_capability() == before


@pytest.mark.parametrize(
    "function",
    [
        lambda x: discriminator_loss(x, x + 1),
        lambda x: generator_loss(x, reduction="none").sum(),
        lambda x: instance_noise(x, 0.5, stream=NoiseStream(0)).sum(),
    ],
)
@pytest.mark.parametrize("transform", ["grad", "jvp"])
def test_unsupported_transforms_are_refused(function, transform):
    x = torch.randn(5)
    transformed = {
        "grad": torch.func.grad(function),
        "jvp": lambda x: torch.func.jvp(function, (x,), (x,)),
    }[transform]
    with pytest.raises(NotImplementedError, match=r"^pygan\.\w+: .* use torch.autograd.grad"):
        transformed(x)
