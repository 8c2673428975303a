"""Integer pixels of 8 and 16 bits, (H, W, C).

A large image is converted by bands of rows, so that its intermediate values, of 4 or 8 bytes, take little memory.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Levels", "by_rows", "in_8_bits", "in_16_bits"]

Levels = NDArray[np.uint8 | np.uint16]

_ROWS = 256


def by_rows(made: Callable[..., NDArray[Any]], dtype: type[np.generic], *arrays: NDArray[Any]) -> NDArray[Any]:
    """A function of pixels, of images with the same rows, by bands of rows.

    Args:
        made: from the rows of each image to those of the result.
        dtype: of the result; values are cast to it.
        arrays: the images, (H, W, C); the result has the shape of the first.
    """
    out = np.empty(arrays[0].shape, dtype)
    for top in range(0, len(out), _ROWS):
        rows = slice(top, top + _ROWS)
        out[rows] = made(*(array[rows] for array in arrays))
    return out


def in_8_bits(levels: Levels) -> NDArray[np.uint8]:
    """Pixels as uint8: v → round(v / 257)."""
    if levels.dtype == np.uint8:
        return levels.astype(np.uint8, copy=False)

    def rounded(rows: Levels) -> NDArray[Any]:
        return (rows.astype(np.uint32) + 128) // 257

    return by_rows(rounded, np.uint8, levels)


def in_16_bits(levels: Levels) -> NDArray[np.uint16]:
    """Pixels as uint16: v → 257 v."""
    if levels.dtype == np.uint16:
        return levels.astype(np.uint16, copy=False)
    return levels.astype(np.uint16) * np.uint16(257)
