"""Loading a GANTrainer's parts: all of them, or none."""

from __future__ import annotations

import copy
from typing import Any

from torch.optim import Optimizer

from pygan import _parallel as parallel

__all__ = ["load"]


def load(parts: dict[str, Any], states: dict[str, Any], *, is_sharded: bool) -> None:
    """Load the whole state of each part, of which sharded ones take their share.

    Raises:
        ValueError: a state is not of its part. All parts are as they were.
    """
    before: dict[str, Any] = {}
    for name, part in parts.items():
        # An optimizer's tensors are replaced by those that it loads, all others are written to.
        own = part.state_dict()
        before[name] = own if isinstance(part, Optimizer) else copy.deepcopy(own)
        try:
            state = parallel.shared_out(states[name], part) if is_sharded else states[name]
            part.load_state_dict(state)
            if isinstance(part, Optimizer):
                _check_options(part)
        except Exception as error:
            for loaded, old in before.items():
                parts[loaded].load_state_dict(old)
            raise ValueError(
                f"GANTrainer.load_state_dict: the state of {name} must be that of a {type(part).__name__} like this "
                f"trainer's, got another: {error}"
            ) from error


def _check_options(optimizer: Optimizer) -> None:
    """That the loaded groups have the options of the optimizer, which torch misses at the next step only."""
    for group in optimizer.param_groups:
        missing = sorted(set(optimizer.defaults) - set(group))
        if missing:
            raise ValueError(f"its groups lack {', '.join(missing)}")
