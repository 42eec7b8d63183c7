"""Published recipes with GANTrainer, each compared with a loop in plain PyTorch: equal parameters.

DCGAN's is in test_trainer_reused, pix2pix's in test_trainer_conditions, R3GAN's and StyleGAN3's in test_trainer_joint.
"""

import copy

import pytest
import torch
from helpers.recipes import Autoencoder, assert_close, discriminator, latents, pairs, update
from helpers.trainer import assert_same, everything
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import l1_loss

import pygan
from pygan import fused_losses
from pygan.penalties import GradientPenalty, LeCam, adaptive_weight


class Layers(nn.Module):
    """Returns logits and the feature map of each layer, like HiFi-GAN's discriminators."""

    def __init__(self, width):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(m, n) for m, n in ((6, width), (width, 4), (4, 2)))

    def forward(self, x):
        maps = []
        for layer in self.layers:
            x = torch.tanh(layer(x))
            maps.append(x)
        return x, maps


def test_hifi_gan():
    """Kong et al. 2020: several discriminators with the same input, least squares without ½, mel and feature losses."""
    mel = torch.randn(6, 3, dtype=torch.float64)

    def terms(step):
        maps_f, maps_r = ([maps for _, maps in out] for out in (step.fake_output, step.real_output))
        return {
            "mel": 45 * l1_loss(step.fake @ mel, step.real @ mel),
            "features": fused_losses.feature_matching(maps_f, maps_r, weights=2),
        }

    trainer, G, D, g_optimizer, d_optimizer = pairs(
        pygan.Discriminators(Layers(5), Layers(7)),
        nn.Linear(3, 6),
        latent=None,
        discriminator_inputs=lambda x, _: (x,),
        logits=lambda output: [logits for logits, _ in output],
        loss="least_squares",
        weights=2,
        generator_terms=terms,
        reuse_fakes=True,
    )
    for _ in range(4):
        real = torch.randn(8, 6, dtype=torch.float64)
        given = real @ mel
        stats = trainer.step(real, given)
        fake = G(given)
        d_loss = 0
        for (r, _), (f, _) in zip(D(real), D(fake.detach()), strict=True):
            d_loss = d_loss + ((1 - r) ** 2).mean() + (f**2).mean()
        update(d_optimizer, d_loss)
        features = g_loss = 0
        with torch.no_grad():
            of_real = D(real)
        for (f, maps_f), (_, maps_r) in zip(D(fake), of_real, strict=True):
            g_loss = g_loss + ((1 - f) ** 2).mean()
            for a, b in zip(maps_f, maps_r, strict=True):
                features = features + (b - a).abs().mean()
        mels = 45 * l1_loss(fake @ mel, given)
        update(g_optimizer, g_loss + 2 * features + mels)
        numbers = [stats.d_loss, stats.g_loss, *stats.terms.values()]
        plain = [d_loss, g_loss, mels, 2 * features]
        torch.testing.assert_close(torch.stack(numbers), torch.stack(plain).detach())
    assert_close(trainer, G, D)


