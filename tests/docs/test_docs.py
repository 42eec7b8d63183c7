"""The documentation's code and commands run, and the files that it names exist.

The blocks of a page run one after another in one namespace, which initially contains helpers.docs.page_names().
"""

import importlib
import re
import shlex

import pytest
import torch
from helpers import ROOT, accelerated_on, forget_accelerator
from helpers.docs import MODULES, PAGES, blocks, examples, page_names, surroundings

from pygan import __main__ as command

TEXTS = {page: page.read_text("utf-8") for page in PAGES}
IDS = {page: str(page.relative_to(ROOT)) for page in [*PAGES, *MODULES]}


@pytest.fixture
def here(tmp_path, monkeypatch, restore):
    surroundings(tmp_path, monkeypatch)
    with accelerated_on("cpu"):  # where the networks and data of the pages are
        yield tmp_path
    forget_accelerator()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


# test_frameworks.py runs the blocks of that page separately, if their packages are installed.
RUN = [p for p in PAGES if "```" in TEXTS[p] and p.name != "frameworks.md"]


def test_readme_has_at_most_120_lines():
    assert len(TEXTS[ROOT / "README.md"].splitlines()) <= 120


@pytest.mark.parametrize("page", RUN, ids=IDS.get)
def test_code_blocks_run(page, here):
    names = page_names()
    for block in blocks(page):
        # Blocks without a language are output or commands.
        assert block.language in ("python", "toml", "")
        if block.language == "python":
            block.run(page, names)


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(m, marks=[pytest.mark.slow] if m.stem == "metrics" else [], id=IDS[m])
        for m in MODULES
        if any(examples(m))
    ],
)
def test_examples_of_docstrings_run(module, here):
    name = ".".join(module.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    names = page_names() | {
        k: v for k, v in vars(importlib.import_module(name)).items() if k[0] != "_"
    }
    for block in examples(module):
        block.run(f"<docstring of {name}>", names)


COMMAND = re.compile(
    r"\bpygan (train -[^`#\n]*|info\b|bench -[^`#\n]*|(?:sample|eval|export) runs/[^`#\n]*)"
)
COMMANDS = sorted({match for text in TEXTS.values() for match in COMMAND.findall(text)})


@pytest.mark.parametrize("arguments", COMMANDS)
def test_documented_commands_are_accepted(arguments, here, capsys):
    toml = [b.code for b in blocks(ROOT / "docs" / "training.md") if b.language == "toml"]
    (here / "run.toml").write_text("".join(toml))
    for folder in ("photos", "shapes", "patches"):  # without them, the command is refused
        (here / folder).mkdir(exist_ok=True)
    argv = shlex.split(arguments)
    if ".onnx" in arguments:
        pytest.importorskip("onnxscript")
    shorter = {"train": ["--print-config"], "bench": ["--quick", "--seconds", "0"]}
    assert command.main(argv + shorter.get(argv[0], [])) == 0


@pytest.mark.parametrize("page", PAGES, ids=IDS.get)
def test_rows_of_a_table_have_equally_many_cells(page):
    text = re.sub(r"^```.*?^```", "", TEXTS[page], flags=re.M | re.S)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        rows = {line: len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(set(rows.values())) == 1, rows


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.name not in ("CONTRIBUTING.md", "decisions.md")]
)
def test_commands_work_in_the_checkout(page):
    """There `-m pygan` imports the checkout, which has no kernels after `pip install .`."""
    assert "-m pygan" not in TEXTS[page]


FILE = re.compile(
    r"(?<![\w./])(?:\.\./)*((?:benchmarks|csrc|docs|examples|pygan|tests|tools)/[\w./-]+\.\w+)"
)


@pytest.mark.parametrize("page", PAGES, ids=IDS.get)
def test_files_and_make_targets_exist(page):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert [name for name in FILE.findall(TEXTS[page]) if not (ROOT / name).exists()] == []
    made = re.findall(r"`make ([\w-]+)|^make ([\w-]+)", TEXTS[page], re.M)
    assert [a or b for a, b in made if (a or b) not in targets] == []
