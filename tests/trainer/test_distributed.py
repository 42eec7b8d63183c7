"""GANTrainer with two processes, whose networks are each wrapped by DistributedDataParallel, or sharded: at every step
equal to one process with the whole batch."""

import copy
import pickle
import warnings

import pytest
import torch
from helpers import free_port, process_group, sharded_on_cpu
from helpers.trainer import assert_same
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import pygan
from pygan.penalties import R1, R2, GradientPenalty, LeCam
from pygan.schedules import Adaptive, DiffusionMixture
from pygan.training.sharding import SHARDS_ON_CPU

fsdp = pytest.importorskip("torch.distributed.fsdp", reason="torch without distributed")
pytestmark = pytest.mark.slow

# Sizes of the whole batches: 7 is split into 4 and 3 samples, and the 3 into micro-batches of 1 and 2.
SIZES = [8, 7, 8]
CASES = {
    "plain": {},
    "everything": dict(
        loss="relativistic",
        penalties=[R1(1.0), R2(0.5, every=2), GradientPenalty(), R1(0.1, sigma=0.05)],
        d_steps=2,
        ema=0.5,
        max_grad_norm=0.5,
        scaler=True,
    ),
    "hinge, mixture": dict(loss="hinge", noise=DiffusionMixture),
    # Lazy, so that a penalty may belong to a batch other than the last of the step.
    "lazy": dict(penalties=[R1(1.0, every=2), R2(1.0, every=3)], d_steps=2),
    "averages of logits": dict(loss="hinge", penalties=[LeCam(0.3, 0.9), R2(1.0)], d_steps=2),
    "least squares": dict(loss="least_squares", label_smoothing=0.1, penalties=R2(1.0)),
    "joint": dict(
        joint=True,
        loss="relativistic",
        penalties=[R1(1.0), R2(0.5, sigma=0.05, every=2), GradientPenalty(), R1(0.1, sigma=0.05)],
        d_steps=2,
        max_grad_norm=0.5,
    ),
    "separate": dict(
        separate=True,
        penalties=[R1(1.0), R2(0.5, sigma=0.05, every=2), GradientPenalty(), R1(0.1, sigma=0.05)],
        noise=DiffusionMixture,
        max_grad_norm=0.5,
    ),
    "terms": dict(
        joint=True,
        generator_terms=lambda step: {
            "pixels": (step.fake - step.real).abs().mean(),
            "features": (step.fake_output - step.real_output).square().mean(),
        },
        adversarial_weight=lambda step: step.g_loss.new_tensor(0.5) + step.steps,
        discriminator_start=1,
    ),
    "reused fakes": dict(reuse_fakes=True, penalties=[R1(1.0), R2(1.0)], ema=0.5),
}


def networks():
    """Networks without BatchNorm, so that the mean gradient over two halves of a batch is that of the whole batch."""
    torch.manual_seed(0)
    G = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 6))
    return G, nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))


def shard(network):
    """Shard the network, with its last layer as a separate unit, as for large networks."""
    mesh = torch.distributed.init_device_mesh("cpu", (2,))
    fsdp.fully_shard(network[-1], mesh=mesh)
    return fsdp.fully_shard(network, mesh=mesh)


def train(case, rank=None, wrap=DistributedDataParallel, **more):
    """All statistics of some steps, and the final networks, for a single process or for one of two."""
    options = {**copy.deepcopy(CASES[case]), **more}  # LeCam has a state
    schedule = Adaptive(0.1, 0.5, steps=5)
    if options.pop("noise", None):
        schedule = DiffusionMixture(2, t_min=300, t_max=600, clean=0.25)
    options["noise"] = pygan.InstanceNoise(schedule, seed=3)
    if options.get("scaler"):
        options["scaler"] = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)
    G, D = networks()
    # Not Adam, which amplifies rounding errors to full steps if a gradient is 0 (D's last bias, relativistic losses).
    if wrap is shard and "ema" in options:
        decay = options["ema"]
        options["ema"] = pygan.EMA(G, decay)
        shard(options["ema"].module)
    wrapped = (G, D) if rank is None else [wrap(net) for net in (G, D)]
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.5) for net in wrapped]
    trainer = pygan.GANTrainer(*wrapped, *optimizers, latent=4, seed=5, **options)
    rows, k = [], trainer.d_steps
    for step, n in enumerate(SIZES):
        totals = [n - i for i in range(k)]
        data = [torch.randn(t, 6, generator=torch.Generator().manual_seed(step)) for t in totals]
        batches = data if rank is None else [x.tensor_split(2)[rank] for x in data]
        stats = trainer.step(batches[0] if k == 1 else batches, total=totals)
        trainer.noise.step(stats.real_sign)
        rows.append(torch.stack([*stats, *stats.terms.values(), trainer.noise.sigma]))
    state = trainer.state_dict()
    if wrap is shard:  # and an unsharded state can be sharded again
        trainer.load_state_dict(pickle.loads(pickle.dumps(state)))
        assert_same(trainer.state_dict(), state)
    average = state.get("ema")
    return torch.stack(rows), state["generator"], state["discriminator"], average, trainer.fake


