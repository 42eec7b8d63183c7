"""Discriminators: several discriminators as one module, trained like the scales of one."""

import copy

import pytest
import torch
from helpers import free_port, process_group, raises, sharded_on_cpu
from helpers.trainer import assert_same, networks
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

import pygan
from pygan import Discriminators, fused_losses
from pygan.penalties import R1


class WithFeatures(nn.Module):
    """Like a discriminator of HiFi-GAN: logits and the outputs of the layers, optionally with a condition."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x, labels=None, *, slope=0.1):
        features = nn.functional.leaky_relu(self.layer(x), slope)
        logits = self.head(features if labels is None else features + labels)
        return logits, [features, logits]


def two(seed=1):
    torch.manual_seed(seed)
    return Discriminators(
        nn.Linear(6, 1), nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
    )


def train(D, data, **options):
    G = networks()[0].double()
    D.double()
    optimizers = [torch.optim.Adam(net.parameters(), lr=1e-2) for net in (G, D)]
    trainer = pygan.GANTrainer(G, D, *optimizers, latent=4, seed=0, **options)
    return trainer, [torch.stack(trainer.step(real)) for real in data]


DATA = torch.randn(4, 8, 6, dtype=torch.float64)


def test_it_is_a_callable_module_list():
    first, second = WithFeatures(), WithFeatures()
    D = Discriminators(first, second)
    x, labels = torch.randn(3, 6), torch.randn(3, 1)
    assert_same(D(x, labels, slope=0.3), [d(x, labels, slope=0.3) for d in (first, second)])
    assert len(D) == 2 and list(D) == [D[0], D[1]] == [first, D[-1]]
    assert list(D.parameters()) == [*first.parameters(), *second.parameters()]
    assert set(D.state_dict()) == set(nn.ModuleList([first, second]).state_dict())
    loaded = Discriminators(WithFeatures(), WithFeatures())
    loaded.load_state_dict(nn.ModuleList([first, second]).state_dict())
    assert_same(loaded(x), copy.deepcopy(D)(x))


@pytest.mark.parametrize("weights", [None, [1.0, 0.25]])
def test_plain_tensors_are_the_scales(weights):
    """Without logits=; equal to a manual loop."""
    trainer, rows = train(two(), DATA, weights=weights, loss="hinge")
    (G, _), Ds = networks(), two().double()
    G.double()
    g_optimizer = torch.optim.Adam(G.parameters(), lr=1e-2)
    d_optimizer = torch.optim.Adam([p for d in Ds for p in d.parameters()], lr=1e-2)
    stream = pygan.NoiseStream(trainer.stream.seed)
    for real, row in zip(DATA, rows, strict=True):
        latents = [
            pygan.instance_noise(torch.zeros(8, 4, dtype=torch.float64), 1.0, stream=stream)
            for _ in range(2)
        ]
        with torch.no_grad():
            fake = G(latents[0])
        d_loss = fused_losses.discriminator_loss(
            [d(real) for d in Ds], [d(fake) for d in Ds], loss="hinge", weights=weights
        )
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        fake = G(latents[1])
        g_loss = fused_losses.generator_loss([d(fake) for d in Ds], loss="hinge", weights=weights)
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
        torch.testing.assert_close(row[:2], torch.stack([d_loss, g_loss]).detach())
    torch.testing.assert_close(trainer.generator.state_dict(), G.state_dict())
    torch.testing.assert_close(trainer.discriminator.state_dict(), Ds.state_dict())


def test_logits_are_selected_from_the_outputs_of_each():
    def pick(outputs):
        return [logits for logits, _ in outputs]

    class Logits(nn.Module):
        def __init__(self, judge):
            super().__init__()
            self.judge = judge

        def forward(self, x):
            return self.judge(x)[0]

    torch.manual_seed(2)
    D = Discriminators(WithFeatures(), WithFeatures())
    plain = Discriminators(*map(Logits, copy.deepcopy(D)))
    options = dict(penalties=[R1(1.0)], weights=[0.5, 1.0])
    _, rows = train(D, DATA, logits=pick, **options)
    _, want = train(plain, DATA, **options)
    assert_same(rows, want)
    with pytest.raises(TypeError, match=r"discriminator must return logits.*pass logits="):
        train(Discriminators(WithFeatures(), WithFeatures()), DATA)


def test_compiled_discriminators_compile_once_per_phase(fresh):
    counter = CompileCounterWithBackend("aot_eager")
    G, D = networks()[0].double(), two().double()
    compiled = torch.compile(D, backend=counter)
    optimizers = [torch.optim.Adam(net.parameters(), lr=1e-2) for net in (G, D)]
    trainer = pygan.GANTrainer(G, compiled, *optimizers, latent=4, seed=0, weights=[1.0, 2.0])
    rows = [torch.stack(trainer.step(real)) for real in DATA]
    _, want = train(two(), DATA, weights=[1.0, 2.0])
    torch.testing.assert_close(rows, want)
    assert counter.frame_count == 2  # one graph for training, one for the frozen module


REAL = torch.linspace(-1, 1, 48, dtype=torch.float64).view(8, 6)


def without_batch_norm():
    """A generator and two discriminators without interaction between samples."""
    torch.manual_seed(4)
    return nn.Linear(4, 6).double(), two().double()


def sharded(rank, port, shared):
    with process_group(rank, port):
        from torch.distributed.fsdp import fully_shard

        G, D = without_batch_norm()
        mesh = torch.distributed.init_device_mesh("cpu", (2,))
        for module in (D[1], D, G):
            fully_shard(module, mesh=mesh)
        optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (G, D)]
        trainer = pygan.GANTrainer(G, D, *optimizers, latent=4, seed=0)
        stats = trainer.step(REAL[4 * rank : 4 * rank + 4])
        state = trainer.state_dict()["discriminator"]
        if rank == 0:
            shared.update(d_loss=stats.d_loss.item(), state=state)


@sharded_on_cpu
def test_it_can_be_sharded():
    """torch refuses an nn.ModuleList, even one with a forward."""
    context = torch.multiprocessing.get_context("spawn")
    shared = context.Manager().dict()
    torch.multiprocessing.spawn(sharded, (free_port(), shared), nprocs=2)
    G, D = without_batch_norm()
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (G, D)]
    trainer = pygan.GANTrainer(G, D, *optimizers, latent=4, seed=0)
    assert shared["d_loss"] == pytest.approx(trainer.step(REAL).d_loss.item())
    torch.testing.assert_close(shared["state"], D.state_dict())


LINEAR = nn.Linear(2, 1)


@pytest.mark.parametrize(
    ("modules", "error", "message"),
    [
        ((), ValueError, "modules must hold at least one nn.Module, got none"),
        (([LINEAR],), TypeError, "modules[0] must be an nn.Module, got a list of length 1"),
        ((LINEAR, None), TypeError, "modules[1] must be an nn.Module, got NoneType"),
        ((LINEAR, LINEAR), ValueError, "modules must all be different, got modules[1] twice"),
    ],
)
def test_invalid_members_are_refused(modules, error, message):
    with raises(error, "pygan.Discriminators: " + message):
        Discriminators(*modules)
