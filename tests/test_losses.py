"""The fused losses against pygan.reference: values, gradients, statistics, bits, derivatives.

How wrong may a kernel be? At most twice as wrong as PyTorch's own eager expression, measured against the
truth, plus one unit in the last place of the result (eager may hit the truth by luck). No tolerance
here was chosen by looking at results. The truth is pygan.reference, which is fp64, and 80-bit arithmetic
for fp64 itself.
"""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import pygan
from pygan import _C, reference
from pygan.fused_losses import LOSSES, LossStats, discriminator_loss, generator_loss

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
# Around a strip of SIMD lanes (64), a block (256) and a chunk of the sums (8192).
SIZES = [1, 3, 63, 64, 65, 255, 256, 257, 8191, 8192, 8193, 100_003]
SMOOTHINGS = [0.0, 0.1]
DRAWS = 3  # worst of several, lest one lucky draw decide


def available_capabilities():
    before = _C.cpu_capability()
    names = []
    for name in ("baseline", "avx2", "avx512"):
        try:
            _C.use_cpu_capability(name)
        except RuntimeError:
            continue
        names.append(name)
    _C.use_cpu_capability(before)
    return names


CAPABILITIES = available_capabilities()


@pytest.fixture
def restore():
    """Puts the instruction set and the number of threads back."""
    capability, threads = _C.cpu_capability(), torch.get_num_threads()
    yield
    _C.use_cpu_capability(capability)
    torch.set_num_threads(threads)


def each_way_to_run():
    """Every instruction set with 1 and 2 threads; use with the fixture `restore`."""
    for capability in CAPABILITIES:
        for threads in (1, 2):
            _C.use_cpu_capability(capability)
            torch.set_num_threads(threads)
            yield f"{capability}, {threads} threads"


def math_type(dtype):
    return torch.float64 if dtype == torch.float64 else torch.float32


# --- truth and yardstick ---------------------------------------------------------------------------


def eager(roles, loss, smoothing, tensors):
    """The terms as one writes them in plain PyTorch, one tensor of terms for each tensor of logits."""
    terms = []
    for role, x in zip(roles, tensors, strict=True):
        if role == "real" and smoothing:
            terms.append((1 - smoothing) * F.softplus(-x) + smoothing * F.softplus(x))
        elif role == "real":
            terms.append(F.softplus(-x))
        elif role == "fake":
            terms.append(F.softplus(x))
        else:
            terms.append({"non_saturating": F.softplus(-x), "minimax": -F.softplus(x)}[loss])
    return terms


def fused(roles, loss, smoothing, reduction, tensors, **kw):
    if roles == ["generator"]:
        return generator_loss(tensors[0], loss=loss, reduction=reduction, **kw)
    return discriminator_loss(
        *tensors, loss=loss, label_smoothing=smoothing, reduction=reduction, **kw
    )


def reference_of(roles, loss, smoothing, reduction, tensors, **kw):
    if roles == ["generator"]:
        return reference.generator_loss(tensors[0], loss=loss, reduction=reduction, **kw)
    return reference.discriminator_loss(
        *tensors, loss=loss, label_smoothing=smoothing, reduction=reduction, **kw
    )


def reduced(terms, reduction):
    return sum(getattr(t, reduction)() for t in terms)


def as_list(result):
    return list(result) if isinstance(result, tuple) else [result]


def wide(x, dtype):
    """As numpy values in which results of `dtype` can be judged."""
    values = x.detach().double().cpu().numpy()
    return values.astype(np.longdouble) if dtype == torch.float64 else values


