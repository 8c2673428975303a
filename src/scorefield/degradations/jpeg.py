"""JPEG as an operator: its lossy steps without the entropy coding.

    x → Y, C_b, C_r → chroma averaged over boxes → 8 × 8 DCT → round(· / Q) Q → and all of it back

with the tables Q of Annex K, scaled by libjpeg's rule of quality q,

    Q = clamp(⌊(s Q_50 + 50)/100⌋, 1, 255),     s = ⌊5000/q⌋ below 50, else 200 − 2q.

Chroma is enlarged by repetition, whose box averages are the chroma again, and nothing is clamped to 0 … 255. So
A is idempotent up to float rounding, A(A(x)) = A(x), and pinv(y) = y. This holds if the sides are whole
blocks: multiples of 8, or of 16 where chroma is halved. Other sides are padded with their last pixels, as
encoders do; the padding is cut off, so a second pass may differ in the blocks at the edge (at 28 × 28 by one
of 255 levels on average, by tens in single pixels).

Rounding has zero derivative. Gradients pass straight through it (Bengio et al. 2013), as if A were the linear
operator that only averages chroma, so methods that need Aᵀ have one.

A decoder clamps and rounds to bytes, and most interpolate chroma. From Pillow's encoder and decoder A differs
by 0.02 to 0.3 of 255 levels on average on grey photographs, by 0.5 to 1.1 on color with 4:4:4, and with 4:2:0 by
0.8 to 1.4 at 320 pixels, 1.7 at 128. One more A maps a decoded image onto the range of A.

References:
    ITU-T T.81 (1992), Annex A.3.3 and K.1. https://www.w3.org/Graphics/JPEG/itu-t81.pdf
    JFIF 1.02 (the color space). https://www.w3.org/Graphics/JPEG/jfif3.pdf
    Bengio et al. (2013). https://arxiv.org/abs/1308.3432
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn.functional import avg_pool2d, pad

from scorefield.data.color import LUMA
from scorefield.data.photo import JPEGHeader
from scorefield.degradations.base import NetworkInput, SameSize, predict_all
from scorefield.degradations.dct import constant, cosines
from scorefield.degradations.rotated import Rotated
from scorefield.errors import UserError, did_you_mean

Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]
"""Resolution of chroma: full, half the columns, or half of columns and rows."""

SUBSAMPLINGS: tuple[Subsampling, ...] = ("4:4:4", "4:2:2", "4:2:0")
"""In the order of Pillow's numbers for them."""

BOXES: dict[str, tuple[int, int]] = {"4:4:4": (1, 1), "4:2:2": (1, 2), "4:2:0": (2, 2)}

_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61,
    12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77,
    24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99,
    18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99,
    *(99,) * 32,
)  # fmt: skip

_R, _G, _B = LUMA
TO_YCC = (
    LUMA,
    (-_R / 1.772, -_G / 1.772, 0.5),
    (0.5, -_G / 1.402, -_B / 1.402),
)
TO_RGB = (
    (1.0, 0.0, 1.402),
    (1.0, -_B * 1.772 / _G, -_R * 1.402 / _G),
    (1.0, 1.772, 0.0),
)

Tables = tuple[tuple[int, ...], tuple[int, ...]]
"""Divisors of luma and of chroma, 64 each, row by row."""


def check_jpeg(quality: int, subsampling: str) -> None:
    """Refuse a quality or a subsampling that no JPEG has.

    Raises:
        UserError: no such quality or subsampling.
    """
    if not 1 <= quality <= 100:
        raise UserError("jpeg", f"a quality is 1 to 100, got {quality}.")
    if subsampling not in BOXES:
        raise UserError("jpeg", f"no such subsampling {subsampling!r}.", did_you_mean(subsampling, BOXES))


@dataclass(frozen=True, kw_only=True)
class JPEG(SameSize):
    """The operator of writing and reading a JPEG file; a grey image has luma only.

    Args:
        quality: 1 to 100, as libjpeg defines it.
        subsampling: of chroma.
        value_range: black and white in x.
        tables: divisors that replace those of the quality.

    Raises:
        UserError: no such quality or subsampling, or a table that is not 64 positive numbers.
    """

    quality: int = 75
    subsampling: Subsampling = "4:2:0"
    value_range: tuple[float, float] = (-1.0, 1.0)
    tables: Tables | None = None

    def __post_init__(self) -> None:
        check_jpeg(self.quality, self.subsampling)
        if self.tables is not None and not all(len(t) == 64 and min(t) >= 1 for t in self.tables):
            raise UserError("jpeg", "a table has 64 numbers, all 1 or more.")

    def __call__(self, x: Tensor) -> Tensor:
        """The decoded image, (B, C, H, W), C of 1 or 3; not clamped.

        Raises:
            UserError: x has another number of channels.
        """
        if x.shape[1] not in (1, 3):
            raise UserError("jpeg", f"made for 1 or 3 channels, the image has {x.shape[1]}.")
        low, high = self.value_range
        luma, chroma = self.tables or standard_tables(self.quality)
        levels = (x - low) * (255 / (high - low)) - 128  # of Y, and of grey; chroma has no offset
        if x.shape[1] == 1:
            back = _coded(levels, luma, (1, 1))
        else:
            ycc = torch.einsum("kc,bchw->bkhw", constant(TO_YCC, x), levels)
            parts = [_coded(ycc[:, :1], luma, (1, 1)), _coded(ycc[:, 1:], chroma, BOXES[self.subsampling])]
            back = torch.einsum("ck,bkhw->bchw", constant(TO_RGB, x), torch.cat(parts, 1))
        return (back + 128) * ((high - low) / 255) + low

    def pinv(self, y: Tensor) -> Tensor:
        """y itself: a second pass changes nothing."""
        return y

    def network_input(self, y: Tensor, *, generator: Generator) -> NetworkInput:
        """The source is y, with the quantisation tables; every pixel is to be predicted."""
        return predict_all(y)._replace(tables=table_tensor(self.tables or standard_tables(self.quality), y))


