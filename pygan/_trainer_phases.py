"""The two phases of GANTrainer: forward, loss, penalties and backward of one network while the other is frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from pygan import _C, fused_losses
from pygan import _parallel as parallel
from pygan import _trainer_checks as checked
from pygan import _trainer_outputs as outputs
from pygan._loss_results import mixable, mixed
from pygan._parallel import NOTHING, sync_buffers, without_sync
from pygan._penalty_base import (
    NO_GRADIENT,
    Judged,
    Penalty,
    differentiated,
    second_derivatives,
)
from pygan._replay import Replay
from pygan.fused_losses import LossStats
from pygan.modules import InstanceNoise
from pygan.noise import instance_noise
from pygan.stream import NoiseStream

NONFINITE = LossStats._fields.index("nonfinite")


class LossFunctions(Protocol):
    """A loss of one's own, for ``GANTrainer(loss=...)``. The module `pygan.fused_losses` is one.

    Both get what the discriminator returned, as it is. Statistics and penalties are of the logits alone, which
    ``GANTrainer(logits=...)`` picks from it if it holds anything else. If the object has ``state_dict`` and
    ``load_state_dict``, its state is a part of the trainer's.
    """

    def discriminator_loss(self, real_output: Any, fake_output: Any, /) -> Tensor:
        """The discriminator's loss, 0-d, of what it returned for real and for generated samples."""

    def generator_loss(self, fake_output: Any, /) -> Tensor:
        """The generator's loss, 0-d."""


class Share(NamedTuple):
    """A process's part of a batch."""

    first: int | None
    """Index of its first sample; None where one process has the whole batch."""
    weight: float
    """Of the mean over its samples in the mean over the processes."""
    total: int
    """Samples of the whole batch."""


class _Part(NamedTuple):
    """A micro-batch."""

    real: Tensor | None
    latent: Tensor
    labels: Tensor | None
    weight: float
    """Its share of the process's samples."""
    first: bool
    last: bool


class _Result(NamedTuple):
    loss: Tensor
    stats: LossStats
    outputs: list[Tensor]
    """Where the backward pass starts, and the gradients there; None stands for 1."""
    grads: Sequence[Tensor | None]


