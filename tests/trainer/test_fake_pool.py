"""FakePool: the algorithm of CycleGAN's pool of past fakes, its state, and no synchronization."""

import copy
import io
import math

import pytest
import torch
from helpers import DEVICES, raises
from helpers.sync import NoSync

import pygan
from pygan import FakePool


def numbered(first, n):
    """Samples whose values are their numbers."""
    return torch.arange(first, first + n, dtype=torch.float32).view(n, 1)


def numbers(x):
    return x.flatten().tolist()


def one_after_the_other(samples, size, probability, seed):
    """CycleGAN's algorithm, sample by sample, with the pool's random numbers."""
    stream, stored, handed_out = pygan.NoiseStream(seed), [], []
    for sample in samples:
        if len(stored) < size:
            stored.append(sample)
            handed_out.append(sample)
            continue
        draws = pygan.instance_noise(torch.zeros(2, size), 1.0, stream=stream)
        if torch.special.ndtr(draws[1, 0].double()).item() < probability:
            slot = min(range(size), key=draws[0].tolist().__getitem__)
            handed_out.append(stored[slot])
            stored[slot] = sample
        else:
            handed_out.append(sample)
    return handed_out, stored


@pytest.mark.parametrize("probability", [0.01, 0.5, 0.9, 1.0])
def test_batches_of_one_equal_the_sequential_algorithm(probability):
    pool = FakePool(7, probability=probability, seed=3)
    handed_out = [pool(numbered(i, 1)).item() for i in range(300)]
    want, stored = one_after_the_other(map(float, range(300)), 7, probability, 3)
    assert handed_out == want
    assert numbers(pool.state_dict()["stored"]["[0]"]) == stored


def test_while_filling_samples_are_stored_and_returned():
    pool = FakePool(10, probability=1.0, seed=0)
    for first in (0, 4):
        x = numbered(first, 4)
        assert torch.equal(pool(x), x)
        assert len(pool) == first + 4
    assert pool.stream.step == 0  # nothing was drawn
    out = numbers(pool(numbered(8, 4)))  # two fill the pool, and two are exchanged
    assert out[:2] == [8, 9] and len(pool) == 10
    assert len({*out[2:]}) == 2 and {*out[2:]} <= {*range(10)}
    assert {*numbers(pool._stored["[0]"])} == {*range(12)} - {*out[2:]}
    assert pool.stream.step == 1


def test_no_sample_is_lost_or_returned_twice_in_a_batch():
    pool = FakePool(10, seed=0)
    seen, there = 0, set()
    for n in (10, 10, 3, 7, 1, 10, 9) * 30:
        out = numbers(pool(numbered(seen, n)))
        there |= {*range(seen, seen + n)}
        assert len({*out}) == n
        if seen:
            there -= {*out}
            assert {*numbers(pool._stored["[0]"])} == there
        seen += n


