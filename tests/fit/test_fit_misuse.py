"""Misuse of pygan.fit: a clear error, and nothing has been changed or written."""

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import raises
from helpers.fit import (
    Items,
    assert_equal,
    data,
    networks,
    picture,
    run,
)
from torch import nn
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)

import pygan
from pygan.training import sharding
from pygan.training.lr_schedulers import check_lr_schedulers

LISTS = [
    [data(), torch.zeros(30)],  # samples and labels?
    [data()[:6], data()[6:12]],  # two samples?
    [np.zeros((6, 6), np.float32)] * 2,
    [(torch.zeros(2), 0)] * 4,
    [data()],
    [],
]

BAD = [
    ({"steps": 0}, ValueError, "steps must be at least 1, got 0"),
    ({"steps": 1.5}, TypeError, "steps must be an int, got float"),
    ({"batch_size": True}, TypeError, "batch_size must be an int or None, got bool"),
    (
        {"batch_size": 31},
        ValueError,
        "data must hold at least 31 samples, one batch (lower batch_size, or set drop_last",
    ),
    ({"log_every": 0}, ValueError, "log_every must be at least 1, got 0"),
    ({"checkpoint_every": 0}, ValueError, "checkpoint_every must be at least 1 or None, got 0"),
    ({"keep": 0}, ValueError, "keep must be at least 1 or None, got 0"),
    ({"workers": -1}, ValueError, "workers must be at least 0, got -1"),
    ({"seed": -1}, ValueError, "seed must be at least 0 or None, got -1"),
    ({"seed": 2**64}, ValueError, "seed must be below 2**64"),
    (
        {"mixed_precision": "fp8"},
        ValueError,
        "mixed_precision must be no, bf16, fp16 or None, got 'fp8",
    ),
    ({"monitor": 3}, TypeError, "monitor must be a bool, a callable"),
    ({"preview": 3}, TypeError, "preview must be a callable or None, got int"),
    ({"evaluate": {}}, TypeError, "evaluate must be a callable or None, got dict"),
    ({"progress": 1}, TypeError, "progress must be a bool or None, got int"),
    ({"sharded": 1}, TypeError, "sharded must be a bool, got int"),
    ({"capture": 1}, TypeError, "capture must be a bool, got int"),
    (
        {"capture": True, "nonfinite": "skip"},
        ValueError,
        'capture must be False with nonfinite="skip"',
    ),
    ({"drop_last": 0}, TypeError, "drop_last must be a bool, got int"),
    ({"config": [1]}, TypeError, "config must be a dict or None, got list"),
    ({"config": {"a": {1}}}, TypeError, "config must be plain data"),
    (
        {"lr_schedulers": [3]},
        TypeError,
        "lr_schedulers must be from torch.optim.lr_scheduler, got int",
    ),
    ({"resume": 3}, TypeError, "resume must be 'auto', a path or None, got int"),
    ({"nosie": 0.1}, TypeError, "got an unexpected option 'nosie'; did you mean 'noise'?"),
    ({"log_evry": 1}, TypeError, "got an unexpected option 'log_evry'; did you mean 'log_every'?"),
    (
        {"scaler": 1},
        TypeError,
        "got an unexpected option 'scaler': mixed_precision='fp16' creates one",
    ),
    ({"out": 3}, TypeError, "out must be a path, got int"),
    ({"lr_schedulers": 3}, TypeError, "lr_schedulers must be a sequence, got int"),
    (
        {"accelerator": 3},
        TypeError,
        "accelerator must be an accelerate.Accelerator or None, got int",
    ),
    ({"source": 3}, TypeError, "data must be a tensor, an array, a tuple (samples, labels), a"),
    (
        {"source": (data(), 3)},
        TypeError,
        "a tuple or mapping given as data must contain samples and labels, as tensors or arrays",
    ),
    ({"source": (data(), torch.zeros(3))}, ValueError, "data must have a label for each of the 30"),
    (
        {"source": ((torch.zeros(2), 0),) * 4},
        TypeError,
        "a tuple or mapping given as data must contain samples and labels, as tensors or arrays, got (tuple, "
        "tuple, tuple, ...); pass separate items as a torch.utils.data.Dataset",
    ),
    *[
        ({"source": source}, TypeError, "data must not be a list, which may hold")
        for source in LISTS
    ],
    (
        {"source": "photos"},
        TypeError,
        "data must be a tensor, an array, a tuple (samples, labels), a Dataset with __getitem__ and __len__, an "
        "IterableDataset or a DataLoader, got str; pygan.datasets.ImageFolder(path, size) reads a folder of images",
    ),
    ({"source": (x for x in data())}, TypeError, "data must be a tensor, an array, a tuple (sam"),
    (
        {"source": {"a": [1], "b": [2]}},
        TypeError,
        "a mapping given as data must contain tensors or arra",
    ),
    ({"data_keys": "image"}, TypeError, "data_keys must be None if the data are not dicts, got"),
    ({"data_keys": ("a", "b", "c")}, TypeError, "data_keys must be a key, or a pair of keys, for"),
    (
        {"source": torch.zeros(30, 6, dtype=torch.uint8)},
        TypeError,
        "data must hold floating-point samples in the range of the generated ones, got torch.uint8; convert",
    ),
    ({"source": torch.tensor(1.0)}, ValueError, "data must have a first dimension, got a 0-d"),
    ({"G": 3, "D": 4}, TypeError, "generator must be an nn.Module, got int"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD)
def test_bad_options_change_nothing(tmp_path, options, error, message):
    G, D = networks()
    g, d = (torch.optim.Adam(network.parameters()) for network in (G, D))
    before = copy.deepcopy(G.state_dict())
    must = {"steps": 1, "batch_size": 8, "out": tmp_path / "a", "latent": 4}
    options = {**must, "source": data(), "G": G, "D": D, **options}
    source, G, D = (options.pop(name) for name in ("source", "G", "D"))
    with raises(error, "pygan.fit: " + message):
        pygan.training.fit(G, D, source, g_optimizer=g, d_optimizer=d, **options)
    assert not (tmp_path / "a").exists() and not g.state
    if isinstance(G, nn.Module):
        assert_equal(G.state_dict(), before)


def test_bad_trainer_options_change_nothing(tmp_path):
    with raises(ValueError, "GANTrainer: loss must be one of"):
        run(tmp_path / "a", loss="huber")
    with raises(ValueError, "GANTrainer: ema must be"):
        run(tmp_path / "a", ema=2.0)
    with raises(ValueError, "GANTrainer: d_steps must be an int of at least 1, got 0"):
        run(tmp_path / "a", d_steps=0)
    G, _ = networks()
    with raises(TypeError, "pygan.fit: lr_schedulers must step without a metric"):
        run(tmp_path / "a", lr_schedulers=[ReduceLROnPlateau(torch.optim.SGD(G.parameters(), 0.1))])
    assert not (tmp_path / "a").exists()


def items(*shapes):
    return Items([tuple(torch.zeros(shape) for shape in shapes)] * 30)


ANSWERS = [
    ({"evaluate": lambda _: 3.0}, TypeError, "evaluate must return a dict of numbers, got float"),
    (
        {"evaluate": lambda _: {"a": "b"}},
        TypeError,
        "evaluate must return numbers, got str for 'a'",
    ),
    (
        {"evaluate": lambda _: {"d_loss": 1}},
        ValueError,
        "evaluate must return names that differ",
    ),
    ({"preview": lambda x: x}, TypeError, "preview must return a uint8 array (H, W, C)"),
    (
        {"preview": lambda x: np.zeros((3, 3), np.uint8)},
        TypeError,
        "preview must return a uint8 arr",
    ),
    ({"source": items(6, (), ())}, TypeError, "data must yield a tensor or a pair"),
]


@pytest.mark.parametrize(("options", "error", "message"), ANSWERS)
def test_invalid_results_of_callables_are_refused(tmp_path, options, error, message):
    with raises(error, "pygan.fit: " + message):
        run(tmp_path, sample_every=4, **options)


def test_a_schedule_that_cannot_be_saved_is_refused(tmp_path):
    class Factor:
        def __init__(self):
            self.array = np.zeros(3)

        def __call__(self, step):
            return 1.0

    with raises(TypeError, "pygan.checkpoint.save: state['lr_schedulers'][0]", "numpy.ndarray"):
        scheduled(tmp_path, lambda o: LambdaLR(o, Factor()))


def scheduled(out, schedule, steps=6):
    """A run with a scheduler for the generator's optimizer."""
    G, D = networks()
    g, d = (torch.optim.Adam(net.parameters()) for net in (G, D))
    options = {"latent": 4, "batch_size": 8, "tensorboard": False, "sample_every": None}
    options |= {"steps": steps, "lr_schedulers": [schedule(g)], "g_optimizer": g, "d_optimizer": d}
    return pygan.fit(G, D, data(), out=out, **options)


def elsewhere():
    return torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=0.1)


