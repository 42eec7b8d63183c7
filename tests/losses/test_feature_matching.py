"""Feature matching: values and derivatives against the formula, published recipes, layouts, bits, bad input."""

import math

import numpy as np
import pytest
import torch
from helpers import DEVICES, FLOATS, each_way_to_run, raises
from torch.nn import functional as F

from pygan import reference
from pygan.fused_losses import feature_matching, feature_matching_and_grad

ops = torch.ops.pygan
SHAPES = [(2, 3, 5, 7), (1,), (8193,), (4, 64), (3, 1, 130)]


def maps(shapes=SHAPES, dtype=torch.float32, device="cpu", seed=0, grad=True):
    draw = torch.Generator().manual_seed(seed)
    pairs = [
        [torch.randn(s, generator=draw, dtype=torch.float64).to(device, dtype) for s in shapes]
        for _ in range(2)
    ]
    return [x.requires_grad_(grad) for x in pairs[0]], pairs[1]


def eager(fake, real, *, norm, weights, relative):
    """The usual implementation, in the dtype of the maps."""
    loss = 0
    for f, r, w in zip(fake, real, weights, strict=True):
        value = F.l1_loss(f, r) if norm == "l1" else F.mse_loss(f, r)
        loss = loss + w * (value / r.abs().mean() if relative else value)
    return loss


