"""The ops under torch.compile, fake tensors, autocast and opcheck: what the dispatcher was told is true.

opcheck runs torch's own checks of a custom op: the schema against what the op really writes, the meta
function against the shapes and strides of real results, and autograd under compilation.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.library import opcheck

from pygan import NoiseStream, fused_losses, instance_noise
from pygan.fused_losses import LOSSES, discriminator_loss, generator_loss

ops = torch.ops.pygan
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
BACKENDS = ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)]
FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    torch.manual_seed(0)


# --- opcheck ---------------------------------------------------------------------------------------

CHANNELS_LAST = torch.channels_last


def op_calls(device):
    """name -> (op, args, kwargs): every op that schemas.cpp registers."""
    real = torch.randn(5, 3, device=device, requires_grad=True)
    fake = torch.randn(7, device=device, requires_grad=True)
    x = torch.randn(4, 3, 8, 8, device=device, requires_grad=True)
    last = x.detach().to(memory_format=CHANNELS_LAST).requires_grad_()
    batch_last = x.detach().permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2).requires_grad_()
    number = torch.tensor(0.5, device=device)
    each = torch.rand(4, device=device, requires_grad=True)
    grad = torch.tensor(2.0, device=device, requires_grad=True)
    state = torch.tensor([3, 4], device=device)
    calls = {
        "gan_loss": (ops.gan_loss.default, ([real, fake], [0, 1], 0, 0.1, 0, True)),
        "gan_loss, strided": (
            ops.gan_loss.default,
            ([real.t(), fake[::2]], [0, 1], 0, 0.0, 1, False),
        ),
        "gan_loss, generator": (ops.gan_loss.default, ([fake], [2], 1, 0.0, 0, False)),
        "gan_loss_backward": (
            ops.gan_loss_backward.default,
            (grad, [real.t(), fake[::2]], [0, 1], 0, 0.1, 0),
        ),
        "gan_loss_terms": (ops.gan_loss_terms.default, ([real.t(), fake], [0, 1], 0, 0.1, 0)),
        "gan_loss_terms, slopes": (ops.gan_loss_terms.default, ([real[:, 1:]], [2], 1, 0.0, 1)),
        "instance_noise": (ops.instance_noise.default, (x, None, 0.5, state, 0, 1.0, 0.0, None)),
        "instance_noise, sigma": (
            ops.instance_noise.default,
            (last, number, 0.0, state, 0, 2.0, 0.0, torch.float16),
        ),
        "instance_noise, sigma per sample": (
            ops.instance_noise.default,
            (batch_last, each.detach(), 0.0, state, 9, 1.0, 0.0, None),
        ),
        "instance_noise_at": (
            ops.instance_noise_at.default,
            (x, each, 0.0, state, 0, 2.0, 0.0, None),
        ),
        "instance_noise_at, channels_last": (
            ops.instance_noise_at.default,
            (last, each, 0.0, state, 0, 2.0, 0.0, None),
        ),
        "instance_noise_at, batch last": (
            ops.instance_noise_at.default,
            (batch_last, each[0].detach().requires_grad_(), 0.0, state, 0, 2.0, 0.0, torch.float64),
        ),
        "noise_advance": (ops.noise_advance.default, (x, each, 0.0, state, 0, 1.0, 0.0, None)),
        "noise_dot": (ops.noise_dot.default, (x, x.stride(), state, 0, -1)),
        "noise_dot, in another order": (ops.noise_dot.default, (x, last.stride(), state, 5, 4)),
        "noise_draw": (ops.noise_draw.default, (x, each, 0.0, 1.0, 0.0, None, None, None)),
    }
    calls = {name: (*call, {}) for name, call in calls.items()}
    out = torch.empty(4, 3, 8, 8, device=device)
    calls["instance_noise.out"] = (
        ops.instance_noise.out,
        (x.detach(), number.detach(), 0.0, state, 0, 2.0, 0.0),
        {"out": out},
    )
    calls["instance_noise.out, strided"] = (
        ops.instance_noise.out,
        (last.detach(), None, 0.5, state, 0, 2.0, 0.0),
        {"out": out.new_empty(4, 3, 8, 16)[..., ::2]},
    )
    return calls


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", op_calls("cpu"))
def test_opcheck(name, device):
    op, args, kwargs = op_calls(device)[name]
    opcheck(op, args, kwargs)


def test_every_op_is_checked():
    registered = {
        f"{schema.name.removeprefix('pygan::')}.{schema.overload_name}".rstrip(".")
        for schema in torch._C._jit_get_all_schemas()
        if schema.name.startswith("pygan::")
    }
    assert registered == {name.split(",")[0] for name in op_calls("cpu")}


# --- torch.compile ---------------------------------------------------------------------------------


def compare(function, backend, *argument_lists):
    """function(*arguments) compiled as one graph against eager: results, and what it did to streams."""
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend=backend)
    for make in argument_lists:
        pairs = []
        for run in (compiled, function):
            arguments = make()
            results = run(*arguments)
            results = list(results) if isinstance(results, tuple) else [results]
            leaves = [t for t in arguments if isinstance(t, torch.Tensor) and t.requires_grad]
            outputs, grads = [t for t in results if t.requires_grad], []
            if outputs and leaves:
                total = sum((t * (k + 1)).sum() for k, t in enumerate(outputs))
                grads = list(torch.autograd.grad(total, leaves))
            streams = [s.state_dict() for s in arguments if isinstance(s, NoiseStream)]
            pairs.append((results + grads, streams))
        (got, got_streams), (want, want_streams) = pairs
        assert got_streams == want_streams
        assert len(got) == len(want)
        for k, (g, w) in enumerate(zip(got, want, strict=True)):
            assert g.dtype == w.dtype and g.shape == w.shape
            if k < len(results):  # compilation may choose other strides for gradients
                assert g.stride() == w.stride()
            assert torch.equal(g.detach().nan_to_num(7.0), w.detach().nan_to_num(7.0))


def flat(result):
    """(loss or terms, stats) as one tuple of tensors."""
    value, stats = result
    return (*(value if isinstance(value, tuple) else (value,)), *stats)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("loss", LOSSES)
def test_compiled_losses(loss, reduction, backend, device):
    options = {"loss": loss, "reduction": reduction, "return_stats": True}

    def discriminator(real, fake):
        return flat(discriminator_loss(real, fake, label_smoothing=0.1, **options))

    def generator(fake):
        return flat(generator_loss(fake, **options))

    def logits(dtype, *shapes):
        return lambda: [
            torch.linspace(-3, 4, a * b, dtype=dtype, device=device).view(a, b).t().requires_grad_()
            for a, b in shapes
        ]

    dtypes = FLOATS if backend == "aot_eager" else FLOATS[:1]
    sizes = [((6, 5), (3, 9)), ((7, 4), (20, 8)), ((70, 10), (4, 4))]
    compare(discriminator, backend, *[logits(torch.float32, *shapes) for shapes in sizes])
    compare(generator, backend, *[logits(dtype, (6, 5)) for dtype in dtypes])


def noise_arguments(kind, shape, device, layout):
    def make():
        x = torch.linspace(-1, 1, torch.Size(shape).numel(), device=device).view(shape)
        if layout == "channels_last":
            x = x.contiguous(memory_format=CHANNELS_LAST)
        sigma = {
            "float": 0.5,
            "0-d": torch.tensor(0.3, device=device),
            "0-d, requires grad": torch.tensor(0.3, device=device, requires_grad=True),
            "per sample": torch.linspace(0, 1, shape[0], device=device),
            "per sample, requires grad": torch.linspace(
                0, 1, shape[0], device=device
            ).requires_grad_(),
        }[kind]
        return [x.requires_grad_(), sigma, NoiseStream(2**63 + 1, step=5, offset=3, device=device)]

    return make


SIGMAS = ["float", "0-d", "0-d, requires grad", "per sample", "per sample, requires grad"]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_compiled_noise(sigma, layout, backend, device):
    def function(x, sigma, stream):
        first = instance_noise(x, sigma, stream=stream, scale=0.5, bias=0.1)
        return first, instance_noise(x, sigma, stream=stream)

    shapes = [(4, 3, 8, 8), (5, 2, 4, 6)]
    compare(function, backend, *[noise_arguments(sigma, s, device, layout) for s in shapes])


@pytest.mark.parametrize("device", DEVICES)
def test_gradient_of_sigma_under_inductor(device):
    """Backward draws the step of its forward, though the stream has moved on in the same graph."""
    x = torch.zeros(1000, device=device)
    grads = []
    for run in (torch.compile(instance_noise, fullgraph=True), instance_noise):
        sigma = torch.tensor(0.5, device=device, requires_grad=True)
        out = run(x, sigma, stream=NoiseStream(1, step=5, device=device))
        grads += torch.autograd.grad(out.sum(), sigma)
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_compiled_uint8_to_half(backend, device):
    def function(images, stream):
        return instance_noise(
            images, 0.1, stream=stream, scale=1 / 127.5, bias=-1.0, dtype=torch.float16
        )

    def arguments(n):
        images = torch.arange(n, dtype=torch.uint8, device=device)
        return lambda: [images, NoiseStream(1, device=device)]

    compare(function, backend, arguments(100), arguments(200))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_compiled_out(backend, device):
    def function(x, stream, out):
        instance_noise(x, 0.5, stream=stream, out=out)
        return out * 2, instance_noise(out, 0.5, stream=stream, out=out) + 0

    def arguments(n):
        return lambda: [
            torch.ones(n, 2, device=device),
            NoiseStream(1, device=device),
            torch.zeros(n, 2, device=device),  # dynamo takes no strided out= of any op
        ]

    compare(function, backend, arguments(10), arguments(20))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_compiled_without_a_stream(backend, device):
    """Fresh noise at every call, standard normal, and seeded by torch.manual_seed."""
    compiled = torch.compile(
        lambda x: instance_noise(x, 1.0), fullgraph=True, dynamic=True, backend=backend
    )
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append([compiled(torch.zeros(n, device=device)) for n in (10_000, 10_000, 5_000)])
    for a, b in zip(draws[0], draws[1], strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(draws[0][0], draws[0][1])
    assert not torch.equal(draws[0][0], draws[2][0])
    for z in draws[0]:
        assert abs(z.mean()) < 5 / z.numel() ** 0.5
        assert abs(z.var() - 1) < 5 * (2 / z.numel()) ** 0.5
    if backend == "aot_eager":  # inductor has a generator of its own
        torch.manual_seed(1)
        for z in draws[0]:
            assert torch.equal(instance_noise(torch.zeros_like(z), 1.0), z)


@pytest.mark.parametrize("device", DEVICES)
def test_a_new_sigma_does_not_recompile(device):
    """A schedule fills a tensor with a new sigma at every step. (A number would be compiled in.)"""
    compilations = 0

    def counting(graph, _):
        nonlocal compilations
        compilations += 1
        return graph

    compiled = torch.compile(instance_noise, fullgraph=True, dynamic=True, backend=counting)
    stream, plain = NoiseStream(1, device=device), NoiseStream(1, device=device)
    x = torch.ones(10, device=device)
    sigma = torch.tensor(0.5, device=device)
    for value in (0.5, 0.4, 0.3):
        got = compiled(x, sigma.fill_(value), stream=stream)
        assert torch.equal(got, instance_noise(x, value, stream=plain))
    assert compilations == 1


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_compiled_training_step(backend, device):
    """Noise, network and loss in one graph, as a discriminator's step is."""
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    net = net.to(device)

    def function(real, fake, sigma, stream):
        real_logits = net(instance_noise(real, sigma, stream=stream))
        fake_logits = net(instance_noise(fake, sigma, stream=stream))
        value, stats = discriminator_loss(real_logits, fake_logits, return_stats=True)
        return value, stats.jsd_bound, stats.nonfinite

    compiled = torch.compile(function, fullgraph=True, backend=backend, dynamic=True)
    for n in (5, 9):
        results = []
        for run in (compiled, function):
            stream = NoiseStream(3, device=device)
            data = torch.linspace(-1, 1, 2 * n * 6, device=device).view(2, n, 6)
            value, bound, nonfinite = run(*data, torch.tensor(0.5, device=device), stream)
            grads = torch.autograd.grad(value, list(net.parameters()))
            assert stream.step == 2
            results.append([value, bound, nonfinite, *grads])
        torch.testing.assert_close(*results)


