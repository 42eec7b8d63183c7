"""How many modes a GAN covers: `pygan train` with several seeds, plain, with instance noise, and with penalties.

    python benchmarks/modes.py --data ring --seeds 10 --out modes.jsonl

Every run is the command `pygan train` with one thread; --jobs of them run at a time. All variants have the networks and
the batches of the recipe, which may have rates, steps and faster options of its own; the others have rates and steps in
common, and differ in loss, noise and penalties. Prints a table beside PacGAN's (Lin et al. 2018, table 1: 10 runs
each), and appends a line for each run to --out; runs that --out holds already are not done again. Seconds are of
processor time.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

# What the variants other than the recipe have in common.
COMMON = {
    "ring": """
data.scale = 1.0
optimizer = {lr = 1e-3, d_lr = 1e-3, betas = [0.0, 0.99], decay_from = 0.0}
train.steps = 8_000
train.ema = 0.999
""",
    "grid": """
data.scale = 0.5
optimizer = {lr = 1e-3, d_lr = 2e-3, betas = [0.0, 0.99], decay_from = 0.3}
train.steps = 14_000
train.ema = 0.999
""",
    "stacked-digits": "",
}
# Down to `end` in four fifths of the steps: `start`, `end` and gamma.
NOISE = {
    "ring": (0.3, 0.003, 0.01 ** (1 / 6400)),
    "grid": (0.5, 0.01, 0.02 ** (1 / 11200)),
    "stacked-digits": (0.5, 0.02, 0.04 ** (1 / 4800)),
}
# Of the penalties: gamma and `every`.
PENALTIES = {"ring": (0.01, 1), "grid": (0.01, 4), "stacked-digits": (1.0, 4)}


def variants(data):
    """The configuration of each, on top of the recipe of the data."""
    start, end, factor = NOISE[data]
    noise = (
        f'noise = {{schedule = "Exponential", start = {start}, end = {end}, gamma = {factor}}}\n'
    )
    gamma, every = PENALTIES[data]
    r1, r2 = (
        f'[[penalties]]\nname = "{name}"\ngamma = {gamma}\nevery = {every}\n'
        for name in ("R1", "R2")
    )
    common = COMMON[data] + "train.reuse_fakes = false\ntrain.joint = false\n"
    relativistic = common + 'train.loss = "relativistic"\n'
    common += 'train.loss = "non_saturating"\n'
    plain = common + "penalties = []\n"
    return {
        "recipe": "",
        "plain": plain,
        "noise": plain + noise,
        "R1": common + r1,
        "R1 + R2": relativistic + r1 + r2,
        "bf16": common + 'train.mixed_precision = "bf16"\n' + r1,
        "two processes": common + r1,
    }


VARIANTS = {data: variants(data) for data in COMMON}
PUBLISHED = {
    "ring": [
        "GAN (PacGAN's table 1) | 6.3 | 98.2 % | .45",
        "PacGAN2 (the same) | 7.9 | 95.6 % | .07",
    ],
    "grid": [
        "GAN (PacGAN's table 1) | 17.3 | 94.8 % | .70",
        "PacGAN2 (the same) | 23.8 | 91.3 % | .13",
    ],
    "stacked-digits": [],
}
MEASURES = ("modes", "high_quality", "sure", "reverse_kl")


def run(data, variant, seed, extra):
    """One run: its evaluation, its processor time, and what the monitor found."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "run.toml"
        config.write_text(VARIANTS[data][variant])
        command = [sys.executable, "-m", "pygan", "train", "--data", data, "--config", config]
        if variant == "two processes":
            launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
            command[1:1] = [*launcher, f"--master-port={29500 + seed}"]
        command += ["--seed", str(seed), "--out", Path(folder) / "out", *extra]
        for key in ("progress", "tensorboard"):
            command += ["--set", f"train.{key}=false"]
        began = processor_time()
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{data}, {variant}, seed {seed}:\n{done.stderr}")
        seconds = processor_time() - began
        rows = map(json.loads, (Path(folder) / "out" / "metrics.jsonl").read_text().splitlines())
        rows = list(rows)
    last = [row for row in rows if "modes" in row][-1]
    found = sorted({row["diagnosis"] for row in rows if "diagnosis" in row})
    row = {"data": data, "variant": variant, "seed": seed, "steps": last["step"]}
    row |= {key: last[key] for key in MEASURES if key in last}
    return {**row, "seconds": round(seconds, 1), "diagnoses": found}


def processor_time():
    """Of the finished child processes of this one, which has one at a time."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def mean(rows, key):
    values = [float(row[key]) for row in rows]  # "Infinity", where nothing was of high quality
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    scale, unit, digits = (100, " %", 1) if key in ("high_quality", "sure") else (1, "", 3)
    digits = 1 if key == "modes" else digits
    return f"{scale * statistics.mean(values):.{digits}f} ± {scale * spread:.{digits}f}{unit}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", nargs="+", choices=list(PUBLISHED), default=["ring"])
    names = list(VARIANTS["ring"])
    add("--variants", nargs="+", choices=names, default=["plain", "noise", "recipe"])
    add("--seeds", type=int, default=10)
    add("--jobs", type=int, default=2)
    add("--out", type=Path, default=Path("modes.jsonl"))
    args, extra = parser.parse_known_args()  # what is left goes to `pygan train`
    done = {}
    if args.out.exists():
        for row in map(json.loads, args.out.read_text().splitlines()):
            done[row["data"], row["variant"], row["seed"]] = row
    with ProcessPoolExecutor(args.jobs) as pool, args.out.open("a") as out:
        for data in args.data:
            quality = "sure" if data == "stacked-digits" else "high_quality"
            print(f"\n| {data} | modes | {quality.replace('_', ' ')} | reverse KL | seconds |")
            print("|---|---|---|---|---|", flush=True)
            for line in PUBLISHED[data]:
                print(f"| {line} | |")
            for variant in args.variants:
                keys = [(data, variant, seed) for seed in range(args.seeds)]
                pending = {k: pool.submit(run, *k, extra) for k in keys if k not in done}
                for key, future in pending.items():
                    done[key] = future.result()
                    print(json.dumps(done[key]), file=out, flush=True)
                rows = [done[key] for key in keys]
                cells = [mean(rows, key) for key in ("modes", quality, "reverse_kl")]
                cells.append(f"{statistics.median(row['seconds'] for row in rows):.0f}")
                print(f"| {variant} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
