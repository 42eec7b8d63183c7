"""The files that a host of repositories and editors read agree with the project's own."""

import re

import pytest
from helpers import ROOT

import pygan

tomllib = pytest.importorskip("tomllib")  # since Python 3.11


def test_pre_commit_has_the_linters_that_are_pinned():
    pinned = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]["lint"]
    versions = dict(line.split("==") for line in pinned)
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    found = dict(re.findall(r"repo: \S+/(?:mirrors-)?(\S+?)(?:-pre-commit)?\n\s+rev: v(\S+)", text))
    assert found == {name: versions[name] for name in ("ruff", "clang-format")}


def test_the_citation_has_the_version_and_the_license():
    text = (ROOT / "CITATION.cff").read_text()
    assert f"version: {pygan.__version__}\n" in text and "license: Apache-2.0\n" in text


@pytest.mark.parametrize("path", [".github/workflows/ci.yml", ".github/PULL_REQUEST_TEMPLATE.md"])
def test_what_is_run_and_asked_for_exists(path):
    for command in re.findall(r"\.ci/run|make (\w+)", (ROOT / path).read_text()):
        assert not command or re.search(rf"^{command}:", (ROOT / "Makefile").read_text(), re.M)
    assert (ROOT / ".ci/run").exists()
