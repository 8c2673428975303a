"""Color given to an image whose luma is known: the luma stays, to rounding.

With Y the luma of BT.601 and c = x − Y the rest, the sample is Y + s c, with the largest s ≤ 1 at each pixel
that leaves it within black and white. Since w · c = 0, its luma is Y whatever s. Where c comes from a smaller
sample, it is enlarged along the edges of Y: around every pixel of the small image c ≈ a Y + b by least
squares, and a and b, which are smooth, are enlarged in c's place (the guided filter).

References:
    He, Sun & Tang (2013), eqs. 5–8. https://doi.org/10.1109/TPAMI.2012.213
    He & Sun (2015), Fast guided filter, Algorithm 2. https://arxiv.org/abs/1505.00996
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from scorefield.data.image import Levels
from scorefield.degradations import Box, Grey
from scorefield.restoration.pixels import enlarged, to_levels, to_values

_RADIUS = 2
_SMOOTH = 1e-3
"""ε of the guided filter, for values from 0 to 1."""
_ROWS = 256
_UNIT = (0.0, 1.0)


__all__ = ["chroma", "on_luma", "recolored"]


def recolored(sample: Levels, small: Levels, grey: Levels) -> Levels:
    """The sample's color on the luma that is known.

    Args:
        sample: (h, w, 3).
        small: the luma that it was an sample to, (h, w, 1).
        grey: the luma itself, (H, W, 1); of the sample's size or larger.

    Returns:
        (H, W, 3), whose luma is `grey` to rounding.
    """
    color = chroma(to_values(sample, _UNIT))
    height, width = grey.shape[:2]
    same = sample.shape[:2] == grey.shape[:2]
    slope, offset = (None, color) if same else _line(color, to_values(small, _UNIT))
    out = np.empty((height, width, 3), sample.dtype)
    for top in range(0, height, _ROWS):
        box = Box(top, 0, min(_ROWS, height - top), width)
        y = to_values(grey[box.slices], _UNIT)
        c = enlarged(offset, (height, width), box)
        if slope is not None:
            c = torch.addcmul(c, enlarged(slope, (height, width), box), y)
        out[box.slices] = to_levels(on_luma(c, y), _UNIT, sample)
    return out


def chroma(x: Tensor) -> Tensor:
    """C = x − Y of (3, H, W)."""
    return x - Grey()(x[None])[0]


def on_luma(color: Tensor, y: Tensor) -> Tensor:
    """Y + s c, (3, H, W), all of it from 0 to 1."""
    room = torch.where(color > 0, (1 - y) / color.clamp(min=1e-6), y / (-color).clamp(min=1e-6))
    return y + room.amin(0, keepdim=True).clamp(max=1) * color


def _line(color: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """A and b, (3, h, w), each the mean over the squares that a pixel lies in."""
    mean, mean_color = _mean(y), _mean(color)
    slope = (_mean(y * color) - mean * mean_color) / (_mean(y * y) - mean * mean + _SMOOTH)
    return _mean(slope), _mean(mean_color - slope * mean)


def _mean(x: Tensor) -> Tensor:
    """Means of squares of 2r + 1, the edge repeated."""
    return avg_pool2d(pad(x[None], (_RADIUS,) * 4, mode="replicate"), 2 * _RADIUS + 1, stride=1)[0]
