"""pygan.fit in one process: it trains like a manual loop."""

import copy
import random

import numpy as np
import pytest
import torch
from helpers import DEVICES, accelerated_on, forget_accelerator, raises
from helpers.fit import (
    FULL,
    Augmented,
    Items,
    assert_equal,
    data,
    metrics,
    networks,
    picture,
    run,
)
from torch import nn
from torch.utils._pytree import tree_map
from torch.utils.data import TensorDataset

import pygan
from pygan import checkpoint
from pygan.training.batch_order import BatchSampler


@pytest.fixture(autouse=True)
def no_accelerator_of_another_file():
    forget_accelerator()


def on_cpu(state):
    return tree_map(lambda x: x.cpu() if isinstance(x, torch.Tensor) else x, state)


def trained(result):
    """Everything that training changes."""
    return result.trainer.state_dict()


@pytest.mark.parametrize("device", DEVICES)
def test_captured_steps_equal_eager_ones(tmp_path, device, monkeypatch):
    """On a GPU also in another phase and with a learning-rate scheduler; on the CPU nothing is captured."""
    captured = []
    capture = pygan.GANTrainer.capture
    monkeypatch.setattr(
        pygan.GANTrainer, "capture", lambda *given: captured.append(capture(*given))
    )
    results = []
    for name in (False, True):
        G, D = networks()
        fused = {"lr": torch.tensor(1e-2, device=device), "fused": True, "capturable": True}
        g, d = (torch.optim.Adam(network.to(device).parameters(), **fused) for network in (G, D))
        with accelerated_on(device):
            result = pygan.fit(
                *(G, D, data()),
                g_optimizer=g,
                d_optimizer=d,
                latent=4,
                steps=12,
                batch_size=8,
                seed=3,
                out=tmp_path / str(name),
                capture=name,
                drop_last=False,
                sample_every=None,
                tensorboard=False,
                **FULL,
            )
        results.append(on_cpu(trained(result)))
    assert_equal(*results)
    assert captured == [device == "cuda"]


@pytest.mark.parametrize("device", DEVICES)
def test_fit_equals_a_manual_loop(tmp_path, device):
    seen, options = [], {"device": device, "d_steps": 2, "config": {"a": 1}}
    result = run(tmp_path, **FULL, **options, evaluate=lambda _: seen.append(1) or {})
    G, D = (network.to(device) for network in networks())
    g, d = (torch.optim.Adam(network.parameters(), lr=1e-2) for network in (G, D))
    trainer = pygan.GANTrainer(G, D, g, d, latent=4, seed=3, d_steps=2, **FULL)
    schedules = [torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.1, 50) for o in (g, d)]
    sampler, x = BatchSampler(30, 8, seed=3), data().to(device)
    for step in range(12):
        stats = trainer.step([x[sampler.batch(2 * step + i).indices] for i in range(2)])
        for schedule in schedules:
            schedule.step()
        trainer.noise.step(stats.real_sign)
    assert_equal(trained(result), trainer.state_dict())
    assert (result.steps, result.stopped_by, result.exit_code, seen) == (12, None, 0, [1])
    expected = {name: value.item() for name, value in stats._asdict().items()}
    expected |= {"step": 12, "sigma": trainer.noise.sigma.item(), "g_lr": g.param_groups[0]["lr"]}
    assert result.metrics == {**expected, "d_lr": d.param_groups[0]["lr"]}
    assert metrics(tmp_path)[-1] == result.metrics
    saved = checkpoint.load(result.checkpoint)
    assert_equal(saved["trainer"], on_cpu(trainer.state_dict()))
    assert (saved["step"], saved["config"]) == (12, {"a": 1})
    assert saved["versions"]["torch"] == str(torch.__version__)


def disturb(sample):
    sample(3)
    torch.rand(5), np.random.rand(5), random.random()  # noqa: NPY002
    return {}


LOOKING = [
    {"log_every": 1, "checkpoint_every": 1, "keep": None},
    {"evaluate": disturb, "evaluate_every": 1},
    {"preview": picture, "sample_every": 1, "samples": 5},
    {"tensorboard": True, "progress": True},
    {"monitor": True},
    {"source": TensorDataset(data())},
    {"source": list(data())},
    {"source": TensorDataset(data(), torch.zeros(30)), "conditional": False, "workers": 2},
    {"source": (data(), torch.zeros(30)), "conditional": False},
    {"mixed_precision": "no"},
]


def test_logging_does_not_affect_training(tmp_path):
    """Nor does the source of the data. The generator's dropout would reveal a difference."""
    expected = trained(run(tmp_path / "a", **FULL))
    for i, options in enumerate(LOOKING):
        if isinstance(options.get("source"), list):  # a list of tensors also has __getitem__
            options = {**options, "source": Items(options["source"])}
        assert_equal(trained(run(tmp_path / str(i), **FULL, **options)), expected)
        state = torch.get_rng_state()
    run(tmp_path / "b", **FULL)
    assert torch.equal(torch.get_rng_state(), state)


