"""Resuming pygan.fit with other settings: refused with both values, or continued with the new ones and a message."""

import warnings

import numpy as np
import pytest
import torch
from helpers import raises
from helpers.fit import FULL, Generator, assert_equal, data, metrics, networks, run, same_runs
from torch import nn
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    CyclicLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    SequentialLR,
)

import pygan
from pygan import FitOptions, checkpoint, schedules
from pygan.checkpoint import CheckpointError
from pygan.penalties import R1, R2
from pygan.training.checkpoint_settings import roots, settings
from pygan.training.fit_keywords import keywords

BASE = {**FULL, "log_every": 1}
# The changed options, the setting that the message names, and its two values.
CHANGES = [
    ({"learning_rate": 0.02}, "g_optimizer.lr", 0.01, 0.02),
    ({"loss": "hinge"}, "loss", "non_saturating", "hinge"),
    ({"label_smoothing": 0.1}, "label_smoothing", 0.0, 0.1),
    ({"d_steps": 2}, "d_steps", 1, 2),
    ({"noise": 0.2}, "noise.sigma", 0.3, 0.2),
    (
        {"noise": schedules.Linear(0.3, 0.1, 9)},
        "noise",
        "pygan.sch",
        "pygan.schedules.fixed.Linear",
    ),
    ({"noise": None}, "noise", "pygan.schedules.fixed.Constant", None),
    ({"penalties": [R1(0.2, every=2)]}, "penalties[0].gamma", 0.1, 0.2),
    ({"penalties": [R1(0.1, every=2), R2(0.1)]}, "penalties.length", 1, 2),
    ({"penalties": []}, "penalties.length", 1, 0),
    ({"penalties": [R2(0.1, every=2)]}, "penalties[0]", "pygan.penalties.R1", "pygan.penalties.R2"),
    ({"ema": 0.99}, "ema", 0.9, 0.99),
    ({"ema": None}, "ema", 0.9, None),
    ({"max_grad_norm": 1.0}, "max_grad_norm", None, 1.0),
    ({"max_grad_norm": np.float64(2.0)}, "max_grad_norm", None, 2.0),
    ({"micro_batches": 2}, "micro_batches", 1, 2),
    ({"mixed_precision": "bf16"}, "mixed_precision", "no", "bf16"),
    ({"batch_size": 6}, "batch_size", 8, 6),
    ({"seed": 4}, "seed", 3, 4),
    ({"drop_last": False}, "drop_last", True, False),
    ({"source": data(31)}, "data", "30 samples", "31 samples"),
    ({"lr_schedulers": []}, "lr_schedulers.length", 2, 0),
    ({"augment": lambda x: x}, "augment", None, "a function"),
]


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    out = tmp_path_factory.mktemp("started") / "a"
    run(out, **BASE, steps=4)
    return out / "checkpoints/step-00000004.pt"


@pytest.mark.parametrize(("change", "name", "before", "now"), CHANGES)
def test_a_changed_setting_is_refused_or_reported(
    tmp_path, capsys, started, change, name, before, now
):
    out, options = tmp_path / "a", {**BASE, **change, "resume": started}
    G, D = networks()
    G_before, D_before = ({k: v.clone() for k, v in net.state_dict().items()} for net in (G, D))
    with raises(
        ValueError,
        f"pygan.fit: {name} must be that of the checkpoint {started}, {before}",
        f", got {now}",
        "; allow_changes=True continues with the new settings",
    ):
        run(out, G=G, D=D, **options)
    assert not out.exists()
    assert_equal(dict(G.state_dict()), G_before)
    assert_equal(dict(D.state_dict()), D_before)
    result = run(out, **options, allow_changes=True)
    assert result.steps == 12 and [line["step"] for line in metrics(out)] == list(range(5, 13))
    assert f"pygan.fit: resumed at step 4 with {name} {now} instead of" in capsys.readouterr().err
    # From then on they are the settings of the run.
    again = {**options, "resume": "auto", "steps": 13}
    assert run(out, **again).steps == 13


