"""Values in the configuration of `pygan train`: every value takes effect or is refused with a message."""

import inspect
import re
import string
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from inspect import Parameter
from typing import Any

import pytest
from helpers import raises
from hypothesis import given, settings
from hypothesis import strategies as st

from pygan import __main__, penalties, schedules
from pygan.schedules import Schedule
from pygan.training import config
from pygan.training.config import Config, ConfigError, DataTable, OptimizerTable
from pygan.training.config_train import train_keys
from pygan.training.config_values import as_value, check_values, is_plain
from pygan.training.models import ARCHITECTURES


def load(text, tmp_path, data="ring"):
    path = tmp_path / "run.toml"
    path.write_text(text)
    return config.load(data, path)


DIFFUSION = "[noise]\nschedule = 'DiffusionMixture'\n"
REFUSED = [
    # Values that had no effect, or only until something else replaced them.
    ("[noise]\nstart = 1", "[noise] schedule must be one of Adaptive, Constant, "),
    (
        "[noise]\nschedule = 'none'\nstart = 1",
        '[noise] must have no other keys with schedule "none"',
    ),
    ("[noise]\nschedule = 'none'\nfoo = 1", '[noise] must have no other keys with schedule "none"'),
    ("data = 5", "[data] must be a table"),
    ("train = 'a'", "[train] must be a table"),
    ("noise = 'none'", "[noise] must be a table"),
    ("penalties = 'R1'", "[penalties] must be a list of tables"),
    ("penalties = [1]", "[penalties] must be a list of tables"),
    ("[data]\nsize = 64", "[data] size has no effect on ring, got 64"),
    ("[data]\nbackground = 'black'", "[data] background has no effect on ring, got 'black'"),
    *(
        (
            f"[noise]\nschedule = 'Constant'\nsigma = 1\nuntil = {until}",
            "[noise] until must be omitted",
        )
        for until in ("0.5", "'a'")
    ),
    (
        "[noise]\nschedule = 'Cosine'\nstart = 1\nend = 0\nsteps = 5\nuntil = 0.5",
        "[noise] until must be omitted with steps",
    ),
    # Out of range.
    *(
        (
            f"[noise]\nschedule = 'Cosine'\nstart = 1\nend = 0\nuntil = {until}",
            "[noise] until must be a fraction of the run, above 0 and at most 1, got",
        )
        for until in ("-3", "0", "1.5", "'a'", "true", "[1]")
    ),
    (
        "[noise]\nschedule = 'Cosine'\nstart = 1\nend = 0\nuntil = inf",
        "[noise] until must be finite, got inf",
    ),
    ("[optimizer]\ndecay_from = -5", "[optimizer] decay_from must be from 0 to 1, got -5"),
    ("[optimizer]\nlr = inf", "[optimizer] lr must be finite, got inf"),
    ("[optimizer]\nlr = 0", "[optimizer] lr must be positive, got 0"),
    ("[optimizer]\nd_lr = nan", "[optimizer] d_lr must be finite, got nan"),
    ("[optimizer]\nd_lr = -1.0", "[optimizer] d_lr must be positive, got -1.0"),
    ("[optimizer]\nbetas = [0.5, inf]", "[optimizer] betas must be finite, got inf"),
    ("[optimizer]\nbetas = [0.5, 1]", "[optimizer] betas must be two numbers from 0 to below 1"),
    ("[optimizer]\nbetas = [0.5, true]", "each of [optimizer] betas must be a number, got true"),
    ("[data]\nscale = inf", "[data] scale must be finite, got inf"),
    ("[data]\nscale = 0", "[data] scale must be from 1e-06 to 1000000.0, got 0"),
    ("[data]\nscale = 1e300", "[data] scale must be from 1e-06 to 1000000.0, got 1e+300"),
    ("[train]\nsteps = 0", "[train] steps must be at least 1, got 0"),
    ("[train]\nseed = -1", "[train] seed must be at least 0 or None, got -1"),
    ("[train]\nlabel_smoothing = 2", "[train] label_smoothing must be from 0 to 1, got 2"),
    # Wrong types.
    ("[train]\nseed = 1.5", "[train] seed must be an int, got 1.5"),
    ("[train]\nseed = true", "[train] seed must be an int, got true"),
    ("[train]\nsteps = true", "[train] steps must be an int, got true"),
    ("[train]\nlabel_smoothing = 'a'", "[train] label_smoothing must be a number, got 'a'"),
    ("[train]\nloss = 3", "[train] loss must be a string, got 3"),
    ("[train]\nloss = 'hing'", "[train] loss must be one of non_saturating, "),
    ("[train]\ndrop_last = 1", "[train] drop_last must be true or false, got 1"),
    ("[train]\nmonitor = 'x'", "[train] monitor must be true or false, got 'x'"),
    ("[train]\nema = 1979-05-27", "[train] ema must be a number, a string, true, false or a list"),
    ("[model]\narchitecture = ['mlp']", "[model] architecture must be one of mlp, dcgan, got ['"),
    ("[model]\nbatch_norm = 'yes'", "[model] batch_norm must be true or false, got 'yes'"),
    ("[noise]\nschedule = ['a']", "[noise] schedule must be one of Adaptive, Constant, "),
    ("[[penalties]]\nname = ['R1']", "[[penalties]] name must be one of R1, R2, "),
    *(  # public classes that are not penalties of the discriminator
        (
            f"[[penalties]]\nname = '{name}'",
            f"[[penalties]] name must be one of R1, R2, GradientPenalty, LeCam, got '{name}'",
        )
        for name in ("PathLength", "DiscriminatorPass", "Penalty")
    ),
    (
        "[[penalties]]\nname = 'R1'\ngamma = 'a'",
        "[[penalties]] gamma must be a number or a schedule, got",
    ),
    ("[[penalties]]\nname = 'R1'\ngamma = {}", "[[penalties]] gamma schedule must be one of "),
    (
        "[[penalties]]\nname = 'R1'\ngamma = {schedule = 'Linear', start = 1, end = 0, until = 'a'}",
        "[[penalties]] gamma until must be a fraction of the run",
    ),
    ("[data]\nname = 5", "[data] name must be a string, got 5"),
    # Sizes that exceed any memory, and numbers that exceed 64 bits.
    ("[data]\nsamples = 1_000_000_000_000", "[data] samples must be from 1 to 100000000, got 1000"),
    ("[model]\nwidth = 1_000_000_000_000", "[model] width must be from 1 to 65536, got 1000"),
    ("[model]\nlatent = 0", "[model] latent must be from 1 to 65536, got 0"),
    *(
        (f"[train]\nreuse_fakes = false\n{key} = 1_000_000_000_000", f"[train] {key} must be from ")
        for key in ("samples", "workers", "d_steps", "micro_batches")
    ),
    (f"{DIFFUSION}t_max = 1_000_000_000_000_000", "[noise] "),
    (f"[train]\nsteps = 1{200 * '0'}", "[train] steps must fit into 64 bits, got 1000"),
    (
        f"[train]\nsteps = 0x1{9999 * '0'}",
        "[train] steps must fit into 64 bits, got an int of 39997 bits",
    ),
    (f"[train]\nsteps = 1{9999 * '0'}", "must be TOML: "),
    (f"[train]\nema = {9999 * '['}", "must be TOML: "),
    (
        f"[[penalties]]\nname = 'R1'\ngamma = 1{400 * '0'}",
        "[penalties] gamma must fit into 64 bits",
    ),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_values_that_cannot_be_honored_are_refused(text, message, tmp_path):
    data = None if text.startswith("[data]\nname") else "ring"
    with raises(ConfigError, "pygan train: ", "run.toml", message):
        load(text, tmp_path, data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[data]\nsize = 1_000_000_000_000", "[data] size must be from 1 to 4096"),
        ("[data]\nsamples = 500", "[data] samples has no effect on photos"),
        ("[data]\nchannels = 2", "[data] channels must be 1 or 3, got 2"),
    ],
)
def test_values_of_a_folder_that_cannot_be_honored_are_refused(
    text, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    with raises(ConfigError, "pygan train: ", message):
        load(text, tmp_path, "photos")


TYPES = [
    (float | Schedule | None, 0.5, None),
    (float | Schedule | None, {"schedule": "Constant", "sigma": 1}, None),
    (float | Schedule | None, "a", "[train] it must be a number or a schedule, got 'a'"),
    (float | None, {"schedule": "Constant"}, "[train] it must be a number, got {'schedule'"),
    (float | Sequence[float], [1, 0.5], None),
    (float | Sequence[float], ["a"], "each of [train] it must be a number, got 'a'"),
    (bool, 1, "[train] it must be true or false, got 1"),
    (Callable[[int | float], float] | int, 0.5, "[train] it must be an int, got 0.5"),
]


@pytest.mark.parametrize(("annotation", "value", "message"), TYPES)
def test_values_must_be_of_the_types_of_the_signature(annotation, value, message):
    parameter = Parameter("it", Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
    with nullcontext() if message is None else raises(ConfigError, message):
        check_values("[train]", {"it": parameter}, {"it": value})


def test_only_some_types_have_toml_values():
    def holds(annotation):
        return is_plain(Parameter("it", Parameter.KEYWORD_ONLY, annotation=annotation))

    assert all(holds(kind) for kind in (bool, str | None, Sequence[float] | None, Schedule))
    assert not any(holds(kind) for kind in (Any, Callable[[int], int] | None, Sequence[Any], dict))


def test_tables_of_train_become_schedules():
    loaded = config.load("ring")
    weight = {"schedule": "Linear", "start": 0.0, "end": 1.0, "until": 0.5}
    train = {"steps": 100, "batch_size": 8, "adversarial_weight": weight}
    options = replace(loaded, train=train).options()
    assert options == {**train, "adversarial_weight": options["adversarial_weight"]}
    schedule = options["adversarial_weight"]
    assert isinstance(schedule, schedules.Linear)
    assert (schedule.start, schedule.end, schedule.steps) == (0.0, 1.0, 50)


def test_conflicting_command_line_values_are_refused(tmp_path, capsys):
    for arguments, message in (
        (
            ["--data", "ring", "--set", "data.name=grid"],
            "[data] name must not be set together with --data",
        ),
        (["--data", "ring", "--steps", "3", "--set", "train.steps=4"], "--steps must not be given"),
        (["--data", "ring", "--seed", "3", "--set", "train.seed=4"], "--seed must not be given"),
    ):
        assert __main__.main(["train", *arguments, "--print-config"]) == 2
        assert message in capsys.readouterr().err


def test_errors_in_a_file_are_not_hidden_by_the_command_line(tmp_path):
    (tmp_path / "run.toml").write_text("train = 'a'")
    with raises(ConfigError, "pygan train: ", "[train] must be a table"):
        config.load("ring", tmp_path / "run.toml", {"train": {"steps": 3}})


def test_anything_but_a_single_toml_value_is_a_string():
    overrides = {}
    config.override(overrides, "train.loss=1\nsteps = 2")
    assert overrides == {"train": {"loss": "1\nsteps = 2"}}


def test_nested_and_empty_values_can_be_written_as_toml(tmp_path):
    text = """
    penalties = []
    [data]
    name = "a \\"b\\" \\\\ \\u007f \\U0001F600"
    """
    plain = load(text, tmp_path, None)
    assert plain.penalties == []
    text = """
    [[penalties]]
    name = "R1"
    gamma = {schedule = "Step", values = [1.0, 0.5], milestones = [10]}
    """
    nested = load(text, tmp_path)
    for loaded in (plain, nested):
        assert load(config.as_toml(loaded), tmp_path, None) == loaded


def keys():
    """(table, key) of every table."""

    def of(*functions):
        return sorted({name for f in functions for name in inspect.signature(f).parameters})

    noise = [getattr(schedules, name) for name in schedules.__all__]
    kinds = [getattr(penalties, name) for name in ("R1", "R2", "GradientPenalty", "LeCam")]
    tables = {
        "data": of(DataTable),
        "model": ["architecture", *of(*ARCHITECTURES.values())],
        "optimizer": of(OptimizerTable),
        "train": list(train_keys()),
        "noise": ["schedule", "until", *of(*filter(inspect.isclass, noise))],
        "penalties": ["name", *of(*kinds)],
    }
    return [(table, key) for table, names in tables.items() for key in [*names, "unknown"]]


numbers = st.one_of(
    st.integers(-3, 40),
    st.integers(-(2**70), 2**70),
    st.sampled_from([10**12, 2**63, 2**64]),
    st.floats(),
    st.floats(0, 2),
)
words = st.one_of(
    st.text(string.printable, max_size=5),
    st.text(max_size=3).filter(lambda text: text.isprintable()),
    st.sampled_from(["none", "Cosine", "Constant", "mlp", "dcgan", "R1", "bf16", "hinge", "grid"]),
)
values = st.recursive(
    st.one_of(numbers, st.booleans(), words),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["schedule", "start", "end", "a"]), inner, max_size=3),
    ),
    max_leaves=4,
)
BASES = {
    "noise": [
        {"schedule": "Cosine", "start": 0.5, "end": 0.0},
        {"schedule": "Constant", "sigma": 0.1},
        {"schedule": "Adaptive", "low": 0.0, "high": 0.5},
        {"schedule": "DiffusionMixture"},
        {"schedule": "none"},
        {},
    ],
    "penalties": [
        {"name": "R1", "gamma": 1.0},
        {"name": "GradientPenalty"},
        {"name": "LeCam", "weight": 0.3},
    ],
}


