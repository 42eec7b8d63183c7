"""GANTrainer: the two steps of the GAN algorithm over the user's own networks and optimisers. It owns no loop.

    trainer = pygan.GANTrainer(G, D, g_optimizer, d_optimizer, latent=128)
    for real in loader:
        stats = trainer.step(real.to(device))

One `step` is an iteration of algorithm 1 of Goodfellow et al. 2014: k discriminator steps, then one generator step.
Nothing in it waits for the device; reading the statistics does, so read them when they are wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from pygan import _parallel as parallel
from pygan import _trainer_checks as checked
from pygan import _trainer_state as states
from pygan import fused_losses
from pygan._arguments import check_int
from pygan._loss_results import mixable, mixed
from pygan._trainer_phases import NONFINITE, LossFunctions, Phases, Share
from pygan.average import EMA
from pygan.fused_losses import LossStats
from pygan.modules import InstanceNoise
from pygan.penalties import Penalty
from pygan.schedules import Schedule
from pygan.stream import NoiseStream

__all__ = ["GANTrainer", "LossFunctions", "TrainStats"]


class TrainStats(NamedTuple):
    """What one iteration saw: detached 0-d tensors on the device. ``torch.stack(stats).tolist()`` reads all of them
    with a single synchronisation. Means are over the batch; with several discriminator steps, over the last one's."""

    d_loss: Tensor
    """The discriminator's loss; 2 log 2 = 1.386 when it cannot tell real from generated."""
    g_loss: Tensor
    """The generator's loss; log 2 = 0.693 there (non-saturating)."""
    real_logit: Tensor
    fake_logit: Tensor
    d_real: Tensor
    """D(x)."""
    d_fake: Tensor
    """D(G(z)) in the discriminator step."""
    d_fake_after: Tensor
    """D(G(z)) in the generator step, which is against the updated discriminator."""
    real_accuracy: Tensor
    """Share of the real samples' logits that are decided for real, as :class:`pygan.fused_losses.LossStats` says for
    each loss."""
    fake_accuracy: Tensor
    """Share of the generated samples' logits that are decided for fake."""
    real_sign: Tensor
    """Mean sign of the real samples' decisions; near 1 means an overfitting discriminator (Karras et al. 2020). It
    means nothing with wasserstein."""
    jsd_bound: Tensor
    """Lower bound of the Jensen-Shannon divergence in nats; stuck at log 2 = 0.693 it teaches nothing."""
    nonfinite: Tensor
    """Logits that were NaN or infinite in the discriminator step."""
    g_nonfinite: Tensor
    """The same in the generator step."""
    penalty: Tensor
    """The sum of the penalties, each as it was last computed; not part of d_loss."""


