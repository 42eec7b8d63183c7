"""GANTrainer: the two steps of the GAN algorithm for your own networks and optimizers. You write the training loop.

    trainer = pygan.GANTrainer(G, D, g_optimizer, d_optimizer, latent=128)
    for real in loader:
        stats = trainer.step(real.to(device))

One `step` is an iteration of algorithm 1 of Goodfellow et al. 2014: k discriminator steps, then one generator step.
It never synchronizes with the device; reading the statistics does, so read them only when needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from pygan import _parallel as parallel
from pygan import _trainer_batches as batches
from pygan import _trainer_checks as checked
from pygan import _trainer_output_checks as outputs
from pygan import _trainer_state as states
from pygan._generator_step import (
    AdversarialWeight,
    GeneratorStep,
    GeneratorTerms,
    adversarial,
    is_function,
    terms_of,
)
from pygan._penalty_base import Penalized, Penalty
from pygan._trainer_batches import Batch, MicroBatch, Share
from pygan._trainer_discriminator import DiscriminatorRunner, Sides
from pygan._trainer_losses import Losses, LossFunctions, Result, accumulate, combined
from pygan._trainer_networks import Networks
from pygan._trainer_player import Player
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
    """A property of the trainer that forwards to one of its components."""
    owner_of = attrgetter(owner)

    def replace(trainer: GANTrainer, value: Any) -> None:
        setattr(owner_of(trainer), name, value)

    return property(attrgetter(f"{owner}.{name}"), replace)


# Arguments that may be objects of the user's with a state_dict.
_GIVEN = [
    *("loss", "latent", "logits", "generator_terms", "adversarial_weight", "pool"),
    *("generator_inputs", "discriminator_inputs", "generated", "augment"),
]


class GANTrainer:
    """Trains a generator against a discriminator.

    Args:
        generator: module from latents (N, ...) to samples (N, ...).
        discriminator: module from samples to logits (N, ...), or to a list of logits, one tensor per scale. If it
            returns anything else, or logits that each cover several samples, see `logits`. Both networks may be
            wrapped by DistributedDataParallel (separately), sharded by torch.distributed.fsdp.fully_shard, or compiled
            with torch.compile (a compiled discriminator has no second derivatives, so R1 and R2 need sigma and
            GradientPenalty does not work).
        g_optimizer, d_optimizer: each holds all trainable parameters of its network and none of the other's.
            Add new or unfrozen parameters with ``optimizer.add_param_group``.
        latent: an int for standard normal latents of shape (N, latent) with the dtype and device of the
            generator's parameters; a shape such as (100, 1, 1) for latents of shape (N, 100, 1, 1); or a callable
            ``batch_size -> Tensor`` whose first dimension is batch_size. If several processes share a batch, each one
            calls it with the size of the whole batch and takes its share of the result, so identically seeded
            processes draw what one process would. None: the generator gets only the labels, like pix2pix's, which
            gets the image to translate.
        loss: one of ``pygan.fused_losses.LOSSES``, or a :class:`LossFunctions`.
        logits: ``output -> logits``, for a discriminator that returns more than logits: selects the tensor or the list
            of tensors from the output, for example ``lambda output: output[0]``. The loss, the statistics and the
            penalties see only these; a custom loss gets the whole output. The result need not have the
            batch's first dimension: for PacGAN, whose logits cover packs of samples, pass ``lambda output: output``.
            (R1 and R2 with sigma compare sample by sample and refuse such logits. The other penalties take the
            gradient with respect to each sample, not each pack.)
        label_smoothing: one-sided, for the real samples, in [0, 1].
        weights: a list of numbers, one for each tensor (scale) that the discriminator returns, that multiply its loss
            in both steps; or a single number. (A custom loss applies its own weights.)
        generator_terms: ``GeneratorStep -> dict`` of further generator losses by name, 0-d and with their graph,
            which are added to the adversarial loss: reconstruction, perceptual, feature matching, path length, each
            already multiplied by its weight. See :class:`GeneratorStep` for the inputs. The statistics report each.
        adversarial_weight: factor of the adversarial loss in the generator's step: a number, a schedule from
            `pygan.schedules` (evaluated at the iteration count), a 0-d tensor, or ``GeneratorStep -> 0-d tensor``,
            for example with :func:`pygan.penalties.adaptive_weight`.
        discriminator_start: number of iterations before adversarial training starts. Until then the discriminator is
            neither evaluated nor trained, and the generator learns only from ``generator_terms``.
        d_steps: k, the discriminator steps per generator step, at least 1.
        reuse_fakes: generate samples once per iteration, as the examples of DCGAN, pix2pix, HiFi-GAN and
            VQGAN do: the discriminator learns from them, and the generator's step then evaluates the same samples with
            the updated discriminator and fresh noise and augmentation. This saves a forward pass of the generator (its
            BatchNorm statistics update once) but keeps its graph in memory during the discriminator's step. The two
            phases then cannot be called separately. False: new samples for each phase, as in the paper.
        joint: pass real and generated samples to the discriminator as one batch in its step, with one forward and one
            backward pass instead of two. Layers that look at the whole batch, such as a minibatch standard deviation,
            then see both kinds together; BatchNorm in training mode is refused.
        separate: in the discriminator's step, run the backward pass for the real samples before the forward pass for
            the generated ones: the same gradients, with only one side's activations in memory at a time. Not for losses
            and penalties that look at the logits of both sides.
        pool: a :class:`pygan.FakePool`, which replaces some generated samples in the discriminator's step, with their
            labels, by past ones. Single process only, because a state dict holds one process's pool.
        noise: :class:`pygan.InstanceNoise`, applied to real and generated samples before the discriminator, fresh
            at every use; or a schedule or a standard deviation from which to make one. Anneal it in your loop with
            ``trainer.noise.step(stats.real_sign)`` (the adaptive schedules respond to real_sign).
        penalties: one discriminator penalty from `pygan.penalties`, or a sequence of them.
        micro_batches: number of parts to split each batch into, to save memory. Each part has its own forward and
            backward pass, and the gradients add up to those of the whole batch. (Batch-dependent parts see
            only their micro-batch: BatchNorm, ``relativistic_average``, LeCam.)
        max_grad_norm: the norm to which each network's gradient is clipped (Pascanu et al. 2013), or None.
        ema: decay, between 0 and 1, of an exponential moving average of the generator's parameters and buffers
            (:class:`pygan.EMA`), updated after each generator step; or an average of your own, a `pygan.EMA` or
            another AveragedModel from torch, whose own update synchronizes in every step; None: no average.
        seed: 64-bit seed of the latents and the penalties' random numbers; None draws one from PyTorch's default
            generator.
        generator_inputs: ``(latent, labels) -> tuple`` of the generator's positional arguments. Default: whichever of
            the two are present.
        discriminator_inputs: ``(samples, labels) -> tuple`` of the discriminator's positional arguments, likewise:
            ``lambda x, labels: (x,)`` if it takes no labels, ``lambda x, labels: (torch.cat([labels, x], 1),)``
            for pix2pix's.
        generated: ``output -> samples``, for a generator that returns more than the samples: selects the tensor
            (N, ...) from the output. :class:`GeneratorStep` has the whole output.
        augment: ``samples -> samples``, differentiable and not in place, applied to real and generated samples before
            the noise. It may also convert real samples stored as integers, because noise and penalties need
            floating-point ones (R1 without sigma needs them before the augmentation).
        scaler: a ``torch.amp.GradScaler`` that scales the gradients of both networks, for fp16. To skip an update that
            overflowed, GradScaler synchronizes with the device in every update, unless the optimizer is fused
            (``torch.optim.Adam(..., fused=True)``): a fused optimizer skips it on the device.

    Attributes:
        steps, d_updates: number of generator steps (iterations) and discriminator steps done.
        ema: the average, a :class:`pygan.EMA` or the given AveragedModel, or None.
        stream: the :class:`pygan.NoiseStream` of latents and penalties.
        generator, discriminator, g_optimizer, d_optimizer: may be replaced between steps, a network together with its
            optimizer. The next step checks that they belong together. The average continues from its current
            values, which must fit the generator; replace `ema` too to start a new one.
        ends_in_sigmoid: whether the logits were found to be probabilities, which only least_squares
            accepts; None before the first generator step.
        real, fake, labels: the last real batch, the samples of the last generator step, detached, and their labels;
            None before the first.

    Raises:
        TypeError, ValueError: an invalid argument. The steps raise them for empty batches, a wrong number of batches,
            sparse, nested or quantized tensors, integer samples if noise or penalties need floating-point ones,
            invalid latents, and networks and optimizers that no longer belong together; nothing has changed then: no
            parameter, no optimizer state, no noise drawn. (An invalid result of a network or of `augment` is detected
            after the noise has been drawn, but before any training on it.)
        RuntimeError: a step under ``torch.no_grad``; a step within ``accelerator.accumulate``, where prepared
            optimizers skip their steps; or no gradient reaches the network being trained, for example because `augment`
            detaches.

    During each phase the other network's parameters do not require gradients; their flags are restored afterwards, even
    after an error. Gradients are set to None before each backward pass; the gradients of the last phases remain
    available for inspection.

    If a network is wrapped by DistributedDataParallel or sharded, each process passes its share of the batch, and
    every process gets the statistics of the whole batch. If all processes use the same `seed`, a sample gets the
    latents and the noise that it would get in one process (with ``micro_batches``, only the latents).
    """

    generator: nn.Module = _of("_networks.g", "network")
    g_optimizer: Optimizer = _of("_networks.g", "optimizer")
    discriminator: nn.Module = _of("_networks.d", "network")
    d_optimizer: Optimizer = _of("_networks.d", "optimizer")
    ema: AveragedModel | None = _of("_networks", "ema")
    latent: int | Sequence[int] | Callable[[int], Tensor] | None = _of("_samples", "latent")
    generator_inputs: Callable[..., tuple[Any, ...]] | None = _of("_samples", "generator_inputs")
    generated: Callable[[Any], Tensor] | None = _of("_samples", "generated")
    stream: NoiseStream = _of("_samples", "stream")
    noise: InstanceNoise | None = _of("_runner", "noise")
    augment: Callable[[Tensor], Tensor] | None = _of("_runner", "augment")
    logits: Callable[[Any], Any] | None = _of("_runner", "logits")
    discriminator_inputs: Callable[..., tuple[Any, ...]] | None = _of(
        "_runner", "discriminator_inputs"
    )
    penalties: list[Penalty] = _of("_runner", "penalties")
    joint: bool = _of("_runner", "joint")
    separate: bool = _of("_runner", "separate")
    loss: str | LossFunctions = _of("_losses", "loss")
    label_smoothing: float = _of("_losses", "label_smoothing")
    weights: float | Sequence[float] | None = _of("_losses", "weights")
    update_if: Callable[[list[nn.Parameter]], bool] | None = None
    """Called before each update with the parameters, which hold their gradients; False skips the update."""

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
        checked.scaler(scaler)
        checked.hooks(generator_inputs=generator_inputs, discriminator_inputs=discriminator_inputs)
        checked.hooks(generated=generated, augment=augment, logits=logits)
        checked.hooks(generator_terms=generator_terms)
        penalties = checked.penalties(penalties)
        self.d_steps, self.micro_batches, self.max_grad_norm = d_steps, micro_batches, max_grad_norm
        self.scaler, self.reuse_fakes, self.generator_terms = scaler, reuse_fakes, generator_terms
        self.adversarial_weight, self.discriminator_start = adversarial_weight, discriminator_start
        g = Player("generator", generator, g_optimizer)
        d = Player("discriminator", discriminator, d_optimizer)
        self._networks = Networks(g, d, ema)
        checked.joint_or_separate(d.batch_norms, loss, penalties, joint=joint, separate=separate)
        checked.pool(pool, is_parallel=self._networks.is_parallel)
        self.pool = pool
        noise = checked.noise(noise, seed, d.device)
        if seed is None:
            seed = int(torch.randint(2**63 - 1, (), dtype=torch.int64))
        # Not the seed of a noise module made here: its normals must differ from the latents.
        stream = NoiseStream((seed + 1) % 2**64, device=g.device)
        self._samples = Samples(g, latent, generator_inputs, generated, stream)
        self._runner = DiscriminatorRunner(
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
        self.labels: Any = None

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
            labels: for conditional networks: a tensor (N, ...), or a nested tuple or dict of tensors; if `real` is a
                sequence, a sequence with the labels of each batch. The second argument of both networks, unless
                ``generator_inputs`` or ``discriminator_inputs`` changes that. Generated samples get the labels of the
                real ones.
            total: number of samples of a batch in all processes together, needed if their shares are unequal: the first
                processes have one more (``torch.tensor_split``). A number, or a sequence like `real`.
        """
        if self._captured is not None:
            return self._captured.step(real, labels, total)
        self._networks.prepare("step", self._networks.g, self._networks.d)
        reals = batches.one_per_step(real, self.d_steps)
        for x in reals:
            self._check_discriminator_input("step", x)
        all_labels = batches.labels_per_step(labels, real, reals)
        totals = batches.totals_per_step(total, self.d_steps)
        shares = [self._share("step", len(x), t) for x, t in zip(reals, totals, strict=True)]
        counts = [1] * self.d_steps
        if not self.reuse_fakes:
            counts[-1] = 2  # latents for the generator's step too
        # All latents first, so that a callable with a wrong batch size is caught before any training.
        rounds = [
            batch
            for count, x, y, share in zip(counts, reals, all_labels, shares, strict=True)
            for batch in self._batches("step", len(x), x, y, share, count)
        ]
        last, made = rounds[-1], None
        if self.reuse_fakes:
            made = self._samples.made_by(self.generator, last)
        else:
            del rounds[-1]
        for batch in rounds:
            of_d = self._train_discriminator(batch, made)
        of_g, terms = self._train_generator(last, made)
        return self._reports.of_iteration(of_d, of_g, terms, last.share)

    def capture(self, real: Tensor | Sequence[Tensor], labels: Any = None) -> bool:
        """Make later calls of `step` replay the whole iteration as CUDA graphs, one for each set of penalties that
        are due together. For small networks this removes the launch overhead.

        Warms up, captures, and restores everything: no training takes place. Statistics, `fake` and the trained
        parameters are those of eager steps, and remain valid. Replays see the changes that the host makes between
        steps: learning rates (rounded to float32 if they are numbers), noise, schedules of penalties, loaded states.
        The Python code of networks and functions runs only during capture.

        A step runs eagerly if its batch has another size, such as the last batch of an epoch, if there is no optimizer
        state or average yet, or until the pool is full. Call capture again after replacing networks, layers, parameter
        groups, or options of the optimizers or the trainer. Until then, or until `release`, a step raises RuntimeError;
        it raises ValueError for a batch that differs in more than its size. The graphs of an earlier call are freed
        first.

        Args:
            real, labels: a batch as for `step`, on the networks' device. It is not used for training.

        Returns:
            Whether steps are captured. On the CPU there is nothing to capture: returns False and changes nothing.

        Raises:
            TypeError, ValueError: as for `step`.
            RuntimeError: something in the step cannot be captured or would be frozen in the graph: an optimizer without
                ``capturable=True`` (SGD: ``fused=True``), several processes, an average that is not a
                `pygan.EMA`, a scaler without fused optimizers, `update_if`, a host synchronization, a
                host number that changes between steps, a tensor that is not updated in place. Everything is
                restored; only after an error in CUDA itself during capture may the process be unusable.
        """
        self._networks.prepare("capture", self._networks.g, self._networks.d)
        reals = batches.one_per_step(real, self.d_steps)
        for x in reals:
            self._check_convertible("capture", x)
        batches.labels_per_step(labels, real, reals)
        self.release()
        if self._networks.g.device.type != "cuda":
            return False
        from pygan._capture import CapturedSteps
        from pygan._capture_cuda import CudaGraphs

        self._captured = CapturedSteps(self, real, labels, CudaGraphs(self._networks.g.device))
        return True

    def release(self) -> None:
        """Return to eager steps, and free the graphs made by `capture`."""
        self._captured = None

    def discriminator_step(
        self, real: Tensor, labels: Any = None, *, total: int | None = None
    ) -> tuple[Tensor, LossStats]:
        """Update the discriminator once, on the batch `real` (N, ...) and N generated samples: (loss, statistics)."""
        self._check_separable("discriminator_step")
        self._networks.prepare("discriminator_step", self._networks.d)
        checked.batch("discriminator_step", "real", real)
        self._check_discriminator_input("discriminator_step", real)
        checked.labels("discriminator_step", labels, len(real))
        share = self._share("discriminator_step", len(real), total)
        (batch,) = self._batches("discriminator_step", len(real), real, labels, share)
        return self._reports.of_phase(self._train_discriminator(batch), share)

    def generator_step(
        self,
        batch_size: int,
        real: Tensor | None = None,
        labels: Any = None,
        *,
        total: int | None = None,
    ) -> tuple[Tensor, LossStats]:
        """Update the generator once, on `batch_size` samples; returns the adversarial (loss, statistics).

        `real`, a batch (N, ...) of real samples, is for ``generator_terms`` and for losses that compare with it, such
        as the relativistic ones; for the pairing losses and most terms, N must be batch_size.
        """
        self._check_separable("generator_step")
        self._networks.prepare("generator_step", self._networks.g)
        check_int("GANTrainer.generator_step", "batch_size", batch_size)
        compares = self._losses.compares
        reads_real = self.generator_terms is not None or is_function(self.adversarial_weight)
        if compares != (real is not None) and (compares or not reads_real):
            must = "a batch of real samples" if compares else "None"
            raise ValueError(
                f"GANTrainer.generator_step: real must be {must} for {checked.described(self.loss)}, got "
                f"{type(real).__name__}"
            )
        if real is not None:
            checked.batch("generator_step", "real", real)
            self._check_convertible("generator_step", real)
            if self.micro_batches > 1:  # each has as many real as generated samples
                checked.per_sample("generator_step", "real", real, batch_size)
        checked.labels("generator_step", labels, batch_size)
        share = self._share("generator_step", batch_size, total)
        (batch,) = self._batches("generator_step", batch_size, real, labels, share)
        of_g, _ = self._train_generator(batch)
        return self._reports.of_phase(of_g, share)

    def _train_discriminator(
        self, batch: Batch, made: Generated | None = None
    ) -> tuple[Tensor, LossStats]:
        """Trains on new samples, or on the given `made` ones."""
        G, D = self._networks.g, self._networks.d
        assert batch.real is not None
        self.real = batch.real.detach()
        if self._is_off():
            return self._reports.nothing(D.device)
        self._penalty_values()  # resizes the list if penalties were added or removed
        due = [(i, p) for i, p in enumerate(self.penalties) if self.d_updates % p.every == 0]
        values: dict[int, Tensor] = {}
        numbers, graded = [], False
        with G.frozen(), self._placed(batch.share):
            for micro in batches.micro_batches_of(batch, self.micro_batches):
                samples, labels = self._sides(micro, made)
                with Penalized([p for _, p in due], D.units):
                    passes = self._runner.backward_passes(
                        samples, labels, due, self.stream, last=micro.last
                    )
                    for backward in passes:
                        # Before the penalties, some of which have a state: an error here must leave it unchanged.
                        result = self._losses.discriminator(
                            backward, scaled=self.scaler is not None
                        )
                        terms = []
                        for i, value, term in backward.penalty_values(self.steps):
                            accumulate(values, i, micro.weight, value)
                            terms.append(term)
                        if not graded:
                            D.zero_grad()
                        graded = True
                        result.backward(terms, micro.weight * batch.share.weight, self.scaler)
                loss, stats = result.loss, result.stats
                if loss is None or stats is None:
                    loss, stats = self._losses.numbers(backward.real, backward.fake)
                numbers.append((micro.weight, loss, stats))
            D.update(self.max_grad_norm, self.scaler, self.update_if)
        self.d_updates += 1
        for i, value in values.items():
            self._reports.computed(i, value, batch.share)
        return combined(numbers)

    def _sides(self, micro: MicroBatch, made: Generated | None) -> tuple[Sides, Sides]:
        """The samples that the discriminator learns from, and their labels."""
        G, labels = self._networks.g, micro.labels
        if made is None:
            with torch.no_grad():
                made = self._samples.made_by(G.network, micro)
            G.reshard()
        fake = made.samples.detach()
        past: Any = (fake, labels)
        if self.pool is not None:
            past = self.pool(fake, labels)
            past = (past, None) if labels is None else past
        return {"real": micro.real, "fake": past[0]}, {"real": labels, "fake": past[1]}

    def _train_generator(
        self, batch: Batch, made: Generated | None = None
    ) -> tuple[tuple[Tensor, LossStats], dict[str, Tensor]]:
        """Trains on new samples, or on the given `made` ones: (loss, statistics), and the terms."""
        G, D = self._networks.g, self._networks.d
        numbers, fakes = [], []
        terms: dict[str, Tensor] = {}
        with D.frozen(), self._placed(batch.share):
            for micro in batches.micro_batches_of(batch, self.micro_batches):
                generate = partial(G.run, reduced=micro.last)
                generated = made or self._samples.made_by(generate, micro)
                step = GeneratorStep(self._runner, micro, generated, self.steps)
                step.terms = terms_of(step, self.generator_terms)
                result = self._adversarial(step)
                if micro.first:
                    G.zero_grad()
                weight = micro.weight * batch.share.weight
                result.backward([*step.terms.values()], weight, self.scaler)
                assert result.loss is not None and result.stats is not None
                numbers.append((micro.weight, result.loss, result.stats))
                fakes.append(generated.samples.detach())
                for name, value in step.terms.items():
                    accumulate(terms, name, micro.weight, value)
            G.update(self.max_grad_norm, self.scaler, self.update_if)
        self.steps += 1
        self._networks.average()
        self.fake = fakes[0] if len(fakes) == 1 else torch.cat(fakes)
        self.labels = batch.labels
        return combined(numbers), terms

    def _adversarial(self, step: GeneratorStep) -> Result:
        """The adversarial part of the generator's loss."""
        if self._is_off():
            if not step.terms:
                raise ValueError(
                    "GANTrainer: generator_terms must return a loss before discriminator_start, got none"
                )
            return Result(*self._reports.nothing(self._networks.d.device), [], [])
        scaled = self.scaler is not None
        result = adversarial(step, self._losses, self.adversarial_weight, scaled=scaled)
        if self.ends_in_sigmoid is None:
            self.ends_in_sigmoid = outputs.end_in_sigmoid(step.fake_logits, self._networks.d.bare)
        return result

    def _penalty_values(self) -> list[Tensor]:
        """The most recently computed value of each current penalty."""
        self._reports.resize(len(self.penalties))
        return self._reports.penalties

    def _is_off(self) -> bool:
        """Whether adversarial training has not started yet (`discriminator_start`)."""
        return self.steps < self.discriminator_start

    @torch.no_grad()
    def sample(self, n: int, labels: Any = None, *, latent: Tensor | None = None) -> Tensor:
        """n generated samples (n, ...), from the averaged generator if there is one, in eval mode.

        Args:
            labels: for conditional networks, as for `step`.
            latent: the generator's input, (n, ...); by default drawn from `stream`, as in training.
        """
        check_int("GANTrainer.sample", "n", n)
        checked.labels("sample", labels, n)
        checked.per_sample("sample", "latent", latent, n)
        if latent is not None and self.latent is None:
            raise ValueError("GANTrainer.sample: latent must be None for latent=None, got a tensor")
        self._networks.refresh()
        share = self._share("sample", n, None)
        if latent is None:
            (batch,) = self._batches("sample", n, None, labels, share)
        else:
            batch = Batch(n, None, latent, labels, share)
        network = self._networks.g.bare if self.ema is None else self.ema.module
        training = [module for module in network.modules() if module.training]
        try:
            network.eval()
            return self._samples.made_by(network, batch).samples
        finally:
            # An enclosing autocast region caches the casts made here without a graph, which have no gradients.
            torch.clear_autocast_cache()
            self._networks.reshard()
            for module in training:  # not network.train(): some may be meant to stay in eval mode
                module.training = True

    @property
    def is_sharded(self) -> bool:
        """Whether a network was sharded by fully_shard; every process must then call `sample` and `state_dict`."""
        return self._networks.is_sharded

    def state_dict(self) -> dict[str, Any]:
        """Networks (without the wrappers of DistributedDataParallel, DataParallel and torch.compile), average,
        optimizers, noise, random stream and counters, for ``torch.save``; a run continues from it bit for bit.
        Synchronizes with the device. Penalties, and objects given as `loss`, `latent`, `logits`, `generator_terms`,
        `adversarial_weight`, `pool`, `generator_inputs`, `discriminator_inputs`, `generated` or `augment`, are included
        if they have ``state_dict`` and ``load_state_dict``.

        For sharded networks, every process must call this, and gets the full unsharded state on the CPU.
        """
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        if self.is_sharded:
            parts = parallel.gather_state(parts)
        penalties = [value.clone() for value in self._penalty_values()]
        counts = {"steps": self.steps, "d_updates": self.d_updates, "penalties": penalties}
        return {**parts, **counts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues from where `state_dict` was saved, by a trainer with the same networks and options.

        Raises:
            KeyError: it has parts that this trainer lacks (an average, noise, a scaler), or the other way round.
            TypeError, ValueError: a part belongs to another network or optimizer, or is not a state. In every case
                nothing has changed. (Optimizers are recognized only by their options: SGD refuses Adam's state, but
                AdamW accepts it.)
        """
        saved, penalties = state_dict, self._penalty_values()
        parts = states.loadable(self._parts(), self._stateful(), saved, len(penalties))
        states.load(parts, saved, is_sharded=self.is_sharded)
        self.steps, self.d_updates = saved["steps"], saved["d_updates"]
        for value, its in zip(penalties, saved["penalties"], strict=True):
            value.copy_(its)

    def _parts(self) -> dict[str, Any]:
        """The components that have a state_dict."""
        return {
            **self._networks.parts(),
            "stream": self.stream,
            **({} if self.ema is None else {"ema": self.ema}),
            **({} if self.noise is None else {"noise": self.noise}),
            **({} if self.scaler is None else {"scaler": self.scaler}),
            **self._stateful(),
        }

    def _stateful(self) -> dict[str, Any]:
        """The objects given to the trainer that have a state_dict."""
        given = {name: getattr(self, name) for name in _GIVEN}
        given.update((f"penalty {i}", penalty) for i, penalty in enumerate(self.penalties))
        return states.stateful(given)

    def _check_separable(self, verb: str) -> None:
        if self.reuse_fakes:
            raise RuntimeError(
                f"GANTrainer.{verb}: reuse_fakes must be False, because it shares samples between both phases, got "
                "True; call step"
            )

    def _check_convertible(self, verb: str, real: Tensor) -> None:
        checked.convertible(verb, real, self.noise, self.penalties, self.augment)

    def _check_discriminator_input(self, verb: str, real: Tensor) -> None:
        """Check the inputs of the discriminator's step again, because anything may have been replaced."""
        self._check_convertible(verb, real)
        norms = self._networks.d.batch_norms
        checked.joint_or_separate(
            norms, self.loss, self.penalties, joint=self.joint, separate=self.separate
        )
        checked.poolable(verb, self.pool, len(real), self.micro_batches)

    def _batches(
        self, verb: str, n: int, real: Tensor | None, labels: Any, share: Share, count: int = 1
    ) -> list[Batch]:
        """A batch `count` times, each time with newly drawn latents."""
        if self.latent is None and labels is None:
            raise ValueError(
                f"GANTrainer.{verb}: labels must be given for latent=None, because they are the generator's only "
                "input, got None"
            )
        return self._samples.batches(count, n, real, labels, share)

    def _share(self, verb: str, n: int, total: int | None) -> Share:
        return batches.share_of(verb, n, total, is_parallel=self._networks.is_parallel)

    def _placed(self, share: Share) -> AbstractContextManager[None]:
        if share.first is None:
            return parallel.NOTHING
        streams = [self.stream, *([] if self.noise is None else [self.noise.stream])]
        return batches.placed(streams, share)