@pytest.mark.parametrize("probability", [0.2, 0.5])
def test_chances_of_exchanges_slots_and_ages(probability):
    size, n, steps = 16, 4, 4000
    pool = FakePool(size, probability=probability, seed=1)
    for _ in range(size // n):
        pool(numbered(0, n))
    slots, exchanged, ages = torch.zeros(size), torch.zeros(n), []
    for i in range(steps):
        x = numbered(i * n + 1, n)
        before = pool._stored["[0]"].clone()
        out = pool(x)
        slots += (pool._stored["[0]"] != before).flatten()
        exchanged += (out != x).flatten()
        if i > steps // 4:
            ages.append(i - (out[out != x] - 1).div(n, rounding_mode="floor"))
    # Binomial counts are within five standard deviations.
    for counts, p in ((exchanged, probability), (slots, probability * n / size)):
        deviation = math.sqrt(steps * p * (1 - p))
        assert (counts - steps * p).abs().max() < 5 * deviation
    # A slot is exchanged with the same probability in each step, so that the age is geometric.
    p, ages = probability * n / size, torch.cat(ages)
    assert ages.mean().item() == pytest.approx(1 / p, rel=0.05)
    for t in (1, 3, 10):
        share = (ages <= t).double().mean().item()
        assert share == pytest.approx(1 - (1 - p) ** t, abs=0.02)


LABELS = {
    "tensor": lambda x: x.long(),
    "dict": lambda x: {"class": x.long(), "text": (x * 2, [x.to(torch.uint8)])},
    "tuple": lambda x: (x.double(), x.expand(-1, 3)),
}


def leaves(tree):
    return torch.utils._pytree.tree_leaves(tree)


@pytest.mark.parametrize("name", LABELS)
def test_an_old_sample_is_returned_with_its_labels(name):
    make = LABELS[name]
    pool, alone = FakePool(6, seed=2), FakePool(6, seed=2)
    exchanged = 0
    for i in range(20):
        x = numbered(5 * i, 5)
        out, labels = pool(x, make(x))
        assert torch.equal(out, alone(x))
        want = make(out)
        assert torch.utils._pytree.tree_structure(labels) == torch.utils._pytree.tree_structure(
            want
        )
        for a, b in zip(leaves(labels), leaves(want), strict=True):
            assert a.dtype == b.dtype and torch.equal(a, b)
        exchanged += (out != x).sum()
    assert 25 < exchanged < 70


def test_dicts_may_have_another_key_order():
    pool = FakePool(4, probability=1.0, seed=0)
    x, y = numbered(0, 4), numbered(4, 4)
    pool(x, {"a": x, "b": -x})
    out, labels = pool(y, {"b": -y, "a": y})
    assert list(labels) == ["b", "a"]
    assert torch.equal(labels["a"], out) and torch.equal(labels["b"], -out)
    assert sorted(numbers(out)) == [0, 1, 2, 3]


def test_outputs_are_detached_and_have_the_form_of_the_input():
    pool = FakePool(4, probability=1.0, seed=0)
    G = torch.nn.Conv2d(1, 3, 1).to(memory_format=torch.channels_last)
    for _ in range(3):
        fake = G(torch.randn(4, 1, 5, 5).to(memory_format=torch.channels_last))
        copied = fake.detach().clone()
        out = pool(fake)
        assert not out.requires_grad
        assert out.stride() == fake.stride()
        assert torch.equal(fake, copied)
    assert not any(x.requires_grad for x in pool._stored.values())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.uint8, torch.bool])
def test_any_dtype_is_stored_unchanged(dtype):
    pool, floats = FakePool(4, seed=0), FakePool(4, seed=0)
    for i in range(5):
        x = numbered(i, 3)
        out = pool(x.to(dtype))
        assert out.dtype == dtype
        assert torch.equal(out, floats(x).to(dtype))