class Conditional(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer, self.classes = nn.Linear(inputs, outputs), nn.Embedding(3, outputs)

    def forward(self, x, labels):
        return self.layer(x) + self.classes(labels)


@pytest.mark.parametrize("d_steps", [1, 2])
def test_labels_are_passed_to_both_networks(tmp_path, d_steps):
    source, seen = Augmented(30, labels=True), []
    results = []
    for name, given in (
        ("dataset", source),
        ("workers", source),
        ("tensors", (source.x, torch.arange(30) % 3)),
    ):
        torch.manual_seed(0)
        options = {"G": Conditional(4, 6), "D": Conditional(6, 1), "d_steps": d_steps}
        options |= {
            "workers": 2 * (name == "workers"),
            "evaluate": lambda f: seen.append(f(7)) or {},
        }
        options |= {"preview": picture, "sample_every": 6}
        results.append(trained(run(tmp_path / name, source=given, **options)))
        grid = checkpoint.load(tmp_path / name / "checkpoints/step-00000012.pt")["grid"]
        assert grid[0].shape == (64, 4) and grid[1].tolist() == sorted(grid[1].tolist())
        assert set(grid[1].tolist()) == {0, 1, 2}
    assert all(samples.shape == (7, 6) for samples in seen)
    assert_equal(results[0], results[1])  # augmentation does not depend on workers
    with pytest.raises(AssertionError):
        assert_equal(results[0], results[2])


def test_bf16_uses_autocast_and_does_not_modify_the_networks(tmp_path):
    inside = []
    G, D = networks()
    D[0].register_forward_hook(lambda *_: inside.append(torch.is_autocast_enabled("cpu")))
    options = {"G": G, "D": D, "schedule": False, "tensorboard": True}
    options |= {"preview": picture, "sample_every": 6}
    result = run(tmp_path / "a", mixed_precision="bf16", ema=0.9, **options)
    assert inside and all(inside)
    for module in (G, D, result.trainer.ema.module):
        assert "forward" not in module.__dict__ and "_original_forward" not in module.__dict__
        assert all(p.dtype == torch.float32 for p in module.parameters())
    copy.deepcopy(G)
    # Later tests may choose another precision.
    other = run(tmp_path / "b", mixed_precision="no", ema=0.9)
    assert other.metrics["d_loss"] != result.metrics["d_loss"]
    inside.clear()
    run(tmp_path / "c", G=G, D=D, schedule=False)
    assert inside and not any(inside)


def test_users_accelerator_is_used(tmp_path):
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    try:
        with accelerated_on("cpu"):
            accelerator = Accelerator(mixed_precision="bf16")
        with raises(
            ValueError, "pygan.fit: mixed_precision must be the given accelerator's, 'bf16'"
        ):
            run(tmp_path, accelerator=accelerator, mixed_precision="no")
        inside = []
        G, D = networks()
        D[0].register_forward_hook(lambda *_: inside.append(torch.is_autocast_enabled("cpu")))
        run(tmp_path, G=G, D=D, accelerator=accelerator)
        assert all(inside) and accelerator.mixed_precision == "bf16"
    finally:
        AcceleratorState._reset_state()


def test_sharding_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    with raises(
        RuntimeError, "pygan.fit: accelerator must use DistributedDataParallel", "got FSDP"
    ):
        run(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_compiled_networks(tmp_path):
    """Their checkpoints load into the uncompiled networks."""
    G, D = networks()
    expected = run(tmp_path / "a", G=G, D=D, ema=0.9, steps=3)
    G, D = (torch.compile(network, backend="eager") for network in networks())
    result = run(tmp_path / "b", G=G, D=D, ema=0.9, steps=3)
    assert_equal(trained(result), trained(expected))


@pytest.mark.cuda
def test_fp16_on_a_gpu(tmp_path):
    result = run(tmp_path, mixed_precision="fp16", device="cuda")
    assert result.trainer.scaler is not None
    assert all(p.isfinite().all() for p in result.trainer.generator.parameters())
    assert np.isfinite(list(result.metrics.values())).all()


def test_fp16_needs_a_gpu(tmp_path):
    with raises(ValueError, "pygan.fit: mixed_precision must not be fp16 on cpu"):
        run(tmp_path / "a", mixed_precision="fp16")
    assert not (tmp_path / "a").exists()
    run(tmp_path / "b")


def test_without_a_seed_one_is_drawn_from_the_global_generator(tmp_path):
    results = []
    for i, seed in enumerate((1, 1, 2)):
        G, D = networks(seed=0)
        torch.manual_seed(seed)
        results.append(run(tmp_path / str(i), G=G, D=D, seed=None).metrics)
    assert results[0] == results[1] != results[2]
