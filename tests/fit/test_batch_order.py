"""The order of the data, for runs of any length, resumed anywhere, with any number of processes."""

import pytest
import torch
from helpers import raises
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pygan.training.batch_order import BatchSampler, derived_seed, share

sizes = st.integers(1, 60)
seeds = st.integers(0, 2**64 - 1)


@st.composite
def samplers(draw):
    """Valid arguments for samplers."""
    size, batch_size, world = draw(sizes), draw(st.integers(1, 20)), draw(st.integers(1, 5))
    drop_last = draw(st.booleans())
    assume(batch_size >= world and size >= (batch_size if drop_last else world))
    return {
        "size": size,
        "batch_size": batch_size,
        "seed": draw(seeds),
        "world": world,
        "drop_last": drop_last,
    }


@given(total=st.integers(0, 200), world=st.integers(1, 12))
def test_shares_are_those_of_tensor_split(total, world):
    parts = torch.arange(total).tensor_split(world)
    for rank, part in enumerate(parts):
        assert list(share(total, rank, world)) == part.tolist()


@given(arguments=samplers())
@settings(deadline=None)
def test_an_epoch_is_a_permutation_cut_into_batches(arguments):
    sampler = BatchSampler(**arguments)
    size, batch_size, world = (arguments[name] for name in ("size", "batch_size", "world"))
    for epoch in range(3):
        n = sampler.batches_per_epoch
        ranks = [BatchSampler(**arguments, rank=rank) for rank in range(world)]
        batches = [
            torch.cat([rank.batch(t).indices for rank in ranks])
            for t in range(epoch * n, (epoch + 1) * n)
        ]
        seen = torch.cat(batches).tolist()
        assert len(set(seen)) == len(seen) and set(seen) <= set(range(size))
        assert seen == sampler.order(epoch)[: len(seen)].tolist()
        left = size - len(seen)
        assert left < (batch_size if arguments["drop_last"] else world)
        assert all(len(batch) == batch_size for batch in batches[:-1])
        if arguments["drop_last"]:
            assert len(batches[-1]) == batch_size


@given(arguments=samplers(), t=st.integers(0, 50))
@settings(deadline=None)
def test_processes_split_the_batch_of_a_single_process(arguments, t):
    parts = [BatchSampler(**arguments, rank=rank).batch(t) for rank in range(arguments["world"])]
    whole = torch.cat([part.indices for part in parts])
    assert all(len(part.indices) >= 1 for part in parts)
    assert {part.total for part in parts} == {len(whole)}
    assert [part.indices.tolist() for part in parts] == [
        part.tolist() for part in whole.tensor_split(arguments["world"])
    ]
    one = BatchSampler(**{**arguments, "world": 1})
    if one.batches_per_epoch == BatchSampler(**arguments).batches_per_epoch:
        assert one.batch(t).indices.tolist() == whole.tolist()


@given(arguments=samplers(), start=st.integers(0, 40), length=st.integers(0, 20))
@settings(deadline=None)
def test_starting_at_t_equals_continuing(arguments, start, length):
    continued = list(BatchSampler(**arguments).batches(0, start + length))[start:]
    resumed = list(BatchSampler(**arguments).batches(start, start + length))
    assert [(b.epoch, b.indices.tolist()) for b in continued] == [
        (b.epoch, b.indices.tolist()) for b in resumed
    ]


@given(arguments=samplers(), ts=st.lists(st.integers(0, 99), min_size=1, max_size=8))
@settings(deadline=None)
def test_a_batch_is_a_function_of_t(arguments, ts):
    sampler = BatchSampler(**arguments)
    for t in ts:  # in any order of calls
        assert (
            sampler.batch(t).indices.tolist() == BatchSampler(**arguments).batch(t).indices.tolist()
        )


def test_epochs_and_seeds_have_different_orders():
    """Including seeds that differ only in bits that torch's CPU generator ignores."""
    pairs = [(0, 0), (0, 1), (1, 0), (1 << 32, 0), (1 << 63, 0)]
    orders = [tuple(BatchSampler(50, 5, seed=s).order(e).tolist()) for s, e in pairs]
    assert len(set(orders)) == len(orders)


def test_permutations_are_uniform():
    """All 24 orders of four samples in 2400 epochs: chi-squared with 23 degrees of freedom."""
    sampler = BatchSampler(4, 4, seed=1)
    counts = {}
    for epoch in range(2400):
        order = tuple(sampler.order(epoch).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 24
    assert sum((n - 100) ** 2 / 100 for n in counts.values()) < 49.7  # p = .001


def test_the_order_stays_compatible_with_checkpoints():
    """With another order, old checkpoints would resume incorrectly, so a change must be deliberate."""
    assert derived_seed(7, "epoch", 1) == 6856133625104298649
    assert BatchSampler(8, 8, seed=7).order(1).tolist() == [6, 3, 5, 1, 4, 7, 2, 0]


BAD = [
    (
        {"size": 7, "batch_size": 8},
        "data must hold at least 8 samples, one batch (lower batch_size",
    ),
    ({"size": 1, "batch_size": 8, "world": 2, "drop_last": False}, "data must hold at least 2 "),
    ({"size": 9, "batch_size": 2, "world": 3}, "batch_size must be at least the number of proc"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_data_without_a_batch_are_refused(arguments, message):
    with raises(ValueError, "pygan.fit: " + message):
        BatchSampler(**arguments, seed=0)
