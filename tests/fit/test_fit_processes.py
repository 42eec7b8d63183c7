"""pygan.fit in several processes: step by step the same as one process; and the effect of killing one of them."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from helpers import ROOT, sharded_on_cpu
from helpers.fit import (
    Augmented,
    data,
    fit_in_child,
    metrics,
    picture,
    plain_networks,
    run,
    same_runs,
    spread,
    start,
    start_ranks,
)

import pygan
from pygan import checkpoint
from pygan.training.batch_order import BatchSampler
from pygan.training.find_nonfinite import broken_parts
from pygan.training.sharding import SHARDS_ON_CPU

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed"),
]

SHARDED = [False, pytest.param(True, marks=sharded_on_cpu)]
ALL = {"noise": 0.3, "ema": 0.9, "log_every": 1, "seed": 5}


def plain_fit(out, **options):
    G, D = plain_networks()
    return fit_in_child(out, G=G, D=D, **options)


def joined(processes):
    for process in processes:
        process.join(120)
        process.kill()  # otherwise a hanging process would remain
        process.join()
    return [process.exitcode for process in processes]


def ranks(world, out, **options):
    assert joined(start_ranks(world, plain_fit, out, **options)) == [0] * world
    return out


def one(out, **options):
    assert joined([start(plain_fit, out, **options)]) == [0]
    return out


def assert_close_runs(a, b):
    """Check that metrics at every step and final networks are equal up to rounding."""
    lines = [metrics(out) for out in (a, b)]
    assert [line["step"] for line in lines[0]] == list(range(1, len(lines[0]) + 1))
    torch.testing.assert_close(*lines, rtol=2e-4, atol=2e-5, equal_nan=True)
    states = [checkpoint.load(checkpoint.latest(out / "checkpoints"))["trainer"] for out in (a, b)]
    for part in ("generator", "discriminator", "ema"):
        torch.testing.assert_close(states[0][part], states[1][part], rtol=1e-3, atol=1e-4)
    assert states[0]["stream"] == states[1]["stream"]


PENALTIES = {
    "R1": [pygan.penalties.R1(0.5, every=2)],
    "gradient": [pygan.penalties.GradientPenalty(1.0)],
}


@pytest.mark.parametrize("sharded", SHARDED)
@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("penalty", PENALTIES)
def test_losses_equal_those_of_one_process(tmp_path, world, penalty, sharded):
    """At every step, with uneven batches: 31 samples in batches of 7, 7, 7, 7 and 3."""
    options = {"sharded": sharded}
    options |= {**ALL, "penalties": PENALTIES[penalty], "d_steps": 2, "batch_size": 7}
    options |= {"source": data(31), "drop_last": False, "steps": 20, "schedule": False}
    options |= {"learning_rate": 1e-3}
    several = ranks(world, tmp_path / "several", **options)
    assert_close_runs(several, one(tmp_path / "one", **options))
    saved = checkpoint.load(checkpoint.latest(several / "checkpoints"))
    assert len(saved["random"]) == world
    assert len(list(several.glob("checkpoints/*"))) == 3


def latents_of_the_global_generator(n):
    return torch.randn(n, 4)


def test_custom_latents_equal_those_of_one_process(tmp_path):
    """The processes have the same seed, but do not draw the same samples."""
    options = {**ALL, "latent": latents_of_the_global_generator, "batch_size": 7}
    several = ranks(2, tmp_path / "several", **options)
    assert_close_runs(several, one(tmp_path / "one", **options))


@pytest.mark.parametrize("sharded", SHARDED)
def test_all_features_together(tmp_path, sharded):
    """A Dataset with augmentation and labels, workers, bf16, pictures, an evaluation, TensorBoard, a monitor."""
    options = {
        **ALL,
        "sharded": sharded,
        "source": Augmented(30, labels=True),
        "conditional": False,
        "workers": 1,
    }
    options |= {"monitor": True, "preview": picture, "sample_every": 5, "evaluate": spread}
    options |= {"tensorboard": True, "checkpoint_every": 1, "schedule": False}
    options |= {"learning_rate": 1e-3, "drop_last": False}
    assert_close_runs(ranks(2, tmp_path / "two", **options), one(tmp_path / "one", **options))
    assert len(list((tmp_path / "two").glob("samples-*.png"))) == 4  # including that of step 0
    assert len(list((tmp_path / "two").glob("events.*"))) == 1
    ranks(2, tmp_path / "bf16", **options, mixed_precision="bf16")


def test_a_run_resumes_with_another_number_of_processes(tmp_path):
    options = {**ALL, "schedule": False, "learning_rate": 1e-3, "resume": "auto"}
    whole = one(tmp_path / "whole", **options, steps=12)
    ways = [((2, False), (1, False)), ((1, False), (2, False)), ((3, False), (2, False))]
    if SHARDS_ON_CPU:
        ways += [((2, True), (1, False)), ((1, True), (2, True)), ((3, False), (2, True))]
    for i, way in enumerate(ways):
        out = tmp_path / str(i)
        for (world, sharded), steps in zip(way, (6, 12), strict=True):
            arguments = {**options, "sharded": sharded, "steps": steps}
            ranks(world, out, **arguments) if world > 1 else one(out, **arguments)
        assert_close_runs(out, whole)


def failing_fit(out, report, **options):
    """Run, and write the outcome of each process to a file."""
    rank = int(os.environ["RANK"])
    try:
        return fit_in_child(out, **options)
    except Exception as error:
        (report / f"{rank}.json").write_text(json.dumps([type(error).__name__, str(error)]))
        return 1


def reporting_plain_fit(out, report, **options):
    G, D = plain_networks()
    return failing_fit(out, report, G=G, D=D, **options)


def wait_for_lines(out, n, processes):
    while not (out / "metrics.jsonl").exists() or len(metrics_so_far(out)) < n:
        assert all(process.is_alive() for process in processes)
        time.sleep(0.005)


def metrics_so_far(out):
    return (out / "metrics.jsonl").read_text().splitlines()


@pytest.mark.parametrize("sharded", SHARDED)
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_run_with_a_usable_checkpoint(tmp_path, victim, sharded):
    """With BatchNorm and dropout, bitwise, because the checkpoint has the random states of all processes."""
    options = {"sharded": sharded}
    options |= {**ALL, "log_every": 2, "checkpoint_every": 3, "steps": 80, "resume": "auto"}
    options |= {"penalties": [pygan.penalties.R1(0.1, every=8)]}
    out = tmp_path / "a"
    assert joined(start_ranks(2, fit_in_child, tmp_path / "whole", **options)) == [0, 0]
    processes = start_ranks(2, failing_fit, out, tmp_path, **options)
    wait_for_lines(out, 5, processes)
    processes[victim].kill()
    codes = joined(processes)
    assert codes[victim] == -signal.SIGKILL and codes[1 - victim] == 1
    kind, message = json.loads((tmp_path / f"{1 - victim}.json").read_text())
    last = checkpoint.latest(out / "checkpoints")
    assert kind == "RuntimeError" and checkpoint.load(last)["step"] >= 9
    assert re.match(
        rf"pygan.fit: another process ended, after step \d+ of this one; the last checkpoint is {last}, from which "
        r"resume='auto' continues",
        message,
    )
    assert joined(start_ranks(2, fit_in_child, out, **options)) == [0, 0]
    same_runs(out, tmp_path / "whole")


def own_error(out, report, **options):
    def evaluate(sample):
        raise RuntimeError("the user's own")

    return failing_fit(out, report, evaluate=evaluate, evaluate_every=5, **options)


def test_an_error_in_one_process_is_raised_there(tmp_path):
    processes = start_ranks(2, own_error, tmp_path / "a", tmp_path, **ALL, checkpoint_every=2)
    assert joined(processes) == [1, 1]
    reports = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert reports[0] == ["RuntimeError", "the user's own"]
    assert "another process ended" in reports[1][1] and "step-00000004.pt" in reports[1][1]


def broken_at(step):
    """Data with one NaN sample, in the second process's share of the batch of that step."""
    x, batch = data(), BatchSampler(30, 8, seed=ALL["seed"]).batch(step - 1)
    x[batch.indices[-1]] = float("nan")
    return x


