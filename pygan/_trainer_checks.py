"""Checks of GANTrainer's arguments: each raises an error that names the argument, and changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from pygan import fused_losses
from pygan._trees import leaves
from pygan._validation import FLOATS, check_bool, check_dense, describe, is_int, is_number, number
from pygan.fake_pool import FakePool
from pygan.modules import InstanceNoise
from pygan.penalties import Penalty
from pygan.schedules import Adaptive, Constant, DiffusionMixture, Schedule

_NAME = "GANTrainer"


def modules(op: str = _NAME, /, **given: nn.Module) -> None:
    for name, module in given.items():
        several = isinstance(module, (list, tuple)) or type(module) is nn.ModuleList
        if several and name == "discriminator":
            raise TypeError(
                f"{op}: discriminator must be a single nn.Module, such as pygan.Discriminators(D1, D2), got "
                f"{type(module).__name__}"
            )
        if not isinstance(module, nn.Module):
            raise TypeError(f"{op}: {name} must be an nn.Module, got {type(module).__name__}")


def latent(value: Any) -> None:
    shape = value if isinstance(value, (tuple, list)) else [value]
    if value is None or callable(value) or (shape and all(is_int(size, 1) for size in shape)):
        return
    raise ValueError(
        f"{_NAME}: latent must be a positive int, a shape, a callable or None, got {value!r}"
    )


def latent_shape(value: int | Sequence[int]) -> tuple[int, ...]:
    """The shape of a single latent."""
    return (value,) if isinstance(value, int) else tuple(value)


def latents(value: Any, n: int) -> Tensor:
    """Checks the latents that a callable returned for a batch of n samples."""
    if isinstance(value, Tensor):
        check_dense(_NAME, f"latent({n})", value)
    if not isinstance(value, Tensor) or value.dim() == 0 or len(value) != n:
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"{_NAME}: latent({n}) must return a tensor whose first dimension is {n}, got {got}"
        )
    return value


def hooks(**given: object) -> None:
    for name, hook in given.items():
        if hook is not None and not callable(hook):
            raise TypeError(
                f"{_NAME}: {name} must be a callable or None, got {type(hook).__name__}"
            )


def loss(value: Any, label_smoothing: float, weights: Any) -> None:
    label_smoothing = number(_NAME, "label_smoothing", label_smoothing)
    if weights is not None and not (is_number(weights) or isinstance(weights, (list, tuple))):
        raise TypeError(
            f"{_NAME}: weights must be a number, a list of numbers, one for each scale, or None, got "
            f"{describe(weights)}"
        )
    if isinstance(weights, (list, tuple)) and not weights:
        raise ValueError(f"{_NAME}: weights must hold a number for each scale, got an empty list")
    if isinstance(value, str) or not all(
        callable(getattr(value, verb, None)) for verb in ("discriminator_loss", "generator_loss")
    ):
        if value not in fused_losses.LOSSES:
            raise ValueError(
                f"{_NAME}: loss must be one of {', '.join(fused_losses.LOSSES)}, or an object with the methods "
                f"discriminator_loss and generator_loss, got {value!r}"
            )
    else:
        if label_smoothing != 0.0:
            raise ValueError(
                f"{_NAME}: label_smoothing must be 0 for a custom loss, got {label_smoothing}"
            )
        if weights is not None:
            raise ValueError(f"{_NAME}: weights must be None for a custom loss, got {weights}")
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"{_NAME}: label_smoothing must be from 0 to 1, got {label_smoothing}")
    if isinstance(value, str):  # the op checks whether the loss supports the labels and weights
        logits: Any = torch.zeros(1)
        if isinstance(weights, (list, tuple)):
            logits = [logits] * len(weights)
        fused_losses.discriminator_loss(
            logits, logits, loss=value, label_smoothing=label_smoothing, weights=weights
        )


def described(loss: object) -> str:
    """A loss for a message."""
    return f'loss="{loss}"' if isinstance(loss, str) else f"the custom loss {describe(loss)}"


def reused(value: Any, d_steps: int, micro_batches: int) -> None:
    """Checks that generated samples can be reused in the generator's step."""
    check_bool(_NAME, "reuse_fakes", value)
    if value and d_steps != 1:
        raise ValueError(
            f"{_NAME}: d_steps must be 1 with reuse_fakes, because the generator's step uses the samples of one "
            f"discriminator step, got {d_steps}"
        )
    if value and micro_batches != 1:
        raise ValueError(
            f"{_NAME}: micro_batches must be 1 with reuse_fakes, which keeps the generator's graph for the whole batch "
            f"during the discriminator's step, got {micro_batches}"
        )