def wide_terms(role, loss, eps, x):
    """Terms and slopes in numpy's extended precision, the truth for fp64."""
    one = np.longdouble(1)

    def softplus(t):
        return np.maximum(t, 0) + np.log1p(np.exp(-np.abs(t)))

    def sigmoid(t):
        u = np.exp(-np.abs(t))
        return np.where(t < 0, u, one) / (one + u)

    eps = np.longdouble(eps)
    if role == "real":
        return (one - eps) * softplus(-x) + eps * softplus(x), eps - sigmoid(-x)
    if role == "fake":
        return softplus(x), sigmoid(x)
    if loss == "non_saturating":
        return softplus(-x), -sigmoid(-x)
    return -softplus(x), -sigmoid(x)


def truth(roles, loss, smoothing, reduction, tensors):
    """[results], [gradients of their sum], as numpy arrays."""
    dtype = tensors[0].dtype
    if dtype == torch.float64:
        pairs = [
            wide_terms(role, loss, smoothing, wide(x, x.dtype))
            for role, x in zip(roles, tensors, strict=True)
        ]
        if reduction == "none":
            return [value for value, _ in pairs], [slope for _, slope in pairs]
        over = [value.size if reduction == "mean" else 1 for value, _ in pairs]
        value = sum(value.sum() / n for (value, _), n in zip(pairs, over, strict=True))
        return [value], [slope / n for (_, slope), n in zip(pairs, over, strict=True)]
    leaves = [x.detach().double().requires_grad_() for x in tensors]
    results = as_list(reference_of(roles, loss, smoothing, reduction, leaves))
    grads = torch.autograd.grad(sum(t.sum() for t in results), leaves)
    return [wide(t, dtype) for t in results], [wide(t, dtype) for t in grads]


def ulp(values, dtype):
    """The distance between neighbours of `dtype` at the magnitude of each value."""
    info = torch.finfo(dtype)
    _, exponent = np.frexp(np.abs(values))
    smallest = math.frexp(info.tiny)[1]
    one = np.asarray(values).dtype.type(1)
    return np.ldexp(one, np.maximum(exponent, smallest) - 1) * info.eps


def assert_as_good(got, rivals, want, *, relative, what):
    """`got` is at most twice as wrong as each rival, plus one ulp: in the largest absolute error and,
    where the result is well conditioned in every element (`relative`), in the largest error in ulps.

    got, rivals and want are lists over draws of lists of arrays."""
    dtype = got[0][0].dtype
    unit = [ulp(w, dtype) for draw in want for w in draw]
    truths = [w for draw in want for w in draw]

    def errors(draws):
        pairs = zip((t for draw in draws for t in draw), truths, strict=True)
        return [np.abs(wide(t, dtype) - w) for t, w in pairs]

    def worst(arrays):
        return max(float(a.max()) for a in arrays if a.size)

    own = errors(got)
    scaled = [e / u for e, u in zip(own, unit, strict=True)]
    for name, rival in rivals.items():
        theirs = errors(rival)
        bound = 2 * worst(theirs) + worst(unit)
        assert worst(own) <= bound, f"{what}: error {worst(own):.3g} > {bound:.3g} ({name})"
        if relative:
            bound = 2 * worst([e / u for e, u in zip(theirs, unit, strict=True)]) + 1
            assert worst(scaled) <= bound, f"{what}: {worst(scaled):.3g} ulp > {bound:.3g} ({name})"


def logits_like(roles, shape, dtype, device, seed):
    generator = torch.Generator().manual_seed(seed)
    return [
        (3 * torch.randn(shape, generator=generator) + (1 if role == "real" else -1))
        .to(dtype)
        .to(device)
        for role in roles
    ]


ROLES = [["real", "fake"], ["generator"]]


REDUCTIONS = ["mean", "sum", "none"]


