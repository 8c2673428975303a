"""A network averaged over the flips of its input.

Photographs are as likely as their mirror images, so the best denoiser commutes with flips. A trained network does so
roughly; the mean over the four flips T of an image,

    F̄(x, label, source) = ¼ Σ_T T F(T x, label, T source),

does so exactly, and its squared error is at most the mean of theirs (Jensen). It takes four times the time.

References:
    Timofte, Rothe & Van Gool (2016), §3.4, enhanced prediction. https://arxiv.org/abs/1511.02228
    Lim et al. (2017), §3.4, self-ensemble. https://arxiv.org/abs/1707.02921
"""

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["FlipAveraged"]

_FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))


class FlipAveraged(nn.Module):
    """The module's F̄ of a network of images; it shares the network's weights.

    Args:
        network: maps (x, label, source) to a tensor of x's shape, (B, C, H, W). Classes and quantisation tables go to
            each evaluation as they are: a flip does not transpose a block. It moves the grid of blocks where a side is
            no multiple of 8, and such an image gains less.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @property
    def classes(self) -> int:
        """How many classes the network knows."""
        return int(getattr(self.network, "classes", 0))

    @property
    def tables(self) -> bool:
        """Whether the network takes quantisation tables."""
        return bool(getattr(self.network, "tables", False))

    def forward(self, x: Tensor, label: Tensor, source: Tensor | None = None, *rest: Any, **named: Any) -> Tensor:
        """F̄, (B, C, H, W)."""
        total = torch.zeros(())
        for dims in _FLIPS:
            flipped = None if source is None else source.flip(dims)
            total = total + self.network(x.flip(dims), label, flipped, *rest, **named).flip(dims)
        return total / len(_FLIPS)
