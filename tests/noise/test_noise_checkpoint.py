"""InstanceNoise and torch.utils.checkpoint, which repeats a forward pass during the backward pass."""

import pytest
import torch
from helpers import raises
from helpers.compile import BACKENDS
from helpers.trainer import assert_same
from torch import nn
from torch.utils.checkpoint import checkpoint

import pygan
from pygan._compile import COMPILED
from pygan.schedules import Constant

REFUSED = "pygan.InstanceNoise: forward must not be called in a backward pass"
both_ways = pytest.mark.parametrize("use_reentrant", [True, False])


def noise_and_layer():
    torch.manual_seed(0)
    return pygan.InstanceNoise(Constant(0.5), seed=3), nn.Sequential(nn.Linear(6, 6), nn.Tanh())


@both_ways
def test_recomputation_does_not_draw_new_noise(use_reentrant):
    """It would be different noise, and the gradient that of another function."""
    noise, layer = noise_and_layer()
    x = torch.randn(4, 6, requires_grad=True)
    loss = checkpoint(lambda x: layer(noise(x)), x, use_reentrant=use_reentrant).square().sum()
    with raises(
        RuntimeError, REFUSED, "apply it before the function given to torch.utils.checkpoint"
    ):
        loss.backward()
    assert noise.stream.step == 1
    noise(x)  # outside, the stream continues
    assert noise.stream.step == 2


@both_ways
def test_noise_before_the_checkpoint_has_correct_gradients(use_reentrant):
    gradients = []
    for checkpointed in (True, False):
        noise, layer = noise_and_layer()
        x = torch.randn(4, 6, requires_grad=True)
        noisy = noise(x)
        y = checkpoint(layer, noisy, use_reentrant=use_reentrant) if checkpointed else layer(noisy)
        y.square().sum().backward()
        gradients.append([p.grad for p in (x, *layer.parameters())])
    assert_same(*gradients)


@both_ways
def test_checkpointing_in_eval_mode_is_allowed(use_reentrant):
    noise, layer = noise_and_layer()
    noise.eval()
    x = torch.randn(4, 6, requires_grad=True)
    checkpoint(lambda x: layer(noise(x)), x, use_reentrant=use_reentrant).sum().backward()
    assert noise.stream.step == 0


@both_ways
def test_a_discriminator_with_checkpointed_noise_is_refused_before_training(use_reentrant):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.noise, self.layer = noise_and_layer()
            self.last = nn.Linear(6, 1)

        def forward(self, x):
            # Requires grad, without which reentrant checkpoints do nothing.
            h = self.last.weight * x
            block = nn.Sequential(self.noise, self.layer)
            return self.last(checkpoint(block, h, use_reentrant=use_reentrant))

    D, G = Checkpointed(), nn.Linear(4, 6)
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (G, D)]
    trainer = pygan.GANTrainer(G, D, *optimizers, latent=4)
    before = [p.clone() for p in D.parameters()]
    with raises(RuntimeError, REFUSED):
        trainer.step(torch.randn(8, 6))
    assert_same([p.detach() for p in D.parameters()], before)


class Block(nn.Module):
    """A checkpoint with noise and a layer, followed by another layer."""

    def __init__(self, use_reentrant):
        super().__init__()
        self.noise, self.layer = noise_and_layer()
        self.last = nn.Linear(6, 1)
        self.use_reentrant = use_reentrant

    def inner(self, x):
        return self.layer(self.noise(x))

    def forward(self, x):
        return self.last(checkpoint(self.inner, x, use_reentrant=self.use_reentrant))


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("backend", BACKENDS)
@both_ways
def test_compiled_checkpointed_noise_is_refused(use_reentrant, backend):
    """The compiled version silently drew different noise in the backward pass."""
    block = Block(use_reentrant)
    x = torch.randn(4, 6, requires_grad=True)
    loss = torch.compile(block, backend=backend)(x).sum()
    with raises(RuntimeError, REFUSED):
        loss.backward()


@pytest.mark.usefixtures("fresh")
@both_ways
def test_a_checkpoint_in_one_graph_is_refused_by_the_compiler(use_reentrant):
    compiled = torch.compile(Block(use_reentrant), backend="aot_eager", fullgraph=True)
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"[Mm]utating a variable"):
        compiled(torch.randn(4, 6, requires_grad=True))


@pytest.mark.usefixtures("fresh")
def test_compiled_noise_before_the_checkpoint_is_one_graph():
    results = []
    for compiled in (True, False):
        noise, layer = noise_and_layer()

        def forward(x, noise=noise, layer=layer):
            return checkpoint(layer, noise(x), use_reentrant=False).square().sum()

        if compiled:
            forward = torch.compile(forward, backend="aot_eager", fullgraph=COMPILED)
        x = torch.linspace(-1, 1, 24).view(4, 6).requires_grad_()
        forward(x).backward()
        results.append([p.grad for p in (x, *layer.parameters())])
    torch.testing.assert_close(*results)
