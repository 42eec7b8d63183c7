"""The README's speed figures, from the newest results in benchmarks/."""

import re

from tables import chosen

from pygan.bench import report

MARKS = "<!-- {}: made by tools/docs/benchmarks_page.py -->\n", "<!-- end of {} -->"
COLUMNS = ("op", "work", "N", "gain", "pygan µs", "eager µs", "compiled µs")
ROWS = [  # fp32
    ("discriminator_loss[non_saturating]", "loss_and_grad + backward", 64),
    ("discriminator_loss[hinge]", "forward + backward", 1 << 16),
    ("discriminator_loss[non_saturating, list of 8]", "forward + backward", 12_000),
    ("discriminator_loss[non_saturating, statistics]", "forward + backward", 1 << 16),
    ("instance_noise", "forward", 1 << 20),
]
FASTEST = "GANTrainer, reuse_fakes, joint"
FIGURES = """\
* **A whole training step in {cpu} of plain PyTorch's time** on {threads} CPU cores: three small GANs without penalties,
  `GANTrainer` with `reuse_fakes` and `joint`. {gpu}
* **{mean} × for the operations alone**, the geometric mean of {rows} measurements on that CPU, each against the faster
  of eager PyTorch and `torch.compile`. pygan is slower in {losing} of them. {bandwidth}
"""
ON_GPU = """As CUDA graphs, steps of the same models took {graph} of the time on
  an {device}; plain PyTorch was not captured, and most of the difference is Python and launch overhead."""
BANDWIDTH = """On the {device}, a loss with its gradients
  reaches {float32} of a copy's bandwidth in fp32 and {bfloat16} in bf16."""


def _percents(numbers):
    low, high = round(100 * min(numbers)), round(100 * max(numbers))
    return f"{low} to {high} %"


def _steps(steps, way):
    """Times of an implementation relative to plain PyTorch's, for the models without penalties."""
    return [x["to_plain"] for x in steps if x["way"] == way and " with " not in x["model"]]


def figures(bench, steps, gpu):
    """The first lines. `gpu`: None, or (name, steps, shares of a copy's bandwidth by dtype)."""
    gains = [row["gain"] for row in bench["ops"]]
    said = {"gpu": "", "bandwidth": ""}
    if gpu:
        device, on_gpu, shares = gpu
        graph = _percents(_steps(on_gpu, "GANTrainer, one CUDA graph"))
        said = {
            "gpu": ON_GPU.format(graph=graph, device=device),
            "bandwidth": BANDWIDTH.format(device=device, **shares).replace("%", " %"),
        }
    return FIGURES.format(
        cpu=_percents(_steps(steps, FASTEST)),
        threads=bench["about"]["threads"],
        mean=f"{report.geometric_mean(gains):.1f}",
        rows=len(gains),
        losing=sum(gain < 1 for gain in gains),
        **said,
    )


def table_of(bench, where):
    """The table with a few rows."""
    found = {
        (row["op"], row["work"], row["n"]): row for row in bench["ops"] if row["dtype"] == "float32"
    }
    rows = chosen(report.COLUMNS, COLUMNS, [report.cells(found[key]) for key in ROWS])
    return f"{rows}\nMedian times of a call: {where}.\n"


def written(readme, **texts):
    """The README with each text inserted between the markers with its name."""
    for name, text in texts.items():
        begin, end = (mark.format(name) for mark in MARKS)
        between = re.compile(f"(?<={re.escape(begin)}).*?(?={re.escape(end)})", re.S)
        readme, count = between.subn(lambda _, text=text: text, readme)
        assert count == 1, name
    return readme