def chained_one_cycle(optimizer):
    return ChainedScheduler([LinearLR(optimizer), OneCycleLR(optimizer, 0.1, total_steps=5)])


def one_cycle_in_sequence(optimizer):
    parts = [LinearLR(optimizer), OneCycleLR(optimizer, 0.1, total_steps=3)]
    return SequentialLR(optimizer, parts, [2])


def one_cycle_first(optimizer, total_steps=2):
    parts = [OneCycleLR(optimizer, 0.1, total_steps=total_steps), LinearLR(optimizer)]
    return SequentialLR(optimizer, parts, [3])


MISFITS = {
    "foreign": (
        lambda o: ExponentialLR(elsewhere(), 0.5),
        "must belong to g_optimizer or d_optimizer",
    ),
    "foreign, chained": (
        lambda o: ChainedScheduler([ExponentialLR(elsewhere(), 0.5)]),
        "must belong to g_optimizer or d_optimizer, got ExponentialLR of another SGD",
    ),
    "short": (
        lambda o: OneCycleLR(o, 0.1, total_steps=5),
        "must last for the whole run, got OneCycleLR",
    ),
    "short, chained": (chained_one_cycle, "must last for the whole run, got OneCycleLR"),
    "short, in a sequence": (one_cycle_in_sequence, "must last for the whole run, got OneCycleLR"),
    "short, first of a sequence": (
        lambda o: one_cycle_first(o, 1),
        "must last for the whole run, got OneCycleLR",
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", MISFITS)
def test_a_schedule_without_effect_or_too_short_is_refused(tmp_path, name):
    schedule, message = MISFITS[name]
    with raises(ValueError, f"pygan.fit: lr_schedulers {message}"):
        scheduled(tmp_path / "a", schedule)
    assert not (tmp_path / "a").exists()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("schedule", "steps"),
    [
        (lambda o: OneCycleLR(o, 0.1, total_steps=5), 5),
        (chained_one_cycle, 5),
        (one_cycle_in_sequence, 5),
        (one_cycle_first, 5),
    ],
)
def test_a_schedule_may_last_exactly_for_the_run(tmp_path, schedule, steps):
    assert scheduled(tmp_path, schedule, steps).steps == steps


def test_a_schedule_of_a_prepared_optimizer_is_accepted():
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    try:
        optimizer = torch.optim.Adam(networks()[0].parameters())
        prepared = accelerator.prepare_optimizer(optimizer)
        schedule = ExponentialLR(optimizer, 0.5)
        wrapped = accelerator.prepare_scheduler(schedule)
        for scheduler in (schedule, wrapped, ExponentialLR(prepared.optimizer, 0.5)):
            for given in (optimizer, prepared):
                check_lr_schedulers([scheduler], 5, given, elsewhere())
            with raises(ValueError, "pygan.fit: lr_schedulers must belong to g_optimizer or"):
                check_lr_schedulers([scheduler], 5, elsewhere(), elsewhere())
    finally:
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
        accelerate.state.GradientState._reset_state()


@pytest.mark.parametrize("given", [True, False])
def test_gradients_are_not_accumulated_by_accelerate(tmp_path, monkeypatch, given):
    """The setting of the accelerator or of `accelerate launch` had no effect."""
    accelerate = pytest.importorskip("accelerate")
    message = "pygan.fit: accelerator must have gradient_accumulation_steps of 1, got 4; use micro"
    options = {}
    if given:
        options["accelerator"] = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=4)
    else:
        monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    try:
        with raises(ValueError, message):
            run(tmp_path, **options)
        assert list(tmp_path.iterdir()) == []
    finally:
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
        accelerate.state.GradientState._reset_state()


