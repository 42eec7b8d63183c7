"""What GANTrainer asks of its arguments: each check raises an error that names the argument, and changes nothing."""

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
from pygan._validation import check_bool, describe, is_int, is_number, number
from pygan.fake_pool import FakePool
from pygan.modules import InstanceNoise
from pygan.penalties import Penalty
from pygan.schedules import Adaptive, Constant, DiffusionMixture, Schedule

_NAME = "GANTrainer"


def modules(**given: nn.Module) -> None:
    for name, module in given.items():
        if not isinstance(module, nn.Module):
            raise TypeError(f"{_NAME}: {name} must be an nn.Module, got {type(module).__name__}")


def latent(value: Any) -> None:
    shape = value if isinstance(value, (tuple, list)) else [value]
    if value is None or callable(value) or (shape and all(is_int(size, 1) for size in shape)):
        return
    raise ValueError(
        f"{_NAME}: latent must be a positive int, a shape of such, a callable or None, got {value!r}"
    )


def latent_shape(value: int | Sequence[int]) -> tuple[int, ...]:
    """Of a single latent."""
    return (value,) if isinstance(value, int) else tuple(value)


def latents(value: Any, n: int) -> Tensor:
    """What a callable returned for the n samples of a batch."""
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
    if weights is not None and not isinstance(weights, (int, float, list, tuple)):
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
                f"{_NAME}: label_smoothing must be 0 for a loss of one's own, got {label_smoothing}"
            )
        if weights is not None:
            raise ValueError(
                f"{_NAME}: weights must be None for a loss of one's own, got {weights}"
            )
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"{_NAME}: label_smoothing must be from 0 to 1, got {label_smoothing}")
    if isinstance(value, str):  # whether the loss has such labels and weights at all, the op says
        logits: Any = torch.zeros(1)
        if isinstance(weights, (list, tuple)):
            logits = [logits] * len(weights)
        fused_losses.discriminator_loss(
            logits, logits, loss=value, label_smoothing=label_smoothing, weights=weights
        )


def reused(value: Any, d_steps: int, micro_batches: int) -> None:
    """That generated samples can be used again for the generator's step."""
    check_bool(_NAME, "reuse_fakes", value)
    if value and d_steps != 1:
        raise ValueError(
            f"{_NAME}: d_steps must be 1 with reuse_fakes, because the generator's step judges the samples of one "
            f"discriminator step, got {d_steps}"
        )
    if value and micro_batches != 1:
        raise ValueError(
            f"{_NAME}: micro_batches must be 1 with reuse_fakes, which keeps what the generator's backward pass needs "
            f"during the discriminator's step, of all parts, got {micro_batches}"
        )


def adversarial(weight: Any, start: int, generator_terms: Any) -> None:
    """The weight of the adversarial loss, and whether there is another one before it starts."""
    if isinstance(weight, Tensor):
        if weight.requires_grad:
            raise ValueError(
                f"{_NAME}: adversarial_weight must not require a gradient, which it would not get, got "
                f"{describe(weight)}"
            )
        if weight.dim() != 0 or not weight.is_floating_point():
            raise ValueError(
                f"{_NAME}: adversarial_weight must be a 0-d floating tensor, if a tensor, got {describe(weight)}"
            )
    elif isinstance(weight, (Adaptive, DiffusionMixture)):
        raise TypeError(
            f"{_NAME}: adversarial_weight must be a schedule that follows the number of steps, got "
            f"{type(weight).__name__}"
        )
    elif callable(weight):  # a schedule too
        pass
    elif not 0 <= number(_NAME, "adversarial_weight", weight) < float("inf"):
        raise ValueError(
            f"{_NAME}: adversarial_weight must be finite and not negative, got {weight}"
        )
    if start > 0 and generator_terms is None:
        raise ValueError(
            f"{_NAME}: generator_terms must be given with discriminator_start, before which the generator learns from "
            "them alone, got None"
        )


def judging(
    batch_norms: list[_BatchNorm], loss: Any, penalties: list[Penalty], *, joint: Any, separate: Any
) -> None:
    """That the discriminator can judge real and generated samples in one batch, or each by itself."""
    for name, value in {"joint": joint, "separate": separate}.items():
        check_bool(_NAME, name, value)
    if joint and separate:
        raise ValueError(f"{_NAME}: separate must be False with joint, got True for both")
    if joint and any(norm.training or norm.running_mean is None for norm in batch_norms):
        raise ValueError(
            f"{_NAME}: joint must be False for a discriminator with BatchNorm, whose statistics of real and generated "
            "samples together are another algorithm, got True"
        )
    if not separate:
        return
    if not isinstance(loss, str) or fused_losses.compares(loss):
        raise ValueError(
            f"{_NAME}: separate must be False for a loss that compares real with generated samples, or is your own, "
            f"got True with {loss!r}"
        )
    for penalty in penalties:
        needed = {*penalty.differentiates, penalty.compares or "probe"} - {"probe"}
        reads = penalty.reads
        if not isinstance(reads, (set, frozenset)) or not needed <= reads <= {"real", "fake"}:
            raise ValueError(
                f'{_NAME}: {type(penalty).__name__}.reads must be a set of the sides whose logits it looks at, "real" '
                f'or "fake", with all that it differentiates or compares, {sorted(needed)}, got {reads!r}'
            )
    both = [type(penalty).__name__ for penalty in penalties if len(penalty.reads) > 1]
    if both:
        raise ValueError(
            f"{_NAME}: separate must be False for penalties of both sides' logits, got True with {', '.join(both)}"
        )


