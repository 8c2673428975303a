"""Pixels of 8 and of 16 bits: v₁₆ = 257 v₈, v₈ = round(v₁₆ / 257), the second undoing the first."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Levels = NDArray[np.uint8 | np.uint16]  # (H, W, C)


def in_8_bits(levels: Levels) -> NDArray[np.uint8]:
    """Levels as uint8: v → round(v / 257)."""
    if levels.dtype == np.uint8:
        return levels.astype(np.uint8, copy=False)
    return ((levels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def in_16_bits(levels: Levels) -> NDArray[np.uint16]:
    """Levels as uint16: v → 257 v."""
    if levels.dtype == np.uint16:
        return levels.astype(np.uint16, copy=False)
    return levels.astype(np.uint16) * np.uint16(257)


def image_of(levels: Levels) -> Image.Image:
    """An 8-bit image, "L" or "RGB", of (H, W, 1 or 3)."""
    flat = in_8_bits(levels)
    return Image.fromarray(np.ascontiguousarray(flat[..., 0] if flat.shape[2] == 1 else flat))