@pytest.mark.parametrize("stop", [0, 1, 2, 5])
def test_a_loaded_state_continues_bitwise(stop):
    """Also while filling; in a new pool, and in one that has stored other samples."""

    def call(pool, i):
        x = numbered(3 * i, 3)
        return pool(x, {"y": x.int()})

    whole = FakePool(5, seed=4)
    results = [call(whole, i) for i in range(9)]
    first, fresh, used = FakePool(5, seed=4), FakePool(5), FakePool(5)
    for i in range(stop):
        call(first, i)
    used(torch.randn(5, 2), torch.randn(5))
    state = first.state_dict()
    call(first, stop)  # the saved state does not change
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    for pool in (fresh, used, first):
        pool.load_state_dict(state)
        assert len(pool) == min(3 * stop, 5)
        rest = [call(pool, i) for i in range(stop, 9)]
        torch.testing.assert_close(rest, results[stop:], rtol=0, atol=0)
        torch.testing.assert_close(pool.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_loading_a_state_writes_in_place():
    pool = FakePool(3, seed=0)
    pool(numbered(0, 3))
    state = pool.state_dict()
    memory = [pool._stored["[0]"].data_ptr(), pool.stream.state.data_ptr()]
    for i in range(3):
        pool(numbered(i, 2))
    pool.load_state_dict(state)
    assert [pool._stored["[0]"].data_ptr(), pool.stream.state.data_ptr()] == memory
    assert numbers(pool._stored["[0]"]) == [0, 1, 2]


@pytest.mark.parametrize("device", [*DEVICES, "meta"])
def test_it_does_not_synchronize(device):
    """While filling and afterwards, except for the first call, which moves the stream to the device."""
    pool = FakePool(10, seed=0)
    x = torch.randn(4, 3, device=device)
    pool(x, x)
    with NoSync() as mode:
        for _ in range(4):
            out, labels = pool(x, {"x": x}["x"])
            assert out.device == labels.device == x.device
        assert mode.ops > 20


def test_a_full_pool_changes_no_host_number_or_address():
    """A captured CUDA graph would freeze these."""
    pool = FakePool(5, seed=0)
    for i in range(3):
        pool(numbered(i, 3))

    def host():
        found = {k: v for k, v in vars(pool).items() if k not in ("stream", "_stored")}
        kept = [*pool._stored.values(), pool.stream.state]
        return found, [x.data_ptr() for x in kept], pool.stream.offset, pool.stream.rank

    before, step = host(), pool.stream.step
    pool(numbered(9, 3))
    assert host() == before
    assert pool.stream.step == step + 1


@pytest.mark.cuda
def test_replays_of_a_captured_call_equal_eager_calls():
    eager, captured = FakePool(5, seed=0), FakePool(5, seed=0)
    x = numbered(0, 3).cuda()
    for pool in (eager, captured):
        pool(x)
    with (
        torch.cuda.graph(torch.cuda.CUDAGraph()),
        pytest.raises(RuntimeError, match="must be full before a CUDA graph"),
    ):
        captured(x)
    for pool in (eager, captured):
        pool(x)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = captured(x)
    for i in range(20):
        x.copy_(numbered(3 * i, 3))
        graph.replay()
        assert torch.equal(out, eager(x))


@pytest.mark.cuda
def test_the_pool_follows_its_samples_to_the_gpu():
    cpu, moved = FakePool(5, seed=0), FakePool(5, seed=0)
    for i in range(8):
        x = numbered(3 * i, 3)
        out = moved(x if i < 4 else x.cuda())
        assert torch.equal(cpu(x), out.cpu())


def test_processes_with_the_same_seed_draw_differently(monkeypatch):
    """Each process has its own pool; the state does not depend on the process."""

    def run(rank):
        monkeypatch.setattr(pygan.fake_pool, "is_distributed", lambda: rank is not None)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda: rank)
        pool = FakePool(20, seed=0)
        for i in range(3):
            out = pool(numbered(20 * i, 20))
        return numbers(out), pool.state_dict()["stream"]

    (first, a), (second, b), (alone, c) = map(run, (0, 1, None))
    assert first == alone != second
    assert a == b == c


def test_torchs_seed_reproduces_a_pool():
    pools = []
    for _ in range(2):
        torch.manual_seed(5)
        pools.append(FakePool(3))
    for i in range(5):
        outs = [pool(numbered(3 * i, 3)) for pool in pools]
        assert torch.equal(*outs)