def test_every_option_of_the_trainer_is_a_setting():
    """Objects of the package by their stored arguments, functions by their kind."""
    G, D = networks()
    optimizers = [torch.optim.SGD(net.parameters(), 0.1) for net in (G, D)]
    given = {"latent": 4, "augment": pygan.penalties.PathLength(3.0), "logits": print, "d_steps": 2}
    made = settings(pygan.GANTrainer(G, D, *optimizers, latent=4), given, [])
    options = roots(made) - {"g_optimizer", "d_optimizer", "lr_schedulers"}
    names = keywords().keys() - FitOptions.__dataclass_fields__.keys()
    assert options == names
    assert (made["latent"], made["d_steps"], made["logits"]) == (4, 2, "a function")
    assert made["augment"].endswith("PathLength") and made["augment.weight"] == 3.0


def optimizer_and_schedule(kind, lr, schedule):
    G, D = networks()
    optimizers = [kind(network.parameters(), lr=lr) for network in (G, D)]
    return G, D, optimizers, [schedule(o) for o in optimizers] if schedule else []


def rates_of(out, kind, lr, schedule, **options):
    G, D, (g, d), schedulers = optimizer_and_schedule(kind, lr, schedule)
    result = pygan.fit(
        *(G, D, data()),
        **{"g_optimizer": g, "d_optimizer": d, "lr_schedulers": schedulers, "out": out, "seed": 3},
        **{"latent": 4, "batch_size": 8, "log_every": 1, "sample_every": None, "monitor": False},
        **options,
    )
    groups = [o.param_groups[0] for o in (g, d)]
    assert all(group["lr"] == groups[0]["lr"] for group in groups)
    return groups[0]["lr"], result


