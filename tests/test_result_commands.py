"""`pygan sample`, `pygan export` and `pygan eval` on runs of two steps."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers_fit import Items
from helpers_result import trained
from torch import nn

import pygan
from pygan import __main__, checkpoint, datasets, metrics
from pygan.result import arguments, evaluate, export
from pygan.result import features as by
from pygan.training.preview import image_grid


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    for name in ("ring", "digits"):
        trained(name, out / name)
    trained("grid", out / "grid", "data.scale=0.5")
    return out


def pictures(folder, n, size):
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(n):
        Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(
            folder / f"{i}.png"
        )
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A run on a folder of pictures, and the folder."""
    out = tmp_path_factory.mktemp("photos")
    folder = pictures(out / "data", 12, 16)
    settings = ("data.size=16", "train.workers=0", "train.batch_size=4")
    trained(folder, out / "run", *settings)
    return out / "run", folder


def command(*given):
    return __main__.main([str(one) for one in given])


def read(path):
    from PIL import Image

    return np.asarray(Image.open(path))


def test_samples_as_arrays(runs, tmp_path, capsys):
    out = tmp_path / "new" / "x.npz"
    assert command("sample", runs / "digits", "--n", 70, "--out", out, "--seed", 5) == 0
    assert f"70 samples in {out}: seed 5, the average of step 2" in capsys.readouterr().out
    arrays = np.load(out)
    assert list(arrays) == ["samples"]
    expected = pygan.load_generator(runs / "digits").sample(70, seed=5)
    torch.testing.assert_close(torch.from_numpy(arrays["samples"]), expected, rtol=0, atol=0)
    more = ("--truncation", 0.5, "--batch", 7, "--no-average", "--checkpoint", 2, "--force")
    assert command("sample", runs / "digits", "--n", 9, "--out", out, *more) == 0
    own = pygan.load_generator(runs / "digits", average=False).sample(9, truncation=0.5)
    torch.testing.assert_close(torch.from_numpy(np.load(out)["samples"]), own)
    assert "the generator of step 2" in capsys.readouterr().out


def test_samples_as_a_folder_of_pictures(runs, photos, tmp_path):
    out = tmp_path / "samples"
    assert command("sample", photos[0], "--n", 5, "--out", out) == 0
    images = pygan.load_generator(photos[0]).sample(5)
    names = [f"sample-{i:06d}.png" for i in range(5)]
    assert sorted(path.name for path in out.iterdir()) == names
    for name, image in zip(names, images, strict=True):
        np.testing.assert_array_equal(read(out / name), image_grid(image[None], padding=0))
    # Of fewer, none of the earlier ones are left; other files are.
    (out / "notes.txt").write_text("mine")
    assert command("sample", runs / "digits", "--n", 2, "--out", out) == 2
    assert command("sample", runs / "digits", "--n", 2, "--out", out, "--force") == 0
    assert sorted(path.name for path in out.iterdir()) == ["notes.txt", *names[:2]]
    assert read(out / names[0]).shape == (8, 8)


def test_samples_as_one_picture(runs, tmp_path):
    assert command("sample", runs / "digits", "--out", tmp_path / "digits.png") == 0
    grid = image_grid(pygan.load_generator(runs / "digits").sample(64))[..., 0]
    np.testing.assert_array_equal(read(tmp_path / "digits.png"), grid)
    assert command("sample", runs / "grid", "--n", 200, "--out", tmp_path / "grid.png") == 0
    assert read(tmp_path / "grid.png").ndim == 3


def conditional(classes):
    """What the commands load, of a run whose generator makes the number of its class."""

    class Numbers(nn.Module):
        def __init__(self):
            super().__init__()
            self.zero = nn.Parameter(torch.zeros(()))

        def forward(self, latent, labels):
            pixels = (labels / 10).reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8)
            return pixels + self.zero * latent.sum(1).reshape(-1, 1, 1, 1)

    state = {"run": {"latent": 3}, "samples": {"shape": [1, 8, 8], "conditional": True}, "step": 4}
    config = {} if classes is None else {"classes": classes}
    return pygan.TrainedGenerator(Numbers(), {**state, "config": config}, averaged=False)


@pytest.fixture
def animals(monkeypatch):
    generator = conditional(["cat", "dog", "../owl"])
    monkeypatch.setattr(arguments, "load_generator", lambda *_, **__: generator)
    return generator


