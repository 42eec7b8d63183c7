"""The statistics that the losses return, against pygan.reference and extended precision."""

import math

import numpy as np
import pytest
import torch
from helpers import DEVICES, FLOATS, math_type
from helpers.losses import (
    CASES,
    DISTINCT,
    DRAWS,
    PAIRED,
    REDUCTIONS,
    SMOOTHINGS,
    eager_stats,
    logits_like,
    scales_like,
)
from helpers.truth import assert_as_accurate, ulp, wide, wide_sigmoid, wide_softplus

from pygan import reference
from pygan.fused_losses import LossStats, discriminator_loss, generator_loss

LOGISTIC = ("non_saturating", "minimax")
DECISIONS = {"real_accuracy", "fake_accuracy", "real_sign", "fake_sign"}


def true_stats(real, fake):
    """The statistics in extended precision, for finite logits."""
    r, f = (wide(x, torch.float64) for x in (real, fake))
    bound = np.log(np.longdouble(2)) - (wide_softplus(-r).mean() + wide_softplus(f).mean()) / 2
    means = [r.mean(), f.mean(), wide_sigmoid(r).mean(), wide_sigmoid(f).mean()]
    shares = [(r > 0).mean(), (f < 0).mean(), (r > 0).mean() - (r < 0).mean()]
    more = [(f > 0).mean() - (f < 0).mean(), r.std(), f.std()]
    return LossStats(*[np.asarray(x, np.longdouble) for x in (*means, *shares, bound, 0, *more)])