@lru_cache(maxsize=100)
def standard_tables(quality: int) -> Tables:
    """Annex K's tables at libjpeg's quality, 1 to 100."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    luma, chroma = (tuple(min(max((scale * q + 50) // 100, 1), 255) for q in t) for t in (_LUMA, _CHROMA))
    return luma, chroma


def table_tensor(tables: Tables, like: Tensor) -> Tensor:
    """The divisors of luma and chroma as (B, 128), for a batch like `like`."""
    return constant((*tables[0], *tables[1]), like).expand(len(like), -1)


def nearest_quality(header: JPEGHeader) -> int:
    """The quality, 1 to 100, whose standard tables are nearest to a JPEG file's."""
    read = tables_of(header)
    planes = 1 if header.mode == "L" or len(header.tables) == 1 else 2
    return min(range(1, 101), key=lambda quality: _apart(standard_tables(quality)[:planes], read[:planes]))


def jpeg_operator(header: JPEGHeader, where: object, value_range: tuple[float, float] = (-1.0, 1.0)) -> JPEG | Rotated:
    """The operator that a JPEG file went through.

    Where the file stores the image turned, the operator acts on the turned image.

    Args:
        header: of the file.
        where: the file, for errors.
        value_range: of the images that the operator takes.

    Raises:
        UserError: other channels than grey or color, or an unusual subsampling of chroma.
    """
    if header.mode not in ("L", "RGB"):
        raise UserError(where, f"is a JPEG file of {header.mode} channels.", "Grey or RGB is needed.")
    subsampling = subsampling_of(header)
    if subsampling is None:
        raise UserError(where, "stores its chroma in an unusual way (subsampling).", "Give the quality instead.")
    read, nearest = tables_of(header), nearest_quality(header)
    standard = standard_tables(nearest)
    exact = standard == read or (header.mode == "L" and standard[0] == read[0])
    jpeg = JPEG(
        quality=nearest,
        subsampling=subsampling,
        value_range=value_range,
        tables=None if exact else read,
    )
    turned = header.orientation in range(2, 9)
    return Rotated(degradation=jpeg, orientation=header.orientation) if turned else jpeg


def subsampling_of(header: JPEGHeader) -> Subsampling | None:
    """How a file stores chroma; None where it does so in an unusual way."""
    if header.mode == "L":
        return "4:4:4"
    usual = header.mode == "RGB" and header.sampling in range(len(SUBSAMPLINGS))
    return SUBSAMPLINGS[header.sampling] if usual else None


def tables_of(header: JPEGHeader) -> Tables:
    """The divisors of luma and chroma in a file; those of luma twice where it has one table."""
    luma = header.tables[min(header.tables)]
    return luma, header.tables.get(1, luma)


def _apart(a: tuple[tuple[int, ...], ...], b: tuple[tuple[int, ...], ...]) -> int:
    return sum(abs(p - q) for s, t in zip(a, b, strict=True) for p, q in zip(s, t, strict=True))


def _coded(planes: Tensor, table: tuple[int, ...], box: tuple[int, int]) -> Tensor:
    """Planes, (B, K, H, W): box averages, rounded 8 × 8 DCT, inverse DCT, repetition."""
    h, w = planes.shape[-2:]
    whole = pad(planes, (0, -w % (8 * box[1]), 0, -h % (8 * box[0])), mode="replicate")
    small = avg_pool2d(whole, box)
    b, k, rows, columns = small.shape
    blocks = small.reshape(b, k, rows // 8, 8, columns // 8, 8)
    basis, divisor = cosines(8, planes), constant(table, planes).reshape(8, 1, 8)
    frequencies = torch.einsum("ui,bkricj,vj->bkrucv", basis, blocks, basis) / divisor
    rounded = frequencies + (frequencies.round() - frequencies).detach()
    back = torch.einsum("ui,bkrucv,vj->bkricj", basis, rounded * divisor, basis)
    large = back.reshape(b, k, rows, columns).repeat_interleave(box[0], -2).repeat_interleave(box[1], -1)
    return large[..., :h, :w]
