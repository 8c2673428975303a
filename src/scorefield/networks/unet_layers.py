"""The parts of the U-Net: residual blocks that keep, halve or double the size, attention, plain resampling.

A residual block that halves averages squares of 2×2 after its first activation, and on its shortcut; one that
doubles repeats every pixel there (the blocks of BigGAN; Song et al. 2021; Dhariwal & Nichol 2021, §3).

On a processor all this works on images that lie in memory channels last, which neither a convolution nor
attention has to bring in order first. What stands between convolutions is in float32, which is exacter there
and no slower than half precision.

References:
    Song et al. (2021), App. H. https://arxiv.org/abs/2011.13456
    Dhariwal & Nichol (2021), §3. https://arxiv.org/abs/2105.05233
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, linear, scaled_dot_product_attention, silu

from scorefield.kernels.prepacked import Conv3x3, doubled
from scorefield.networks.layers import full, groups_of, heads_of, zeroed


def norm_of(channels: int, groups: int | None) -> nn.GroupNorm:
    """Group normalization; by `groups_of` where no number of groups is given."""
    return nn.GroupNorm(groups_of(channels) if groups is None else groups, channels)


def halved(x: Tensor) -> Tensor:
    """The mean of every square of 2×2."""
    return avg_pool2d(x, 2)


class Resize(NamedTuple):
    """What a residual block does to the size."""

    shortcut: Callable[[Tensor], Tensor]
    convolved: Callable[[Tensor, Conv3x3], Tensor]
    """The same, followed by a convolution."""


def _same(x: Tensor) -> Tensor:
    return x


def _same_conv(x: Tensor, conv: Conv3x3) -> Tensor:
    return conv(x)


def _halved_conv(x: Tensor, conv: Conv3x3) -> Tensor:
    return conv(halved(x))


def _doubled_conv(x: Tensor, conv: Conv3x3) -> Tensor:
    return conv.doubled(x)


KEEP = Resize(_same, _same_conv)
HALVE = Resize(halved, _halved_conv)
DOUBLE = Resize(doubled, _doubled_conv)


class Block(nn.Module):
    """Residual block told the noise level, with self-attention after it where heads have a width.

    Args:
        into: channels at the input.
        out: channels at the output.
        told: features of the vector that tells the noise level.
        head_width: of attention; 0 where there is none.
        dropout: share of features dropped in training.
        groups: of channels, in every normalization.
        pieces: of `Attention`.
        resize: what becomes of the size.
    """

    def __init__(
        self,
        into: int,
        out: int,
        told: int,
        *,
        head_width: int = 0,
        dropout: float = 0.0,
        groups: int | None = None,
        pieces: int = 1,
        resize: Resize = KEEP,
    ) -> None:
        super().__init__()
        self.resize = resize
        self.norm1 = norm_of(into, groups)
        self.conv1 = Conv3x3(into, out)
        self.tell = zeroed(nn.Linear(told, 2 * out))
        self.norm2 = norm_of(out, groups)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zeroed(Conv3x3(out, out))
        self.skip = nn.Conv2d(into, out, 1) if into != out else nn.Identity()
        self.attend = Attention(out, head_width, groups, pieces) if head_width else nn.Identity()

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """(B, into, H, W) to (B, out, H, W), or half or twice the side."""
        hidden = self.resize.convolved(silu(self.norm1(full(x))), self.conv1)
        scale, shift = full(self.tell(told))[..., None, None].chunk(2, 1)
        hidden = torch.addcmul(shift, self.norm2(full(hidden)), 1 + scale)
        hidden = self.conv2(self.dropout(silu(hidden)))
        return self.attend(self.skip(self.resize.shortcut(x)) + hidden)


class Attention(nn.Module):
    """Self-attention over all places of the image, added to it.

    Args:
        width: channels.
        head_width: channels of a head, or the least above that divides `width`.
        groups: of channels, in the normalization.
        pieces: along each side; a place sees those of its own piece alone.
    """

    def __init__(self, width: int, head_width: int, groups: int | None = None, pieces: int = 1) -> None:
        super().__init__()
        self.heads, self.pieces = heads_of(width, head_width), pieces
        self.norm = norm_of(width, groups)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        zeroed(self.out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same; H and W must divide by `pieces`."""
        places = self._cut(self.norm(full(x)))
        qkv = linear(places, self.qkv.weight.flatten(1), self.qkv.bias)
        q, k, v = qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        mixed = linear(mixed, self.out.weight.flatten(1), self.out.bias)
        return x + self._joined(mixed, x.shape)

    def _cut(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B · pieces², places of a piece, C)."""
        p = self.pieces
        cut = x.unflatten(3, (p, -1)).unflatten(2, (p, -1))  # (B, C, p, H/p, p, W/p)
        return cut.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(0, 2)

    def _joined(self, places: Tensor, shape: torch.Size) -> Tensor:
        b, c, h, w = shape
        p = self.pieces
        return places.view(b, p, p, h // p, w // p, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)


class Halve(nn.Module):
    """A convolution of stride 2, told nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H/2, W/2)."""
        return self.conv(x)


class Double(nn.Module):
    """Pixels repeated, then a convolution; told nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = Conv3x3(width, width)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, 2H, 2W)."""
        return self.conv.doubled(x)