def error(values, truth):
    return max(
        float((v.double() - t.double()).abs().max()) for v, t in zip(values, truth, strict=True)
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_loss_parts_and_gradients_match_the_formula(dtype, norm, relative, device):
    weights = [1.0, 0.5, -2.0, 3.0, 0.0]
    for seed in range(3):
        fake, real = maps(dtype=dtype, device=device, seed=seed)
        options = {"norm": norm, "weights": weights, "relative": relative}
        loss, parts = feature_matching(fake, real, return_parts=True, **options)
        grads = torch.autograd.grad(loss, fake)
        exact = [x.detach().double().requires_grad_() for x in fake]
        truth, true_parts = reference.feature_matching(exact, real, **options)
        true_grads = torch.autograd.grad(truth, exact)
        plain = eager(fake, real, **options)
        plain_grads = torch.autograd.grad(plain, fake)
        assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert not parts.requires_grad
        ulp = torch.finfo(loss.dtype).eps
        assert abs(float(loss) - float(truth)) <= 2 * max(
            abs(float(plain) - float(truth)), 4 * ulp * abs(float(truth))
        )
        torch.testing.assert_close(parts.double(), true_parts.double(), rtol=4 * ulp, atol=0)
        for got, want, by_eager in zip(grads, true_grads, plain_grads, strict=True):
            assert got.dtype == dtype
            scale = float(want.abs().max())
            allowed = 2 * max(error([by_eager], [want]), torch.finfo(dtype).eps * scale)
            assert error([got], [want]) <= allowed


def nested(flat):
    return [[flat[0], (flat[1], flat[2])], flat[3], [flat[4]]]


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_nested_lists_equal_their_flattened_maps(norm):
    fake, real = maps()
    want, parts = feature_matching(fake, real, norm=norm, return_parts=True)
    got, same = feature_matching(nested(fake), nested(real), norm=norm, return_parts=True)
    assert torch.equal(got, want) and torch.equal(parts, same)
    loss, grads = feature_matching_and_grad(nested(fake), nested(real), norm=norm)
    assert torch.equal(loss, want)
    flat = [grads[0][0], *grads[0][1], grads[1], grads[2][0]]
    for a, b in zip(flat, torch.autograd.grad(want, fake), strict=True):
        assert torch.equal(a, b)


def test_a_weight_of_a_list_applies_to_its_maps():
    fake, real = maps()
    _, parts = feature_matching(fake, real, return_parts=True)
    for weights, factors in (
        (2.0, [2.0] * 5),
        ([1.0, 0.5, 3.0], [1.0, 1.0, 1.0, 0.5, 3.0]),
        ([[0.1, [0.2, 0.3]], 0.4, 0.5], [0.1, 0.2, 0.3, 0.4, 0.5]),
    ):
        loss = feature_matching(nested(fake), nested(real), weights=weights)
        torch.testing.assert_close(loss.double(), (parts.double() * torch.tensor(factors)).sum())


def test_mean_over_the_maps():
    fake, real = maps()
    loss, parts = feature_matching(fake, real, reduction="mean", return_parts=True)
    torch.testing.assert_close(loss, parts.mean())


# --- derivatives ----------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_first_and_second_derivatives(norm, relative, device):
    fake, real = maps([(3, 2), (5,)], torch.float64, device)

    def loss(a, b):
        # Distances of at least .1, so that |d| is differentiable.
        away = [x + torch.sign(x - r) * 0.1 for x, r in zip((a, b), real, strict=True)]
        return feature_matching(away, real, norm=norm, relative=relative, weights=[0.7, 2.0])

    assert torch.autograd.gradcheck(loss, fake)
    assert torch.autograd.gradgradcheck(loss, fake)
    # gradgradcheck differentiates the gradients with a graph, whatever they are.
    with_graph = torch.autograd.grad(loss(*fake), fake, create_graph=True)
    torch.testing.assert_close(with_graph, torch.autograd.grad(loss(*fake), fake))


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_undetached_real_maps_get_the_opposite_gradient(norm):
    fake, real = maps()
    leaves = [x.clone().requires_grad_() for x in real]
    by_fake = torch.autograd.grad(feature_matching(fake, leaves, norm=norm), fake)
    with pytest.raises(RuntimeError, match="appears to not have been used"):
        torch.autograd.grad(feature_matching(fake, leaves, norm=norm), leaves)
    loss = feature_matching(fake, leaves, norm=norm, detach_real=False)
    for a, b in zip(by_fake, torch.autograd.grad(loss, leaves), strict=True):
        assert torch.equal(-a, b)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_backward_twice_with_a_scaled_gradient(norm):
    fake, real = maps()
    loss = feature_matching(fake, real, norm=norm)
    once = torch.autograd.grad(loss, fake, retain_graph=True)
    tripled = torch.autograd.grad(3 * loss, fake)
    for a, b in zip(once, tripled, strict=True):
        torch.testing.assert_close(3 * a, b)


def test_l1_saves_one_byte_per_element():
    """If the gradient cannot be written before the sums are known."""
    fake, real = maps()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        feature_matching(fake, real, relative=True)
    elements = sum(x.numel() for x in fake)
    assert sum(x.nbytes for x in kept) == elements + 4 * len(fake)


def test_maps_may_be_written_to_after_an_l1_loss():
    fake, real = maps()
    hidden = [x * 1.0 for x in fake]
    loss = feature_matching(hidden, real)
    want = torch.autograd.grad(loss, fake, retain_graph=True)
    for x, r in zip(hidden, real, strict=True):
        F.leaky_relu_(x, 0.1)
        r.zero_()
    for a, b in zip(want, torch.autograd.grad(loss, fake), strict=True):
        assert torch.equal(a, b)


# --- layouts, bits, extremes ----------------------------------------------------------------------

LAYOUTS = {
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(1, 3).contiguous().transpose(1, 3),
    "sliced": lambda x: torch.cat([x, x], 3)[..., ::2],
    "expanded": lambda x: x[:, :1].expand(x.shape),
    "unaligned": lambda x: torch.cat([x.new_zeros(1), x.flatten()])[1:].view(x.shape),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("of_real", [None, *LAYOUTS])
@pytest.mark.parametrize("of_fake", LAYOUTS)
def test_results_do_not_depend_on_the_layout(of_fake, of_real, norm, device):
    (fake,), (real,) = maps([(4, 6, 5, 70)], device=device, grad=False)
    fake = LAYOUTS[of_fake](fake)
    real = real if of_real is None else LAYOUTS[of_real](real)
    results = []
    for f, r in ((fake, real), (fake.contiguous(), real.contiguous())):
        f = f.detach().requires_grad_()
        loss = feature_matching(f, r, norm=norm)
        (grad,) = torch.autograd.grad(loss, f)
        results.append((loss.detach(), grad))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-6, atol=0)
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_bits_do_not_depend_on_threads_or_the_instruction_set(norm, dtype, restore):
    fake, real = maps([(3, 50_001), (7,), (70_000,)], dtype, grad=False)
    seen = []
    for _ in each_way_to_run():
        loss, grads, parts = feature_matching_and_grad(
            fake, real, norm=norm, relative=True, return_parts=True
        )
        seen.append([loss, parts, *grads])
    for other in seen[1:]:
        assert all(torch.equal(a, b) for a, b in zip(seen[0], other, strict=True))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_values_reach_the_loss_and_only_their_map(value, norm, device):
    (a, b), real = maps([(100,), (9000,)], device=device)
    with torch.no_grad():
        a[17] = value
    loss, parts = feature_matching([a, b], real, norm=norm, return_parts=True)
    want, true_parts = reference.feature_matching([a, b], real, norm=norm)
    torch.testing.assert_close(loss, want, equal_nan=True)
    torch.testing.assert_close(parts, true_parts, equal_nan=True)
    ours = torch.autograd.grad(loss, [a, b])
    eagers = torch.autograd.grad(
        eager([a, b], real, norm=norm, weights=[1, 1], relative=False), [a, b]
    )
    torch.testing.assert_close(ours, eagers, equal_nan=True)


@pytest.mark.parametrize("device", DEVICES)
def test_equal_maps_have_zero_loss_and_gradient(device):
    fake, _ = maps(device=device)
    loss = feature_matching(fake, [x.detach() for x in fake])
    assert float(loss) == 0
    assert all(not g.any() for g in torch.autograd.grad(loss, fake))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_many_maps_of_several_dtypes(norm, device):
    fake, real = [], []
    for i, dtype in enumerate([torch.float32, torch.bfloat16, torch.float16] * 60):
        (f,), (r,) = maps([(i % 7 + 1, 3)], dtype, device, seed=i)
        fake.append(f)
        real.append(r)
    loss, parts = feature_matching(fake, real, norm=norm, return_parts=True)
    truth, true_parts = reference.feature_matching(fake, real, norm=norm)
    torch.testing.assert_close(loss, truth, rtol=1e-6, atol=0)
    torch.testing.assert_close(parts, true_parts, rtol=1e-6, atol=0)
    for x, g in zip(fake, torch.autograd.grad(loss, fake), strict=True):
        assert g.dtype == x.dtype and bool(g.any())


# --- tracing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_compiled_into_one_graph(norm, fresh):
    if not hasattr(torch.compiler, "set_stance") or torch.__version__ < "2.8":
        pytest.skip("before torch 2.8 a graph breaks here")
    fake, real = maps()

    def loss(fake, real):
        return 2 * feature_matching(nested(fake), nested(real), norm=norm)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    results = [f(fake, real) for f in (loss, compiled)]
    assert torch.equal(*results)
    grads = [torch.autograd.grad(x, fake) for x in results]
    for a, b in zip(*grads, strict=True):
        assert torch.equal(a, b)


# --- bad input ------------------------------------------------------------------------------------

A, B = torch.zeros(3), torch.zeros(2, 2)
BAD = {
    "no tensor": (
        (A, 1.0),
        {},
        TypeError,
        "real_features must be a tensor or a list of them, got float",
    ),
    "no tensor inside": (([A, "x"], [A, A]), {}, TypeError, "fake_features[1] must be a tensor"),
    "structure": (
        ([A, [A]], [A, A]),
        {},
        ValueError,
        "real_features[1] must have the structure of fake_features[1]",
    ),
    "length": (([A, A], [A]), {}, ValueError, "real_features must have the structure"),
    "empty list": (([], []), {}, ValueError, "fake_features must hold at least one map"),
    "shape": (
        ([A, A], [A, B]),
        {},
        ValueError,
        "map 1 of real_features must have the shape of map 1 of fake_features, [3], got [2, 2]",
    ),
    "dtype": (
        (A.int(), A.int()),
        {},
        TypeError,
        "fake_features must be float32, float64, float16 or bfloat16, got torch.int32",
    ),
    "dtypes": (
        (A, A.double()),
        {},
        TypeError,
        "real_features must have the dtype of fake_features",
    ),
    "empty map": ((A[:0], A[:0]), {}, ValueError, "fake_features must not be empty"),
    "device": (
        (A, A.to("meta")),
        {},
        ValueError,
        "real_features must be on the device of fake_features, cpu, got meta",
    ),
    "norm": ((A, A), {"norm": "l3"}, ValueError, "norm must be one of l1, l2, got 'l3'"),
    "reduction": (
        (A, A),
        {"reduction": "none"},
        ValueError,
        "reduction must be sum or mean, got 'none'",
    ),
    "reduction type": (
        (A, A),
        {"reduction": np.array(["sum", "mean"])},
        ValueError,
        "reduction must be sum or mean, got array",
    ),
    "relative": ((A, A), {"relative": "no"}, TypeError, "relative must be a bool, got str"),
    "return_parts": (
        (A, A),
        {"return_parts": 1},
        TypeError,
        "return_parts must be a bool, got int",
    ),
    "weight": ((A, A), {"weights": math.inf}, ValueError, "weights must be finite, got inf"),
    "weight of a list": (
        ([[A], [A]], [[A], [A]]),
        {"weights": torch.ones(())},
        TypeError,
        "weights must be a number, got a tensor of shape ()",
    ),
    "weight in a list": (
        ([[A], [A]], [[A], [A]]),
        {"weights": [1.0, math.inf]},
        ValueError,
        "weights[1] must be finite, got inf",
    ),
    "weight type": ((A, A), {"weights": "1"}, TypeError, "weights must be a number, got str"),
    "weights": (
        ([A, A], [A, A]),
        {"weights": [1.0]},
        ValueError,
        "weights must be a number, or a list with one for each of the 2 entries",
    ),
}


@pytest.mark.parametrize("function", [feature_matching, feature_matching_and_grad])
@pytest.mark.parametrize("case", BAD)
def test_invalid_arguments_are_refused(case, function):
    arguments, options, error, message = BAD[case]
    with raises(error, f"pygan.fused_losses.feature_matching: {message}"):
        function(*arguments, **options)


def test_detach_must_be_a_bool():
    with raises(TypeError, "pygan.fused_losses.feature_matching: detach_real must be a bool, got"):
        feature_matching(A, A, detach_real="no")


def test_gradients_of_nested_maps_reach_the_network():
    fake, real = maps()
    want = torch.autograd.grad(feature_matching(nested(fake), nested(real)), fake)
    _, grads = feature_matching_and_grad(nested(fake), nested(real))
    torch.autograd.backward(fake, [grads[0][0], *grads[0][1], grads[1], grads[2][0]])
    assert all(map(torch.equal, [x.grad for x in fake], want))


def test_raw_backward_ops_refuse_mismatched_arguments():
    signs = [torch.zeros(4, dtype=torch.int8)]
    one, multipliers = torch.ones(()), torch.ones(1)
    call = ops.feature_matching_l1_backward.default
    for device in ("cpu", "meta"):
        grad, factor, given = one.to(device), multipliers.to(device), [signs[0].to(device)]
        for bad in (
            (grad, factor, [], []),
            (grad, factor, given, []),
            (grad, factor, given, [3]),
            (grad, factor, given, [-1]),
            (grad, factor, [given[0].float()], [6]),
            (grad, factor, [given[0].view(2, 2).expand(2, 2, 2)], [6]),
            (grad, factor, [given[0][::2]], [6]),
            (grad, factor.expand(2), given, [6]),
            (grad, factor.int(), given, [6]),
            (grad.expand(2), factor, given, [6]),
            (grad.bool(), factor, given, [6]),
        ):
            with pytest.raises(RuntimeError, match="pygan::feature_matching"):
                call(*bad)


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_backward_twice_over_one_graph_of_maps(norm, dtype):
    """The gradient written by the forward pass is returned once, and copied while the graph is retained."""
    real = [torch.randn(3, 50, dtype=dtype), torch.randn(7, dtype=dtype)]
    fake = [torch.randn_like(x).requires_grad_() for x in real]
    loss = feature_matching(fake, real, norm=norm)
    want = torch.autograd.grad(reference.feature_matching(fake, real, norm=norm)[0], fake)
    first = torch.autograd.grad(loss, fake, retain_graph=True)
    for g in first:
        g.zero_()  # the caller may modify it
    second = torch.autograd.grad(3 * loss, fake, retain_graph=True)
    last = torch.autograd.grad(loss, fake)
    for two, one, w in zip(second, last, want, strict=True):
        torch.testing.assert_close(one, w)
        torch.testing.assert_close(two, 3 * w)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, fake)


def test_loss_and_gradient_take_one_pass():
    fake, real = [torch.randn(9, requires_grad=True)], [torch.randn(9)]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        feature_matching(fake, real).backward()
        feature_matching_and_grad(fake, real, norm="l2")
    names = [e.name for e in seen.events() if e.name.startswith("pygan::")]
    assert set(names) == {"pygan::feature_matching", "pygan::feature_matching_and_grad"}
