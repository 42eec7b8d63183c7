"""pygan.fit in one process: that it trains as a loop by hand does, and what it writes."""

import copy
import io
import random
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from helpers import raises
from helpers_fit import (
    FULL,
    Augmented,
    assert_equal,
    data,
    metrics,
    networks,
    picture,
    run,
    spread,
)
from PIL import Image
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau
from torch.utils.data import TensorDataset

import pygan
from pygan import checkpoint
from pygan.training.preview import image_grid
from pygan.training.sampler import BatchSampler


def trained(result):
    """What training changed."""
    return result.trainer.state_dict()


def test_it_is_the_loop_by_hand(tmp_path):
    seen = []
    result = run(
        tmp_path, **FULL, d_steps=2, evaluate=lambda _: seen.append(1) or {}, config={"a": 1}
    )
    G, D = networks()
    g, d = (torch.optim.Adam(network.parameters(), lr=1e-2) for network in (G, D))
    trainer = pygan.GANTrainer(G, D, g, d, latent=4, seed=3, d_steps=2, **FULL)
    schedules = [torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.1, 50) for o in (g, d)]
    sampler, x = BatchSampler(30, 8, seed=3), data()
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
    assert_equal(saved["trainer"], trainer.state_dict())
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


def test_looking_does_not_change_the_training(tmp_path):
    """Nor where the data come from. The dropout of the generator would show it."""
    expected = trained(run(tmp_path / "a", **FULL))
    for i, options in enumerate(LOOKING):
        if isinstance(options.get("source"), list):  # of tensors: a Dataset has __getitem__
            options = {**options, "source": Items(options["source"])}
        assert_equal(trained(run(tmp_path / str(i), **FULL, **options)), expected)
        state = torch.get_rng_state()
    run(tmp_path / "b", **FULL)
    assert torch.equal(torch.get_rng_state(), state)


class Items:
    """The least that a Dataset can be."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Conditional(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer, self.classes = nn.Linear(inputs, outputs), nn.Embedding(3, outputs)

    def forward(self, x, labels):
        return self.layer(x) + self.classes(labels)


@pytest.mark.parametrize("d_steps", [1, 2])
def test_labels_go_to_both_networks(tmp_path, d_steps):
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
    assert_equal(results[0], results[1])  # augmentation does not depend on the workers
    with pytest.raises(AssertionError):
        assert_equal(results[0], results[2])


def test_bf16_runs_under_autocast_and_leaves_the_networks_alone(tmp_path):
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
    other = run(tmp_path / "b", mixed_precision="no", ema=0.9)  # the next may choose another
    assert other.metrics["d_loss"] != result.metrics["d_loss"]
    inside.clear()
    run(tmp_path / "c", G=G, D=D, schedule=False)
    assert inside and not any(inside)


def test_a_given_accelerator_is_used(tmp_path):
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    try:
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
    """Their checkpoints fit the networks themselves."""
    G, D = networks()
    expected = run(tmp_path / "a", G=G, D=D, ema=0.9, steps=3)
    G, D = (torch.compile(network, backend="eager") for network in networks())
    result = run(tmp_path / "b", G=G, D=D, ema=0.9, steps=3)
    assert_equal(trained(result), trained(expected))


def test_fp16_needs_a_gpu(tmp_path):
    with raises(ValueError, "pygan.fit: mixed_precision must not be fp16 on cpu"):
        run(tmp_path / "a", mixed_precision="fp16")
    assert not (tmp_path / "a").exists()
    run(tmp_path / "b")


def test_without_a_seed_the_global_generator_decides(tmp_path):
    results = []
    for i, seed in enumerate((1, 1, 2)):
        G, D = networks(seed=0)
        torch.manual_seed(seed)
        results.append(run(tmp_path / str(i), G=G, D=D, seed=None).metrics)
    assert results[0] == results[1] != results[2]


def test_metrics_are_strict_json_whatever_happens(tmp_path):
    G, D = networks()
    with torch.no_grad():
        D[0].weight.fill_(float("inf"))
    values = {"nan": float("nan"), "up": float("inf"), "down": -float("inf"), "whole": 3}
    result = run(tmp_path, G=G, D=D, evaluate=lambda _: values)
    line = metrics(tmp_path)[-1]  # with a parser that refuses NaN and Infinity
    assert line["d_loss"] is None and line["nonfinite"] == 16
    assert [line[name] for name in values] == [None, "Infinity", "-Infinity", 3.0]
    again = run(tmp_path, G=G, D=D, evaluate=lambda _: values, resume="auto")
    torch.testing.assert_close(again.metrics, result.metrics, equal_nan=True)


def test_lines_are_of_the_steps_that_are_due(tmp_path):
    options = {"evaluate": spread, "evaluate_every": 5, "checkpoint_every": 2, "keep": 2}
    run(tmp_path, **options)
    lines = metrics(tmp_path)
    assert [line["step"] for line in lines] == [3, 5, 6, 9, 10, 12]
    assert [line["step"] for line in lines if "spread" in line] == [5, 10, 12]
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000010.pt", "step-00000012.pt"]


class Gloomy:
    """A monitor's like."""

    def __init__(self, trainer=None):
        self.steps = 0

    def update(self, stats):
        self.steps += 1
        found = pygan.monitor.Diagnosis(
            pygan.monitor.State.OSCILLATION, self.steps, "It turns.", "Stop it.", {"period": 2.5}
        )
        return [found, "a word"] if self.steps == 7 else []