SCHEDULES = {
    "none": None,
    "linear": lambda o: LinearLR(o, 1.0, 0.1, 20),
    "cosine": lambda o: CosineAnnealingLR(o, 15),
    "milestones": lambda o: MultiStepLR(o, [2, 7], 0.5),
    "sequential": lambda o: SequentialLR(o, [LinearLR(o), CosineAnnealingLR(o, 9)], [3]),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_new_learning_rate_follows_its_schedule_from_the_start(tmp_path, schedule):
    """As if the whole run had used it: with every kind of scheduler, and with another kind than before."""
    Adam, made = torch.optim.Adam, SCHEDULES[schedule]
    expected, _ = rates_of(tmp_path / "whole", Adam, 0.03, made, steps=9)
    for i, (lr, before) in enumerate(((0.01, made), (0.03, SCHEDULES["linear"]))):
        out = tmp_path / str(i)
        rates_of(out, Adam, lr, before, steps=4)
        options = {"steps": 9, "resume": "auto", "allow_changes": True}
        rate, result = rates_of(out, Adam, 0.03, made, **options)
        assert rate == pytest.approx(expected, rel=1e-12)
        assert all(s["step"] == 9 for s in result.trainer.g_optimizer.state.values())  # the moments


def test_another_optimizer_starts_fresh(tmp_path):
    rates_of(tmp_path, torch.optim.Adam, 0.01, None, steps=4)
    options = {"steps": 6, "resume": "auto"}
    with raises(
        ValueError, "pygan.fit: g_optimizer.type must be that of", "adam.Adam, got torch.o"
    ):
        rates_of(tmp_path, torch.optim.RMSprop, 0.01, None, **options)
    _, result = rates_of(
        *(tmp_path, torch.optim.RMSprop, 0.01, None), **options, allow_changes=True
    )
    assert all(state["step"] == 2 for state in result.trainer.g_optimizer.state.values())


def test_allow_changes_without_changes_has_no_effect(tmp_path):
    run(tmp_path / "whole", **BASE)
    run(tmp_path / "a", **BASE, steps=5)
    run(tmp_path / "a", **BASE, resume="auto", allow_changes=True)
    same_runs(tmp_path / "a", tmp_path / "whole")


class Counting:
    """A loss that counts its calls."""

    def __init__(self):
        self.calls = 0

    def discriminator_loss(self, real_logits, fake_logits, /):
        self.calls += 1
        return pygan.fused_losses.discriminator_loss(real_logits, fake_logits)

    def generator_loss(self, fake_logits, /):
        return pygan.fused_losses.generator_loss(fake_logits)

    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls = state["calls"]


def test_a_checkpoint_without_the_loss_state_resumes_only_with_allow_changes(tmp_path, capsys):
    """As written by versions that did not save it."""
    run(tmp_path, loss=Counting(), steps=4)
    path = tmp_path / "checkpoints/step-00000004.pt"
    state = checkpoint.load(path)
    del state["trainer"]["loss"]
    checkpoint.save(path, state)
    options = {"resume": "auto", "steps": 6, "loss": Counting()}
    with raises(CheckpointError, "", "it contains no state of loss; allow_changes=True keeps"):
        run(tmp_path, **options)
    result = run(tmp_path, **options, allow_changes=True)
    assert result.steps == 6 and options["loss"].calls == 2
    assert "loss.state" in capsys.readouterr().err


def test_a_new_noise_schedule_starts_at_the_step_of_the_run(tmp_path):
    run(tmp_path, noise=0.3, steps=4)
    options = {"resume": "auto", "allow_changes": True, "steps": 6}
    result = run(tmp_path, noise=schedules.Linear(1.0, 0.0, 10), **options)
    assert result.trainer.noise.sigma.item() == pytest.approx(0.4)
    stream = result.trainer.noise.stream
    assert stream.step == 18  # three draws per step: the stream continued


def test_trained_objects_can_be_reused(tmp_path):
    """As in a notebook cell that is run again."""
    G, D, (g, d), schedulers = optimizer_and_schedule(
        torch.optim.Adam, 0.01, SCHEDULES["sequential"]
    )
    options = {"g_optimizer": g, "d_optimizer": d, "lr_schedulers": schedulers, "out": tmp_path}
    options |= {"latent": 4, "batch_size": 8, "resume": "auto", "sample_every": None, "seed": 3}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for steps in (4, 9):
            assert pygan.fit(G, D, data(), steps=steps, **options).steps == steps


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
@pytest.mark.parametrize("schedule", ["one cycle", "cyclic", "sequential"])
def test_momentum_changed_by_a_scheduler_is_not_a_setting(tmp_path, kind, schedule):
    """As in a notebook cell that is run again: the scheduler has changed betas and momentum."""
    G, D = networks()
    momentum = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    optimizers = [kind(net.parameters(), lr=0.01, **momentum) for net in (G, D)]
    made = {
        "one cycle": lambda o: OneCycleLR(o, 0.1, total_steps=20),
        "cyclic": lambda o: CyclicLR(o, 0.01, 0.1, step_size_up=3),
        "sequential": lambda o: SequentialLR(o, [ConstantLR(o), CyclicLR(o, 0.01, 0.1)], [2]),
    }[schedule]
    options = {"lr_schedulers": [made(o) for o in optimizers], "out": tmp_path, "resume": "auto"}
    options |= {"latent": 4, "batch_size": 8, "sample_every": None, "seed": 3}
    options |= {"g_optimizer": optimizers[0], "d_optimizer": optimizers[1]}
    for steps in (4, 9):
        assert pygan.fit(G, D, data(), steps=steps, **options).steps == steps


def test_checkpoints_of_earlier_versions_are_resumed(tmp_path):
    """They have five settings, and no numbers for their step."""
    run(tmp_path / "whole", **BASE)
    out = tmp_path / "a"
    run(out, **BASE, steps=4)
    path = checkpoint.latest(out / "checkpoints")
    state = checkpoint.load(path)
    known = ("batch_size", "data", "drop_last", "d_steps", "seed")
    old = {k: v for k, v in state.items() if k not in ("numbers", "nonfinite")}
    checkpoint.save(path, {**old, "run": {name: state["run"][name] for name in known}})
    for change, what in (
        (("lr_schedulers", []), "lr_schedulers.length"),
        (("d_steps", 2), "d_steps"),
    ):
        with raises(ValueError, f"pygan.fit: {what} must be that of the checkpoint"):
            run(out, **{**BASE, change[0]: change[1]}, resume="auto")
    with raises(CheckpointError, "pygan.checkpoint.load:", "does not fit this run: KeyError"):
        run(out, **{**BASE, "ema": None}, resume="auto")
    run(out, **BASE, resume="auto")
    same_runs(out, tmp_path / "whole")


VALUES = [
    None,
    3,
    -1.5,
    "a",
    [],
    {},
    [1, None],
    {"a": [2]},
    torch.zeros(2),
    torch.tensor(float("nan")),
]
TOP = [
    "step",
    "trainer",
    "lr_schedulers",
    "monitor",
    "random",
    "grid",
    "run",
    "numbers",
    "nonfinite",
]
INNER = [
    ("random", 0),
    ("run", "seed"),
    ("run", "loss"),
    ("lr_schedulers", 1),
    ("nonfinite", "skipped"),
]
INNER += [
    ("trainer", part) for part in ("generator", "ema", "g_optimizer", "stream", "noise", "steps")
]
INNER += [("random", 0, kind) for kind in ("torch", "numpy", "python")]


@pytest.mark.parametrize("path", [(name,) for name in TOP] + INNER, ids=str)
def test_forged_states_are_refused_without_side_effects(tmp_path, started, path):
    """Any plain value in place of an entry, or a missing entry: a CheckpointError, and nothing has been changed."""
    state = checkpoint.load(started)
    file = tmp_path / "checkpoints/step-00000004.pt"
    file.parent.mkdir()
    *outer, name = path
    owner = state
    for key in outer:
        owner = owner[key]
    original = owner[name]
    for value in (*VALUES, "absent"):
        if isinstance(value, str) and value == "absent":
            if isinstance(owner, list):
                continue
            del owner[name]
        else:
            owner[name] = value
        checkpoint.save(file, state)
        owner[name] = original
        G, D = networks()
        g, d = (torch.optim.Adam(net.parameters(), lr=0.01) for net in (G, D))
        options = {"g_optimizer": g, "d_optimizer": d, "latent": 4, "batch_size": 8, "steps": 4}
        options |= {"lr_schedulers": [LinearLR(o, 1.0, 0.1, 50) for o in (g, d)]}
        before = [{k: v.clone() for k, v in net.state_dict().items()} for net in (G, D)]
        drawn = torch.get_rng_state()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = pygan.fit(
                    *(G, D, data()), **options, **BASE, out=tmp_path, resume="auto", seed=3
                )
            assert result.steps == 4
        except (CheckpointError, ValueError) as error:
            refused = error
        else:
            continue
        # Another value of a setting counts as a change.
        changed = path[0] == "run" and " must be that of the checkpoint" in str(refused)
        assert isinstance(refused, CheckpointError) or changed, refused
        assert [list(o.state) for o in (g, d)] == [[], []] and g.param_groups[0]["lr"] == 0.01
        assert torch.equal(torch.get_rng_state(), drawn)
        for network, was in zip((G, D), before, strict=True):
            assert_equal(dict(network.state_dict()), was)


def test_other_networks_are_refused_and_unchanged(tmp_path):
    run(tmp_path)
    G, D = networks()
    D = nn.Sequential(nn.Linear(6, 9), nn.Linear(9, 1))
    before = [{k: v.clone() for k, v in net.state_dict().items()} for net in (G, D)]
    with raises(
        CheckpointError,
        "pygan.checkpoint.load:",
        "does not fit this run: ValueError: GANTrainer.load_state_dict: the state of discriminator must be from a "
        "Sequential like this trainer's, got one that differs in 0.weight ((",
    ):
        run(tmp_path, G=G, D=D, resume="auto")
    for network, was in zip((G, D), before, strict=True):
        assert_equal(dict(network.state_dict()), was)
    assert isinstance(G, Generator)
