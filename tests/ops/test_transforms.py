"""Errors for TorchScript and batched gradients: they name the op and an alternative."""

import pytest
import torch
from helpers import raises

import pygan
from pygan import fused_losses
from pygan.fused_losses import discriminator_loss, generator_loss

INSTEAD = "torch.jit.script is not implemented; use torch.compile or torch.export"


class Discriminator(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.noise = pygan.InstanceNoise(pygan.schedules.Constant(0.1), seed=0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.noise(x)


@pytest.mark.parametrize(
    "function",
    [
        *(getattr(fused_losses, name) for name in fused_losses.__all__ if "_loss" in name),
        pygan.instance_noise,
        pygan.instance_noise_pair,
    ],
)
def test_script_of_a_function(function):
    with raises(
        RuntimeError, f"TorchScript error: {function.__module__}.{function.__name__}: {INSTEAD}"
    ):
        torch.jit.script(function)


def calls_a_loss(x: torch.Tensor) -> torch.Tensor:
    return generator_loss(x)


@pytest.mark.parametrize(
    "make", [lambda: calls_a_loss, Discriminator, lambda: Discriminator().noise]
)
def test_script_of_a_caller(make):
    # NotImplementedError is one, which torch wraps in some cases.
    with pytest.raises(RuntimeError, match=INSTEAD):
        torch.jit.script(make())


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace")
def test_traced_losses_equal_eager_ones():
    x = torch.linspace(-1, 1, 5)
    traced = torch.jit.trace(lambda a, b: discriminator_loss(a, b), (x, x + 1), check_trace=False)
    assert torch.equal(traced(x + 2, x), discriminator_loss(x + 2, x))


BATCHED = "pygan::gan_loss_backward: torch.func.vmap and is_grads_batched=True are not implemented"


@pytest.mark.parametrize("loss", fused_losses.LOSSES)
def test_batched_gradients_of_a_loss(loss):
    x = torch.linspace(-1, 1, 5, requires_grad=True)
    value = discriminator_loss(x, x.detach(), loss=loss)
    with raises(NotImplementedError, BATCHED, "call torch.autograd.grad for one gradient after"):
        torch.autograd.grad(value, x, torch.ones(3), is_grads_batched=True, retain_graph=True)
    with raises(NotImplementedError, BATCHED):
        torch.func.vmap(lambda g: torch.autograd.grad(value, x, g, retain_graph=True))(
            torch.ones(3)
        )
    torch.autograd.grad(value, x)  # the graph is unchanged


def test_batched_gradients_of_terms_and_of_noise():
    """If torch's own loop over the batch computes them, they are correct."""
    x = torch.linspace(-1, 1, 5, requires_grad=True)
    sigma = torch.tensor(0.5, requires_grad=True)
    grads = torch.eye(5)
    noisy = pygan.instance_noise(x, sigma, stream=pygan.NoiseStream(0))
    for out, wrt in ((generator_loss(x, reduction="none"), x), (noisy, x), (noisy, sigma)):
        want = [torch.autograd.grad(out, wrt, grad, retain_graph=True)[0] for grad in grads]
        (got,) = torch.autograd.grad(out, wrt, grads, is_grads_batched=True, retain_graph=True)
        assert torch.equal(got, torch.stack(want))
