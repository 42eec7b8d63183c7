"""The statistics that the losses return, against pygan.reference and extended precision."""

import math

import numpy as np
import pytest
import torch
from helpers import DEVICES, FLOATS, math_type
from helpers_losses import (
    DRAWS,
    SMOOTHINGS,
    assert_as_good,
    eager_stats,
    logits_like,
    ulp,
    wide,
    wide_terms,
)

from pygan import reference
from pygan.fused_losses import LossStats, discriminator_loss, generator_loss


def true_stats(real, fake):
    """The same in extended precision, for finite logits."""
    (real_terms, real_slope), (fake_terms, fake_slope) = (
        wide_terms(role, "", 0.0, wide(x, torch.float64))
        for role, x in (("real", real), ("fake", fake))
    )
    r, f = (wide(x, torch.float64) for x in (real, fake))
    bound = np.log(np.longdouble(2)) - (real_terms.mean() + fake_terms.mean()) / 2
    means = [r.mean(), f.mean(), 1 + real_slope.mean(), fake_slope.mean()]
    shares = [(r > 0).mean(), (f < 0).mean(), (r > 0).mean() - (r < 0).mean()]
    return LossStats(*[np.asarray(x, np.longdouble) for x in (*means, *shares, bound, 0)])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_stats(reduction, dtype, smoothing, device):
    for size in (1, 65, 257, 8193):
        got, rival, want = [], [], []
        for seed in range(DRAWS):
            real, fake = logits_like(["real", "fake"], (size,), dtype, device, seed)
            options = {"label_smoothing": smoothing, "reduction": reduction, "return_stats": True}
            _, stats = discriminator_loss(real.requires_grad_(), fake.requires_grad_(), **options)
            assert isinstance(stats, LossStats)
            for field in stats:
                assert field.dtype == math_type(dtype) and field.shape == ()
                assert not field.requires_grad and field.device == real.device
            got.append(list(stats))
            upcast = [x.detach().to(math_type(dtype)) for x in (real, fake)]
            rival.append(list(eager_stats(*upcast)))
            if dtype == torch.float64:
                want.append(list(true_stats(real, fake)))
            else:
                _, truths = reference.discriminator_loss(*[x.double() for x in upcast], **options)
                want.append([wide(t, dtype) for t in truths])
        for k, name in enumerate(LossStats._fields):
            assert_as_good(
                [[draw[k]] for draw in got],
                {"eager": [[draw[k]] for draw in rival]},
                [[draw[k]] for draw in want],
                relative=False,
                what=f"{name}, {size}",
            )


@pytest.mark.parametrize("device", DEVICES)
def test_generator_stats_know_no_real_logits(device):
    _, stats = generator_loss(torch.tensor([-1.0, 2.0, 0.0], device=device), return_stats=True)
    known = {"fake_logit", "d_fake", "fake_accuracy", "nonfinite"}
    assert {k for k, v in stats._asdict().items() if not v.isnan()} == known
    torch.testing.assert_close(stats.fake_logit.cpu(), torch.tensor(1 / 3))
    torch.testing.assert_close(stats.fake_accuracy.cpu(), torch.tensor(1 / 3))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_jsd_bound_of_confident_logits_under_smoothing(smoothing, device):
    """The bound is of the loss without smoothing, however much larger the smoothed one is."""
    real = torch.full((100,), 1e4, device=device)
    _, stats = discriminator_loss(real, -real, label_smoothing=smoothing, return_stats=True)
    want = torch.tensor(math.log(2))
    assert abs(stats.jsd_bound.cpu() - want) <= ulp(want.numpy(), torch.float32)