def flat(logits):
    """All logits of all scales."""
    if isinstance(logits, torch.Tensor):
        return logits.detach().flatten()
    return torch.cat([x.detach().flatten() for x in logits])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "shapes", [[()], [(65,)], [(257,)], [(8193,)], [(3, 50), (), (900,)]], ids=str
)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", DISTINCT, ids=str)
def test_stats(case, dtype, shapes, device):
    if dtype != torch.float32 and shapes in ([()], [(257,)]):
        pytest.skip("every size for fp32")
    known = {"fake_logit", "d_fake", "fake_accuracy", "nonfinite", "fake_sign", "fake_std"}
    if "real" in case.roles:
        known |= {"real_logit", "d_real", "real_accuracy", "real_sign", "real_std"}
    if case.phase == "discriminator" and case.loss in LOGISTIC:
        known |= {"jsd_bound"}
    for reduction in REDUCTIONS if shapes == [(257,)] else ["mean"]:
        got, baseline, want = [], [], []
        for seed in range(DRAWS):
            inputs = scales_like(case, shapes, dtype, device, 10 * seed)
            given = inputs if len(shapes) > 1 else [x[0].requires_grad_() for x in inputs]
            _, stats = case.call(given, reduction=reduction, return_stats=True)
            assert isinstance(stats, LossStats)
            for field in stats:
                assert field.dtype == math_type(dtype) and field.shape == ()
                assert not field.requires_grad and field.device == inputs[0][0].device
            assert {k for k, v in stats._asdict().items() if not v.isnan()} == known
            logits = dict(zip(case.roles, (flat(x) for x in inputs), strict=True))
            pair = [logits.get("real", logits["fake"]), logits["fake"]]
            got.append(stats)
            baseline.append(eager_stats(*[x.to(math_type(dtype)) for x in pair]))
            if dtype == torch.float64:
                want.append(true_stats(*pair))
            else:
                doubles = [x.double() for x in pair]
                _, truths = reference.discriminator_loss(*doubles, return_stats=True)
                want.append(LossStats(*[wide(t, dtype) for t in truths]))
            # The accuracies depend on the loss's decision value: compared exactly with the reference.
            exact = [[x.double() for x in scales] for scales in inputs]
            _, decided = case.call(exact, reference, reduction="mean", return_stats=True)
            shares = {k: getattr(decided, k) for k in known & DECISIONS}
            want[-1] = want[-1]._replace(**{k: wide(v, dtype) for k, v in shares.items()})
            baseline[-1] = baseline[-1]._replace(
                **{k: v.to(math_type(dtype)) for k, v in shares.items()}
            )
            missing = len(case.roles) == 1  # in which case "real" above was the fake logits
            nonfinite = want[-1].nonfinite
            assert stats.nonfinite.item() == nonfinite / (2 if missing else 1)
        for name in known - {"nonfinite"}:
            assert_as_accurate(
                [[getattr(draw, name)] for draw in got],
                {"eager": [[getattr(draw, name)] for draw in baseline]},
                [[getattr(draw, name)] for draw in want],
                relative=False,
                what=f"{name}, {shapes}, {reduction}",
            )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("listed", [False, True], ids=["tensors", "lists"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_statistics_equal_the_reference(case, listed, device):
    """With NaN, infinities and zeros among the logits, which must be counted correctly."""
    special = torch.tensor(
        [math.nan, math.inf, -math.inf, 0.0, -0.0, 2.0, -3.0, 1e4], device=device
    )
    inputs = logits_like(case.roles, (40,), torch.float32, device, 0)
    if case.loss not in PAIRED:
        inputs[0] = inputs[0][:-5]  # the means of the two kinds are over different counts
    for bad in (slice(3, 8), slice(0, 1), slice(1, 3), slice(1, 2), slice(2, 3), slice(0, 8)):
        for x in inputs:
            x[:8] = 1.0
            x[: special[bad].numel()] = special[bad]
        given = [list(x.split([2, 30, len(x) - 32])) for x in inputs] if listed else inputs
        weights = {"weights": [1.0, 0.0, -2.0]} if listed else {}
        _, got = case.call(given, return_stats=True, **weights)
        _, want = case.call(given, reference, return_stats=True, **weights)
        for name, g, w in zip(LossStats._fields, got, want, strict=True):
            torch.testing.assert_close(
                g, w, equal_nan=True, msg=lambda m, name=name: f"{name}: {m}"
            )
        assert got.nonfinite.item() == sum((~x.isfinite()).sum().item() for x in inputs)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("n", [5, 64, 1000, 5000])
@pytest.mark.parametrize("loss", ["least_squares", "relativistic", "relativistic_average"])
def test_accuracies_and_sign_use_the_decision_value_of_the_loss(loss, n, device):
    """An undecided discriminator has a sign of 0, and one that is always right has accuracies of 1, whatever the range
    of the loss's logits."""
    offset = 0.5 if loss == "least_squares" else 7.0
    blind = torch.full((n,), offset, device=device)
    _, stats = discriminator_loss(blind, blind.clone(), loss=loss, return_stats=True)
    assert (stats.real_sign, stats.real_accuracy, stats.fake_accuracy) == (0, 0, 0)
    real, fake = blind + 0.1, blind - 0.1
    for call in (
        lambda: discriminator_loss(real, fake, loss=loss, return_stats=True),
        lambda: generator_loss(
            fake,
            loss=loss,
            return_stats=True,
            real_logits=None if loss == "least_squares" else real,
        ),
    ):
        _, stats = call()
        assert stats.fake_accuracy == 1
        if not stats.real_sign.isnan():
            assert (stats.real_sign, stats.real_accuracy) == (1, 1)
    _, stats = discriminator_loss(fake, real, loss=loss, return_stats=True)
    assert (stats.real_sign, stats.real_accuracy, stats.fake_accuracy) == (-1, 0, 0)


def test_least_squares_decides_halfway_between_smoothed_targets():
    logits = torch.tensor([0.3, 0.5])
    _, stats = discriminator_loss(
        logits, logits, loss="least_squares", label_smoothing=0.2, return_stats=True
    )
    assert (stats.real_sign, stats.fake_accuracy) == (0, 0.5)


@pytest.mark.parametrize("device", DEVICES)
def test_generator_stats_have_no_real_logits(device):
    _, stats = generator_loss(torch.tensor([-1.0, 2.0, 0.0], device=device), return_stats=True)
    known = {"fake_logit", "d_fake", "fake_accuracy", "nonfinite", "fake_sign", "fake_std"}
    assert {k for k, v in stats._asdict().items() if not v.isnan()} == known
    torch.testing.assert_close(stats.fake_logit.cpu(), torch.tensor(1 / 3))
    torch.testing.assert_close(stats.fake_accuracy.cpu(), torch.tensor(1 / 3))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_jsd_bound_of_confident_logits_under_smoothing(smoothing, device):
    """The bound is for the loss without smoothing, even if the smoothed loss is much larger."""
    real = torch.full((100,), 1e4, device=device)
    _, stats = discriminator_loss(real, -real, label_smoothing=smoothing, return_stats=True)
    want = torch.tensor(math.log(2))
    assert abs(stats.jsd_bound.cpu() - want) <= ulp(want.numpy(), torch.float32)
