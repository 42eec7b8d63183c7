"""The calls in docs/porting.md against the formulas in helpers/porting.py, including gradients."""

import re

import pytest
import torch
from helpers import ROOT
from helpers.porting import FORMULAS, inputs, leaves, names

import pygan

PAGE = ROOT / "docs" / "porting.md"


def rows():
    """(section, row, call) of each row of the tables."""
    section = ""
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith("## "):
            section = line[3:]
        cells = re.split(r" (?<!\\)\| ", line.strip("| "))
        if line.startswith("| ") and cells[0] != "codebase":
            yield section, cells[0], cells[-1].strip("`")


ROWS = {row: (section, call) for section, row, call in rows()}


def test_each_row_has_a_formula():
    assert len(ROWS) == len(list(rows()))
    assert set(ROWS) == set(FORMULAS)


def tensors(result):
    """The results of a call as a flat list; of parts, those of the given sides."""
    if isinstance(result, torch.Tensor):
        return [result]
    return [x for each in result if each is not None for x in tensors(each)]


def called(result, n):
    """The results of a call; a criterion is called as codebases do: D on real, D on generated samples, G."""
    if not isinstance(result, pygan.GANLoss):
        return result
    return result(n.r, True), result(n.f, False), result(n.f, True, for_discriminator=False)


def with_gradients(evaluate, section, dtype):
    n = inputs(section, dtype)
    results = tensors(evaluate(n))
    total = sum(x.sum() for x in results if x.requires_grad)
    gradients = torch.autograd.grad(total, leaves(n), allow_unused=True, materialize_grads=True)
    return [*results, *gradients]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("row", ROWS)
def test_calls_agree_with_the_formulas(row, dtype):
    section, call = ROWS[row]
    got = with_gradients(lambda n: called(eval(call, names(n)), n), section, dtype)
    want = with_gradients(FORMULAS[row], section, dtype)
    assert any(x.any() for x in want[1:])
    for a, b in zip(got, want, strict=True):
        # Relative to the largest, because the gradients of a mean over a map are small.
        limit = (2e-5 if dtype == torch.float32 else 1e-12) * float(b.detach().abs().max())
        torch.testing.assert_close(a, b, rtol=0, atol=limit)
