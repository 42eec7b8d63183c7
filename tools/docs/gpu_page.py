"""The section of docs/benchmarks.md on GPU measurements, from a folder written by tools/gpu/keep.py.

Such a folder, benchmarks/DATE-GPU, contains the output of tools/gpu/check.sh except for the logs:

    first.jsonl    the checks; the line of `bandwidth` has the shares of a copy's bandwidth
    bench.json     ops and whole steps, from `python -m pygan bench --device cuda`
    ncu.csv        Nsight Compute's counters (may be missing)
    summary.txt    a line per stage: tests, sanitizers, ...
    reasons.json   written by hand: {"noise, bfloat16": "why it is not what was predicted", ...,
                   "stages": {"tests-matrix": "a remark on this stage", ...}}

Without such a folder the section is empty, and the pages contain only predictions.
"""

import csv
import json
import re

from tables import all_steps, csv_links, folded, ops_by_name, steps_by_model, table

from pygan.bench import report

ELEMENTS = 1 << 24  # the size for which tools/predict_bandwidth.py predicts
NOTABLE = 0.05  # differences between shares from here on need a reason
# (kernel, elements) in the static report: (call, dtype) in the check `bandwidth`
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
# A line of summary.txt, such as "tests-own: rc=0, 60 s: 972 passed" or "ncu: not run, ncu was not found".
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
    """The newest folder with GPU results, or None."""
    return max((path.parent for path in benchmarks.glob("20??-??-??-*/first.jsonl")), default=None)


def lines_of(folder):
    """{check: line}"""
    lines = (folder / "first.jsonl").read_text("utf-8").splitlines()
    return {line["check"]: line for line in map(json.loads, lines) if "check" in line}


def read(folder, name, default):
    path = folder / name
    return json.loads(path.read_text("utf-8")) if path.exists() else default


def device(folder):
    """The GPU's name, and its name in tools/machine_code/gpus.py: H100 for NVIDIA H100 80GB HBM3."""
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
    """The rows of `bandwidth` with times: call, dtype, n, us, GB/s, share of a copy."""
    return [row for row in lines_of(folder)["bandwidth"].get("rows", []) if len(row) == 6]


def shares(folder, static):
    """(kernel, elements, GB/s, measured, predicted, reason) for each measured kernel."""
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
    """A line per launch: the kernel and COUNTER_COLUMNS, from `ncu --csv --page raw --print-units base`."""
    path = folder / "ncu.csv"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    begin = next((k for k, line in enumerate(lines) if line.startswith('"ID"')), len(lines))
    for row in csv.DictReader(lines[begin:]):
        if not (row["ID"] or "").isdecimal():  # the line with the units
            continue
        # Remove namespaces, the types of numeric template arguments, and the function's arguments.
        name = re.sub(r"pygan::(cuda::)?", "", row["Kernel Name"])
        name = re.search(r"\w+_kernel(<.*>)?(?=\(|$)", re.sub(r"\(\w+\)(?=\d)", "", name))
        name = name.group() if name else row["Kernel Name"]
        numbers = [
            float(row[key].replace(",", "")) * unit for key, unit in COUNTER_COLUMNS.values()
        ]
        yield (f"`{name}`", *(f"{number:.0f}" for number in numbers))


def stages(folder):
    """(name, status, seconds, last line) of each stage; if it did not run, the reason."""
    path = folder / "summary.txt"
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        if found := STAGE.fullmatch(line):
            last = (found["last"] or found["not_run"] or "").strip("= ")
            yield found["name"], found["status"] or "–", found["seconds"] or "–", last


def stage_cells(folder):
    """The stages with their remarks."""
    remarks = read(folder, "reasons.json", {}).get("stages", {})
    for name, status, seconds, last in stages(folder):
        yield (name, status, seconds, last.replace("|", "\\|"), remarks.get(name, ""))


def section(folder, static):
    """The section for docs/benchmarks.md."""
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
