"""How many modes a GAN covers, and how good its samples are: `pygan train` with several seeds, and several variants.

    python benchmarks/modes.py --data stacked-mnist --seeds 5
    python benchmarks/modes.py --data mnist --variants ns ns+noise r3gan --seeds 3 --jobs 2

Every run is the command `pygan train` on the CPU or the GPU that is there. Its line of JSON is appended to
benchmarks/modes/DATA.jsonl as soon as it is done, with a curve of its evaluations; runs whose line is there are not
done again, so that the same command continues. `tools/docs/modes_page.py` makes the tables of docs/mode-coverage.md of
these lines. The settings and the variants are those of modes_settings.py.
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
    """One run: its line."""
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
        began, used = time.monotonic(), processor_time()
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{data}, {variant}, seed {seed}:\n{done.stderr}")
        seconds, cpu_seconds = time.monotonic() - began, processor_time() - used
        rows = [json.loads(row) for row in (out / "metrics.jsonl").read_text().splitlines()]
        more = of_labels(out) if variant.endswith("labels") else {}
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


def of_labels(out):
    """How often a conditional generator draws the digit that it was asked for."""
    import pygan

    labels = torch.arange(5000) % 10
    samples = pygan.load_generator(out).sample(5000, labels)
    read = pygan.metrics.MNISTClassifier().probabilities(samples).argmax(1)
    return {"label_accuracy": round((read == labels).double().mean().item(), 4)}


def keep_picture(out, path):
    """The last grid of samples, which `pygan train` drew."""
    drawn = sorted(out.glob("samples-*.png"))
    if drawn:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(drawn[-1], path)


def rounded(value):
    """Six digits: of what is a share of thousands of samples, no more are meant. "Infinity" stays."""
    return float(f"{value:.6g}") if isinstance(value, (int, float)) else value


def processor_time():
    """Of the finished child processes of this one, which has one at a time."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def commit():
    """Of the code, with a plus where it has been changed since."""
    git = ["git", "-C", str(HERE.parent)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    same = subprocess.run(
        [*git, "diff", "--quiet", "HEAD", "--", "pygan", "csrc", "benchmarks/*.py"]
    )
    return head.stdout.strip() + "+" * (same.returncode != 0)


def key_of(row):
    """What makes a run another one."""
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
    done = {key_of(row) for row in map(json.loads, lines)}
    # Seed by seed, so that all variants have about as many.
    variants = args.variants or settings.SETTINGS[args.data].variants
    runs = [(variant, seed) for seed in range(args.seeds) for variant in variants]
    with ProcessPoolExecutor(args.jobs) as pool, out.open("a") as file:
        pending = [
            pool.submit(
                run, args.data, variant, seed, args.steps, args.set, args.threads, args.pictures
            )
            for variant, seed in runs
            if (variant, seed, args.steps or steps_of(args.data, variant), tuple(args.set))
            not in done
        ]
        for future in as_completed(pending):
            row = future.result()
            print(json.dumps(row), file=file, flush=True)
            print({key: value for key, value in row.items() if key != "curve"}, flush=True)


def steps_of(data, variant):
    """Without --steps."""
    if settings.VARIANTS[variant] is not None:
        return settings.SETTINGS[data].steps
    from pygan.training.config import load

    return load(settings.SETTINGS[data].data).train["steps"]


if __name__ == "__main__":
    main()
