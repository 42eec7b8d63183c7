"""pygan.fit when weights would become NaN: it stops, skips updates or rolls back, and saves no such state."""

import pytest
import torch
from helpers import raises
from helpers.fit import FULL, assert_equal, data, metrics, networks, run, same_runs

import pygan
from pygan import checkpoint
from pygan.checkpoint import CheckpointError
from pygan.training.batch_order import BatchSampler
from pygan.training.find_nonfinite import all_finite, broken_parts

NAN = float("nan")


def poisoned(first=4):
    """Data with one NaN sample, and the first step that uses it, at least `first`."""
    sampler, x = BatchSampler(30, 8, seed=3), data()
    seen = [set(sampler.batch(t).indices.tolist()) for t in range(12)]
    met = {i: next((t + 1 for t in range(12) if i in seen[t]), 99) for i in range(30)}
    index = next(i for i in range(30) if first <= met[i] <= 12)
    x[index] = NAN
    return x, met[index], sum(index in batch for batch in seen)


def saved_steps(out):
    return [checkpoint.load(path)["step"] for path in checkpoint.numbered(out / "checkpoints")]


def all_saved_is_finite(out):
    paths = checkpoint.numbered(out / "checkpoints")
    assert paths
    return not any(broken_parts(checkpoint.load(path)["trainer"]) for path in paths)


def test_by_default_a_run_stops_with_its_finite_checkpoints(tmp_path):
    x, step, _ = poisoned()
    options = {"source": x, "checkpoint_every": 1, "keep": 2, "log_every": 12, "noise": 0.1}
    last = tmp_path / f"checkpoints/step-{step - 1:08d}.pt"
    with raises(
        FloatingPointError,
        "pygan.fit: weights must stay finite, got NaN or infinite values in the generator, the disc",
        f"after step {step}; the last finite checkpoint is {last}, from which resume='auto' continues",
        "nonfinite='rollback'",
        f"Step {step}: Non-finite values began in the data.",
    ):
        run(tmp_path, **options)
    assert saved_steps(tmp_path) == [step - 2, step - 1] and all_saved_is_finite(tmp_path)
    whole = {**options, "source": data()}
    result = run(tmp_path, **whole, resume="auto")
    assert result.steps == 12 and all_saved_is_finite(tmp_path)


def test_the_first_bad_step_is_named_without_a_monitor(tmp_path):
    x, step, _ = poisoned()
    with raises(
        FloatingPointError, "pygan.fit: ", "after step 12; there is no chec", f"Step {step}: "
    ):
        run(tmp_path, source=x, checkpoint_every=None, log_every=12, monitor=False)
    assert not (tmp_path / "checkpoints").exists()
    assert metrics(tmp_path)[-1]["step"] == 12 and metrics(tmp_path)[-1]["d_loss"] is None


def test_updates_are_skipped_and_counted(tmp_path):
    x, step, times = poisoned()
    options = {**FULL, "source": x, "nonfinite": "skip", "log_every": 1, "checkpoint_every": 2}
    result = run(tmp_path / "whole", **options)
    counts = [line["skipped"] for line in metrics(tmp_path / "whole")]
    assert counts[step - 2 : step] == [0, 1] and counts[-1] == times
    assert all_saved_is_finite(tmp_path / "whole")
    assert all_finite(result.trainer.generator.parameters())
    run(tmp_path / "parts", **options, steps=6)
    run(tmp_path / "parts", **options, resume="auto")
    same_runs(tmp_path / "whole", tmp_path / "parts")


def test_only_skips_in_a_row_count_toward_the_limit(tmp_path, monkeypatch):
    x, _, times = poisoned()
    monkeypatch.setattr("pygan.training.nonfinite_policy._MAX_SKIPPED_IN_A_ROW", times)
    assert run(tmp_path, source=x, nonfinite="skip", log_every=1).steps == 12
    assert metrics(tmp_path)[-1]["skipped"] == times > 1


