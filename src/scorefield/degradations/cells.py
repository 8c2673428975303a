"""The quantisation cells of a JPEG file: the set of images that the file may have been made from.

The encoder divides each coefficient of the 8 × 8 DCT by a step q and rounds. So the original x0 lies within half a
step of the file's coefficients,

    x0 ∈ S_1,    S_s = {x : −s q/2 ≤ C P x − k q ≤ s q/2},

with P the luma or the chroma plane at its own size (averaged over boxes), C the DCT, and k the file's whole numbers.
S_s is convex, and in Y, C_b, C_r the map

    x → x + Pᵀ Cᵀ (clamp(C P x, (k ± s/2) q) − C P x)        (Pᵀ repeats a value over its box)

is the projection onto it: at s = 1 it takes no image farther from the original, in luma and in each chroma plane by
itself. Originals are seldom near the border of their cells, so a share s below 1 brings an estimate nearer on
average.

The file's coefficients are computed from the decoded image. Decoders enlarge halved chroma by the triangle filter U
(1/4, 3/4), as libjpeg does. P U is a filter with the taps 1/8, 3/4, 1/8 along each halved axis, mirrored at the
borders, and is undone by its inverse, √2 (2√2 − 3)^|k|. A coefficient that is then near a multiple of its step is
that multiple: rounding to bytes is the only difference. One that is not was clipped at black or white, and is taken
as it is.

Blocks that reach over the right or lower edge depend on padding that no decoder shows; they are left as they are. What
an encoder rounds beside the coefficients (Y, C_b and C_r to whole levels) is not part of the cells.

References:
    Zakhor (1992) (projection onto quantisation constraints). https://doi.org/10.1109/76.134377
    ITU-T T.81 (1992), Annex A.3. https://www.w3.org/Graphics/JPEG/itu-t81.pdf
"""

import math
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, pad

from scorefield.data.photo import JPEGHeader
from scorefield.degradations.base import Box
from scorefield.degradations.dct import constant, cosines
from scorefield.degradations.jpeg import BOXES, TO_RGB, TO_YCC, Subsampling, Tables, subsampling_of, tables_of

__all__ = ["QuantisationCells", "file_cells", "quantisation_cells"]

