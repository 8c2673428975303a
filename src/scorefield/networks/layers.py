"""Layers that several networks share."""

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from scorefield.errors import UserError
from scorefield.kernels import prepacked
from scorefield.kernels.attention import attention

__all__ = [
    "Attention",
    "Conv3x3",
    "SinusoidalEmbedding",
    "group_norm",
    "groups_of",
    "heads_of",
    "pad_to",
    "time_embedding",
    "upcast",
    "zeroed",
]

_Module = TypeVar("_Module", bound=nn.Module)


class SinusoidalEmbedding(nn.Module):
    """A number as cosines and sines, with wavelengths from 2π to 2π·`period` (Vaswani et al. 2017, §3.5).

    Args:
        features: how many, an even number.
        period: ratio of the longest wavelength to the shortest.
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


def time_embedding(width: int) -> nn.Sequential:
    """Embeds a noise label, (B,), as the vector (B, 4 · width) that every block of a U-Net takes."""
    features = 4 * width
    return nn.Sequential(
        SinusoidalEmbedding(width), nn.Linear(width, features), nn.SiLU(), nn.Linear(features, features), nn.SiLU()
    )


class Conv3x3(nn.Conv2d):
    """A 3×3 convolution that keeps the size."""

    def __init__(self, into: int, out: int, *, dilation: int = 1, bias: bool = True) -> None:
        super().__init__(into, out, 3, padding=dilation, dilation=dilation, bias=bias)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """(B, C, H, W) to (B, out, H, W)."""
        return prepacked.conv3x3(input, self.weight, self.bias, dilation=int(self.dilation[0]))

    def upsampled(self, x: Tensor) -> Tensor:
        """The convolution of x with its pixels repeated, (B, C, H, W) to (B, out, 2H, 2W)."""
        return prepacked.upsampled_conv3x3(x, self.weight, self.bias)


def zeroed(module: _Module) -> _Module:
    """The module with all its weights at zero, so that a residual branch starts at zero."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def groups_of(channels: int, *, at_least: int = 8, most: int = 32) -> int:
    """How many groups GroupNorm takes: as many as divide the channels, of `at_least` channels each."""
    groups = max(1, min(most, channels // at_least))
    while channels % groups:
        groups -= 1
    return groups


def group_norm(channels: int, groups: int | None = None) -> nn.GroupNorm:
    """Group normalization, by default with `groups_of(channels)` groups."""
    return nn.GroupNorm(groups_of(channels) if groups is None else groups, channels)


def pad_to(x: Tensor, multiple: int) -> Tensor:
    """Images with their right and lower edge repeated until both sides divide by `multiple`."""
    bottom, right = -x.shape[-2] % multiple, -x.shape[-1] % multiple
    return pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x


def upcast(x: Tensor) -> Tensor:
    """x in float32, or as it is where that is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def heads_of(channels: int, head_width: int) -> int:
    """How many heads attention takes: as many as divide the channels, of at least `head_width` channels each."""
    most = max(1, channels // head_width)
    return next(heads for heads in range(most, 0, -1) if channels % heads == 0)


class Attention(nn.Module):
    """Self-attention over all places of the image, added to it.

    Args:
        width: channels.
        head_width: channels of a head, or the least above that divides `width`.
        groups: of channels, in the normalization.
        pieces: along each side; a place attends within its own piece alone.
    """

    def __init__(self, width: int, head_width: int, groups: int | None = None, pieces: int = 1) -> None:
        super().__init__()
        self.heads, self.pieces = heads_of(width, head_width), pieces
        self.norm = group_norm(width, groups)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = zeroed(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same; H and W must divide by `pieces`."""
        places = self._cut(self.norm(upcast(x)))
        qkv = linear(places, self.qkv.weight.flatten(1), self.qkv.bias)
        q, k, v = qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = attention(q, k, v).transpose(1, 2).flatten(2)
        mixed = linear(mixed, self.out.weight.flatten(1), self.out.bias)
        return x + self._join(mixed, x.shape)

    def _cut(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B · pieces², places of a piece, C)."""
        p = self.pieces
        cut = x.unflatten(3, (p, -1)).unflatten(2, (p, -1))  # (B, C, p, H/p, p, W/p)
        return cut.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(0, 2)

    def _join(self, places: Tensor, shape: torch.Size) -> Tensor:
        """The inverse of `_cut`, for an image of this shape."""
        b, c, h, w = shape
        p = self.pieces
        return places.view(b, p, p, h // p, w // p, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)


def check_bounds(name: str, values: Sequence[int], most: int) -> None:
    """Refuse a setting that would build something huge.

    Raises:
        UserError: a value above `most`, or more than 16 values: an image of 65,536 pixels has no more halvings.
    """
    if len(values) > 16:
        raise UserError(f"network.{name}", f"{len(values)} values are more than 16.")
    if max(values, default=0) > most:
        raise UserError(f"network.{name}", f"{max(values)} is more than {most:,}.")


def check_inputs(source_channels: int, head_width: int) -> None:
    """Check the channels of a condition and the width of an attention head.

    Raises:
        UserError: out of bounds.
    """
    check_bounds("source_channels", [source_channels], 64)
    check_bounds("head_width", [head_width], 2**14)
    if source_channels < 0 or head_width < 1:
        raise UserError("network", "source_channels must be 0 or more, head_width positive.")
