"""The benchmarks page: the main results are visible, the rest is collapsed, and no row is missing."""

import json
import re
import sys

import pytest
from helpers import ROOT

from pygan.bench import plots, report

sys.path.append(str(ROOT / "tools" / "docs"))
import readme_speed

PAGE = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
FOLDED = re.compile(r"<details.*?</details>", re.S)
RESULTS = max((ROOT / "benchmarks").glob("20??-??-??-*/ops.csv")).parent


def tables(text):
    """(header cells, number of rows) of each table."""
    for found in re.finditer(r"(?:^\|.*\n)+", text, re.M):
        lines = found.group().splitlines()
        yield [cell.strip() for cell in lines[0].strip("|").split("|")], len(lines) - 2


def test_main_rows_are_visible_and_the_rest_is_collapsed():
    shown = list(tables(FOLDED.sub("", PAGE)))
    assert sum(rows for _, rows in shown) <= 150
    assert max(len(head) for head, _ in shown) <= 16  # the predictions come first
    ops = next(head for head, _ in shown if head[0] == "op")
    assert "gain" in ops[:4]


def test_every_row_is_on_the_page_and_starts_with_its_speedup():
    rows = json.loads((RESULTS / "bench.json").read_text("utf-8"))["ops"]
    folded = "".join(FOLDED.findall(PAGE.partition("## Measured on")[0]))
    ops = [(head, n) for head, n in tables(folded) if head[0] == "work"]
    assert sum(n for _, n in ops) == len(rows)
    assert {head.index("gain") for head, _ in ops} == {3}


def test_wide_spreads_are_marked_and_references_are_not_called_bounds():
    rows = json.loads((RESULTS / "bench.json").read_text("utf-8"))["ops"]
    noisy = [
        row
        for row in rows
        if row["pygan_high_us"] - row["pygan_low_us"] > 0.4 * row["pygan_median_us"]
    ]
    below = sum(row["of_limit"] < 1 for row in rows)
    assert noisy and below
    for row in rows:
        assert (report.MARK in report.cells(row)[report.COLUMNS.index("gain")]) == (row in noisy)
    assert f"({len(noisy)} of {len(rows)} rows)" in PAGE
    assert f"not lower bounds: {below} of {len(rows)}\n" in PAGE
    assert "at best" not in PAGE and "of limit" not in PAGE


def test_wide_spreads_of_steps_are_marked():
    step = {"model": "m", "way": "w", "to_plain": 0.5, "to_by_hand": None, "cpu_us": 1.0, "ops": 1}
    step |= {"kernels": 1, "memory": 1, "median_us": 10.0, "low_us": 7.0, "high_us": 12.0}
    (cells,) = report.steps_cells([step])
    assert cells[3] == f"-50.0 %{report.MARK}"


def test_pictures_are_drawn_from_the_results(tmp_path):
    pytest.importorskip("matplotlib")
    result = json.loads((RESULTS / "bench.json").read_text("utf-8"))
    made = plots.draw(tmp_path, result["about"], result["ops"], result["steps"])
    assert [path.name for path in made] == ["gain.png", "steps.png"]
    assert plots.draw(tmp_path, result["about"], result["ops"][:1], []) == []  # a single size


def test_csv_files_are_on_the_site(monkeypatch):
    pytest.importorskip("mkdocs")
    monkeypatch.syspath_prepend(ROOT / "tools" / "docs")
    import csv_files

    text = csv_files.on_page_markdown(PAGE, page=None, config=None, files=None)
    linked = re.findall(r"\]\((results/[^)]*)\)", text)
    assert f"results/{RESULTS.name}/ops.csv" in linked
    assert all((ROOT / name.replace("results", "benchmarks", 1)).exists() for name in linked)
    sys.modules.pop("csv_files")


def test_readme_figures_match_the_results():
    steps = [
        {"model": model, "way": way, "to_plain": to_plain}
        for model, way, to_plain in [
            ("MLP", readme_speed.FASTEST, 0.8),
            ("DCGAN", readme_speed.FASTEST, 0.749),
            ("DCGAN with R1", readme_speed.FASTEST, 0.1),
            ("MLP", "GANTrainer", 1.5),
        ]
    ]
    graphs = [{"model": "MLP", "way": "GANTrainer, one CUDA graph", "to_plain": 0.12}]
    bench = {"ops": [{"gain": 0.5}, {"gain": 8.0}], "about": {"threads": 2}}
    shares = {"float32": "93%", "bfloat16": "80%"}
    text = " ".join(readme_speed.figures(bench, steps, ("H100", graphs, shares)).split())
    assert "in 75 to 80 % of plain PyTorch's time** on 2 CPU cores" in text
    assert "took 12 to 12 % of the time on an H100" in text
    assert "**2.0 × for the operations alone**, the geometric mean of 2 measurements" in text
    assert "slower in 1 of them" in text
    assert "93 % of a copy's bandwidth in fp32 and 80 %" in text
    assert "H100" not in readme_speed.figures(bench, steps, None)
    marked = "<!-- {0}: made by tools/docs/benchmarks_page.py -->\n{1}<!-- end of {0} -->"
    readme = marked.format("figures", "old\n") + marked.format("speed", "")
    new = readme_speed.written(readme, figures="new\n", speed="rows\n")
    assert new == marked.format("figures", "new\n") + marked.format("speed", "rows\n")
