"""What GANTrainer asks of what the networks return: each check raises an error that names the cure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from pygan._trees import mapped
from pygan._validation import describe, is_int

_NAME = "GANTrainer"
# Ops, as autograd names them, that leave values between 0 and 1 there.
_KEEPS_RANGE = (
    *("View", "UnsafeView", "Reshape", "Squeeze", "Unsqueeze", "ToCopy", "Mean", "Clone"),
    *("SelectBackward", "SliceBackward", "AliasBackward", "Transpose", "TBackward", "Permute"),
    "Expand",
)


def samples(output: Any, pick: Callable[[Any], Tensor] | None, n: int) -> Tensor:
    """The samples in what the generator returned for n latents, or labels."""
    value = output if pick is None else pick(output)
    who = "generator" if pick is None else "generated"
    if not isinstance(value, Tensor):
        cure = "" if pick else "; pass generated=, a callable that picks them"
        raise TypeError(
            f"{_NAME}: {who} must return the samples, a tensor, got {describe(value)}{cure}"
        )
    if value.dim() == 0 or len(value) != n:
        raise ValueError(
            f"{_NAME}: {who} must return one sample for each of the batch's {n}, got shape {tuple(value.shape)}"
        )
    return value


def arguments(name: str, value: Any) -> Any:
    """The positional arguments of a network, as a function of the user's own returned them."""
    if not isinstance(value, (tuple, list)):  # a tensor would be taken apart into its samples
        raise TypeError(
            f"{_NAME}: {name} must return a tuple of the network's arguments, such as (x,), got {describe(value)}"
        )
    return value


def halves(output: Any, n: int) -> tuple[Any, Any]:
    """What the discriminator returned for n real and n generated samples in one batch, for each kind."""

    def half(x: Any, first: int) -> Any:
        if isinstance(x, (int, float, str)):
            return x
        if not isinstance(x, Tensor):  # in which there may be tensors of both kinds
            raise TypeError(
                f"{_NAME}: discriminator must return a tensor, or tuples, lists and dicts of such, to judge real and "
                f"generated samples jointly, got {describe(x)}; pass joint=False"
            )
        if x.shape[:1] != (2 * n,):
            raise ValueError(
                f"{_NAME}: discriminator must return tensors whose first dimension is the batch's, {2 * n}, to judge "
                f"real and generated samples jointly, got shape {tuple(x.shape)}; pass joint=False"
            )
        return x[first : first + n]

    return mapped(lambda x: half(x, 0), output), mapped(lambda x: half(x, n), output)


def logits(
    output: Any, pick: Callable[[Any], Any] | None, n: int, *, compared: bool
) -> Tensor | list[Tensor]:
    """The logits in what the discriminator returned for n samples. Those that `pick` returned need not be one for each
    sample, unless a penalty compares them sample by sample."""
    found = output if pick is None else pick(output)
    listed = (
        isinstance(found, list) and len(found) > 0 and all(isinstance(x, Tensor) for x in found)
    )
    who = "discriminator" if pick is None else "logits"
    cure = (
        ""
        if pick
        else "; pass logits=, a callable that picks them, such as lambda output: output[0]"
    )
    packs = (
        "" if pick else " (lambda output: output if one logit is of several samples, as PacGAN's)"
    )
    if not isinstance(found, Tensor) and not listed:
        raise TypeError(
            f"{_NAME}: {who} must return logits, a tensor or a list of tensors (one per scale), got "
            f"{describe(found)}{cure}"
        )
    if pick is not None and not compared:
        return found
    where = ", where a penalty has sigma" if pick else ""
    for x in [found] if isinstance(found, Tensor) else found:
        # squeeze() leaves no dimension of a batch of one.
        if x.shape[:1] != (n,) and not (n == 1 and x.dim() == 0):
            raise ValueError(
                f"{_NAME}: {who} must return logits whose first dimension is the batch's, {n}{where}, got shape "
                f"{tuple(x.shape)}{cure}{packs}"
            )
    return found


def augmented(
    augment: Callable[[Tensor], Any], samples: Tensor, noise: Any, penalties: Sequence[Any]
) -> Tensor:
    """What `augment` makes of real or generated samples."""
    # Of inference tensors torch does not count the changes.
    version = None if samples.is_inference() else samples._version
    value = augment(samples)
    if version is not None and samples._version != version:
        raise ValueError(
            f"{_NAME}: augment must leave the samples as they are, got one that changes them in place; begin it with "
            "samples.clone()"
        )
    if not isinstance(value, Tensor):
        raise TypeError(f"{_NAME}: augment must return a tensor, got {describe(value)}")
    if (penalties or noise is not None) and not value.is_floating_point():
        raise TypeError(
            f"{_NAME}: augment must return floating samples for noise and penalties, got {value.dtype}"
        )
    return value


def inputs(real: Tensor, fake: Tensor, *, joint: bool) -> None:
    """That images of both kinds reach the discriminator alike. (Other data may vary in size.)"""
    if joint and real.is_floating_point() != fake.is_floating_point():
        raise TypeError(
            f"{_NAME}: real must be {fake.dtype} like the generated samples, to be judged in one batch with them, got "
            f"{real.dtype}"
        )
    if (joint or real.dim() == fake.dim() == 4) and real.shape[1:] != fake.shape[1:]:
        raise ValueError(
            f"{_NAME}: generator must return samples of the real ones' shape {tuple(real.shape[1:])}, got "
            f"{tuple(fake.shape[1:])}"
        )


def end_in_sigmoid(logits: Any, discriminator: nn.Module) -> bool:
    """Whether logits that have a graph are probabilities: what a sigmoid returned, perhaps reshaped, indexed or
    averaged."""
    for x in [logits] if isinstance(logits, Tensor) else logits:
        node = x.grad_fn
        while node is not None and node.name().startswith(_KEEPS_RANGE):
            node = node.next_functions[0][0]
        name = "" if node is None else node.name()
        if name.startswith("CompiledFunction"):  # which hides its ops
            return isinstance(list(discriminator.modules())[-1], nn.Sigmoid)
        if not name.startswith("SigmoidBackward"):
            return False
    return True


def latent_error(
    error: RuntimeError | ValueError, generator: nn.Module, latent: Any, n: int
) -> RuntimeError | ValueError:
    """What to raise for a generator's error: where flat latents met a convolution, or a norm before one, one that says
    so."""
    convolution = next((m for m in generator.modules() if isinstance(m, _ConvNd)), None)
    flat = f"{n}, {latent}]" in str(error) or "got 2D input" in str(error)
    if convolution is None or not is_int(latent, 1) or not flat:
        return error
    shape = (latent, *[1] * len(convolution.kernel_size))
    return ValueError(
        f"{_NAME}: latent must be a shape such as {shape} for a generator that begins with a "
        f"{type(convolution).__name__}, got {latent} ({error})"
    )
