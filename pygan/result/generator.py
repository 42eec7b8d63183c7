"""load_generator: loads a run's generator from its checkpoint alone."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pygan._trainer_checks import latent_shape
from pygan._trainer_state import differences
from pygan._validation import check_int, describe, number
from pygan.checkpoint import CheckpointError
from pygan.noise import instance_noise
from pygan.stream import NoiseStream
from pygan.training.checkpoint_files import find_checkpoint, load_run
from pygan.training.models import ARCHITECTURES
from pygan.training.weights import check_weights

__all__ = ["TrainedGenerator", "load_generator"]


class TrainedGenerator(nn.Module):
    """A run's generator, in eval mode: from latents (N, *latent_shape) to samples (N, *sample_shape).

    Returned by :func:`load_generator`.

    Attributes:
        module: the network itself.
        latent_shape: shape of one standard normal latent; None if the run used no latents, or a function to draw them.
        sample_shape: shape of one sample.
        conditional: whether `forward` takes labels as a second argument.
        classes: the names of the labels 0, 1, ...: "classes" of the configuration, or [data] labels of a `pygan train`
            run; None if the configuration does not name them.
        averaged: whether the weights are the average's.
        config: the run's configuration; for a run of :func:`pygan.fit`, its `config` argument.
        step: the checkpoint's step.
        scale: divisor that converts the network's points to the units of the data: [data] scale of a
            `pygan train` run on points; otherwise 1.
    """

    def __init__(self, module: nn.Module, state: Mapping[str, Any], *, averaged: bool) -> None:
        super().__init__()
        self.module, self.averaged = module, averaged
        latent = state["run"].get("latent")
        self.latent_shape = latent_shape(latent) if isinstance(latent, (int, list)) else None
        self.sample_shape: tuple[int, ...] = tuple(state["samples"]["shape"])
        self.conditional: bool = state["samples"]["conditional"]
        self.config: dict[str, Any] = state.get("config", {})
        self.step: int = state["step"]
        self.classes = _classes(self.config) if self.conditional else None
        of_train = _model(self.config) is not None
        self.scale = float(self.config["data"].get("scale", 1.0)) if of_train else 1.0
        self.eval()

    def forward(self, latent: Tensor | None, labels: Tensor | None = None) -> Tensor:
        """Samples (N, *sample_shape) from latents and, if `conditional`, labels (N,)."""
        if latent is None:
            samples = self.module(labels)
        else:
            samples = self.module(latent) if labels is None else self.module(latent, labels)
        return samples if self.scale == 1.0 else samples / self.scale

    @torch.no_grad()
    def sample(
        self,
        n: int,
        labels: Tensor | None = None,
        *,
        seed: int = 0,
        truncation: float = 1.0,
        batch_size: int = 64,
    ) -> Tensor:
        """n samples (n, *sample_shape), on the parameters' device.

        The latents are ``truncation * pygan.instance_noise(zeros, 1.0, stream=pygan.NoiseStream(seed))`` with zeros
        (n, *latent_shape) in the parameters' dtype: the same bits on every device and for every batch size, and a
        smaller n gives the first latents of a larger one.

        Args:
            labels: (n,), for a conditional generator: numbers of `classes`, if these are known.
            seed: 0 to 2**64 - 1.
            truncation: psi, the factor of each latent: an interpolation toward the mean latent, 0, like
                StyleGAN's truncation toward the mean of its w. (BigGAN resamples large values instead.) Below 1,
                samples are less diverse and usually individually better; 1 is the distribution that was trained.
            batch_size: number of samples to generate at a time.

        Raises:
            TypeError, ValueError: an invalid argument, or the run's latents were drawn by a function.
        """
        check_int("pygan.TrainedGenerator.sample", "n", n)
        check_int("pygan.TrainedGenerator.sample", "batch_size", batch_size)
        return torch.cat(list(self.batches(n, labels, seed, truncation, batch_size)))

    @torch.no_grad()
    def batches(
        self, n: int, labels: Tensor | None, seed: int, truncation: float, batch_size: int
    ) -> Iterator[Tensor]:
        """The batches that `sample` concatenates."""
        op = "pygan.TrainedGenerator.sample"
        shape = self.latent_shape
        if shape is None:
            raise ValueError(
                f"{op}: the run must have used normal latents, got one whose latents are None or a function; call the "
                "generator with your own latents"
            )
        psi = number(op, "truncation", truncation)
        if not (math.isfinite(psi) and psi >= 0):
            raise ValueError(f"{op}: truncation must be finite and at least 0, got {truncation}")
        if self.conditional != (labels is not None):
            must = (
                f"be a tensor with the labels of the {n} samples, such as torch.arange({n}) % "
                f"{len(self.classes or '0')},"
                if self.conditional
                else "be None for this run,"
            )
            raise ValueError(
                f"{op}: labels must {must} got {'none' if labels is None else 'labels'}"
            )
        if labels is not None and not isinstance(labels, Tensor):
            raise TypeError(f"{op}: labels must be a tensor, got {describe(labels)}")
        if labels is not None and len(labels) != n:
            raise ValueError(
                f"{op}: labels must hold one for each of the {n} samples, got {len(labels)}"
            )
        if labels is not None and labels.dim() == 1 and not labels.is_floating_point():
            known = len(self.classes or ())
            other = labels[(labels < 0) | (labels >= known)]
            if known and len(other):
                raise ValueError(
                    f"{op}: labels must be from 0 to {known - 1}, the run's classes, got {other[0].item()}"
                )
        like = next(self.parameters())
        for first in range(0, n, batch_size):
            some = min(batch_size, n - first)
            # On the CPU, which every build of the op supports.
            latent = torch.zeros(some, *shape, dtype=like.dtype)
            stream = NoiseStream(seed, offset=first * math.prod(shape))
            latent = instance_noise(latent, 1.0, stream=stream, out=latent).mul_(psi)
            its = None if labels is None else labels[first : first + some].to(like.device)
            samples = self(latent.to(like.device), its)
            if not isinstance(samples, Tensor):
                raise TypeError(
                    f"{op}: the generator must return the samples, got {type(samples).__name__}; call its module"
                )
            yield samples

    def extra_repr(self) -> str:
        return (
            f"step={self.step}, latent_shape={self.latent_shape}, sample_shape={self.sample_shape}"
        )


def load_generator(
    path: str | os.PathLike[str], *, generator: nn.Module | None = None, average: bool = True
) -> TrainedGenerator:
    """The generator of a run, in eval mode on the CPU.

        G = pygan.load_generator("runs/digits")
        images = G.sample(64, seed=1)
        same = G(torch.randn(64, *G.latent_shape))

    A checkpoint is read with ``weights_only=True``, which runs no code of the file's.

    Args:
        path: a run's folder, whose newest checkpoint is used, or a checkpoint.
        generator: for a run of :func:`pygan.fit` with your own networks, a module built as for the run, into which the
            weights are loaded. Not needed for a run of `pygan train`, which stores the configuration.
        average: load the average's weights if the run has one; False: the trained weights.

    Returns:
        :class:`TrainedGenerator`.

    Raises:
        pygan.checkpoint.CheckpointError: there is no usable checkpoint.
        TypeError, ValueError: `generator` is missing or not a module, or the weights belong to another network; the
            message names the parameters. `generator` is unchanged.
    """
    if generator is not None and not isinstance(generator, nn.Module):
        kind = type(generator).__name__
        raise TypeError(f"pygan.load_generator: generator must be an nn.Module or None, got {kind}")
    file = find_checkpoint(path)
    state = load_run(file)
    shape = state.get("samples", {}).get("shape")
    if shape is None:
        raise CheckpointError(
            file, "does not contain the shape of its samples; resume the run for one more step"
        )
    saved = state["trainer"]
    averaged = average and "ema" in saved
    weights: dict[str, Any] = saved["generator"]
    if averaged:
        ema = saved["ema"]
        weights = {k.removeprefix("module."): v for k, v in ema.items() if k != "n_averaged"}
    if generator is None:
        generator = _built(state, shape, weights, str(file))
    else:
        check_weights("pygan.load_generator", "generator", generator, weights, str(file))
    generator.load_state_dict(weights)
    return TrainedGenerator(generator.cpu(), state, averaged=averaged)


def _model(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The [model] table of a `pygan train` configuration; None for any other configuration."""
    model, data = config.get("model"), config.get("data")
    if not isinstance(model, dict) or not isinstance(data, dict):
        return None
    return dict(model) if model.get("architecture") in ARCHITECTURES else None


