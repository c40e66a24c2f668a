"""The networks of a training: as trained, and the exponential moving average (EMA) of its weights."""

from copy import deepcopy

import torch
from torch import nn

WARMUP_POWER = 2 / 3
"""timm's (ModelEmaV3): the average spans the last n ** (2/3) of n updates, until the recipe's decay is reached."""


class Networks(nn.ModuleDict):
    """`raw` and, where the recipe asks for it, `ema`: the same network, but always in eval mode.

    The average holds batch normalisation's running statistics as well, and copies the counters. timm's ModelEmaV3 has
    the same bits, but walks through both networks with every update: for a ResNet-50 the host is busy for 2 ms or more
    (one core of an Intel Xeon), here for 0.3 ms. torch's AveragedModel waits for the device to know its count.

    Args:
        model: on its device, with the weights that training starts from; what `train` and `eval` are called on.
        ema_decay: 0 for no average.
    """

    def __init__(self, model: nn.Module, ema_decay: float) -> None:
        super().__init__({"raw": model})
        if ema_decay:
            self["ema"] = deepcopy(model).eval().requires_grad_(False)
        self._ema_decay = ema_decay
        # detached views of the same memory: whatever changes a network in place, changes them
        states = [list(network.state_dict().values()) for network in self.values()]
        self._floats = [[t for t in state if t.is_floating_point()] for state in states]
        self._counters = [[t for t in state if not t.is_floating_point()] for state in states]

    @torch.no_grad()
    def update_average(self, done: int) -> None:
        """Take the weights after update `done` (from 1) into the average, without waiting for the device."""
        if "ema" not in self:
            return
        raw, ema = self._floats
        torch._foreach_lerp_(ema, raw, 1 - decay_at(done, self._ema_decay))
        raw, ema = self._counters
        if ema:
            torch._foreach_copy_(ema, raw)


def decay_at(done: int, ema_decay: float) -> float:
    """What update `done` (from 1) leaves of the average: nothing at first, so that random weights are forgotten."""
    return min(ema_decay, 1 - done**-WARMUP_POWER)
