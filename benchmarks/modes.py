"""How many modes a GAN covers: `pygan train` with several seeds, plain, with instance noise, and with penalties.

    python benchmarks/modes.py --data ring --seeds 10 --out modes.jsonl

Every run is the command `pygan train` with one thread; --jobs of them run at a time. The recipe of the data has the
networks, the rates and the penalties; the other variants change the loss, the noise and the penalties alone. Prints a
table beside PacGAN's (Lin et al. 2018, table 1: 10 runs each), and appends a line for each run to --out; runs that
--out holds already are not done again. Seconds are of processor time.
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

PLAIN = 'penalties = []\n[train]\nloss = "non_saturating"\n'
# The recipe's R1, alone and on the loss of `plain`; the ring's recipe is that already.
R1 = '[train]\nloss = "non_saturating"\n[[penalties]]\nname = "R1"\ngamma = {}\nevery = 4\n'
# Down to `end` in four fifths of the steps.
NOISE = '[noise]\nschedule = "Exponential"\nstart = {}\nend = {}\ngamma = {}\n'
VARIANTS = {
    "recipe": {data: "" for data in ("ring", "grid", "stacked-digits")},
    "plain": {data: PLAIN for data in ("ring", "grid", "stacked-digits")},
    "noise": {
        "ring": PLAIN + NOISE.format(0.3, 0.003, 0.01 ** (1 / 6400)),
        "grid": PLAIN + NOISE.format(0.5, 0.01, 0.02 ** (1 / 11200)),
        "stacked-digits": PLAIN + NOISE.format(0.5, 0.02, 0.04 ** (1 / 4800)),
    },
    "R1": {"ring": "", "grid": R1.format(0.01), "stacked-digits": R1.format(1.0)},
    "bf16": {
        data: '[train]\nmixed_precision = "bf16"\n' for data in ("ring", "grid", "stacked-digits")
    },
    "two processes": {data: "" for data in ("ring", "grid", "stacked-digits")},
}
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
        config.write_text(VARIANTS[variant][data])
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
    add("--variants", nargs="+", choices=list(VARIANTS), default=["plain", "noise", "recipe"])
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
