"""The options of `pygan.fit`: the single list of them, checked before anything is built."""

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
from pygan.training.nonfinite_policy import POLICIES
from pygan.training.option_docstrings import with_field_texts
from pygan.training.trackers import check_trackers

__all__ = ["FitOptions", "SupportsUpdate"]


class SupportsUpdate(Protocol):
    """Interface of a replacement for Monitor."""

    def update(self, stats: TrainStats, /) -> Any:
        """A list of messages after a step."""


@with_field_texts
@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """The options of :func:`pygan.fit` itself, in addition to those that it passes to GANTrainer.

    `fit` takes each of them as a keyword; `pygan train` takes those whose values a file can hold from [train] in its
    file and from ``--set``. Use a FitOptions object in scripts that vary some options from run to run:

        from dataclasses import replace

        options = pygan.FitOptions(steps=50_000, batch_size=64, out="runs/1", seed=0)
        again = replace(options, seed=1, out="runs/2")
        pygan.fit(G, D, images, g_optimizer=g_optimizer, d_optimizer=d_optimizer, latent=128, **vars(again))

    Raises:
        TypeError, ValueError: an invalid option.
    """

    steps: int
    """Iterations of the whole run, including those before a resume."""
    out: str | os.PathLike[str]
    """Folder for metrics.jsonl, samples-XXXXXXXX.png, reals.png, checkpoints/step-XXXXXXXX.pt and TensorBoard's
    events."""
    batch_size: int | None = None
    """Samples per discriminator step, in all processes together. None: the DataLoader's batch size; required for other
    data."""
    lr_schedulers: Sequence[Any] = ()
    """Schedulers from torch.optim.lr_scheduler for `g_optimizer` and `d_optimizer`, stepped after each iteration that
    trains the optimizer's network. (With `discriminator_start`, the discriminator's begin then, and make
    ``steps - discriminator_start`` steps.)"""
    mixed_precision: str | None = None
    """"bf16" or "fp16" runs the networks under autocast ("fp16" with a GradScaler, on GPUs only), "no" does not. None:
    the setting of ``accelerate launch``, or "no"."""
    sharded: bool = False
    """Shard parameters, gradients and optimizer states across processes with torch's fully_shard (FSDP2, on CPUs since
    torch 2.7), instead of keeping a copy in each. Checkpoints are unsharded; any number of processes can resume from
    them. The result's networks are sharded; call ``result.trainer.state_dict()`` in every process for their full
    weights. `evaluate` and `preview` are called in every process."""
    capture: bool = False
    """Replay each iteration as CUDA graphs, see :meth:`pygan.GANTrainer.capture`; needs optimizers with
    ``capturable=True`` and a single process, and excludes ``nonfinite="skip"``. On the CPU it has no effect, because
    there is nothing to capture."""
    seed: int | None = None
    """Seed of the data order, the latents, the noise created here and the samples, from 0 to 2**64 - 1. None draws one
    from PyTorch's default generator. (To seed the weights, call ``torch.manual_seed``.)"""
    workers: int = 0
    """Worker processes that read a Dataset or an IterableDataset; 0 reads in this process. (A DataLoader has its own
    num_workers.) The first item is always read in this process: open files that must not be shared with forked workers
    (h5py, lmdb) in `__getitem__`, once per process."""
    drop_last: bool = True
    """Drop the incomplete last batch of each epoch, also with a DataLoader."""
    data_keys: str | Sequence[str] | None = None
    """If the data are dicts: the key of the samples, or the keys of samples and labels."""
    conditional: bool = True
    """Pass the labels, if the data have any, to both networks."""
    log_every: int = 50
    """Steps between lines of metrics; logging synchronizes with the device."""
    checkpoint_every: int | None = 1000
    """Steps between checkpoints, each written before the evaluation of its step; None: only at the end and at SIGTERM
    and SIGINT."""
    keep: int | None = 3
    """Number of checkpoints to keep; None: all."""
    resume: str | os.PathLike[str] | None = None
    """"auto" continues the run in `out` from its newest usable checkpoint, or starts a new run if there is none; a path
    continues from that checkpoint. With the same arguments, the result is bitwise the same as without the
    interruption. Without `resume`, a folder that contains checkpoints is refused. Checkpoints with non-finite weights
    are not usable."""
    init_from: str | os.PathLike[str] | None = None
    """Another run's folder, or one of its checkpoints: the new run starts from its networks, and from its average if
    both have one. Everything else starts fresh: optimizers, schedules, noise, step count. Networks whose parameters
    differ are refused, with their names. Ignored when a run is resumed, because it was applied at the start."""
    allow_changes: bool = False
    """Resume with settings that differ from the checkpoint's: the new ones are used, and each change is printed.
    Learning rates are then those that the new optimizers and `lr_schedulers` would have at that step. False: settings
    that shape the training (optimizers, `lr_schedulers`, batches, data size, seed, loss, noise, penalties,
    average, precision, ...) must match the checkpoint."""
    nonfinite: str = "stop"
    """What to do about non-finite parameters, optimizer states or averages ("stop", "skip" or "rollback"). They are
    checked at each step that is logged or saved, and never saved. "stop" raises an error. "skip" skips each update
    whose gradients are not finite, counted in the metrics as `skipped`. It synchronizes with the device in every update
    (except with a GradScaler, which skips them itself, uncounted), and stops if skipping does not help, or after 100
    skipped updates of a network in a row. "rollback" restores weights and optimizers from the last checkpoint, while
    the step count, the data order, noise and latents continue; it stops after 3 unsuccessful rollbacks between two
    checkpoints."""
    sample_every: int | None = 1000
    """Steps between sample grids, always from the same latents; None: no grids. Additional grids at steps 0, 100, 200
    and 500. Samples come from the average once the initial weights account for less than 5 % of it, and from the
    generator before that; a line above the grid says which."""
    samples: int = 64
    """Number of samples in a grid."""
    preview: Callable[[Tensor], Any] | None = None
    """Function from samples, on the device, to a uint8 picture (H, W, C), which is saved unchanged. Default: a grid of
    images (N, C, H, W) or (N, H, W) with values in [-1, 1] and 1 or 3 channels, as many as fit in 4096 x 4096
    pixels, small ones enlarged, and once a grid of real ones. No grid for images with other channels (with a message),
    or for other data, such as audio (N, C, T)."""
    evaluate: Callable[[Callable[[int], Tensor]], dict[str, float]] | None = None
    """Called with a function ``n -> samples`` (new ones, from the averaged generator if there is one); returns a dict
    of numbers, which are added to the metrics. Called only in the main process."""
    evaluate_every: int | None = 1000
    """Steps between calls of `evaluate`, which is also called at the end; None: only at the end."""
    callbacks: Sequence[Callback] = ()
    """A list of :class:`pygan.Callback`, whose methods are called after steps, checkpoints and evaluations."""
    monitor: bool | Callable[[GANTrainer], Any] | SupportsUpdate = True
    """True for a :class:`pygan.Monitor`, False for none; a callable that gets the trainer, such as
    ``partial(pygan.Monitor, noise=...)``; or any object with ``update(stats)`` that returns a list. Its diagnoses are
    printed and added to the metrics. A Monitor whose `every` or `window` differs from the checkpoint's (see
    `allow_changes`) discards its earlier readings."""
    progress: bool | None = None
    """Show a progress bar. True: always; False: no progress output; None: a bar if standard error is a terminal, and a
    line on standard output every 10 to 60 seconds if that is not a terminal or there is no bar. Unless False, the time
    per step is printed after the first ten steps, which takes two synchronizations with the device."""
    tensorboard: bool = True
    """Write events for TensorBoard."""
    log_with: str | Sequence[Any] | None = None
    """accelerate trackers that also get the metrics: "wandb", "mlflow", ..., an
    ``accelerate.tracking.GeneralTracker``, or a list of these. The project is named after the folder `out`; "wandb" and
    "swanlab" get the sample grids too. If your accelerator's ``init_trackers`` has been called, you need no `log_with`:
    its trackers get the metrics, and stay open at the end. Steps that a resumed run repeats are tracked twice."""
    config: dict[str, Any] | None = None
    """Plain data to store in the checkpoints. Two entries have a meaning: "data", a dict that describes the data, must
    match the checkpoint when a run is resumed (see `allow_changes`), and "classes", a list, names the labels 0, 1,
    ... for :func:`pygan.load_generator`."""
    accelerator: Any = None
    """An ``accelerate.Accelerator`` to use instead of a new one."""

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
            elif kind.startswith("str | os.PathLike") and not isinstance(value, (str, os.PathLike)):
                what = "'auto', a path" if name == "resume" else "a path"
                raise TypeError(f"pygan.fit: {name} must be {what}{or_none}, got {_kind(value)}")
            elif kind.startswith("dict") and not isinstance(value, dict):
                raise TypeError(f"pygan.fit: {name} must be a dict{or_none}, got {_kind(value)}")
        self._check_values()
        self._check_together()

    def _check_values(self) -> None:
        """Check what the types do not say."""
        if self.seed is not None and self.seed >= 1 << 64:
            raise ValueError(f"pygan.fit: seed must be below 2**64, got {self.seed}")
        if not isinstance(self.lr_schedulers, Sequence):
            raise TypeError(
                f"pygan.fit: lr_schedulers must be a sequence, got {_kind(self.lr_schedulers)}"
            )
        if self.mixed_precision not in (None, "no", "bf16", "fp16"):
            raise ValueError(
                f"pygan.fit: mixed_precision must be no, bf16, fp16 or None, got {self.mixed_precision!r}"
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
        try:
            check_plain(self.config, "config")
        except TypeError as error:
            raise TypeError(f"pygan.fit: config must be plain data: {error}") from None
        if not (self.accelerator is None or hasattr(self.accelerator, "prepare_model")):
            raise TypeError(
                "pygan.fit: accelerator must be an accelerate.Accelerator or None, got "
                f"{_kind(self.accelerator)}"
            )

    def _check_together(self) -> None:
        if self.capture and self.nonfinite == "skip":
            raise ValueError(
                'pygan.fit: capture must be False with nonfinite="skip", which synchronizes in each update, got True'
            )
        if self.init_from is not None and self.resume not in (None, "auto"):
            raise ValueError(
                "pygan.fit: init_from must be None if resume is a checkpoint, which has its own networks, got "
                f"{os.fspath(self.init_from)!r}"
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
