"""Streams of processes that share a batch: together they draw the noise of one process."""

import pytest
import torch
from helpers import DEVICES, free_port, process_group, raises
from helpers.noise import LAYOUTS

import pygan
from pygan import NoiseStream, instance_noise, instance_noise_pair
from pygan._compile import COMPILED
from pygan.schedules import Constant, DiffusionMixture


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_ranks_draw_the_noise_of_one_process(world_size, layout, device):
    whole = [LAYOUTS[layout](torch.randn(24, 3, n, 5, device=device)) for n in (4, 1)]
    one = NoiseStream(7, step=5, offset=11, device=device)
    ranks = [
        NoiseStream.for_rank(7, rank, world_size, step=5, offset=11, device=device)
        for rank in range(world_size)
    ]
    shards = list(zip(*[x.chunk(world_size) for x in whole], strict=True))
    expected = instance_noise(whole, 0.5, stream=one)
    parts = [instance_noise(xs, 0.5, stream=s) for xs, s in zip(shards, ranks, strict=True)]
    for y, pieces in zip(expected, zip(*parts, strict=True), strict=True):
        assert torch.equal(y, torch.cat(pieces))
    batch = instance_noise_pair(whole[0], whole[0] + 1, 0.5, stream=one)
    halves = [
        instance_noise_pair(xs[0], xs[0] + 1, 0.5, stream=s).chunk(2)
        for xs, s in zip(shards, ranks, strict=True)
    ]
    assert torch.equal(batch, torch.cat([torch.cat(half) for half in zip(*halves, strict=True)]))
    assert all(s.state_dict() == one.state_dict() for s in ranks)
    assert not torch.equal(expected[0], whole[0])


def test_gradient_of_sigma_covers_the_rank():
    x = torch.randn(8, 3)
    sigma = torch.tensor(0.5, requires_grad=True)
    z = instance_noise(torch.zeros(8, 3), 1.0, stream=NoiseStream(7))
    instance_noise(x[4:], sigma, stream=NoiseStream.for_rank(7, 1, 2)).sum().backward()
    torch.testing.assert_close(sigma.grad, z[4:].sum())


def test_a_state_dict_loads_on_every_rank():
    saved = NoiseStream.for_rank(7, 1, 2, step=5).state_dict()
    stream = NoiseStream.for_rank(0, 2, 4)
    stream.load_state_dict(saved)
    assert (stream.seed, stream.step, stream.rank) == (7, 5, 2)
    assert repr(stream) == "NoiseStream(seed=7, step=5, offset=0, rank=2, device='cpu')"


BAD = [
    ((7, 2, 2), ValueError, "rank must be from 0 to world_size - 1, 1, got 2"),
    ((7, -1, 2), ValueError, "rank must be from 0 to world_size - 1, 1, got -1"),
    ((7, 1.0, 2), TypeError, "rank must be an int, got float"),
    ((7, 0, True), TypeError, "world_size must be an int, got bool"),
    ((7, 0), TypeError, "rank and world_size must be given together"),
    ((7,), RuntimeError, "rank and world_size must be given if torch.distributed is not init"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_invalid_ranks_are_refused(arguments, error, message):
    with raises(error, "pygan.NoiseStream.for_rank: " + message):
        NoiseStream.for_rank(*arguments)


def draws(x):
    """The noise of every op and module, inside or outside of a process group."""
    torch.manual_seed(0)
    module = pygan.InstanceNoise(Constant(0.5), seed=3)
    mixture = pygan.InstanceNoise(DiffusionMixture(1, t_min=500, clean=0.25))
    results = [module(x), module(x), mixture(x), mixture(x)]
    compiled = torch.compile(module, fullgraph=COMPILED, backend="aot_eager")
    return torch.stack([*results, compiled(x), compiled(x)])


def rank_draws(rank, port, results):
    with process_group(rank, port):
        x = torch.zeros(6, 5).chunk(2)[rank]
        stream = NoiseStream.for_rank(9)
        results[rank] = (draws(x), instance_noise(x, 0.5, stream=stream), stream.rank)


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_processes_draw_the_noise_of_one_process():
    context = torch.multiprocessing.get_context("spawn")
    results = context.Manager().dict()
    torch.multiprocessing.spawn(rank_draws, (free_port(), results), nprocs=2)
    x = torch.zeros(6, 5)
    assert torch.equal(draws(x), torch.cat([results[0][0], results[1][0]], dim=1))
    drawn = instance_noise(x, 0.5, stream=NoiseStream(9))
    assert torch.equal(drawn, torch.cat([results[0][1], results[1][1]]))
    assert [results[rank][2] for rank in (0, 1)] == [0, 1]
