"""Errors for data that pygan.fit cannot train on: raised at once, and with a remedy."""

import io
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import raises
from helpers.fit import Items, run
from PIL import Image
from torch import nn
from torch.utils.data import TensorDataset

from pygan.training.batch_order import BatchSampler
from pygan.training.data import Data
from pygan.training.run_samples import Sampling


class Conditional(nn.Linear):
    def forward(self, x, labels):
        return super().forward(x)


def labeled(size=30):
    return [(torch.zeros(6), i % 3) for i in range(size)]


@pytest.mark.parametrize(
    "data",
    [
        Items(labeled()),
        (torch.zeros(30, 6), torch.zeros(30)),
        TensorDataset(*[torch.zeros(30, 6)] * 2),
    ],
)
def test_labels_for_unconditional_networks_are_refused_with_a_remedy(tmp_path, data):
    plain = {"G": nn.Linear(4, 6), "D": nn.Linear(6, 1)}
    message = "pygan.fit: discriminator must accept the data's labels as its second argument"
    for more in (
        {},
        {"D": torch.compile(nn.Linear(6, 1))},
        {"generator_inputs": lambda z, y: (z,)},
    ):
        with raises(ValueError, message, "got Linear", "pass conditional=False"):
            run(tmp_path, source=data, **{**plain, **more})
    with raises(
        ValueError, "pygan.fit: generator must accept the data's labels", "conditional=False"
    ):
        run(tmp_path, source=data, **{**plain, "D": Conditional(6, 1)})
    assert not list(tmp_path.iterdir())
    options = {"steps": 1, "G": nn.Linear(4, 6), "D": Conditional(6, 1)}
    run(tmp_path / "a", source=data, generator_inputs=lambda z, y: (z,), **options)
    run(tmp_path / "b", source=data, steps=1, conditional=False)


@pytest.mark.parametrize(
    ("items", "error", "message"),
    [
        ([None] * 9, TypeError, "tensors, arrays or PIL images, got builtins.NoneType"),
        ([np.array("a")] * 9, TypeError, "tensors, arrays or PIL images, got numpy.ndarray"),
        (
            [(torch.zeros(6), "cat")] * 9,
            TypeError,
            "a tensor or a pair of a tensor and a label, got torch",
        ),
    ],
)
def test_items_that_are_not_tensors_are_refused_before_anything_is_built(
    tmp_path, items, error, message
):
    with raises(error, "pygan.fit: data must yield " + message):
        run(tmp_path, source=Items(items))
    assert not list(tmp_path.iterdir())


def first_batch(data, size=8):
    """The first batch, sorted by the samples' first value."""
    loaded = next(data.batches(BatchSampler(size, size, seed=0), 0, 1, device=torch.device("cpu")))
    order = loaded.real.flatten(1)[:, 0].argsort()
    return loaded.real[order], None if loaded.labels is None else loaded.labels[order]


