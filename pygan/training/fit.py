"""pygan.fit: a complete training loop around GANTrainer, for long runs."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Optimizer

from pygan.trainer import GANTrainer
from pygan.training.checkpoint_files import Storage
from pygan.training.checkpoint_settings import data_settings, settings
from pygan.training.checks import check_networks, check_unused
from pygan.training.fit_keywords import split, with_keywords
from pygan.training.loader_data import LoaderData, batch_size_of, data_of
from pygan.training.lock import RunLock
from pygan.training.lr_schedulers import check_lr_schedulers
from pygan.training.processes import Processes
from pygan.training.run import Run
from pygan.training.sharding import check_device, shard
from pygan.training.starting_point import find_starting_point

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch.utils.data import DataLoader, Dataset
    from typing_extensions import Unpack  # torch requires it

    from pygan.training._fit_keywords import FitKeywords

__all__ = ["FitResult", "fit"]


@dataclass(frozen=True)
class FitResult:
    """The result of `fit`."""

    trainer: GANTrainer
    """The trainer with the trained networks, which are wrapped by DistributedDataParallel or sharded if there are
    several processes."""
    steps: int
    """Iterations done, including those before a resume."""
    metrics: dict[str, float]
    """The metrics of the last step, with those of `evaluate` if it was due then; empty except in the main process."""
    checkpoint: Path | None
    """The last checkpoint."""
    stopped_by: str | None
    """"SIGTERM" or "SIGINT" if a signal ended the run early."""
    first_step: int
    """Iterations done before this call."""
    seconds: float
    """Duration of this call's iterations, including logging and saving."""

    @property
    def exit_code(self) -> int:
        """Exit code for a command: 0, or 128 + the signal's number, by convention."""
        return 0 if self.stopped_by is None else 128 + signal.Signals[self.stopped_by]