def compare(draws, loss, reductions=REDUCTIONS, smoothings=SMOOTHINGS):
    """Values and gradients for a list of draws: (roles, tensors)."""
    roles = draws[0][0]
    dtype = draws[0][1][0].dtype
    upcast = math_type(dtype)
    for smoothing in smoothings if "real" in roles else [0.0]:
        for reduction in reductions:
            values, grads, wanted, wanted_grads = [], [], [], []
            rivals = {name: ([], []) for name in ("eager", "eager in the math's type")}
            for _, tensors in draws:
                leaves = [t.detach().requires_grad_() for t in tensors]
                results = as_list(fused(roles, loss, smoothing, reduction, leaves))
                assert all(t.dtype == upcast for t in results)
                own = torch.autograd.grad(sum(t.sum() for t in results), leaves)
                assert all(g.dtype == dtype for g in own)
                values.append([t.detach() for t in results])
                grads.append(own)
                value, slope = truth(roles, loss, smoothing, reduction, tensors)
                wanted.append(value)
                wanted_grads.append(slope)
                for (rival, rival_grads), cast in zip(
                    rivals.values(), (dtype, upcast), strict=True
                ):
                    terms = eager(roles, loss, smoothing, [x.to(cast) for x in leaves])
                    results = terms if reduction == "none" else [reduced(terms, reduction)]
                    rival.append([t.detach() for t in results])
                    rival_grads.append(
                        torch.autograd.grad(sum(t.float().sum() for t in results), leaves)
                    )
            what = f"{roles}, {loss}, smoothing {smoothing}, {reduction}"
            # Smoothing makes the slope cross 0 and its relative error there unbounded, for anyone.
            both = rivals.items()
            assert_as_good(values, {k: v for k, (v, _) in both}, wanted, relative=True, what=what)
            assert_as_good(
                grads,
                {k: g for k, (_, g) in both},
                wanted_grads,
                relative=not smoothing,
                what=what + ", gradient",
            )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_values_and_gradients(size, dtype, loss, device):
    for roles in ROLES:
        draws = [logits_like(roles, (size,), dtype, device, seed) for seed in range(DRAWS)]
        draws = [(roles, tensors) for tensors in draws]
        if size < 10_000:
            compare(draws, loss)
        else:
            compare(draws, loss, ["mean"], [0.1])


def test_real_and_fake_may_differ_in_size_and_shape():
    real, fake = torch.randn(7, 3), torch.randn(1000)
    got = discriminator_loss(real, fake)
    both = F.softplus(-real.double()).mean() + F.softplus(fake.double()).mean()
    torch.testing.assert_close(got, both.float())
    terms = discriminator_loss(real, fake, reduction="none")
    assert [t.shape for t in terms] == [real.shape, fake.shape]


# --- layouts ---------------------------------------------------------------------------------------

LAYOUTS = {
    "contiguous": lambda x: x.clone(),
    "transposed": lambda x: x.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "sliced": lambda x: torch.stack([x, torch.full_like(x, math.nan)], -1)[..., 0],
    "sliced rows": lambda x: torch.cat([x, torch.full_like(x, math.nan)], 1)[:, : x.shape[1]],
    "expanded": lambda x: x[:, :1].expand(x.shape),
    # One element past an allocation's start: no vector load may assume more than the element's alignment.
    "misaligned": lambda x: torch.cat([x.flatten()[:1], x.flatten()])[1:].view(x.shape),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 5, 7, 11), (2, 3, 64, 65)])
