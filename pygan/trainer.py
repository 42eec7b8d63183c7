"""GANTrainer: the two steps of the GAN algorithm over the user's own networks and optimisers. It owns no loop.

    trainer = pygan.GANTrainer(G, D, g_optimizer, d_optimizer, latent=128)
    for real in loader:
        stats = trainer.step(real.to(device))

One `step` is an iteration of algorithm 1 of Goodfellow et al. 2014: k discriminator steps, then one generator step.
Nothing in it waits for the device; reading the statistics does, so read them when they are wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from pygan import _parallel as parallel
from pygan import _trainer_batches as batches
from pygan import _trainer_checks as checked
from pygan import _trainer_outputs as outputs
from pygan import _trainer_state as states
from pygan._device_numbers import host_number
from pygan._generator_step import (
    AdversarialWeight,
    GeneratorStep,
    GeneratorTerms,
    adversarial,
    terms_of,
)
from pygan._pair import Pair
from pygan._penalty_base import Penalty, second_derivatives
from pygan._player import Player
from pygan._trainer_batches import Batch, Part, Share
from pygan._trainer_judge import Judge, Sides
from pygan._trainer_losses import Losses, LossFunctions, Result, combined
from pygan._trainer_samples import Generated, Samples
from pygan._trainer_stats import Reports, TrainStats
from pygan._validation import check_int
from pygan.fake_pool import FakePool
from pygan.fused_losses import LossStats
from pygan.modules import InstanceNoise
from pygan.schedules import Schedule
from pygan.stream import NoiseStream

if TYPE_CHECKING:
    from pygan._capture import CapturedSteps

__all__ = ["GANTrainer", "GeneratorStep", "LossFunctions", "TrainStats"]


def _of(owner: str, name: str) -> Any:
    """An attribute of the trainer that is one of what it is composed of."""
    owner_of = attrgetter(owner)

    def replace(trainer: GANTrainer, value: Any) -> None:
        setattr(owner_of(trainer), name, value)

    return property(attrgetter(f"{owner}.{name}"), replace)


# Objects of the user's own, which may have a state.
_GIVEN = [
    *("loss", "latent", "logits", "generator_terms", "adversarial_weight", "pool"),
    *("generator_inputs", "discriminator_inputs", "generated", "augment"),
]


class GANTrainer:
    """Trains a generator against a discriminator.

    Args:
        generator: module from latents (N, ...) to samples (N, ...).
        discriminator: module from samples to logits (N, ...), or to a list of such, one for each scale; of one that
            returns anything else, or logits of several samples each, `logits` picks them. Both may be wrapped by
            DistributedDataParallel (each by itself), sharded by torch.distributed.fsdp.fully_shard, or wrapped by
            torch.compile (a compiled discriminator has no second derivatives: of R1, R2 and GradientPenalty only R1
            and R2 with sigma work).
        g_optimizer, d_optimizer: each holds all trainable parameters of its network and none of the other's.
            Add new or unfrozen parameters with ``optimizer.add_param_group``.
        latent: an int for standard normal latents of shape (N, latent) in the dtype and on the device of the
            generator's parameters; or a shape, such as (100, 1, 1), for those of shape (N, 100, 1, 1); or a callable
            ``batch_size -> Tensor`` whose first dimension is batch_size. Where several processes share a batch, the
            callable is called in each with the size of the whole batch, and the process takes its share of the result:
            seeded alike, they draw what one process would. None: the generator gets the labels alone, as pix2pix's gets
            the image that it is to translate.
        loss: one of ``pygan.fused_losses.LOSSES``, or a :class:`LossFunctions`.
        logits: ``output -> logits``, for a discriminator that returns more than logits: picks the tensor or the list of
            tensors from what it returned, as ``lambda output: output[0]`` does. The loss, the statistics and the
            penalties use these alone; a loss of your own gets all that was returned. What it returns need not have the
            batch's first dimension, as PacGAN's logits of packs of samples: pass ``lambda output: output`` for them.
            (R1 and R2 with sigma compare sample by sample, and refuse such. The other penalties take the gradient by
            each sample, not by each pack.)
        label_smoothing: one-sided, for the real samples, in [0, 1].
        weights: of the scales, a list of numbers, one for each tensor that the discriminator returns, by which to
            multiply its loss in both steps; or a number for all. (For a loss of your own, it does that itself.)
        generator_terms: ``GeneratorStep -> dict``, further losses of the generator by name, 0-d and with their graph,
            which are added to the adversarial one: reconstruction, perceptual, feature matching, path length, each
            times its weight. :class:`GeneratorStep` says what there is to compute them from. The statistics have each.
        adversarial_weight: by what the adversarial loss is multiplied in the generator's step: a number, a schedule of
            `pygan.schedules` (its value after that many iterations), a 0-d tensor, or ``GeneratorStep -> 0-d tensor``,
            as :func:`pygan.penalties.adaptive_weight` makes one of two gradients.
        discriminator_start: iterations before the adversarial parts begin. Until then the discriminator is neither
            asked nor trained, and the generator learns from ``generator_terms`` alone.
        d_steps: k, the discriminator steps per generator step, at least 1.
        reuse_fakes: make the generated samples once an iteration, as the examples of DCGAN, pix2pix, HiFi-GAN and
            VQGAN do: the discriminator learns from them, then the generator's step judges the same ones by the updated
            discriminator, with noise and augmentation of their own. It saves a forward pass of the generator, whose
            BatchNorm counts once, and takes the memory of its graph during the discriminator's step. Such a step is
            whole: the two phases cannot be called by themselves. False: fresh samples for each phase, as in the paper.
        joint: judge real and generated samples in one batch in the discriminator's step, one forward and one backward
            pass in place of two. What looks at a batch as a whole, such as a minibatch standard deviation, then sees
            both kinds together; BatchNorm in training mode is refused.
        separate: run the discriminator's step backward for the real samples before it judges the generated ones: the
            same gradients, with the activations of one side in memory at a time. Not for losses and penalties that look
            at the logits of both sides.
        pool: a :class:`pygan.FakePool`, from which the discriminator's step takes past samples in exchange for present
            ones, with their labels. In one process only, because a state dict is that of one.
        noise: :class:`pygan.InstanceNoise`, put before the discriminator on real and generated samples alike, fresh
            at every use; or a schedule or a standard deviation, to make one of. The loop anneals it:
            ``trainer.noise.step(stats.real_sign)`` (what the adaptive schedules follow).
        penalties: of the discriminator, from `pygan.penalties`: one or a sequence of them.
        micro_batches: parts into which every batch is split, forward and backward one after the other, to need less
            memory; their gradients add up to those of the whole. (Not for what looks at the batch as a whole, which
            then sees a part: BatchNorm, ``relativistic_average``, LeCam.)
        max_grad_norm: the norm to which each network's gradient is clipped (Pascanu et al. 2013), or None.
        ema: decay, between 0 and 1, of an exponential moving average of the generator's parameters and buffers
            (:class:`pygan.EMA`), updated after each generator step; or an average of your own, a `pygan.EMA` or
            another AveragedModel of torch's, whose own update waits for the device in every step; None: no average.
        seed: of the latents and of what the penalties draw, 64 bit; None draws one from PyTorch's default generator.
        generator_inputs: ``(latent, labels) -> tuple`` of the generator's positional arguments. Default: those of the
            two that there are.
        discriminator_inputs: ``(samples, labels) -> tuple`` of the discriminator's, in the same way:
            ``lambda x, labels: (x,)`` for one that gets no labels, ``lambda x, labels: (torch.cat([labels, x], 1),)``
            for pix2pix's.
        generated: ``output -> samples``, for a generator that returns more than the samples: picks the tensor (N, ...)
            from what it returned. :class:`GeneratorStep` has all of it.
        augment: ``samples -> samples``, differentiable, applied to real and generated samples before the noise; not in
            place. It may also convert real samples that are stored as integers, which noise and penalties need as
            floating ones (but R1 without sigma needs them before it).
        scaler: a ``torch.amp.GradScaler`` that scales the gradients of both networks, for fp16. With it, each update
            waits for the device unless its optimizer is fused (``torch.optim.Adam(..., fused=True)``): to skip an
            update that overflowed, GradScaler asks the device, and a fused optimizer skips it there.

    Attributes:
        steps, d_updates: generator steps, which is iterations, and discriminator steps done.
        ema: the average, a :class:`pygan.EMA` or the AveragedModel that was given, or None.
        stream: the :class:`pygan.NoiseStream` of latents and penalties.
        generator, discriminator, g_optimizer, d_optimizer: may be replaced between steps, a network together with its
            optimizer. The next step checks that they belong together. The average goes on from what it is, which must
            fit the generator; replace `ema` too where it should begin anew.
        ends_in_sigmoid: whether the logits were found to be probabilities, which the losses but least_squares must not
            get; None before a generator step.
        real, fake: the last real batch, and the samples of the last generator step, detached; None before.

    Raises:
        TypeError, ValueError: an argument that is not as described. The steps raise them for empty batches, a wrong
            number of them, integers where noise or penalties need floating samples, wrong latents, and networks and
            optimizers that no longer belong together; then nothing has been changed: no parameter, no optimizer
            state, no noise drawn. (What is wrong with what a network or `augment` returns is found after the noise
            has been drawn, and before anything is trained on it.)
        RuntimeError: a step under ``torch.no_grad``; or within ``accelerator.accumulate``, where prepared optimizers
            leave their steps out; or no gradient reaches the network that is trained, as where `augment` detaches.

    During each phase the parameters of the other network do not require gradients, whatever happens in it, and get
    their own flags back afterwards. Gradients are zeroed to None before each backward pass, and those of the last
    phases are left in place for whoever wants to look at them.

    Where a network is wrapped by DistributedDataParallel or sharded, each process passes its share of the batch, and
    the statistics are those of the whole, on every process. With the same `seed` in all of them, a sample gets the
    latents and the noise that it would get in one process.
    """

    generator: nn.Module = _of("_pair.g", "network")
    g_optimizer: Optimizer = _of("_pair.g", "optimizer")
    discriminator: nn.Module = _of("_pair.d", "network")
    d_optimizer: Optimizer = _of("_pair.d", "optimizer")
    ema: AveragedModel | None = _of("_pair", "ema")
    latent: int | Sequence[int] | Callable[[int], Tensor] | None = _of("_samples", "latent")
    generator_inputs: Callable[..., tuple[Any, ...]] | None = _of("_samples", "generator_inputs")
    generated: Callable[[Any], Tensor] | None = _of("_samples", "generated")
    stream: NoiseStream = _of("_samples", "stream")
    noise: InstanceNoise | None = _of("_judge", "noise")
    augment: Callable[[Tensor], Tensor] | None = _of("_judge", "augment")
    logits: Callable[[Any], Any] | None = _of("_judge", "logits")
    discriminator_inputs: Callable[..., tuple[Any, ...]] | None = _of(
        "_judge", "discriminator_inputs"
    )
    penalties: list[Penalty] = _of("_judge", "penalties")
    joint: bool = _of("_judge", "joint")
    separate: bool = _of("_judge", "separate")
    loss: str | LossFunctions = _of("_losses", "loss")
    label_smoothing: float = _of("_losses", "label_smoothing")
    weights: float | Sequence[float] | None = _of("_losses", "weights")
    update_if: Callable[[list[nn.Parameter]], bool] | None = None
    """Asked before each update, with the parameters and their gradients; False leaves the update out."""

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        g_optimizer: Optimizer,
        d_optimizer: Optimizer,
        *,
        latent: int | Sequence[int] | Callable[[int], Tensor] | None,
        loss: str | LossFunctions = "non_saturating",
        logits: Callable[[Any], Any] | None = None,
        label_smoothing: float = 0.0,
        weights: float | Sequence[float] | None = None,
        generator_terms: GeneratorTerms | None = None,
        adversarial_weight: AdversarialWeight = 1.0,
        discriminator_start: int = 0,
        d_steps: int = 1,
        reuse_fakes: bool = False,
        joint: bool = False,
        separate: bool = False,
        pool: FakePool | None = None,
        noise: InstanceNoise | Schedule | float | None = None,
        penalties: Penalty | Sequence[Penalty] = (),
        micro_batches: int = 1,
        max_grad_norm: float | None = None,
        ema: float | AveragedModel | None = None,
        seed: int | None = None,
        generator_inputs: Callable[[Any, Any], tuple[Any, ...]] | None = None,
        discriminator_inputs: Callable[[Tensor, Any], tuple[Any, ...]] | None = None,
        generated: Callable[[Any], Tensor] | None = None,
        augment: Callable[[Tensor], Tensor] | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        checked.modules(generator=generator, discriminator=discriminator)
        checked.latent(latent)
        checked.loss(loss, label_smoothing, weights)
        check_int("GANTrainer", "d_steps", d_steps)
        check_int("GANTrainer", "micro_batches", micro_batches)
        check_int("GANTrainer", "discriminator_start", discriminator_start, 0)
        checked.reused(reuse_fakes, d_steps, micro_batches)
        checked.adversarial(adversarial_weight, discriminator_start, generator_terms)
        checked.between("max_grad_norm", max_grad_norm, 0.0, float("inf"))
        checked.average(ema)
        checked.seed(seed)
        checked.hooks(generator_inputs=generator_inputs, discriminator_inputs=discriminator_inputs)
        checked.hooks(generated=generated, augment=augment, logits=logits)
        checked.hooks(generator_terms=generator_terms)
        penalties = checked.penalties(penalties)
        self.d_steps, self.micro_batches, self.max_grad_norm = d_steps, micro_batches, max_grad_norm
        self.scaler, self.reuse_fakes, self.generator_terms = scaler, reuse_fakes, generator_terms
        self.adversarial_weight, self.discriminator_start = adversarial_weight, discriminator_start
        g = Player("generator", generator, g_optimizer)
        d = Player("discriminator", discriminator, d_optimizer)
        self._pair = Pair(g, d, ema)
        checked.judging(d.batch_norms, loss, penalties, joint=joint, separate=separate)
        checked.pool(pool, is_parallel=self._pair.is_parallel)
        self.pool = pool
        noise = checked.noise(noise, seed, d.device)
        if seed is None:
            seed = int(torch.randint(2**63 - 1, (), dtype=torch.int64))
        # Another seed than that of a noise module made here, whose normals must not be those of the latents.
        stream = NoiseStream((seed + 1) % 2**64, device=g.device)
        self._samples = Samples(g, latent, generator_inputs, generated, stream)
        self._judge = Judge(
            d,
            noise=noise,
            augment=augment,
            logits=logits,
            discriminator_inputs=discriminator_inputs,
            penalties=penalties,
            joint=joint,
            separate=separate,
        )
        self._losses = Losses(loss, label_smoothing, weights)
        self._reports = Reports(len(penalties), d.device)
        self.steps = self.d_updates = 0
        self._captured: CapturedSteps | None = None
        self.ends_in_sigmoid: bool | None = None
        self.real: Tensor | None = None
        self.fake: Tensor | None = None

    def step(
        self,
        real: Tensor | Sequence[Tensor],
        labels: Any = None,
        *,
        total: int | Sequence[int] | None = None,
    ) -> TrainStats:
        """One iteration: `d_steps` discriminator steps, then one generator step on as many samples as the last batch.

        Args:
            real: a batch (N, ...) of real samples; with ``d_steps`` > 1, a sequence of that many batches.
            labels: for conditional networks: a tensor (N, ...), or a tuple or dict of such, nested; where `real` is a
                sequence, a sequence of those of its batches. The second argument of both networks, unless
                ``generator_inputs`` or ``discriminator_inputs`` says otherwise. Generated samples get the labels of the
                real ones.
            total: samples of a batch in all processes together, where they do not have equally many: the first
                processes have one more (``torch.tensor_split``). A number, or a sequence like `real`.
        """
        if self._captured is not None:
            return self._captured.step(real, labels, total)
        self._pair.prepare("step", self._pair.g, self._pair.d)
        reals = batches.one_per_step(real, self.d_steps)
        for x in reals:
            self._check_judged("step", x)
        all_labels = batches.labels_per_step(labels, real, reals)
        totals = batches.totals_per_step(total, self.d_steps)
        shares = [self._share("step", len(x), t) for x, t in zip(reals, totals, strict=True)]
        # All latents first: a callable that returns a wrong batch size is caught before anything has been trained.
        rounds = [
            self._batch("step", len(x), x, y, share)
            for x, y, share in zip(reals, all_labels, shares, strict=True)
        ]
        last, made = rounds[-1], None
        if self.reuse_fakes:
            made = self._samples.made_by(self.generator, last)
        else:
            last = self._batch("step", last.n, last.real, last.labels, last.share)
        for batch in rounds:
            of_d = self._train_discriminator(batch, made)
        of_g, terms = self._train_generator(last, made)
        return self._reports.of_iteration(of_d, of_g, terms, last.share)

    def capture(self, real: Tensor | Sequence[Tensor], labels: Any = None) -> bool:
        """Make the coming calls of `step` replay the whole iteration as CUDA graphs, of which there is one for each set
        of penalties that are due together. What is left of a small network's step is the GPU's own time.

        Warms up, captures, and puts everything back: nothing has been trained. Statistics, `fake` and what is trained
        are those of eager steps, and stay valid. What the host moves between the steps reaches the replays: learning
        rates (rounded to float32 where they are numbers), noise, schedules of penalties, states that are loaded. Python
        code of networks and functions runs at the capture only.

        A batch of another size, as the last one of an epoch, makes an eager step; so does the first step where there
        is no optimizer state or average yet, and each until the pool is full. Call it again after what it holds has
        been replaced: networks, layers, parameter groups, options of optimizers or trainer. A step raises RuntimeError
        until then, or until `release`; for a batch that differs in more than its size, ValueError. Graphs of an earlier
        call are freed first.

        Args:
            real, labels: a batch as for `step`, on the networks' device. It is not trained on.

        Returns:
            Whether steps are captured. On the CPU there is nothing to capture: False, and steps are as before.

        Raises:
            TypeError, ValueError: as for `step`.
            RuntimeError: something in the step cannot be captured or would be frozen in the graph: an optimizer without
                ``capturable=True`` (SGD: ``fused=True``), several processes, an average of another class than
                `pygan.EMA`, a scaler without fused optimizers, `update_if`, something that waits for the device, a
                number of the host that changes from step to step, a tensor that is not changed in place. Everything is
                as it was before; after an error of CUDA itself, in the capture, a process may be unusable.
        """
        self._pair.prepare("capture", self._pair.g, self._pair.d)
        reals = batches.one_per_step(real, self.d_steps)
        for x in reals:
            self._check_real("capture", x)
        batches.labels_per_step(labels, real, reals)
        self.release()
        if self._pair.g.device.type != "cuda":
            return False
        from pygan._capture import CapturedSteps
        from pygan._capture_cuda import CudaGraphs

        self._captured = CapturedSteps(self, real, labels, CudaGraphs(self._pair.g.device))
        return True

    def release(self) -> None:
        """Make eager steps from now on, and free the graphs of `capture`."""
        self._captured = None

    def discriminator_step(
        self, real: Tensor, labels: Any = None, *, total: int | None = None
    ) -> tuple[Tensor, LossStats]:
        """Update the discriminator once, on the batch `real` (N, ...) and N generated samples: (loss, statistics)."""
        self._check_separable("discriminator_step")
        self._pair.prepare("discriminator_step", self._pair.d)
        self._check_judged("discriminator_step", real)
        checked.labels("discriminator_step", labels, len(real))
        share = self._share("discriminator_step", len(real), total)
        batch = self._batch("discriminator_step", len(real), real, labels, share)
        return self._reports.of_phase(self._train_discriminator(batch), share)

    def generator_step(
        self,
        batch_size: int,
        real: Tensor | None = None,
        labels: Any = None,
        *,
        total: int | None = None,
    ) -> tuple[Tensor, LossStats]:
        """Update the generator once, on `batch_size` samples: (loss, statistics), the adversarial ones.

        `real`, a batch (N, ...) of real samples, is for the losses that compare with it, as the relativistic ones do,
        and for ``generator_terms``; for the pairing losses and for most terms N is batch_size.
        """
        self._check_separable("generator_step")
        self._pair.prepare("generator_step", self._pair.g)
        check_int("GANTrainer.generator_step", "batch_size", batch_size)
        compares = self._losses.compares
        weight = self.adversarial_weight
        looks = self.generator_terms is not None
        looks = looks or (callable(weight) and not isinstance(weight, Schedule))
        if compares != (real is not None) and (compares or not looks):
            must = "a batch of real samples" if compares else "None"
            raise ValueError(
                f'GANTrainer.generator_step: real must be {must} for loss="{self.loss}", '
                f"got {type(real).__name__}"
            )
        if real is not None:
            self._check_real("generator_step", real)
            if self.micro_batches > 1:  # which have as many of both
                checked.per_sample("generator_step", "real", real, batch_size)
        checked.labels("generator_step", labels, batch_size)
        share = self._share("generator_step", batch_size, total)
        batch = self._batch("generator_step", batch_size, real, labels, share)
        of_g, _ = self._train_generator(batch)
        return self._reports.of_phase(of_g, share)

    def _train_discriminator(
        self, batch: Batch, made: Generated | None = None
    ) -> tuple[Tensor, LossStats]:
        """On fresh samples, or on those that were made."""
        G, D = self._pair.g, self._pair.d
        assert batch.real is not None
        self.real = batch.real.detach()
        if self._is_off():
            return self._reports.nothing(D.device)
        self._penalty_values()  # as many as there are by now
        due = [(i, p) for i, p in enumerate(self.penalties) if self.d_updates % p.every == 0]
        sums: dict[int, Any] = dict.fromkeys((i for i, _ in due), 0.0)
        numbers, graded = [], False
        with G.frozen(), self._placed(batch.share):
            for part in batches.parts_of(batch, self.micro_batches):
                samples, labels = self._sides(part, made)
                with D.gathered(bool(due)), second_derivatives([p for _, p in due]):
                    turns = self._judge.turns(samples, labels, due, self.stream, last=part.last)
                    for turn in turns:
                        # Before the penalties, some of which have a state: an error here leaves it as it is.
                        result = self._losses.discriminator(turn, scaled=self.scaler is not None)
                        terms = []
                        for k, (i, penalty) in enumerate(turn.due):
                            count = host_number(self.steps, "step")
                            value = penalty.value(turn.real, turn.fake, turn.probes[k], count)
                            terms.append(penalty.every * value)
                            sums[i] = sums[i] + part.weight * value.detach()
                        if not graded:
                            D.zero_grad()
                        graded = True
                        result.backward(terms, part.weight * batch.share.weight, self.scaler)
                loss, stats = result.loss, result.stats
                if loss is None or stats is None:
                    loss, stats = self._losses.numbers(turn.real, turn.fake)
                numbers.append((part.weight, loss, stats))
            D.update(self.max_grad_norm, self.scaler, self.update_if)
        self.d_updates += 1
        for i, value in sums.items():
            self._reports.computed(i, batch.share.weight * value)
        return combined(numbers)

    def _sides(self, part: Part, made: Generated | None) -> tuple[Sides, Sides]:
        """The samples that the discriminator learns from, and their labels."""
        G, labels = self._pair.g, part.labels
        if made is None:
            with torch.no_grad():
                made = self._samples.made_by(G.network, part)
            G.reshard()
        fake = made.samples.detach()
        past: Any = (fake, labels)
        if self.pool is not None:
            past = self.pool(fake, labels)
            past = (past, None) if labels is None else past
        return {"real": part.real, "fake": past[0]}, {"real": labels, "fake": past[1]}

    def _train_generator(
        self, batch: Batch, made: Generated | None = None
    ) -> tuple[tuple[Tensor, LossStats], dict[str, Tensor]]:
        """On fresh samples, or on those that were made: loss and statistics, and the terms."""
        G, D = self._pair.g, self._pair.d
        numbers, fakes = [], []
        terms: dict[str, Any] = {}
        with D.frozen(), self._placed(batch.share):
            for part in batches.parts_of(batch, self.micro_batches):
                with G.no_sync(not part.last):
                    generated = made or self._samples.made_by(G.network, part)
                step = GeneratorStep(self._judge, D, part, generated, self.steps)
                step.terms = terms_of(step, self.generator_terms)
                result = self._adversarial(step)
                if part.first:
                    G.zero_grad()
                weight = part.weight * batch.share.weight
                result.backward([*step.terms.values()], weight, self.scaler)
                assert result.loss is not None and result.stats is not None
                numbers.append((part.weight, result.loss, result.stats))
                fakes.append(generated.samples.detach())
                for name, value in step.terms.items():
                    terms[name] = terms.get(name, 0.0) + part.weight * value.detach()
            G.update(self.max_grad_norm, self.scaler, self.update_if)
        self.steps += 1
        self._pair.average()
        self.fake = fakes[0] if len(fakes) == 1 else torch.cat(fakes)
        return combined(numbers), terms

    def _adversarial(self, step: GeneratorStep) -> Result:
        """The adversarial part of the generator's loss."""
        if self._is_off():
            if not step.terms:
                raise ValueError(
                    "GANTrainer: generator_terms must return a loss before discriminator_start, got none"
                )
            return Result(*self._reports.nothing(self._pair.d.device), [], [])
        scaled = self.scaler is not None
        result = adversarial(step, self._losses, self.adversarial_weight, scaled=scaled)
        if self.ends_in_sigmoid is None:
            self.ends_in_sigmoid = outputs.end_in_sigmoid(step.fake_logits, self._pair.d.bare)
        return result

    def _penalty_values(self) -> list[Tensor]:
        """Each of the penalties that there are now, as it was last computed."""
        self._reports.resize(len(self.penalties))
        return self._reports.penalties

    def _is_off(self) -> bool:
        """Whether the adversarial parts are, for now."""
        return self.steps < self.discriminator_start

    @torch.no_grad()
    def sample(self, n: int, labels: Any = None, *, latent: Tensor | None = None) -> Tensor:
        """n generated samples (n, ...), from the averaged generator if there is one, in eval mode.

        Args:
            labels: for conditional networks, as for `step`.
            latent: what to make them of, (n, ...); drawn as for training, from `stream`, if not given.
        """
        check_int("GANTrainer.sample", "n", n)
        checked.labels("sample", labels, n)
        checked.per_sample("sample", "latent", latent, n)
        if latent is not None and self.latent is None:
            raise ValueError("GANTrainer.sample: latent must be None for latent=None, got a tensor")
        self._pair.look()
        share = self._share("sample", n, None)
        if latent is None:
            batch = self._batch("sample", n, None, labels, share)
        else:
            batch = Batch(n, None, latent, labels, share)
        network = self._pair.g.bare if self.ema is None else self.ema.module
        training = [module for module in network.modules() if module.training]
        try:
            network.eval()
            return self._samples.made_by(network, batch).samples
        finally:
            # Casts without a graph, which an autocast region keeps, would leave the next step without gradients.
            torch.clear_autocast_cache()
            self._pair.reshard()
            for module in training:  # not network.train(): some may be meant to stay in eval mode
                module.training = True

    @property
    def is_sharded(self) -> bool:
        """Whether fully_shard was applied to a network; then every process must call `sample` and `state_dict`."""
        return self._pair.is_sharded

    def state_dict(self) -> dict[str, Any]:
        """Networks (without the wrappers of DistributedDataParallel, DataParallel and torch.compile), average,
        optimisers, noise, random stream and counters, for ``torch.save``; a run continues from it bit for bit. Waits
        for the device. Penalties, and objects that were given as `loss`, `latent`, `logits`, `generator_terms`,
        `adversarial_weight`, `pool`, `generator_inputs`, `discriminator_inputs`, `generated` or `augment`, are in it if
        they have ``state_dict`` and ``load_state_dict``.

        Of sharded networks everything is whole and on the CPU, as it would be of one process; all must call this.
        """
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        if self.is_sharded:
            parts = parallel.whole(parts)
        penalties = [value.clone() for value in self._penalty_values()]
        counts = {"steps": self.steps, "d_updates": self.d_updates, "penalties": penalties}
        return {**parts, **counts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken, by a trainer with the same networks and options.

        Raises:
            KeyError: it has parts that this trainer has not (an average, noise, a scaler), or lacks some.
            TypeError, ValueError: a part is of another network or optimizer, or no state at all. In each case nothing
                has been changed. (Kinds of optimizers are told apart by their options alone: Adam's state is refused
                by SGD, and taken by AdamW.)
        """
        saved, penalties = state_dict, self._penalty_values()
        parts = states.loadable(self._parts(), self._stateful(), saved, len(penalties))
        states.load(parts, saved, is_sharded=self.is_sharded)
        self.steps, self.d_updates = saved["steps"], saved["d_updates"]
        for value, its in zip(penalties, saved["penalties"], strict=True):
            value.copy_(its)

    def _parts(self) -> dict[str, Any]:
        """What has a state_dict of its own."""
        return {
            **self._pair.parts(),
            "stream": self.stream,
            **({} if self.ema is None else {"ema": self.ema}),
            **({} if self.noise is None else {"noise": self.noise}),
            **({} if self.scaler is None else {"scaler": self.scaler}),
            **self._stateful(),
        }

    def _stateful(self) -> dict[str, Any]:
        """What was given to the trainer that has a state of its own."""
        given = {name: getattr(self, name) for name in _GIVEN}
        given.update((f"penalty {i}", penalty) for i, penalty in enumerate(self.penalties))
        return states.stateful(given)

    def _check_separable(self, verb: str) -> None:
        if self.reuse_fakes:
            raise RuntimeError(
                f"GANTrainer.{verb}: reuse_fakes must be False, because both phases share their samples, got True; "
                "call step"
            )

    def _check_real(self, verb: str, real: Tensor) -> None:
        checked.batch(verb, "real", real)
        checked.convertible(verb, real, self.noise, self.penalties, self.augment)

    def _check_judged(self, verb: str, real: Tensor) -> None:
        """What the discriminator's step needs, whatever was replaced since the last one."""
        self._check_real(verb, real)
        norms = self._pair.d.batch_norms
        checked.judging(norms, self.loss, self.penalties, joint=self.joint, separate=self.separate)
        checked.poolable(verb, self.pool, len(real), self.micro_batches)

    def _batch(self, verb: str, n: int, real: Tensor | None, labels: Any, share: Share) -> Batch:
        """With latents that are drawn for it."""
        if self.latent is None and labels is None:
            raise ValueError(
                f"GANTrainer.{verb}: labels, of which the generator makes its samples, must be given for latent=None, "
                "got None"
            )
        return self._samples.batch(n, real, labels, share)

    def _share(self, verb: str, n: int, total: int | None) -> Share:
        return batches.share_of(verb, n, total, is_parallel=self._pair.is_parallel)

    def _placed(self, share: Share) -> AbstractContextManager[None]:
        streams = [self.stream, *([] if self.noise is None else [self.noise.stream])]
        return batches.placed(streams, share)
