"""The configuration of `pygan train`: recipes, files and keys that override each other, and errors in them."""

import pytest

from pygan.penalties import R1, GradientPenalty
from pygan.schedules import Cosine, Step
from pygan.training import config
from pygan.training.config import ConfigError


def file(tmp_path, text):
    path = tmp_path / "run.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", [*config.recipes(), "photos"])
def test_every_recipe_is_complete_and_can_be_written_as_toml(name, tmp_path):
    recipe = config.load(name)
    assert recipe.data.name == name
    recipe.schedule(), recipe.penalty_list()
    again = config.load(path=file(tmp_path, config.as_toml(recipe)))
    assert again == recipe


def test_none_undoes_what_a_recipe_sets(tmp_path):
    assert config.load("digits").train["ema"] == 0.999
    loaded = config.load("digits", file(tmp_path, 'train.ema = "none"'))
    assert loaded.train["ema"] is None
    overrides = {}
    config.override(overrides, "train.ema=none")
    assert config.load("digits", overrides=overrides) == loaded
    assert config.load(path=file(tmp_path, config.as_toml(loaded))) == loaded
    photos = {**loaded.plain(), "data": {"name": str(tmp_path)}}
    assert config.load(str(tmp_path), resumed=photos).train["ema"] is None
    with pytest.raises(config.ConfigError, match=r"\[train\] steps must be an int, got 'none'"):
        config.load("digits", file(tmp_path, 'train.steps = "none"'))


def test_there_are_recipes_for_all_data():
    assert config.recipes() == [
        "digits",
        "grid",
        "mnist",
        "ring",
        "stacked-digits",
        "stacked-mnist",
    ]


def test_files_override_recipes_and_the_command_line_overrides_files(tmp_path):
    path = file(
        tmp_path,
        """
        [data]
        name = "grid"
        samples = 500
        [train]
        steps = 70
        ema = 0.5
        [noise]
        schedule = "Cosine"
        start = 0.5
        end = 0.0
        until = 0.3
        [[penalties]]
        name = "GradientPenalty"
        [[penalties]]
        name = "R1"
        gamma = {schedule = "Step", values = [1.0, 0.5], milestones = [10]}
        sigma = 0.1
        """,
    )
    recipe = config.load("ring")
    overrides = {}
    for given in ("train.steps=100", 'train.loss = "hinge"', "model.width=9"):
        config.override(overrides, given)
    loaded = config.load("ring", path, overrides)
    assert loaded.data.name == "ring"  # --data replaces the file's
    assert loaded.data.samples == 500
    assert (loaded.train["steps"], loaded.train["ema"], loaded.train["loss"]) == (100, 0.5, "hinge")
    assert loaded.train["batch_size"] == recipe.train["batch_size"]
    assert loaded.model == {**recipe.model, "width": 9}
    schedule = loaded.schedule()
    assert isinstance(schedule, Cosine)
    assert (schedule.start, schedule.end, schedule.steps) == (0.5, 0.0, 30)
    penalty, r1 = loaded.penalty_list()
    assert penalty == GradientPenalty()
    assert isinstance(r1, R1)
    assert isinstance(r1.gamma, Step)
    assert r1.sigma == 0.1


def test_another_architecture_does_not_inherit_keys(tmp_path):
    path = file(tmp_path, '[model]\narchitecture = "dcgan"\nlatent = 8')
    assert config.load("ring", path).model == {"architecture": "dcgan", "latent": 8}


def test_no_noise_and_no_penalties(tmp_path):
    path = file(tmp_path, 'penalties = []\n[noise]\nschedule = "none"')
    loaded = config.load("photos", path)
    assert loaded.schedule() is None
    assert loaded.penalty_list() == []


BAD = [
    ("[trian]", "unknown table: 'trian'; did you mean train?"),
    ("[train]\nstpes = 3", r"unknown key of \[train\]: 'stpes'; did you mean steps?"),
    ("[train]\nresume = true", r"unknown key of \[train\]: 'resume'"),
    ("[data]\nsamples = 'x'", r"\[data\] samples must be an int, got 'x'"),
    ("[data]\nsamples = true", r"\[data\] samples must be an int, got true"),
    ("[optimizer]\nd_lr = 'x'", r"\[optimizer\] d_lr must be a number, got 'x'"),
    (
        "[optimizer]\nbetas = [0.5]",
        r"\[optimizer\] betas must be two numbers from 0 to below 1, got \[0.5\]",
    ),
    (
        "[model]\narchitecture = 'unet'",
        r"\[model\] architecture must be one of mlp, dcgan, got 'unet'",
    ),
    ("[model]\nwidht = 3", r"unknown key of \[model\]: 'widht'; did you mean width?"),
    ("[noise]\nschedule = 'Cosin'", r"\[noise\] schedule must be one of .*Cosine.*, got 'Cosin'"),
    ("[noise]\nschedule = 'Cosine'", r"\[noise\] must have start"),
    ("[noise]\nschedule = 'Constant'\nsigma = -1", r"\[noise\] Constant: sigma must be"),
    ("[[penalties]]\nname = 'R3'", r"\[\[penalties\]\] name must be one of R1, .*, got 'R3'"),
    ("[[penalties]]\nname = 'R1'", r"\[\[penalties\]\] must have gamma"),
    ("[penalties]\nname = 'R1'", r"\[penalties\] must be a list of tables"),
    ("train = 3", r"\[train\] must be a table"),
    ("[train", "must be TOML"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_errors_name_the_file_and_the_key(text, message, tmp_path):
    with pytest.raises(ConfigError, match=rf"pygan train: .*run.toml.*{message}"):
        config.load("ring", file(tmp_path, text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*none.toml: No such file"):
        config.load("ring", tmp_path / "none.toml")


@pytest.mark.parametrize("given", ["steps=3", "train.steps", "=3"])
def test_malformed_overrides_are_refused(given):
    with pytest.raises(ConfigError, match=r"must be given TABLE\.KEY=VALUE"):
        config.override({}, given)
