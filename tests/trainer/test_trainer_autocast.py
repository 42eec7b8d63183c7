"""GANTrainer in an autocast region that is larger than a phase: casts of weights cached by the region are not used
after the weights have changed."""

import pytest
import torch
from helpers.trainer import assert_same
from torch import nn

import pygan

region = torch.autocast("cpu", torch.bfloat16)


def trainer_of(**options):
    torch.manual_seed(0)
    G = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 6))
    D = nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.5) for net in (G, D)]
    if "scaler" in options:
        options["scaler"] = torch.amp.GradScaler("cpu", init_scale=4.0)
    return pygan.GANTrainer(G, D, *optimizers, latent=4, seed=0, **options)


def parameters(trainer):
    networks = (trainer.generator, trainer.discriminator)
    return [p.detach() for network in networks for p in network.parameters()]


@pytest.mark.parametrize("options", [{}, {"scaler": True}, {"max_grad_norm": 1.0}], ids=str)
def test_one_region_for_all_steps_equals_one_per_phase(options):
    wide, each = (trainer_of(d_steps=5, **options) for _ in range(2))
    data = torch.randn(3, 5, 16, 6)
    with region:
        rows = [wide.step(list(batches)) for batches in data]
    for batches, stats in zip(data, rows, strict=True):
        for real in batches:
            with region:
                d_loss, _ = each.discriminator_step(real)
        with region:
            g_loss, _ = each.generator_step(16)
        assert_same((stats.d_loss, stats.g_loss), (d_loss, g_loss))
    assert_same(parameters(wide), parameters(each))


def test_sampling_in_the_region_keeps_the_gradients_of_the_next_step():
    """Some versions of torch cache casts that were made without a graph."""
    trainer, plain = trainer_of(), trainer_of()
    with region:
        trainer.sample(3, latent=torch.randn(3, 4))
        trainer.generator_step(16)
    with region:
        plain.generator_step(16)
    assert_same(parameters(trainer), parameters(plain))


def test_reused_fakes_in_one_region_for_all_steps():
    """The discriminator sees them before and after its update, and the generator's casts are from its last update."""
    wide, each = (trainer_of(reuse_fakes=True) for _ in range(2))
    data = torch.randn(4, 16, 6)
    with region:
        rows = [wide.step(real) for real in data]
    for real, stats in zip(data, rows, strict=True):
        with region:
            assert_same(stats, each.step(real))
    assert_same(parameters(wide), parameters(each))


def test_a_skipped_update_clears_the_casts_too(monkeypatch):
    """In some versions of torch, the generator's were made without a graph in the discriminator's step."""
    cleared, clear = [], torch.clear_autocast_cache
    monkeypatch.setattr(torch, "clear_autocast_cache", lambda: cleared.append(clear()))
    trainer = trainer_of()
    trainer.update_if = lambda _: False
    trainer.step(torch.randn(16, 6))
    assert len(cleared) == 2