@pytest.mark.parametrize("monitor", [Gloomy(), Gloomy])
def test_diagnoses_are_said_and_logged(tmp_path, capsys, monitor):
    run(tmp_path, monitor=monitor, progress=True)
    found = [line for line in metrics(tmp_path) if "diagnosis" in line]
    assert found == [
        {
            **{"step": 7, "diagnosis": "oscillation", "evidence": "It turns."},
            **{"remedy": "Stop it.", "numbers": {"period": 2.5}},
        },
        {"step": 7, "diagnosis": "a word"},
    ]
    shown = capsys.readouterr().err
    assert "step 7: oscillation: It turns. Stop it." in shown and "a word" in shown
    assert "12/12" in shown and "D(G(z))=" in shown and "JSD≥=" in shown


def test_the_monitor_resumes_with_the_run(tmp_path):
    monitor = partial(pygan.monitor.Monitor, every=2, window=16)
    run(tmp_path, monitor=monitor, steps=8)
    result = run(tmp_path, monitor=monitor, steps=9, resume="auto")
    saved = checkpoint.load(result.checkpoint)["monitor"]
    run(tmp_path / "whole", monitor=monitor, steps=9)
    assert_equal(saved, checkpoint.load(tmp_path / "whole/checkpoints/step-00000009.pt")["monitor"])
    assert len(saved["block_steps"]) == 1


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0})
    return accumulator.Reload()


def test_tensorboard_shows_scalars_and_grids(tmp_path):
    options = {"tensorboard": True, "preview": picture, "sample_every": 6, "evaluate": spread}
    run(tmp_path, **options, noise=0.1, steps=8)
    run(tmp_path, **options, noise=0.1, resume="auto")
    shown, lines = events(tmp_path), metrics(tmp_path)
    for name in ("d_loss", "g_loss", "jsd_bound", "sigma", "g_lr", "spread"):
        expected = [(line["step"], line[name]) for line in lines if name in line]
        found = [(event.step, event.value) for event in shown.Scalars(name)]
        assert found == [(step, pytest.approx(value)) for step, value in expected]
    assert [event.step for event in shown.Images("samples")] == [6, 8, 12]
    image = Image.open(io.BytesIO(shown.Images("samples")[0].encoded_image_string)).convert("L")
    assert image.tobytes() == Image.open(tmp_path / "samples-00000006.png").tobytes()


class Painter(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.layer, self.channels = nn.Linear(4, channels * 16), channels

    def forward(self, z):
        return self.layer(z).tanh().unflatten(1, (self.channels, 4, 4))


@pytest.mark.parametrize("channels", [1, 3, 2])
def test_images_are_shown_without_being_asked(tmp_path, channels):
    G, D = Painter(channels), nn.Sequential(nn.Flatten(), nn.Linear(channels * 16, 1))
    options = {"source": torch.rand(30, channels, 4, 4), "sample_every": 4, "samples": 10}
    run(tmp_path, G=G, D=D, learning_rate=0.0, **options)
    files = sorted(tmp_path.glob("samples-*.png"))
    if channels == 2:
        assert not files
        return
    assert [file.name for file in files] == [f"samples-{step:08d}.png" for step in (4, 8, 12)]
    pictures = [np.array(Image.open(file)) for file in files]
    assert pictures[0].shape == ((20, 26) if channels == 1 else (20, 26, 3))
    assert all(
        np.array_equal(one, pictures[0]) for one in pictures
    )  # fixed latents; it learned nothing
    assert pictures[0].std() > 10


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("n", [1, 2, 5, 16])
def test_a_grid_holds_each_image(n, channels):
    images = torch.rand(n, channels, 5, 3) * 2.4 - 1.2
    images[0, 0, 0, 0] = float("nan")
    grid = image_grid(images)
    columns = int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    assert grid.shape == (rows * 7 + 2, columns * 5 + 2, channels) and grid.dtype == np.uint8
    for i, image in enumerate(images):
        y, x = 2 + i // columns * 7, 2 + i % columns * 5
        expected = ((image.nan_to_num(nan=-1).clamp(-1, 1) + 1) * 127.5).permute(1, 2, 0).numpy()
        assert np.abs(grid[y : y + 5, x : x + 3] - expected).max() <= 0.51


G_LESS = nn.Linear(4, 6)
BAD = [
    ({"steps": 0}, ValueError, "steps must be at least 1, got 0"),
    ({"steps": 1.5}, TypeError, "steps must be an int, got float"),
    ({"batch_size": True}, TypeError, "batch_size must be an int, got bool"),
    (
        {"batch_size": 31},
        ValueError,
        "data must hold at least 31 samples, one batch (or set drop_last",
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
        "data must be, if a tuple, samples and labels, both tensors",
    ),
    ({"source": (data(), torch.zeros(3))}, ValueError, "data must have a label for each of the 30"),
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


@pytest.mark.parametrize("module", ["accelerate", "tqdm", "torch.utils.tensorboard", "PIL.Image"])
def test_what_is_missing_is_named(tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    if module == "accelerate":
        monkeypatch.setitem(sys.modules, "accelerate.state", None)
    with pytest.raises(
        ImportError, match=r'needs what pip install "pygan-fused\[train\]" installs'
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
