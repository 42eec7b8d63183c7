"""pygan.fit: a training loop with all that a long run needs, around GANTrainer."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Optimizer

from pygan.trainer import GANTrainer
from pygan.training.beginning import begin
from pygan.training.data import Data
from pygan.training.lock import RunLock
from pygan.training.lr_schedulers import check_lr_schedulers
from pygan.training.options import Options, check_unused, checked_networks, checked_trainer_options
from pygan.training.processes import Processes
from pygan.training.run import Run
from pygan.training.sampler import BatchSampler
from pygan.training.settings import settings
from pygan.training.sharding import check_device, shard
from pygan.training.storage import Storage

if TYPE_CHECKING:
    from torch.utils.data import Dataset

__all__ = ["FitResult", "fit"]


@dataclass(frozen=True)
class FitResult:
    """What `fit` did."""

    trainer: GANTrainer
    """With the trained networks; where there are several processes, wrapped by DistributedDataParallel, or sharded."""
    steps: int
    """Iterations done, those before a resume included."""
    metrics: dict[str, float]
    """The last line of metrics, for whichever step it was; empty in other than the main process."""
    checkpoint: Path | None
    """The last checkpoint."""
    stopped_by: str | None
    """"SIGTERM" or "SIGINT", if one ended the run early."""

    @property
    def exit_code(self) -> int:
        """For a command: 0, or 128 + the number of the signal, by convention."""
        return 0 if self.stopped_by is None else 128 + signal.Signals[self.stopped_by]


def fit(
    generator: nn.Module,
    discriminator: nn.Module,
    data: Tensor | tuple[Tensor, Tensor] | Dataset[Any],
    *,
    g_optimizer: Optimizer,
    d_optimizer: Optimizer,
    latent: int | Sequence[int] | Callable[[int], Tensor],
    steps: int,
    batch_size: int,
    out: str | os.PathLike[str],
    lr_schedulers: Sequence[Any] = (),
    mixed_precision: str | None = None,
    sharded: bool = False,
    seed: int | None = None,
    workers: int = 0,
    drop_last: bool = True,
    conditional: bool = True,
    log_every: int = 50,
    checkpoint_every: int | None = 1000,
    keep: int | None = 3,
    resume: str | os.PathLike[str] | None = None,
    allow_changes: bool = False,
    nonfinite: str = "stop",
    sample_every: int | None = 1000,
    samples: int = 64,
    preview: Callable[[Tensor], Any] | None = None,
    evaluate: Callable[[Callable[[int], Tensor]], dict[str, float]] | None = None,
    evaluate_every: int | None = 1000,
    monitor: Any = True,
    progress: bool | None = None,
    tensorboard: bool = True,
    config: dict[str, Any] | None = None,
    accelerator: Any = None,
    **trainer_options: Any,
) -> FitResult:
    """Train a GAN: the loop around :class:`pygan.GANTrainer`, on Hugging Face accelerate.

        result = pygan.fit(G, D, images, g_optimizer=g_optimizer, d_optimizer=d_optimizer, latent=128,
                           steps=50_000, batch_size=64, out="runs/1", seed=0, noise=0.1, ema=0.999)

    Started as ``python script.py`` it uses one GPU, or the CPU; by ``torchrun --nproc-per-node 2 script.py`` or
    ``accelerate launch`` several processes, with each network in a DistributedDataParallel of its own, or sharded. They
    draw together the batches, latents and noise that one process would.

    Args:
        generator, discriminator: the networks themselves, unwrapped. They are moved to the device and trained in
            place.
        data: samples (N, ...); or a pair of tensors, samples and labels (N, ...); or a map-style Dataset that yields
            samples, or pairs of sample and label. Each epoch is a permutation of it. What a Dataset draws from
            torch's, numpy's or Python's global generators is seeded for (seed, epoch, index).
        g_optimizer, d_optimizer, latent: as for GANTrainer.
        steps: iterations of the whole run, those before a resume included.
        batch_size: samples per discriminator step, of all processes together.
        out: folder for metrics.jsonl, samples-XXXXXXXX.png, checkpoints/step-XXXXXXXX.pt and TensorBoard's events.
        lr_schedulers: of torch.optim.lr_scheduler, for `g_optimizer` and `d_optimizer`, stepped after each iteration.
        mixed_precision: "bf16" or "fp16" runs the networks under autocast ("fp16" with a GradScaler, on GPUs only),
            "no" does not. None: what ``accelerate launch`` was told, else "no".
        sharded: several processes share out parameters, gradients and optimizer states, by torch's fully_shard
            (FSDP2; on CPUs since torch 2.7), in place of keeping a copy each. Checkpoints are whole, and any number of
            processes continues from them. The result's networks are sharded; ``result.trainer.state_dict()``, called in
            every process, has their weights. `evaluate` and `preview` are called in every process.
        seed: of the order of the data, the latents, the noise made here and the samples, from 0 to 2**64 - 1. None
            draws one from PyTorch's default generator. (The weights are the caller's: ``torch.manual_seed``.)
        workers: processes that read a Dataset; 0 reads in this one. Its first item is read in this one in any case:
            files that must not be shared with forked workers (h5py, lmdb) are opened in __getitem__ by each process.
        drop_last: leave out what remains of an epoch after its whole batches.
        conditional: pass on the labels, where the data have any, to both networks.
        log_every: steps between lines of metrics, which is when the device is waited for.
        checkpoint_every: steps between checkpoints, each before the evaluation of its step; None: only at the end,
            and at SIGTERM and SIGINT.
        keep: how many checkpoints are kept; None: all.
        resume: "auto" continues the run in `out` from its newest usable checkpoint, or begins where there is none; a
            path continues from that one. With the same arguments, the result has the same bits as if the run had
            never been interrupted. Without it a folder with checkpoints is refused. Checkpoints whose weights are not
            finite are not usable.
        allow_changes: resume with settings that are not those of the checkpoint: the new ones are used, and each
            change is printed. Learning rates are then what the new optimizers and `lr_schedulers` would have at that
            step. False: settings that shape the training (those of the optimizers, `lr_schedulers`, batches, data size,
            seed, loss, noise, penalties, average, precision, ...) must be those of the checkpoint.
        nonfinite: what to do when parameters, optimizer states or the average are found not to be finite, which is
            looked for at each step that is logged or saved; such values are never saved. "stop" raises an error.
            "skip" leaves out each update whose gradients are not finite, which the metrics count as `skipped`: it waits
            for the device in every update (unless there is a GradScaler, which leaves them out itself, uncounted), and
            stops where that did not help, or where 100 updates of a network in a row were left out. "rollback" takes
            weights and optimizers back from the last checkpoint, while the count of steps, the data's order, noise and
            latents go on; when 3 rollbacks between two checkpoints have not helped, it stops.
        sample_every: steps between sample grids, of the same latents throughout; None: none.
        samples: in a grid.
        preview: samples, on the device, to a picture (H, W, C) of uint8. Default: a grid of images (N, C, H, W) or
            (N, H, W) with values in [-1, 1] and 1 or 3 channels, of those that fit in 4096 x 4096 pixels; of images
            with other channels none, which is said, and of other data, such as audio (N, C, T), none.
        evaluate: called with a function ``n -> samples`` (fresh ones, from the averaged generator if there is one),
            returns a dict of numbers, which go into the metrics. Called in the main process alone.
        evaluate_every: steps between calls of it, and one at the end; None: only that.
        monitor: True for a :class:`pygan.Monitor`, False for none; for one with options a callable that is given the
            trainer, like ``partial(pygan.Monitor, noise=...)``; or any object with ``update(stats)`` that returns a
            list. What it says is printed, and goes into the metrics. A Monitor with another `every` or `window` than
            in the checkpoint (see `allow_changes`) collects its readings anew.
        progress: a progress bar; None: where standard error is a terminal.
        tensorboard: write events for TensorBoard.
        config: kept in the checkpoints: plain data.
        accelerator: an ``accelerate.Accelerator`` to use instead of one made here.
        **trainer_options: the other options of GANTrainer: loss, noise, penalties, ema, d_steps, ...

    SIGTERM and SIGINT finish the step under way, write a checkpoint and return (several processes: at the next step
    that is logged). In a single process a second signal acts as if there were no `fit`.

    Returns:
        FitResult: the trainer, the steps done, the last metrics, the checkpoint, and what stopped the run.

    Raises:
        TypeError, ValueError: an argument that is not as described, or not as in the checkpoint that is resumed (see
            `allow_changes`), or that no checkpoint can hold. Nothing has been written.
        FileExistsError: `out` holds the checkpoints of a run that is not resumed.
        BlockingIOError: another run is writing into `out`; the message names its process.
        NotADirectoryError: `out` is a file.
        FloatingPointError: the weights are not finite (see `nonfinite`); the message names the last checkpoint.
        OSError: the disk is full, or another reason not to be able to write a file, which it names. The checkpoints
            that were there are still there.
        pygan.checkpoint.CheckpointError: there is no usable checkpoint where one was asked for, or it does not fit
            the networks; these are as they were.
        RuntimeError: another process has ended; the message names the last checkpoint. Or accelerate was told to
            share the work by something else than DistributedDataParallel.
        ImportError: something is missing that ``pip install ".[train]"`` installs.
    """
    options = Options(
        steps=steps,
        batch_size=batch_size,
        out=Path(out),
        lr_schedulers=list(lr_schedulers),
        mixed_precision=mixed_precision,
        sharded=sharded,
        seed=seed,
        workers=workers,
        drop_last=drop_last,
        conditional=conditional,
        log_every=log_every,
        checkpoint_every=checkpoint_every,
        keep=keep,
        resume=resume,
        allow_changes=allow_changes,
        nonfinite=nonfinite,
        sample_every=sample_every,
        samples=samples,
        preview=preview,
        evaluate=evaluate,
        evaluate_every=evaluate_every,
        monitor=monitor,
        progress=progress,
        tensorboard=tensorboard,
        config=config,
        accelerator=accelerator,
    )
    checked_networks(generator=generator, discriminator=discriminator)
    if sharded:
        check_unused(g_optimizer=g_optimizer, d_optimizer=d_optimizer)
    checked_trainer_options(trainer_options)
    source = Data(data, conditional=conditional)
    source.check_networks(generator, discriminator, {"latent": latent, **trainer_options})
    BatchSampler(source.size, batch_size, seed=0, drop_last=drop_last)

    def trainer(networks: Sequence[nn.Module], **more: Any) -> GANTrainer:
        options = {"latent": latent, **trainer_options, **more}
        return GANTrainer(networks[0], networks[1], g_optimizer, d_optimizer, **options)

    check_lr_schedulers(options.lr_schedulers, steps, g_optimizer, d_optimizer)
    given = trainer((generator, discriminator), seed=0)  # for what is wrong with its options
    processes = Processes(accelerator, mixed_precision)
    sharded = sharded and processes.world > 1
    if sharded:
        check_device(processes.device)
    shape = settings(
        given,
        {"latent": latent, **trainer_options},
        options.lr_schedulers,
        batch_size=batch_size,
        data=source.size,
        drop_last=drop_last,
        conditional=conditional,
        mixed_precision=processes.accelerator.mixed_precision,
        seed=seed,
    )
    prepared = processes.prepared(generator, discriminator, wrapped=not sharded)
    with RunLock(options.out) as lock, prepared as networks:
        storage = Storage(options.out, keep)
        beginning = begin(options, shape, processes, storage, lock)
        more: dict[str, Any] = {}
        if sharded:
            ema = trainer_options.get("ema")
            more["ema"] = shard(generator, discriminator, g_optimizer, d_optimizer, ema)
        seed = beginning.settings["seed"]
        made = trainer(networks, seed=seed, scaler=processes.scaler, **more)
        run = Run(made, options, source, processes, storage, lock, beginning)
        run.train()
    return FitResult(
        trainer=run.trainer,
        steps=run.state.step,
        metrics=run.metrics,
        checkpoint=run.storage.last,
        stopped_by=None if run.stopped_by is None else signal.Signals(run.stopped_by).name,
    )
