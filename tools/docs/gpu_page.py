"""What was measured on a GPU, for docs/benchmarks.md, from a folder that tools/gpu/keep.py made.

Such a folder, benchmarks/DATE-GPU, holds what is kept of what tools/gpu/check.sh wrote; the logs are not:

    first.jsonl    the checks; the shares of a copy's bandwidth are in the line of `bandwidth`
    bench.json     ops and whole steps, as of `python -m pygan bench --device cuda`
    ncu.csv        Nsight Compute's counters (may be missing)
    summary.txt    a line for each stage: tests, sanitizers, ...
    reasons.json   written by hand: {"noise, bfloat16": "why it is not what was predicted", ...,
                   "stages": {"tests-matrix": "a remark on this stage", ...}}

Without any such folder there is nothing here, and the pages have predictions only.
"""

import csv
import json
import re

from tables import all_steps, csv_links, folded, ops_by_name, steps_by_model, table

from pygan.bench import report

ELEMENTS = 1 << 24  # at which tools/predict_bandwidth.py predicts
NOTABLE = 0.05  # a difference of shares that needs a reason
# (kernel, elements) of the static report: (call, dtype) of the check `bandwidth`
MEASURED_AS = {
    ("loss", "float32"): ("discriminator loss", "float32"),
    ("loss", "bfloat16"): ("discriminator loss", "bfloat16"),
    ("loss and gradient", "float32"): ("discriminator loss_and_grad", "float32"),
    ("loss and gradient", "bfloat16"): ("discriminator loss_and_grad", "bfloat16"),
    ("loss backward", "float32"): ("backward", "float32"),
    ("loss backward", "bfloat16"): ("backward", "bfloat16"),
    ("feature matching", "float32"): ("feature matching", "float32"),
    ("feature matching", "bfloat16"): ("feature matching", "bfloat16"),
    ("feature gradient", "float32"): ("feature gradient", "float32"),
    ("feature gradient", "bfloat16"): ("feature gradient", "bfloat16"),
    ("noise", "float32"): ("noise out=", "float32"),
    ("noise", "bfloat16"): ("noise out=", "bfloat16"),
    ("noise", "uint8 -> bfloat16"): ("noise uint8", "bfloat16"),
    ("noise, per sample", "float32"): ("noise, sigma per sample", "float32"),
    ("noise, per sample", "bfloat16"): ("noise, sigma per sample", "bfloat16"),
}
INTRODUCTION = """`tools/gpu/check.sh` checks the kernels on a GPU and measures them. `benchmarks/{folder}` has
the results as JSON and CSV{files} and a line for each stage, but not the logs. {where}.

**Share of a copy**: the bandwidth of the kernel as a share of what copying as many elements reaches on the same GPU, at
16 Mi elements a tensor, in buffers that take turns so that nothing is in the L2 cache. **Predicted** is the share from
the [table below](#cuda-kernels-predicted). A difference of more than 5 points has its reason beside it.
"""
CALLS = """### Every call

The time of the GPU alone: of calls in a CUDA graph, without Python and launches. At 1 Mi elements everything is in the
L2 cache.
"""
OPS = """### Ops on the GPU

![Gain against size on the GPU](speed/gpu/gain.png)

Python and launches included; the columns are those of the [ops above](#columns).
"""
STEPS = """### Whole steps on the GPU

![Whole steps on the GPU](speed/gpu/steps.png)
"""
COUNTERS = """### Nsight Compute

Counters of a single launch at 16 Mi elements a tensor, without the kernels' warm-up.
"""
READING = """Gains are over eager PyTorch (`torch.compile` was not timed there), and plain PyTorch was not captured:
most of what the graph saves is the host's time. Medians over rounds.
"""
CHECKS = """### Stages

The exit status of each stage, and the last line that it printed.
"""
# A line of summary.txt: "tests-own: rc=0, 60 s: 972 passed", "ncu: not run, ncu was not found".
STAGE = re.compile(
    r"(?P<name>[\w-]+): (?:rc=(?P<status>\d+), (?P<seconds>\d+) s(?:: (?P<last>.*))?|(?P<not_run>not run.*))"
)
COUNTER_COLUMNS = {
    "µs": ("gpu__time_duration.sum", 1e-3),
    "MB from and to DRAM": ("dram__bytes.sum", 1e-6),
    "DRAM %": ("dram__throughput.avg.pct_of_peak_sustained_elapsed", 1),
    "SM %": ("sm__throughput.avg.pct_of_peak_sustained_elapsed", 1),
    "warps %": ("sm__warps_active.avg.pct_of_peak_sustained_active", 1),
    "registers": ("launch__registers_per_thread", 1),
}


def newest(benchmarks):
    """The newest folder with results of a GPU, or None."""
    return max((path.parent for path in benchmarks.glob("20??-??-??-*/first.jsonl")), default=None)


def lines_of(folder):
    """{check: its line}"""
    lines = (folder / "first.jsonl").read_text("utf-8").splitlines()
    return {line["check"]: line for line in map(json.loads, lines) if "check" in line}


