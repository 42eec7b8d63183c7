"""Mode coverage and sample quality of `pygan train` with several seeds and variants.

    python benchmarks/modes.py --data stacked-mnist --seeds 5
    python benchmarks/modes.py --data mnist --variants ns ns+noise r3gan --seeds 3 --jobs 2

Every run is a `pygan train` command on the GPU, or on the CPU if there is none. When it has finished, a line of JSON
with its evaluations is appended to benchmarks/modes/DATA.jsonl. Runs that have a line are skipped, so that repeating
the command continues the benchmark. `tools/docs/modes_page.py` writes the tables of docs/mode-coverage.md from these
lines. modes_settings.py defines the settings and the variants.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import modes_settings as settings
import torch

HERE = Path(__file__).parent
MEASURES = ("modes", "reverse_kl", "high_quality", "sure")
MEASURES += ("frechet_distance", "precision", "recall", "coverage")


def run(data, variant, seed, steps, given, threads, pictures):
    """Run a training and return its line."""
    with tempfile.TemporaryDirectory() as folder:
        config, out = Path(folder) / "run.toml", Path(folder) / "out"
        config.write_text(settings.configuration(data, variant, steps))
        name = settings.SETTINGS[data].data
        command = [sys.executable, "-m", "pygan", "train", "--data", name, "--config", config]
        if variant.endswith("two processes"):
            launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
            command[1:1] = [*launcher, f"--master-port={29500 + seed}"]
        command += ["--seed", str(seed), "--out", out]
        for text in (*given, "train.progress=false", "train.tensorboard=false"):
            command += ["--set", text]
        started, cpu_started = time.monotonic(), processor_time()
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{data}, {variant}, seed {seed}:\n{done.stderr}")
        seconds, cpu_seconds = time.monotonic() - started, processor_time() - cpu_started
        rows = [json.loads(row) for row in (out / "metrics.jsonl").read_text().splitlines()]
        more = label_accuracy(out) if variant.endswith("labels") else {}
        if pictures:
            keep_picture(out, pictures / data / f"{variant}-{seed}.png".replace(" ", "-"))
    curve = [
        {key: rounded(row[key]) for key in ("step", *MEASURES) if key in row}
        for row in rows
        if "modes" in row
    ]
    last = [row for row in rows if "modes" in row][-1]
    shares = [rounded(last[f"share_{digit}"]) for digit in range(10) if f"share_{digit}" in last]
    return {
        "variant": variant,
        "seed": seed,
        "steps": last["step"],
        **({"set": given} if given else {}),
        **{key: rounded(last[key]) for key in MEASURES if key in last},
        **more,
        **({"shares": shares} if shares else {}),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "threads": threads,
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
        "commit": commit(),
        "diagnoses": sorted({row["diagnosis"] for row in rows if "diagnosis" in row}),
        "curve": curve,
    }


def label_accuracy(out):
    """How often a conditional generator draws the requested digit."""
    import pygan

    labels = torch.arange(5000) % 10
    samples = pygan.load_generator(out).sample(5000, labels)
    read = pygan.metrics.MNISTClassifier().probabilities(samples).argmax(1)
    return {"label_accuracy": round((read == labels).double().mean().item(), 4)}


def keep_picture(out, path):
    """Copy the last sample grid of a run."""
    drawn = sorted(out.glob("samples-*.png"))
    if drawn:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(drawn[-1], path)


def rounded(value):
    """Round to six digits, which suffice for shares of thousands of samples; "Infinity" is unchanged."""
    return float(f"{value:.6g}") if isinstance(value, (int, float)) else value


def processor_time():
    """CPU time of this process's finished child processes; it runs one at a time."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def commit():
    """The commit of the code, with a plus sign if the code has been changed since."""
    git = ["git", "-C", str(HERE.parent)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    same = subprocess.run(
        [*git, "diff", "--quiet", "HEAD", "--", "pygan", "csrc", "benchmarks/*.py"]
    )
    return head.stdout.strip() + "+" * (same.returncode != 0)


def run_key(row):
    """The values that identify a run."""
    return row["variant"], row["seed"], row["steps"], tuple(row.get("set", ()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", choices=list(settings.SETTINGS), required=True)
    names = list(settings.VARIANTS)
    add(
        "--variants",
        nargs="+",
        choices=names,
        metavar="VARIANT",
        help=f"default: those of the data in modes_settings.py; all: {'; '.join(names)}",
    )
    add("--seeds", type=int, default=5, help="0 to below this number (default: 5)")
    add("--steps", type=int, help="iterations (default: those of modes_settings.py)")
    add("--threads", type=int, default=1, help="of the CPU, of a run (default: 1)")
    add("--jobs", type=int, default=1, help="runs at a time (default: 1)")
    add(
        "--set",
        action="append",
        default=[],
        metavar="TABLE.KEY=VALUE",
        help="as of `pygan train`; the page leaves such runs out",
    )
    add("--out", type=Path, help="default: benchmarks/modes/DATA.jsonl")
    add("--pictures", type=Path, help="folder for the last grid of samples of each run")
    args = parser.parse_args()
    out = args.out or HERE / "modes" / f"{args.data}.jsonl"
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = out.read_text().splitlines() if out.exists() else []
    done = {run_key(row) for row in map(json.loads, lines)}
    # Seed by seed, so that all variants have about the same number of runs.
    variants = args.variants or settings.SETTINGS[args.data].variants
    runs = [(variant, seed) for seed in range(args.seeds) for variant in variants]
    with ProcessPoolExecutor(args.jobs) as pool, out.open("a") as file:
        pending = [
            pool.submit(
                run, args.data, variant, seed, args.steps, args.set, args.threads, args.pictures
            )
            for variant, seed in runs
            if (variant, seed, args.steps or default_steps(args.data, variant), tuple(args.set))
            not in done
        ]
        for future in as_completed(pending):
            row = future.result()
            print(json.dumps(row), file=file, flush=True)
            print({key: value for key, value in row.items() if key != "curve"}, flush=True)


def default_steps(data, variant):
    """The number of steps without --steps."""
    if settings.VARIANTS[variant] is not None:
        return settings.SETTINGS[data].steps
    from pygan.training.config import load

    return load(settings.SETTINGS[data].data).train["steps"]


if __name__ == "__main__":
    main()