@pytest.mark.parametrize("sharded", SHARDED)
@pytest.mark.parametrize("nonfinite", ["stop", "skip", "rollback"])
def test_all_processes_agree_on_non_finite_values(tmp_path, nonfinite, sharded):
    """The values come from the batch of one of them."""
    options = {**ALL, "sharded": sharded, "nonfinite": nonfinite, "checkpoint_every": 2}
    options |= {"schedule": False, "learning_rate": 1e-3, "source": broken_at(3), "steps": 3}
    out = tmp_path / "a"
    processes = start_ranks(2, reporting_plain_fit, out, tmp_path, **options)
    if nonfinite == "stop":
        assert joined(processes) == [1, 1]
        for rank in (0, 1):
            kind, message = json.loads((tmp_path / f"{rank}.json").read_text())
            assert kind == "FloatingPointError" and "after step 3; the last finite" in message
        saved = checkpoint.load(checkpoint.latest(out / "checkpoints"))
        assert saved["step"] == 2
    else:
        assert joined(processes) == [0, 0]
        saved = checkpoint.load(checkpoint.latest(out / "checkpoints"))
        assert saved["nonfinite"] == {
            "skipped": nonfinite == "skip",
            "rollbacks": nonfinite == "rollback",
        }
    assert not broken_parts(saved["trainer"])