def test_classes_come_in_turn_or_one_alone(animals, tmp_path, capsys):
    out = tmp_path / "x.npz"
    assert command("sample", "none.pt", "--n", 4, "--out", out) == 0
    arrays = np.load(out)
    assert arrays["labels"].tolist() == [0, 1, 2, 0]
    np.testing.assert_allclose(arrays["samples"][:, 0, 0, 0], [0, 0.1, 0.2, 0])
    for name in ("dog", "1"):
        assert command("sample", "none.pt", "--n", 4, "--out", out, "--class", name, "--force") == 0
        assert np.load(out)["labels"].tolist() == [1] * 4
    capsys.readouterr()
    assert command("sample", "none.pt", "--out", tmp_path / "y.npz", "--class", "cow") == 2
    error = capsys.readouterr().err
    assert error == (
        "pygan sample: --class must be one of cat, dog, ../owl, or its number, got 'cow'\n"
    )
    # Each class has a folder; a name that leads elsewhere gives way to the number.
    assert command("sample", "none.pt", "--n", 3, "--out", tmp_path / "all") == 0
    found = sorted(str(path.relative_to(tmp_path / "all")) for path in tmp_path.rglob("*.png"))
    assert found == ["2/sample-000002.png", "cat/sample-000000.png", "dog/sample-000001.png"]


