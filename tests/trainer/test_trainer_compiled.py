"""GANTrainer with networks compiled by torch.compile: they are compiled once for each of the two phases, not in every
step, though freezing changes what a graph is guarded by."""

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

import pygan
from pygan.penalties import R1, R2, LeCam
from pygan.schedules import Constant, Linear


class Net(nn.Sequential):
    """With a forward of its own, because torch leaves those of its containers uncompiled in nn.Module.compile."""

    def forward(self, x):
        return super().forward(x) * 1.0


def compilations(
    *, steps=8, sizes=(16,), sampled=False, in_place=False, inside=(), region=False, **options
):
    """How often G and D have been compiled after each iteration."""
    torch._dynamo.reset()  # it counts up to a limit what it has made of the same code, for whichever module
    torch.manual_seed(0)
    G = Net(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6))
    D = Net(*inside, nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
    optimizers = [torch.optim.Adam(net.parameters()) for net in (G, D)]
    counters = [CompileCounterWithBackend("aot_eager") for _ in range(2)]
    networks = (G, D)
    if in_place:
        for network, counter in zip(networks, counters, strict=True):
            network.compile(backend=counter)
    else:
        networks = [torch.compile(n, backend=c) for n, c in zip(networks, counters, strict=True)]
    trainer = pygan.GANTrainer(*networks, *optimizers, latent=4, seed=1, **options)
    counts = []
    for i in range(steps):
        batches = [torch.randn(sizes[i % len(sizes)], 6) for _ in range(trainer.d_steps)]
        with torch.autocast("cpu", torch.bfloat16, enabled=region):
            stats = trainer.step(batches if trainer.d_steps > 1 else batches[0])
        if trainer.noise is not None:
            trainer.noise.step(stats.real_sign)
        if sampled:
            for n in (16, 5, 7):
                trainer.sample(n)
        counts.append(tuple(counter.frame_count for counter in counters))
    return counts


OPTIONS = {
    "plain": {},
    "reused fakes": dict(reuse_fakes=True),
    "several discriminator steps": dict(d_steps=3),
    "joint": dict(joint=True, noise=0.1, penalties=R1(1.0, sigma=0.1, every=2)),
    "separate": dict(separate=True, penalties=R2(1.0, sigma=0.1, every=2)),
    "adversarial weight": dict(adversarial_weight=lambda step: step.g_loss.detach()),
    "noise": dict(noise=Linear(0.5, 0.0, 5)),
    "sampled": dict(sampled=True),
    "sampled from an average": dict(sampled=True, ema=0.9),
    "R1 by finite differences": dict(penalties=R1(Linear(1.0, 0.5, 4), sigma=0.1)),
    "both, lazily, with noise, sampled": dict(
        penalties=[R1(1.0, sigma=0.1, every=2), R2(1.0, sigma=0.1, every=3)],
        noise=0.1,
        sampled=True,
        steps=10,
    ),
    "finite differences through what draws": dict(
        penalties=R1(1.0, sigma=0.1, every=2), inside=[nn.BatchNorm1d(6), nn.Dropout(0.2)]
    ),
    "LeCam, clipped": dict(penalties=LeCam(0.3), max_grad_norm=1.0),
    "autocast": dict(region=True),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_only_the_first_steps_compile(name):
    counts = compilations(**OPTIONS[name])
    g, d = counts[0]
    # Trained, and frozen; under autocast the real samples, fp32, come in another dtype than the generated ones.
    assert 1 <= g <= 2 and 2 <= d <= (3 if name == "autocast" else 2)
    assert set(counts) == {(g, d)}


def test_noise_within_a_compiled_discriminator():
    noise = pygan.InstanceNoise(Constant(0.1), seed=1)
    counts = compilations(inside=[noise], penalties=R1(1.0, sigma=0.1, every=2))
    assert len(set(counts)) == 1


@pytest.mark.parametrize(
    "options", [dict(loss="relativistic_average"), dict(micro_batches=3)], ids=str
)
def test_each_other_kind_of_forward_pass_compiles_once(options):
    """Without a graph, and of the micro-batches, which are of two sizes here."""
    counts = compilations(**options)
    assert set(counts) == {counts[0]}
    assert max(counts[0]) <= 5


def test_another_batch_size_compiles_once_more():
    """torch.compile takes the size for a number that changes, as soon as it has seen a second one."""
    counts = compilations(sizes=(16, 16, 9, 12, 16, 7), steps=12)
    assert counts[:2] == [(2, 2)] * 2
    assert set(counts[2:]) == {(4, 4)}


def test_networks_compiled_in_place():
    """Then samples are made by the compiled generator: in eval mode, of the first size, and of any."""
    counts = compilations(in_place=True, sampled=True)
    assert counts[0][0] <= 4 and set(counts) == {counts[0]}
