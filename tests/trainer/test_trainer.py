"""GANTrainer against hand-written loops: what each step trains, draws, returns and does not change."""

import contextlib
import copy
import math

import pytest
import torch
from helpers import DEVICES
from helpers.sync import NoSync
from helpers.trainer import assert_same, everything, networks, setup
from torch import nn

import pygan
from pygan import fused_losses
from pygan.penalties import R1, R2, GradientPenalty, adaptive_weight
from pygan.schedules import Adaptive, Constant, DiffusionMixture, Linear


@pytest.mark.parametrize("loss", fused_losses.LOSSES)
@pytest.mark.parametrize("d_steps", [1, 3])
def test_equals_a_hand_written_loop_bit_for_bit(loss, d_steps):
    noise = pygan.InstanceNoise(Linear(0.5, 0.0, 3), seed=5)
    smoothing = 0.1 if loss in ("non_saturating", "minimax", "least_squares") else 0.0
    compares = fused_losses.compares(loss)
    trainer = setup(noise=noise, loss=loss, d_steps=d_steps, label_smoothing=smoothing)
    latents_of = pygan.NoiseStream(trainer.stream.seed)
    G, D = networks()
    g_opt = torch.optim.Adam(G.parameters(), lr=1e-2)
    d_opt = torch.optim.Adam(D.parameters(), lr=1e-2)
    stream, sigma = pygan.NoiseStream(5), Linear(0.5, 0.0, 3)
    data = torch.randn(5, d_steps, 16, 6)

    def noisy(x):
        return pygan.instance_noise(x, sigma.sigma, stream=stream)

    expected = []
    for batches in data:
        zeros = torch.zeros(16, 4)
        latents = [pygan.instance_noise(zeros, 1.0, stream=latents_of) for _ in range(d_steps + 1)]
        for real, z in zip(batches, latents, strict=False):
            with torch.no_grad():
                fake = G(z)
            real, fake = noisy(real), noisy(fake)
            d_loss, d = fused_losses.discriminator_loss(
                D(real), D(fake), loss=loss, label_smoothing=smoothing, return_stats=True
            )
            d_opt.zero_grad()
            d_loss.backward()
            d_opt.step()
        fake_logits = D(noisy(G(latents[-1])))
        with torch.no_grad():
            real_logits = D(noisy(batches[-1])) if compares else None
        g_loss, g = fused_losses.generator_loss(
            fake_logits, real_logits=real_logits, loss=loss, return_stats=True
        )
        g_opt.zero_grad()
        g_loss.backward()
        g_opt.step()
        sigma.step()
        expected.append(torch.stack([d_loss, g_loss, d.d_real, d.jsd_bound, g.d_fake]).detach())

    for batches, values in zip(data, expected, strict=True):
        s = trainer.step(batches[0] if d_steps == 1 else list(batches))
        noise.step()
        assert_same(
            torch.stack([s.d_loss, s.g_loss, s.d_real, s.jsd_bound, s.d_fake_after]), values
        )
    assert_same(trainer.generator.state_dict(), G.state_dict())
    assert_same(trainer.discriminator.state_dict(), D.state_dict())
    assert_same(trainer.g_optimizer.state_dict(), g_opt.state_dict())
    assert_same(trainer.d_optimizer.state_dict(), d_opt.state_dict())
    assert noise.stream.step == stream.step == 5 * (2 * d_steps + 1 + compares)