def pool(value: Any, *, is_parallel: bool) -> None:
    if value is None:
        return
    if not isinstance(value, FakePool):
        raise TypeError(f"{_NAME}: pool must be a pygan.FakePool or None, got {describe(value)}")
    if is_parallel:
        raise ValueError(
            f"{_NAME}: pool must be None where several processes train, each of which would have samples of its own "
            "that no state dict holds, got a FakePool"
        )


def poolable(verb: str, pool: FakePool | None, n: int, micro_batches: int) -> None:
    """That the pool takes the samples of a batch of n."""
    size = -(-n // min(n, micro_batches))
    if pool is not None and size > pool.size:
        raise ValueError(
            f"{_NAME}.{verb}: pool must have a size of at least {size}, the samples that come at once, got {pool!r}"
        )


def between(name: str, value: float | None, low: float, high: float) -> None:
    """None, or a number that lies between the two, neither of which it may be."""
    if value is None:
        return
    # As a float: an int beyond its range would not be less than infinity there.
    if not is_number(value) or not low < number(_NAME, name, value) < high:
        must = "positive and finite" if high == float("inf") else f"between {low:g} and {high:g}"
        raise ValueError(f"{_NAME}: {name} must be a number, {must}, or None, got {value!r}")


def average(value: Any) -> None:
    """A decay, or the average itself."""
    if isinstance(value, AveragedModel):
        return
    if isinstance(value, nn.Module):
        raise TypeError(
            f"{_NAME}: ema must be a number, an AveragedModel or None, got {type(value).__name__}"
        )
    between("ema", value, 0.0, 1.0)


def average_of(value: AveragedModel, parameters: list[nn.Parameter]) -> None:
    """That it can average them."""
    own, theirs = ([x.shape for x in given] for given in (value.module.parameters(), parameters))
    if own != theirs:
        raise ValueError(
            f"{_NAME}: ema must be an average of the generator, whose parameters have other shapes, got one of another "
            "network"
        )


def seed(value: int | None) -> None:
    if value is not None and not (is_int(value, 0) and value < 1 << 64):
        raise ValueError(
            f"{_NAME}: seed must be an int from 0 to 2**64 - 1, or None, got {value!r}"
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
    if value.dim() == 0 or value.numel() == 0:
        raise ValueError(
            f"{_NAME}.{verb}: {name} must be a batch (N, ...) that is not empty, got shape {tuple(value.shape)}"
        )


def convertible(
    verb: str, real: Tensor, noise: Any, penalties: list[Penalty], augment: Any
) -> None:
    """That a batch of integers, as images are stored, is converted before it meets noise or a penalty: the generated
    samples are floating, and would be of another range."""
    if real.is_floating_point():
        return
    before = [p for p in penalties if "real" in p.differentiates]
    after = penalties or noise is not None
    if before or (after and augment is None):
        cause = "penalties" if penalties else "noise"
        raise TypeError(
            f"{_NAME}.{verb}: real must be floating, in the generated samples' range, for {cause}, got "
            f"{real.dtype}; convert it first, as real / 127.5 - 1 does to [-1, 1]"
        )


def synchronizing(verb: str, name: str, value: Optimizer) -> None:
    """That the optimizer is not one of accelerate's within ``accumulate``, whose steps do nothing but in the last
    batch."""
    if not getattr(getattr(value, "gradient_state", None), "sync_gradients", True):
        raise RuntimeError(
            f"{_NAME}.{verb}: {name} must make its steps, got one within accelerator.accumulate, where it leaves "
            "out all but the last; use GANTrainer(micro_batches=) to accumulate gradients"
        )


def per_sample(verb: str, name: str, value: Tensor | None, n: int) -> None:
    """None, or a tensor with a row for each of the n samples."""
    if value is None:
        return
    if not isinstance(value, Tensor):
        raise TypeError(f"{_NAME}.{verb}: {name} must be a tensor, got {type(value).__name__}")
    if value.dim() == 0 or len(value) != n:
        raise ValueError(
            f"{_NAME}.{verb}: {name} must have the {n} samples' first dimension, got shape {tuple(value.shape)}"
        )


def labels(verb: str, value: Any, n: int) -> None:
    """None, or a tensor, or a tuple or dict of such, nested, with a row for each of the n samples."""
    if isinstance(value, list):
        raise TypeError(
            f"{_NAME}.{verb}: labels must be a tensor, or a tuple or dict of tensors, got {describe(value)} (a list "
            "has the labels of each batch of a list real)"
        )
    for leaf in leaves(value):
        per_sample(verb, "labels", leaf, n)


def penalty_values(saved: list[Tensor]) -> None:
    """Of a state dict: the penalties as they were last computed."""
    if not all(isinstance(value, Tensor) and value.dim() == 0 for value in saved):
        raise TypeError(f"{_NAME}.load_state_dict: penalties must be 0-d tensors, got {saved!r}")
