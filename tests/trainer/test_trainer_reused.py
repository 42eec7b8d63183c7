"""GANTrainer with the same samples for both steps, and weights of scales, against a loop in plain PyTorch."""

import copy

import pytest
import torch
from helpers.recipes import Scales, assert_close, normalized_discriminator, pairs
from helpers.trainer import assert_same, everything, setup
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from pygan import fused_losses
from pygan.penalties import R1, R2


def test_reused_fakes_equal_the_dcgan_step():
    latents = [torch.randn(8, 4, dtype=torch.float64) for _ in range(6)]
    ours = iter(latents)
    trainer, G, D, g_optimizer, d_optimizer = pairs(
        normalized_discriminator(), latent=lambda n: next(ours), reuse_fakes=True
    )
    for z in latents:
        real = torch.randn(8, 6, dtype=torch.float64)
        stats = trainer.step(real)
        fake = G(z)
        d_optimizer.zero_grad()
        d_real, d_fake = D(real), D(fake.detach())
        d_loss = bce(d_real, torch.ones_like(d_real)) + bce(d_fake, torch.zeros_like(d_fake))
        d_loss.backward()
        d_optimizer.step()
        g_optimizer.zero_grad()
        d_fake = D(fake)
        g_loss = bce(d_fake, torch.ones_like(d_fake))
        g_loss.backward()
        g_optimizer.step()
        torch.testing.assert_close(torch.stack(stats[:2]), torch.stack([d_loss, g_loss]).detach())
        torch.testing.assert_close(trainer.fake, fake.detach())
    assert_close(trainer, G, D)  # including BatchNorm's counts and running statistics


def test_reused_fakes_take_one_forward_pass_of_the_generator():
    options = dict(noise=0.1, penalties=[R1(1.0), R2(1.0)], ema=0.9, max_grad_norm=1.0)
    trainer = setup(reuse_fakes=True, **options)
    calls = []
    trainer.generator.register_forward_hook(lambda *_: calls.append(1))
    real = torch.randn(8, 6)
    for step in range(1, 4):
        trainer.step(real)
        assert (len(calls), trainer.stream.step) == (step, step)
    assert trainer.generator[1].num_batches_tracked == 3
    assert all(p.requires_grad for p in trainer.generator.parameters())


def test_reused_fakes_get_new_noise_in_each_phase():
    trainer = setup(reuse_fakes=True, noise=0.1)
    seen = []
    trainer.discriminator.register_forward_pre_hook(lambda _, x: seen.append(x[0].detach()))
    trainer.step(torch.randn(8, 6))
    _, fake, again = seen
    assert trainer.noise.stream.step == 3
    assert 0.05 < (fake - again).std() < 0.3  # 0.1 * sqrt(2) from the noise


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (dict(reuse_fakes=1), TypeError, "reuse_fakes must be a bool, got int"),
        (dict(reuse_fakes=True, d_steps=2), ValueError, "d_steps must be 1 with reuse_fakes, .* 2"),
        (dict(reuse_fakes=True, micro_batches=3), ValueError, "micro_batches must be 1 with reu"),
        (
            dict(loss=fused_losses, weights=2.0),
            ValueError,
            "weights must be None for a custom loss",
        ),
        (dict(weights=torch.ones(2)), TypeError, "weights must be a number, a list of numbers"),
        (dict(weights=[]), ValueError, "must"),
        (dict(weights=[1.0, float("nan")]), ValueError, r"weights\[1\] must be finite"),
    ],
)
def test_unsupported_options_are_refused_by_the_trainer(options, kind, message):
    with pytest.raises(kind, match=message):
        setup(**options)


@pytest.mark.parametrize("verb", ["discriminator_step", "generator_step"])
def test_reused_fakes_need_the_whole_step(verb):
    trainer = setup(reuse_fakes=True)
    before = everything(trainer)
    argument = 8 if verb == "generator_step" else torch.randn(8, 6)
    with pytest.raises(RuntimeError, match=f"{verb}: reuse_fakes must be False, .* call step"):
        getattr(trainer, verb)(argument)
    assert_same(everything(trainer), before)


@pytest.mark.parametrize("weights", [[1.0, 0.5, 0.25], 2.0])
def test_weights_of_scales(weights):
    latents = [torch.randn(8, 4, dtype=torch.float64) for _ in range(8)]
    ours = iter(latents)
    trainer, G, D, g_optimizer, d_optimizer = pairs(
        Scales(), latent=lambda n: next(ours), loss="hinge", weights=weights
    )
    factors = weights if isinstance(weights, list) else 3 * [weights]
    for z, other in zip(latents[::2], latents[1::2], strict=True):
        real = torch.randn(8, 6, dtype=torch.float64)
        stats = trainer.step(real)
        sides = zip(factors, D(real), D(G(z).detach()), strict=True)
        d_loss = sum(w * ((1 - r).relu().mean() + (1 + f).relu().mean()) for w, r, f in sides)
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        g_loss = sum(-w * f.mean() for w, f in zip(factors, D(G(other)), strict=True))
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
        torch.testing.assert_close(torch.stack(stats[:2]), torch.stack([d_loss, g_loss]).detach())
    assert_close(trainer, G, D)


def test_weights_for_another_number_of_scales_are_refused_before_training():
    trainer = setup(weights=[1.0, 0.5])
    before = copy.deepcopy(trainer.discriminator.state_dict())
    with pytest.raises(ValueError, match="weights"):
        trainer.step(torch.randn(8, 6))
    assert_same(trainer.discriminator.state_dict(), before)
