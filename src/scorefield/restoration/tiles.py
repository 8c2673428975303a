"""A large image in tiles that overlap, blended by a smooth window, with noise that does not depend on the tiles.

Where two tiles overlap by v pixels, their weights are

    sin²(π/2 · (i + ½)/v)      and      cos²(π/2 · (i + ½)/v),      i = 0 … v − 1,

which sum to 1 and are flat at both ends. At the image's own edges a tile keeps its full weight. Tiles have about
the same size. They begin at multiples of 16 pixels, so that the blocks of a JPEG file, 8 × 8 and with halved chroma
16 × 16, lie in a tile as they lie in the image. There are no more of them than needed.

Noise is a function of (seed, pixel position), so that overlapping tiles see identical noise. Each block of 64 × 64
pixels has a stream of the counter-based generator Philox: the seed and the stream's number are its key, the block's
row and column its counter. Any part can be drawn at any time, and it is the same on every device.

References:
    Salmon et al. (2011), Philox. https://doi.org/10.1145/2063384.2063405
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from scorefield.degradations import Box
from scorefield.errors import UserError

__all__ = ["GRID", "BlendBuffer", "NoiseField", "Tiling", "cuts", "round_up"]

GRID = 16
_BLOCK = 64

Cut = tuple[int, int]
"""Where a tile begins along a side, and how long it is."""


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """The tiles of an image.

    Args:
        size: (H, W) of the image.
        tile: the longest side of a tile.
        overlap: of neighbours, in pixels.
        grid: tiles begin at its multiples, and both sides above are such: 16, and a multiple of the factor by which a
            network enlarges.

    Raises:
        UserError: sides that are no such multiples, or a tile shorter than its two overlaps.
    """

    size: tuple[int, int]
    tile: int
    overlap: int
    grid: int = GRID

    def __post_init__(self) -> None:
        if self.tile < 1 or self.tile % self.grid or self.overlap < 0 or self.overlap % self.grid:
            raise UserError(
                "tile", f"sides are multiples of {self.grid} pixels, got {self.tile} with an overlap of {self.overlap}."
            )
        if self.tile < 2 * self.overlap:
            raise UserError(
                "tile", f"{self.tile} pixels are too few for an overlap of {self.overlap} at each side.",
                f"Take {2 * self.overlap} or more.",
            )  # fmt: skip

    @cached_property
    def rows(self) -> list[Cut]:
        """Top and height of each row of tiles."""
        return cuts(self.size[0], self.tile, self.overlap, self.grid)

    @cached_property
    def columns(self) -> list[Cut]:
        """Left and width of each column of tiles."""
        return cuts(self.size[1], self.tile, self.overlap, self.grid)

    def boxes(self, row: Cut) -> list[Box]:
        """The tiles of one row."""
        return [Box(row[0], left, row[1], width) for left, width in self.columns]

    def weight(self, box: Box) -> Tensor:
        """The window of a tile, (h, w)."""
        down = _window(box.top, box.height, self.size[0], self.overlap)
        return down[:, None] * _window(box.left, box.width, self.size[1], self.overlap)


def cuts(length: int, tile: int, overlap: int, grid: int = GRID) -> list[Cut]:
    """Where tiles lie along a side: as many as needed, about equally long, with just the overlap in common."""
    if length <= tile:
        return [(0, length)]
    count = math.ceil((length - overlap) / (tile - overlap))
    starts = [round_up(index * (length - overlap) / count, grid) for index in range(count)]
    ends = [start + overlap for start in starts[1:]] + [length]
    return [(start, end - start) for start, end in zip(starts, ends, strict=True)]


def round_up(length: float, grid: int = GRID) -> int:
    """The next multiple of the grid."""
    return math.ceil(length / grid) * grid


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
class BlendBuffer:
    """The rows of several images that tiles may still change, from row `top` on.

    Args:
        sums: weighted values, (K, C, rows, W).
        weights: (rows, W).
        top: the image's row that is the buffer's first.
    """

    sums: Tensor
    weights: Tensor
    top: int = 0

    @classmethod
    def of(cls, tiling: Tiling, images: int, channels: int) -> "BlendBuffer":
        """An empty buffer as high as the highest tile."""
        rows = max(height for _, height in tiling.rows)
        width = tiling.size[1]
        return cls(sums=torch.zeros(images, channels, rows, width), weights=torch.zeros(rows, width))

    def add(self, box: Box, weight: Tensor, images: Sequence[int], values: Tensor) -> None:
        """Add a tile of each of these images, (n, C, h, w); its weight is added once, with the first image."""
        rows, columns = Box(box.top - self.top, *box[1:]).slices
        for image, value in zip(images, values, strict=True):
            self.sums[image, :, rows, columns] += weight * value
            if image == 0:
                self.weights[rows, columns] += weight

    def pop_rows(self, row: int) -> tuple[Tensor, Tensor]:
        """Remove all rows above `row`: their means (K, C, n, W), and where a tile lies, bool (n, W)."""
        count = row - self.top
        weights = self.weights[:count]
        means = self.sums[:, :, :count] / weights.clamp(min=1e-12)
        there = weights > 0
        self.sums = torch.cat([self.sums[:, :, count:], torch.zeros_like(self.sums[:, :, :count])], 2)
        self.weights = torch.cat([self.weights[count:], torch.zeros_like(self.weights[:count])])
        self.top = row
        return means, there


@dataclass(frozen=True, kw_only=True)
class NoiseField:
    """N(0, I) over an unbounded plane, as a function of (seed, stream, position).

    Args:
        seed: any whole number.
        stream: two numbers from 0, below 2³¹, and 0 or 1; streams of one seed are independent.
        channels: of the images.
    """

    seed: int
    stream: tuple[int, int, int]
    channels: int

    def window(self, box: Box) -> Tensor:
        """The noise within a box, (C, h, w), float32, on the CPU."""
        rows, columns = _blocks(box.top, box.height), _blocks(box.left, box.width)
        lines = [np.concatenate([self._block(r, c) for c in columns], 2) for r in rows]
        noise = np.concatenate(lines, 1)
        top, left = box.top - rows[0] * _BLOCK, box.left - columns[0] * _BLOCK
        part = noise[:, top : top + box.height, left : left + box.width]
        return torch.from_numpy(np.ascontiguousarray(part))

    def _block(self, row: int, column: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
        one, two, three = self.stream
        key = np.array([self.seed % 2**64, one << 32 | two << 1 | three], np.uint64)
        counter = np.array([0, 0, row, column], np.uint64)
        generator = np.random.Generator(np.random.Philox(key=key, counter=counter))
        return generator.standard_normal((self.channels, _BLOCK, _BLOCK), np.float32)


def _blocks(start: int, length: int) -> range:
    return range(start // _BLOCK, (start + length - 1) // _BLOCK + 1)
