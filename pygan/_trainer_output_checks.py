"""Checks of the networks' outputs in GANTrainer: each raises an error that says how to fix it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from pygan._trees import leaves, mapped
from pygan._validation import FLOATS, check_dense, describe, is_int

_NAME = "GANTrainer"
# Ops, by autograd's names, that keep values between 0 and 1.
_KEEPS_RANGE = (
    *("View", "UnsafeView", "Reshape", "Squeeze", "Unsqueeze", "ToCopy", "Mean", "Clone"),
    *("SelectBackward", "SliceBackward", "AliasBackward", "Transpose", "TBackward", "Permute"),
    "Expand",
)


def samples(output: Any, pick: Callable[[Any], Tensor] | None, n: int) -> Tensor:
    """The samples in the generator's output for n latents or labels."""
    value = output if pick is None else pick(output)
    who = "generator" if pick is None else "generated"
    if not isinstance(value, Tensor):
        cure = "" if pick else "; pass generated=, a callable that selects them"
        raise TypeError(
            f"{_NAME}: {who} must return the samples, a tensor, got {describe(value)}{cure}"
        )
    check_dense(_NAME, f"{who}'s samples", value)
    if value.dim() == 0 or value.shape[0] != n:
        raise ValueError(
            f"{_NAME}: {who} must return one sample for each of the batch's {n}, got shape {tuple(value.shape)}"
        )
    return value


def arguments(name: str, value: Any) -> Any:
    """Checks the positional arguments of a network that a user's function returned."""
    if not isinstance(value, (tuple, list)):  # a tensor would be unpacked into its samples
        raise TypeError(
            f"{_NAME}: {name} must return a tuple of the network's arguments, such as (x,), got {describe(value)}"
        )
    return value


def halves(output: Any, n: int) -> tuple[Any, Any]:
    """Splits the discriminator's output for n real and n generated samples in one batch."""
    generated = []

    def real_half(x: Any) -> Any:
        real = fake = x
        if isinstance(x, Tensor):
            if x.shape[:1] != (2 * n,):
                raise ValueError(
                    f"{_NAME}: discriminator must return tensors whose first dimension is the batch's, {2 * n}, with "
                    f"joint=True, got shape {tuple(x.shape)}; pass joint=False"
                )
            # Views that a custom loss may change in place, unlike those of `split`, and whose changes autograd detects
            # if the discriminator's backward pass needs the values, unlike those of the outputs of `unsafe_split`.
            real, fake = x[:n], x[n:]
        elif not isinstance(x, (int, float, str)):  # an object that may contain tensors of both
            raise TypeError(
                f"{_NAME}: discriminator must return a tensor, or tuples, lists and dicts of tensors, with joint=True, "
                f"got {describe(x)}; pass joint=False"
            )
        generated.append(fake)
        return real

    real = mapped(real_half, output)
    others = iter(generated)
    return real, mapped(lambda _: next(others), output)


def logits(
    output: Any, pick: Callable[[Any], Any] | None, n: int, *, by_sample: bool
) -> Tensor | list[Tensor]:
    """The logits in the discriminator's output for n samples. `by_sample`: they must have one row per sample."""
    found = output if pick is None else pick(output)
    who, cure, packs, where = "logits", "", "", ", if a penalty has sigma"
    if pick is None:
        who, where = "discriminator", ""
        cure = "; pass logits=, a callable that selects them, such as lambda output: output[0]"
        packs = " (lambda output: output if a logit covers several samples, as in PacGAN)"
    if isinstance(found, Tensor):
        listed = [found]
    elif isinstance(found, list) and found and all(isinstance(x, Tensor) for x in found):
        listed = found
    else:
        raise TypeError(
            f"{_NAME}: {who} must return logits, a tensor or a list of tensors (one per scale), got "
            f"{describe(found)}{cure}"
        )
    check_dense(_NAME, "the discriminator's logits", *listed)
    for x in listed if by_sample else ():
        # squeeze() turns a batch of one into a 0-d tensor.
        if (x.shape[0] if x.dim() else 1) != n:
            raise ValueError(
                f"{_NAME}: {who} must return logits whose first dimension is the batch's, {n}{where}, got shape "
                f"{tuple(x.shape)}{cure}{packs}"
            )
    return found


