"""Networks: the two players of GANTrainer and the generator's average, checked to belong together."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

from pygan import _parallel as parallel
from pygan import _trainer_checks as checked
from pygan._trainer_player import Player
from pygan.average import EMA

__all__ = ["Networks"]


class Networks:
    """A generator, a discriminator and the generator's average.

    Args:
        g, d: the players.
        ema: the generator's average, a decay to create one, or None.

    Attributes:
        g, d: the players; their networks and optimizers may be replaced.
        ema: may also be replaced.

    Raises:
        TypeError, ValueError: they do not belong together, or have nothing to train.
    """

    def __init__(self, g: Player, d: Player, ema: float | AveragedModel | None) -> None:
        self.g, self.d = g, d
        self._checked: list[Any] = []
        self.ema = ema if isinstance(ema, AveragedModel) else None
        self.check()
        for player in (g, d):
            player.check_trainable("GANTrainer")
        if ema is not None and not isinstance(ema, AveragedModel):
            if g.units:
                raise ValueError(
                    "GANTrainer: ema must be a pygan.EMA for a sharded generator, created before sharding and "
                    f"sharded like it, got {ema}"
                )
            self.ema = EMA(g.bare, ema)
        if self.ema is not None:
            self.ema.eval()

    @property
    def is_sharded(self) -> bool:
        return bool(self.g.units or self.d.units)

    @property
    def is_parallel(self) -> bool:
        """Whether several processes train a network together."""
        return self.g.is_parallel or self.d.is_parallel

    def prepare(self, verb: str, *trained: Player) -> None:
        """Called at the start of every step: checks that training is possible, and whether anything was replaced.

        Raises:
            RuntimeError: gradients are disabled, or an optimizer skips its steps.
            TypeError, ValueError: as for `check`, or there is nothing to train.
        """
        if not torch.is_grad_enabled():
            raise RuntimeError(
                f"GANTrainer.{verb}: gradients must be enabled, got a call under torch.no_grad() or inference_mode()"
            )
        for player in (self.g, self.d):
            checked.synchronizing(verb, player.optimizer_name, player.optimizer)
        # Only if something changed: walking the modules in every step costs as much as a small loss.
        if self._checked != self._fingerprint():
            self.check()
        for player in trained:
            player.check_trainable(f"GANTrainer.{verb}")

    def check(self) -> None:
        """Check that optimizers, networks and average belong together.

        Raises:
            TypeError, ValueError: they do not.
        """
        g, d = self.g, self.d
        checked.modules(generator=g.network, discriminator=d.network)
        self.refresh()
        if not {id(p) for p in g.parameters}.isdisjoint(id(p) for p in d.parameters):
            raise ValueError(
                "GANTrainer: generator and discriminator must not share parameters, got a shared one"
            )
        for player, other in ((g, d), (d, g)):
            checked.optimizer(
                player.optimizer_name,
                player.optimizer,
                player.name,
                player.parameters,
                other.parameters,
            )
        if self.ema is not None:
            checked.average_of(self.ema, g.parameters)
        self._checked = self._fingerprint()

    def refresh(self) -> None:
        """Update what is known of the current networks and the average; the next step checks them."""
        self._checked = []
        self.g.refresh()
        self.d.refresh()
        self._ema_units = [] if self.ema is None else parallel.units("ema", self.ema.module)

    def reshard(self) -> None:
        """Free the parameters of the average, or of the generator, that sampling gathered."""
        parallel.reshard(self.g.units if self.ema is None else self._ema_units)

    def average(self) -> None:
        """Update the average."""
        if self.ema is not None:
            self.ema.update_parameters(self.g.bare)

    def parts(self) -> dict[str, Any]:
        """The current networks and optimizers, by their names in a state dict."""
        self.refresh()
        players = (self.g, self.d)
        networks: dict[str, Any] = {player.name: player.bare for player in players}
        return networks | {player.optimizer_name: player.optimizer for player in players}

    def _fingerprint(self) -> list[Any]:
        """A fingerprint that changes if a network, an optimizer or the average is replaced."""
        return [self.ema, *self.g.fingerprint(), *self.d.fingerprint()]
