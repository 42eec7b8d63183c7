"""Checks of GANTrainer and pygan.fit: agreement with the CPU, no host synchronization, loss scaling, resuming."""

import tempfile
import traceback

import torch
from registry import check, error_text, session, sync, sync_after_failure, worst
from trainers import OPTIONS, adam, fresh, parameters_of, trainer_of

import pygan
from pygan.training.models import mlp


def after_five_steps(device, options):
    """All parameters as a vector, and the statistics of the last step."""
    trainer = trainer_of(device, **fresh(options))
    data = torch.randn(32, 8, generator=torch.Generator().manual_seed(3)).to(device)
    for _ in range(5):
        stats = trainer.step(data)
    flat = [p.detach().flatten().double().cpu() for p in parameters_of(trainer)]
    return torch.cat(flat), stats


@check()
def trainer_agrees_with_the_cpu():
    """Five steps with each option. (On the CPU, fp32 and fp64 differ by 1e-6.)"""
    found = {}
    session.found.update(found=found)
    torch.backends.cuda.matmul.allow_tf32 = False
    for name, options in OPTIONS.items():
        try:
            cpu, _ = after_five_steps("cpu", options)
            gpu, stats = after_five_steps(session.device, options)
            try:
                torch.stack(stats)
            except RuntimeError as error:
                found[f"{name}: torch.stack(stats)"] = str(error)[:100]
            off = worst([((cpu - gpu).norm() / cpu.norm()).item()])
            if not off < 1e-4:
                found[name] = off
        except Exception as error:
            found[name] = error_text(error)
            sync_after_failure()
    return {"found": found, "ok": not found}


@check()
def trainer_moved_after_it_was_made():
    """If the networks move to the GPU after the trainer was created, all statistics are on that device."""
    trainer = trainer_of("cpu", noise=0.1)
    for module in (trainer.generator, trainer.discriminator, trainer.noise):
        module.to(session.device)
    stats = trainer.step(torch.randn(32, 8, device=session.device))
    devices = {name: str(value.device) for name, value in stats._asdict().items()}
    try:
        torch.stack(stats)
        return {"ok": True}
    except RuntimeError as error:
        return {"ok": False, "error": str(error)[:200], "penalty": devices["penalty"]}


def notices_a_synchronization():
    """The debug mode that trainer_syncs relies on does raise errors."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.ones((), device="cuda").item()
    except RuntimeError:
        return True
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return False


@check(cuda_only=True)
def trainer_syncs():
    """The options with which a step synchronizes with the host, with the first synchronization of each.

    A scaler only with fused optimizers: with others, torch's scaler synchronizes, as documented.
    """

    def fused(parameters):
        return torch.optim.Adam(parameters, lr=1e-3, fused=True)

    def scaler():
        return {"scaler": torch.amp.GradScaler("cuda")}

    cases = {name: (fresh(options), adam) for name, options in OPTIONS.items()}
    cases["scaler, fused"] = scaler(), fused
    cases["scaler, fused, clip"] = {**scaler(), "max_grad_norm": 1.0}, fused
    found = {}
    session.found.update(waits=found)
    for name, (options, optimizer) in cases.items():
        try:
            trainer = trainer_of(optimizer=optimizer, **options)
            data = torch.randn(32, 8, device="cuda")
            for _ in range(2):
                trainer.step(data)
            sync()
            torch.cuda.set_sync_debug_mode("error")
            stats = trainer.step(data)
            if trainer.noise is not None:
                trainer.noise.step(stats.real_sign)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)[-3:]
            where = [f"{f.filename.split('site-packages/')[-1]}:{f.lineno}" for f in frames]
            found[name] = [error_text(error, 120), where]
        finally:
            torch.cuda.set_sync_debug_mode("default")
    if not notices_a_synchronization():
        found["planted .item()"] = "was not noticed"
    return {"waits": found, "ok": not found}


def fitted(data, steps, out):
    """The trainer after pygan.fit up to `steps`, resumed from `out` if it contains a run."""
    torch.manual_seed(0)
    G, D = mlp((2,), latent=16, depth=3)
    optimizers = [torch.optim.Adam(m.parameters(), lr=1e-3) for m in (G, D)]
    return pygan.fit(
        *(G, D, data),
        g_optimizer=optimizers[0],
        d_optimizer=optimizers[1],
        out=out,
        resume="auto",
        **{"latent": 16, "steps": steps, "batch_size": 64, "seed": 1, "ema": 0.9, "noise": 0.1},
        penalties=pygan.penalties.R1(1.0),
        **{"progress": False, "tensorboard": False, "log_every": 3},
        mixed_precision="bf16" if session.cuda else None,
    ).trainer


@check()
def fit_and_resume():
    """12 steps of pygan.fit, uninterrupted and resumed after 6, are bitwise equal."""
    data = torch.randn(512, 2)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name, plan in (("whole", [12]), ("parts", [6, 12])):
            for steps in plan:
                trainer = fitted(data, steps, f"{folder}/{name}")
            flat = [p.detach().flatten() for p in trainer.generator.parameters()]
            results.append(torch.cat(flat).cpu())
    device = str(next(trainer.generator.parameters()).device)
    return {"device": device, "ok": torch.equal(*results)}
