"""Wrong use of pygan.fit: one clear error, and nothing has been changed or written."""

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import raises
from helpers_fit import (
    Items,
    assert_equal,
    data,
    networks,
    picture,
    run,
)
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

import pygan
from pygan.training import sharding

G_LESS = nn.Linear(4, 6)
BAD = [
    ({"steps": 0}, ValueError, "steps must be at least 1, got 0"),
    ({"steps": 1.5}, TypeError, "steps must be an int, got float"),
    ({"batch_size": True}, TypeError, "batch_size must be an int, got bool"),
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
    ({"drop_last": 0}, TypeError, "drop_last must be a bool, got int"),
    ({"config": [1]}, TypeError, "config must be a dict or None, got list"),
    ({"config": {"a": {1}}}, TypeError, "config must be plain data"),
    (
        {"lr_schedulers": [3]},
        TypeError,
        "lr_schedulers must be of torch.optim.lr_scheduler, got int",
    ),
    ({"resume": 3}, TypeError, "resume must be 'auto', a path or None, got int"),
    ({"nosie": 0.1}, TypeError, "got an unexpected option 'nosie'; did you mean 'noise'?"),
    ({"log_evry": 1}, TypeError, "got an unexpected option 'log_evry'; did you mean 'log_every'?"),
    (
        {"scaler": 1},
        TypeError,
        "got an unexpected option 'scaler': mixed_precision='fp16' makes one",
    ),
    ({"d_steps": 0}, ValueError, "d_steps must be at least 1, got 0"),
    ({"source": 3}, TypeError, "data must be a tensor, a tuple (samples, labels) or a Dataset"),
    (
        {"source": (data(), 3)},
        TypeError,
        "data must be, if a tuple or a list, samples and labels, both tensors",
    ),
    ({"source": (data(), torch.zeros(3))}, ValueError, "data must have a label for each of the 30"),
    (
        {"source": [(torch.zeros(2), 0)] * 4},
        TypeError,
        "data must be, if a tuple or a list, samples and labels, both tensors, got (tuple, tuple, "
        "tuple, ...); pass separate items as a torch.utils.data.Dataset",
    ),
    (
        {"source": torch.utils.data.DataLoader(data())},
        TypeError,
        "data must be a tensor, a tuple (samples, labels) or a Dataset with __getitem__ and __len__, "
        "got DataLoader; pass its dataset",
    ),
    ({"source": torch.tensor(1.0)}, ValueError, "data must have a first dimension, got a 0-d"),
    ({"G": 3, "D": 4}, TypeError, "generator must be an nn.Module, got int"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD)
def test_bad_options_change_nothing(tmp_path, options, error, message):
    G, D = networks()
    g, d = (torch.optim.Adam(network.parameters()) for network in (G, D))
    before = copy.deepcopy(G.state_dict())
    options = {"steps": 1, "batch_size": 8, "source": data(), "G": G, "D": D, **options}
    source, G, D = (options.pop(name) for name in ("source", "G", "D"))
    with raises(error, "pygan.fit: " + message):
        pygan.training.fit(
            G, D, source, g_optimizer=g, d_optimizer=d, latent=4, out=tmp_path / "a", **options
        )
    assert not (tmp_path / "a").exists() and not g.state
    if isinstance(G, nn.Module):
        assert_equal(G.state_dict(), before)


def test_bad_trainer_options_change_nothing(tmp_path):
    with raises(ValueError, "GANTrainer: loss must be one of"):
        run(tmp_path / "a", loss="huber")
    with raises(ValueError, "GANTrainer: ema must be"):
        run(tmp_path / "a", ema=2.0)
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
        "evaluate must return names that no statis",
    ),
    ({"preview": lambda x: x}, TypeError, "preview must return a uint8 array (H, W, C)"),
    (
        {"preview": lambda x: np.zeros((3, 3), np.uint8)},
        TypeError,
        "preview must return a uint8 arr",
    ),
    ({"source": items(6, (), ())}, TypeError, "data must, if a Dataset, yield a tensor or a pair"),
]


@pytest.mark.parametrize(("options", "error", "message"), ANSWERS)
def test_bad_answers(tmp_path, options, error, message):
    with raises(error, "pygan.fit: " + message):
        run(tmp_path, sample_every=4, **options)


def test_a_schedule_that_cannot_be_saved_says_so(tmp_path):
    class Factor:
        def __init__(self):
            self.array = np.zeros(3)

        def __call__(self, step):
            return 1.0

    G, D = networks()
    schedule = LambdaLR(torch.optim.Adam(G.parameters()), Factor())
    schedule.optimizer.step()
    with raises(TypeError, "pygan.checkpoint.save: state['lr_schedulers'][0]", "numpy.ndarray"):
        run(tmp_path, G=G, D=D, lr_schedulers=[schedule])


def test_an_optimizer_with_a_state_is_not_sharded(tmp_path):
    G, D = networks()
    g, d = (torch.optim.Adam(net.parameters()) for net in (G, D))
    D(G(torch.randn(2, 4))).sum().backward()
    d.step()
    options = {"latent": 4, "steps": 1, "batch_size": 4, "sharded": True}
    with raises(ValueError, "pygan.fit: d_optimizer must not have made a step before the networks"):
        pygan.fit(G, D, data(), g_optimizer=g, d_optimizer=d, out=tmp_path / "a", **options)


@pytest.mark.parametrize("module", ["accelerate", "tqdm", "torch.utils.tensorboard", "PIL.Image"])
def test_what_is_missing_is_named(tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    if module == "accelerate":
        monkeypatch.setitem(sys.modules, "accelerate.state", None)
    with pytest.raises(ImportError, match=r'needs what pip install "\.\[train\]" in a checkout'):
        run(tmp_path, tensorboard=True, preview=picture, sample_every=1)


@pytest.mark.slow
def test_importing_needs_no_extra():
    code = (
        "import sys, pygan, pygan.training, pygan.checkpoint\n"
        "extras = {'accelerate', 'tensorboard', 'PIL', 'sklearn', 'matplotlib'}\n"
        "assert not extras & set(sys.modules), extras & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_torch_that_shards_on_gpus_alone_is_named(monkeypatch):
    monkeypatch.setattr(sharding, "SHARDS_ON_CPU", False)
    sharding.check_device(torch.device("cuda"))
    with raises(
        NotImplementedError,
        "pygan.fit: sharded must be False on CPUs",
        f"got True with torch {torch.__version__}",
    ):
        sharding.check_device(torch.device("cpu"))
