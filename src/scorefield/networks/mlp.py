"""A network for points: residual fully connected layers that take the noise level."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from scorefield.errors import UserError, did_you_mean
from scorefield.networks.layers import SinusoidalEmbedding, check_bounds, zeroed

__all__ = ["MLP"]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"silu": silu, "softplus": softplus}


class MLP(nn.Module):
    """(B, D) to (B, D).

    Args:
        features: D, the dimension of a point.
        width: of the hidden layers.
        depth: number of residual layers.
        activation: "silu" or "softplus"; both are smooth.

    Raises:
        UserError: an unknown activation.
    """

    def __init__(self, *, features: int, width: int = 128, depth: int = 3, activation: str = "silu") -> None:
        super().__init__()
        if activation not in _ACTIVATIONS:
            mend = did_you_mean(activation, _ACTIVATIONS)
            raise UserError("network.activation", f"no such activation {activation!r}.", mend)
        if min(features, width, depth + 1) < 1:
            raise UserError("network", "features and width must be positive, and depth 0 or more.")
        check_bounds("features", [features], 10**6)
        check_bounds("width", [width], 2**14)
        check_bounds("depth", [depth], 1000)
        self.settings: dict[str, Any] = {
            "features": features,
            "width": width,
            "depth": depth,
            "activation": activation,
        }
        self.activation = activation
        self.embed = nn.Sequential(SinusoidalEmbedding(64), nn.Linear(64, width), nn.SiLU())
        self.first = nn.Linear(features, width)
        self.blocks = nn.ModuleList(_Residual(width, activation) for _ in range(depth))
        self.last = nn.Linear(width, features)

    def forward(self, x: Tensor, label: Tensor, source: Tensor | None = None) -> Tensor:
        """F(x, label); a point has no `source`."""
        assert source is None, "an MLP takes no source"
        temb = self.embed(label)
        hidden = self.first(x)
        for block in self.blocks:
            hidden = block(hidden, temb)
        return self.last(_ACTIVATIONS[self.activation](hidden))


class _Residual(nn.Module):
    """x + W φ(V [φ(x), temb]), φ the activation."""

    def __init__(self, width: int, activation: str) -> None:
        super().__init__()
        self.activation = activation
        self.into = nn.Linear(2 * width, width)
        self.out = zeroed(nn.Linear(width, width))

    def forward(self, hidden: Tensor, temb: Tensor) -> Tensor:
        activate = _ACTIVATIONS[self.activation]
        return hidden + self.out(activate(self.into(torch.cat([activate(hidden), temb], 1))))
