"""Masks: pixels that are gone. White is what is to be filled, everywhere.

A(x) = (1 − m) ⊙ x,     pinv(y) = y.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Generator, Tensor

from scorefield.data.images import read_image, to_tensor
from scorefield.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Mask:
    """The operator that blanks the pixels under a mask.

    Args:
        fill: 1 where a pixel is gone and 0 where it is known, (1 or B, 1, H, W).
    """

    fill: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """(1 − m) ⊙ x, (B, C, H, W)."""
        return x * (1 - self.fill.to(x))

    def pinv(self, y: Tensor) -> Tensor:
        """Y itself."""
        return y


@dataclass(frozen=True, kw_only=True)
class CenterBox:
    """A box in the middle.

    Args:
        share: its side over the picture's.
    """

    share: float = 0.5

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> Mask:
        """The same box each time; (1, 1, H, W)."""
        h, w = shape[-2:]
        bh, bw = max(1, round(h * self.share)), max(1, round(w * self.share))
        fill = torch.zeros(1, 1, h, w)
        fill[..., (h - bh) // 2 : (h - bh) // 2 + bh, (w - bw) // 2 : (w - bw) // 2 + bw] = 1
        return Mask(fill=fill)


@dataclass(frozen=True, kw_only=True)
class Side:
    """A share of the picture at one side, half of it by default.

    Args:
        side: left, right, top or bottom.
        share: of the width or height.
    """

    side: str = "bottom"
    share: float = 0.5

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> Mask:
        """The same pixels each time; (1, 1, H, W).

        Raises:
            UserError: no such side.
        """
        h, w = shape[-2:]
        dh, dw = max(1, round(h * self.share)), max(1, round(w * self.share))
        cuts = {
            "left": (slice(None), slice(0, dw)),
            "right": (slice(None), slice(w - dw, w)),
            "top": (slice(0, dh), slice(None)),
            "bottom": (slice(h - dh, h), slice(None)),
        }
        if self.side not in cuts:
            raise UserError("side", f"no such side {self.side!r}.", f"Known: {', '.join(cuts)}.")
        fill = torch.zeros(1, 1, h, w)
        fill[(..., *cuts[self.side])] = 1
        return Mask(fill=fill)


def read_mask(path: str | Path, size: Sequence[int], *, invert: bool = False) -> Mask:
    """A mask from a picture file: white is filled, black is kept; greys split at the middle.

    Args:
        path: any picture.
        size: (H, W) of the picture to mend; the mask's aspect must be the same, its size may differ.
        invert: take black for what is to be filled.

    Raises:
        UserError: unreadable, of another aspect, or nothing or everything to fill.
    """
    picture = read_image(Path(path)).convert("L")
    h, w = size
    if abs(picture.width * h - picture.height * w) > max(picture.width, picture.height, h, w):
        raise UserError(
            path,
            f"the mask is {picture.width}×{picture.height}, the picture {w}×{h}.",
            "Give a mask of the picture's size.",
        )
    fill = (to_tensor(picture.resize((w, h), Image.Resampling.NEAREST)) > 127).float()[None]
    fill = 1 - fill if invert else fill
    if fill.min() == fill.max():
        state = (
            "all white: nothing of the picture would be kept"
            if fill.max() > 0
            else "all black: nothing to fill"
        )
        raise UserError(path, f"the mask is {state}.", "White = fill; --invert turns a mask around.")
    return Mask(fill=fill)


MASKS = {"center": CenterBox(), **{side: Side(side=side) for side in ("left", "right", "top", "bottom")}}
"""Masks by name, for want of a mask file."""


def named_mask(name: str | Path, size: Sequence[int], *, invert: bool = False) -> Mask:
    """The mask of that name in MASKS, or from that picture file, for pictures of `size` (H, W).

    Raises:
        UserError: neither a name nor a file; or see `read_mask`.
    """
    if str(name) in MASKS:
        drawn = MASKS[str(name)].draw((1, 1, *size), generator=Generator())
        return Mask(fill=1 - drawn.fill) if invert else drawn
    if not Path(name).exists():
        raise UserError(
            name, "no such mask.", f"Give a picture file (white = fill) or one of {', '.join(MASKS)}."
        )
    return read_mask(name, size, invert=invert)
