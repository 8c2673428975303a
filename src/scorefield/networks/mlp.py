"""A network for points: residual fully connected layers, told the noise level."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from scorefield.networks.layers import SinusoidalEmbedding, zeroed


class MLP(nn.Module):
    """(B, D) to (B, D).

    Args:
        features: D, the dimension of a point.
        width: of the hidden layers.
        depth: number of residual layers.
    """

    def __init__(self, *, features: int, width: int = 128, depth: int = 3) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {"features": features, "width": width, "depth": depth}
        self.embed = nn.Sequential(SinusoidalEmbedding(64), nn.Linear(64, width), nn.SiLU())
        self.first = nn.Linear(features, width)
        self.blocks = nn.ModuleList(_Residual(width) for _ in range(depth))
        self.last = nn.Linear(width, features)

    def forward(self, x: Tensor, label: Tensor, source: Tensor | None = None) -> Tensor:
        """F(x, label); a point has no `source`."""
        assert source is None, "an MLP takes no further channels"
        told = self.embed(label)
        hidden = self.first(x)
        for block in self.blocks:
            hidden = block(hidden, told)
        return self.last(silu(hidden))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.into = nn.Linear(2 * width, width)
        self.out = zeroed(nn.Linear(width, width))

    def forward(self, hidden: Tensor, told: Tensor) -> Tensor:
        return hidden + self.out(silu(self.into(torch.cat([silu(hidden), told], 1))))
