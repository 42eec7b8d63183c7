"""The losses as modules, like ``nn.BCEWithLogitsLoss`` for its function.

    d_criterion = pygan.DiscriminatorLoss("hinge", return_stats=True)
    d_loss, stats = d_criterion(D(real), D(fake.detach()))

The constructors are overloaded, so that an editor knows what a call returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, overload

import torch
from torch import Tensor, nn
from typing_extensions import TypedDict, TypeVar, Unpack  # torch requires it

from pygan._compile import not_scriptable
from pygan._loss_results import Logits, LossParts, LossStats
from pygan._validation import describe
from pygan.fused_losses import compares, discriminator_loss, generator_loss

__all__ = ["DiscriminatorLoss", "GeneratorLoss"]

Reduced: TypeAlias = Literal["mean", "sum"]
Weights: TypeAlias = float | Sequence[float] | None
# What a call returns; it depends on the constructor's options.
Result = TypeVar("Result", default=Tensor)

# The others are None.
_DEFAULTS = {
    "label_smoothing": 0.0,
    "reduction": "mean",
    "detach_means": False,
    "return_stats": False,
    "return_parts": False,
}


class _DiscriminatorOptions(TypedDict, total=False):
    label_smoothing: float
    real_target: float | None
    fake_target: float | None
    weights: Weights
    detach_means: bool


class _GeneratorOptions(TypedDict, total=False):
    target: float | None
    weights: Weights


class LossModule(nn.Module, Generic[Result]):
    """Holds the options that differ from their defaults, with which the function is called."""

    def __init__(self, loss: str, **options: Any) -> None:
        super().__init__()
        for name, value in options.items():
            if isinstance(value, Tensor):
                raise TypeError(
                    f"pygan.{type(self).__name__}: {name} must not be a tensor, got {describe(value)}; only the "
                    "functions of pygan.fused_losses take tensor weights"
                )
        given = {name: x for name, x in options.items() if repr(x) != repr(_DEFAULTS.get(name))}
        self._options: dict[str, Any] = {"loss": loss, **given}

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self._options.items())

    def __prepare_scriptable__(self) -> None:
        not_scriptable(f"pygan.{type(self).__name__}")


class DiscriminatorLoss(LossModule[Result]):
    """:func:`pygan.fused_losses.discriminator_loss` with its options.

        criterion = pygan.DiscriminatorLoss("least_squares", weights=2)
        criterion(D(real), D(fake.detach())).backward()

    Args:
        loss: one of ``pygan.fused_losses.LOSSES``.
        label_smoothing, real_target, fake_target, reduction, weights, detach_means, return_stats, return_parts: as for
            the function, except that weights must be numbers: only the function takes a tensor.

    Shape: (real_logits, fake_logits), tensors or lists of them, to a 0-d tensor, or to what the function returns for
    ``reduction="none"``, `return_stats` and `return_parts`.

    Raises:
        TypeError, ValueError: as for the function: invalid options raise when the module is constructed, invalid logits
            when it is called.
    """

    @overload
    def __init__(
        self: DiscriminatorLoss[Tensor],
        loss: str = ...,
        *,
        reduction: Reduced = ...,
        return_stats: Literal[False] = ...,
        return_parts: Literal[False] = ...,
        **options: Unpack[_DiscriminatorOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: DiscriminatorLoss[tuple[Tensor, LossStats]],
        loss: str = ...,
        *,
        reduction: Reduced = ...,
        return_stats: Literal[True],
        return_parts: Literal[False] = ...,
        **options: Unpack[_DiscriminatorOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: DiscriminatorLoss[tuple[Tensor, LossParts]],
        loss: str = ...,
        *,
        reduction: Reduced = ...,
        return_stats: Literal[False] = ...,
        return_parts: Literal[True],
        **options: Unpack[_DiscriminatorOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: DiscriminatorLoss[tuple[Tensor, LossStats, LossParts]],
        loss: str = ...,
        *,
        reduction: Reduced = ...,
        return_stats: Literal[True],
        return_parts: Literal[True],
        **options: Unpack[_DiscriminatorOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: DiscriminatorLoss[Any],
        loss: str = ...,
        *,
        reduction: str = ...,
        return_stats: bool = ...,
        return_parts: bool = ...,
        **options: Unpack[_DiscriminatorOptions],
    ) -> None: ...
    def __init__(
        self,
        loss: str = "non_saturating",
        *,
        label_smoothing: float = 0.0,
        real_target: float | None = None,
        fake_target: float | None = None,
        reduction: str = "mean",
        weights: float | Sequence[float] | None = None,
        detach_means: bool = False,
        return_stats: bool = False,
        return_parts: bool = False,
    ) -> None:
        super().__init__(
            loss,
            label_smoothing=label_smoothing,
            real_target=real_target,
            fake_target=fake_target,
            reduction=reduction,
            weights=weights,
            detach_means=detach_means,
            return_stats=return_stats,
            return_parts=return_parts,
        )
        self.forward(zeros(weights), zeros(weights))

    def forward(self, real_logits: Logits, fake_logits: Logits) -> Result:
        return discriminator_loss(real_logits, fake_logits, **self._options)

    if TYPE_CHECKING:
        __call__ = forward


class GeneratorLoss(LossModule[Result]):
    """:func:`pygan.fused_losses.generator_loss` with its options.

        criterion = pygan.GeneratorLoss("hinge")
        criterion(D(fake)).backward()

    Args:
        loss: one of ``pygan.fused_losses.LOSSES``. Losses that compare real with fake logits need both:
            ``criterion(fake_logits, real_logits=real_logits)``.
        target, reduction, weights, return_stats, return_parts: as for the function, except that weights must be
            numbers.

    Shape: tensors or lists of them to a 0-d tensor, or to what the function returns for ``reduction="none"``,
    `return_stats` and `return_parts`.

    Raises:
        TypeError, ValueError: as for the function: invalid options raise when the module is constructed, invalid logits
            when it is called.
    """

    @overload
    def __init__(
        self: GeneratorLoss[Tensor],
        loss: str = ...,
        *,
        reduction: Reduced = ...,
        return_stats: Literal[False] = ...,
        return_parts: Literal[False] = ...,
        **options: Unpack[_GeneratorOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: GeneratorLoss[tuple[Tensor, LossStats]],
        loss: str = ...,
        *,
        reduction: Reduced = ...,
        return_stats: Literal[True],
        return_parts: Literal[False] = ...,
        **options: Unpack[_GeneratorOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: GeneratorLoss[tuple[Tensor, LossParts]],
        loss: str = ...,
        *,
        reduction: Reduced = ...,
        return_stats: Literal[False] = ...,
        return_parts: Literal[True],
        **options: Unpack[_GeneratorOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: GeneratorLoss[tuple[Tensor, LossStats, LossParts]],
        loss: str = ...,
        *,
        reduction: Reduced = ...,
        return_stats: Literal[True],
        return_parts: Literal[True],
        **options: Unpack[_GeneratorOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: GeneratorLoss[Any],
        loss: str = ...,
        *,
        reduction: str = ...,
        return_stats: bool = ...,
        return_parts: bool = ...,
        **options: Unpack[_GeneratorOptions],
    ) -> None: ...
    def __init__(
        self,
        loss: str = "non_saturating",
        *,
        target: float | None = None,
        reduction: str = "mean",
        weights: float | Sequence[float] | None = None,
        return_stats: bool = False,
        return_parts: bool = False,
    ) -> None:
        super().__init__(
            loss,
            target=target,
            reduction=reduction,
            weights=weights,
            return_stats=return_stats,
            return_parts=return_parts,
        )
        self.forward(zeros(weights), real_logits=zeros(weights) if compares(loss) else None)

    def forward(self, fake_logits: Logits, *, real_logits: Logits | None = None) -> Result:
        return generator_loss(fake_logits, real_logits=real_logits, **self._options)

    if TYPE_CHECKING:
        __call__ = forward


def zeros(weights: Any) -> Any:
    """Logits for checking a function's options: one scale per weight."""
    zero = torch.zeros(1, device="cpu", dtype=torch.float32)
    return [zero] * len(weights) if isinstance(weights, (list, tuple)) else zero
