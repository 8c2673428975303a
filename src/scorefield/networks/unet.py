"""The U-Net: our default network for pictures, and in larger forms DDPM's and Palette's.

Residual blocks of two 3×3 convolutions, told the noise level by a scale and a shift after the second
normalization, self-attention where the picture is small, skip connections across equal sizes. `patch` folds
squares of pixels into channels first, which makes a small network several times cheaper.

Any height and width go in: the picture is padded inside by its own edge to what the halvings need, and cut
back after.

A network with `classes` adds a vector for the picture's class to the one for the noise level, and has one
more vector for pictures whose class is not told, so that one network knows both p(x) and p(x | c).

References:
    Ho et al. (2020), App. B. https://arxiv.org/abs/2006.11239
    Dhariwal & Nichol (2021), §3 (scale and shift), §4 (classes). https://arxiv.org/abs/2105.05233
    Ho & Salimans (2022), §3.2 (one network for both). https://arxiv.org/abs/2207.12598
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    interpolate,
    pixel_shuffle,
    pixel_unshuffle,
    scaled_dot_product_attention,
    silu,
)

from scorefield.errors import UserError
from scorefield.networks.layers import SinusoidalEmbedding, groups_of, heads_of, pad_to, zeroed


@runtime_checkable
class HasClasses(Protocol):
    """A network whose fourth argument may be the class of each picture, (B,), -1 where it is not told."""

    classes: int
    """How many there are; 0 where the network takes no such argument."""


class UNet(nn.Module):
    """(B, C, H, W) to (B, C, H, W), any H and W.

    Args:
        channels: C of the picture, 1 to 4.
        source_channels: further input channels that a condition lays beside it.
        widths: channels at each size, the first even; the size halves from one to the next.
        blocks: residual blocks at each size on the way down (one more on the way up).
        attention: positions in `widths` that get self-attention.
        patch: side of the square of pixels folded into channels at the input.
        head_width: channels of one attention head, or the least above that divides the width.
        dropout: share of features dropped in each block in training.
        classes: how many classes of pictures there are; 0 where the network is told none.
        groups: of channels, how many every normalization has; by default by its width, see `groups_of`.
    """

    def __init__(
        self,
        *,
        channels: int,
        source_channels: int = 0,
        widths: tuple[int, ...] | list[int] = (32, 64, 64),
        blocks: int = 1,
        attention: tuple[int, ...] | list[int] = (),
        patch: int = 1,
        head_width: int = 32,
        dropout: float = 0.0,
        classes: int = 0,
        groups: int | None = None,
    ) -> None:
        super().__init__()
        _check(channels, widths, blocks, patch, attention, classes, groups)
        self.settings: dict[str, Any] = {
            "channels": channels,
            "source_channels": source_channels,
            "widths": list(widths),
            "blocks": blocks,
            "attention": list(attention),
            "patch": patch,
            "head_width": head_width,
            "dropout": dropout,
            # Cards without these two stay as they were.
            **({"classes": classes} if classes else {}),
            **({"groups": groups} if groups else {}),
        }
        self.classes = classes
        self.patch, self.multiple = patch, patch * 2 ** (len(widths) - 1)
        told = 4 * widths[0]
        self.embed = nn.Sequential(
            SinusoidalEmbedding(widths[0]),
            nn.Linear(widths[0], told),
            nn.SiLU(),
            nn.Linear(told, told),
            nn.SiLU(),
        )

        def block(into: int, out: int, level: int) -> _Block:
            return _Block(into, out, told, head_width if level in attention else 0, dropout, groups)

        self.first = nn.Conv2d((channels + source_channels) * patch**2, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        width, skips = widths[0], [widths[0]]
        for level, out in enumerate(widths):
            if level > 0:
                self.down.append(_Halve(width))
                skips.append(width)
            for _ in range(blocks):
                self.down.append(block(width, out, level))
                width = out
                skips.append(width)
        self.middle = block(width, width, len(widths) - 1)
        for level, out in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.up.append(block(width + skips.pop(), out, level))
                width = out
            if level > 0:
                self.up.append(_Double(width))
        self.norm = _norm(width, groups)
        self.last = zeroed(nn.Conv2d(width, channels * patch**2, 3, padding=1))
        # Last, so that the other weights begin as they do without classes.
        self.embed_class = nn.Embedding(classes + 1, told) if classes else nn.Identity()

    def forward(
        self, x: Tensor, label: Tensor, source: Tensor | None = None, classes: Tensor | None = None
    ) -> Tensor:
        """F(x, label, source, classes).

        Args:
            x: (B, C, H, W).
            label: (B,).
            source: (B, source_channels, H, W), where the network has any.
            classes: (B,), whole numbers; -1, or None for all, where the class is not told.
        """
        height, width = x.shape[-2:]
        told = self._told(label, classes)
        hidden = x if source is None else torch.cat([x, source], 1)
        hidden = pad_to(hidden, self.multiple)
        hidden = self.first(pixel_unshuffle(hidden, self.patch))
        skips = [hidden]
        for layer in self.down:
            hidden = layer(hidden, told)
            skips.append(hidden)
        hidden = self.middle(hidden, told)
        for layer in self.up:
            if isinstance(layer, _Block):
                hidden = torch.cat([hidden, skips.pop()], 1)
            hidden = layer(hidden, told)
        hidden = pixel_shuffle(self.last(silu(self.norm(hidden))), self.patch)
        return hidden[..., :height, :width]

    def _told(self, label: Tensor, classes: Tensor | None) -> Tensor:
        """The vector that each block hears; noise level and class are added before the last SiLU."""
        if not self.classes:
            assert classes is None, "this network takes no classes"
            return self.embed(label)
        if classes is None:
            classes = torch.full_like(label, -1, dtype=torch.long)
        rows = torch.where(classes < 0, self.classes, classes)
        return silu(self.embed[:-1](label) + self.embed_class(rows))


class _Block(nn.Module):
    """Residual block told the noise level, with self-attention after it where heads have a width."""

    def __init__(
        self, into: int, out: int, told: int, head_width: int, dropout: float, groups: int | None = None
    ) -> None:
        super().__init__()
        self.norm1 = _norm(into, groups)
        self.conv1 = nn.Conv2d(into, out, 3, padding=1)
        self.tell = zeroed(nn.Linear(told, 2 * out))
        self.norm2 = _norm(out, groups)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zeroed(nn.Conv2d(out, out, 3, padding=1))
        self.skip = nn.Conv2d(into, out, 1) if into != out else nn.Identity()
        self.attend = _Attention(out, head_width, groups) if head_width else nn.Identity()

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        hidden = self.conv1(silu(self.norm1(x)))
        scale, shift = self.tell(told)[..., None, None].chunk(2, 1)
        hidden = torch.addcmul(shift, self.norm2(hidden), 1 + scale)
        hidden = self.conv2(self.dropout(silu(hidden)))
        return self.attend(self.skip(x) + hidden)


class _Attention(nn.Module):
    """Self-attention over all places of the picture, added to it."""

    def __init__(self, width: int, head_width: int, groups: int | None = None) -> None:
        super().__init__()
        self.heads = heads_of(width, head_width)
        self.norm = _norm(width, groups)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = zeroed(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w).transpose(-1, -2)
        mixed = scaled_dot_product_attention(qkv[:, 0], qkv[:, 1], qkv[:, 2])
        return x + self.out(mixed.transpose(-1, -2).reshape(b, c, h, w))


class _Halve(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        return self.conv(x)


class _Double(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        return self.conv(interpolate(x, scale_factor=2.0, mode="nearest"))


def _norm(channels: int, groups: int | None) -> nn.GroupNorm:
    return nn.GroupNorm(groups_of(channels) if groups is None else groups, channels)


def _check(
    channels: int,
    widths: Sequence[int],
    blocks: int,
    patch: int,
    attention: Sequence[int],
    classes: int,
    groups: int | None,
) -> None:
    if not 1 <= channels <= 4:
        raise UserError("network.channels", f"a picture has 1 to 4 channels, got {channels}.")
    if not widths or min(widths) < 1 or blocks < 1 or patch < 1:
        raise UserError("network", "widths, blocks and patch must be positive.")
    if widths[0] % 2:
        raise UserError("network.widths", f"the first must be even, got {widths[0]}.")
    if any(not 0 <= level < len(widths) for level in attention):
        raise UserError("network.attention", f"positions in widths run from 0 to {len(widths) - 1}.")
    if classes < 0:
        raise UserError("network.classes", f"cannot be fewer than none, got {classes}.")
    if groups is not None and (groups < 1 or any(width % groups for width in widths)):
        raise UserError("network.groups", f"must divide each of the widths {list(widths)}, got {groups}.")
