"""pygan.fit(init_from=): a new run with another run's networks and average; everything else starts fresh."""

import pytest
import torch
from helpers import raises, sharded_on_cpu
from helpers.fit import FULL, assert_equal, fit_in_child, metrics, networks, run, start_ranks
from torch import nn

from pygan import checkpoint
from pygan.checkpoint import CheckpointError


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    out = tmp_path_factory.mktemp("first")
    run(out, **FULL)
    return out


def state_of(out):
    return checkpoint.load(checkpoint.latest(out / "checkpoints"))


@pytest.mark.parametrize("whole", [True, False], ids=["folder", "checkpoint"])
def test_a_run_begins_with_the_networks_of_another(tmp_path, first, capsys, whole):
    """With a learning rate of zero the parameters do not change; BatchNorm's buffers and the average do."""
    path = first if whole else checkpoint.latest(first / "checkpoints")
    result = run(
        tmp_path,
        **FULL,
        init_from=path,
        learning_rate=0.0,
        steps=1,
        G=(g := networks(8))[0],
        D=g[1],
    )
    before, after = state_of(first)["trainer"], state_of(tmp_path)["trainer"]
    for name in ("generator", "discriminator"):
        for key, value in before[name].items():
            if "running" not in key and "tracked" not in key:
                assert_equal(after[name][key], value)
    assert after["ema"]["n_averaged"] == before["ema"]["n_averaged"] + 1 == 13
    weight = "layers.0.weight"
    expected = 0.9 * before["ema"][f"module.{weight}"] + 0.1 * before["generator"][weight]
    torch.testing.assert_close(after["ema"][f"module.{weight}"], expected)
    assert result.steps == 1 and after["steps"] == after["d_updates"] == 1
    assert all(one["step"] == 1 for one in after["g_optimizer"]["state"].values())
    output = capsys.readouterr().err
    assert f"pygan.fit: begins with the networks of {first}" in output
    assert "step 12, and its average" in output


def test_a_missing_average_starts_from_the_generator(tmp_path, capsys):
    run(tmp_path / "a")
    result = run(tmp_path / "b", init_from=tmp_path / "a", ema=0.9, steps=1, learning_rate=0.0)
    saved = state_of(tmp_path / "a")["trainer"]["generator"]
    assert_equal(
        result.trainer.ema.module.state_dict()["layers.0.weight"], saved["layers.0.weight"]
    )
    assert "an average that starts from its generator" in capsys.readouterr().err
    run(tmp_path / "c", init_from=tmp_path / "b", steps=1)
    assert "and without its average" in capsys.readouterr().err


def test_networks_that_differ_are_refused_with_the_parameter_names(tmp_path, first):
    G, _ = networks()
    D = nn.Sequential(nn.Linear(6, 9), nn.LeakyReLU(0.2), nn.Linear(9, 1))
    before = [{k: v.clone() for k, v in net.state_dict().items()} for net in (G, D)]
    with raises(
        ValueError,
        f"pygan.fit: discriminator must be the network of the checkpoint {first}",
        "step-00000012.pt, for init_from, got one that differs in 0.weight ((8, 6) for (9, 6)), 0.bias",
    ):
        run(tmp_path / "a", G=G, D=D, init_from=first)
    assert not (tmp_path / "a").exists()
    for network, was in zip((G, D), before, strict=True):
        assert_equal(dict(network.state_dict()), was)


def test_an_invalid_init_from_is_refused(tmp_path, first):
    with raises(CheckpointError, "pygan.checkpoint.load:", "none does not exist"):
        run(tmp_path / "a", init_from=tmp_path / "none")
    with raises(TypeError, "pygan.fit: init_from must be a path or None, got int"):
        run(tmp_path / "a", init_from=3)
    with raises(ValueError, "pygan.fit: init_from must be None if resume is a checkpoint"):
        run(tmp_path / "a", init_from=first, resume=checkpoint.latest(first / "checkpoints"))
    assert not (tmp_path / "a").exists()


def test_a_resumed_run_continues_from_its_own_networks(tmp_path, first):
    """Repeating the call continues the run; another init_from would have no effect, and is refused."""
    options = {**FULL, "init_from": first, "resume": "auto"}
    run(tmp_path / "a", **options, steps=4)
    run(tmp_path / "a", **options, steps=8)
    run(tmp_path / "a", **{**options, "init_from": None})
    run(tmp_path / "whole", **options)
    assert metrics(tmp_path / "a")[-1] == metrics(tmp_path / "whole")[-1]
    run(tmp_path / "b", **FULL)
    for out, other in (("a", tmp_path / "b"), ("b", first)):
        with raises(ValueError, "pygan.fit: init_from must be None when the checkpoint"):
            run(tmp_path / out, **{**options, "init_from": other}, allow_changes=True)


@pytest.mark.parametrize("sharded", [False, pytest.param(True, marks=sharded_on_cpu)])
def test_init_from_in_several_processes(tmp_path, first, sharded):
    options = {**FULL, "init_from": first, "steps": 3, "schedule": False}
    options.pop("penalties")
    run(tmp_path / "one", **options)
    ranks = start_ranks(2, fit_in_child, tmp_path / "two", sharded=sharded, **options)
    assert [process.join() or process.exitcode for process in ranks] == [0, 0]
    one, two = (state_of(tmp_path / name)["trainer"] for name in ("one", "two"))
    assert two["ema"]["n_averaged"] == one["ema"]["n_averaged"] == 15
    torch.testing.assert_close(
        two["ema"]["module.layers.4.weight"],
        one["ema"]["module.layers.4.weight"],
        rtol=0,
        atol=0.02,
    )


def test_a_changed_number_of_samples_takes_effect_on_resume(tmp_path):
    """The checkpoint's grid was kept, and the option ignored."""
    shown = []

    def preview(samples):
        shown.append(len(samples))
        return (samples.sigmoid() * 255).byte().numpy()[:, :, None]

    options = {"sample_every": 1, "preview": preview, "resume": "auto"}
    for samples, steps in ((5, 1), (5, 2), (9, 3)):
        run(tmp_path, samples=samples, steps=steps, **options)
    assert shown[-1] == 9 and set(shown[:-1]) == {5}
