"""A U-Net without normalization, for what is to be restored.

What a degraded image lacks is often little, a few levels of 255, and how little is itself what matters: a
normalization would bring it to the size of all else. So residual blocks of two 3×3 convolutions with a ReLU
between them add a share of what they find to what comes in,

    x ← x + 0.3 · conv(relu((1 + a) · conv(x) + b)),   a, b told by the noise level,

half as many on the way down as in all, and what was left on the way down is added on the way up. Most of the
work is done where the image is large; the smaller sizes see far. The last convolution starts at 0.

References:
    Zhang et al. (2021), §III-B (DRUNet: blocks without normalization, skips that add). https://arxiv.org/abs/2008.13751
    Lim et al. (2017), §3.1 (no normalization), §3.3 (a share). https://arxiv.org/abs/1707.02921
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, relu

from scorefield.errors import UserError
from scorefield.kernels.prepacked import Conv3x3, lay
from scorefield.networks.layers import full, pad_to, telling, zeroed
from scorefield.networks.unet_layers import Attention

_SHARE = 0.3


class ResUNet(nn.Module):
    """(B, C, H, W) to (B, C, H, W), any H and W.

    Args:
        channels: C of the image, 1 to 4.
        source_channels: further input channels that a condition lays beside it.
        widths: channels at each size, the first even; the size halves from one to the next.
        blocks: residual blocks at each size, on the way down and again on the way up.
        attention: whether there is self-attention over all places at the smallest size.
        patch: side of the square of pixels folded into channels at the input.
        head_width: channels of one attention head, or the least above that divides the width.

    Raises:
        UserError: a setting that makes no network.
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
        told = 4 * widths[0]
        self.embed = telling(widths[0])

        def stage(width: int, count: int) -> nn.ModuleList:
            return nn.ModuleList(_Block(width, told) for _ in range(count))

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
        told = self.embed(label)
        taken = x if source is None else torch.cat([x, source], 1)
        hidden = self.first(lay(pixel_unshuffle(pad_to(taken, self.multiple), self.patch)))
        left: list[Tensor] = []
        for size, stage in enumerate(self.down):
            if size > 0:
                left.append(hidden)
                hidden = self.smaller[size - 1](hidden)
            hidden = _through(stage, hidden, told)
        hidden = self.attend(hidden)
        for size in reversed(range(len(self.up))):
            hidden = _through(self.up[size], hidden, told)
            if size > 0:
                hidden = left.pop() + lay(pixel_shuffle(self.larger[size - 1](hidden), 2))
        return pixel_shuffle(self.last(hidden), self.patch)[..., :height, :width]


class _Block(nn.Module):
    """The module's equation."""

    def __init__(self, width: int, told: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = Conv3x3(width, width), Conv3x3(width, width)
        self.tell = zeroed(nn.Linear(told, 2 * width))

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """(B, width, H, W) to the same."""
        scale, shift = full(self.tell(told))[..., None, None].chunk(2, 1)
        hidden = relu(torch.addcmul(shift, full(self.conv1(x)), 1 + scale))
        return torch.add(full(x), full(self.conv2(hidden)), alpha=_SHARE)


def _through(stage: nn.Module, hidden: Tensor, told: Tensor) -> Tensor:
    for block in stage.children():
        hidden = block(hidden, told)
    return hidden


def _check(channels: int, widths: Sequence[int], blocks: Sequence[int], patch: int) -> None:
    if not 1 <= channels <= 4:
        raise UserError("network.channels", f"an image has 1 to 4 channels, got {channels}.")
    if not widths or min(widths) < 1 or patch < 1:
        raise UserError("network", "widths and patch must be positive.")
    if widths[0] % 2:
        raise UserError("network.widths", f"the first must be even, got {widths[0]}.")
    if len(blocks) != len(widths) or min(blocks) < 0:
        raise UserError("network.blocks", f"needs a number for each of the widths {list(widths)}, got {list(blocks)}.")