def test_vqgan_with_lecam():
    """Esser et al. 2021 (adaptive weight, late start, hinge) with the regularization of Tseng et al. 2021."""

    def weight(step):
        last = trainer.generator.last.weight
        return 0.8 * adaptive_weight(step.terms["rec"], step.g_loss, last)

    trainer, G, D, g_optimizer, d_optimizer = pairs(
        None,
        Autoencoder(),
        latent=None,
        generated=lambda output: output[0],
        discriminator_inputs=lambda x, _: (x,),
        loss="hinge",
        weights=0.5,
        penalties=LeCam(0.3, 0.9),
        generator_terms=lambda step: {
            "rec": l1_loss(step.fake, step.real),
            "codebook": step.output[1],
        },
        adversarial_weight=lambda step: weight(step) * 2,  # for half the generator's loss
        discriminator_start=2,
        reuse_fakes=True,
    )
    lecam = LeCam(0.3, 0.9)
    for number in range(6):
        real = torch.randn(8, 6, dtype=torch.float64)
        stats = trainer.step(real, real)
        image, codebook = G(real)
        rec = l1_loss(image, real)
        loss = rec + codebook
        if number >= 2:
            d_real, d_fake = D(real), D(image.detach())
            d_loss = 0.5 * ((1 - d_real).relu().mean() + (1 + d_fake).relu().mean())
            update(d_optimizer, d_loss + lecam(d_real, d_fake))
            g_loss = -D(image).mean()
            norms = [
                torch.autograd.grad(x, G.last.weight, retain_graph=True)[0].norm()
                for x in (rec, g_loss / 2)
            ]
            d_weight = 0.8 * (norms[0] / (norms[1] + 1e-4)).clamp(0, 1e4).detach()
            loss = loss + d_weight * g_loss
        update(g_optimizer, loss)
        torch.testing.assert_close(stats.terms["rec"], rec.detach())
    assert_close(trainer, G, D)
    assert_same(trainer.penalties[0].averages, lecam.averages)


def test_pix2pix_hd_with_a_pool_that_is_resumed():
    """Wang et al. 2018: pairs of input and image from a pool; half the loss for D."""

    def trainer_of():
        return pairs(
            nn.Sequential(nn.Linear(11, 8), nn.Tanh(), nn.Linear(8, 1)),
            nn.Linear(5, 6),
            latent=None,
            discriminator_inputs=lambda image, given: (torch.cat([given, image], 1),),
            loss="least_squares",
            generator_terms=lambda step: {"l1": 100 * l1_loss(step.fake, step.real)},
            adversarial_weight=2.0,
            pool=pygan.FakePool(6, seed=5),
        )

    trainer, G, D, g_optimizer, d_optimizer = trainer_of()
    pool = pygan.FakePool(6, seed=5)
    batches = [[torch.randn(4, n, dtype=torch.float64) for n in (6, 5)] for _ in range(8)]
    state = None
    for number, (image, given) in enumerate(batches):
        if number == 5:
            state = copy.deepcopy(trainer.state_dict())
        trainer.step(image, given)
        fake = G(given)
        past, past_given = pool(fake, given)
        d_real, d_fake = D(torch.cat([given, image], 1)), D(torch.cat([past_given, past], 1))
        update(d_optimizer, 0.5 * (d_fake.square().mean() + (d_real - 1).square().mean()))
        g_loss = (D(torch.cat([given, fake], 1)) - 1).square().mean()
        update(g_optimizer, g_loss + 100 * l1_loss(fake, image))
    assert_close(trainer, G, D)
    other = trainer_of()[0]
    other.load_state_dict(state)
    for image, given in batches[5:]:
        other.step(image, given)
    assert_same(other.discriminator.state_dict(), trainer.discriminator.state_dict())


HALF = {"loss": "relativistic_average", "weights": 0.5}


class ConstantMeans:
    """BasicSR's version: constant means in the discriminator's step, and half the loss."""

    compares = True

    def discriminator_loss(self, real, fake):
        return fused_losses.discriminator_loss(real, fake, detach_means=True, **HALF)

    def generator_loss(self, fake, real):
        return fused_losses.generator_loss(fake, real_logits=real, **HALF)


