"""Writes docs/benchmarks.md, its pictures and the README's tables of speed from the results in benchmarks/.

    python tools/docs/benchmarks_page.py

The newest folders of benchmarks/ count: DATE-BACKEND, as `python -m pygan bench --out` wrote it on a CPU, and DATE-GPU,
if there is one, as gpu_page.py describes it.
"""

import argparse
import json
import re
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import gpu_page
from modes import PUBLISHED, mean
from tables import table

from pygan.bench import report, scaling
from pygan.bench.timing import Timing

ROOT = Path(__file__).resolve().parents[2]
RESULTS = max((ROOT / "benchmarks").glob("20??-??-??-*/ops.csv")).parent
MARKS = "<!-- speed: made by tools/docs/benchmarks_page.py -->", "<!-- end of speed -->"

HEAD = """# Benchmarks

<!-- Made by tools/docs/benchmarks_page.py from the results in benchmarks/; do not edit. -->

`python -m pygan bench` times every op against the plain PyTorch expression, `torch.compile` of it and what the machine
could do at best, all in one run; `--quick` does so for the commonest in under a minute. `--help` says the rest.

* **eager** is the fastest of the expressions in `pygan/bench/rivals.py`.
* **work**: without gradients; with them, by `loss.backward()`; with them, by `*_loss_and_grad` and
  `LossAndGrad.backward`. With gradients every way begins with leaves, of which an op makes the logits (`view_as`, the
  least of all), and ends with the leaves' gradients.
* **gain**: how many times faster pygan is than the fastest other way. Below 1 it is slower.
* **of limit**: the time as a multiple of the greatest of three: what an op or a backward pass takes that does nothing
  (dispatch: a copy of one byte, the sum of two numbers and its `backward()`, or autograd's engine called from C++),
  what copying as many bytes takes as the op must read and write (copy), what drawing as many normals takes where
  nothing leaves the cache (normals).
* **spread**: half the distance of the quartiles. Alternatives take turns in a random order, on buffers that take turns
  too, twice the largest cache where they are large; the rows of an op are measured three times, and the quietest of
  them counts. Each thread has a processor to itself (the command starts itself
  anew with `OMP_PROC_BIND=true` unless the environment says otherwise): left to the system, both threads of a pool
  shared one for the whole run in one process of six.
* **memory**: what a call allocates at its peak, results included.
"""
SCALING = """## Time against size

`python -m pygan bench --scaling`, fp32. A kernel without steps takes c + N / rate; the fit is of least relative error.
Each point is the quietest of three passes. With two threads the second one takes part from 16 Ki logits (8 Ki elements
of noise) on, and where a call's tensors outgrow the last cache (here between 1 and 4 Mi) two threads wait for memory
that one keeps up with: both bend the curve. Memory that was freed is kept meanwhile: by default glibc takes it from the
system anew for each tensor of 32 MiB and more, and what the system takes to hand out its pages is several times what
the op takes. If your tensors are as large, `MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=1099511627776` in the environment
keeps it as well.
"""
STEPS = """## Whole steps

A discriminator step and a generator step with Adam and instance noise; plain PyTorch computes
binary_cross_entropy_with_logits and keeps no statistics, the others keep some. By hand is a careful loop with pygan's
functions. "To plain" compares with plain PyTorch, "to by hand" with the loop by hand that has the same options; both
are medians over the rounds in which all ways were timed. Ops and kernels are counted by a dispatch mode, backward
passes included; a kernel is a dispatched op that reads or writes elements: a pass over memory on a CPU, a launch or
more on a GPU.
"""
STATIC = """## CUDA kernels: predicted

{measured}

`python -m pygan bench --static` predicts from the machine code in the build which share of the memory's limit the
kernels reach at 16 Mi elements a tensor; [Kernels and numerics](kernels.md#how-near-to-the-memorys-limit) says how.
Bytes and instructions are an element's; instructions, registers and resident warps those on H100.
"""
NOT_MEASURED = "Not measured: these kernels have not been benchmarked on a GPU yet."
MEASURED = "What the same kernels reach on an H100 is in the section above."
MODES = """## modes.py

`python benchmarks/modes.py` counts the modes that `pygan train` covers, with several seeds. All of
`benchmarks/modes.jsonl`; what follows from it is in [Modes covered](mode-coverage.md).
"""


def result(name):
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def steps():
    """Those of a run of --steps, which takes longer over them, if there is one."""
    return (result("steps") or result("bench"))["steps"]


def where(about):
    return (
        f"{about['date']}, {about['cpu']}, {about['backend']}, {about['threads']} threads of {about['cores']} cores, "
        f"torch {about['torch']}"
    )


def modes():
    """A table for each kind of data: mean and standard deviation over the runs of each variant."""
    lines = (ROOT / "benchmarks" / "modes.jsonl").read_text("utf-8").splitlines()
    runs = {}
    for row in map(json.loads, lines):
        runs.setdefault(row["data"], {}).setdefault(row["variant"], []).append(row)
    for data, variants in runs.items():
        quality = "sure" if data == "stacked-digits" else "high_quality"
        yield f"| {data} | modes | {quality.replace('_', ' ')} | reverse KL | seconds | runs |"
        yield "|---|---|---|---|---|---|"
        yield from (f"| {line} | | |" for line in PUBLISHED[data])
        for variant, rows in variants.items():
            cells = [mean(rows, key) for key in ("modes", quality, "reverse_kl")]
            cells += [f"{statistics.median(row['seconds'] for row in rows):.0f}", str(len(rows))]
            yield f"| {variant} | " + " | ".join(cells) + " |"
        yield ""


