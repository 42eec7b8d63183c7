"""The outputs of pygan.fit: metrics, diagnoses, TensorBoard, pictures."""

import io
from functools import partial

import numpy as np
import pytest
import torch
from helpers import raises
from helpers.fit import (
    assert_equal,
    metrics,
    picture,
    run,
    spread,
)
from PIL import Image
from torch import nn

import pygan
from pygan import checkpoint
from pygan.checkpoint import CheckpointError
from pygan.schedules import Constant
from pygan.training import run_samples
from pygan.training.drawing import captioned
from pygan.training.sample_grids import image_grid, is_images


def test_metrics_are_always_strict_json(tmp_path):
    broken = torch.full((30, 6), float("inf"))
    values = {"nan": float("nan"), "up": float("inf"), "down": -float("inf"), "whole": 3}
    options = {"source": broken, "nonfinite": "skip", "evaluate": lambda _: values}
    result = run(tmp_path, **options)
    line = metrics(tmp_path)[-1]  # parsed with NaN and Infinity refused
    assert line["d_loss"] is None and line["nonfinite"] == 8
    assert [line[name] for name in values] == [None, "Infinity", "-Infinity", 3.0]
    again = run(tmp_path, **options, resume="auto")
    torch.testing.assert_close(again.metrics, result.metrics, equal_nan=True)


def test_lines_are_written_at_the_steps_that_are_due(tmp_path):
    options = {"evaluate": spread, "evaluate_every": 5, "checkpoint_every": 2, "keep": 2}
    run(tmp_path, **options)
    lines = metrics(tmp_path)
    assert [line["step"] for line in lines] == [3, 5, 6, 9, 10, 12]
    assert [line["step"] for line in lines if "spread" in line] == [5, 10, 12]
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000010.pt", "step-00000012.pt"]


class Gloomy:
    """A replacement for Monitor."""

    def __init__(self, trainer=None):
        self.steps = 0

    def update(self, stats):
        self.steps += 1
        found = pygan.monitor.Diagnosis(
            pygan.monitor.State.OSCILLATION, self.steps, "It turns.", "Stop it.", {"period": 2.5}
        )
        return [found, "a word"] if self.steps == 7 else []


@pytest.mark.parametrize("monitor", [Gloomy(), Gloomy])
def test_diagnoses_are_printed_and_logged(tmp_path, capsys, monitor):
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
    assert "12/12" in shown and ", D 1." in shown and " G 0." in shown


def test_the_monitor_resumes_with_the_run(tmp_path):
    monitor = partial(pygan.monitor.Monitor, every=2, window=16)
    run(tmp_path, monitor=monitor, steps=8)
    result = run(tmp_path, monitor=monitor, steps=9, resume="auto")
    saved = checkpoint.load(result.checkpoint)["monitor"]
    run(tmp_path / "whole", monitor=monitor, steps=9)
    assert_equal(saved, checkpoint.load(tmp_path / "whole/checkpoints/step-00000009.pt")["monitor"])
    assert len(saved["block_steps"]) == 1


@pytest.mark.parametrize("change", [{"every": 3}, {"window": 17}, {"every": 3, "window": 17}])
@pytest.mark.parametrize("applied", [False, True])
def test_a_changed_monitor_starts_fresh_with_a_message(tmp_path, capsys, change, applied):
    """With the noise that the previous monitor had added to the trainer."""

    def monitor(options):
        def made(trainer):
            noise = pygan.InstanceNoise(Constant(0.1), seed=5)
            monitor = pygan.Monitor(trainer, **options, noise=noise)
            if applied and trainer.steps == 0 and options == before:
                trainer.noise = noise
            return monitor

        return made

    before = {"every": 2, "window": 16}
    now = {**before, **change}
    run(tmp_path, monitor=monitor(before), steps=7)
    message = f"monitor.{next(iter(change))} must be that of the checkpoint"
    with raises(CheckpointError, "pygan.checkpoint.load:", message, "allow_changes=True"):
        run(tmp_path, monitor=monitor(now), steps=9, resume="auto")
    options = {"resume": "auto", "allow_changes": True}
    result = run(tmp_path, monitor=monitor(now), steps=9, **options)
    output = capsys.readouterr().err
    for name, value in change.items():
        assert f"resumed at step 7 with monitor.{name} {value} instead of {before[name]}" in output
    saved = checkpoint.load(result.checkpoint)["monitor"]
    assert saved["every"] == now["every"] and saved["window"]["size"] == now["window"]
    assert saved["noise_applied"] == applied and (result.trainer.noise is not None) == applied
    run(tmp_path, monitor=monitor(now), steps=10, resume="auto")


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
    assert [event.step for event in shown.Images("samples")] == [0, 6, 8, 12]
    image = Image.open(io.BytesIO(shown.Images("samples")[1].encoded_image_string)).convert("L")
    assert image.tobytes() == Image.open(tmp_path / "samples-00000006.png").tobytes()


