"""`python -m pygan bench`: runs, output and files."""

import csv
import json
import math
import os
import re
import subprocess
import sys

import pytest
import torch
from helpers import DEVICES

from pygan.__main__ import main
from pygan.bench import baselines, cases
from pygan.bench.machine import BINDING
from pygan.fused_losses import LOSSES


def bench(tmp_path, *arguments, device="cpu"):
    argv = ["bench", "--device", device, "--seconds", "0", "--out", str(tmp_path / "out")]
    argv += arguments
    assert main(argv) == 0
    return tmp_path / "out"


@pytest.mark.parametrize("device", DEVICES)
def test_every_op_has_rows(tmp_path, capsys, device):
    out = bench(
        tmp_path,
        "--no-compile",
        "--sizes",
        "1",
        "2^6",
        "--dtypes",
        "fp32",
        "bf16",
        "--ops",
        *cases.names(),
        device=device,
    )
    result = json.loads((out / "bench.json").read_text("utf-8"))
    assert {"date", "torch", "cpu", "backend", "threads", "cores"} <= result["about"].keys()
    rows = result["ops"]
    found = {(r["op"], r["work"], r["dtype"], r["n"]) for r in rows}
    assert len(found) == len(rows)
    for dtype in ("float32", "bfloat16"):
        for loss in LOSSES:
            for player in ("discriminator", "generator"):
                for work in ("forward", "forward + backward", "loss_and_grad + backward"):
                    assert {(f"{player}_loss[{loss}]", work, dtype, n) for n in (1, 64)} <= found
            assert (
                f"discriminator_loss[{loss}, list of 8]",
                "forward + backward",
                dtype,
                12000,
            ) in found
        assert ("instance_noise_pair", "forward", dtype, 64) in found
    for row in rows:
        assert 0 < row["pygan_low_us"] <= row["pygan_median_us"] <= row["pygan_high_us"]
        assert math.isclose(row["gain"], row["eager_median_us"] / row["pygan_median_us"])
        assert row["limit_us"] > 0 and row["limited_by"] in ("dispatch", "copy", "normals")
    text = capsys.readouterr().out
    losing = sum(row["gain"] < 1 for row in rows)
    assert f"pygan is slower in {losing} of {len(rows)} rows" in text
    with (out / "ops.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["op"] for line in lines] == [row["op"] for row in rows]
    assert {line["backend"] for line in lines} == {result["about"]["backend"]}
    assert (out / "gain.png").stat().st_size > 10_000


def test_memory_is_the_minimum_required(tmp_path, capsys):
    """With tensors that are much larger than everything else."""
    n, ops = 1 << 16, ["discriminator_loss[hinge]", "instance_noise*"]
    out = bench(tmp_path, "--no-compile", "--sizes", str(n), "--dtypes", "fp32", "--ops", *ops)
    rows = json.loads((out / "bench.json").read_text("utf-8"))["ops"]
    took = {(r["op"], r["work"]): (r["pygan_memory"], r["eager_memory"]) for r in rows}
    scalars = 256
    for (op, work), elements in {
        ("discriminator_loss[hinge]", "forward"): 0,
        ("discriminator_loss[hinge]", "forward + backward"): 2 * n,  # the gradients
        ("discriminator_loss[hinge]", "loss_and_grad + backward"): 2 * n,
        ("instance_noise", "forward"): n,
        ("instance_noise(out=)", "forward"): 0,
        ("instance_noise_pair", "forward"): 2 * n,
    }.items():
        ours, eager = took[op, work]
        assert 4 * elements <= ours <= 4 * elements + scalars, (op, work)
        assert eager > ours + 4 * n - scalars, (op, work)


def test_baselines_compute_the_same_values():
    real, fake = torch.randn(2, 300, dtype=torch.float64)
    for player in ("discriminator", "generator"):
        for loss in LOSSES:
            ours = baselines.fused(player, loss)(real, fake)
            for eager in baselines.eager(player, loss).values():
                torch.testing.assert_close(ours, eager(real, fake))


@pytest.mark.slow
def test_compiled_baselines(tmp_path, capsys):
    out = bench(
        tmp_path, "--sizes", "64", "4096", "--dtypes", "fp32", "--ops", "generator_loss[hinge]"
    )
    rows = json.loads((out / "bench.json").read_text("utf-8"))["ops"]
    assert all(row["compiled_median_us"] > 0 for row in rows)


@pytest.mark.parametrize("device", DEVICES)
def test_steps_and_traces(tmp_path, capsys, device):
    out = bench(tmp_path, "--steps", "--quick", "--profile", device=device)
    header, *rows = re.findall(r"^(?:model|MLP).*", capsys.readouterr().out, re.M)
    column = header.index("µs")
    assert rows and all(row[column - 2 : column] == "  " and row[column] != " " for row in rows)
    steps = {s["way"]: s for s in json.loads((out / "steps.json").read_text("utf-8"))["steps"]}
    faster = ", reuse_fakes, joint"
    captured = ["GANTrainer, one CUDA graph", f"GANTrainer, one CUDA graph{faster}"]
    assert list(steps) == [
        *("plain PyTorch", "pygan, by hand", f"pygan, by hand{faster}"),
        *("GANTrainer", f"GANTrainer{faster}"),
        *(f"GANTrainer, {option}" for option in ("reuse_fakes", "joint", "separate")),
        *(captured if device == "cuda" else []),
    ]
    # The losses and the noise, which are several ops each in plain PyTorch, are one kernel each.
    assert steps["GANTrainer"]["kernels"] <= steps["pygan, by hand"]["kernels"]
    assert steps["pygan, by hand"]["kernels"] < steps["plain PyTorch"]["kernels"] - 20
    for option in ("reuse_fakes", "joint"):
        assert steps[f"GANTrainer{faster}"]["kernels"] < steps[f"GANTrainer, {option}"]["kernels"]
        assert steps[f"GANTrainer, {option}"]["kernels"] < steps["GANTrainer"]["kernels"]
    assert steps[f"GANTrainer{faster}"]["kernels"] <= steps[f"pygan, by hand{faster}"]["kernels"]
    # One side at a time needs less memory than both.
    assert steps["GANTrainer, separate"]["memory"] < steps["GANTrainer"]["memory"]
    names = {
        e.get("name") for e in json.loads((out / "trace_pygan.json").read_text())["traceEvents"]
    }
    assert {"pygan::instance_noise", "pygan::gan_loss_and_grad"} <= names
    assert (out / "trace_plain.json").exists()


@pytest.mark.parametrize("setting", [None, "false"])
def test_threads_are_bound_unless_the_environment_configures_them(setting, tmp_path):
    """Run as a command, which has to restart for that."""
    environment = {k: v for k, v in os.environ.items() if k not in BINDING}
    if setting:
        environment["OMP_PROC_BIND"] = setting
    command = [
        sys.executable,
        "-m",
        "pygan",
        "bench",
        "--device",
        "cpu",
        "--no-compile",
        "--seconds",
        "0",
    ]
    command += ["--ops", "instance_noise", "--sizes", "64", "--dtypes", "fp32", "--out", tmp_path]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    binding = rf"^binding +OMP_PROC_BIND={setting or 'true'}$"
    assert re.search(binding, run.stdout, flags=re.MULTILINE)
    assert "instance_noise  forward  float32  64 " in re.sub("  +", "  ", run.stdout)


def test_scaling(tmp_path, capsys):
    out = bench(tmp_path, "--scaling", "--sizes", "4096", "--threads", "1")
    points = json.loads((out / "scaling.json").read_text("utf-8"))["scaling"]
    assert {p["n"] for p in points} == {4**k for k in range(7)}
    assert re.search(
        r"instance_noise\(out=\), 1 thread: [\d.]+ µs \+ N / [\d.]+ G", capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--ops", "hinge"],
            r"--ops must match one of discriminator_loss\[non_saturating\], .*, got hinge",
        ),
        (["--device", "cuda"], "torch sees no CUDA device"),
        (["--out", __file__], "--out must be a folder, or one that can be made, got .*py"),
        (["--ops", "instance_noise", "--sizes", "2^62", "--no-compile"], r"^pygan bench: .*\n\Z"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message, tmp_path, capsys):
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert main(["bench", "--out", str(tmp_path), *arguments]) == 1
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("option", "value", "must"),
    [
        *(
            ("--sizes", n, "a positive number such as")
            for n in ("0", "-4", "many", "2^", "9^99999")
        ),
        *(("--seconds", n, "a number of at least 0") for n in ("-1", "nan", "inf", "fast")),
        *(("--threads", n, "an int of at least 1") for n in ("0", "-1", "1.5")),
        *(("--device", name, "cpu or cuda") for name in ("fastest", "meta")),
    ],
)
def test_values_of_options_are_checked(option, value, must, capsys):
    with pytest.raises(SystemExit):
        main(["bench", f"{option}={value}"])
    assert re.search(rf"argument {option}: must be {must}.*, got ", capsys.readouterr().err)
