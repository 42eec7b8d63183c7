"""Pair: the two players of GANTrainer and the generator's average, checked to belong together."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

from pygan import _parallel as parallel
from pygan import _trainer_checks as checked
from pygan._player import Player
from pygan.average import EMA

__all__ = ["Pair"]


class Pair:
    """A generator and a discriminator, and what is to be known of both.

    Args:
        g, d: the players.
        ema: the generator's average, the decay to make one, or None.

    Attributes:
        g, d: the players, whose networks and optimizers may be replaced.
        ema: may be replaced too.

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
        if isinstance(ema, float):
            if g.units:
                raise ValueError(
                    "GANTrainer: ema must be a pygan.EMA where the generator is sharded, made before and "
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
        """What every step begins with: that it can train, and networks and optimizers as they are now.

        Raises:
            RuntimeError: gradients are disabled, or steps left out.
            TypeError, ValueError: as `check`, or nothing is to be trained.
        """
        if not torch.is_grad_enabled():
            raise RuntimeError(
                f"GANTrainer.{verb}: gradients must be enabled, got a call under torch.no_grad() or inference_mode()"
            )
        for player in (self.g, self.d):
            checked.synchronizing(verb, player.optimizer_name, player.optimizer)
        # Walking the modules at every step costs as much as a small loss.
        if self._checked != self._watched():
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
        self.look()
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
        self._checked = self._watched()

    def look(self) -> None:
        """Find what is in networks and average as they are now; the next step checks it."""
        self._checked = []
        self.g.look()
        self.d.look()
        self._ema_units = [] if self.ema is None else parallel.units("ema", self.ema.module)

    def reshard(self) -> None:
        """Free what sampling has gathered of the average, or else of the generator."""
        parallel.reshard(self.g.units if self.ema is None else self._ema_units)

    def average(self) -> None:
        """Move the average on."""
        if self.ema is not None:
            self.ema.update_parameters(self.g.bare)

    def parts(self) -> dict[str, Any]:
        """Networks and optimizers as they are now, by their names in a state dict."""
        self.look()
        players = (self.g, self.d)
        networks: dict[str, Any] = {player.name: player.bare for player in players}
        return networks | {player.optimizer_name: player.optimizer for player in players}

    def _watched(self) -> list[Any]:
        """What differs where networks, optimizers and average are no longer those that were checked."""
        return [self.ema, *self.g.watched(), *self.d.watched()]