class TwoScales(nn.Module):
    """A discriminator that returns a list: (N, 1) logits, and (N, 3)."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.heads = nn.ModuleList([nn.Linear(6, 1), nn.Linear(6, 3)])

    def forward(self, x):
        return [head(x) for head in self.heads]


@pytest.mark.parametrize("loss", ["least_squares", "relativistic_average"])
def test_a_discriminator_that_returns_a_list(loss):
    G, D = networks()[0], TwoScales()
    D2 = copy.deepcopy(D)
    d_opt, d2_opt = (torch.optim.SGD(d.parameters(), lr=0.1) for d in (D, D2))
    trainer = pygan.GANTrainer(
        G, D, torch.optim.SGD(G.parameters(), lr=0.1), d_opt, latent=4, loss=loss
    )
    real, latent = torch.randn(16, 6), torch.randn(16, 4)
    trainer.latent = lambda n: latent
    with torch.no_grad():
        fake = G(latent)
    d_loss, _ = trainer.discriminator_step(real)
    want = fused_losses.discriminator_loss(D2(real), D2(fake), loss=loss)
    d2_opt.zero_grad()
    want.backward()
    d2_opt.step()
    assert_same(d_loss, want.detach())
    torch.testing.assert_close(D.state_dict(), D2.state_dict())
    before = copy.deepcopy(G.state_dict())
    trainer.generator_step(16, real if fused_losses.compares(loss) else None)
    assert any(not torch.equal(a, b) for a, b in zip(before.values(), G.parameters(), strict=True))


def test_step_equals_its_two_phases():
    whole, parts = setup(), setup()
    real = torch.randn(16, 6)
    queue = [torch.randn(16, 4) for _ in range(2)]
    for trainer in (whole, parts):
        latents = list(queue)
        trainer.latent = lambda n, latents=latents: latents.pop(0)
    stats = whole.step(real)
    d_loss, d = parts.discriminator_step(real)
    g_loss, g = parts.generator_step(16)
    assert_same((d_loss, g_loss), (stats.d_loss, stats.g_loss))
    assert_same((d.d_fake, g.d_fake), (stats.d_fake, stats.d_fake_after))
    assert_same(everything(whole), everything(parts))


def test_each_phase_trains_its_own_network_only():
    trainer = setup()
    seen = {}

    def flags(module):
        return [p.requires_grad for p in module.parameters()]

    def watch(module, inputs, output):
        seen.setdefault(module, []).append(flags(module))

    G, D = trainer.generator, trainer.discriminator
    G.register_forward_hook(watch)
    D.register_forward_hook(watch)
    before = copy.deepcopy(G.state_dict()["0.weight"]), copy.deepcopy(D.state_dict()["0.weight"])
    trainer.discriminator_step(torch.randn(8, 6))
    assert seen == {G: [[False] * 6], D: [[True] * 4] * 2}
    assert all(p.grad is None for p in G.parameters())
    assert torch.equal(G[0].weight, before[0])
    assert not torch.equal(D[0].weight, before[1])
    seen.clear()
    trainer.d_optimizer.zero_grad()
    before = copy.deepcopy(D.state_dict())
    trainer.generator_step(8)
    assert seen == {G: [[True] * 6], D: [[False] * 4]}
    assert all(p.grad is None for p in D.parameters())
    assert all(p.grad is not None for p in G.parameters())
    assert_same(D.state_dict(), before)
    assert flags(G) == [True] * 6
    assert flags(D) == [True] * 4


def test_frozen_layers_stay_frozen():
    generator, discriminator = networks()
    discriminator[0].requires_grad_(False)
    trainer = pygan.GANTrainer(
        generator,
        discriminator,
        torch.optim.SGD(generator.parameters(), lr=0.1),
        torch.optim.SGD(discriminator[2].parameters(), lr=0.1),
        latent=4,
    )
    before = discriminator[0].weight.clone()
    trainer.step(torch.randn(8, 6))
    assert [p.requires_grad for p in discriminator.parameters()] == [False, False, True, True]
    assert torch.equal(discriminator[0].weight, before)


@pytest.mark.parametrize("phase", ["discriminator", "generator"])
def test_flags_are_restored_after_an_exception(phase):
    trainer = setup()
    state, flags, *_ = everything(trainer)

    def fail(module, inputs):
        raise RuntimeError("in the forward pass")

    trainer.discriminator.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="in the forward pass"):
        trainer.discriminator_step(torch.randn(8, 6)) if phase == "discriminator" else (
            trainer.generator_step(8)
        )
    new_state, new_flags, *_ = everything(trainer)
    assert new_flags == flags
    assert_same(new_state[1:], state[1:])


def test_generator_steps_once_after_k_discriminator_steps():
    trainer = setup(d_steps=4)
    calls = []
    trainer.g_optimizer.register_step_post_hook(lambda *_: calls.append("G"))
    trainer.d_optimizer.register_step_post_hook(lambda *_: calls.append("D"))
    sizes = []
    trainer.latent = lambda n: sizes.append(n) or torch.randn(n, 4)
    for _ in range(2):
        trainer.step([torch.randn(n, 6) for n in (8, 8, 8, 5)])
    assert "".join(calls) == "DDDDG" * 2
    assert sizes == [8, 8, 8, 5, 5] * 2


def test_statistics_are_detached_scalars_of_one_dtype():
    stats = setup(noise=pygan.InstanceNoise(Constant(0.1), seed=1)).step(torch.randn(8, 6))
    for value in stats:
        assert value.shape == ()
        assert not value.requires_grad
    values = dict(zip(stats._fields, torch.stack(stats).tolist(), strict=True))
    assert values["jsd_bound"] == pytest.approx(math.log(2) - values["d_loss"] / 2, abs=1e-6)
    assert 0 < values["d_fake_after"] < 1
    assert values["nonfinite"] == values["g_nonfinite"] == 0


def test_nonfinite_logits_are_counted():
    trainer = setup()
    real = torch.randn(8, 6)
    real[3, 2] = math.inf
    stats = trainer.step(real)
    assert stats.nonfinite == 1
    assert stats.g_nonfinite == 8  # the bad update is counted where it started


def test_nothing_is_read_from_the_device():
    trainer = setup(noise=pygan.InstanceNoise(Linear(0.5, 0, 9), seed=1), d_steps=2)
    # Adam reads its step count on the host; SGD shows only the trainer's behavior.
    trainer.d_optimizer = torch.optim.SGD(trainer.discriminator.parameters(), lr=0.1)
    trainer.g_optimizer = torch.optim.SGD(trainer.generator.parameters(), lr=0.1)
    with NoSync() as mode:
        for _ in range(2):
            trainer.step([torch.randn(8, 6)] * 2)
            trainer.noise.step()
        assert mode.ops > 100
        with pytest.raises(AssertionError, match="read back"):
            torch.zeros(()).item()


def terms(step):
    matched = (step.fake_output - step.real_output).square().mean()
    return {"pixels": (step.fake - step.real).abs().mean(), "matched": matched}


OPTIONS = {
    "plain": {},
    "average": dict(ema=0.9),
    "noise": dict(noise=0.1),
    "adaptive noise": dict(noise=Adaptive(0.0, 0.5, steps=4)),
    "mixture": dict(noise=DiffusionMixture(8)),
    "R1, R2": dict(penalties=[R1(1.0, every=2), R2(Linear(1.0, 0.5, 3))]),
    "finite differences": dict(penalties=R1(1.0, sigma=0.1)),
    "gradient penalty": dict(penalties=GradientPenalty()),
    "clipping": dict(max_grad_norm=1.0),
    "micro-batches": dict(micro_batches=3, penalties=R1(1.0)),
    "relativistic": dict(loss="relativistic", d_steps=2),
    "relativistic average": dict(loss="relativistic_average"),
    "own loss": dict(loss=fused_losses),
    "joint": dict(joint=True, noise=0.1, penalties=[R1(1.0), R1(1.0, sigma=0.1)]),
    "separate": dict(separate=True, noise=0.1, penalties=[R1(1.0), GradientPenalty()]),
    "terms": dict(generator_terms=terms, adversarial_weight=0.5, reuse_fakes=True),
    "a schedule of the weight": dict(adversarial_weight=Linear(1.0, 0.0, 9)),
    "a weight of two gradients": dict(
        generator_terms=terms,
        adversarial_weight=lambda s: adaptive_weight(s.terms["pixels"], s.g_loss, s.fake),
    ),
    "a late start": dict(generator_terms=terms, discriminator_start=2, joint=True),
    "hooks": dict(augment=lambda x: x.flip(1), generator_inputs=lambda z, labels: (z,)),
}


@contextlib.contextmanager
def no_sync(device):
    with NoSync():
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("device", [*DEVICES, "meta"])
@pytest.mark.parametrize("name", OPTIONS)
def test_no_option_synchronizes(name, device):
    """The meta device represents a GPU, which no CPU tensor may enter. The CPU runs the code without meta shortcuts."""
    G, D = (network.to(device) for network in networks())
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (G, D)]
    trainer = pygan.GANTrainer(G, D, *optimizers, latent=4, seed=1, **OPTIONS[name])
    real = torch.randn(8, 6, device=device)
    for _ in range(4):
        with no_sync(device):
            stats = trainer.step([real] * trainer.d_steps if trainer.d_steps > 1 else real)
            if trainer.noise is not None:
                trainer.noise.step(stats.real_sign)
            assert {x.device.type for x in stats} == {device}


def test_a_fused_optimizer_lets_a_scaler_skip_updates_without_synchronizing():
    for fused in (True, False):
        G, D = networks()
        adams = [torch.optim.Adam(net.parameters(), fused=fused) for net in (G, D)]
        scaler = torch.amp.GradScaler("cpu")
        trainer = pygan.GANTrainer(G, D, *adams, latent=4, scaler=scaler)
        expected = (
            contextlib.nullcontext() if fused else pytest.raises(AssertionError, match="read")
        )
        with expected, NoSync():
            for _ in range(2):
                trainer.step(torch.randn(8, 6))


def test_the_trainers_state_follows_moved_networks():
    trainer = setup(penalties=[R1(1.0, every=2), R2(1.0, every=3)], ema=0.9, noise=0.1)
    trainer.step(torch.randn(8, 6))
    for network, name in (
        (trainer.generator, "g_optimizer"),
        (trainer.discriminator, "d_optimizer"),
    ):
        network.to("meta")  # unlike for a GPU, this replaces the parameters
        setattr(trainer, name, torch.optim.SGD(network.parameters(), lr=0.1))
    trainer.noise.to("meta")
    trainer._networks.check()
    real = torch.randn(8, 6, device="meta")
    # In the first step no penalty is due, and the values from the CPU are reported again.
    for _ in range(3):
        assert {x.device.type for x in trainer.step(real)} == {"meta"}
    assert {x.device.type for x in trainer.ema.state_dict().values()} == {"meta"}
    with NoSync():
        trainer.step(real)


def test_latents_follow_the_generators_dtype():
    generator, discriminator = (network.double() for network in networks())
    trainer = pygan.GANTrainer(
        generator,
        discriminator,
        torch.optim.Adam(generator.parameters()),
        torch.optim.Adam(discriminator.parameters()),
        latent=4,
    )
    assert trainer.step(torch.randn(8, 6, dtype=torch.float64)).d_loss.dtype == torch.float64


def test_parameters_added_later_are_frozen_and_trained():
    trainer = setup()
    D = trainer.discriminator
    D.append(nn.Linear(1, 1))
    trainer.d_optimizer.add_param_group({"params": D[3].parameters()})
    before = D[3].weight.clone()
    trainer.discriminator_step(torch.randn(8, 6))
    assert not torch.equal(D[3].weight, before)
    trainer.d_optimizer.zero_grad()
    trainer.generator_step(8)
    assert D[3].weight.grad is None


def test_compiled_networks():
    plain = setup(noise=pygan.InstanceNoise(Constant(0.1), seed=1))
    G, D = networks()
    compiled = pygan.GANTrainer(
        torch.compile(G, backend="aot_eager"),
        torch.compile(D, backend="aot_eager"),
        torch.optim.Adam(G.parameters(), lr=1e-2),
        torch.optim.Adam(D.parameters(), lr=1e-2),
        latent=4,
        noise=pygan.InstanceNoise(Constant(0.1), seed=1),
    )
    for trainer in (plain, compiled):
        torch.manual_seed(2)
        trainer.stream.load_state_dict({"seed": 2, "step": 0, "offset": 0})
        for _ in range(3):
            trainer.step(torch.randn(16, 6))
    torch.testing.assert_close(G.state_dict(), plain.generator.state_dict())
    torch.testing.assert_close(D.state_dict(), plain.discriminator.state_dict())


def test_an_error_in_a_backward_hook_is_passed_on():
    """It passes through the extension's call of autograd's engine, including the traceback."""

    def hook(module, gradients, outputs):
        raise KeyError("mine")

    trainer = setup()
    trainer.discriminator[1].register_full_backward_hook(hook)
    with pytest.raises(KeyError, match="mine"):
        trainer.step(torch.randn(8, 6))
    assert all(p.requires_grad for p in trainer.generator.parameters())


@pytest.mark.cuda
def test_a_step_on_the_gpu_does_not_synchronize():
    """With networks that were moved after the trainer was created."""
    noise = pygan.InstanceNoise(Linear(0.5, 0, 9), seed=1)
    trainer = setup(noise=noise, ema=0.9, penalties=[R1(1.0, every=2), GradientPenalty()])
    trainer.generator.cuda()
    trainer.discriminator.cuda()
    trainer.noise.cuda()
    real = torch.randn(8, 6, device="cuda")
    trainer.step(real)  # the first step allocates and moves the stream
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            stats = trainer.step(real)
            trainer.noise.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.stack(stats).isfinite().all()
