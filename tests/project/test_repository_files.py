"""Files for repository hosts and editors are consistent with the project."""

import re

import pytest
from helpers import ROOT

import pygan

tomllib = pytest.importorskip("tomllib")  # available since Python 3.11


def test_pre_commit_uses_the_pinned_linters():
    pinned = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]["lint"]
    versions = dict(line.split("==") for line in pinned)
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    found = dict(re.findall(r"repo: \S+/(?:mirrors-)?(\S+?)(?:-pre-commit)?\n\s+rev: v(\S+)", text))
    assert found == {name: versions[name] for name in ("ruff", "clang-format")}


def test_the_citation_has_version_and_license():
    text = (ROOT / "CITATION.cff").read_text()
    assert f"version: {pygan.__version__}\n" in text and "license: Apache-2.0\n" in text


@pytest.mark.parametrize("path", [".github/workflows/ci.yml", ".github/PULL_REQUEST_TEMPLATE.md"])
def test_referenced_commands_and_files_exist(path):
    for command in re.findall(r"\.ci/run|make (\w+)", (ROOT / path).read_text()):
        assert not command or re.search(rf"^{command}:", (ROOT / "Makefile").read_text(), re.M)
    assert (ROOT / ".ci/run").exists()
