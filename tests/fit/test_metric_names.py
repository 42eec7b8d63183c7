"""The metrics of a run are explained, in a line each and in the documentation."""

import math
import re

import pytest
from helpers import ROOT

from pygan.metrics import ModeCoverage, PrecisionRecall
from pygan.trainer import TrainStats
from pygan.training.metric_names import _MEANINGS, metric_lines

NAMES = [
    *TrainStats._fields,
    *("sigma", "g_lr", "d_lr", "skipped"),
    *ModeCoverage._fields,
    *("sure", "share_0", "share_9"),  # of images whose modes a classifier recognizes
    *("frechet_distance", *PrecisionRecall._fields, "coverage"),
]


def test_every_metric_has_a_meaning_that_fits_on_the_screen():
    for name in NAMES:
        (line,) = metric_lines({name: 1.0})
        assert re.fullmatch(rf"  {name}  1 {{11}}\S.+", line), line
    values = dict.fromkeys(_MEANINGS, -1.234e-05)
    for loss in ("", "relativistic"):
        assert max(map(len, metric_lines(values, loss))) <= 80
    assert not _MEANINGS.keys() - {*NAMES} - {f"share_{digit}" for digit in range(10)}


def test_meanings_are_those_of_the_loss():
    """A relativistic D compares samples: with a mean output of -1 for real ones it can be right about all of them."""
    (one,) = metric_lines({"real_accuracy": 1.0, "jsd_bound": math.nan}, "relativistic_average")
    other, _ = metric_lines({"real_accuracy": 1.0, "jsd_bound": 0.1}, "non_saturating")
    assert "ranks above generated ones" in one and "takes for real" in other
    assert metric_lines({"real_accuracy": 0.5, "d_real": 0.5}, "wasserstein") == []


def test_the_documentation_has_every_metric():
    text = (ROOT / "docs/training.md").read_text()
    table = "".join(re.findall(r"^\| `.*$", text.split("| name | meaning |")[1], re.M))
    missing = {re.sub(r"_\d$", "_N", name) for name in NAMES} - set(re.findall(r"`(\w+)`", table))
    assert not missing


@pytest.mark.parametrize(("value", "shown"), [(26_000, "26,000"), (0.123456, "0.1235"), (8, "8")])
def test_values_are_shown_in_one_column(value, shown):
    assert metric_lines({"modes": value, "high_quality": 1.0, "own": 2.0}) == [
        f"  modes         {shown:<10}  {_MEANINGS['modes']}",
        f"  high_quality  1           {_MEANINGS['high_quality']}",
        "  own           2",
    ]
