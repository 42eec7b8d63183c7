"""Checks of pygan with torch.compile and torch.distributed, which may crash the process."""

import os

import torch
import torch.distributed as dist
from registry import check, session, worst
from torch.nn.parallel import DistributedDataParallel
from trainers import adam, discriminator, networks, parameters_of, trainer_of

import pygan
from pygan import NoiseStream, instance_noise
from pygan._compile import COMPILED
from pygan.fused_losses import discriminator_loss


def cudagraph_counters():
    """Inductor's counters, and the number of CUDA graphs: none if it skipped them."""
    from torch._inductor import cudagraph_trees

    counters = torch._dynamo.utils.counters["inductor"]
    manager = cudagraph_trees.get_manager(0, create_if_none_exists=False)
    graphs = 0 if manager is None else manager.new_graph_id().id
    return {"graphs": graphs, **{k: v for k, v in counters.items() if "cudagraph" in k}}


@check(limit=90, cuda_only=True)
def compiled():
    """Noise, networks and loss in one compiled graph equal the eager results, also with CUDA graphs, none skipped."""
    report = {}
    session.found.update(report=report)
    stream = NoiseStream(1, device="cuda")
    D = discriminator().cuda()

    def program(real, fake, sigma):
        noisy = [instance_noise(x, sigma, stream=stream) for x in (real, fake)]
        return discriminator_loss(*map(D, noisy), return_stats=True)

    def run(function, step):
        """Loss, a gradient and the next step of the stream, starting with `step`."""
        stream.load_state_dict({"seed": 1, "step": step, "offset": 0})
        D.zero_grad()
        value, _ = function(*inputs)
        value.backward()
        return value.item(), D[0].weight.grad.clone(), stream.step

    inputs = [torch.randn(256, 8, device="cuda") for _ in range(2)]
    inputs.append(torch.tensor(0.1, device="cuda"))
    for mode in (None, "reduce-overhead"):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        fast = torch.compile(program, fullgraph=COMPILED, mode=mode)
        off = 0.0
        for step in range(0, 8, 2):
            (a, grad, moved), (b, want, _) = run(fast, step), run(program, step)
            off = worst([off, abs(a - b), (grad - want).abs().max().item()])
            if moved != step + 2:
                off = float("inf")
        report[str(mode)] = {"off": off, **(cudagraph_counters() if mode else {})}
    captured = report["reduce-overhead"]
    as_eagerly = all(v["off"] < 1e-5 for v in report.values())
    all_captured = captured["graphs"] > 0 and captured.get("cudagraph_skips", 0) == 0
    return {**report, "ok": as_eagerly and all_captured}


@check(cuda_only=True)
def nccl_alone():
    """DistributedDataParallel and the all_reduce of the statistics, with NCCL and a single process."""
    # A store in memory, without address, port or host name, because there may be no network except lo; and without
    # RANK, which accelerate would see later.
    os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    os.environ.setdefault("NCCL_IB_DISABLE", "1")
    one = {"rank": 0, "world_size": 1, "device_id": torch.device("cuda:0")}
    dist.init_process_group("nccl", store=dist.HashStore(), **one)
    try:
        modules = networks()
        optimizers = [adam(m.parameters()) for m in modules]
        wrapped = [DistributedDataParallel(m, device_ids=[0]) for m in modules]
        options = {"noise": 0.1, "penalties": pygan.penalties.R1(1.0)}
        trainer = pygan.GANTrainer(*wrapped, *optimizers, latent=16, seed=7, **options)
        alone = trainer_of(noise=0.1, penalties=pygan.penalties.R1(1.0))
        data = torch.randn(32, 8, device="cuda")
        for _ in range(4):
            stats = trainer.step(data)
            alone.step(data)
        pairs = zip((p for m in modules for p in m.parameters()), parameters_of(alone))
        off = worst((x - y).abs().max().item() for x, y in pairs)
        finite = torch.stack(stats).isfinite().all().item()
        return {"off": off, "ok": off < 1e-5 and finite}
    finally:
        dist.destroy_process_group()