@pytest.mark.parametrize("sharded", SHARDED)
def test_a_run_resumes_with_other_settings(tmp_path, sharded):
    options = {
        **ALL,
        "sharded": sharded,
        "schedule": False,
        "resume": "auto",
        "checkpoint_every": 3,
    }
    out = ranks(2, tmp_path / "a", **options, steps=3)
    changes = {"learning_rate": 1e-3, "loss": "hinge", "penalties": PENALTIES["R1"], "ema": None}
    processes = start_ranks(2, reporting_plain_fit, out, tmp_path, **{**options, **changes})
    assert joined(processes) == [1, 1]
    for rank in (0, 1):
        kind, message = json.loads((tmp_path / f"{rank}.json").read_text())
        assert kind == "ValueError" and "g_optimizer.lr must be that of the checkpoint" in message
    ranks(2, out, **{**options, **changes}, allow_changes=True)
    saved = checkpoint.load(checkpoint.latest(out / "checkpoints"))
    assert saved["trainer"]["g_optimizer"]["param_groups"][0]["lr"] == 1e-3
    assert saved["run"]["loss"] == "hinge" and "ema" not in saved["trainer"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_one_process_stops_all_at_the_same_step(tmp_path, number):
    options = {**ALL, "log_every": 4, "checkpoint_every": 50, "steps": 80, "resume": "auto"}
    out = tmp_path / "a"
    assert joined(start_ranks(2, fit_in_child, tmp_path / "whole", **options)) == [0, 0]
    processes = start_ranks(2, fit_in_child, out, **options)
    wait_for_lines(out, 2, processes)
    os.kill(processes[1].pid, number)
    assert joined(processes) == [128 + number] * 2
    saved = checkpoint.load(checkpoint.latest(out / "checkpoints"))
    assert saved["step"] % 4 == 0 and saved["step"] == metrics(out)[-1]["step"]
    assert joined(start_ranks(2, fit_in_child, out, **options)) == [0, 0]
    same_runs(out, tmp_path / "whole")


def different(out, report, **options):
    return failing_fit(out, report, batch_size=8 + int(os.environ["RANK"]), **options)


def unseen(out, report):
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{os.environ['MASTER_PORT']}",
        rank=int(os.environ["RANK"]),
        world_size=2,
    )
    rank = os.environ["RANK"]
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        del os.environ[name]
    try:
        run(out)
    except RuntimeError as error:
        (report / f"{rank}.json").write_text(json.dumps(["RuntimeError", str(error)]))
        return 1


SETUPS = [
    (different, "pygan.fit: batch_size must be that of process "),
    (
        unseen,
        "pygan.fit: torch.distributed has 2 processes, and accelerate sees 1: start them with",
    ),
]


@pytest.mark.parametrize(("function", "message"), SETUPS)
def test_processes_with_different_arguments_are_refused(tmp_path, function, message):
    assert joined(start_ranks(2, function, tmp_path / "a", tmp_path)) == [1, 1]
    for rank in (0, 1):
        assert json.loads((tmp_path / f"{rank}.json").read_text())[1].startswith(message)
    assert not (tmp_path / "a").exists()


SCRIPT = """
import os, pathlib, signal, sys
import torch
torch.set_num_threads(1)
from helpers import fit, leave_process_group
out, options = pathlib.Path(sys.argv[1]), eval(sys.argv[2])
G, D = fit.plain_networks()
def die_once(module, inputs, output):
    # In the middle of step 8, where the checkpoint before is of step 6.
    global calls
    calls += module.training
    if calls == 30 and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
calls = 0
D[0].register_forward_hook(die_once)
code = fit.fit_in_child(out, G=G, D=D, **options)
leave_process_group()
raise SystemExit(code)
"""


def test_torchrun_and_a_worker_that_is_killed_and_restarted(tmp_path):
    """The restarted processes resume automatically, with the same final bits as an uninterrupted run."""
    options = {**ALL, "resume": "auto", "checkpoint_every": 3, "schedule": False}
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "--max-restarts", "1", script, tmp_path / "a"]
    paths = [str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    # A separate store for each start: in a shared one (torch 2.13's default), restarted processes may find the
    # addresses of the previous ones and try to connect to them.
    environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    done = subprocess.run(
        [*command, repr(options)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "another process ended" in done.stderr or "SIGTERM" in done.stderr
    same_runs(tmp_path / "a", ranks(2, tmp_path / "two", **options))
    assert_close_runs(tmp_path / "a", one(tmp_path / "one", **options))