class Phases:
    """The machinery under GANTrainer's verbs, which have checked what they were given."""

    generator: nn.Module
    discriminator: nn.Module
    g_optimizer: Optimizer
    d_optimizer: Optimizer
    latent: int | Sequence[int] | Callable[[int], Tensor]
    logits: Callable[[Any], Any] | None
    loss: str | LossFunctions
    label_smoothing: float
    noise: InstanceNoise | None
    penalties: list[Penalty]
    micro_batches: int
    max_grad_norm: float | None
    ema: Any
    generator_inputs: Callable[[Tensor, Tensor | None], tuple[Any, ...]] | None
    augment: Callable[[Tensor], Tensor] | None
    scaler: torch.amp.GradScaler | None
    stream: NoiseStream
    steps: int
    d_updates: int
    real: Tensor | None
    fake: Tensor | None
    update_if: Callable[[list[nn.Parameter]], bool] | None = None
    """Asked before each update, with the parameters and their gradients; False leaves the update out."""
    ends_in_sigmoid: bool | None
    _bare_generator: nn.Module
    _bare_discriminator: nn.Module
    _d_draws: bool | None
    """Whether the discriminator draws from the device's generator, as dropout does; None: not known."""
    _g_wrapper: DistributedDataParallel | None
    _d_wrapper: DistributedDataParallel | None
    _g_units: list[Any]
    _d_units: list[Any]
    _g_parameters: list[nn.Parameter]
    _d_parameters: list[nn.Parameter]
    _compares: bool
    _fresh_penalties: dict[int, Tensor]

    def _discriminator_step(
        self, real: Tensor, latent: Tensor, labels: Tensor | None, share: Share
    ) -> tuple[Tensor, LossStats]:
        self.real = real.detach()
        due = [i for i, p in enumerate(self.penalties) if self.d_updates % p.every == 0]
        penalties = [self.penalties[i] for i in due]
        results: list[tuple[float, _Result]] = []
        sums: list[Any] = [0.0] * len(due)
        with _frozen(self._g_parameters), self._placed(share):
            for part in self._parts_of(real, latent, labels, share):
                with torch.no_grad():
                    fake = self._generate(self.generator, part.latent, part.labels)
                parallel.reshard(self._g_units)
                with (
                    parallel.gathered_throughout(self._d_units if due else []),
                    second_derivatives(penalties),
                ):
                    judged = self._judge(part, fake, penalties)
                    # Before the penalties, some of which have a state: an error here leaves it as it is.
                    result = self._discriminator_loss(*judged[:2])
                    values = [
                        p.value(*judged[:2], probe, self.steps)
                        for p, probe in zip(penalties, judged[2])
                    ]
                    if part.first:
                        self.d_optimizer.zero_grad(set_to_none=True)
                    ends = [*result.outputs, *(p.every * v for p, v in zip(penalties, values))]
                    grads = [*result.grads, *[None] * len(values)]
                    self._backward(ends, grads, part.weight * share.weight)
                results.append((part.weight, result))
                sums = [s + part.weight * v.detach() for s, v in zip(sums, values, strict=True)]
            self._update(self.d_optimizer, self._d_parameters)
        self.d_updates += 1
        for i, value in zip(due, sums, strict=True):
            self._fresh_penalties[i] = share.weight * value
        return _combined(results)

    def _generator_step(
        self, latent: Tensor, real: Tensor | None, labels: Tensor | None, share: Share
    ) -> tuple[Tensor, LossStats]:
        results, fakes = [], []
        with _frozen(self._d_parameters), self._placed(share):
            for part in self._parts_of(real, latent, labels, share):
                with without_sync(self._g_wrapper, wanted=not part.last):
                    fake = self._generate(self.generator, part.latent, part.labels)
                inputs = self._noisy(fake)
                # The discriminator's parameters get no gradient here, which DistributedDataParallel must not wait for.
                with without_sync(self._d_wrapper):
                    fake_output, fake_logits = self._ask(inputs, part.labels)
                    real_logits = None
                    if self._compares:
                        assert part.real is not None
                        with torch.no_grad():
                            _, real_logits = self._ask(self._noisy(part.real), part.labels)
                if self.ends_in_sigmoid is None:
                    self.ends_in_sigmoid = outputs.end_in_sigmoid(
                        fake_logits, self._bare_discriminator
                    )
                result = self._generator_loss(fake_output, fake_logits, real_logits)
                if part.first:
                    self.g_optimizer.zero_grad(set_to_none=True)
                self._backward(result.outputs, result.grads, part.weight * share.weight)
                results.append((part.weight, result))
                fakes.append(fake.detach())
            self._update(self.g_optimizer, self._g_parameters)
        self.steps += 1
        if self.ema is not None:
            self.ema.update_parameters(self._bare_generator)
        self.fake = fakes[0] if len(fakes) == 1 else torch.cat(fakes)
        return _combined(results)

    def _judge(
        self, part: _Part, fake: Tensor, penalties: list[Penalty]
    ) -> tuple[Judged, Judged, list[Judged | None]]:
        """Real samples, generated ones and what the penalties want to know, as the discriminator sees them."""
        assert part.real is not None
        wanted = {side for penalty in penalties for side in penalty.differentiates}
        sides = []
        for name, samples in (("real", part.real), ("fake", fake)):
            leaf = samples.detach().requires_grad_() if name in wanted else samples
            sides.append(Judged(leaf, self._noisy(leaf), None, None))
        real, generated = sides
        outputs.inputs(real.inputs, generated.inputs)
        probes: list[Judged | None] = [None] * len(penalties)
        # Many forward passes, one backward: to DistributedDataParallel only the last may announce a reduction, and
        # broadcasting the buffers (BatchNorm's) in between would overwrite what the backward pass needs.
        with without_sync(self._d_wrapper):
            compares = [penalty.compares for penalty in penalties]
            replays: dict[str | None, Replay] = {}
            if "real" in compares:
                sync_buffers(self._d_wrapper)
                replays["real"] = self._replay()
            real = Judged(*real[:2], *self._ask(real.inputs, part.labels))
            inputs = [penalty.probe(real, generated, self.stream) for penalty in penalties]
            # Last those compared with the generated samples, whose own pass then starts where theirs did.
            for i in sorted(range(len(penalties)), key=lambda i: compares[i] == "fake"):
                x, side = inputs[i], compares[i]
                if x is None:
                    continue
                if side == "fake" and side not in replays:
                    replays[side] = self._replay()
                with replays[side].again() if side in replays else NOTHING:
                    probes[i] = Judged(x, x, *self._ask(x, part.labels))
            for replay in replays.values():
                self._d_draws = self._d_draws or replay.draws
        with without_sync(self._d_wrapper, wanted=not part.last):
            generated = Judged(*generated[:2], *self._ask(generated.inputs, part.labels))
        return differentiated(penalties, real, generated, probes)

    def _replay(self) -> Replay:
        device = self._d_parameters[0].device
        return Replay("GANTrainer", self._bare_discriminator, device, self._d_draws)

    def _noisy(self, samples: Tensor) -> Tensor:
        if self.augment is not None:
            samples = outputs.augmented(self.augment, samples, self.noise, self.penalties)
        return samples if self.noise is None else self.noise(samples)

    def _ask(self, inputs: Tensor, labels: Tensor | None) -> tuple[Any, Any]:
        """What the discriminator returned, and the logits in it."""
        D = self.discriminator
        output = D(inputs) if labels is None else D(inputs, labels)
        compared = any(penalty.compares for penalty in self.penalties)
        return output, outputs.logits(output, self.logits, len(inputs), compared=compared)

    def _generate(self, network: nn.Module, latent: Tensor, labels: Tensor | None) -> Tensor:
        n = len(latent)
        try:
            samples = network(*self._generator_inputs(latent, labels))
        except (RuntimeError, ValueError) as error:
            explained = outputs.latent_error(error, network, self.latent, n)
            if explained is error:
                raise
            raise explained from error
        return outputs.samples(samples, n)

    def _generator_inputs(self, latent: Tensor, labels: Tensor | None) -> tuple[Any, ...]:
        if self.generator_inputs is not None:
            return self.generator_inputs(latent, labels)
        return (latent,) if labels is None else (latent, labels)

    def _discriminator_loss(self, real: Judged, fake: Judged) -> _Result:
        real_logits, fake_logits = real.logits, fake.logits
        if not isinstance(self.loss, str):
            value = self.loss.discriminator_loss(real.output, fake.output)
            numbers = fused_losses.discriminator_loss_and_grad(
                _detached(real_logits), _detached(fake_logits), return_stats=True
            )
            return _own(value, numbers.stats)
        real_logits, fake_logits = self._scalable(real_logits), self._scalable(fake_logits)
        result = fused_losses.discriminator_loss_and_grad(
            real_logits,
            fake_logits,
            loss=self.loss,
            label_smoothing=self.label_smoothing,
            return_stats=True,
        )
        assert result.stats is not None
        judged = [*_listed(real_logits), *_listed(fake_logits)]
        grads = [*_listed(result.grads[0]), *_listed(result.grads[1])]
        return _Result(result.loss, result.stats, judged, grads)

    def _generator_loss(self, fake_output: Any, fake_logits: Any, real_logits: Any) -> _Result:
        if not isinstance(self.loss, str):
            value = self.loss.generator_loss(fake_output)
            numbers = fused_losses.generator_loss_and_grad(
                _detached(fake_logits), return_stats=True
            )
            return _own(value, numbers.stats)
        fake_logits, real_logits = self._scalable(fake_logits), self._scalable(real_logits)
        result = fused_losses.generator_loss_and_grad(
            fake_logits, real_logits=real_logits, loss=self.loss, return_stats=True
        )
        assert result.stats is not None
        return _Result(result.loss, result.stats, _listed(fake_logits), _listed(result.grads[0]))

    def _scalable(self, logits: Any) -> Any:
        """fp16 logits as fp32 where a scaler is in use: the gradient by each is scaled before it is rounded to fp16,
        in which that of a mean over many logits underflows."""
        if self.scaler is None or logits is None:
            return logits
        if isinstance(logits, Tensor):
            return logits.float() if logits.dtype == torch.float16 else logits
        return [self._scalable(x) for x in logits]

    def _backward(
        self, outputs: Sequence[Tensor], grads: Sequence[Tensor | None], weight: float
    ) -> None:
        if not all(x.requires_grad for x in outputs):
            raise RuntimeError(NO_GRADIENT.format("the trained parameters"))
        if weight != 1.0 or self.scaler is not None:
            scaled = [
                torch.full_like(x, weight) if g is None else g * weight
                for x, g in zip(outputs, grads, strict=True)
            ]
            grads = scaled if self.scaler is None else [self.scaler.scale(g) for g in scaled]
        _C.backward(outputs, grads)

    def _update(self, optimizer: Optimizer, parameters: list[nn.Parameter]) -> None:
        if self.update_if is not None and not self.update_if(parameters):
            return
        if self.scaler is not None and self.max_grad_norm is not None:
            self.scaler.unscale_(optimizer)
        if self.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)
        if self.scaler is None:
            optimizer.step()
        else:
            self.scaler.step(optimizer)
            self.scaler.update()
        # An autocast region around the step, or around many, keeps the casts of the weights as they were before.
        torch.clear_autocast_cache()

    def _parts_of(
        self, real: Tensor | None, latent: Tensor, labels: Tensor | None, share: Share
    ) -> Iterator[_Part]:
        n = len(latent)
        # Equally many in all processes: LeCam reduces over them in each part.
        least = n if share.first is None else share.total // torch.distributed.get_world_size()
        parts = max(1, min(self.micro_batches, least))
        if parts == 1:
            yield _Part(real, latent, labels, 1.0, True, True)
            return
        split = [
            [None] * parts if x is None else torch.tensor_split(x, parts)
            for x in (real, latent, labels)
        ]
        for i, (x, z, y) in enumerate(zip(*split, strict=True)):
            assert z is not None
            yield _Part(x, z, y, len(z) / n, i == 0, i == parts - 1)

    def _draw_latent(self, n: int, share: Share) -> Tensor:
        if callable(self.latent):
            # Of the whole batch in each process: those seeded alike then draw together what one process would.
            latent = self.latent(share.total)
            first = share.first or 0
            return checked.latents(latent, share.total)[first : first + n]
        like = self._g_parameters[0]
        shape = checked.latent_shape(self.latent)
        zeros = torch.zeros(n, *shape, dtype=like.dtype, device=like.device)
        if self.stream.device != like.device:
            self.stream.to(like.device)
        with self._placed(share):
            return instance_noise(zeros, 1.0, stream=self.stream, out=zeros)

    def _placed(self, share: Share) -> AbstractContextManager[None]:
        """Within it, what is drawn for a sample is what one process would draw for it."""
        if share.first is None:
            return NOTHING
        streams = [self.stream, *([] if self.noise is None else [self.noise.stream])]
        return _beginning_at(streams, share.first)


