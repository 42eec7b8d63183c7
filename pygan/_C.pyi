"""The compiled extension: registers torch.ops.pygan.* and tells what it is (csrc/bindings.cpp)."""

from collections.abc import Sequence

import torch
from torch import Tensor

def build_config() -> dict[str, str]:
    """What this extension was built from and for."""

def losses() -> list[tuple[str, int, bool]]:
    """(name, compared: 0 no, 1 paired, 2 with the mean, whether it smooths), by the index in gan_loss."""

def gan_loss(
    logits: list[Tensor],
    roles: list[int],
    loss: int,
    label_smoothing: float,
    weights: Sequence[float],
    reduction: int,
    statistics: bool,
    targets: Sequence[float] = ...,
    detach_means: bool = ...,
    parts: bool = ...,
) -> tuple[Tensor, Tensor]:
    """torch.ops.pygan.gan_loss, called directly."""

def gan_loss_and_grad(
    logits: list[Tensor],
    roles: list[int],
    loss: int,
    label_smoothing: float,
    weights: Sequence[float],
    reduction: int,
    statistics: bool,
    targets: Sequence[float] = ...,
    detach_means: bool = ...,
    parts: bool = ...,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """torch.ops.pygan.gan_loss_and_grad, called directly."""

def instance_noise(
    x: Sequence[Tensor],
    sigma: Tensor | None,
    sigma_value: float,
    scale: Tensor | None,
    state: Tensor,
    offset: Sequence[int],
    scale_value: Sequence[float],
    bias: Sequence[float],
    dtype: torch.dtype | None,
    cat: bool,
    same: bool,
) -> list[Tensor]:
    """torch.ops.pygan.instance_noise, called directly."""

def instance_noise_out(
    x: Sequence[Tensor],
    sigma: Tensor | None,
    sigma_value: float,
    scale: Tensor | None,
    state: Tensor,
    offset: Sequence[int],
    scale_value: Sequence[float],
    bias: Sequence[float],
    cat: bool,
    same: bool,
    *,
    out: Sequence[Tensor],
) -> None:
    """torch.ops.pygan.instance_noise.out, called directly."""

def backward(
    outputs: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    retain_graph: bool = False,
) -> None:
    """torch.autograd.backward(outputs, gradients, retain_graph)."""

def scalars(numbers: Tensor, count: int) -> list[Tensor]:
    """The first elements of a vector, as tensors that share its memory."""

def cpu_capability() -> str:
    """The instruction set whose kernels run: baseline, avx2 or avx512."""

def use_cpu_capability(name: str) -> None:
    """Chooses the kernels of another instruction set, for tests and benchmarks."""

def cpu_kernels(name: str) -> int:
    """Address of an instruction set's table of kernels, 0 where there is none: for the tests that count
    instructions."""

def philox4x32(counter: list[int], key: list[int]) -> list[int]:
    """The generator's four words, for known-answer tests."""