_MCU = 16
"""The side of the largest unit that a file codes at once: a part of an image that begins at its multiples has the
whole image's blocks."""
_NEAR = 0.25
"""Of a step: a coefficient so near to a multiple is that multiple. The rounding of decoded bytes moves it by about 0.3
levels. Of the coefficients of photographs, 99.8 % are so near at quality 50, and 97 % of luma's at quality 90."""
_DECAY, _REACH = 2 * math.sqrt(2) - 3, 8
"""(P U)⁻¹ along one axis has the taps √2 (2√2 − 3)^|k|, of which those beyond 8 are below 10⁻⁶."""


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantisationCells:
    """The projection onto S_s; a function of images.

    Args:
        centres: k q of each plane, (rows, columns), of its whole blocks, in levels of 255; one plane for a grey image.
        tables: the steps q of luma and chroma.
        box: of chroma, in pixels.
        share: s.
        value_range: black and white in x.
    """

    centres: tuple[Tensor, ...]
    tables: Tables
    box: tuple[int, int] = (1, 1)
    share: float = 1.0
    value_range: tuple[float, float] = (-1.0, 1.0)

    def __call__(self, x: Tensor) -> Tensor:
        """The image of S_s that is nearest to x in Y, C_b and C_r; (B, C, H, W), of as many channels as planes.

        Raises:
            ValueError: another number of channels.
        """
        if x.shape[1] != len(self.centres):
            raise ValueError(f"cells of {len(self.centres)} planes, an image of {x.shape[1]} channels")
        low, high = self.value_range
        planes = _planes((x - low) * (255 / (high - low)))
        added = torch.zeros_like(planes)
        for number, centres in enumerate(self.centres):
            box = self.box if number else (1, 1)
            rows, columns = centres.shape[0] * box[0], centres.shape[1] * box[1]
            if rows and columns:
                found = _frequencies(avg_pool2d(planes[:, number : number + 1, :rows, :columns], box)[:, 0])
                step = constant(self.tables[number > 0], x).reshape(8, 1, 8) * (self.share / 2)
                middle = _in_blocks(centres.to(x))
                lacking = torch.minimum(torch.maximum(found, middle - step), middle + step) - found
                change = _pixels(lacking).repeat_interleave(box[0], -2).repeat_interleave(box[1], -1)
                added[:, number, :rows, :columns] = change
        if len(self.centres) == 3:
            added = torch.einsum("ck,bkhw->bchw", constant(TO_RGB, x), added)
        return x + added * ((high - low) / 255)

    def with_share(self, share: float) -> Self:
        """The same with another s."""
        return replace(self, share=share)

    def part(self, box: Box) -> Self:
        """The cells of a part of the image, of those blocks that lie in it whole.

        Raises:
            ValueError: the part does not begin at a multiple of 16.
        """
        if box.top % _MCU or box.left % _MCU:
            raise ValueError(f"blocks begin at multiples of {_MCU}, the part at {box.top}, {box.left}")

        def cut(centres: Tensor, own: tuple[int, int]) -> Tensor:
            top, left = box.top // own[0], box.left // own[1]
            return centres[top : top + box.height // (8 * own[0]) * 8, left : left + box.width // (8 * own[1]) * 8]

        boxes = ((1, 1), self.box, self.box)
        return replace(self, centres=tuple(map(cut, self.centres, boxes)))


def quantisation_cells(
    levels: Tensor, tables: Tables, subsampling: Subsampling = "4:2:0", *, smooth: bool = True
) -> QuantisationCells:
    """The cells of a decoded image, at s = 1.

    Args:
        levels: (C, H, W), 0 to 255, C of 1 or 3, as the file stores it.
        tables: divisors of luma and of chroma.
        subsampling: of chroma.
        smooth: whether the decoder enlarged chroma by the triangle filter; else it repeated it, as `JPEG` does.
    """
    box = BOXES[subsampling] if levels.shape[0] == 3 else (1, 1)
    centres: list[Tensor] = []
    for number in range(len(levels)):  # one after the other: a large image has no float copy of all channels
        plane = levels[0] - 128.0 if len(levels) == 1 else _plane(levels, TO_YCC[number])
        own = box if number else (1, 1)
        small = _reduced(plane, own, smooth=smooth)
        rows, columns = (plane.shape[axis] // (8 * own[axis]) * 8 for axis in (0, 1))
        centres.append(_centres(small[:rows, :columns], tables[number > 0]))
    return QuantisationCells(centres=tuple(centres), tables=tables, box=box)


def file_cells(levels: Tensor, header: JPEGHeader) -> QuantisationCells | None:
    """The cells of a JPEG file, at s = 1, for images in levels of 255.

    Args:
        levels: its pixels as it stores them, not turned upright: uint8, (C, H, W).
        header: of the file.

    Returns:
        None where the file stores its channels in an unusual way.
    """
    subsampling = subsampling_of(header)
    if subsampling is None:
        return None
    return replace(quantisation_cells(levels, tables_of(header), subsampling), value_range=(0.0, 255.0))


def _planes(levels: Tensor) -> Tensor:
    """Y − 128, C_b − 128 and C_r − 128 of (B, C, H, W) in levels of 255; of a grey image its values − 128."""
    centred = levels - 128
    return centred if levels.shape[1] == 1 else torch.einsum("kc,bchw->bkhw", constant(TO_YCC, levels), centred)


def _plane(levels: Tensor, weights: tuple[float, ...]) -> Tensor:
    """One plane of (3, H, W) in levels of 255: its channels less 128, weighted and summed."""
    plane = torch.zeros(levels.shape[1:])
    for channel, weight in zip(levels, weights, strict=True):
        plane.add_(channel, alpha=weight).sub_(128 * weight)
    return plane


def _centres(plane: Tensor, table: tuple[int, ...]) -> Tensor:
    """The file's coefficients, of a plane (rows, columns) of whole blocks."""
    if not plane.numel():
        return plane
    step = constant(table, plane).reshape(8, 1, 8)
    found = _frequencies(plane[None])[0] / step
    whole = found.round()
    return (torch.where((found - whole).abs() <= _NEAR, whole, found) * step).reshape(plane.shape)


def _reduced(plane: Tensor, box: tuple[int, int], *, smooth: bool) -> Tensor:
    """The plane at its own size in the file, from its enlargement (H, W)."""
    if box == (1, 1):
        return plane
    padded = pad(plane[None, None], (0, -plane.shape[1] % box[1], 0, -plane.shape[0] % box[0]), mode="replicate")
    small = avg_pool2d(padded, box)
    if smooth:
        for axis in (-2, -1):
            small = _unsmoothed(small, axis) if box[axis] == 2 else small
    return small[0, 0]


def _unsmoothed(x: Tensor, axis: int) -> Tensor:
    """(P U)⁻¹ along one axis of (1, 1, H, W), mirrored at the borders."""
    reach = min(_REACH, x.shape[axis])
    wide = torch.cat([x.narrow(axis, 0, reach).flip(axis), x, x.narrow(axis, -reach, reach).flip(axis)], axis)
    taps = tuple(math.sqrt(2) * _DECAY ** abs(k) for k in range(-reach, reach + 1))
    kernel = constant(taps, x)
    return conv2d(wide, kernel.reshape((1, 1, -1, 1) if axis == -2 else (1, 1, 1, -1)))


def _in_blocks(plane: Tensor) -> Tensor:
    """(…, rows, columns) to (…, rows/8, 8, columns/8, 8)."""
    return plane.unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8))


def _frequencies(plane: Tensor) -> Tensor:
    """The 8 × 8 DCT of (B, rows, columns), (B, rows/8, 8, columns/8, 8)."""
    basis = cosines(8, plane)
    return (basis @ plane.unflatten(-2, (-1, 8))).unflatten(-1, (-1, 8)) @ basis.T


def _pixels(frequencies: Tensor) -> Tensor:
    """The inverse of `_frequencies`."""
    basis = cosines(8, frequencies)
    return (basis.T @ (frequencies @ basis).flatten(-2)).flatten(-3, -2)