def adversarial(weight: Any, start: int, generator_terms: Any) -> None:
    """Checks the adversarial loss's weight, and that there is another loss before it starts."""
    if isinstance(weight, Tensor):
        if weight.requires_grad:
            raise ValueError(
                f"{_NAME}: adversarial_weight must not require a gradient, because it is not trained, got "
                f"{describe(weight)}"
            )
        if weight.dim() != 0 or not weight.is_floating_point():
            raise ValueError(
                f"{_NAME}: adversarial_weight must be 0-d and floating-point if it is a tensor, got {describe(weight)}"
            )
    elif isinstance(weight, (Adaptive, DiffusionMixture)):
        raise TypeError(
            f"{_NAME}: adversarial_weight must be a schedule that depends on the step count alone, got "
            f"{type(weight).__name__}"
        )
    elif callable(weight):  # a schedule too
        pass
    elif not 0 <= number(_NAME, "adversarial_weight", weight) < float("inf"):
        raise ValueError(
            f"{_NAME}: adversarial_weight must be finite and non-negative, got {weight}"
        )
    if start > 0 and generator_terms is None:
        raise ValueError(
            f"{_NAME}: generator_terms must be given with discriminator_start, because they are the generator's only "
            "loss before it, got None"
        )


def joint_or_separate(
    batch_norms: list[_BatchNorm], loss: Any, penalties: list[Penalty], *, joint: Any, separate: Any
) -> None:
    """Checks that the discriminator can process real and generated samples jointly, or separately."""
    if joint is separate is False:  # the usual case, checked in every step
        return
    for name, value in {"joint": joint, "separate": separate}.items():
        check_bool(_NAME, name, value)
    if joint and separate:
        raise ValueError(f"{_NAME}: separate must be False with joint, got True for both")
    if joint and any(norm.training or norm.running_mean is None for norm in batch_norms):
        raise ValueError(
            f"{_NAME}: joint must be False for a discriminator with BatchNorm, because statistics over real and "
            "generated samples together change the algorithm, got True"
        )
    if not separate:
        return
    if not isinstance(loss, str) or fused_losses.compares(loss):
        raise ValueError(
            f"{_NAME}: separate must be False for a custom loss and for a loss that compares real with generated "
            f"samples, got True with {described(loss)}"
        )
    for penalty in penalties:
        needed = {*penalty.differentiates, penalty.compares or "probe"} - {"probe"}
        reads = penalty.reads
        if not isinstance(reads, (set, frozenset)) or not needed <= reads <= {"real", "fake"}:
            raise ValueError(
                f'{_NAME}: {type(penalty).__name__}.reads must be a set of "real" and "fake", the sides whose logits '
                f"it uses, and include the sides it differentiates or compares, {sorted(needed)}, got {reads!r}"
            )
    both = [type(penalty).__name__ for penalty in penalties if len(penalty.reads) > 1]
    if both:
        raise ValueError(
            f"{_NAME}: separate must be False for penalties on both sides' logits, got True with {', '.join(both)}"
        )


def pool(value: Any, *, is_parallel: bool) -> None:
    if value is None:
        return
    if not isinstance(value, FakePool):
        raise TypeError(f"{_NAME}: pool must be a pygan.FakePool or None, got {describe(value)}")
    if is_parallel:
        raise ValueError(
            f"{_NAME}: pool must be None in distributed training, because the state dict would not hold the other "
            "processes' pools, got a FakePool"
        )