def _classes(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The names of the classes."""
    data = config.get("data")
    labels = data.get("labels") if isinstance(data, dict) else None
    if labels is True:  # the digits' labels
        return tuple("0123456789")
    names = config.get("classes", labels)
    return tuple(map(str, names)) if isinstance(names, list) else None


def _built(
    state: Mapping[str, Any], shape: Sequence[int], weights: Mapping[str, Any], file: str
) -> nn.Module:
    """The untrained generator of a `pygan train` run, which the weights fit."""
    config = state.get("config", {})
    arguments = _model(config)
    if arguments is None:
        raise ValueError(
            "pygan.load_generator: generator must be given, built as for the run, if pygan.fit trained your own "
            "networks, got None; in Python: pygan.load_generator(run, generator=Generator())"
        )
    architecture = ARCHITECTURES[arguments.pop("architecture")]
    if state["samples"]["conditional"]:
        arguments["classes"] = len(_classes(config) or ())
    random = torch.get_rng_state()
    try:
        built = architecture(shape, **arguments)[0]
        differ = differences(built.state_dict(), weights)
        if differ:
            raise ValueError(f"the generator differs in {differ}")
    except (TypeError, ValueError) as error:
        # The architectures may differ between versions of pygan.
        raise ValueError(
            f"pygan.load_generator: path must be a run whose [model] describes the networks that were trained, got "
            f"{file}: {error}; use the version of pygan that trained it"
        ) from error
    finally:
        torch.set_rng_state(random)
    return built
