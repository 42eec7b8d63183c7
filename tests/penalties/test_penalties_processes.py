"""Penalties in custom loops with two processes: the averages equal those of one process with the whole batch, and a
finite difference compares passes with the same buffers."""

import pytest
import torch
from helpers import free_port, process_group
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import pygan
from pygan.penalties import R1, LeCam, PathLength, approximate_r1

pytest.importorskip("torch.distributed", reason="torch without distributed")
pytestmark = pytest.mark.slow


def normals(seed, *shape):
    return torch.randn(
        shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).requires_grad_()


def lecam_of(rank=None):
    """LeCam with shares of different sizes: 4 and 3 real samples, 3 and 2 generated ones."""
    lecam = LeCam(0.3, 0.9, 1, scales=2)
    for seed in range(3):
        real, fake = normals(seed, 7, 2), normals(seed + 9, 5, 1)
        if rank is not None:
            real, fake = (x.tensor_split(2)[rank] for x in (real, fake))
        lecam([real, 2 * real], [fake, fake])
    return lecam.averages


def path_length_of(rank=None):
    """Path length with norms that depend only on the latents' scale, whatever y is drawn."""
    path = PathLength(1.0, 0.5)
    for seed in range(3):
        z = normals(seed, 7, 1)
        z = z if rank is None else z.tensor_split(2)[rank]
        z = z.detach().requires_grad_()
        generator = torch.Generator().manual_seed(seed)
        y = torch.randn(z.shape, generator=generator, dtype=z.dtype)
        # d images / dz is z / |y|, so that the norm is |z|.
        path(z.square() / 2 / y.abs(), z, generator=generator.manual_seed(seed))
    return path.averages


class Counts(nn.Module):
    """The output depends on a buffer that differs between processes until the first one's is broadcast."""

    def __init__(self, rank):
        super().__init__()
        self.rank, self.layer = rank, nn.Linear(6, 1)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x):
        y = self.layer(x) * self.scale
        self.scale = self.scale + self.rank
        return y


def finite_differences(rank):
    """(estimate, exact value) for a linear discriminator, step by step; then for two steps of a trainer."""
    torch.manual_seed(0)
    D = DistributedDataParallel(Counts(rank))
    x = torch.randn(20_000, 6)
    pairs = []
    for _ in range(3):
        penalty, _ = approximate_r1(D, x, gamma=2.0, sigma=0.01, stream=pygan.NoiseStream(1))
        penalty.backward()
        pairs.append((penalty.detach(), D.module.layer.weight.detach().square().sum()))
    grads = D.module.layer.weight.grad.clone()

    G, D = nn.Linear(4, 6), DistributedDataParallel(Counts(rank))
    G = DistributedDataParallel(G)
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.0) for net in (G, D)]
    trainer = pygan.GANTrainer(
        G, D, *optimizers, latent=4, seed=1, d_steps=3, penalties=R1(2.0, sigma=0.01)
    )
    value = trainer.step([x] * 3).penalty
    pairs.append((value, D.module.layer.weight.detach().square().sum()))
    return pairs, grads


def both_in_one_pass(rank=None):
    """r1 and r2 for a wrapped discriminator, whose gradients are the mean over both processes."""
    torch.manual_seed(0)
    D = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    x = normals(1, 8, 6).detach()
    x = (x if rank is None else x.chunk(2)[rank]).requires_grad_()
    D = D if rank is None else DistributedDataParallel(D)
    real, fake = x.detach().requires_grad_(), (2 * x).detach().requires_grad_()
    logits = D(torch.cat([real, fake])).chunk(2)
    (pygan.penalties.r1_and_r2(real, fake, *logits, 1.0) + 0.1 * logits[0].mean()).backward()
    return [p.grad for p in D.parameters()]


def tiny_shares(rank):
    """Of 3 samples, one process has 2 and the other 1, which cannot give two micro-batches in both."""
    G, D = (DistributedDataParallel(net) for net in (nn.Linear(4, 6), nn.Linear(6, 1)))
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (G, D)]
    trainer = pygan.GANTrainer(
        G, D, *optimizers, latent=4, seed=1, micro_batches=2, penalties=LeCam(0.3)
    )
    trainer.step(normals(1, 3, 6).float().detach().tensor_split(2)[rank], total=3)
    return trainer.penalties[0].state_dict()


def worker(rank, port, results):
    with process_group(rank, port):
        results[rank, "lecam"] = lecam_of(rank)
        results[rank, "path length"] = path_length_of(rank)
        results[rank, "differences"] = finite_differences(rank)
        results[rank, "joint"] = both_in_one_pass(rank)
        results[rank, "tiny"] = tiny_shares(rank)


@pytest.fixture(scope="module")
def results():
    context = torch.multiprocessing.get_context("spawn")
    shared = context.Manager().dict()
    torch.multiprocessing.spawn(worker, (free_port(), shared), nprocs=2)
    return dict(shared)


@pytest.mark.parametrize(("name", "of"), [("lecam", lecam_of), ("path length", path_length_of)])
def test_averages_equal_those_of_one_process(results, name, of):
    torch.testing.assert_close(results[0, name], results[1, name], rtol=0, atol=0)
    torch.testing.assert_close(results[0, name], of())


def test_processes_have_equally_many_micro_batches(results):
    """Each micro-batch updates the averages; if one process had more than the other, they deadlocked."""
    torch.testing.assert_close(results[0, "tiny"], results[1, "tiny"], rtol=0, atol=0)
    assert results[0, "tiny"]["calls"] == 1


def test_passes_of_a_finite_difference_have_the_same_buffers(results):
    """With different buffers in the two passes, the estimate was that of the buffers' difference over sigma."""
    for rank in (0, 1):
        pairs, grads = results[rank, "differences"]
        for got, want in pairs:
            torch.testing.assert_close(got, want, rtol=0.1, atol=0)
        torch.testing.assert_close(grads, results[0, "differences"][1])


def test_r1_and_r2_of_one_pass_of_a_wrapped_discriminator(results):
    for rank in (0, 1):
        torch.testing.assert_close(results[rank, "joint"], both_in_one_pass())