def test_skipping_has_no_effect_if_all_values_are_finite(tmp_path):
    expected = run(tmp_path / "a", **FULL, max_grad_norm=1.0)
    result = run(tmp_path / "b", **FULL, max_grad_norm=1.0, nonfinite="skip")
    assert_equal(result.trainer.state_dict(), expected.trainer.state_dict())


def test_a_run_that_skipping_cannot_help_stops(tmp_path):
    G, D = networks()
    with torch.no_grad():
        D[0].weight.fill_(float("inf"))
    with raises(FloatingPointError, "pygan.fit: ", "in the discriminator after step 3"):
        run(tmp_path, G=G, D=D, nonfinite="skip")


def test_a_run_without_further_updates_of_a_network_stops(tmp_path):
    """Its weights stay finite, but it no longer learns."""
    with raises(
        FloatingPointError,
        "pygan.fit: gradients must become finite again with nonfinite='skip', got 100 skipped updates of a network",
    ):
        run(tmp_path, learning_rate=1e30, steps=200, log_every=200, nonfinite="skip")


class Remembering:
    """A loss with a running average, in which a NaN persists."""

    def __init__(self):
        self.average = torch.zeros(())

    def discriminator_loss(self, real_logits, fake_logits, /):
        loss = pygan.fused_losses.discriminator_loss(real_logits, fake_logits)
        self.average = 0.9 * self.average + 0.1 * real_logits.detach().mean()
        return loss + 1e-3 * self.average * real_logits.mean()

    def generator_loss(self, fake_logits, /):
        return pygan.fused_losses.generator_loss(fake_logits)

    def state_dict(self):
        return {"average": self.average}

    def load_state_dict(self, state):
        self.average = state["average"]


def test_a_loss_that_remembers_nan_is_not_skipped_forever(tmp_path):
    x, step, _ = poisoned()
    with raises(FloatingPointError, "pygan.fit: ", f"in the loss after step {step}"):
        run(tmp_path, source=x, loss=Remembering(), nonfinite="skip", log_every=1)


def test_a_rollback_continues_differently_from_the_last_checkpoint(tmp_path):
    x, step, _ = poisoned()
    options = {**FULL, "source": x, "nonfinite": "rollback", "log_every": 1, "checkpoint_every": 2}
    result = run(tmp_path / "whole", **options)
    lines = metrics(tmp_path / "whole")
    rolled = [line for line in lines if "rollback" in line]
    last = (step - 1) // 2 * 2
    assert rolled[0] == {"step": step, "rollback": f"step-{last:08d}.pt"}
    assert [line["step"] for line in lines if "d_loss" in line] == list(range(1, 13))
    assert result.trainer.steps == 12 and all_saved_is_finite(tmp_path / "whole")
    rates = [line["g_lr"] for line in lines if "d_loss" in line]
    assert rates == sorted(rates, reverse=True) and len(set(rates)) == 12
    run(tmp_path / "parts", **options, steps=step)
    run(tmp_path / "parts", **options, resume="auto")
    same_runs(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    "change",
    [{"ema": 0.9}, {"loss": Remembering()}, {"optimizer": torch.optim.Adam}],
    ids=["average", "loss", "optimizer"],
)
def test_a_rollback_with_changed_settings_restores_the_resumed_state(tmp_path, change):
    """Not a checkpoint that lacks the average, the loss's state or the moments: the average stayed NaN and was saved,
    and the optimizer raised a KeyError."""
    G, D = networks()
    g, d = (torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9) for net in (G, D))
    options = {"latent": 4, "batch_size": 8, "seed": 3, "sample_every": None, "monitor": False}
    options |= {"out": tmp_path, "log_every": 1, "nonfinite": "rollback"}
    pygan.fit(G, D, data(), g_optimizer=g, d_optimizer=d, steps=4, **options)
    batches = 0

    def once_nan(x):
        nonlocal batches
        batches += 1
        return x * NAN if batches == 4 else x  # in the second step

    kind = change.get("optimizer", torch.optim.SGD)
    momentum = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    g, d = (kind(net.parameters(), lr=0.01, **momentum) for net in (G, D))
    options |= {k: v for k, v in change.items() if k != "optimizer"}
    options |= {"resume": "auto", "allow_changes": True, "checkpoint_every": 3, "steps": 9}
    result = pygan.fit(G, D, data(), g_optimizer=g, d_optimizer=d, augment=once_nan, **options)
    assert [line["step"] for line in metrics(tmp_path) if "rollback" in line] == [6]
    assert not broken_parts(result.trainer)
    assert all_saved_is_finite(tmp_path) and saved_steps(tmp_path) == [4, 6, 9]


