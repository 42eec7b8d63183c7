"""The options of pygan.fit: a single list, from which everything else is derived."""

import dataclasses
import inspect
import pydoc
import subprocess
import sys

import pytest
from helpers import ROOT, raises
from helpers.fit import data, metrics, networks, run

import pygan
from pygan import FitOptions, GANTrainer
from pygan.trainer import TrainStats
from pygan.training.option_docstrings import argument_texts, field_texts

FIELDS = {field.name: field for field in dataclasses.fields(FitOptions)}
OF_TRAINER = {
    name: parameter
    for name, parameter in inspect.signature(GANTrainer).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY and name != "scaler"
}


def test_every_option_has_a_description():
    assert list(field_texts(FitOptions)) == list(FIELDS)
    assert all(text[-1] in ".)" for text in field_texts(FitOptions).values())
    assert argument_texts(GANTrainer).keys() >= OF_TRAINER.keys()


def test_options_of_fit_and_trainer_have_different_names():
    assert FIELDS.keys() & OF_TRAINER.keys() == {"seed"}


def test_signature_and_help_list_every_option_with_its_default():
    parameters = inspect.signature(pygan.fit).parameters
    networks = ["generator", "discriminator", "data", "g_optimizer", "d_optimizer"]
    assert parameters.keys() == {*networks, *FIELDS, *OF_TRAINER}
    for name, field in FIELDS.items():
        has_none = field.default is dataclasses.MISSING
        assert parameters[name].default is (inspect.Parameter.empty if has_none else field.default)
    for name in OF_TRAINER.keys() - FIELDS.keys():
        assert parameters[name].default is OF_TRAINER[name].default
    text = pydoc.plain(pydoc.render_doc(pygan.fit))
    assert "log_every: 'int' = 50" in text and "d_steps: 'int' = 1" in text
    for page in (text, pydoc.plain(pydoc.render_doc(FitOptions))):
        assert "    log_every: Steps between lines of metrics; logging" in page


def test_the_keyword_stub_is_up_to_date(tmp_path):
    out = tmp_path / "_fit_keywords.pyi"
    subprocess.run([sys.executable, ROOT / "tools/fit_keywords.py", "--out", out], check=True)
    stub = ROOT / "pygan/training/_fit_keywords.pyi"
    assert out.read_text() == stub.read_text(), "python tools/fit_keywords.py writes it anew"


def test_fit_options_can_be_passed_as_keywords(tmp_path):
    options = FitOptions(steps=3, batch_size=8, out=tmp_path / "a", seed=3, log_every=1)
    options = dataclasses.replace(options, monitor=False, sample_every=None, tensorboard=False)
    result = run(**vars(dataclasses.replace(options, out=str(tmp_path / "b"))))
    assert result.steps == 3 and len(metrics(tmp_path / "b")) == 3


def test_missing_required_options_are_named(tmp_path):
    G, D = networks()
    with raises(TypeError, "pygan.fit: steps and latent must be given, got none"):
        pygan.fit(G, D, data(), g_optimizer=None, d_optimizer=None, out=tmp_path)
    with raises(TypeError, "pygan.fit: batch_size must be given, got none"):
        run(tmp_path, batch_size=None)
    with raises(TypeError, "pygan.fit: got an unexpected option 'step'; did you mean 'steps'?"):
        pygan.fit(G, D, data(), g_optimizer=None, d_optimizer=None, step=1, out=tmp_path)


def test_fit_options_are_checked_at_construction():
    with raises(TypeError, "pygan.fit: workers must be an int, got str"):
        FitOptions(steps=1, batch_size=1, out="a", workers="2")
    with pytest.raises(dataclasses.FrozenInstanceError):
        FitOptions(steps=1, batch_size=1, out="a").steps = 2


def test_terms_of_the_generator_are_logged(tmp_path, monkeypatch):
    class WithTerms(TrainStats):
        pass

    step = GANTrainer.step

    def with_terms(self, *args, **kwargs):
        stats = WithTerms(*step(self, *args, **kwargs))
        stats.terms = {"l1": 2 * stats.g_loss, "mel": stats.d_loss.double()}
        return stats

    monkeypatch.setattr(GANTrainer, "step", with_terms)
    result = run(tmp_path, evaluate=lambda sample: {"l1": 1.0})
    lines = metrics(tmp_path)
    assert len(lines) == 4 and lines[-1].items() <= result.metrics.items()
    for line in lines:
        assert line["terms/l1"] == pytest.approx(2 * line["g_loss"])
        assert line["terms/mel"] == line["d_loss"]
    with raises(
        ValueError,
        "pygan.fit: evaluate must return names that differ from those of the statistics, got 'te",
    ):
        run(tmp_path / "b", evaluate=lambda sample: {"terms/l1": 1.0})