@contextmanager
def _beginning_at(streams: list[NoiseStream], first: int) -> Iterator[None]:
    for stream in streams:
        stream.first_sample = first
    try:
        yield
    finally:
        for stream in streams:
            stream.first_sample = None


@contextmanager
def _frozen(parameters: list[nn.Parameter]) -> Iterator[None]:
    thawed = [p for p in parameters if p.requires_grad]
    try:
        for p in thawed:
            p.requires_grad_(False)
        yield
    finally:
        for p in thawed:
            p.requires_grad_(True)


def _own(value: Tensor, stats: LossStats | None) -> _Result:
    """The result of a loss of the user's own: the bound on the divergence is not its."""
    assert stats is not None
    stats = stats._replace(jsd_bound=torch.full_like(stats.jsd_bound, float("nan")))
    return _Result(value.detach(), stats, [value], [None])


def _combined(results: list[tuple[float, _Result]]) -> tuple[Tensor, LossStats]:
    """Loss and statistics of the whole, from those of its micro-batches."""
    if len(results) == 1:
        return results[0][1].loss, results[0][1].stats
    table = torch.stack([torch.stack([r.loss, *mixable(r.stats)]) for _, r in results])
    weights = [weight for weight, _ in results]
    means = sum(w * row for w, row in zip(weights, table))
    means[NONFINITE + 1] = table[:, NONFINITE + 1].sum()
    loss, *stats = means.unbind()
    return loss, mixed(stats)


def _listed(x: Any) -> list[Tensor]:
    return [x] if isinstance(x, Tensor) else list(x)


def _detached(logits: Any) -> Any:
    return logits.detach() if isinstance(logits, Tensor) else [x.detach() for x in logits]
