"""pygan.fit on data with their own order: DataLoader and IterableDataset."""

import json
import os
import random

import numpy as np
import pytest
import torch
from helpers import raises
from helpers.fit import (
    FULL,
    Augmented,
    assert_equal,
    data,
    plain_networks,
    run,
    same_runs,
    start_ranks,
)
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    get_worker_info,
)
from torch.utils.data.distributed import DistributedSampler

from pygan import checkpoint


class Numbers(IterableDataset):
    """Samples in order, split among workers, with random augmentation."""

    def __init__(self, size=30, labels=False):
        self.size, self.labels, self.read = size, labels, 0

    def __iter__(self):
        worker = get_worker_info()
        for i in range(worker.id if worker else 0, self.size, worker.num_workers if worker else 1):
            self.read += 1
            jitter = random.random() + np.random.rand() + torch.rand(()).item()  # noqa: NPY002
            x = data()[i % 30] + 0.1 * jitter
            yield (x, i % 3) if self.labels else x


class Stateful(Numbers):
    """Continues from its state, as torchdata's datasets do: the object stores the position."""

    place = 0

    def __iter__(self):
        while self.place < self.size:
            self.place, self.read = self.place + 1, self.read + 1
            yield data()[(self.place - 1) % 30] + 0.1 * torch.rand(())
        self.place = 0

    def state_dict(self):
        return {"place": self.place}

    def load_state_dict(self, state):
        self.place = state["place"]


def loader(workers=0, **options):
    return DataLoader(Augmented(30), batch_size=8, shuffle=True, num_workers=workers, **options)


def batch_sampler():
    """As usually written: the generator belongs to the inner sampler."""
    dataset = Augmented(30)
    inner = RandomSampler(dataset, generator=torch.Generator().manual_seed(3))
    return DataLoader(dataset, batch_sampler=BatchSampler(inner, 8, drop_last=True))


class Miscounting(DataLoader):
    """Like torchdata's StatefulDataLoader: if the dataset has no state, the loader's state is the number of batches to
    skip, and it counts skipped batches twice."""

    passed_over = count = 0

    def __iter__(self):
        batches, self.count = super().__iter__(), 2 * self.passed_over
        for _ in range(self.passed_over):
            next(batches)
        self.passed_over = 0
        for batch in batches:
            self.count += 1
            yield batch

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.passed_over = state["count"]


SOURCES = {
    "DataLoader": (loader, {}),
    "DataLoader, whole epochs": (lambda: loader(drop_last=True), {}),
    "DataLoader, rest": (loader, {"drop_last": False}),
    "DataLoader, two batches a step": (loader, {"d_steps": 2}),
    "DataLoader, two workers": (lambda: loader(2), {}),
    "DataLoader with a generator": (lambda: loader(generator=torch.Generator()), {}),
    "DataLoader with a sampler": (
        lambda: DataLoader(
            Augmented(30), 8, sampler=WeightedRandomSampler([1.0] * 30, 24, generator=None)
        ),
        {},
    ),
    "DataLoader with a batch sampler": (batch_sampler, {"batch_size": 8}),
    "DataLoader with a state, of an IterableDataset": (lambda: Miscounting(Numbers(40), 8), {}),
    "DataLoader of an IterableDataset": (lambda: DataLoader(Numbers(), 8), {"drop_last": False}),
    "IterableDataset": (Numbers, {"batch_size": 8}),
    "IterableDataset, rest": (Numbers, {"batch_size": 8, "drop_last": False}),
    "IterableDataset, two workers": (Numbers, {"batch_size": 7, "workers": 2}),
    "IterableDataset, the rest of two workers": (
        Numbers,
        {"batch_size": 4, "workers": 2, "drop_last": False},
    ),
    "IterableDataset with a state": (Stateful, {"batch_size": 8, "drop_last": False}),
    "IterableDataset with a state, whole": (lambda: Stateful(32), {"batch_size": 8}),
    "DataLoader of one with a state": (lambda: DataLoader(Stateful(), 8), {}),
}


@pytest.mark.parametrize("name", SOURCES)
def test_resumed_runs_are_bitwise_equal(tmp_path, name):
    """If the last step was the first of an epoch, the last complete one, or an incomplete one."""
    make, options = SOURCES[name]
    options = {"batch_size": None, **FULL, **options, "checkpoint_every": 1, "log_every": 1}
    run(tmp_path / "whole", source=make(), **{"steps": 9, **options})
    for steps in (1, 3, 4, 6, 9):
        run(tmp_path / "a", source=make(), resume="auto", **{**options, "steps": steps})
    same_runs(tmp_path / "a", tmp_path / "whole")