def test_layouts(shape, dtype, layout, device):
    for roles in ROLES:
        draws = []
        for seed in range(2):
            tensors = logits_like(roles, shape, dtype, device, seed)
            draws.append((roles, [LAYOUTS[layout](x) for x in tensors]))
        compare(draws, "non_saturating", REDUCTIONS if shape[0] == 3 else ["mean"])
        for x in draws[0][1]:
            leaf = x.detach().requires_grad_()
            terms = generator_loss(leaf, reduction="none")
            (grad,) = torch.autograd.grad(generator_loss(leaf, reduction="sum"), leaf)
            assert terms.stride() == grad.stride() == torch.empty_like(x).stride()
            plain = x.contiguous()
            assert torch.equal(terms, generator_loss(plain, reduction="none"))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_logit_expanded(dtype, device):
    x = torch.tensor(0.7, dtype=dtype, device=device).expand(3, 1000)
    got = results_of(x, x, "non_saturating")
    plain = x.contiguous()
    assert_same_bits(got, results_of(plain, plain, "non_saturating"))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_empty(dtype, device):
    empty = torch.zeros(0, 4, dtype=dtype, device=device, requires_grad=True)
    full = torch.randn(5, device=device).to(dtype)
    for loss in LOSSES:
        value, stats = generator_loss(empty, loss=loss, reduction="sum", return_stats=True)
        assert value.item() == 0 and value.dtype == math_type(dtype)
        assert stats.nonfinite.item() == 0 and stats.fake_logit.isnan()
        (grad,) = torch.autograd.grad(value, empty)
        assert grad.shape == empty.shape and grad.dtype == dtype
        assert generator_loss(empty, loss=loss, reduction="none").shape == empty.shape
        value = discriminator_loss(empty, full, loss=loss, reduction="sum")
        only = discriminator_loss(empty, full, loss=loss, reduction="none")[1]
        torch.testing.assert_close(value, only.sum())


# --- statistics ------------------------------------------------------------------------------------


def eager_stats(real, fake):
    """What people write to log the same, in the dtype of the logits."""
    value = F.softplus(-real).mean() + F.softplus(fake).mean()
    return LossStats(
        real.mean(),
        fake.mean(),
        real.sigmoid().mean(),
        fake.sigmoid().mean(),
        (real > 0).to(real.dtype).mean(),
        (fake < 0).to(real.dtype).mean(),
        real.sign().mean(),
        math.log(2) - value / 2,
        ((~real.isfinite()).sum() + (~fake.isfinite()).sum()).to(real.dtype),
    )


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
@pytest.mark.parametrize("dtype", DTYPES)
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


# --- extremes --------------------------------------------------------------------------------------