def poolable(verb: str, pool: FakePool | None, n: int, micro_batches: int) -> None:
    """Checks that a batch of n samples fits into the pool."""
    if pool is None:
        return
    size = -(-n // min(n, micro_batches))
    if size > pool.size:
        raise ValueError(
            f"{_NAME}.{verb}: pool must have a size of at least {size}, the number of samples per call, got {pool!r}"
        )


def between(name: str, value: float | None, low: float, high: float) -> None:
    """Checks that the value is None, or a number strictly between the two."""
    if value is None:
        return
    # As a float, because an int beyond float's range still compares as less than infinity.
    if not is_number(value) or not low < number(_NAME, name, value) < high:
        must = "positive and finite" if high == float("inf") else f"between {low:g} and {high:g}"
        raise ValueError(f"{_NAME}: {name} must be a number, {must}, or None, got {value!r}")


def average(value: Any) -> None:
    """Checks a decay, or the average itself."""
    if isinstance(value, AveragedModel):
        return
    if isinstance(value, nn.Module):
        raise TypeError(
            f"{_NAME}: ema must be a number, an AveragedModel or None, got {type(value).__name__}"
        )
    between("ema", value, 0.0, 1.0)


def average_of(value: AveragedModel, parameters: list[nn.Parameter]) -> None:
    """Checks that the average fits the generator's parameters."""
    own, theirs = ([x.shape for x in given] for given in (value.module.parameters(), parameters))
    if own != theirs:
        raise ValueError(
            f"{_NAME}: ema must be an average of the generator, got one whose parameters have other shapes"
        )


def seed(value: int | None) -> None:
    if value is not None and not (is_int(value, 0) and value < 1 << 64):
        raise ValueError(
            f"{_NAME}: seed must be an int from 0 to 2**64 - 1, or None, got {value!r}"
        )


def scaler(value: Any) -> None:
    if value is not None and not isinstance(value, torch.amp.GradScaler):
        raise TypeError(
            f"{_NAME}: scaler must be a torch.amp.GradScaler or None, got {describe(value)}"
        )


def penalties(value: Penalty | Sequence[Penalty]) -> list[Penalty]:
    given = [value] if isinstance(value, Penalty) else value
    if not isinstance(given, (list, tuple)) or not all(isinstance(p, Penalty) for p in given):
        raise TypeError(
            f"{_NAME}: penalties must be a pygan.penalties penalty of the discriminator or a sequence of them, got "
            f"{value!r}"
        )
    return list(given)


def noise(value: Any, seed: int | None, device: torch.device) -> InstanceNoise | None:
    """The noise module: itself, or one for a schedule or a standard deviation."""
    if value is None or isinstance(value, InstanceNoise):
        return value
    if is_number(value):
        value = Constant(value)
    if not isinstance(value, Schedule):
        raise TypeError(
            f"{_NAME}: noise must be a pygan.InstanceNoise, a schedule, a number or None, "
            f"got {type(value).__name__}"
        )
    return InstanceNoise(value, seed=seed).to(device)


def optimizer(
    name: str,
    value: Optimizer,
    network: str,
    own: list[nn.Parameter],
    others: list[nn.Parameter],
) -> None:
    if not isinstance(value, Optimizer):
        raise TypeError(
            f"{_NAME}: {name} must be a torch.optim.Optimizer, got {type(value).__name__}"
        )
    held = {id(p) for group in value.param_groups for p in group["params"]}
    trainable = [p for p in own if p.requires_grad]
    missing = sum(id(p) not in held for p in trainable)
    if missing:
        raise ValueError(
            f"{_NAME}: {name} must hold all trainable parameters of the {network}, "
            f"got an optimizer without {missing} of {len(trainable)}"
        )
    foreign = sum(id(p) in held for p in others)
    if foreign:
        raise ValueError(
            f"{_NAME}: {name} must hold parameters of the {network} only, got {foreign} of the other network's"
        )


def batch(verb: str, name: str, value: Tensor) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{_NAME}.{verb}: {name} must be a tensor, got {type(value).__name__}")
    check_dense(f"{_NAME}.{verb}", name, value)
    if value.dim() == 0 or value.numel() == 0:
        raise ValueError(
            f"{_NAME}.{verb}: {name} must be a non-empty batch (N, ...), got shape {tuple(value.shape)}"
        )


def convertible(
    verb: str, real: Tensor, noise: Any, penalties: list[Penalty], augment: Any
) -> None:
    """Checks that integer images are converted before noise or a penalty sees them: generated samples are
    floating-point and have another range. A gradient with respect to 8-bit floating-point numbers would have their
    precision."""
    if real.dtype in FLOATS:
        return
    before = [p for p in penalties if "real" in p.differentiates]
    after = penalties or noise is not None
    if before or (after and augment is None):
        cause = "penalties" if penalties else "noise"
        raise TypeError(
            f"{_NAME}.{verb}: real must be float32, float64, float16 or bfloat16, in the generated samples' range, for "
            f"{cause}, got {real.dtype}; convert it first, for example to [-1, 1] with real / 127.5 - 1"
        )


def synchronizing(verb: str, name: str, value: Optimizer) -> None:
    """Checks that the optimizer is not one of accelerate's within ``accumulate``, which skips steps."""
    if not getattr(getattr(value, "gradient_state", None), "sync_gradients", True):
        raise RuntimeError(
            f"{_NAME}.{verb}: {name} must not skip steps, got one within accelerator.accumulate, where it skips "
            "all but the last; use GANTrainer(micro_batches=) to accumulate gradients"
        )


def per_sample(verb: str, name: str, value: Tensor | None, n: int) -> None:
    """Checks that the value is None, or a tensor with a row for each of the n samples."""
    if value is None:
        return
    if not isinstance(value, Tensor):
        raise TypeError(f"{_NAME}.{verb}: {name} must be a tensor, got {type(value).__name__}")
    check_dense(f"{_NAME}.{verb}", name, value)
    if value.dim() == 0 or len(value) != n:
        raise ValueError(
            f"{_NAME}.{verb}: {name} must have a first dimension of {n}, like the samples, got shape "
            f"{tuple(value.shape)}"
        )


def labels(verb: str, value: Any, n: int) -> None:
    """Checks that the value is None, a tensor, or a nested tuple or dict of tensors, with a row for each sample."""
    if isinstance(value, list):
        raise TypeError(
            f"{_NAME}.{verb}: labels must be a tensor, or a tuple or dict of tensors, got {describe(value)} (use a "
            "list for the labels of several batches, if real is a list)"
        )
    for leaf in leaves(value):
        per_sample(verb, "labels", leaf, n)


def penalty_values(saved: list[Tensor]) -> None:
    """Checks the penalties' latest values in a state dict."""
    if not all(isinstance(value, Tensor) and value.dim() == 0 for value in saved):
        raise TypeError(f"{_NAME}.load_state_dict: penalties must be 0-d tensors, got {saved!r}")
