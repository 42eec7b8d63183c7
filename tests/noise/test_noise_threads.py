"""One NoiseStream in several threads, and in DataLoader workers: no noise is drawn twice."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers import raises
from torch.utils.data import DataLoader, Dataset, get_worker_info

import pygan
from pygan import NoiseStream, instance_noise
from pygan.schedules import Constant

CALLS = 240
X = torch.zeros(64)
SIGMA = torch.ones((), requires_grad=True)

# Functions that draw tensors, and the number of steps that they take.
WAYS = {
    "one": (1, lambda stream: [instance_noise(X, 1.0, stream=stream)]),
    "out": (1, lambda stream: [instance_noise(X, 1.0, stream=stream, out=torch.empty(64))]),
    "list": (3, lambda stream: instance_noise([X, X.double(), X], 1.0, stream=stream)),
    "pair": (2, lambda stream: pygan.instance_noise_pair(X, X, 1.0, stream=stream).split(64)),
    "gradient of sigma": (1, lambda stream: [instance_noise(X, SIGMA, stream=stream)]),
    "gradient of sigma, list": (2, lambda stream: instance_noise([X, X], SIGMA, stream=stream)),
}


@pytest.mark.parametrize("name", WAYS)
def test_threads_draw_different_noise(name):
    steps, draw = WAYS[name]
    want = []
    stream = NoiseStream(5)
    for _ in range(CALLS):
        want += draw(stream)
    shared = NoiseStream(5)
    with ThreadPoolExecutor(4) as pool:
        got = [t for drawn in pool.map(lambda _: draw(shared), range(CALLS)) for t in drawn]
    assert shared.step == CALLS * steps

    def distinct(tensors):
        return {t.detach().float().numpy().tobytes() for t in tensors}

    assert len(distinct(got)) == CALLS * steps
    assert distinct(got) == distinct(want)


class Noisy(Dataset):
    """Eight items with the noise that `draw` gives in a worker."""

    def __init__(self, draw):
        self.draw = draw

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return self.draw()


class FromOutside:
    def __init__(self):
        self.stream = NoiseStream(1)

    def __call__(self):
        return instance_noise(torch.zeros(8), 1.0, stream=self.stream)


class Module(FromOutside):
    def __init__(self):
        self.noise = pygan.InstanceNoise(Constant(1.0), seed=1)

    def __call__(self):
        return self.noise(torch.zeros(8))


class FromInside(FromOutside):
    def __call__(self):
        if self.stream.seed == 1:
            self.stream = NoiseStream(get_worker_info().seed)
        return super().__call__()


class Reseeded(FromOutside):
    def __call__(self):
        if self.stream.seed == 1:
            seed = get_worker_info().seed
            self.stream.load_state_dict({"seed": seed, "step": 0, "offset": 0})
        return super().__call__()


def without_a_stream():
    return instance_noise(torch.zeros(8), 1.0)


def loaded(draw, start):
    torch.manual_seed(0)
    loader = DataLoader(
        Noisy(draw), batch_size=2, num_workers=2, multiprocessing_context=start, timeout=120
    )
    return torch.cat(list(loader))


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.parametrize("draw", [FromOutside, Module])
def test_workers_may_not_repeat_a_stream(draw, start):
    with pytest.raises(RuntimeError, match="must be created in the DataLoader worker that draws"):
        loaded(draw(), start)


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.parametrize("draw", [FromInside, Reseeded, lambda: without_a_stream])
def test_workers_draw_different_noise(draw, start):
    draws = loaded(draw(), start)
    assert len(draws.unique(dim=0)) == 8
    assert torch.equal(draws, loaded(draw(), start))  # determined by torch.manual_seed


def test_a_loader_without_workers_draws_from_the_stream():
    draws = torch.cat(list(DataLoader(Noisy(FromOutside()), batch_size=2)))
    stream = NoiseStream(1)
    want = [instance_noise(torch.zeros(8), 1.0, stream=stream) for _ in range(8)]
    assert torch.equal(draws, torch.stack(want))


def test_tracing_with_a_stream_is_refused():
    stream = NoiseStream(1)
    message = "pygan.instance_noise: torch.jit.trace is not supported with a stream"
    with raises(NotImplementedError, message, "use torch.compile or torch.export"):
        torch.jit.trace(lambda x: instance_noise(x, 0.5, stream=stream), (torch.zeros(3),))
    assert stream.step == 0
