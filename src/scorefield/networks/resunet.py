"""A U-Net without normalization, for restoration.

A degraded image often differs from the clean one by a few levels of 255, and the size of the difference matters.
A normalization would scale it to the size of everything else. The residual blocks of two 3×3 convolutions with a
ReLU between them have none:

    x ← x + 0.3 · conv(relu((1 + a) · conv(x) + b)),   a, b linear in the embedding of the noise level.

There are as many on the way up as on the way down, and skip connections add. Most of the work is done at the
largest size; the smaller sizes give a large field of view. The last convolution starts at 0.

A network for JPEG files may also be conditioned on how they were quantised. The logarithms of the 128 quantisation
steps, log₂(q)/8, and a 1 that says that they are known, are added to the embedding through two linear layers. Where
the steps are unknown, all 129 numbers are 0. The second layer starts at 0.

References:
    Zhang et al. (2021), §III-B (DRUNet: blocks without normalization, skips that add). https://arxiv.org/abs/2008.13751
    Lim et al. (2017), §3.1 (no normalization), §3.3 (residual scaling). https://arxiv.org/abs/1707.02921
    Ehrlich et al. (2020) (conditioning on quantisation tables). https://arxiv.org/abs/2004.09320
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, silu

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

__all__ = ["HasTables", "ResUNet"]

_RESIDUAL_SCALE = 0.3
_STEPS, _LOG2_LARGEST = 128, 8.0  # steps of luma and of chroma, at most 255 in a file of 8 bits


@runtime_checkable
class HasTables(Protocol):
    """A network that may take quantisation tables as a keyword argument."""

    tables: bool
    """Whether it does."""


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
        tables: whether it is conditioned on the quantisation tables of JPEG files.

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
        tables: bool = False,
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
            "tables": tables,
        }
        self.tables = tables
        self.patch, self.multiple = patch, patch * 2 ** (len(widths) - 1)
        features = 4 * widths[0]
        self.embed = time_embedding(widths[0])
        if tables:
            self.embed_tables = _TableEmbedding(features)

        def stage(width: int, count: int) -> nn.ModuleList:
            return nn.ModuleList(_Block(width, features) for _ in range(count))

        self.first = nn.Conv2d((channels + source_channels) * patch**2, widths[0], 3, padding=1)
        self.down = nn.ModuleList(map(stage, widths, blocks))
        self.smaller = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.attend = Attention(widths[-1], head_width) if attention else nn.Identity()
        self.up = nn.ModuleList(map(stage, widths, blocks))
        self.larger = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairwise(widths))
        self.last = zeroed(nn.Conv2d(widths[0], channels * patch**2, 3, padding=1))

    def forward(
        self, x: Tensor, label: Tensor, source: Tensor | None = None, *, tables: Tensor | None = None
    ) -> Tensor:
        """F(x, label, source, tables).

        Args:
            x: (B, C, H, W).
            label: (B,).
            source: (B, source_channels, H, W), where the network has any.
            tables: (B, 128), see `Condition`; None where they are unknown.
        """
        height, width = x.shape[-2:]
        temb = self.embed(label)
        if self.tables:
            temb = temb + self.embed_tables(label.new_zeros(len(x), _STEPS) if tables is None else tables)
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


class _TableEmbedding(nn.Module):
    """Quantisation steps, (B, 128), to (B, features)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(1 + _STEPS, features), zeroed(nn.Linear(features, features))

    def forward(self, tables: Tensor) -> Tensor:
        """The sum's second term in the module's text."""
        known = (tables > 0).any(1, keepdim=True).float()
        logs = tables.float().clamp(min=1).log2() / _LOG2_LARGEST
        return self.last(silu(self.first(torch.cat([known, logs], 1))))


class _Block(nn.Module):
    """The module's equation."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = Conv3x3(width, width), Conv3x3(width, width)
        self.tell = zeroed(nn.Linear(features, 2 * width))  # a and b; checkpoints know it by this name

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        """(B, width, H, W) to the same."""
        scale, shift = upcast(self.tell(temb))[..., None, None].chunk(2, 1)
        hidden = torch.addcmul(shift, upcast(self.conv1(x)), 1 + scale).relu_()
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
