"""Images as they are stored, (H, W, C) of 8 or 16 bits, and as a model sees them, (C, H, W) of floats.

The maps between the two are `data.image.to_float` and `to_levels`.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from scorefield.data import image as image_values
from scorefield.data.color import LUMA
from scorefield.data.image import Levels
from scorefield.degradations import Box

__all__ = [
    "as_grey", "enlarged", "grey_level", "has_color", "is_grey", "levels_of", "pixels_of", "pooled", "to_levels",
    "to_values", "white", "with_channels",
]  # fmt: skip

Range = tuple[float, float]

_ROWS = 256  # at a time, to bound memory


def white(levels: Levels) -> int:
    """The largest level of such an image: 255 or 65535."""
    return int(np.iinfo(levels.dtype).max)


def grey_level(levels: Levels) -> Levels:
    """The middle level, shown where an image is unknown: 128, or 32896 of 16 bits."""
    return np.array(128 if levels.dtype == np.uint8 else 128 * 257, levels.dtype)


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
    return image_values.to_float(pixels_of(levels), value_range, top=white(levels))


def to_levels(values: Tensor, value_range: Range, like: Levels) -> Levels:
    """Float (C, H, W) → levels (H, W, C) of the bits of `like`, rounded and clamped.

    Raises:
        FloatingPointError: a value is not finite.
    """
    return levels_of(image_values.to_levels(values, value_range, top=white(like)))


def has_color(levels: Levels) -> bool:
    """Whether the channels of any pixel differ."""
    first = levels[..., 0]
    return any(not np.array_equal(first, levels[..., channel]) for channel in range(1, levels.shape[2]))


def is_grey(levels: Levels) -> bool:
    """Whether an image is grey: one channel, or channels that differ by at most 3 of 255 levels everywhere.

    A grey image that was saved in color as a JPEG decodes to such differences: its chroma is rounded to 128 ± 1, which
    is up to 1.8 levels of blue, and rounding of the channels adds one.
    """
    if levels.shape[2] == 1:
        return True
    limit = 3 * white(levels) // 255
    for top in range(0, levels.shape[0], _ROWS):
        rows = levels[top : top + _ROWS]
        if int((rows.max(2).astype(np.int32) - rows.min(2)).max()) > limit:
            return False
    return True


def as_grey(sample: Levels, mask: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]] | None", channels: int) -> Levels:
    """A sample of a grey image without the tint that a color model gave it: its luma (ITU-R BT.601).

    Args:
        sample: (H, W, C).
        mask: where it was filled, bool (H, W); elsewhere it stays as it is. None is everywhere.
        channels: of the result, 1 or C.
    """
    out = np.empty((*sample.shape[:2], channels), sample.dtype)
    for top in range(0, sample.shape[0], _ROWS):
        rows = slice(top, top + _ROWS)
        part = sample[rows].astype(np.float64)
        luma = np.rint(part @ np.array(LUMA) if part.shape[2] == 3 else part[..., 0])
        grey = luma.astype(sample.dtype)[..., None]
        out[rows] = grey if mask is None or channels == 1 else np.where(mask[rows][..., None], grey, sample[rows])
    return out


def with_channels(levels: Levels, channels: int) -> Levels | None:
    """Grey repeated, or one channel of an image whose channels are equal; None for color where grey is needed."""
    if levels.shape[2] == channels:
        return levels
    if levels.shape[2] == 1:
        return np.broadcast_to(levels, (*levels.shape[:2], channels))
    return None if channels != 1 or has_color(levels) else levels[..., :1]


def pooled(plane: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]", size: tuple[int, int]) -> Tensor:
    """Means of the pixels beneath each pixel of a smaller image of `size` (H, W)."""
    return adaptive_avg_pool2d(torch.from_numpy(plane.astype(np.float32))[None], size)[0]


def enlarged(small: Tensor, size: tuple[int, int], box: Box) -> Tensor:
    """A box of a small image (C, h, w) that is enlarged to `size`, (C, box height, box width); bilinear."""
    h, w = small.shape[-2:]
    rows = _interpolated(small, _places(box.top, box.height, size[0], h), -2)
    return _interpolated(rows, _places(box.left, box.width, size[1], w), -1)


def _places(start: int, length: int, size: int, small: int) -> Tensor:
    """Coordinates of pixel centres in the small image, clamped to its own centres."""
    return (((torch.arange(start, start + length) + 0.5) * (small / size)) - 0.5).clamp(0, small - 1)


def _interpolated(image: Tensor, places: Tensor, axis: int) -> Tensor:
    below = places.floor().long().clamp(max=max(0, image.shape[axis] - 2))
    above = (below + 1).clamp(max=image.shape[axis] - 1)
    part = (places - below).unsqueeze(-1) if axis == -2 else places - below
    return torch.lerp(image.index_select(axis, below), image.index_select(axis, above), part)
