"""Networks, layers, optimizers and averages that are replaced, frozen or unfrozen while a GANTrainer uses them."""

import copy

import pytest
import torch
from helpers import raises
from helpers.trainer import assert_same, everything, networks, setup
from torch import nn

import pygan

REAL = torch.randn(8, 6)


def sgd(network, lr=0.1):
    return torch.optim.SGD(network.parameters(), lr=lr)


@pytest.mark.parametrize("steps", [0, 1])
def test_replaced_networks_are_trained_sampled_and_saved(steps):
    trainer = setup(max_grad_norm=1e-3)
    for _ in range(steps):
        trainer.step(REAL)
    trainer.generator, trainer.discriminator = networks(seed=1)
    before = everything(trainer)
    for _ in range(2):
        with raises(ValueError, "GANTrainer: g_optimizer must hold all trainable parameters of"):
            trainer.step(REAL)
    assert_same(everything(trainer), before)
    z = torch.randn(5, 4)
    with torch.no_grad():
        assert torch.equal(trainer.sample(5, latent=z), trainer.generator.eval()(z))
    trainer.g_optimizer = torch.optim.Adam(trainer.generator.parameters())
    trainer.d_optimizer = sgd(trainer.discriminator, lr=1.0)
    weights = [p.clone() for p in trainer.discriminator.parameters()]
    trainer.discriminator_step(REAL)
    moved = [p - w for p, w in zip(trainer.discriminator.parameters(), weights, strict=True)]
    assert 0 < torch.cat([m.flatten() for m in moved]).norm() < 1.01e-3  # clipped
    trainer.generator_step(8)
    assert_same(trainer.state_dict()["generator"], trainer.generator.state_dict())
    other = setup(2)
    other.d_optimizer = sgd(other.discriminator)
    other.load_state_dict(trainer.state_dict())
    assert_same(other.sample(5, latent=z), trainer.sample(5, latent=z))


def test_an_optimizer_of_the_same_size_is_checked():
    trainer = setup()
    trainer.step(REAL)
    trainer.d_optimizer = sgd(copy.deepcopy(trainer.discriminator))
    with raises(
        ValueError, "GANTrainer: d_optimizer must hold all trainable parameters", "without 4 of 4"
    ):
        trainer.step(REAL)
    trainer.d_optimizer = None
    with raises(TypeError, "GANTrainer: d_optimizer must be a torch.optim.Optimizer, got NoneType"):
        trainer.step(REAL)
    trainer.d_optimizer = sgd(trainer.discriminator)
    group = trainer.d_optimizer.param_groups[0]
    trainer.step(REAL)
    group["params"] = [nn.Parameter(p.detach().clone()) for p in group["params"]]
    with raises(
        ValueError, "GANTrainer: d_optimizer must hold all trainable parameters", "without 4 of 4"
    ):
        trainer.step(REAL)


def test_a_replaced_layer_is_detected():
    """In the step after the first one in which the old layer's parameters got no gradient."""
    trainer = setup()
    D = trainer.discriminator
    for _ in range(2):
        trainer.step(REAL)
    D[2] = nn.Linear(8, 1)
    trainer.step(REAL)
    for _ in range(2):
        with raises(
            ValueError,
            "GANTrainer: d_optimizer must hold all trainable parameters",
            "without 2 of 4",
        ):
            trainer.step(REAL)
    trainer.d_optimizer = sgd(D)
    weight = D[2].weight.clone()
    trainer.step(REAL)
    assert not torch.equal(D[2].weight, weight)


def test_unfrozen_layers_that_the_optimizer_does_not_hold_are_refused():
    """They were not trained, but their gradients counted towards max_grad_norm."""
    G, D = networks()
    D[0].requires_grad_(False)
    trainer = pygan.GANTrainer(G, D, sgd(G), sgd(D[2]), latent=4, max_grad_norm=0.1)
    trainer.step(REAL)
    D[0].requires_grad_(True)
    D[2].requires_grad_(False)  # the same number of parameters
    before = everything(trainer)
    for _ in range(2):
        with raises(
            ValueError,
            "GANTrainer: d_optimizer must hold all trainable parameters",
            "without 2 of 2",
        ):
            trainer.step(REAL)
    assert_same(everything(trainer), before)
    trainer.d_optimizer.add_param_group({"params": D[0].parameters()})
    weight = D[0].weight.clone()
    trainer.step(REAL)
    assert not torch.equal(D[0].weight, weight)


def test_one_network_can_be_frozen_while_the_other_is_trained():
    """By the user, as in many loops; the phase that trains it raises before it draws random numbers."""
    trainer = setup()
    phases = {
        "discriminator_step": (trainer.generator, lambda: trainer.discriminator_step(REAL)),
        "generator_step": (trainer.discriminator, lambda: trainer.generator_step(8)),
    }
    for verb, (other, phase) in phases.items():
        other.requires_grad_(False)
        phase()
        trainer.sample(2)
        other.requires_grad_(True)
        trained = trainer.discriminator if other is trainer.generator else trainer.generator
        trained.requires_grad_(False)
        before = everything(trainer)
        for use, name in ((phase, verb), (lambda: trainer.step(REAL), "step")):
            with raises(ValueError, f"GANTrainer.{name}: ", "must have trainable parameters"):
                use()
        assert_same(everything(trainer), before)
        trained.requires_grad_(True)
    trainer.step(REAL)


def test_the_average_continues_with_a_replaced_generator():
    trainer = setup(ema=0.5)
    trainer.step(REAL)
    before = copy.deepcopy(list(trainer.ema.module.parameters()))
    trainer.generator = G = networks(seed=1)[0]
    trainer.g_optimizer = sgd(G)
    trainer.step(REAL)
    want = [a.lerp(p, 0.5) for a, p in zip(before, G.parameters(), strict=True)]
    torch.testing.assert_close(list(trainer.ema.module.parameters()), want)
    trainer.ema = pygan.EMA(G, 0.5)
    trainer.step(REAL)
    assert_same(list(trainer.ema.module.parameters()), list(G.parameters()))


def test_an_average_of_another_network_is_refused():
    message = (
        "GANTrainer: ema must be an average of the generator, got one whose parameters have other"
    )
    with raises(ValueError, message):
        setup(ema=pygan.EMA(nn.Linear(4, 6), 0.5))
    trainer = setup(ema=0.5)
    trainer.generator = nn.Linear(4, 6)
    trainer.g_optimizer = sgd(trainer.generator)
    before = everything(trainer)
    with raises(ValueError, message):
        trainer.step(REAL)
    assert_same(everything(trainer), before)
    trainer.ema = None
    trainer.step(REAL)


def test_modules_are_not_traversed_in_every_step(monkeypatch):
    trainer = setup(ema=0.5, max_grad_norm=1.0)
    for _ in range(2):  # the first step creates the parameters' gradients
        trainer.step(REAL)
    monkeypatch.setattr(trainer._networks, "check", lambda: pytest.fail("checked again"))
    trainer.step(REAL)
