"""The options of `pygan.fit`: the one list of them, checked before anything is built."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from pygan._validation import is_int
from pygan.checkpoint import check_plain
from pygan.trainer import GANTrainer, TrainStats
from pygan.training.callbacks import Callback, check_callbacks
from pygan.training.documented import with_field_texts
from pygan.training.nonfinite import POLICIES
from pygan.training.trackers import check_trackers

__all__ = ["FitOptions", "SupportsUpdate"]


class SupportsUpdate(Protocol):
    """What may take the place of a Monitor."""

    def update(self, stats: TrainStats, /) -> Any:
        """A list of what there is to say after a step."""


@with_field_texts
@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """The options of :func:`pygan.fit` itself, beside those that it passes to GANTrainer.

    `fit` takes each of them as a keyword; `pygan train` takes them from [train] in its file and from ``--set``, as far
    as a file can hold their values. An object of them is for scripts that change some from run to run:

        from dataclasses import replace

        options = pygan.FitOptions(steps=50_000, batch_size=64, out="runs/1", seed=0)
        again = replace(options, seed=1, out="runs/2")
        pygan.fit(G, D, images, g_optimizer=g_optimizer, d_optimizer=d_optimizer, latent=128, **vars(again))

    Raises:
        TypeError, ValueError: an option that is not as described.
    """

    steps: int
    """Iterations of the whole run, those before a resume included."""
    out: str | os.PathLike[str]
    """Folder for metrics.jsonl, samples-XXXXXXXX.png, reals.png, checkpoints/step-XXXXXXXX.pt and TensorBoard's
    events."""
    batch_size: int | None = None
    """Samples per discriminator step, of all processes together. None: that of the DataLoader; all other data need
    one."""
    lr_schedulers: Sequence[Any] = ()
    """Of torch.optim.lr_scheduler, for `g_optimizer` and `d_optimizer`, stepped after each iteration."""
    mixed_precision: str | None = None
    """"bf16" or "fp16" runs the networks under autocast ("fp16" with a GradScaler, on GPUs only), "no" does not. None:
    what ``accelerate launch`` was told, else "no"."""
    sharded: bool = False
    """Several processes share out parameters, gradients and optimizer states, by torch's fully_shard (FSDP2, on CPUs
    since torch 2.7), in place of keeping a copy each. Checkpoints are whole, and any number of processes continues from
    them. The result's networks are sharded; ``result.trainer.state_dict()``, called in every process, has their
    weights. `evaluate` and `preview` are called in every process."""
    capture: bool = False
    """Replay each iteration as CUDA graphs, as :meth:`pygan.GANTrainer.capture` describes it, which asks for optimizers
    with ``capturable=True``. In one process, and not with ``nonfinite="skip"``. On the CPU there is nothing to capture,
    and steps are as without it."""
    seed: int | None = None
    """Of the order of the data, the latents, the noise made here and the samples, from 0 to 2**64 - 1. None draws one
    from PyTorch's default generator. (The weights are the caller's: ``torch.manual_seed``.)"""
    workers: int = 0
    """Processes that read a Dataset or an IterableDataset; 0 reads in this one. (A DataLoader has its own num_workers.)
    The first item is read in this one in any case: files that
    must not be shared with forked workers (h5py, lmdb) are opened in `__getitem__` by each process."""
    drop_last: bool = True
    """Leave out what remains of an epoch after its whole batches; of a DataLoader too."""
    data_keys: str | Sequence[str] | None = None
    """Where the data are dicts: the key of the samples, or the keys of samples and labels."""
    conditional: bool = True
    """Pass on the labels, where the data have any, to both networks."""
    log_every: int = 50
    """Steps between lines of metrics, which is when the device is waited for."""
    checkpoint_every: int | None = 1000
    """Steps between checkpoints, each before the evaluation of its step; None: only at the end, and at SIGTERM and
    SIGINT."""
    keep: int | None = 3
    """How many checkpoints are kept; None: all."""
    resume: str | os.PathLike[str] | None = None
    """"auto" continues the run in `out` from its newest usable checkpoint, or begins where there is none; a path
    continues from that one. With the same arguments, the result has the same bits as if the run had never been
    interrupted. Without it a folder with checkpoints is refused. Checkpoints whose weights are not finite are not
    usable."""
    init_from: str | os.PathLike[str] | None = None
    """Another run's folder, or one of its checkpoints: the new run begins with its networks, and its average where both
    have one. All else begins anew: optimizers, schedules, noise, the count of steps. Networks that differ in any
    parameter are refused, with the names. A run that is resumed began earlier, and takes nothing."""
    allow_changes: bool = False
    """Resume with settings that are not those of the checkpoint: the new ones are used, and each change is printed.
    Learning rates are then what the new optimizers and `lr_schedulers` would have at that step. False: settings that
    shape the training (those of the optimizers, `lr_schedulers`, batches, data size, seed, loss, noise, penalties,
    average, precision, ...) must be those of the checkpoint."""
    nonfinite: str = "stop"
    """What to do when parameters, optimizer states or the average are found not to be finite, which is looked for at
    each step that is logged or saved; such values are never saved. "stop" raises an error. "skip" leaves out each
    update whose gradients are not finite, which the metrics count as `skipped`: it waits for the device in every update
    (unless there is a GradScaler, which leaves them out itself, uncounted), and stops where that did not help, or where
    100 updates of a network in a row were left out. "rollback" takes weights and optimizers back from the last
    checkpoint, while the count of steps, the data's order, noise and latents go on; when 3 rollbacks between two
    checkpoints have not helped, it stops."""
    sample_every: int | None = 1000
    """Steps between sample grids, of the same latents throughout; None: none. There are more at first: at steps 0, 100,
    200 and 500. They are drawn from the average once it has forgotten the weights that it began with, but for 5 %, and
    from the generator itself before; a line above the grid says which."""
    samples: int = 64
    """Samples in a grid."""
    preview: Callable[[Tensor], Any] | None = None
    """From samples, on the device, to a picture (H, W, C) of uint8, which is written as it is. Default: a grid of
    images (N, C, H, W) or (N, H, W) with values in [-1, 1] and 1 or 3 channels, of those that fit in 4096 x 4096
    pixels, small ones enlarged, and once a grid of real ones; of images with other channels none, which is said, and of
    other data, such as audio (N, C, T), none."""
    evaluate: Callable[[Callable[[int], Tensor]], dict[str, float]] | None = None
    """Called with a function ``n -> samples`` (fresh ones, from the averaged generator if there is one), returns a dict
    of numbers, which go into the metrics. Called in the main process alone."""
    evaluate_every: int | None = 1000
    """Steps between calls of `evaluate`, and one at the end; None: only that."""
    callbacks: Sequence[Callback] = ()
    """A list of :class:`pygan.Callback`, whose methods are called after steps, checkpoints and evaluations."""
    monitor: bool | Callable[[GANTrainer], Any] | SupportsUpdate = True
    """True for a :class:`pygan.Monitor`, False for none; for one with options a callable that is given the trainer,
    like ``partial(pygan.Monitor, noise=...)``; or any object with ``update(stats)`` that returns a list. What it says
    is printed, and goes into the metrics. A Monitor with another `every` or `window` than in the checkpoint (see
    `allow_changes`) collects its readings anew."""
    progress: bool | None = None
    """True: a progress bar; False: none; None: a bar where standard error is a terminal, and where standard output is
    none, or there is no bar, a line there every 10 to 60 seconds. Unless False, the time of a step is told after the
    first ten, for which the device is waited for twice."""
    tensorboard: bool = True
    """Write events for TensorBoard."""
    log_with: str | Sequence[Any] | None = None
    """Trackers of accelerate's that get the metrics besides: "wandb", "mlflow", ..., an
    ``accelerate.tracking.GeneralTracker``, or a list of such. The project is called as the folder `out`; "wandb" and
    "swanlab" get the sample grids too. An accelerator whose ``init_trackers`` has been called needs no `log_with`: its
    trackers get the metrics, and are left open at the end. What a resumed run repeats reaches a tracker twice."""
    config: dict[str, Any] | None = None
    """Kept in the checkpoints: plain data. Two tables of it are read: "data", a dict that describes the data, must be
    that of the checkpoint when a run is resumed (see `allow_changes`), and "classes", a list, names the labels 0, 1,
    ... for :func:`pygan.load_generator`."""
    accelerator: Any = None
    """An ``accelerate.Accelerator`` to use instead of one made here."""

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            kind, none, _ = str(field.type).partition(" | None")
            if none and value is None:
                continue
            or_none = " or None" if none else ""
            if kind == "int":
                _check_int(name, value, 0 if name in ("seed", "workers") else 1, or_none)
            elif kind == "bool" and not isinstance(value, bool):
                raise TypeError(f"pygan.fit: {name} must be a bool{or_none}, got {_kind(value)}")
            elif kind.startswith("Callable") and not callable(value):
                raise TypeError(
                    f"pygan.fit: {name} must be a callable{or_none}, got {_kind(value)}"
                )
        if self.seed is not None and self.seed >= 1 << 64:
            raise ValueError(f"pygan.fit: seed must be below 2**64, got {self.seed}")
        if not isinstance(self.out, (str, os.PathLike)):
            raise TypeError(f"pygan.fit: out must be a path, got {_kind(self.out)}")
        if not isinstance(self.lr_schedulers, Sequence):
            raise TypeError(
                f"pygan.fit: lr_schedulers must be a sequence, got {_kind(self.lr_schedulers)}"
            )
        if self.mixed_precision not in (None, "no", "bf16", "fp16"):
            raise ValueError(
                f"pygan.fit: mixed_precision must be no, bf16, fp16 or None, got {self.mixed_precision!r}"
            )
        if self.capture and self.nonfinite == "skip":
            raise ValueError(
                'pygan.fit: capture must be False with nonfinite="skip", which asks the host in each update, got True'
            )
        if self.nonfinite not in POLICIES:
            raise ValueError(
                f"pygan.fit: nonfinite must be {', '.join(POLICIES[:-1])} or {POLICIES[-1]}, got {self.nonfinite!r}"
            )
        updates = callable(getattr(self.monitor, "update", None))
        if not (isinstance(self.monitor, bool) or callable(self.monitor) or updates):
            raise TypeError(
                "pygan.fit: monitor must be a bool, a callable from the trainer to a monitor, or an object with "
                f"update(stats), got {_kind(self.monitor)}"
            )
        check_callbacks(self.callbacks)
        check_trackers(self.log_with)
        keys = [self.data_keys] if isinstance(self.data_keys, str) else self.data_keys
        if keys is not None and not (
            isinstance(keys, (list, tuple))
            and len(keys) in (1, 2)
            and all(isinstance(key, str) for key in keys)
        ):
            raise TypeError(
                "pygan.fit: data_keys must be a key, or a pair of keys, for samples and labels, or None, got "
                f"{self.data_keys!r}"
            )
        if not (self.config is None or isinstance(self.config, dict)):
            raise TypeError(f"pygan.fit: config must be a dict or None, got {_kind(self.config)}")
        try:
            check_plain(self.config, "config")
        except TypeError as error:
            raise TypeError(f"pygan.fit: config must be plain data: {error}") from None
        if not (self.accelerator is None or hasattr(self.accelerator, "prepare_model")):
            raise TypeError(
                "pygan.fit: accelerator must be an accelerate.Accelerator or None, got "
                f"{_kind(self.accelerator)}"
            )
        if not (self.init_from is None or isinstance(self.init_from, (str, os.PathLike))):
            raise TypeError(
                f"pygan.fit: init_from must be a path or None, got {_kind(self.init_from)}"
            )
        if self.init_from is not None and self.resume not in (None, "auto"):
            raise ValueError(
                "pygan.fit: init_from must be None where resume is a checkpoint, which has networks of its own, got "
                f"{os.fspath(self.init_from)!r}"
            )
        if not (self.resume is None or isinstance(self.resume, (str, os.PathLike))):
            raise TypeError(
                f"pygan.fit: resume must be 'auto', a path or None, got {_kind(self.resume)}"
            )

    @property
    def folder(self) -> Path:
        """`out`."""
        return Path(self.out)


def _check_int(name: str, value: object, least: int, or_none: str) -> None:
    if not is_int(value):
        raise TypeError(f"pygan.fit: {name} must be an int{or_none}, got {_kind(value)}")
    if value < least:
        raise ValueError(f"pygan.fit: {name} must be at least {least}{or_none}, got {value}")


def _kind(value: object) -> str:
    return type(value).__name__