# --- fake tensors and meta -------------------------------------------------------------------------

LAYOUTS = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.contiguous(memory_format=CHANNELS_LAST),
    "batch last": lambda x: x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
    "sliced": lambda x: x[:, ::2],
    "expanded": lambda x: x[:, :1].expand(x.shape),
}


def layout_of(tensors):
    return [(tuple(t.shape), t.dtype, t.stride(), t.requires_grad) for t in tensors]


def everything(x, each, stream):
    """All that a user can call with x as images and as logits."""
    results = [
        instance_noise(x, 0.5, stream=stream),
        instance_noise(x, each[0], stream=stream, dtype=torch.float16),
        instance_noise(x, each, stream=stream),
        instance_noise(x, each.detach(), stream=stream, dtype=torch.float64),
    ]
    value, stats = discriminator_loss(x, x[1:], return_stats=True)
    results += [value, *stats, generator_loss(x, reduction="none")]
    results += torch.autograd.grad(value, x)
    results += torch.autograd.grad(sum(t.sum().float() for t in results[:3]), [x, each])
    return results


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", ["fake", "meta"])
def test_meta_tells_shapes_dtypes_and_strides(kind, dtype, layout):
    def arguments(device):
        x = LAYOUTS[layout](torch.zeros(4, 6, 5, 7, dtype=dtype, device=device))
        each = torch.zeros(4, device=device).requires_grad_()
        return x.requires_grad_(), each, NoiseStream(1, device=device)

    want = layout_of(everything(*arguments("cpu")))
    if kind == "fake":
        with FakeTensorMode():
            got = layout_of(everything(*arguments("cpu")))
    else:
        got = layout_of(everything(*arguments("meta")))
    assert got == want