X = torch.zeros(3, 2)
WRONG = {
    "size": (lambda pool: FakePool(0), ValueError, "size must be an int of at least 1, got 0"),
    "size, bool": (lambda pool: FakePool(True), ValueError, "size must be an int"),
    "probability": (
        lambda pool: FakePool(probability=0.0),
        ValueError,
        "probability must be above 0 and at most 1, got 0.0",
    ),
    "probability, NaN": (
        lambda pool: FakePool(probability=math.nan),
        ValueError,
        "probability must be above 0",
    ),
    "probability, text": (
        lambda pool: FakePool(probability="0.5"),
        TypeError,
        "probability must be a number",
    ),
    "fake": (lambda pool: pool([X]), TypeError, "fake must be a tensor (N, ...), got a list"),
    "fake, 0-d": (lambda pool: pool(torch.zeros(())), TypeError, "fake must be a tensor (N, ...)"),
    "empty": (lambda pool: pool(X[:0], X[:0]), ValueError, "fake must be a batch of 1 to 4", "got 0"),
    "large": (
        lambda pool: pool(torch.zeros(5, 2), torch.zeros(5)),
        ValueError,
        "fake must be a batch of 1 to 4 samples, the pool's size, got 5",
    ),
    "dtype": (
        lambda pool: pool(X.double(), X),
        TypeError,
        "fake must have the stored dtype, torch.float32, got torch.float64",
    ),
    "dtype of labels": (lambda pool: pool(X, X.long()), TypeError, "labels must have the stored dtype"),
    "shape": (
        lambda pool: pool(X[:, :1], X),
        ValueError,
        "fake must have the stored shape, (N, 2), got (3, 1)",
    ),
    "shape of labels": (lambda pool: pool(X, X[:, 0]), ValueError, "labels must have the stored shape"),
    "no labels": (lambda pool: pool(X), ValueError, "labels must have the same structure", "got None"),
    "other labels": (
        lambda pool: pool(X, {"a": X, "b": [X]}),
        ValueError,
        "labels must have the same structure in every call, labels, got labels['a'], labels['b'][0]",
    ),
    "labels, number": (lambda pool: pool(X, (X, 3)), TypeError, "labels[1] must be a tensor, got int"),
    "labels, nothing": (lambda pool: pool(X, ()), ValueError, "labels must hold a tensor, or be None"),
    "labels, fewer": (
        lambda pool: pool(X, {"a": X[:2]}),
        ValueError,
        "labels['a'] must have a first dimension of 3, like the samples, got a tensor of shape (2, 2)",
    ),
    "labels, device": (
        lambda pool: pool(X, X.to("meta")),
        ValueError,
        "labels must be on the samples' device, cpu, got meta",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_use_changes_nothing(name):
    use, error, *message = WRONG[name]
    pool = FakePool(4, seed=0)
    pool(X + 1, X)
    before, attributes = copy.deepcopy(pool.state_dict()), vars(pool).keys()
    with raises(error, "pygan.FakePool: " + message[0], *message[1:]):
        use(pool)
    torch.testing.assert_close(pool.state_dict(), before, rtol=0, atol=0)
    assert vars(pool).keys() == attributes


STREAM = {"seed": 0, "step": 0, "offset": 0}
STATES = {
    "list": ([], TypeError, "state_dict must be a dict"),
    "keys": ({"size": 4}, KeyError, "state_dict must have the keys size, stream and stored"),
    "size": (
        {"size": 5, "stream": STREAM, "stored": {}},
        ValueError,
        "state_dict must be from a pool of size 4, got one of size 5",
    ),
    "stored": (
        {"size": 4, "stream": STREAM, "stored": {"[0]": 3}},
        TypeError,
        "stored must be a dict of tensors",
    ),
    "too many": (
        {"size": 4, "stream": STREAM, "stored": {"[0]": torch.zeros(5, 2)}},
        ValueError,
        "stored must hold at most 4 samples and as many labels, got [5]",
    ),
    "uneven": (
        {"size": 4, "stream": STREAM, "stored": {"[0]": X, "[1]": X[:2]}},
        ValueError,
        "stored must hold at most 4 samples and as many labels, got [2, 3]",
    ),
    "labels alone": (
        {"size": 4, "stream": STREAM, "stored": {"[1]": X}},
        ValueError,
        "stored must hold",
    ),
}


@pytest.mark.parametrize("name", STATES)
def test_a_foreign_state_is_refused_without_changes(name):
    state, error, message = STATES[name]
    pool = FakePool(4, seed=0)
    pool(X + 1, X)
    before = copy.deepcopy(pool.state_dict())
    with pytest.raises(error) as caught:
        pool.load_state_dict(state)
    assert f"pygan.FakePool.load_state_dict: {message}" in str(caught.value)
    torch.testing.assert_close(pool.state_dict(), before, rtol=0, atol=0)


def test_a_state_without_a_stream_is_refused_without_changes():
    pool = FakePool(4, seed=0)
    pool(X + 1, X)
    before = copy.deepcopy(pool.state_dict())
    with pytest.raises(KeyError, match="state_dict must have the keys seed, step and offset"):
        pool.load_state_dict({"size": 4, "stream": {}, "stored": {}})
    torch.testing.assert_close(pool.state_dict(), before, rtol=0, atol=0)
