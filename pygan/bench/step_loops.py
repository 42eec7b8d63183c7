"""The training loops that `python -m pygan bench --steps` times: plain PyTorch, pygan's functions, and GANTrainer.

"By hand" is what a careful user writes: the other network is frozen and gradients are set to None. The loop with
pygan's functions also keeps statistics, the one in plain PyTorch does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim import Adam

import pygan
from pygan import fused_losses
from pygan.bench.models import LATENT, Model
from pygan.penalties import R1, R2

__all__ = ["Recipe", "by_hand", "plain", "trainer"]

SIGMA, GAMMA = 0.1, 1.0


class Recipe(NamedTuple):
    """The options of a step."""

    r1: bool = False
    r2: bool = False
    reuse_fakes: bool = False
    joint: bool = False
    separate: bool = False

    @property
    def name(self) -> str:
        """A suffix that lists the trainer's options."""
        options = ("reuse_fakes", "joint", "separate")
        return "".join(f", {name}" for name in options if getattr(self, name))


def _build(model: Model, device: torch.device, **options: Any) -> tuple[Any, ...]:
    torch.manual_seed(0)
    G, D = (net.to(device) for net in model.make())
    return G, D, *(Adam(net.parameters(), lr=1e-4, fused=True, **options) for net in (G, D))


def trainer(model: Model, device: torch.device, recipe: Recipe, **options: Any) -> pygan.GANTrainer:
    """A GANTrainer; `options` are for the optimizers."""
    return pygan.GANTrainer(
        *_build(model, device, **options),
        latent=LATENT,
        noise=SIGMA,
        penalties=[R1(GAMMA)] * recipe.r1 + [R2(GAMMA)] * recipe.r2,
        reuse_fakes=recipe.reuse_fakes,
        joint=recipe.joint,
        separate=recipe.separate,
    )


def _squared_gradients(logits: Tensor, *samples: Tensor) -> list[Tensor]:
    """The mean squared gradient norm over the samples, for each of the tensors."""
    slopes = torch.autograd.grad(logits.sum(), samples, create_graph=True)
    return [slope.square().flatten(1).sum(1).mean() for slope in slopes]


def _split_halves(logits: Any) -> tuple[Any, Any]:
    if isinstance(logits, list):
        pairs = [_split_halves(x) for x in logits]
        return [real for real, _ in pairs], [fake for _, fake in pairs]
    real, fake = logits.tensor_split(2)
    return real, fake


def by_hand(model: Model, device: torch.device, recipe: Recipe) -> Callable[[Tensor], Any]:
    """A loop with pygan's functions."""
    G, D, g_optimizer, d_optimizer = _build(model, device)
    stream = pygan.NoiseStream(0, device=device)
    noise = pygan.InstanceNoise(pygan.schedules.Constant(SIGMA), seed=0).to(device)
    parameters = {net: list(net.parameters()) for net in (G, D)}

    def latents(n: int) -> Tensor:
        z = torch.zeros(n, LATENT, device=device)
        return pygan.instance_noise(z, 1.0, stream=stream, out=z)

    def train(net: nn.Module, flag: bool) -> None:
        for p in parameters[net]:
            p.requires_grad_(flag)

    def step(real: Tensor) -> tuple[Any, ...]:
        if recipe.reuse_fakes:
            made = G(latents(len(real)))
            fake = made.detach()
        train(G, False)
        if not recipe.reuse_fakes:
            with torch.no_grad():
                fake = G(latents(len(real)))
        real, fake = (
            x.detach().requires_grad_() if wanted else x
            for x, wanted in ((real, recipe.r1), (fake, recipe.r2))
        )
        if recipe.joint:
            real_logits, fake_logits = _split_halves(D(noise.pair(real, fake)))
        else:
            real_logits, fake_logits = D(noise(real)), D(noise(fake))
        d_loss, d = fused_losses.discriminator_loss(real_logits, fake_logits, return_stats=True)
        total = d_loss
        with_grad = [x for x in (real, fake) if x.requires_grad]
        if with_grad:
            both = real_logits.sum() * recipe.r1 + fake_logits.sum() * recipe.r2
            total = d_loss + GAMMA / 2 * sum(_squared_gradients(both, *with_grad))
        d_optimizer.zero_grad(set_to_none=True)
        total.backward()
        d_optimizer.step()
        train(G, True)
        train(D, False)
        if not recipe.reuse_fakes:
            made = G(latents(len(real)))
        g_loss, g = fused_losses.generator_loss(D(noise(made)), return_stats=True)
        g_optimizer.zero_grad(set_to_none=True)
        g_loss.backward()
        g_optimizer.step()
        train(D, True)
        return d_loss.detach(), g_loss.detach(), d, g

    return step


def plain(model: Model, device: torch.device, recipe: Recipe) -> Callable[[Tensor], Any]:
    """A loop as in most examples: new samples for each network, and separate discriminator passes for real and fake
    samples."""
    G, D, g_optimizer, d_optimizer = _build(model, device)

    def noisy(x: Tensor) -> Tensor:
        return x + SIGMA * torch.randn_like(x)

    def bce(logits: Any, target: float) -> Any:
        maps = logits if isinstance(logits, list) else [logits]
        return sum(binary_cross_entropy_with_logits(x, torch.full_like(x, target)) for x in maps)

    def step(real: Tensor) -> None:
        with torch.no_grad():
            fake = G(torch.randn(len(real), LATENT, device=device))
        if recipe.r1:
            real = real.detach().requires_grad_()
        if recipe.r2:
            fake = fake.detach().requires_grad_()
        real_logits, fake_logits = D(noisy(real)), D(noisy(fake))
        d_loss = bce(real_logits, 1.0) + bce(fake_logits, 0.0)
        for wanted, logits, x in ((recipe.r1, real_logits, real), (recipe.r2, fake_logits, fake)):
            if wanted:
                d_loss = d_loss + GAMMA / 2 * _squared_gradients(logits, x)[0]
        d_optimizer.zero_grad(set_to_none=True)
        d_loss.backward()
        d_optimizer.step()
        g_loss = bce(D(noisy(G(torch.randn(len(real), LATENT, device=device)))), 1.0)
        g_optimizer.zero_grad(set_to_none=True)
        g_loss.backward()
        g_optimizer.step()

    return step
