"""Writes docs/benchmarks.md, its plots and the README's speed tables from the results in benchmarks/.

    python tools/docs/benchmarks_page.py

It uses the newest folders in benchmarks/: DATE-BACKEND, written by `python -m pygan bench --out` on a CPU, and
DATE-GPU, if there is one, which gpu_page.py describes.
"""

import argparse
import json
from pathlib import Path

import benchmarks_text as text
import gpu_page
import readme_speed
from tables import all_steps, chosen, csv_links, ops_by_name, steps_by_model, table

from pygan.bench import plots, report, scaling
from pygan.bench.timing import Timing

ROOT = Path(__file__).resolve().parents[2]
RESULTS = max((ROOT / "benchmarks").glob("20??-??-??-*/ops.csv")).parent
MAIN_COLUMNS = ("op", "work", "N", "gain", "pygan µs", "eager µs", "compiled µs", "vs. reference")
LOSS = "loss and gradient"  # the name in gpu_page


def result(name):
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def of_steps():
    """The result with the steps: of a run with --steps, which measures them longer, if there is one."""
    return result("steps") or result("bench")


def steps():
    return of_steps()["steps"]


def where(about):
    return (
        f"{about['date']}, {about['cpu']}, {about['backend']}, {about['threads']} threads of {about['cores']} cores, "
        f"torch {about['torch']}"
    )


def scaled(points):
    """The sentences about the fits, from the saved points."""
    kept = [
        scaling.Point(
            p["op"], p["threads"], p["n"], Timing(p["median_us"], p["low_us"], p["high_us"])
        )
        for p in points
    ]
    return "\n".join(f"* {report.fit_line(fit)}" for fit in scaling.fits(kept)) + "\n"


def predicted(rows):
    """A table with a line per kernel and a column per GPU."""
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
        lines.append((kernel, dtype, *shares, size, shown, str(h100["registers"]), of_warps))
    head = ("bytes", f"instructions ({', '.join(pipes)})", "registers", "warps")
    return table(("kernel", "elements", *gpus, *head), lines)


def ops(rows):
    """The section on the ops."""
    counts = {
        "rows": len(rows),
        "losing": sum(row["gain"] < 1 for row in rows),
        "mean": f"{report.geometric_mean([row['gain'] for row in rows]):.1f}",
        "below": sum(row["of_limit"] < 1 for row in rows),
        "least": f"{min(row['of_limit'] for row in rows):.2f}",
        "marked": sum(bool(report.marked(row, "pygan_")) for row in rows),
        "noisy": report.NOISY,
    }
    lines = [report.cells(row) for row in rows if is_main(row)]
    parts = [text.OPS.format(**counts), "![Gain against size](speed/cpu/gain.png)\n", text.MAIN]
    parts += [chosen(report.COLUMNS, MAIN_COLUMNS, lines), text.ALL_OPS.format(**counts)]
    return "\n".join([*parts, ops_by_name(rows), text.COLUMNS.format(**counts)])


def page():
    """The text of the page."""
    bench, static, curve = result("bench"), result("static"), result("scaling")
    parts = [text.HEAD.format(where=where(bench["about"]), files=csv_links(RESULTS))]
    parts += [text.STEPS.format(where=where(of_steps()["about"]))]
    parts += ["![Whole steps](speed/cpu/steps.png)\n", steps_by_model(steps()), text.ALL_STEPS]
    parts += [all_steps(steps()), ops(bench["ops"])]
    if curve:
        parts += [text.SCALING, scaled(curve["scaling"])]
    gpu = gpu_page.newest(ROOT / "benchmarks")
    if gpu:
        parts += [gpu_page.section(gpu, static["static"] if static else [])]
    if static:
        parts += [text.STATIC.format(measured=text.MEASURED if gpu else text.NOT_MEASURED)]
        parts += [predicted(static["static"])]
    return "\n".join([*parts])


def pictures(folder):
    """Draw the plots, and those for the GPU if there are results for one."""
    about = result("bench")["about"]
    plots.draw(folder / "cpu", about, result("bench")["ops"], steps())
    gpu = gpu_page.newest(ROOT / "benchmarks")
    if gpu and (bench := gpu_page.read(gpu, "bench.json", {})):
        plots.draw(folder / "gpu", bench["about"], bench.get("ops", ()), bench.get("steps", ()))


def is_main(row):
    """Whether a row is among the few in the first table: fp32, training."""
    noise = row["op"].startswith("instance_noise")
    if row["dtype"] != "float32" or (row["work"] == "forward") != noise:
        return False
    if noise:
        return row["n"] >= 1 << 16
    if row["op"].endswith("[non_saturating]"):
        return row["n"] <= 1 << 20
    few = row["n"] == 1 << 16 or "list" in row["op"]
    return few and row["op"][0] == "d" and row["work"] == "forward + backward"


def gpu_figures():
    """(name, steps, shares of a copy's bandwidth) of the GPU, for the README, or None."""
    gpu = gpu_page.newest(ROOT / "benchmarks")
    bench = gpu_page.read(gpu, "bench.json", {}) if gpu else {}
    if "steps" not in bench:
        return None
    shares = gpu_page.shares(gpu, (result("static") or {"static": []})["static"])
    share = {dtype: gpu_page.percent(x) for kernel, dtype, _, x, *_ in shares if kernel == LOSS}
    return gpu_page.title(gpu).rpartition(" ")[2], bench["steps"], share


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks.md")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    args = parser.parse_args()
    args.out.write_text(page(), "utf-8")
    pictures(args.out.parent / "speed")
    bench, readme = result("bench"), (ROOT / "README.md").read_text("utf-8")
    texts = {
        "figures": readme_speed.figures(bench, steps(), gpu_figures()),
        "speed": readme_speed.table_of(bench, where(bench["about"])),
    }
    args.readme.write_text(readme_speed.written(readme, **texts), "utf-8")


if __name__ == "__main__":
    main()