def test_a_class_is_a_number_where_they_have_no_names(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(arguments, "load_generator", lambda *_, **__: conditional(None))
    assert command("sample", "none.pt", "--out", tmp_path / "x.npz") == 2
    assert "--class must be given, because the configuration of the run" in capsys.readouterr().err
    assert command("sample", "none.pt", "--out", tmp_path / "x.npz", "--class", 7) == 0
    assert np.load(tmp_path / "x.npz")["labels"].tolist() == [7] * 64


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["digits", "--out", "x.jpg"], "--out must be a folder, or end in .npz or .png, got x.jpg"),
        (["ring", "--out", "x"], "--out must end in .npz for samples of shape (2,), of which a"),
        (["digits", "--out", "x.npz", "--class", "3"], "--class must not be given for a run witho"),
        (["digits", "--out", "x.npz", "--truncation", "-1"], "truncation must be finite and at le"),
        (["digits", "--out", "x.npz", "--checkpoint", "9"], "does not exist; steps that do: 2"),
        (["digits", "--out", "x.png", "--n", "900000"], "--n must be at most 167281, which one p"),
        (["digits", "--out", "x.npz", "--device", "tpu"], "--device must be one that torch has"),
        (["none", "--out", "x.npz"], "none does not exist"),
    ],
)
def test_what_sample_refuses_is_one_line_and_status_2(
    given, message, runs, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert command("sample", runs / given[0], *given[1:]) == 2
    error = capsys.readouterr().err
    assert error.startswith("pygan sample: ") and message in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_replaced_without_force(runs, tmp_path, capsys):
    for suffix, name in ((".npz", "sample"), (".png", "sample"), (".pt2", "export")):
        out = tmp_path / f"x{suffix}"
        out.write_text("mine")
        assert command(name, runs / "digits", "--out", out) == 2
        assert out.read_text() == "mine" and "--force replaces it" in capsys.readouterr().err
        assert command(name, runs / "digits", "--out", out, "--force") == 0
        assert out.read_bytes()[:4] != b"mine"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_program_of_torch_export_takes_batches_of_any_size(runs, tmp_path, capsys):
    out = tmp_path / "x.pt2"
    assert command("export", runs / "grid", "--format", "torch.export", "--out", out) == 0
    assert "torch.export.load makes the samples of the generator" in capsys.readouterr().out
    G, module = pygan.load_generator(runs / "grid"), torch.export.load(out).module()
    for n in (1, 3, 64):
        z = torch.randn(n, 2)
        torch.testing.assert_close(module(z), G(z))


def test_a_conditional_program_takes_labels(animals, tmp_path):
    out = tmp_path / "x.pt2"
    assert command("export", "none.pt", "--out", out) == 0
    labels = torch.tensor([2, 1, 0, 1])
    samples = torch.export.load(out).module()(torch.randn(4, 3), labels)
    torch.testing.assert_close(samples[:, 0, 0, 0], labels / 10)


@pytest.mark.parametrize("runtime", ["onnxruntime", "reference"])
def test_onnx_takes_batches_of_any_size(runs, photos, tmp_path, capsys, monkeypatch, runtime):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    from onnx.reference import ReferenceEvaluator

    if runtime == "onnxruntime":
        pytest.importorskip("onnxruntime")
    else:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for run in (runs / "digits", photos[0]):
        out = tmp_path / f"{run.name}.onnx"
        assert command("export", run, "--out", out) == 0
        assert runtime in capsys.readouterr().out
        model = onnx.load(out)
        (entry,) = model.graph.input
        assert entry.name == "latent" and model.graph.output[0].name == "samples"
        G = pygan.load_generator(run)
        z = torch.randn(7, *G.latent_shape)
        (samples,) = ReferenceEvaluator(model).run(None, {"latent": z.numpy()})
        torch.testing.assert_close(torch.from_numpy(samples), G(z).detach(), rtol=1e-3, atol=1e-5)


def test_without_onnx_it_says_what_installs_it(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert command("export", runs / "ring", "--out", tmp_path / "x.onnx") == 2
    assert 'export --format onnx needs what pip install ".[export]"' in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_makes_other_samples_is_not_left(runs, tmp_path, capsys, monkeypatch):
    wrong = lambda path: ("it", lambda inputs: inputs[0] + 1)  # noqa: E731
    monkeypatch.setattr(export, "_program", wrong)
    assert command("export", runs / "ring", "--out", tmp_path / "x.pt2") == 2
    assert "the file must make the generator's samples, but it makes" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    for given in (["x.bin"], ["x.onnx", "--format", "torch.export"]):
        assert command("export", runs / "ring", "--out", tmp_path / given[0], *given[1:]) == 2
        assert "--out must end in .pt2" in capsys.readouterr().err


def test_points_are_judged_by_their_modes(runs, tmp_path, capsys):
    out = tmp_path / "scores.json"
    assert command("eval", runs / "grid", "--n", 300, "--seed", 2, "--out", out) == 0
    found = json.loads(out.read_text())
    samples = pygan.load_generator(runs / "grid").sample(2500, seed=2)
    expected = metrics.mode_coverage(samples, datasets.GRID)
    assert (found["modes"], found["high_quality"]) == (expected.modes, expected.high_quality)
    generator = torch.Generator().manual_seed(2)
    reals = datasets.grid(500, generator=generator)
    torch.manual_seed(2)
    order = torch.randperm(500)[:300]
    distance = metrics.frechet_distance(reals[order], samples[:300])
    assert found["frechet_distance"] == pytest.approx(distance, rel=1e-4)
    precision, recall = metrics.precision_recall(reals[order], samples[:300])
    assert (found["precision"], found["recall"]) == pytest.approx((precision, recall), abs=0.01)
    assert (found["n"], found["n_real"], found["data"], found["step"]) == (300, 300, "grid", 2)
    shown = capsys.readouterr().out
    assert "features: the 2 values of a sample themselves" in shown
    assert f"  frechet_distance  {distance:.4g}" in shown
    assert command("eval", runs / "grid", "--out", out) == 2  # it is there
    assert "--force" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["pair", "dataset"])
def test_classes_are_generated_as_often_as_the_data_have_them(form, monkeypatch, capsys):
    labels = torch.tensor([0] * 8 + [1, 2])
    images = (labels / 10).reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    items = list(zip(images, labels.tolist(), strict=True))
    data = (images, labels) if form == "pair" else Items(items)
    made = SimpleNamespace(data=data, shape=(1, 8, 8), evaluate=None)
    generator = conditional(["cat", "dog", "owl"])
    generator.config["data"] = {"name": "digits"}
    monkeypatch.setattr(arguments, "load_generator", lambda *_, **__: generator)
    monkeypatch.setattr(evaluate, "source", lambda *_: made)
    assert command("eval", "none.pt", "--n", 20) == 0
    numbers = dict(line.split() for line in capsys.readouterr().out.splitlines()[2:])
    # The covariances are those over n - 1, of 10 and of 20.
    assert float(numbers["frechet_distance"]) < 1e-3
    assert float(numbers["precision"]) == float(numbers["recall"]) == 1.0


def test_the_data_judged_by_themselves_are_perfect(runs, capsys, monkeypatch):
    """Samples in the place of the generator's: the distance of one sample of the data to another, near 0."""
    digits = datasets.digits()[0]

    def batches(self, n, *_):
        yield digits.flip(0)[:n]

    monkeypatch.setattr(pygan.TrainedGenerator, "batches", batches)
    assert command("eval", runs / "digits") == 0
    numbers = dict(line.split() for line in capsys.readouterr().out.splitlines()[2:])
    assert float(numbers["frechet_distance"]) < 1e-9
    assert float(numbers["precision"]) == float(numbers["recall"]) == 1.0


def test_pictures_are_judged_against_a_folder(photos, tmp_path, capsys):
    run, folder = photos
    assert command("eval", run) == 0
    shown = capsys.readouterr().out
    assert f"12 samples, seed 0, against 12 of {folder}" in shown
    assert "features: 192 of convolutions with random weights (no FID)" in shown
    other = pictures(tmp_path / "other", 6, 20)
    assert command("eval", run, "--data", other, "--n", 9, "--features", "values") == 0
    shown = capsys.readouterr().out
    assert f"9 samples, seed 0, against 6 of {other}" in shown and "the 768 values" in shown
    assert command("eval", run, "--data", "digits") == 2
    assert command("eval", run, "--n", 3) == 2
    assert "must be at least 4, got 3" in capsys.readouterr().err


def test_data_that_have_moved_are_to_be_named(tmp_path, capsys):
    from PIL import Image

    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(4):
        Image.new("RGB", (8, 8), (60 * i, 0, 0)).save(folder / f"{i}.png")
    trained(folder, tmp_path / "run", "data.size=8", "train.workers=0", "train.batch_size=2")
    moved = folder.rename(tmp_path / "moved")
    capsys.readouterr()
    assert command("eval", tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert error.startswith("pygan eval: --data must be ring, grid, digits, stacked-digits, or a")
    assert f"got '{folder}'" in error
    assert command("eval", tmp_path / "run", "--data", moved) == 0


def test_random_convolutions_tell_pictures_apart_and_are_the_same_everywhere():
    found = by.features("random-conv", (3, 16, 16), torch.device("cpu"))
    torch.manual_seed(5)
    noise = torch.rand(400, 3, 16, 16) * 2 - 1
    again = by.features("random-conv", (3, 16, 16), torch.device("cpu"))
    torch.testing.assert_close(found.of(noise), again.of(noise), rtol=0, atol=0)
    blurred = nn.functional.avg_pool2d(noise, 3, 1, 1)
    a, b, other = (found.of(x) for x in (noise[:200], noise[200:], blurred[200:]))
    assert metrics.frechet_distance(a, other) > 5 * metrics.frechet_distance(a, b)


def test_inception_is_taken_where_it_is_there_and_asked_for_elsewhere(
    tmp_path, monkeypatch, photos, capsys
):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert command("eval", photos[0], "--features", "inception") == 2
    error = capsys.readouterr().err
    assert "pygan eval: --features inception needs " in error
    assert str(tmp_path / "checkpoints/weights-inception-2015-12-05-6726825d.pth") in error
    assert by.features(None, (3, 64, 64), torch.device("cpu")).name.startswith("704 of conv")
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    monkeypatch.setattr(
        fidelity.FeatureExtractorInceptionV3, "load_state_dict", lambda *_, **__: None
    )
    path = tmp_path / "checkpoints" / by._INCEPTION[0]
    path.parent.mkdir()
    torch.save({}, path)
    assert "got a file that is damaged" in by._missing()
    monkeypatch.setattr(by, "_INCEPTION", (path.name, ""))
    found = by.features(None, (1, 32, 32), torch.device("cpu"))
    assert found.name.startswith("2048 of Inception-v3")
    assert found.of(torch.zeros(2, 1, 32, 32)).shape == (2, 2048)


@pytest.mark.slow
def test_stacked_digits_are_judged_by_their_modes(tmp_path):
    trained("stacked-digits", tmp_path / "run", "data.samples=500")
    assert command("eval", tmp_path / "run", "--n", 100, "--out", tmp_path / "x.json") == 0
    found = json.loads((tmp_path / "x.json").read_text())
    assert {"modes", "reverse_kl", "sure", "precision"} <= set(found)


def test_help_lists_every_command_and_a_call_imports_one():
    """Each imports its own module only: `python -m pygan` is to be quick."""
    assert set(__main__._COMMANDS) == {"train", "sample", "eval", "export", "bench"}
    lines = [
        "import sys, pygan.__main__ as m",
        "try: m.main(['--help'])",
        "except SystemExit: pass",
    ]
    shown = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
    ).stdout
    for name in __main__._COMMANDS:
        assert f"\n    {name} " in shown
    code = "import sys, pygan.__main__ as m\nm.main([])\nprint([x for x in m._COMMANDS.values() if x in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "[]"
    assert __main__._modules(["eval", "x"]) == [evaluate.__name__]


def test_the_newest_checkpoint_is_taken_or_the_one_that_is_named(tmp_path, capsys):
    trained("ring", tmp_path, "train.checkpoint_every=1")
    first = checkpoint.latest(tmp_path / "checkpoints").with_name("step-00000001.pt")
    for given in (["--checkpoint", "1"], ["--checkpoint", first.name], []):
        out = tmp_path / "x.npz"
        assert command("sample", tmp_path, "--out", out, "--force", *given) == 0
        assert f"of step {1 if given else 2}" in capsys.readouterr().out
    assert command("sample", first, "--out", out, "--force", "--checkpoint", "2") == 2
    assert "must be the folder of a run where a checkpoint is named" in capsys.readouterr().err