def test_a_last_batch_of_one_under_batch_norm_names_drop_last(tmp_path):
    message = "pygan.fit: drop_last must be True if BatchNorm gets a single sample"
    with raises(ValueError, message, "an epoch with batches of 8, got False"):
        run(tmp_path, source=data(25), drop_last=False)


def test_data_parallel_is_refused(tmp_path):
    for wrap in (nn.DataParallel, lambda net: torch.compile(nn.DataParallel(net), backend="eager")):
        G, D = networks()
        with raises(TypeError, "pygan.fit: discriminator must be the network itself, which fit"):
            run(tmp_path, G=G, D=wrap(D))


def test_an_optimizer_with_a_state_is_not_sharded(tmp_path):
    G, D = networks()
    g, d = (torch.optim.Adam(net.parameters()) for net in (G, D))
    D(G(torch.randn(2, 4))).sum().backward()
    d.step()
    options = {"latent": 4, "steps": 1, "batch_size": 4, "sharded": True}
    with raises(ValueError, "pygan.fit: d_optimizer must not have made a step before the networks"):
        pygan.fit(G, D, data(), g_optimizer=g, d_optimizer=d, out=tmp_path / "a", **options)


@pytest.mark.parametrize("module", ["accelerate", "tqdm", "torch.utils.tensorboard", "PIL.Image"])
def test_missing_packages_are_named(tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    if module == "accelerate":
        monkeypatch.setitem(sys.modules, "accelerate.state", None)
    with pytest.raises(
        ImportError, match=r'needs more packages; run pip install "\.\[train\]" in a checkout'
    ):
        run(tmp_path, tensorboard=True, preview=picture, sample_every=1)


@pytest.mark.slow
def test_importing_needs_no_extra():
    code = (
        "import sys, pygan, pygan.training, pygan.checkpoint\n"
        "extras = {'accelerate', 'tensorboard', 'PIL', 'sklearn', 'matplotlib'}\n"
        "assert not extras & set(sys.modules), extras & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sharding_on_cpus_with_an_old_torch_is_refused(monkeypatch):
    monkeypatch.setattr(sharding, "SHARDS_ON_CPU", False)
    sharding.check_device(torch.device("cuda"))
    with raises(
        NotImplementedError,
        "pygan.fit: sharded must be False on CPUs",
        f"got True with torch {torch.__version__}",
    ):
        sharding.check_device(torch.device("cpu"))
