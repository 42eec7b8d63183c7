"""`pygan export` on two-step runs: files that accept batches of any size."""

import logging
import sys

import pytest
import torch
from helpers.result import command

import pygan
from pygan.result import export


def test_an_exported_program_accepts_batches_of_any_size(runs, tmp_path, capsys):
    out = tmp_path / "x.pt2"
    assert command("export", runs / "grid", "--format", "torch.export", "--out", out) == 0
    assert (
        "torch.export.load reproduces the generator's samples in batches of 1, 2, 5"
        in capsys.readouterr().out
    )
    G, module = pygan.load_generator(runs / "grid"), torch.export.load(out).module()
    for n in (1, 3, 64):
        z = torch.randn(n, 2)
        torch.testing.assert_close(module(z), G(z))


def test_an_exported_conditional_program_accepts_labels(animals, tmp_path):
    out = tmp_path / "x.pt2"
    assert command("export", "none.pt", "--out", out) == 0
    labels = torch.tensor([2, 1, 0, 1])
    samples = torch.export.load(out).module()(torch.randn(4, 3), labels)
    torch.testing.assert_close(samples[:, 0, 0, 0], labels / 10)


@pytest.mark.parametrize("runtime", ["onnxruntime", "reference"])
def test_onnx_accepts_batches_of_any_size(runs, photos, tmp_path, capsys, monkeypatch, runtime):
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


def test_onnx_is_exported_without_warnings(runs, tmp_path, caplog, monkeypatch):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(logging.getLogger("torch"), "handlers", [caplog.handler])
    assert command("export", runs / "ring", "--out", tmp_path / "x.onnx") == 0
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_missing_onnx_package_is_named(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert command("export", runs / "ring", "--out", tmp_path / "x.onnx") == 2
    assert (
        'pygan export: --format onnx needs more packages; run pip install ".[export]"'
        in capsys.readouterr().err
    )
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_wrong_samples_is_removed(runs, tmp_path, capsys, monkeypatch):
    wrong = lambda path: ("it", lambda inputs: inputs[0] + 1)  # noqa: E731
    monkeypatch.setattr(export, "_program", wrong)
    assert command("export", runs / "ring", "--out", tmp_path / "x.pt2") == 2
    assert (
        "the file must reproduce the generator's samples, got different ones from it"
        in capsys.readouterr().err
    )
    assert list(tmp_path.iterdir()) == []
    for given in (["x.bin"], ["x.onnx", "--format", "torch.export"]):
        assert command("export", runs / "ring", "--out", tmp_path / given[0], *given[1:]) == 2
        assert "--out must end in .pt2" in capsys.readouterr().err