@pytest.mark.parametrize("loss", ["relativistic_average", ConstantMeans()])
def test_esrgan(loss):
    """Wang et al. 2018: the relativistic average loss of both sides in the generator's step, pixels and features."""
    is_paper = isinstance(loss, str)
    features = nn.Linear(6, 5).double().requires_grad_(False)

    def terms(step):
        return {
            "pixels": 0.01 * l1_loss(step.fake, step.real),
            "perceptual": l1_loss(features(step.fake), features(step.real)),
        }

    trainer, G, D, g_optimizer, d_optimizer = pairs(
        discriminator(),
        nn.Linear(3, 6),
        latent=None,
        discriminator_inputs=lambda x, _: (x,),
        loss=loss,
        generator_terms=terms,
        adversarial_weight=0.005,
        reuse_fakes=True,
    )

    def both(d_first, d_second, constant=False):
        """The first must look more real than the mean of the second, and vice versa."""
        means = [x.detach().mean() if constant else x.mean() for x in (d_first, d_second)]
        first, second = d_first - means[1], d_second - means[0]
        loss = bce(first, torch.ones_like(first)) + bce(second, torch.zeros_like(second))
        return loss if is_paper else 0.5 * loss

    for _ in range(4):
        real, given = (torch.randn(8, n, dtype=torch.float64) for n in (6, 3))
        stats = trainer.step(real, given)
        fake = G(given)
        d_loss = both(D(real), D(fake.detach()), constant=not is_paper)
        update(d_optimizer, d_loss)
        g_loss = both(D(fake), D(real).detach())
        pixels, perceptual = l1_loss(fake, real), l1_loss(features(fake), features(real))
        update(g_optimizer, 0.005 * g_loss + 0.01 * pixels + perceptual)
        torch.testing.assert_close(torch.stack(stats[:2]), torch.stack([d_loss, g_loss]).detach())
    assert_close(trainer, G, D)


def test_wgan_gp_under_bf16_autocast():
    """Gulrajani et al. 2017: five critic steps, and the penalty at interpolated samples. Both loops run under autocast,
    with equal results to within bfloat16."""
    drawn, latent = latents(18)
    trainer, G, D, g_optimizer, d_optimizer = pairs(
        discriminator(),
        nn.Linear(4, 6),
        latent=lambda n: latent(n).float(),
        loss="wasserstein",
        penalties=GradientPenalty(10.0),
        d_steps=5,
    )
    for module in (trainer.generator, trainer.discriminator, G, D):
        module.float()
    places = []
    trainer.discriminator.register_forward_pre_hook(lambda _, x: places.append(x[0].detach()))
    z = iter(drawn)
    for _ in range(3):
        reals = [torch.randn(8, 6) for _ in range(5)]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            trainer.step(reals)
        for number, real in enumerate(reals):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                fake = G(next(z).float()).detach()
                between = places[3 * number + 1].detach().requires_grad_()  # real, between, fake
                d_loss = D(fake).mean() - D(real).mean()
                (slope,) = torch.autograd.grad(D(between).sum(), between, create_graph=True)
                penalty = 10 * (slope.float().norm(dim=1) - 1).square().mean()
            update(d_optimizer, d_loss + penalty)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            g_loss = -D(G(next(z).float())).mean()
        update(g_optimizer, g_loss)
        places.clear()
    for ours, theirs in ((trainer.generator, G), (trainer.discriminator, D)):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert a.dtype == torch.float32
            torch.testing.assert_close(a, b, rtol=0, atol=0.04)  # 15 Adam steps of .01
            assert (a - b).abs().mean() < 0.01


@pytest.mark.parametrize(
    ("pool", "message"), [(50, "pool must be a pygan.FakePool or None, got int")]
)
def test_an_invalid_pool_is_refused(pool, message):
    with pytest.raises(TypeError, match=message):
        pairs(pool=pool)


@pytest.mark.parametrize(("micro_batches", "fits"), [(1, False), (2, True)])
def test_a_pool_smaller_than_a_batch_is_refused_without_changes(micro_batches, fits):
    trainer, *_ = pairs(pool=pygan.FakePool(4), d_steps=2, micro_batches=micro_batches)
    before = everything(trainer)
    reals = [torch.randn(n, 6, dtype=torch.float64) for n in (4, 8)]
    if fits:
        trainer.step(reals)
        return
    with pytest.raises(ValueError, match=r"step: pool must have a size of at least 8, .* got Fake"):
        trainer.step(reals)
    assert_same(everything(trainer), before)