def test_unsuccessful_rollbacks_stop(tmp_path, capsys):
    run(tmp_path, steps=4)
    broken = torch.full((30, 6), NAN)
    options = {"source": broken, "nonfinite": "rollback", "log_every": 1, "resume": "auto"}
    with raises(
        FloatingPointError, "pygan.fit: ", "after step 8; 3 rollbacks did not help; the last finite"
    ):
        run(tmp_path, checkpoint_every=None, **options)
    output = capsys.readouterr().err
    assert output.count("weights and optimizers are those of") == 3
    assert saved_steps(tmp_path) == [4]
    # Checkpoints between the rollbacks, with the same weights, do not reset the limit either.
    with raises(FloatingPointError, "pygan.fit: ", "3 rollbacks did not help"):
        run(tmp_path, checkpoint_every=1, **options)
    assert all_saved_is_finite(tmp_path)
    # Nor does resuming from the last of them.
    capsys.readouterr()
    with raises(FloatingPointError, "pygan.fit: ", "3 rollbacks did not help"):
        run(tmp_path, checkpoint_every=1, **options)
    assert "weights and optimizers are those of" not in capsys.readouterr().err


def test_a_rollback_without_a_checkpoint_stops(tmp_path):
    broken = torch.full((30, 6), NAN)
    with raises(FloatingPointError, "pygan.fit: ", "after step 3; there is no checkpoint yet"):
        run(tmp_path, source=broken, nonfinite="rollback")


@pytest.mark.parametrize(
    ("part", "name"), [("generator", "layers.0.weight"), ("ema", "module.layers.0.bias")]
)
def test_old_checkpoints_with_non_finite_values_are_skipped(tmp_path, part, name):
    whole, out = tmp_path / "whole", tmp_path / "a"
    options = {**FULL, "log_every": 12}
    run(whole, **options)
    run(out, **options)
    for step in (8, 12):
        path = out / f"checkpoints/step-{step:08d}.pt"
        state = checkpoint.load(path)
        state["trainer"][part][name][0] = NAN
        checkpoint.save(path, state)
    with raises(CheckpointError, "pygan.checkpoint.load:", f"non-finite values in {part}"):
        run(out, **options, resume=path)
    with pytest.warns(UserWarning, match="step-00000008.pt contains non-finite values"):
        run(out, **options, resume="auto")
    same_runs(out, whole)
    # They do not prevent resuming from the finite ones.
    kept = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert kept[:2] == ["abandoned-step-00000008.pt", "abandoned-step-00000012.pt"]
    assert all_saved_is_finite(out) and saved_steps(out) == [4, 8, 12]


def test_masks_may_be_infinite_and_large_values_are_finite(tmp_path):
    G, D = networks()
    D.register_buffer("mask", torch.full((3,), -float("inf")))
    D.fixed = torch.nn.Parameter(torch.full((3,), -float("inf")), requires_grad=False)
    with torch.no_grad():
        D[2].bias.fill_(1e30)
    assert run(tmp_path, G=G, D=D, loss="wasserstein").steps == 12
    assert run(tmp_path, G=G, D=D, loss="wasserstein", resume="auto").steps == 12