def augmented(
    augment: Callable[[Tensor], Any], samples: Tensor, noise: Any, penalties: Sequence[Any]
) -> Tensor:
    """The result of `augment` for real or generated samples, checked."""
    # torch keeps no version counter for inference tensors.
    version = None if samples.is_inference() else samples._version
    value = augment(samples)
    if version is not None and samples._version != version:
        raise ValueError(
            f"{_NAME}: augment must not change the samples in place, got one that does; start it with samples.clone()"
        )
    if not isinstance(value, Tensor):
        raise TypeError(f"{_NAME}: augment must return a tensor, got {describe(value)}")
    check_dense(_NAME, "augment's result", value)
    if (penalties or noise is not None) and value.dtype not in FLOATS:
        raise TypeError(
            f"{_NAME}: augment must return floating-point samples for noise and penalties, got {value.dtype}"
        )
    return value


def inputs(real: Tensor, fake: Tensor, *, joint: bool) -> None:
    """Checks that real and generated images have the same shape. (Other data may vary in size.)"""
    mixed = real.dtype != fake.dtype and not {real.dtype, fake.dtype} <= {*FLOATS}
    if joint and mixed and not (real.is_complex() and fake.is_complex()):
        raise TypeError(
            f"{_NAME}: real must be {fake.dtype} like the generated samples, with joint=True, got {real.dtype}"
        )
    if joint and real.device != fake.device:
        raise ValueError(
            f"{_NAME}: real must be on the generated samples' device, {fake.device}, with joint=True, got {real.device}"
        )
    if (joint or real.dim() == fake.dim() == 4) and real.shape[1:] != fake.shape[1:]:
        raise ValueError(
            f"{_NAME}: generator must return samples of the real ones' shape {tuple(real.shape[1:])}, got "
            f"{tuple(fake.shape[1:])}"
        )


def end_in_sigmoid(logits: Any, discriminator: nn.Module) -> bool:
    """Whether logits with a graph are probabilities: a sigmoid's output, possibly reshaped, indexed or averaged."""
    for x in [logits] if isinstance(logits, Tensor) else logits:
        node = x.grad_fn
        while node is not None and node.name().startswith(_KEEPS_RANGE):
            node = node.next_functions[0][0]
        name = "" if node is None else node.name()
        if name.startswith("CompiledFunction"):  # compiled code hides its ops
            return isinstance(list(discriminator.modules())[-1], nn.Sigmoid)
        if not name.startswith("SigmoidBackward"):
            return False
    return True


def input_error(
    error: RuntimeError | ValueError | TypeError,
    who: str,
    inputs: dict[str, Any],
    network: nn.Module,
) -> Exception:
    """The error to raise for a network's error: one that explains it if the network has other arguments, or if one of
    the inputs has a dtype or a device that none of the network's parameters has. (Whether such an input is wrong
    depends on the network's layers; labels are usually int64, for an embedding.)"""
    if isinstance(error, TypeError):
        return _arguments_error(error, who, [x for x in inputs if inputs[x] is not None], network)
    text = str(error)
    about = {"dtype": "type" in text or "not implemented for" in text, "device": "device" in text}
    for name in (name for name, is_about in about.items() if is_about):
        own = {getattr(parameter, name) for parameter in network.parameters()}
        for what, x in ((what, x) for what, tree in inputs.items() for x in leaves(tree)):
            usual = own | ({torch.int64} if what == "labels" else set())
            if own and isinstance(x, Tensor) and getattr(x, name) not in usual:
                return TypeError(
                    f"{_NAME}: {what} must have the {name} of the {who}'s parameters, "
                    f"{', '.join(sorted(map(str, own)))}, or one that it converts, got {getattr(x, name)} ({error})"
                )
    return error


def _arguments_error(error: TypeError, who: str, given: list[str], network: nn.Module) -> TypeError:
    try:
        inspect.signature(network.forward).bind(*given)
    except TypeError:
        return TypeError(
            f"{_NAME}: {who} must accept the arguments ({', '.join(given)}), got {type(network).__name__}, whose "
            f"forward does not; choose others with {who}_inputs= ({error})"
        )
    return error


def latent_error(
    error: RuntimeError | ValueError | TypeError, generator: nn.Module, latent: Any, n: int
) -> RuntimeError | ValueError | TypeError:
    """The error to raise for a generator's error: one that explains it if flat latents reached a convolution."""
    convolution = next((m for m in generator.modules() if isinstance(m, _ConvNd)), None)
    flat = f"{n}, {latent}]" in str(error) or "got 2D input" in str(error)
    if convolution is None or not is_int(latent, 1) or not flat:
        return error
    shape = (latent, *[1] * len(convolution.kernel_size))
    return ValueError(
        f"{_NAME}: latent must be a shape such as {shape} for a generator that begins with a "
        f"{type(convolution).__name__}, got {latent} ({error})"
    )
