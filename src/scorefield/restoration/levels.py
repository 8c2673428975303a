"""Images as they are stored, (H, W, C) of 8 or 16 bits, and as a model sees them, (C, H, W) of floats.

The maps between the two are `data.images.to_float` and `to_levels`.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scorefield.data import image as images
from scorefield.data.bit_depth import Levels
from scorefield.degradations import Grey

Range = tuple[float, float]

NEAR = 3
"""How far the channels of a grey pixel may lie apart, in levels of the image's own bits. Where rounding leaves
Cb and Cr of a grey pixel one step off 128, to opposite sides, B moves by 1.772 levels and R by 1.402 the other
way: 3.2 in all, or 3 as whole levels."""
_LUMA = np.array(Grey().weights)
_ROWS = 256


class Box(NamedTuple):
    """A part of an image."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def white(levels: Levels) -> int:
    """The brightest level that such an image can have."""
    return int(np.iinfo(levels.dtype).max)


def pixels_of(levels: Levels) -> Tensor:
    """Levels (H, W, C) → (C, H, W), uint8, or int32 for 16 bits."""
    array = levels if levels.dtype == np.uint8 else levels.astype(np.int32)
    planes = np.ascontiguousarray(array.transpose(2, 0, 1))
    return torch.from_numpy(planes if planes.flags.writeable else planes.copy())


def levels_of(pixels: Tensor) -> Levels:
    """(C, H, W), uint8 or int32, → levels (H, W, C)."""
    array = np.ascontiguousarray(pixels.detach().cpu().permute(1, 2, 0).numpy())
    return array if array.dtype == np.uint8 else array.astype(np.uint16)


def to_values(levels: Levels, value_range: Range) -> Tensor:
    """Levels (H, W, C) → float32 (C, H, W) in the range."""
    return images.to_float(pixels_of(levels), value_range, top=white(levels))


def to_levels(values: Tensor, value_range: Range, like: Levels) -> Levels:
    """Float (C, H, W) → levels (H, W, C) of the bits of `like`, rounded and clamped; NaN becomes black."""
    return levels_of(images.to_levels(values, value_range, top=white(like)))


def in_color(levels: Levels) -> bool:
    """Whether any pixel's channels differ."""
    first = levels[..., 0]
    return any(not np.array_equal(first, levels[..., channel]) for channel in range(1, levels.shape[2]))


def is_grey(levels: Levels) -> bool:
    """Whether there is one channel, or all channels are equal at every pixel up to `NEAR`."""
    blocks = (levels[top : top + _ROWS] for top in range(0, levels.shape[0], _ROWS))
    return levels.shape[2] == 1 or all(int(np.ptp(block, axis=2).max()) <= NEAR for block in blocks)


def as_grey(levels: Levels, channels: int, known: NDArray[np.bool_] | None) -> Levels:
    """The luma in so many equal channels; equal channels keep their level.

    Args:
        levels: (H, W, C).
        channels: 1 or C.
        known: pixels that stay byte for byte, (H, W), or None.
    """
    if levels.shape[2] == 1:
        return levels
    out = np.empty((*levels.shape[:2], channels), levels.dtype)
    for top in range(0, len(levels), _ROWS):
        rows = slice(top, top + _ROWS)
        out[rows] = np.rint(levels[rows] @ _LUMA)[..., None]
        if known is not None and channels == levels.shape[2]:
            out[rows] = np.where(known[rows, :, None], levels[rows], out[rows])
    return out


def with_channels(levels: Levels, channels: int) -> Levels | None:
    """Grey repeated, or color whose channels are equal as grey; None for color where grey is needed."""
    if levels.shape[2] == channels:
        return levels
    if levels.shape[2] == 1:
        return np.broadcast_to(levels, (*levels.shape[:2], channels))
    return None if channels != 1 or in_color(levels) else levels[..., :1]
