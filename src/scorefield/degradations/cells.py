"""The quantisation cells of a JPEG file: the set of images that the file may have been made from.

The encoder divides each coefficient of the 8 × 8 DCT by a step q and rounds. So the original x0 lies within half a
step of the file's coefficients,

    x0 ∈ S_1,    S_s = {x : |C P x − k q| ≤ s q/2},

with P the luma or the chroma plane at its own size (averaged over boxes), C the DCT, and k the file's whole numbers.
S_s is convex, and in Y, C_b, C_r the map

    x → x + Pᵀ Cᵀ (clamp(C P x, (k ± s/2) q) − C P x)        (Pᵀ repeats a value over its box)

is the projection onto it: at s = 1 it takes no image farther from the original, in luma and in each chroma plane by
itself. Originals are seldom near the border of their cells, so a share s below 1 brings an estimate nearer on average.

The file's coefficients are computed from the decoded image. Decoders enlarge halved chroma by the triangle filter U
(1/4, 3/4), as libjpeg does; c = P U⁻¹ is found from the box averages by c ← c + P(y − U c), which converges because the
eigenvalues of P U lie in [1/4, 1]. A coefficient that is then near a multiple of its step is that multiple: rounding
to bytes is the only difference. One that is not was clipped at black or white, and is taken as it is.

Blocks that reach over the right or lower edge depend on padding that no decoder shows; they are left as they are. What
an encoder rounds beside the coefficients (Y, C_b and C_r to whole levels) is not part of the cells.

References:
    Zakhor (1992), §II (projection onto quantisation constraints). https://doi.org/10.1109/76.134377
    ITU-T T.81 (1992), Annex A.3. https://www.w3.org/Graphics/JPEG/itu-t81.pdf
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

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
_SWEEPS = 24  # (3/4)²⁴ = 0.1 % of what U took away is still lacking, which is less than the rounding to bytes


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
    planes = _planes(levels.float()[None])[0]
    centres: list[Tensor] = []
    for number, plane in enumerate(planes):
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
    seen = _averaged(plane[None, None], box)
    if not smooth:
        return seen[0, 0]
    small = seen
    for _ in range(_SWEEPS):
        enlarged = _triangle(small, box)[..., : plane.shape[0], : plane.shape[1]]
        small = small + seen - _averaged(enlarged, box)
    return small[0, 0]


def _averaged(x: Tensor, box: tuple[int, int]) -> Tensor:
    """Means over boxes, the last row and column repeated where they cut one."""
    return avg_pool2d(pad(x, (0, -x.shape[-1] % box[1], 0, -x.shape[-2] % box[0]), mode="replicate"), box)


def _triangle(x: Tensor, box: tuple[int, int]) -> Tensor:
    """Twice as large along each side of the box that is 2: ¾ of the nearest value and ¼ of the next but one."""
    for axis in (-2, -1):
        if box[axis] == 2:
            border = (0, 0, 1, 1) if axis == -2 else (1, 1, 0, 0)
            wide, n = pad(x, border, mode="replicate"), x.shape[axis]
            before, after = (0.75 * x + 0.25 * wide.narrow(axis, start, n) for start in (0, 2))
            x = torch.stack([before, after], axis % 4 + 1).flatten(axis % 4, axis % 4 + 1)
    return x


def _in_blocks(plane: Tensor) -> Tensor:
    """(…, rows, columns) to (…, rows/8, 8, columns/8, 8)."""
    return plane.unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8))


def _frequencies(plane: Tensor) -> Tensor:
    """The 8 × 8 DCT of (B, rows, columns), (B, rows/8, 8, columns/8, 8)."""
    basis = cosines(8, plane)
    return torch.einsum("ui,bricj,vj->brucv", basis, _in_blocks(plane), basis)


def _pixels(frequencies: Tensor) -> Tensor:
    """The inverse of `_frequencies`."""
    basis = cosines(8, frequencies)
    return torch.einsum("ui,brucv,vj->bricj", basis, frequencies, basis).flatten(3, 4).flatten(1, 2)