class GANTrainer(Phases):
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
            seeded alike, they draw what one process would.
        loss: one of ``pygan.fused_losses.LOSSES``, or a :class:`LossFunctions`.
        logits: ``output -> logits``, for a discriminator that returns more than logits: picks the tensor or the list of
            tensors from what it returned, as ``lambda output: output[0]`` does. The loss, the statistics and the
            penalties use these alone; a loss of your own gets all that was returned. What it returns need not have the
            batch's first dimension, as PacGAN's logits of packs of samples: pass ``lambda output: output`` for them.
            (R1 and R2 with sigma compare sample by sample, and refuse such. The other penalties take the gradient by
            each sample, not by each pack.)
        label_smoothing: one-sided, for the real samples, in [0, 1].
        d_steps: k, the discriminator steps per generator step, at least 1.
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
        generator_inputs: ``(latent, labels) -> tuple`` of the generator's positional arguments. Default: the latents,
            and the labels if there are any.
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

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        g_optimizer: Optimizer,
        d_optimizer: Optimizer,
        *,
        latent: int | Sequence[int] | Callable[[int], Tensor],
        loss: str | LossFunctions = "non_saturating",
        logits: Callable[[Any], Any] | None = None,
        label_smoothing: float = 0.0,
        d_steps: int = 1,
        noise: InstanceNoise | Schedule | float | None = None,
        penalties: Penalty | Sequence[Penalty] = (),
        micro_batches: int = 1,
        max_grad_norm: float | None = None,
        ema: float | AveragedModel | None = None,
        seed: int | None = None,
        generator_inputs: Callable[[Tensor, Tensor | None], tuple[Any, ...]] | None = None,
        augment: Callable[[Tensor], Tensor] | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        checked.modules(generator=generator, discriminator=discriminator)
        checked.latent(latent)
        checked.loss(loss, label_smoothing)
        check_int("GANTrainer", "d_steps", d_steps)
        check_int("GANTrainer", "micro_batches", micro_batches)
        checked.between("max_grad_norm", max_grad_norm, 0.0, float("inf"))
        checked.average(ema)
        checked.seed(seed)
        checked.hooks(generator_inputs=generator_inputs, augment=augment, logits=logits)
        self.penalties = checked.penalties(penalties)
        self.generator, self.discriminator = generator, discriminator
        self.g_optimizer, self.d_optimizer = g_optimizer, d_optimizer
        self.latent, self.loss, self.label_smoothing = latent, loss, label_smoothing
        self.d_steps, self.micro_batches, self.max_grad_norm = d_steps, micro_batches, max_grad_norm
        self.generator_inputs, self.augment, self.scaler = generator_inputs, augment, scaler
        self.logits = logits
        self._compares = isinstance(loss, str) and fused_losses.compares(loss)
        self.ema = ema if isinstance(ema, AveragedModel) else None
        self._refresh()
        self._check_trainable("GANTrainer", "generator", "discriminator")
        device = self._d_parameters[0].device
        self.noise = checked.noise(noise, seed, device)
        if seed is None:
            seed = int(torch.randint(2**63 - 1, (), dtype=torch.int64))
        # Another seed than that of a noise module made here, whose normals must not be those of the latents.
        self.stream = NoiseStream((seed + 1) % 2**64, device=self._g_parameters[0].device)
        if isinstance(ema, float):
            if self._g_units:
                raise ValueError(
                    "GANTrainer: ema must be a pygan.EMA where the generator is sharded, made before and "
                    f"sharded like it, got {ema}"
                )
            self.ema = EMA(self._bare_generator, ema)
        if self.ema is not None:
            self.ema.eval()
        self.steps = self.d_updates = 0
        self.ends_in_sigmoid: bool | None = None
        self.real: Tensor | None = None
        self.fake: Tensor | None = None
        self._no_penalty = torch.zeros((), device=device)
        self._penalty_values = [torch.zeros_like(self._no_penalty) for _ in self.penalties]
        self._fresh_penalties: dict[int, Tensor] = {}

    def step(
        self,
        real: Tensor | Sequence[Tensor],
        labels: Tensor | Sequence[Tensor] | None = None,
        *,
        total: int | Sequence[int] | None = None,
    ) -> TrainStats:
        """One iteration: `d_steps` discriminator steps, then one generator step on as many samples as the last batch.

        Args:
            real: a batch (N, ...) of real samples; with ``d_steps`` > 1, a sequence of that many batches.
            labels: for conditional networks, (N, ...), or a sequence like `real`: the second argument of both
                networks. Generated samples get the labels of the real ones.
            total: samples of a batch in all processes together, where they do not have equally many: the first
                processes have one more (``torch.tensor_split``). A number, or a sequence like `real`.
        """
        self._prepare("step", "generator", "discriminator")
        batches = self._checked_batches("real", real)
        all_labels: Sequence[Tensor | None] = [None] * len(batches)
        if labels is not None:
            all_labels = self._checked_batches("labels", labels)
        for batch, its_labels in zip(batches, all_labels, strict=True):
            checked.per_sample("step", "labels", its_labels, len(batch))
        totals = total if isinstance(total, (list, tuple)) else [total] * len(batches)
        if len(totals) != len(batches):
            raise ValueError(
                f"GANTrainer.step: total must be an int or {len(batches)} of them, got {len(totals)}"
            )
        shares = [self._share("step", len(x), t) for x, t in zip(batches, totals, strict=True)]
        # All latents first: a callable that returns a wrong batch size is caught before anything has been trained.
        rounds = list(zip(batches, all_labels, shares, strict=True))
        latents = [self._draw_latent(len(x), share) for x, _, share in (*rounds, rounds[-1])]
        for (batch, its_labels, share), latent in zip(rounds, latents[:-1], strict=True):
            d_loss, d = self._discriminator_step(batch, latent, its_labels, share)
        g_loss, g = self._generator_step(latents[-1], batches[-1], *rounds[-1][1:])
        values = [d_loss, g_loss, d.real_logit, d.fake_logit, d.d_real, d.d_fake, g.d_fake]
        values += [d.real_accuracy, d.fake_accuracy, d.real_sign, d.jsd_bound]
        values += [d.nonfinite, g.nonfinite]
        values = self._over_processes(values, _COUNTS, rounds[-1][2])
        return TrainStats._make([*values, self._penalty_sum(d_loss.device)])

    def discriminator_step(
        self, real: Tensor, labels: Tensor | None = None, *, total: int | None = None
    ) -> tuple[Tensor, LossStats]:
        """Update the discriminator once, on the batch `real` (N, ...) and N generated samples: (loss, statistics)."""
        self._prepare("discriminator_step", "discriminator")
        self._check_real("discriminator_step", real)
        checked.per_sample("discriminator_step", "labels", labels, len(real))
        share = self._share("discriminator_step", len(real), total)
        latent = self._draw_latent(len(real), share)
        return self._whole(self._discriminator_step(real, latent, labels, share), share)

    def generator_step(
        self,
        batch_size: int,
        real: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        total: int | None = None,
    ) -> tuple[Tensor, LossStats]:
        """Update the generator once, on `batch_size` samples: (loss, statistics).

        `real`, a batch (N, ...) of real samples, is for the relativistic losses, which compare with it; for the
        pairing one N is batch_size.
        """
        self._prepare("generator_step", "generator")
        check_int("GANTrainer.generator_step", "batch_size", batch_size)
        if self._compares != (real is not None):
            must = "a batch of real samples" if self._compares else "None"
            raise ValueError(
                f'GANTrainer.generator_step: real must be {must} for loss="{self.loss}", '
                f"got {type(real).__name__}"
            )
        if real is not None:
            self._check_real("generator_step", real)
        checked.per_sample("generator_step", "labels", labels, batch_size)
        share = self._share("generator_step", batch_size, total)
        latent = self._draw_latent(batch_size, share)
        return self._whole(self._generator_step(latent, real, labels, share), share)

    @torch.no_grad()
    def sample(
        self, n: int, labels: Tensor | None = None, *, latent: Tensor | None = None
    ) -> Tensor:
        """n generated samples (n, ...), from the averaged generator if there is one, in eval mode.

        Args:
            labels: for conditional networks, (n, ...).
            latent: what to make them of, (n, ...); drawn as for training, from `stream`, if not given.
        """
        check_int("GANTrainer.sample", "n", n)
        checked.per_sample("sample", "labels", labels, n)
        checked.per_sample("sample", "latent", latent, n)
        self._look_through()
        if latent is None:
            latent = self._draw_latent(n, self._share("sample", n, None))
        network = self._bare_generator if self.ema is None else self.ema.module
        training = [module for module in network.modules() if module.training]
        try:
            network.eval()
            return self._generate(network, latent, labels)
        finally:
            # Casts without a graph, which an autocast region keeps, would leave the next step without gradients.
            torch.clear_autocast_cache()
            parallel.reshard(self._g_units if self.ema is None else self._ema_units)
            for module in training:  # not network.train(): some may be meant to stay in eval mode
                module.training = True

    @property
    def is_sharded(self) -> bool:
        """Whether fully_shard was applied to a network; then every process must call `sample` and `state_dict`."""
        return bool(self._g_units or self._d_units)

    def state_dict(self) -> dict[str, Any]:
        """Networks (without the wrappers of DistributedDataParallel, DataParallel and torch.compile), average,
        optimisers, noise, random stream and counters, for ``torch.save``; a run continues from it bit for bit. Waits
        for the device. Penalties, and objects that were given as `loss`, `latent`, `logits`, `generator_inputs` or
        `augment`, are in it if they have ``state_dict`` and ``load_state_dict``.

        Of sharded networks everything is whole and on the CPU, as it would be of one process; all must call this.
        """
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        if self.is_sharded:
            parts = parallel.whole(parts)
        penalties = [value.clone() for value in self._penalty_values]
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
        parts = self._parts()
        for name, owner in self._stateful().items():
            # Before such objects were saved, there was no entry; without a state there is nothing to load.
            if name not in state_dict and not owner.state_dict():
                del parts[name]
        wanted = {*parts, "steps", "d_updates", "penalties"}
        if set(state_dict) != wanted or len(state_dict["penalties"]) != len(self.penalties):
            missing, unknown = sorted(wanted - set(state_dict)), sorted(set(state_dict) - wanted)
            raise KeyError(
                "GANTrainer.load_state_dict: state_dict must be of a trainer with the same parts, got one with "
                f"{len(state_dict.get('penalties', ()))} penalties for {len(self.penalties)}, "
                f"without {missing}, with {unknown}"
            )
        for name in ("steps", "d_updates"):
            check_int("GANTrainer.load_state_dict", name, state_dict[name], 0)
        checked.penalty_values(state_dict["penalties"])
        states.load(parts, state_dict, is_sharded=self.is_sharded)
        self.steps, self.d_updates = state_dict["steps"], state_dict["d_updates"]
        for value, saved in zip(self._penalty_values, state_dict["penalties"], strict=True):
            value.copy_(saved)

    def _parts(self) -> dict[str, Any]:
        """What has a state_dict of its own."""
        self._look_through()
        return {
            "generator": self._bare_generator,
            "discriminator": self._bare_discriminator,
            "g_optimizer": self.g_optimizer,
            "d_optimizer": self.d_optimizer,
            "stream": self.stream,
            **({} if self.ema is None else {"ema": self.ema}),
            **({} if self.noise is None else {"noise": self.noise}),
            **({} if self.scaler is None else {"scaler": self.scaler}),
            **self._stateful(),
        }

    def _stateful(self) -> dict[str, Any]:
        """What was given to the trainer that has a state of its own."""
        names = ("loss", "latent", "logits", "generator_inputs", "augment")
        given = {name: getattr(self, name) for name in names}
        given.update((f"penalty {i}", penalty) for i, penalty in enumerate(self.penalties))
        verbs = ("state_dict", "load_state_dict")
        return {
            name: owner
            for name, owner in given.items()
            if all(callable(getattr(owner, verb, None)) for verb in verbs)
        }

    def _checked_batches(self, name: str, given: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
        if isinstance(given, Tensor):
            batches: Sequence[Tensor] = (given,)
        elif isinstance(given, (list, tuple)):
            batches = given
        else:
            raise TypeError(
                f"GANTrainer.step: {name} must be a tensor or a sequence of tensors (one per discriminator step), "
                f"got {type(given).__name__}"
            )
        if len(batches) != self.d_steps:
            hint = ""
            if name == "real" and len(batches) == 2:
                hint = " (a batch and its labels are step(x, labels))"
            raise ValueError(
                f"GANTrainer.step: {name} must hold one batch for each of the {self.d_steps} discriminator step(s), "
                f"got {len(batches)}{hint}"
            )
        for batch in batches:
            checked.batch("step", name, batch)
        dims = [batch.dim() for batch in batches]
        if len(set(dims)) > 1:
            raise ValueError(
                f"GANTrainer.step: {name} must hold batches of as many dimensions, one for each discriminator step "
                f"(a batch and its labels are step(x, labels)), got {dims}"
            )
        if name == "real":
            for batch in batches:
                self._check_real("step", batch)
        return batches

    def _check_real(self, verb: str, real: Tensor) -> None:
        checked.batch(verb, "real", real)
        checked.convertible(verb, real, self.noise, self.penalties, self.augment)

    def _share(self, verb: str, n: int, total: int | None) -> Share:
        if total is not None:
            check_int(f"GANTrainer.{verb}", "total", total)
        if self._parallel:
            return Share(*parallel.first_of_share(f"GANTrainer.{verb}", n, total))
        if total not in (None, n):
            raise ValueError(
                f"GANTrainer.{verb}: total must be the batch's {n} samples where no network is wrapped or "
                f"sharded for several processes, got {total}"
            )
        return Share(None, 1.0, n)

    def _over_processes(self, values: list[Tensor], counts: set[int], share: Share) -> list[Tensor]:
        """The means over the processes, of those at the indices `counts` the sums; and of the penalties, on the way."""
        fresh = list(self._fresh_penalties.items())
        computed = [value for _, value in fresh]
        if share.first is not None:
            world = torch.distributed.get_world_size()
            factors = [1.0 if i in counts else share.weight / world for i in range(len(values))]
            reduced = parallel.summed([*values, *computed], factors + [1.0 / world] * len(fresh))
            values, computed = reduced[: len(values)], reduced[len(values) :]
        for (i, _), value in zip(fresh, computed, strict=True):
            self._penalty_values[i] = value
        self._fresh_penalties.clear()
        return values

    def _penalty_sum(self, device: torch.device) -> Tensor:
        """On the device of the discriminator, which may have been moved since a lazy penalty was last computed."""
        if self._no_penalty.device != device:
            self._no_penalty = self._no_penalty.to(device)
            self._penalty_values = [value.to(device) for value in self._penalty_values]
        return sum(self._penalty_values, self._no_penalty)

    def _whole(self, part: tuple[Tensor, LossStats], share: Share) -> tuple[Tensor, LossStats]:
        if share.first is None:
            self._over_processes([], set(), share)
            return part
        numbers = [part[0], *mixable(part[1])]
        loss, *stats = self._over_processes(numbers, {NONFINITE + 1}, share)
        return loss, mixed(stats)

    def _prepare(self, verb: str, *trained: str) -> None:
        """What every step begins with: that it can train, and networks and optimizers as they are now."""
        if not torch.is_grad_enabled():
            raise RuntimeError(
                f"GANTrainer.{verb}: gradients must be enabled, got a call under torch.no_grad() or inference_mode()"
            )
        checked.synchronizing(verb, g_optimizer=self.g_optimizer, d_optimizer=self.d_optimizer)
        # Walking the modules at every step costs as much as a small loss.
        if self._watched != self._watch():
            self._refresh()
        self._check_trainable(f"GANTrainer.{verb}", *trained)

    def _watch(self) -> list[Any]:
        """What differs where networks, optimizers or what they hold are no longer those that were checked. A layer
        that was replaced shows by its parameters, which get no gradient any more."""
        watched: list[Any] = [self.generator, self.discriminator, self.ema]
        for optimizer in (self.g_optimizer, self.d_optimizer):
            watched.append(optimizer)
            for group in getattr(optimizer, "param_groups", ()):
                watched += map(id, group["params"])
        for parameters in (self._g_parameters, self._d_parameters):
            watched += [(p.requires_grad, p.grad is None) for p in parameters]
        return watched

    def _check_trainable(self, op: str, *trained: str) -> None:
        lists = {"generator": self._g_parameters, "discriminator": self._d_parameters}
        for network in trained:
            if not any(p.requires_grad for p in lists[network]):
                raise ValueError(f"{op}: {network} must have trainable parameters, got none")

    def _refresh(self) -> None:
        """Check that optimizers, networks and average belong together."""
        checked.modules(generator=self.generator, discriminator=self.discriminator)
        self._look_through()
        own, others = self._g_parameters, self._d_parameters
        if not {id(p) for p in own}.isdisjoint(id(p) for p in others):
            raise ValueError(
                "GANTrainer: generator and discriminator must not share parameters, got a shared one"
            )
        checked.optimizer("g_optimizer", self.g_optimizer, "generator", own, others)
        checked.optimizer("d_optimizer", self.d_optimizer, "discriminator", others, own)
        if self.ema is not None:
            checked.average_of(self.ema, own)
        self._watched = self._watch()

    def _look_through(self) -> None:
        """Keep what is in the networks, and under their wrappers, as they are now; the next step checks it."""
        self._watched = []
        self._g_parameters = list(self.generator.parameters())
        self._d_parameters = list(self.discriminator.parameters())
        # Looking through the wrappers at every forward pass costs 100 µs a step.
        self._bare_generator = parallel.unwrapped(self.generator)
        discriminator = parallel.unwrapped(self.discriminator)
        if getattr(self, "_bare_discriminator", None) is not discriminator:
            self._bare_discriminator = discriminator
            self._d_draws: bool | None = None
        self._g_wrapper = parallel.data_parallel(self.generator)
        self._d_wrapper = parallel.data_parallel(self.discriminator)
        self._g_units = parallel.units("generator", self._bare_generator)
        self._d_units = parallel.units("discriminator", self._bare_discriminator)
        self._ema_units = [] if self.ema is None else parallel.units("ema", self.ema.module)
        wrapped = not (self._g_wrapper is None and self._d_wrapper is None)
        self._parallel = wrapped or self.is_sharded


# Those of the statistics that are sums over the batch, not means.
_COUNTS = {TrainStats._fields.index(name) for name in ("nonfinite", "g_nonfinite")}
