"""Overhead of a step compared with a manual loop, in operator calls, which do not depend on the machine."""

import pytest
import torch

from pygan.bench.counting import counted
from pygan.bench.models import MODELS
from pygan.bench.step_loops import Recipe, by_hand, trainer

PENALTIES = {"no penalty": {}, "R1": {"r1": True}, "R1 and R2": {"r1": True, "r2": True}}


def counts(make, recipe):
    """Counts for a step of the multilayer perceptrons."""
    model, cpu = next(iter(MODELS.values())), torch.device("cpu")
    step = make(model, cpu, recipe)
    step = getattr(step, "step", step)
    real = torch.randn(model.batch, *model.shape)
    return counted(lambda: step(real))


@pytest.mark.parametrize("faster", [False, True], ids=["", "reuse_fakes, joint"])
@pytest.mark.parametrize("penalties", PENALTIES.values(), ids=PENALTIES)
def test_no_more_operators_than_a_loop_by_hand(penalties, faster):
    recipe = Recipe(**penalties, reuse_fakes=faster, joint=faster)
    ours, manual = counts(trainer, recipe), counts(by_hand, recipe)
    assert ours.ops <= manual.ops
    assert ours.kernels <= manual.kernels
    # Nothing is multiplied by 1 or added to 0 in the computation of statistics and gradients.
    for op in ("aten::mul", "aten::add"):
        assert ours.names[op] <= manual.names[op], op


def test_one_draw_for_the_latents_and_one_for_the_noise_of_real_and_generated_samples():
    for recipe in (Recipe(), Recipe(separate=True)):
        names = counts(trainer, recipe).names
        assert names["pygan::instance_noise"] == 3  # the generator's step has its own noise