def seen_by(source, folder, steps=12, **options):
    """The batches of real samples that the trainer got."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        import pygan

        step = pygan.GANTrainer.step
        patch.setattr(
            pygan.GANTrainer, "step", lambda self, *a, **k: seen.append(a) or step(self, *a, **k)
        )
        run(folder, source=source, steps=steps, **options)
    return [real for real, _ in seen]


def test_a_loader_is_used_unchanged(tmp_path):
    """Its sampler, its collate_fn and its batch size."""

    def collate(items):
        return torch.stack([x for (x,) in items]) + 100

    source = DataLoader(TensorDataset(data()), 10, collate_fn=collate)
    seen = seen_by(source, tmp_path, batch_size=None, steps=4)
    whole = (data() + 100).split(10)
    assert_equal(seen, [whole[i % 3] for i in range(4)])
    epochs = seen_by(loader(), tmp_path / "b", batch_size=8, steps=6)
    assert [len(x) for x in epochs] == [8] * 6  # 8, 8, 8, and 6 that are dropped
    assert not torch.equal(epochs[0], epochs[3])


def test_set_epoch_is_called_for_iterable_datasets(tmp_path):
    class Epochs(Numbers):
        seen = ()

        def set_epoch(self, epoch):
            self.seen = (*self.seen, epoch)

    source = Epochs(16)
    run(tmp_path, source=source, steps=5)
    assert source.seen[1:] == (0, 1, 2)


def test_data_with_a_state_are_not_reread_on_resume(tmp_path):
    for kind, passed_over in ((Numbers, 16), (Stateful, 0)):
        out = tmp_path / kind.__name__
        run(out, source=kind(), steps=2)
        source = kind()
        run(out, source=source, steps=3, resume="auto")
        assert source.read == 8 + passed_over + 8  # 8 for the initial check of the data


def test_skipped_batches_are_reported(tmp_path, capsys):
    run(tmp_path, source=Numbers(), steps=2)
    run(tmp_path, source=Numbers(), steps=3, resume="auto")
    assert (
        "pygan.fit: rereading and skipping the 2 batches of this epoch" in capsys.readouterr().err
    )


def test_labels_of_loaders_are_passed_to_the_networks(tmp_path):
    for source in (
        Numbers(labels=True),
        DataLoader(Augmented(30, labels=True), 8),
        DataLoader(Numbers(labels=True), 8),
    ):
        with raises(ValueError, "pygan.fit: discriminator must accept the data's labels"):
            run(tmp_path / "a", source=source)
    result = run(tmp_path / "b", source=Numbers(labels=True), conditional=False, steps=2)
    assert result.steps == 2


def test_reading_does_not_advance_the_global_generators(tmp_path):
    """Otherwise a run with dropout would depend on random numbers drawn by its data."""
    sources = [data(24), DataLoader(Augmented(30), 8, shuffle=True), Numbers()]
    results = [run(tmp_path / str(i), source=source) for i, source in enumerate(sources)]
    first, *others = [checkpoint.load(result.checkpoint)["random"] for result in results]
    for other in others:
        assert_equal(other, first)


BAD = [
    (
        {"source": Numbers(0)},
        ValueError,
        "data must yield at least one batch of 8 samples in an epoch",
    ),
    ({"source": Numbers(5)}, ValueError, "data must yield at least one batch of 8 samples in an"),
    ({"source": DataLoader(data(5), 8)}, ValueError, "data must yield at least one batch of 8 sa"),
    ({"source": loader(), "batch_size": 9}, ValueError, "batch_size must be that of the DataLoad"),
    ({"source": loader(), "workers": 1}, ValueError, "workers must be 0 for a DataLoader, which"),
    (
        {"source": loader(drop_last=True), "drop_last": False},
        ValueError,
        "drop_last must be True for a DataLoader that drops the last batch itself, got False",
    ),
    (
        {"source": loader(1, persistent_workers=True)},
        ValueError,
        "a DataLoader given as data must not have persistent_workers",
    ),
    ({"source": Numbers(), "batch_size": None}, TypeError, "batch_size must be given, got none"),
    (
        {"source": DataLoader(data(), batch_sampler=[[0, 1], [2, 3, 4], [5]]), "batch_size": 3},
        ValueError,
        "data must yield batches of batch_size samples, 3, except at the end of an epoch, got one",
    ),
    (
        {"source": DataLoader(data(), batch_sampler=[[0, 1], [2, 3, 4]]), "batch_size": 2},
        ValueError,
        "data must yield batches of batch_size samples, 2, except at the end of an epoch, got one",
    ),
    (
        {"source": DataLoader(data(), 8, collate_fn=lambda items: None)},
        TypeError,
        "data must yield a tensor or a pair of a tensor and a label, got builtins.No",
    ),
    (
        {"source": DataLoader(data(), 8, collate_fn=lambda items: (items[0], torch.zeros(3)))},
        ValueError,
        "data must yield batches (N, ...) of samples and of as many labels, got (6,) and (3,)",
    ),
    (
        {"source": DataLoader([{"x": x} for x in data()], 8)},
        TypeError,
        "data_keys must name the key of the samples, or those of samples and labels, if the data",
    ),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD)
def test_unsuitable_loaders_are_refused(tmp_path, options, error, message):
    with raises(error, "pygan.fit: " + message):
        run(tmp_path, **options)


def test_a_loader_that_accelerate_has_prepared_is_refused(tmp_path):
    from accelerate.data_loader import prepare_data_loader

    with raises(TypeError, "pygan.fit: data must be the DataLoader itself, whose batches fit"):
        run(tmp_path, source=prepare_data_loader(loader()))


def test_other_data_are_refused_on_resume(tmp_path):
    run(tmp_path, source=loader(), steps=2)
    description = "30 samples in a DataLoader with RandomSampler, read by 0 workers"
    for source, now in (
        (data(), "30"),
        (loader(1), "30 samples in a DataLoader with RandomSampler, read by 1 workers"),
        (Numbers(), "a Numbers, read by 0 workers"),
    ):
        message = f"data must be that of the checkpoint {tmp_path}/checkpoints/step-00000002.pt"
        with raises(ValueError, f"pygan.fit: {message}, {description}, got {now}"):
            run(tmp_path, source=source, resume="auto")
    with raises(ValueError, "pygan.fit: data must yield at least the 2 batches of the epoch that"):
        short = DataLoader(Augmented(30), 8, sampler=RandomSampler(range(8)))
        run(tmp_path, source=short, resume="auto", allow_changes=True)
    result = run(tmp_path, source=data(), resume="auto", allow_changes=True)
    assert result.steps == 12


@pytest.mark.parametrize(
    "other", [DataLoader(TensorDataset(data()), 5), DataLoader(TensorDataset(data(21)), 10)]
)
def test_changed_batches_start_with_a_new_epoch(tmp_path, other):
    """The position in the checkpoint is a number of batches, here too large or between two batches."""
    run(tmp_path, source=DataLoader(TensorDataset(data()), 3), batch_size=None, steps=8)
    options = {"resume": "auto", "allow_changes": True, "batch_size": None, "steps": 10}
    seen = seen_by(other, tmp_path, **options)
    whole = [x for (x,) in other]
    assert_equal(seen, whole[:2])
    saved = checkpoint.load(tmp_path / "checkpoints/step-00000010.pt")["stream"]
    assert (saved["epoch"], saved["batch"]) == (1, 2)


def in_ranks(out, report, make, **options):
    """A run of plain networks whose error is written to a file."""
    G, D = plain_networks()
    try:
        return run(out, G=G, D=D, source=make(), schedule=False, **options).exit_code
    except ValueError as error:
        (report / os.environ["RANK"]).write_text(json.dumps(str(error)))
        return 1


def shared_out():
    dataset = TensorDataset(data())
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return DataLoader(dataset, 8, sampler=DistributedSampler(dataset, world, rank))


@pytest.mark.parametrize("make", [loader, Stateful])
def test_processes_share_every_batch(tmp_path, make):
    options = {"steps": 5, "checkpoint_every": 3, "drop_last": False}
    G, D = plain_networks()
    one = run(tmp_path / "one", G=G, D=D, source=make(), schedule=False, **options)
    for steps in (3, 5):
        processes = start_ranks(
            2,
            in_ranks,
            tmp_path / "two",
            tmp_path,
            make,
            resume="auto",
            **{**options, "steps": steps},
        )
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0, 0]
    two = checkpoint.load(checkpoint.latest(tmp_path / "two" / "checkpoints"))["trainer"]
    for network in ("generator", "discriminator"):
        mine = getattr(one.trainer, network).state_dict()
        for name, value in two[network].items():
            torch.testing.assert_close(value, mine[name], rtol=1e-4, atol=1e-5)


def test_a_loader_that_splits_its_batches_is_refused(tmp_path):
    processes = start_ranks(2, in_ranks, tmp_path / "out", tmp_path, shared_out)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [1, 1]
    for rank in ("0", "1"):
        text = json.loads((tmp_path / rank).read_text())
        assert text.startswith("pygan.fit: data must yield the same batches in every process")
