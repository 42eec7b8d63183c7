"""Discriminators: several discriminators as one, which returns a list of what each returned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from pygan._validation import describe

__all__ = ["Discriminators"]


class Discriminators(nn.Module):
    """Several discriminators, which all judge the same samples, as one module.

        coarse = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(3, 1, 4))   # at half the resolution, as one of pix2pixHD's
        D = pygan.Discriminators(Discriminator(), coarse)
        d_optimizer = torch.optim.Adam(D.parameters())
        trainer = pygan.GANTrainer(G, D, g_optimizer, d_optimizer, latent=128, weights=[1.0, 0.5])

    Each tensor of logits that one returns is a scale for the losses. Of those that return more, as HiFi-GAN's two
    (MPD, MSD) do, `logits=` of the trainer picks them: for ``(logits, features)`` of each,
    ``logits=lambda outputs: [output[0] for output in outputs]``.

    ``len(D)``, ``D[0]`` and ``for d in D`` give the modules; their names in a state dict are those of a list, "0.",
    "1." and so on. (It is no ``nn.ModuleList``, because `fully_shard` refuses to shard one as a whole.)

    Args:
        modules: at least one.

    Raises:
        TypeError: one is no module.
        ValueError: there is none, or one is there twice.
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        op = "pygan.Discriminators"
        if not modules:
            raise ValueError(f"{op}: modules must be at least one, got none")
        for k, module in enumerate(modules):
            if not isinstance(module, nn.Module):
                raise TypeError(f"{op}: modules[{k}] must be an nn.Module, got {describe(module)}")
            if module in modules[:k]:
                raise ValueError(f"{op}: modules must be different ones, got modules[{k}] twice")
            self.add_module(str(k), module)

    def forward(self, *inputs: Any, **kwargs: Any) -> list[Any]:
        """What each module returned for the same arguments."""
        return [module(*inputs, **kwargs) for module in self.children()]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[nn.Module]:
        return self.children()

    def __getitem__(self, index: int) -> nn.Module:
        return list(self.children())[index]