def worker(rank, port, results):
    with process_group(rank, port):
        for case in CASES:
            results[rank, case] = train(case, rank)
            if SHARDS_ON_CPU:
                results[rank, f"{case}, sharded"] = train(case, rank, shard)
        results[rank, "micro-batches"] = train("plain", rank, micro_batches=2)
        results[rank, "lazy micro-batches"] = train("lazy", rank, micro_batches=2)
        results[rank, "even shares need no total"] = even_shares(rank)
        results[rank, "bad total"] = bad_total()
        for seeds in ("alike", "apart"):
            results[rank, seeds] = latents_of_ones_own(rank, seeds)
        results[rank, "BatchNorm"] = with_batch_norm()
        if SHARDS_ON_CPU:
            results[rank, "micro-batches, sharded"] = train("lazy", rank, shard, micro_batches=2)
            sharding_misused()


def even_shares(rank):
    G, D = networks()
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (G, D)]
    trainer = pygan.GANTrainer(
        *map(DistributedDataParallel, (G, D)), *optimizers, latent=4, noise=0.1, seed=5
    )
    data = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    d_loss, _ = trainer.discriminator_step(data.chunk(2)[rank])
    g_loss, _ = trainer.generator_step(4)
    return d_loss, g_loss, trainer.sample(2)


def latents_of_ones_own(rank=None, seeds="alike"):
    """Samples with a callable that draws from torch's generator, for an uneven and an even batch."""
    G, D = networks()
    wrapped = (G, D) if rank is None else [DistributedDataParallel(net) for net in (G, D)]
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (G, D)]
    trainer = pygan.GANTrainer(*wrapped, *optimizers, latent=lambda n: torch.randn(n, 4), seed=5)
    torch.manual_seed(7 if seeds == "alike" else rank)
    found = []
    for total in (7, 8):
        real = torch.randn(total, 6, generator=torch.Generator().manual_seed(total))
        trainer.step(real if rank is None else real.tensor_split(2)[rank], total=total)
        found.append(trainer.fake)
    return [*found, trainer.sample(6 if rank is None else 3)]


def bad_total():
    trainer = pygan.GANTrainer(
        *map(DistributedDataParallel, nets := networks()),
        *[torch.optim.SGD(net.parameters(), lr=0.1) for net in nets],
        latent=4,
    )
    with pytest.raises(
        ValueError, match=r"total must match the processes' shares: 4 samples .* got 5"
    ):
        trainer.step(torch.randn(5, 6), total=8)
    return trainer.stream.step


def sharding_misused():
    def trainer(G, D, **options):
        optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (G, D)]
        return pygan.GANTrainer(G, D, *optimizers, latent=4, **options)

    G, D = networks()
    with pytest.raises(ValueError, match=r"ema must be a pygan.EMA .*sharded.* got 0\.9"):
        trainer(shard(G), D, ema=0.9)
    G, D = networks()
    fsdp.fully_shard(D[0], mesh=torch.distributed.init_device_mesh("cpu", (2,)))
    with pytest.raises(ValueError, match=r"discriminator must be sharded as a whole, by fully_sh"):
        trainer(G, D)
    G, D = networks()
    with pytest.raises(TypeError, match=r"generator must be sharded by .*fully_shard"):
        trainer(fsdp.FullyShardedDataParallel(G, device_id=torch.device("cpu")), D)