INF, NAN = math.inf, math.nan
EXTREMES = {
    "large": [1e4, -1e4, 5e3, -3e3, 88.8, -88.8, 103.9, -103.9, 104.5, -150.0, 17.0, -17.0],
    "fp16 limits": [65504.0, -65504.0, 2.0**-24, -(2.0**-24), 2.0**-14],
    "denormals": [1e-45, -1e-45, 1e-39, -1e-39, 5e-324, -5e-324, 0.0, -0.0],
    "+inf": [INF, 1.0, -2.0],
    "-inf": [-INF, 1.0, -2.0],
    "nan": [NAN, 1.0, -2.0],
    "mix": [INF, -INF, NAN, 1e4, -1e4, 0.0, 1.0],
    "all infinite": [INF, INF, -INF],
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("name", EXTREMES)
def test_extremes(name, smoothing, dtype, loss, device):
    x = torch.tensor(EXTREMES[name], dtype=torch.float64).to(dtype).to(device)
    upcast = math_type(dtype)
    for roles in ROLES:
        tensors = [x] * len(roles)
        for reduction in ("none", "mean"):
            leaves = [t.clone().requires_grad_() for t in tensors]
            doubles = [t.double().requires_grad_() for t in tensors]
            rival_leaves = [t.clone().requires_grad_() for t in tensors]
            got = as_list(fused(roles, loss, smoothing, reduction, leaves))
            want = as_list(reference_of(roles, loss, smoothing, reduction, doubles))
            rival = eager(roles, loss, smoothing, [t.to(upcast) for t in rival_leaves])
            if reduction != "none":
                rival = [reduced(rival, reduction)]
            everything = [(got, rival, want)]
            everything.append(
                [
                    torch.autograd.grad(sum(t.sum() for t in values), inputs)
                    for values, inputs in ((got, leaves), (rival, rival_leaves), (want, doubles))
                ]
            )
            for triple in everything:
                for g, r, w in zip(*triple, strict=True):
                    w = w.to(g.dtype)  # what is too large for the dtype is infinite in it
                    assert torch.equal(g.isnan(), w.isnan()), (roles, reduction, g, w)
                    assert torch.equal(g.isinf(), w.isinf()), (roles, reduction, g, w)
                    assert torch.equal(g.sign()[g.isinf()], w.sign()[w.isinf()])
                    finite = w.isfinite() & r.isfinite()
                    g, r, w = (wide(t[finite], g.dtype) for t in (g, r, w))
                    if w.size:
                        # Absolute: with smoothing, slopes near 0 are differences of large ones.
                        bound = 2 * np.abs(r - w).max() + ulp(w, got[0].dtype).max()
                        assert np.abs(g - w).max() <= bound, (roles, reduction, g, w)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("name", EXTREMES)
def test_stats_of_extremes(name, smoothing, dtype, device):
    x = torch.tensor(EXTREMES[name], dtype=torch.float64).to(dtype).to(device)
    _, got = discriminator_loss(x, -x, label_smoothing=smoothing, return_stats=True)
    _, want = reference.discriminator_loss(x, -x, label_smoothing=smoothing, return_stats=True)
    rival = eager_stats(*(t.to(math_type(dtype)) for t in (x, -x)))
    for field, g, r, w in zip(LossStats._fields, got, rival, want, strict=True):
        assert torch.equal(g.isnan(), w.isnan()) and torch.equal(g.isinf(), w.isinf()), (
            field,
            g,
            w,
        )
        if w.isfinite() and r.isfinite():
            g, r, w = (wide(t, dtype) for t in (g, r, w))
            bound = 2 * abs(r - w) + ulp(w, math_type(dtype))
            assert abs(g - w) <= bound, (field, g, r, w)
        else:
            assert torch.equal(g.nan_to_num(), w.nan_to_num()), field
    assert got.nonfinite.item() == 2 * (~x.isfinite()).sum().item()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_nonfinite_is_counted_wherever_it_stands(dtype, device):
    for size in (1, 64, 257, 9000):
        for place in {0, size // 2, size - 1}:
            for value in (NAN, INF, -INF):
                x = torch.ones(size, dtype=dtype, device=device)
                x[place] = value
                _, stats = generator_loss(x, return_stats=True)
                assert stats.nonfinite.item() == 1


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_certain_discriminator_is_no_nan(dtype, device):
    """Real logits of +inf and fake ones of -inf: a loss of 0 and gradients of 0."""
    real = torch.full((5,), INF, dtype=dtype, device=device, requires_grad=True)
    fake = torch.full((5,), -INF, dtype=dtype, device=device, requires_grad=True)
    value = discriminator_loss(real, fake)
    assert value.item() == 0
    for grad in torch.autograd.grad(value, (real, fake)):
        assert torch.equal(grad, torch.zeros_like(grad))


# --- the same bits ---------------------------------------------------------------------------------


def results_of(real, fake, loss):
    """Everything that a pair of logits gives, as one list of tensors."""
    out = []
    for smoothing in SMOOTHINGS:
        for reduction in ("mean", "none"):
            for roles, tensors in ((ROLES[0], [real, fake]), (ROLES[1], [fake])):
                leaves = [x.detach().requires_grad_() for x in tensors]
                result, stats = fused(roles, loss, smoothing, reduction, leaves, return_stats=True)
                results = as_list(result)
                alone = as_list(fused(roles, loss, smoothing, reduction, leaves))
                assert_same_bits(results, alone, "the statistics change the loss")
                out += [t.detach() for t in results] + list(stats)
                out += torch.autograd.grad(sum(t.sum() for t in results), leaves)
    return out


def assert_same_bits(a, b, what=""):
    assert len(a) == len(b)
    for s, t in zip(a, b, strict=True):
        assert s.dtype == t.dtype and s.shape == t.shape
        assert torch.equal(s.isnan(), t.isnan()), what
        numbers = ~s.isnan()
        assert torch.equal(s[numbers], t[numbers]), what
        assert torch.equal(s[numbers].signbit(), t[numbers].signbit()), what


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [257, 9_001])
def test_bits_do_not_depend_on_threads_or_instruction_set(size, dtype, loss, restore):
    real, fake = logits_like(["real", "fake"], (size,), dtype, "cpu", 0)
    real[::11] *= 1000 / 11  # saturated ones too
    first = None
    for way in each_way_to_run():
        results = results_of(real, fake, loss)
        first = results if first is None else first
        assert_same_bits(first, results, way)


@pytest.mark.parametrize("name", EXTREMES)
def test_bits_of_extremes_do_not_depend_on_instruction_set(name, restore):
    for dtype in DTYPES:
        x = torch.tensor(EXTREMES[name] * 7, dtype=torch.float64).to(dtype)
        first = None
        for way in each_way_to_run():
            results = results_of(x, x.flip(0), "non_saturating")
            first = results if first is None else first
            assert_same_bits(first, results, way)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_do_not_change_from_run_to_run(dtype, device):
    real, fake = logits_like(["real", "fake"], (17_001,), dtype, device, 0)
    first = results_of(real, fake, "non_saturating")
    for _ in range(2):
        assert_same_bits(first, results_of(real, fake, "non_saturating"))


# --- derivatives -----------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradcheck(reduction, smoothing, loss, device):
    for roles in ROLES:
        leaves = logits_like(roles, (3, 2), torch.float64, device, 5)
        leaves = [x.t() if i else x for i, x in enumerate(leaves)]  # one of them strided
        leaves = [x.requires_grad_() for x in leaves]

        def function(*tensors, roles=roles):
            return fused(roles, loss, smoothing, reduction, list(tensors))

        assert torch.autograd.gradcheck(function, leaves)
        assert torch.autograd.gradgradcheck(function, leaves)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_second_derivatives_of_every_dtype(dtype, device):
    """d/dx of (gradient . v), against the reference's, twice eager's error at most."""
    x, v = logits_like(["real", "fake"], (257,), dtype, device, 3)

    def second(function, cast):
        leaf = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(function(leaf.to(cast)), leaf, create_graph=True)
        (result,) = torch.autograd.grad((slope.to(cast) * v.to(cast)).sum(), leaf)
        return result

    for loss in LOSSES:
        got = second(lambda t, loss=loss: generator_loss(t, loss=loss), dtype)
        assert got.dtype == dtype
        sign = -1 if loss == "minimax" else 1
        double = x.double()
        slope = torch.sigmoid(double) * torch.sigmoid(-double) * sign * v.double() / x.numel()
        rival = second(
            lambda t, loss=loss: eager(["generator"], loss, 0.0, [t])[0].mean(), math_type(dtype)
        )
        assert_as_good(
            [[got]], {"eager": [[rival]]}, [[wide(slope, dtype)]], relative=False, what=loss
        )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_third_derivative_says_that_it_does_not_exist(reduction, device):
    x = torch.randn(5, dtype=torch.float64, device=device, requires_grad=True)
    value = generator_loss(x, reduction=reduction).sum()
    (first,) = torch.autograd.grad(value, x, create_graph=True)
    (second,) = torch.autograd.grad(first.pow(2).sum(), x, create_graph=True)
    with pytest.raises(
        NotImplementedError, match=r"pygan\.fused_losses: derivatives must be .* got a third"
    ):
        torch.autograd.grad(second.sum(), x)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_penalty_through_a_discriminator(loss, device):
    """An R1-like penalty on the loss's own gradient w.r.t. the images, trained through."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(3 * 16, 1)
    )
    net = net.double().to(device)
    real, fake = torch.randn(2, 4, 1, 6, 6, dtype=torch.float64, device=device)

    def gradients(function):
        images = real.clone().requires_grad_()
        value = function(net(images), net(fake))
        (slope,) = torch.autograd.grad(value, images, create_graph=True)
        total = value + 10 * slope.pow(2).sum((1, 2, 3)).mean()
        return [value, total, *torch.autograd.grad(total, list(net.parameters()))]

    got = gradients(lambda r, f: discriminator_loss(r, f, loss=loss, label_smoothing=0.1))

    def plain(r, f):
        terms = eager(ROLES[0], loss, 0.1, [r, f])
        return reduced(terms, "mean")

    torch.testing.assert_close(got, gradients(plain))


@pytest.mark.parametrize("device", DEVICES)
def test_what_does_not_require_grad_gets_none(device):
    real = torch.randn(4, device=device, requires_grad=True)
    fake = torch.randn(4, device=device)
    discriminator_loss(real, fake).backward()
    assert real.grad is not None and fake.grad is None
    with torch.no_grad():
        assert not discriminator_loss(real, fake).requires_grad
    assert not discriminator_loss(real.detach(), fake).requires_grad
    value, stats = discriminator_loss(real, fake, return_stats=True)
    assert value.requires_grad and not any(field.requires_grad for field in stats)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("factor", [1.0, 3.0, 65536.0])
def test_upstream_gradient_is_a_factor(factor, create_graph, dtype, device):
    """A scaled loss (GradScaler's 2^16) scales the gradients before they are rounded to 16 bits."""
    (x,) = logits_like(["fake"], (20_001,), dtype, device, 4)
    x -= 5
    leaf = x.clone().requires_grad_()
    value = generator_loss(leaf, loss="minimax") * factor
    (grad,) = torch.autograd.grad(value, leaf, create_graph=create_graph)
    want = wide(-torch.sigmoid(x.double()) * factor / x.numel(), dtype)
    error = np.abs(wide(grad, dtype) - want)
    # Rounded once from the math's type: half an ulp, and a few of the math's own (three products, a
    # quotient and exp: at most 8).
    own = 8 * ulp(want, math_type(dtype))
    assert (error <= ulp(want, dtype) / 2 + own).all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_retained_graph_gives_the_same_gradients_again(dtype, device):
    """Whoever got the first gradient may overwrite it."""
    real, fake = (
        x.requires_grad_() for x in logits_like(["real", "fake"], (500,), dtype, device, 4)
    )
    value = discriminator_loss(real, fake, label_smoothing=0.1)
    first = torch.autograd.grad(value, (real, fake), retain_graph=True)
    kept = [g.clone() for g in first]
    for g in first:
        g.zero_()
    assert_same_bits(kept, torch.autograd.grad(value, (real, fake), retain_graph=True))
    doubled = torch.autograd.grad(2 * value, (real, fake), retain_graph=True)
    if dtype != torch.float16:  # whose subnormals are rounded more finely when doubled
        assert_same_bits([2 * g for g in kept], doubled)
    nothing = torch.autograd.grad(0 * value, (real, fake), retain_graph=True)
    assert not any(g.any() for g in nothing)
    (only_fake,) = torch.autograd.grad(value, fake, retain_graph=True)
    assert torch.equal(only_fake, kept[1])
    value.backward()
    assert_same_bits(kept, [real.grad, fake.grad])
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        value.backward()


@pytest.mark.parametrize("device", DEVICES)
def test_logits_overwritten_before_backward(device):
    """Either the gradient of what the loss saw, or torch's error; never that of other logits."""
    x = torch.linspace(-2, 2, 50, device=device, requires_grad=True)
    logits = x * 1
    value = generator_loss(logits)
    want = -torch.sigmoid(-logits.detach()) / 50
    with torch.no_grad():
        logits.fill_(3.0)
    try:
        (grad,) = torch.autograd.grad(value, x)
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)  # noqa: PT017
    else:
        torch.testing.assert_close(grad, want)


def test_losses_are_listed():
    assert LOSSES == reference.LOSSES == tuple(_C.loss_names())
    assert pygan.fused_losses.LOSSES is LOSSES