def scaled(points):
    """The sentences about the fits, from what was kept of the points."""
    kept = [
        scaling.Point(
            p["op"], p["threads"], p["n"], Timing(p["median_us"], p["low_us"], p["high_us"])
        )
        for p in points
    ]
    return "\n".join(f"* {report.fit_line(fit)}" for fit in scaling.fits(kept)) + "\n"


def predicted(rows):
    """A line a kernel, a column a GPU."""
    pipes = ("fp32", "integer", "multiply", "special", "memory")
    gpus = list(dict.fromkeys(row["gpu"] for row in rows))
    lines = []
    for kernel, dtype in dict.fromkeys((row["kernel"], row["dtype"]) for row in rows):
        on = {r["gpu"]: r for r in rows if (r["kernel"], r["dtype"]) == (kernel, dtype)}
        h100 = on["H100"]
        counts = [h100[f"instructions_{pipe}"] for pipe in pipes]
        total = sum(value for key, value in h100.items() if key.startswith("instructions_"))
        shown = f"{total:.0f} ({', '.join(f'{n:.1f}' for n in counts)})"
        shares = [f"{on[gpu]['predicted_share']:.0%}" for gpu in gpus]
        of_warps = f"{h100['occupancy']:.0%}"
        size = f"{h100['bytes']:.0f}"
        lines.append((kernel, dtype, size, shown, str(h100["registers"]), of_warps, *shares))
    head = (
        "kernel",
        "elements",
        "bytes",
        f"instructions ({', '.join(pipes)})",
        "registers",
        "warps",
    )
    return table((*head, *gpus), lines)


def page(folder):
    """The text; the pictures go into `folder`."""
    bench, static, curve = result("bench"), result("static"), result("scaling")
    folder.mkdir(exist_ok=True)
    pictures = {path.name for path in RESULTS.glob("*.png")}
    for name in pictures:
        (folder / name).write_bytes((RESULTS / name).read_bytes())
    parts = [
        HEAD,
        f"Below: {where(bench['about'])}. A shared machine: ratios mean more than times.",
    ]
    parts += ["", f"All of it, as JSON and CSV: `benchmarks/{RESULTS.name}`.", ""]
    parts += ["![Time against size](speed/time.png)\n"] * ("time.png" in pictures)
    parts += ["![Roofline](speed/roofline.png)\n"] * ("roofline.png" in pictures)
    parts += ["## Ops\n", table(report.COLUMNS, map(report.cells, bench["ops"]))]
    parts += [STEPS, table(report.STEPS_COLUMNS, report.steps_cells(steps()))]
    if curve:
        parts += [SCALING, scaled(curve["scaling"]), "![Scaling](speed/scaling.png)\n"]
    gpu = gpu_page.newest(ROOT / "benchmarks")
    if gpu:
        parts += [gpu_page.section(gpu, static["static"] if static else [])]
    if static:
        parts += [STATIC.format(measured=MEASURED if gpu else NOT_MEASURED)]
        parts += [predicted(static["static"])]
    return "\n".join([*parts, MODES, *modes()])


def in_readme(row):
    """A few of the rows: fp32, training."""
    noise = row["op"].startswith("instance_noise")
    if row["dtype"] != "float32" or (row["work"] == "forward") != noise:
        return False
    if noise:
        return row["n"] >= 1 << 16
    if row["op"].endswith("[non_saturating]"):
        return row["n"] <= 1 << 20
    few = row["n"] == 1 << 16 or "list" in row["op"]
    return few and row["op"][0] == "d" and row["work"] == "forward + backward"


def on_gpus():
    """The end of what the README says."""
    gpu, static = gpu_page.newest(ROOT / "benchmarks"), result("static")
    if gpu:
        return gpu_page.short_section(gpu, static["static"] if static else [])
    return "\n".join(
        [
            "The CUDA kernels have not been benchmarked on a GPU yet; "
            "[what their machine code predicts](docs/benchmarks.md#cuda-kernels-predicted) is in docs/benchmarks.md.",
            "",
        ]
    )


def speed():
    """What the README says."""
    bench = result("bench")
    columns = ("op", "work", "N", "eager µs", "compiled µs", "pygan µs", "gain", "of limit")
    order = [report.COLUMNS.index(column) for column in columns]
    rows = [report.cells(row) for row in bench["ops"] if in_readme(row)]
    gains = [row["gain"] for row in bench["ops"]]
    losing = [row for row in bench["ops"] if row["gain"] < 1]
    worst = sorted({(row["op"], row["n"]) for row in losing})
    said = "; ".join(f"{op} at N = {report.count(n)}" for op, n in worst) or "none"
    return "\n".join(
        [
            f"{where(bench['about'])}; fp32. Of all {len(gains)} rows of that run (other losses, sizes, bf16, "
            f"evaluation) pygan is slower in {len(losing)}: {said}. Geometric mean of the gains: "
            f"{report.geometric_mean(gains):.1f} ×.",
            "",
            table(columns, [[cells[i] for i in order] for cells in rows]),
            "A discriminator step and a generator step:",
            "",
            table(report.STEPS_COLUMNS, report.steps_cells(steps())),
            on_gpus(),
        ]
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks.md")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    args = parser.parse_args()
    args.out.write_text(page(args.out.parent / "speed"), "utf-8")
    between = re.compile(f"(?<={re.escape(MARKS[0])}\n).*?(?={re.escape(MARKS[1])})", re.S)
    text = (ROOT / "README.md").read_text("utf-8")
    args.readme.write_text(between.sub(lambda _: speed(), text), "utf-8")


if __name__ == "__main__":
    main()