def test_fake_tensors_are_checked_like_real_ones():
    with FakeTensorMode():
        with pytest.raises(TypeError, match=r"pygan\.discriminator_loss: fake_logits must have"):
            discriminator_loss(torch.zeros(3), torch.zeros(3).half())
        with pytest.raises(
            ValueError, match=r"pygan\.generator_loss: fake_logits must not be empty"
        ):
            generator_loss(torch.zeros(0))


# --- autocast --------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_leaves_the_ops_alone(dtype, device):
    """The ops do 16-bit input right themselves: under autocast they take what comes, as outside."""
    net = torch.nn.Linear(8, 1).to(device)
    data = torch.linspace(-1, 1, 80, device=device).view(10, 8)
    with torch.autocast(device, dtype):
        noisy = instance_noise(data, 0.5, stream=NoiseStream(1, device=device))
        assert noisy.dtype == torch.float32
        logits = net(noisy)
        assert logits.dtype == dtype
        value, stats = generator_loss(logits, return_stats=True)
    assert value.dtype == stats.d_fake.dtype == torch.float32
    assert torch.equal(value, generator_loss(logits.detach()))
    value.backward()
    assert net.weight.grad.dtype == torch.float32 and net.weight.grad.abs().sum() > 0


def test_loss_stats_cross_a_graph():
    """LossStats, a named tuple, goes out of a compiled function as what it is."""
    compiled = torch.compile(
        lambda x: generator_loss(x, return_stats=True), fullgraph=True, backend="aot_eager"
    )
    _, stats = compiled(torch.ones(3))
    assert isinstance(stats, fused_losses.LossStats) and stats.fake_logit.item() == 1