def takes_effect(loaded, table, key, value):
    """Whether the value changes the configuration, or is the default."""
    if table in ("data", "optimizer"):
        return getattr(getattr(loaded, table), key) == value
    if table == "penalties":
        (penalty,), made = loaded.penalties, loaded.penalty_list()
        return penalty[key] == value and len(made) == 1
    return getattr(loaded, table)[key] == value and (
        table != "noise" or loaded.schedule() is not None or loaded.noise == {"schedule": "none"}
    )


@pytest.mark.parametrize(("table", "key"), keys())
@settings(deadline=None, max_examples=15, derandomize=True)
@given(value=values, choice=st.integers(0, 5), data=st.sampled_from([*config.recipes(), "photos"]))
def test_any_value_at_any_key_takes_effect_or_is_refused(
    table, key, value, choice, data, tmp_path_factory
):
    bases = BASES.get(table, [{}])
    entry = {**bases[choice % len(bases)], key: value}
    path = tmp_path_factory.getbasetemp() / "run.toml"
    lines = "\n".join(f"{k} = {toml(v)}" for k, v in entry.items())
    path.write_text(f"[[{table}]]\n{lines}" if table == "penalties" else f"[{table}]\n{lines}")
    by_file = outcome(None if key == "name" and table == "data" else data, path, {})
    if isinstance(by_file, Config):
        assert takes_effect(by_file, table, key, value)
        again = path.with_name("again.toml")
        again.write_text(config.as_toml(by_file))
        assert config.load(None, again) == by_file
    else:
        assert re.fullmatch(r"pygan train: \S*run\.toml: .*", by_file)  # one line
        # Another architecture does not inherit the recipe's keys, and the error names the missing ones.
        named = key in by_file or table in BASES or key == "architecture"
        assert f"{table}]" in by_file and named
    if table != "penalties" and (table, key) != ("data", "name"):
        overrides = {}
        for k, v in entry.items():
            config.override(overrides, f"{table}.{k}={toml(v)}")
        by_command = outcome(data, None, overrides)
        assert isinstance(by_command, Config) == isinstance(by_file, Config)


def toml(value):
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + "}"
    return as_value(value)


def outcome(data, path, overrides):
    """The configuration, or the error message."""
    try:
        return config.load(data, path, overrides)
    except ConfigError as error:
        return str(error)
