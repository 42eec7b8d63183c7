"""The keywords of `pygan.fit`, as type checkers see them."""

# Written by tools/fit_keywords.py from FitOptions and GANTrainer.
import os
from collections.abc import Callable, Sequence
from pygan._generator_step import AdversarialWeight, GeneratorTerms
from pygan._penalty_base import Penalty
from pygan._trainer_losses import LossFunctions
from pygan.fake_pool import FakePool
from pygan.modules import InstanceNoise
from pygan.schedules import Schedule
from pygan.trainer import GANTrainer
from pygan.training.callbacks import Callback
from pygan.training.fit_options import SupportsUpdate
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from typing import Any
from typing_extensions import Required, TypedDict

class FitKeywords(TypedDict, total=False):
    steps: Required[int]
    out: Required[str | os.PathLike[str]]
    latent: Required[int | Sequence[int] | Callable[[int], Tensor] | None]
    batch_size: int | None
    lr_schedulers: Sequence[Any]
    mixed_precision: str | None
    sharded: bool
    capture: bool
    seed: int | None
    workers: int
    drop_last: bool
    data_keys: str | Sequence[str] | None
    conditional: bool
    log_every: int
    checkpoint_every: int | None
    keep: int | None
    resume: str | os.PathLike[str] | None
    init_from: str | os.PathLike[str] | None
    allow_changes: bool
    nonfinite: str
    sample_every: int | None
    samples: int
    preview: Callable[[Tensor], Any] | None
    evaluate: Callable[[Callable[[int], Tensor]], dict[str, float]] | None
    evaluate_every: int | None
    callbacks: Sequence[Callback]
    monitor: bool | Callable[[GANTrainer], Any] | SupportsUpdate
    progress: bool | None
    tensorboard: bool
    log_with: str | Sequence[Any] | None
    config: dict[str, Any] | None
    accelerator: Any
    loss: str | LossFunctions
    logits: Callable[[Any], Any] | None
    label_smoothing: float
    weights: float | Sequence[float] | None
    generator_terms: GeneratorTerms | None
    adversarial_weight: AdversarialWeight
    discriminator_start: int
    d_steps: int
    reuse_fakes: bool
    joint: bool
    separate: bool
    pool: FakePool | None
    noise: InstanceNoise | Schedule | float | None
    penalties: Penalty | Sequence[Penalty]
    micro_batches: int
    max_grad_norm: float | None
    ema: float | AveragedModel | None
    generator_inputs: Callable[[Any, Any], tuple[Any, ...]] | None
    discriminator_inputs: Callable[[Tensor, Any], tuple[Any, ...]] | None
    generated: Callable[[Any], Tensor] | None
    augment: Callable[[Tensor], Tensor] | None
