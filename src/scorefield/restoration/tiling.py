"""A large image by tiles that overlap, blended by a smooth window.

Where two tiles overlap by v pixels, their weights are

    sin²(π/2 · (i + ½)/v)      and      cos²(π/2 · (i + ½)/v),      i = 0 … v − 1,

which sum to 1 and are flat at both ends. At the image's own edges a tile keeps its full weight. Tiles are
about of one size, begin at multiples of 16 pixels, so that the blocks of a JPEG file, 8 × 8 and with halved
chroma 16 × 16, lie in a tile as they lie in an image, and are as many as it takes and no more.

An image is done in rows of tiles. Only the rows that a later tile may still change are kept in floats.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from scorefield.errors import UserError
from scorefield.restoration.levels import Box

GRID = 16

Cut = tuple[int, int]
"""Where a tile begins along a side, and how long it is."""


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """The tiles of an image.

    Args:
        size: (H, W) of the image.
        tile: the longest side of a tile; one at the end may be up to 15 pixels longer.
        overlap: of neighbours, in pixels; both in multiples of 16.

    Raises:
        UserError: sides that are no such multiples, or no room for a tile beside its overlaps.
    """

    size: tuple[int, int]
    tile: int
    overlap: int

    def __post_init__(self) -> None:
        if self.tile < 1 or self.tile % GRID or self.overlap < 0 or self.overlap % GRID:
            raise UserError(
                "tile", f"sides are multiples of {GRID} pixels, got {self.tile} with {self.overlap} shared."
            )
        if self.tile < 2 * self.overlap:
            raise UserError(
                "tile", f"{self.tile} pixels are too few to share {self.overlap} at each side.",
                f"Take {2 * self.overlap} or more.",
            )  # fmt: skip

    @cached_property
    def rows(self) -> list[Cut]:
        """Of the tiles, from top to bottom."""
        return cuts(self.size[0], self.tile, self.overlap)

    @cached_property
    def columns(self) -> list[Cut]:
        """From left to right."""
        return cuts(self.size[1], self.tile, self.overlap)

    def boxes(self, row: Cut) -> list[Box]:
        """The tiles of one row."""
        return [Box(row[0], left, row[1], width) for left, width in self.columns]

    def weight(self, box: Box) -> Tensor:
        """The window of a tile, (h, w)."""
        down = _window(box.top, box.height, self.size[0], self.overlap)
        return down[:, None] * _window(box.left, box.width, self.size[1], self.overlap)


def cuts(length: int, tile: int, overlap: int) -> list[Cut]:
    """Where tiles lie along a side: as many as it takes, about equally long."""
    if length <= tile:
        return [(0, length)]
    count = math.ceil((length - overlap) / (tile - overlap))
    extent = up((length - overlap) / count + overlap)
    starts = [index * (extent - overlap) for index in range(count)]
    starts[-1] = min(starts[-1], max((length - extent) // GRID * GRID, starts[-2] + GRID))
    return [(s, min(extent, length - s)) for s in starts[:-1]] + [(starts[-1], length - starts[-1])]


def up(length: float) -> int:
    """The next multiple of 16."""
    return math.ceil(length / GRID) * GRID


def _window(start: int, extent: int, length: int, overlap: int) -> Tensor:
    weight = torch.ones(extent)
    if overlap == 0:
        return weight
    ramp = (torch.arange(min(overlap, extent)) + 0.5).mul(math.pi / 2 / overlap).sin() ** 2
    if start > 0:
        weight[: len(ramp)] *= ramp
    if start + extent < length:
        weight[-len(ramp) :] *= ramp.flip(0)
    return weight


@dataclass
class Strip:
    """The rows of an image that are being blended, from `top` on, of several images at once.

    Args:
        sums: weighted values, (K, C, rows, W).
        weights: (rows, W).
        top: the image's row that is the first.
    """

    sums: Tensor
    weights: Tensor
    top: int = 0

    @classmethod
    def of(cls, tiling: Tiling, images: int, channels: int) -> "Strip":
        """An empty strip as high as the highest tile."""
        rows = max(height for _, height in tiling.rows)
        width = tiling.size[1]
        return cls(sums=torch.zeros(images, channels, rows, width), weights=torch.zeros(rows, width))

    def add(self, box: Box, weight: Tensor, images: Sequence[int], values: Tensor) -> None:
        """Lay tiles, one for each of these images, (n, C, h, w), on their place.

        Their weight is laid once: by the first image's.
        """
        rows, columns = Box(box.top - self.top, *box[1:]).slices
        for image, value in zip(images, values, strict=True):
            self.sums[image, :, rows, columns] += weight * value
            if image == 0:
                self.weights[rows, columns] += weight

    def until(self, row: int) -> tuple[Tensor, Tensor]:
        """Take off all rows above `row`: their means (K, C, n, W), and where there are any, bool (n, W)."""
        count = row - self.top
        weights = self.weights[:count]
        means = self.sums[:, :, :count] / weights.clamp(min=1e-12)
        there = weights > 0
        self.sums = torch.cat([self.sums[:, :, count:], torch.zeros_like(self.sums[:, :, :count])], 2)
        self.weights = torch.cat([self.weights[count:], torch.zeros_like(self.weights[:count])])
        self.top = row
        return means, there