def read(folder, name, default):
    path = folder / name
    return json.loads(path.read_text("utf-8")) if path.exists() else default


def device(folder):
    """The GPU's name, and as tools/machine_code/gpus.py names it: H100 for NVIDIA H100 80GB HBM3."""
    bench = read(folder, "bench.json", {})
    name = bench["about"]["device"] if bench else lines_of(folder)["about"]["devices"][0]
    short = re.search(r"\b[A-Z]+\d+[A-Z]*\b", name)
    return name, short.group() if short else name


def title(folder):
    short = device(folder)[1]
    return f"Measured on {'an' if short[0] in 'AEFHILMNORSX' else 'a'} {short}"


def where(folder):
    about = lines_of(folder)["about"]
    return f"{folder.name[:10]}, {device(folder)[0]}, torch {about['torch_running']}"


def rows_of(folder):
    """Those of `bandwidth` that have times: call, dtype, n, us, GB/s, share of a copy."""
    return [row for row in lines_of(folder)["bandwidth"].get("rows", []) if len(row) == 6]


def shares(folder, static):
    """(kernel, elements, GB/s, measured, predicted, reason), of what was both measured and predicted or may be."""
    measured = {(call, dtype): row for call, dtype, n, *row in rows_of(folder) if n == ELEMENTS}
    gpu, reasons = device(folder)[1], read(folder, "reasons.json", {})
    predicted = {
        (row["kernel"], row["dtype"]): row["predicted_share"] for row in static if row["gpu"] == gpu
    }
    for label, call in MEASURED_AS.items():
        if call in measured:
            _, rate, share = measured[call]
            yield (*label, rate, share, predicted.get(label), reasons.get(", ".join(label), ""))


def percent(share):
    return "–" if share is None else f"{share:.0%}"


def share_cells(row):
    kernel, elements, rate, share, predicted, reason = row
    if not reason and predicted is not None and abs(share - predicted) > NOTABLE:
        reason = "unexplained"
    return (kernel, elements, str(rate), percent(share), percent(predicted), reason)


def call_cells(row):
    call, dtype, n, us, rate, share = row
    return (call, dtype, report.count(n), report.micro(us), str(rate), percent(share))


def counters(folder):
    """A line for each launch: the kernel and COUNTER_COLUMNS, from `ncu --csv --page raw --print-units base`."""
    path = folder / "ncu.csv"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    begin = next((k for k, line in enumerate(lines) if line.startswith('"ID"')), len(lines))
    for row in csv.DictReader(lines[begin:]):
        if not (row["ID"] or "").isdecimal():  # the units
            continue
        # Without namespaces, the types of template arguments that are numbers, and the function's arguments.
        name = re.sub(r"pygan::(cuda::)?", "", row["Kernel Name"])
        name = re.search(r"\w+_kernel(<.*>)?(?=\(|$)", re.sub(r"\(\w+\)(?=\d)", "", name))
        name = name.group() if name else row["Kernel Name"]
        numbers = [
            float(row[key].replace(",", "")) * unit for key, unit in COUNTER_COLUMNS.values()
        ]
        yield (f"`{name}`", *(f"{number:.0f}" for number in numbers))


def stages(folder):
    """(name, status, seconds, last line) of each stage; of one that did not run, the reason for that."""
    path = folder / "summary.txt"
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        if found := STAGE.fullmatch(line):
            last = (found["last"] or found["not_run"] or "").strip("= ")
            yield found["name"], found["status"] or "–", found["seconds"] or "–", last


def stage_cells(folder):
    """With the remark on each stage."""
    remarks = read(folder, "reasons.json", {}).get("stages", {})
    for name, status, seconds, last in stages(folder):
        yield (name, status, seconds, last.replace("|", "\\|"), remarks.get(name, ""))


def section(folder, static):
    """For docs/benchmarks.md."""
    bench, files = read(folder, "bench.json", {}), csv_links(folder)
    intro = INTRODUCTION.format(
        folder=folder.name, where=where(folder), files=files and f" ({files})"
    )
    columns = ("kernel", "elements", "GB/s", "share of a copy", "predicted", "why they differ")
    parts = [f"## {title(folder)}\n", intro]
    parts += [table(columns, map(share_cells, shares(folder, static)))]
    columns = ("call", "dtype", "N", "µs", "GB/s", "share of a copy")
    calls = list(map(call_cells, rows_of(folder)))
    parts += [CALLS, folded(f"{len(calls)} calls", table(columns, calls))]
    if "steps" in bench:
        parts += [STEPS, steps_by_model(bench["steps"]), READING]
        parts += [all_steps(bench["steps"])]
    if "ops" in bench:
        parts += [OPS, ops_by_name(bench["ops"])]
    if launches := list(counters(folder)):
        launched = table(("kernel", *COUNTER_COLUMNS), launches)
        parts += [COUNTERS, folded(f"{len(launches)} launches", launched)]
    if rows := list(stage_cells(folder)):
        stages = table(("stage", "status", "s", "last line", "remark"), rows)
        parts += [CHECKS, folded(f"{len(rows)} stages", stages)]
    return "\n".join(parts)
