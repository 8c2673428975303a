"""Layers that several networks share."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pad


class SinusoidalEmbedding(nn.Module):
    """A number as cosines and sines, from one turn in 2π to one in 2π·`period` (Vaswani et al. 2017, §3.5).

    Args:
        features: how many, an even number.
        period: ratio of the slowest wave's length to the fastest's.
    """

    def __init__(self, features: int, *, period: float = 10_000) -> None:
        super().__init__()
        self.features, self.period = features, period

    def forward(self, label: Tensor) -> Tensor:
        """(B,) to (B, features)."""
        half = self.features // 2
        steps = torch.arange(half, device=label.device, dtype=torch.float32) / half
        angles = label.float()[:, None] * torch.exp(-math.log(self.period) * steps)
        return torch.cat([angles.cos(), angles.sin()], 1)


def telling(width: int) -> nn.Sequential:
    """What makes of a noise label, (B,), the vector (B, 4 · width) that every block of a U-Net hears."""
    told = 4 * width
    return nn.Sequential(
        SinusoidalEmbedding(width), nn.Linear(width, told), nn.SiLU(), nn.Linear(told, told), nn.SiLU()
    )


def zeroed(module: nn.Module) -> nn.Module:
    """The module with all its weights at zero, so that a residual branch starts as nothing."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def groups_of(channels: int, *, at_least: int = 8, most: int = 32) -> int:
    """How many groups GroupNorm takes: as many as divide the channels, each of `at_least`."""
    groups = max(1, min(most, channels // at_least))
    while channels % groups:
        groups -= 1
    return groups


def pad_to(x: Tensor, multiple: int) -> Tensor:
    """Images with their right and lower edge repeated until both sides divide by `multiple`."""
    bottom, right = -x.shape[-2] % multiple, -x.shape[-1] % multiple
    return pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x


def full(x: Tensor) -> Tensor:
    """X in float32, or as it is where that is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def heads_of(channels: int, head_width: int) -> int:
    """How many heads attention takes: as many as divide the channels, each of `head_width` at least."""
    most = max(1, channels // head_width)
    return next(heads for heads in range(most, 0, -1) if channels % heads == 0)