@with_keywords
def fit(
    generator: nn.Module,
    discriminator: nn.Module,
    data: Tensor
    | NDArray[Any]
    | tuple[Tensor | NDArray[Any], Tensor | NDArray[Any]]
    | Mapping[str, Any]
    | Dataset[Any]
    | DataLoader[Any],
    *,
    g_optimizer: Optimizer,
    d_optimizer: Optimizer,
    **options: Unpack[FitKeywords],
) -> FitResult:
    """Train a GAN: a complete loop around :class:`pygan.GANTrainer`, based on Hugging Face accelerate.

        result = pygan.fit(G, D, images, g_optimizer=g_optimizer, d_optimizer=d_optimizer, latent=128,
                           steps=50_000, batch_size=64, out="runs/1", seed=0, noise=0.1, ema=0.999)

    With ``python script.py`` it uses one GPU, or the CPU; with ``torchrun --nproc-per-node 2 script.py`` or
    ``accelerate launch``, several processes, and each network is wrapped by its own DistributedDataParallel, or
    sharded. Together they draw the batches, latents and noise that one process would draw.

    Args:
        generator, discriminator: the networks themselves, unwrapped. They are moved to the device and trained in
            place.
        data: samples (N, ...), a tensor or a numpy array; a tuple of two, samples and labels; or a map-style Dataset
            that yields samples, or pairs of sample and label. Each epoch is a permutation of the data. Random numbers
            that a Dataset draws from torch's, numpy's or Python's global generators are seeded by (seed, epoch, index).
            An IterableDataset yields the same items in its own order. A DataLoader is used unchanged, with its batches,
            sampler, collate_fn and workers; its random numbers, including those of its own generator, are seeded by
            (seed, epoch, batch), and each process reads all of it and takes its share of each batch. A resumed run
            rereads the part of the epoch that was already read, unless the object has ``state_dict`` and
            ``load_state_dict``. Samples may be arrays (float64 becomes torch's default dtype) and, in Datasets, gray or
            RGB PIL images, which become float32 in [-1, 1], (channels, height, width). For dicts see `data_keys`.
        g_optimizer, d_optimizer: as for GANTrainer.
        **options: the options of :class:`pygan.FitOptions`, where `steps` and `out` are required, as is `batch_size`
            unless data is a DataLoader; and those of :class:`pygan.GANTrainer`: latent, loss, noise, penalties, ema,
            d_steps, ... (The scaler is created by ``mixed_precision="fp16"``.)

    On SIGTERM and SIGINT, fit finishes the current step, writes a checkpoint and returns (with several processes: at
    the next logged step). In a single process, a second signal has its default effect.

    Returns:
        FitResult: the trainer, the steps done, the last metrics, the checkpoint, and what stopped the run.

    Raises:
        TypeError, ValueError: an invalid argument; one that differs from the checkpoint being resumed (see
            `allow_changes`) or that a checkpoint cannot hold; networks that do not match `init_from`. Nothing has
            been written.
        FileExistsError: `out` contains the checkpoints of a run that is not being resumed.
        BlockingIOError: another run is writing to `out`; the message names its process.
        NotADirectoryError: `out` is a file.
        FloatingPointError: the weights are not finite (see `nonfinite`); the message names the last checkpoint.
        OSError: a file, named in the message, cannot be written, for example because the disk is full. Existing
            checkpoints are kept.
        pygan.checkpoint.CheckpointError: the requested checkpoint is missing or unusable, or does not fit
            the networks, which are unchanged.
        RuntimeError: another process has ended; the message names the last checkpoint. Or accelerate is configured
            to use something other than DistributedDataParallel.
        ImportError: a package is missing that ``pip install ".[train]"`` installs.
    """
    own, of_trainer = split(options)
    check_networks(generator=generator, discriminator=discriminator)
    if own.sharded:
        check_unused(g_optimizer=g_optimizer, d_optimizer=d_optimizer)
    own = replace(own, batch_size=batch_size_of(data, own))
    source = data_of(data, own)
    source.check_networks(generator, discriminator, of_trainer)
    source.order(batch_size_of(data, own), seed=0, drop_last=own.drop_last)

    def trainer(networks: Sequence[nn.Module], **more: Any) -> GANTrainer:
        return GANTrainer(networks[0], networks[1], g_optimizer, d_optimizer, **of_trainer, **more)

    unused = trainer((generator, discriminator), seed=0)  # checks its options
    optimizers = g_optimizer, d_optimizer
    check_lr_schedulers(own.lr_schedulers, own.steps, *optimizers, unused.discriminator_start)
    processes = Processes(own.accelerator, own.mixed_precision)
    sharded = own.sharded and processes.world > 1
    if own.capture and processes.world > 1:
        raise ValueError(
            f"pygan.fit: capture must be False in several processes, got True in {processes.world}"
        )
    if sharded:
        check_device(processes.device)
    if isinstance(source, LoaderData):
        source.check_processes(processes.gather)
    shape = settings(
        unused,
        of_trainer,
        own.lr_schedulers,
        batch_size=own.batch_size,
        data=source.description(),
        data_keys=own.data_keys,
        drop_last=own.drop_last,
        conditional=own.conditional,
        mixed_precision=processes.accelerator.mixed_precision,
        seed=own.seed,
        config={"data": data_settings(own.config)},
        init_from=None if own.init_from is None else str(Path(own.init_from).resolve()),
    )
    prepared = processes.prepared(generator, discriminator, wrapped=not sharded)
    with RunLock(own.folder) as lock, prepared as networks:
        storage = Storage(own.folder, own.keep)
        starting_point = find_starting_point(own, shape, processes, storage, lock)
        if starting_point.pretrained is not None:
            starting_point.pretrained.check(generator, discriminator)
        if sharded:
            ema = of_trainer.get("ema")
            of_trainer["ema"] = shard(generator, discriminator, *optimizers, ema)
        seed = starting_point.settings["seed"]
        made = trainer(networks, seed=seed, scaler=processes.scaler)
        run = Run(made, own, source, processes, storage, lock, starting_point)
        first, start = run.state.step, time.perf_counter()
        run.train()
        seconds = time.perf_counter() - start
    return FitResult(
        trainer=run.trainer,
        steps=run.state.step,
        metrics=run.metrics,
        checkpoint=run.storage.last,
        stopped_by=None if run.stopped_by is None else signal.Signals(run.stopped_by).name,
        first_step=first,
        seconds=seconds,
    )