def with_batch_norm():
    """Several forward passes of D before a backward pass must not interfere."""
    torch.manual_seed(0)
    D = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.LeakyReLU(), nn.Linear(8, 1))
    G = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6))
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (G, D)]
    penalties = [R1(1.0), R2(1.0), R1(1.0, sigma=0.1), R2(1.0, sigma=0.1)]
    trainer = pygan.GANTrainer(
        *map(DistributedDataParallel, (G, D)), *optimizers, latent=4, penalties=penalties
    )
    for _ in range(3):
        trainer.step(torch.randn(8, 6))
    return [p.detach() for net in (G, D) for p in net.parameters()]


@pytest.fixture(scope="module")
def results():
    context = torch.multiprocessing.get_context("spawn")
    shared = context.Manager().dict()
    torch.multiprocessing.spawn(worker, (free_port(), shared), nprocs=2)
    return dict(shared)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=2e-4, atol=2e-5, equal_nan=True)


@pytest.mark.parametrize("how", ["", pytest.param(", sharded", marks=sharded_on_cpu)])
@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_like_one_with_the_whole_batch(results, case, how):
    *first, fake_0 = results[0, case + how]
    *second, fake_1 = results[1, case + how]
    torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)
    *whole, fake = train(case)
    close(first, whole)
    close(torch.cat([fake_0, fake_1]), fake)
    assert len(whole[0]) == len(SIZES)


def test_micro_batches_reduce_gradients_once(results):
    *first, _ = results[0, "micro-batches"]
    *second, _ = results[1, "micro-batches"]
    torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)
    assert first[0].isfinite().all()


@sharded_on_cpu
def test_micro_batches_of_sharded_networks(results):
    """Same results as DistributedDataParallel with the same parts; lazy, so with and without a double backward."""
    for rank in (0, 1):
        close(results[rank, "micro-batches, sharded"], results[rank, "lazy micro-batches"])


def test_the_phases_report_the_whole_batch(results):
    d_loss, g_loss, first = results[0, "even shares need no total"]
    assert (d_loss, g_loss) == results[1, "even shares need no total"][:2]
    G, D = networks()
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (G, D)]
    trainer = pygan.GANTrainer(G, D, *optimizers, latent=4, noise=0.1, seed=5)
    data = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    close(d_loss, trainer.discriminator_step(data)[0])
    close(g_loss, trainer.generator_step(8)[0])
    samples = torch.cat([first, results[1, "even shares need no total"][2]])
    close(samples, trainer.sample(4))


def test_custom_latents_equal_those_of_one_process(results):
    """Two processes with the same seed drew the same samples."""
    first, second = results[0, "alike"], results[1, "alike"]
    together = [torch.cat(both) for both in zip(first, second, strict=True)]
    assert [len(x) for x in together] == [7, 8, 6]
    close(together, latents_of_ones_own())


def test_custom_latents_of_differently_seeded_processes_differ(results):
    for ours, theirs in zip(results[0, "apart"], results[1, "apart"], strict=True):
        assert (torch.cdist(ours, theirs) > 1e-3).all()


def test_a_total_that_does_not_fit_is_refused(results):
    assert results[0, "bad total"] == results[1, "bad total"] == 0


def test_batch_norm_does_not_disturb_the_backward_pass(results):
    first, second = results[0, "BatchNorm"], results[1, "BatchNorm"]
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def warned_of_layouts(rank, port):
    """One process whose discriminator has a single input channel and a single output, with a gradient penalty."""
    warnings.filterwarnings("error", message="Grad strides")
    G = nn.Sequential(nn.Linear(4, 64), nn.Unflatten(1, (1, 8, 8)))
    D = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(64, 1))
    with process_group(rank, port, world_size=1):
        G, D = map(DistributedDataParallel, (G, D))
        optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (G, D)]
        pygan.GANTrainer(G, D, *optimizers, latent=4, penalties=R1(1.0)).step(
            torch.rand(8, 1, 8, 8)
        )
        other = "Grad strides do not match bucket view strides.\ngrad.sizes() = [8, 4], strides() = [1, 8]\n"
        other += "bucket_view.sizes() = [8, 4], strides() = [4, 1]"
        with pytest.raises(UserWarning, match="Grad strides"):
            warnings.warn_explicit(other, UserWarning, "_ops.py", 1, "pygan._ops")


def test_gradients_of_the_same_layout_raise_no_warning():
    torch.multiprocessing.spawn(warned_of_layouts, (free_port(),), nprocs=1)
