"""Discriminators: combines several discriminators into one module that returns a list of their outputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from pygan._validation import describe

__all__ = ["Discriminators"]


class Discriminators(nn.Module):
    """Combines several discriminators of the same samples into one module.

        coarse = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(3, 1, 4))   # half the resolution, as in pix2pixHD
        D = pygan.Discriminators(Discriminator(), coarse)
        d_optimizer = torch.optim.Adam(D.parameters())
        trainer = pygan.GANTrainer(G, D, g_optimizer, d_optimizer, latent=128, weights=[1.0, 0.5])

    If each module returns a tensor of logits, these are the scales of the losses. If they return more, as HiFi-GAN's
    do, select the logits with the trainer's `logits=`: for ``(logits, features)`` from each,
    ``logits=lambda outputs: [output[0] for output in outputs]``. HiFi-GAN's MPD and MSD are lists themselves: pass
    their members, ``*mpd.discriminators``.

    ``len(D)``, ``D[0]`` and ``for d in D`` access the modules; their names in a state dict are "0.", "1." and so on, as
    in a list. (This is not an ``nn.ModuleList``, because `fully_shard` refuses to shard one as a whole.)

    Args:
        modules: at least one module.

    Raises:
        TypeError: an argument is not a module.
        ValueError: there are no modules, or one occurs twice.
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        op = "pygan.Discriminators"
        if not modules:
            raise ValueError(f"{op}: modules must hold at least one nn.Module, got none")
        for k, module in enumerate(modules):
            if not isinstance(module, nn.Module):
                raise TypeError(f"{op}: modules[{k}] must be an nn.Module, got {describe(module)}")
            if module in modules[:k]:
                raise ValueError(f"{op}: modules must all be different, got modules[{k}] twice")
            self.add_module(str(k), module)

    def forward(self, *inputs: Any, **kwargs: Any) -> list[Any]:
        """A list of each module's output for the same arguments."""
        return [module(*inputs, **kwargs) for module in self.children()]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[nn.Module]:
        return self.children()

    def __getitem__(self, index: int) -> nn.Module:
        return list(self.children())[index]