class Painter(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.layer, self.channels = nn.Linear(4, channels * 16), channels

    def forward(self, z):
        return self.layer(z).tanh().unflatten(1, (self.channels, 4, 4))


@pytest.mark.parametrize("channels", [1, 3, 2])
def test_sample_grids_of_images_are_the_default(tmp_path, capsys, channels):
    G, D = Painter(channels), nn.Sequential(nn.Flatten(), nn.Linear(channels * 16, 1))
    options = {"source": torch.rand(30, channels, 4, 4), "sample_every": 4, "samples": 10}
    run(tmp_path, G=G, D=D, learning_rate=0.0, **options)
    files = sorted(tmp_path.glob("samples-*.png"))
    message = "no sample grids: the images have 2 channels, not 1 or 3; preview= can show them"
    assert capsys.readouterr().err.count(message) == (channels == 2)
    if channels == 2:
        assert not files
        return
    assert [file.name for file in files] == [f"samples-{step:08d}.png" for step in (0, 4, 8, 12)]
    pictures = [np.array(Image.open(file)) for file in files]
    # 4 x 3 images of 4 x 4 pixels, enlarged 32 times, separated by 2 pixels, below a line of text.
    expected = (22 + 3 * 130 + 2, 4 * 130 + 2)
    assert pictures[0].shape == (expected if channels == 1 else (*expected, 3))
    for one in pictures:  # fixed latents, and nothing was learned
        np.testing.assert_array_equal(one[22:], pictures[0][22:])
        assert (one[:22] < 100).any()
    assert not np.array_equal(pictures[0][:22], pictures[1][:22])  # the step
    assert pictures[0][22:].std() > 10
    assert np.array(Image.open(tmp_path / "reals.png")).shape == pictures[0].shape


def test_pictures_come_early_and_then_regularly(tmp_path):
    G, D = Painter(1), nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    options = {"source": torch.rand(30, 1, 4, 4), "samples": 1, "checkpoint_every": 150}

    def steps():
        return [int(path.stem[8:]) for path in sorted(tmp_path.glob("samples-*.png"))]

    run(tmp_path, G=G, D=D, steps=150, sample_every=250, **options)
    assert steps() == [0, 100, 150]
    run(tmp_path, G=G, D=D, steps=501, sample_every=250, resume="auto", **options)
    assert steps() == [0, 100, 150, 200, 250, 500, 501]


def test_grids_use_the_average_once_its_initial_weights_have_decayed(tmp_path, monkeypatch):
    """And say so in their captions."""
    captions = []
    monkeypatch.setattr(run_samples, "captioned", lambda *a: captions.append(a[1]) or captioned(*a))

    def trained(decay, steps):
        torch.manual_seed(0)
        G, D = Painter(1), nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
        out = tmp_path / f"{decay}-{steps}"
        options = {"source": torch.rand(30, 1, 4, 4), "sample_every": 100, "samples": 4}
        trainer = run(out, G=G, D=D, steps=steps, ema=decay, **options).trainer
        assert trainer.ema is not None
        return np.array(Image.open(out / f"samples-{steps:08d}.png"))[22:]

    # 0.9^29 is below 0.05, and 0.9^28 above.
    plain, late = trained(0.999, 28), trained(0.999, 29)
    assert (
        np.array_equal(trained(0.9, 28), plain)
        and captions[-1] == "step 28, without EMA (too early)"
    )
    assert not np.array_equal(trained(0.9, 29), late) and captions[-1] == "step 29, with EMA"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("n", [1, 2, 5, 16])
def test_a_grid_contains_each_image(n, channels):
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


PICTURES = [
    ((4, 1, 8, 8), True),
    ((4, 3, 8, 8), True),
    ((4, 28, 28), True),
    ((4, 3, 64, 512), True),
]
SOUND = [((26, 1, 128016), False), ((4, 2, 16000), False), ((4, 1, 1, 400), False)]
NEITHER = [((4, 2, 8, 8), False), ((4, 6), False), ((4, 3, 1, 1), False), ((4, 3, 5, 8, 8), False)]


@pytest.mark.parametrize(("shape", "expected"), [*PICTURES, *SOUND, *NEITHER])
def test_audio_is_not_shown_as_pictures(shape, expected):
    assert is_images(torch.empty(shape, device="meta")) == expected


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((9, 1, 1500, 1500), (3006, 3006, 1)),  # a grid of four
        ((4, 3, 2000, 100), (4006, 206, 3)),
        ((2, 1, 9000, 600), (3004, 406, 1)),  # every third pixel
        ((900, 6, 6), (242, 242, 1)),
    ],
)
def test_a_grid_is_never_larger_than_4096_pixels(shape, expected):
    images = torch.rand(shape)
    grid = image_grid(images)
    assert grid.shape == expected
    first = images.reshape(shape[0], -1, *shape[-2:])[0, 0, 0, 0]
    assert abs(int(grid[2, 2, 0]) - (first + 1) * 127.5) <= 0.51


def test_small_images_are_enlarged_by_an_integer_factor():
    images = torch.linspace(-1, 1, 6 * 12).reshape(6, 1, 3, 4)
    grid, large = image_grid(images), image_grid(images, width=100)
    # A factor of 7 would give a width of 92.
    assert large.shape == (
        2 + 2 * (8 * 3 + 2),
        2 + 3 * (8 * 4 + 2),
        1,
    )
    for row in range(2):
        for column in range(3):
            small = grid[2 + 5 * row :, 2 + 6 * column :][:3, :4, 0]
            found = large[2 + 26 * row :, 2 + 34 * column :][:24, :32, 0]
            np.testing.assert_array_equal(found, small.repeat(8, 0).repeat(8, 1))
    # No enlargement beyond a height of 4096 pixels.
    assert image_grid(torch.zeros(2, 1, 900, 60), width=2000).shape[0] <= 4096
