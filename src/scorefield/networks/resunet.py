"""A U-Net without normalization, for restoration.

A degraded image often differs from the clean one by a few levels of 255, and the size of the difference matters.
A normalization would scale it to the size of everything else. The residual blocks of two 3×3 convolutions with a
ReLU between them have none:

    x ← x + 0.3 · conv(relu((1 + a) · conv(x) + b)),   a, b linear in the embedding of the noise level.

There are as many on the way up as on the way down, and skip connections add. Most of the work is done at the
largest size; the smaller sizes give a large field of view. The last convolution starts at 0.

References:
    Zhang et al. (2021), §III-B (DRUNet: blocks without normalization, skips that add). https://arxiv.org/abs/2008.13751
    Lim et al. (2017), §3.1 (no normalization), §3.3 (residual scaling). https://arxiv.org/abs/1707.02921
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, relu

from scorefield.errors import UserError
from scorefield.kernels.prepacked import channels_last
from scorefield.networks.layers import (
    Attention,
    Conv3x3,
    check_bounds,
    check_inputs,
    pad_to,
    time_embedding,
    upcast,
    zeroed,
)

__all__ = ["ResUNet"]

_RESIDUAL_SCALE = 0.3


class ResUNet(nn.Module):
    """(B, C, H, W) to (B, C, H, W), any H and W.

    Args:
        channels: C of the image, 1 to 4.
        source_channels: further input channels, of a condition.
        widths: channels at each size, the first even; the size halves from one to the next.
        blocks: residual blocks at each size, on the way down and again on the way up.
        attention: whether there is self-attention over all places at the smallest size.
        patch: side of the square of pixels folded into channels at the input.
        head_width: channels of one attention head, or the least above that divides the width.

    Raises:
        UserError: a setting out of its range.
    """

    def __init__(
        self,
        *,
        channels: int,
        source_channels: int = 0,
        widths: tuple[int, ...] | list[int] = (64, 96, 128),
        blocks: tuple[int, ...] | list[int] = (3, 2, 2),
        attention: bool = True,
        patch: int = 2,
        head_width: int = 32,
    ) -> None:
        super().__init__()
        _check(channels, widths, blocks, patch)
        check_inputs(source_channels, head_width)
        self.settings: dict[str, Any] = {
            "channels": channels,
            "source_channels": source_channels,
            "widths": list(widths),
            "blocks": list(blocks),
            "attention": attention,
            "patch": patch,
            "head_width": head_width,
        }
        self.patch, self.multiple = patch, patch * 2 ** (len(widths) - 1)
        features = 4 * widths[0]
        self.embed = time_embedding(widths[0])

        def stage(width: int, count: int) -> nn.ModuleList:
            return nn.ModuleList(_Block(width, features) for _ in range(count))

        self.first = nn.Conv2d((channels + source_channels) * patch**2, widths[0], 3, padding=1)
        self.down = nn.ModuleList(map(stage, widths, blocks))
        self.smaller = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.attend = Attention(widths[-1], head_width) if attention else nn.Identity()
        self.up = nn.ModuleList(map(stage, widths, blocks))
        self.larger = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairwise(widths))
        self.last = zeroed(nn.Conv2d(widths[0], channels * patch**2, 3, padding=1))

    def forward(self, x: Tensor, label: Tensor, source: Tensor | None = None) -> Tensor:
        """F(x, label, source).

        Args:
            x: (B, C, H, W).
            label: (B,).
            source: (B, source_channels, H, W), where the network has any.
        """
        height, width = x.shape[-2:]
        temb = self.embed(label)
        given = x if source is None else torch.cat([x, source], 1)
        hidden = self.first(channels_last(pixel_unshuffle(pad_to(given, self.multiple), self.patch)))
        skips: list[Tensor] = []
        for size, stage in enumerate(self.down):
            if size > 0:
                skips.append(hidden)
                hidden = self.smaller[size - 1](hidden)
            hidden = _through(stage, hidden, temb)
        hidden = self.attend(hidden)
        for size in reversed(range(len(self.up))):
            hidden = _through(self.up[size], hidden, temb)
            if size > 0:
                hidden = skips.pop() + channels_last(pixel_shuffle(self.larger[size - 1](hidden), 2))
        return pixel_shuffle(self.last(hidden), self.patch)[..., :height, :width]


class _Block(nn.Module):
    """The module's equation."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = Conv3x3(width, width), Conv3x3(width, width)
        self.tell = zeroed(nn.Linear(features, 2 * width))  # a and b; checkpoints know it by this name

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        """(B, width, H, W) to the same."""
        scale, shift = upcast(self.tell(temb))[..., None, None].chunk(2, 1)
        hidden = relu(torch.addcmul(shift, upcast(self.conv1(x)), 1 + scale))
        return torch.add(upcast(x), upcast(self.conv2(hidden)), alpha=_RESIDUAL_SCALE)


def _through(stage: nn.Module, hidden: Tensor, temb: Tensor) -> Tensor:
    for block in stage.children():
        hidden = block(hidden, temb)
    return hidden


def _check(channels: int, widths: Sequence[int], blocks: Sequence[int], patch: int) -> None:
    if not 1 <= channels <= 4:
        raise UserError("network.channels", f"an image has 1 to 4 channels, got {channels}.")
    if not widths or min(widths) < 1 or patch < 1:
        raise UserError("network", "widths and patch must be positive.")
    if widths[0] % 2:
        raise UserError("network.widths", f"the first must be even, got {widths[0]}.")
    check_bounds("widths", widths, 2**14)
    check_bounds("blocks", blocks, 256)
    check_bounds("patch", [patch], 64)
    if len(blocks) != len(widths) or min(blocks) < 0:
        raise UserError("network.blocks", f"needs a number for each of the widths {list(widths)}, got {list(blocks)}.")