X, Y = torch.arange(48.0).view(8, 6), torch.arange(8) % 3
PAIRS = list(zip(X.numpy(), Y.tolist(), strict=True))
FORMS = {
    "tensors": ((X, Y), None),
    "arrays": ((X.numpy(), Y.numpy()), None),
    "arrays of float64": ((X.double().numpy(), Y.numpy()), None),
    "a tensor and an array": ((X, Y.numpy()), None),
    "an array from the last row to the first": ((X.flip(0).numpy()[::-1], Y), None),
    "tensors by key": ({"x": X, "y": Y, "more": "?"}, ("x", "y")),
    "items": (Items([(torch.from_numpy(x), y) for x, y in PAIRS]), None),
    "items of arrays": (Items(PAIRS), None),
    "items of float64": (Items([(x.astype(np.float64), np.int64(y)) for x, y in PAIRS]), None),
    "items of arrays and labels without dimensions": (
        Items([(x, np.array(int(y))) for x, y in PAIRS]),
        None,
    ),
    "arrays of the other byte order": (
        (X.numpy().astype(X.numpy().dtype.newbyteorder("S")), Y.numpy().astype(">i8")),
        None,
    ),
    "dicts": (Items([{"x": x, "y": y, "more": "?"} for x, y in PAIRS]), ("x", "y")),
    "dicts of tensors": (Items([{"y": Y[i], "x": X[i]} for i in range(8)]), ["x", "y"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_data_gives_the_same_batch(form):
    data, keys = FORMS[form]
    real, labels = first_batch(Data(data, keys=keys))
    assert real.dtype == torch.float32 and torch.equal(real, X)
    assert labels.dtype == torch.int64 and torch.equal(labels, Y)
    samples_alone = [Data(data, keys=keys, conditional=False)]
    samples_alone += [Data(data, keys=keys[0])] if keys else []
    for one in samples_alone:
        real, labels = first_batch(one)
        assert torch.equal(real, X) and labels is None


@pytest.mark.parametrize("form", [lambda x: x, lambda x: (X, x[:, 0]), lambda x: Items(list(x))])
def test_arrays_with_a_mask_are_refused(form):
    with raises(ValueError, "pygan.fit: data must not be masked arrays, got numpy.ma"):
        Data(form(np.ma.masked_less(X.numpy(), 0)))


def test_arrays_of_an_archive_are_selected_by_key():
    file = io.BytesIO()
    np.savez(file, samples=X.numpy(), labels=Y.numpy())
    file.seek(0)
    real, labels = first_batch(Data(np.load(file), keys=("samples", "labels")))
    assert torch.equal(real, X) and torch.equal(labels, Y)


def test_a_memory_mapped_array_is_not_copied(tmp_path, recwarn):
    np.save(tmp_path / "x.npy", X.numpy())
    array = np.load(tmp_path / "x.npy", mmap_mode="r")
    data = Data(array)
    assert data.sample(1, 0).shape == (1, 6) and torch.equal(first_batch(data)[0], X)
    assert data._tensors[0].data_ptr() == array.ctypes.data and not recwarn.list


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_pil_images_become_tensors_from_minus_one_to_one(mode, channels):
    images = [
        Image.new(mode, (4, 2), (51 * i,) * channels if channels > 1 else 51 * i) for i in range(6)
    ]
    images[5].putpixel((3, 0), (0, 255, 0) if channels > 1 else 0)
    real, labels = first_batch(Data(Items([(x, i) for i, x in enumerate(images)])), 6)
    assert real.shape == (6, channels, 2, 4) and real.dtype == torch.float32
    torch.testing.assert_close(real[:, 0, 0, 0], torch.tensor([-1, -0.6, -0.2, 0.2, 0.6, 1.0]))
    assert real[5, 0, 0].tolist() == [1, 1, 1, -1] and labels.tolist() == list(range(6))
    assert channels == 1 or real[5, 1, 0].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("mode", ["RGBA", "P", "1", "I;16", "CMYK"])
def test_images_of_other_modes_are_refused_with_a_remedy(mode):
    with raises(ValueError, f"pygan.fit: PIL images in data must have mode L or RGB, got {mode};"):
        Data(Items([Image.new(mode, (8, 8))] * 9))


@pytest.mark.parametrize(
    ("data", "keys", "error", "message"),
    [
        (Items([{"a": X[0], "b": 1}]), None, TypeError, "data_keys must name the key of the samp"),
        (Items([{"a": X[0], "b": 1}]), "c", ValueError, "data_keys must be among those of the da"),
        ({"a": X, "b": Y}, None, TypeError, "data_keys must name the key of the samples, or thos"),
        ({"a": X}, ("a", "b"), ValueError, "data_keys must be among those of the data, a, got 'b'"),
        (Items([X[0]]), "a", TypeError, "data_keys must be None if the data are not dicts, got"),
        (
            X,
            "a",
            TypeError,
            "data_keys must be None if the data are not dicts, got 'a' for torch",
        ),
        (
            {"train": Items([X[0]])},
            "a",
            TypeError,
            "a mapping given as data must contain tensors or arr",
        ),
    ],
)
def test_keys_that_name_nothing_are_refused(data, keys, error, message):
    with raises(error, "pygan.fit: " + message):
        Data(data, keys=keys)


@pytest.mark.parametrize("workers", [0, 1])
def test_unused_parts_of_items_may_be_anything(workers):
    items = Items([(torch.full((6,), float(i)), f"name {i}", None) for i in range(8)])
    data = Data(items, conditional=False)
    loaded = next(
        data.batches(BatchSampler(8, 8, seed=0), 0, 1, device=torch.device("cpu"), workers=workers)
    )
    assert loaded.labels is None and sorted(loaded.real[:, 0].tolist()) == list(range(8))


@pytest.mark.parametrize("workers", [0, 1])
def test_items_of_different_shapes_are_named(workers):
    data = Data(Items([torch.zeros(6), torch.zeros(7)] * 4))
    sampler = BatchSampler(8, 8, seed=0)
    pattern = (
        r"data must yield tensors of the same shape, got different ones \(.*\[[67]\].*\[[67]\]"
    )
    with pytest.raises(ValueError, match=pattern):
        next(data.batches(sampler, 0, 1, device=torch.device("cpu"), workers=workers))


def test_reading_the_first_item_does_not_draw_random_numbers(tmp_path):
    class Random(Items):
        def __getitem__(self, index):
            return torch.rand(6)

    torch.manual_seed(0)
    before = torch.get_rng_state()
    data = Data(Random([0] * 9))
    assert torch.equal(torch.get_rng_state(), before)
    assert not data.labeled


SCRIPT = """
import sys
from types import SimpleNamespace
import torch
from pygan.training.data import Data
from pygan.training.batch_order import BatchSampler
from pygan.training.run_samples import Sampling

class Items(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.zeros(6 + (index == 7))

sampler, cpu = BatchSampler(8, 8, seed=0), torch.device("cpu")
try:
    next(Data(Items()).batches(sampler, 0, 1, device=cpu, workers=1))
except ValueError as error:
    sys.kept = error  # as pytest and notebooks keep one
"""


def test_a_stored_worker_error_does_not_block_exit():
    """The traceback refers to the loader, and Python waits for its workers at exit."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_networks_must_accept_the_arguments_that_they_get():
    pair, plain = Data((torch.zeros(30, 6), torch.zeros(30, 6))), nn.Linear(6, 6)
    both = Conditional(6, 1)
    # The labels are the generator's only argument, and the discriminator's input is built from them and the samples.
    pair.check_networks(plain, plain, {"latent": None, "discriminator_inputs": print})
    pair.check_networks(both, both, {"latent": 4})
    with raises(
        ValueError, "pygan.fit: discriminator must accept the data's labels", "its second argument"
    ):
        pair.check_networks(plain, plain, {"latent": None})
    with raises(
        ValueError, "pygan.fit: generator must accept the data's labels", "as its only argument"
    ):
        pair.check_networks(both, both, {"latent": None})


def test_labels_are_required_without_latents():
    labeled = (torch.zeros(30, 6), torch.zeros(30, 6))
    for data in (Data(torch.zeros(30, 6)), Data(labeled, conditional=False)):
        with raises(ValueError, "pygan.fit: latent must not be None if the data have no labels"):
            data.check_networks(nn.Linear(6, 6), nn.Linear(6, 1), {"latent": None})


def test_sample_grids_do_not_need_latents():
    """For a generator that only gets labels: labels of the data are used."""
    seen = []

    def sample(n, labels, *, latent):
        seen.append((n, len(labels), latent))
        return 2 * labels

    trainer = SimpleNamespace(latent=None, sample=sample)
    data = Data((torch.zeros(30, 6), torch.rand(30, 6)))
    device = torch.device("cpu")
    sampling = Sampling(trainer, data, seed=3, batch_size=4, device=device)
    sampling.fix(10)
    latents, labels = sampling.fixed
    assert latents is None and labels.shape == (10, 6)
    trainer.ema = None
    picture = sampling.picture(lambda x: (100 * x).byte().numpy()[..., None], None, step=1)
    assert picture.shape == (10, 6, 1)
    assert seen == [(4, 4, None), (4, 4, None), (2, 2, None)]
    fresh = sampling.evaluation(lambda sample: sample(5), step=1)
    assert fresh.shape == (5, 6) and (fresh.unsqueeze(1) == 2 * data.labels(99, 0)).any()
