"""JPEG as an operator: all that loses something in it, and no bytes.

    x → Y, C_b, C_r → chroma averaged over boxes → 8 × 8 DCT → round(· / Q) Q → and all of it back

with the tables Q of Annex K, scaled by libjpeg's rule of quality q,

    Q = clamp(⌊(s Q_50 + 50)/100⌋, 1, 255),     s = ⌊5000/q⌋ below 50, else 200 − 2q.

Chroma comes back by repetition, whose box averages are itself, and nothing is clamped to 0 … 255. So A is
idempotent (A(A(x)) = A(x), but for float rounding) and pinv(y) = y. That holds where the sides are whole
blocks: multiples of 8, of 16 where chroma is halved. Others are continued with their last pixels, as
encoders do; of the blocks that stand over the edge only a part comes back, and what is coded again there
may differ (at 28 × 28 by one of 255 levels in the mean, by tens in single pixels of the edge).

Rounding has no slope. Gradients pass straight through it (Bengio et al. 2013), as if A were the linear
operator that only averages chroma, so that methods that need Aᵀ have one.

A decoder clamps and rounds to bytes, and most smooth the chroma that they enlarge. From Pillow's encoder
and decoder A differs by 0.02 to 0.3 of 255 levels in the mean on grey photographs, 0.5 to 1.1 on color with
4:4:4, and with 4:2:0 0.8 to 1.4 at 320 pixels, 1.7 at 128. Such an image is brought back onto what A can
give by one more A.

References:
    ITU-T T.81 (1992), Annex A.3.3 and K.1. https://www.w3.org/Graphics/JPEG/itu-t81.pdf
    JFIF 1.02 (the color space). https://www.w3.org/Graphics/JPEG/jfif3.pdf
    Bengio et al. (2013). https://arxiv.org/abs/1308.3432
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from PIL import Image, JpegImagePlugin
from torch import Generator, Tensor
from torch.nn.functional import avg_pool2d, pad

from scorefield.degradations.base import Shown, all_to_predict
from scorefield.degradations.constants import constant, cosines
from scorefield.degradations.turned import Turned
from scorefield.errors import UserError, did_you_mean

Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]
"""How much of chroma is kept: all, half the columns, or half of columns and rows."""

_BOXES: dict[str, tuple[int, int]] = {"4:4:4": (1, 1), "4:2:2": (1, 2), "4:2:0": (2, 2)}

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

_TO_YCC = (
    (0.299, 0.587, 0.114),
    (-0.299 / 1.772, -0.587 / 1.772, 0.5),
    (0.5, -0.587 / 1.402, -0.114 / 1.402),
)
_TO_RGB = (
    (1.0, 0.0, 1.402),
    (1.0, -0.114 * 1.772 / 0.587, -0.299 * 1.402 / 0.587),
    (1.0, 1.772, 0.0),
)

_ORIENTATION = 0x0112

Tables = tuple[tuple[int, ...], tuple[int, ...]]
"""Divisors of luma and of chroma, 64 each, row by row."""


def check_jpeg(quality: int, subsampling: str) -> None:
    """Refuse a quality or a subsampling that no JPEG has.

    Raises:
        UserError: no such quality or subsampling.
    """
    if not 1 <= quality <= 100:
        raise UserError("jpeg", f"a quality is 1 to 100, got {quality}.")
    if subsampling not in _BOXES:
        raise UserError("jpeg", f"no such subsampling {subsampling!r}.", did_you_mean(subsampling, _BOXES))


@dataclass(frozen=True, kw_only=True)
class JPEG:
    """The operator of a JPEG file written and read again; a grey image has luma alone.

    Args:
        quality: 1 to 100, as libjpeg counts.
        subsampling: of chroma.
        value_range: black and white in x.
        tables: divisors of one's own in place of the quality's.

    Raises:
        UserError: no such quality or subsampling, or tables that are not 64 positive numbers each.
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
        """What is left of x, (B, C, H, W), C of 1 or 3; not clamped.

        Raises:
            UserError: another number of channels.
        """
        if x.shape[1] not in (1, 3):
            raise UserError("jpeg", f"made for 1 or 3 channels, the image has {x.shape[1]}.")
        low, high = self.value_range
        luma, chroma = self.tables or standard_tables(self.quality)
        levels = (x - low) * (255 / (high - low)) - 128  # of Y, and of grey; chroma has no offset
        if x.shape[1] == 1:
            back = _coded(levels, luma, (1, 1))
        else:
            ycc = torch.einsum("kc,bchw->bkhw", constant(_TO_YCC, x), levels)
            parts = [_coded(ycc[:, :1], luma, (1, 1)), _coded(ycc[:, 1:], chroma, _BOXES[self.subsampling])]
            back = torch.einsum("ck,bkhw->bchw", constant(_TO_RGB, x), torch.cat(parts, 1))
        return (back + 128) * ((high - low) / 255) + low

    def pinv(self, y: Tensor) -> Tensor:
        """Y itself: an image that went through once goes through unchanged."""
        return y

    def shown(self, y: Tensor, *, generator: Generator) -> Shown:
        """Y itself, all of it to be predicted."""
        return all_to_predict(y)


def standard_tables(quality: int) -> Tables:
    """Annex K's tables at libjpeg's quality, 1 to 100."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    luma, chroma = (tuple(min(max((scale * q + 50) // 100, 1), 255) for q in t) for t in (_LUMA, _CHROMA))
    return luma, chroma


def read_jpeg(path: str | Path, value_range: tuple[float, float] = (-1.0, 1.0)) -> JPEG | Turned:
    """The operator that a JPEG file has been through, from the tables in its header.

    Its `quality` is the one whose standard tables are nearest. Where an image is stored turned, so was the
    degradation.

    Raises:
        UserError: no JPEG file that can be read, or one with other channels than grey or color.
    """
    try:
        with Image.open(path) as image:
            if not isinstance(image, JpegImagePlugin.JpegImageFile):
                raise UserError(path, "is no JPEG file.", "Say what it went through: --quality 10.")
            tables, mode = dict(image.quantization), image.mode
            sampling = JpegImagePlugin.get_sampling(image)
            orientation = image.getexif().get(_ORIENTATION, 1)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(path, f"cannot be read as a JPEG file ({error}).") from None
    if mode not in ("L", "RGB"):
        raise UserError(path, f"is a JPEG file of {mode} channels.", "Grey or RGB is needed.")
    luma = tuple(tables[min(tables)])
    read = (luma, tuple(tables.get(1, luma)))
    subsampling: dict[int, Subsampling] = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}
    if mode == "RGB" and sampling not in subsampling:
        raise UserError(path, "keeps its color in an unusual way (subsampling).", "Say --quality instead.")
    nearest = min(range(1, 101), key=lambda q: _apart(standard_tables(q), read))
    exact = standard_tables(nearest) == read or (mode == "L" and standard_tables(nearest)[0] == luma)
    jpeg = JPEG(
        quality=nearest,
        subsampling=subsampling.get(sampling, "4:4:4"),
        value_range=value_range,
        tables=None if exact else read,
    )
    return Turned(degradation=jpeg, orientation=orientation) if orientation in range(2, 9) else jpeg


def _apart(a: Tables, b: Tables) -> int:
    return sum(abs(p - q) for s, t in zip(a, b, strict=True) for p, q in zip(s, t, strict=True))


def _coded(planes: Tensor, table: tuple[int, ...], box: tuple[int, int]) -> Tensor:
    """Planes, (B, K, H, W), averaged over boxes, through the rounded 8 × 8 DCT, and repeated again."""
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
