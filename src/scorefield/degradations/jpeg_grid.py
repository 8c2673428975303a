"""The grid of 8 × 8 blocks that JPEG compression leaves in an image of any file format.

Quantisation makes a block smooth within and changes it against its neighbours. Let d_x be the difference of two
neighbouring columns. A pixel counts where

    |d_x| > max(|d_{x−1}|, |d_{x+1}|),

which in an uncompressed image is as frequent for every x mod 8. In a compressed one it is most frequent where blocks
meet. Frequencies, not sizes, are compared, so that few strong edges do not decide.

References:
    Fan & de Queiroz (2003), Identification of bitmap compression history, §II. The same idea with sizes.
"""

import numpy as np
from numpy.typing import NDArray

from scorefield.data.levels import Levels, in_8_bits

_BLOCK = 8
_LEAST = 24  # pixels of a side: three blocks
_SIDE = 2048  # pixels of a side that are looked at, from the middle


def grid_strength(levels: Levels) -> float:
    """By how much block borders stand out: the frequency at the best phase less the next best, the lesser of both axes.

    Args:
        levels: (H, W, C).

    Returns:
        About 0 without a grid, up to 1; 0 for an image too small to tell.
    """
    h, w = levels.shape[:2]
    if min(h, w) < _LEAST:
        return 0.0
    top, left = max(0, (h - _SIDE) // 2), max(0, (w - _SIDE) // 2)
    luma = in_8_bits(levels[top : top + _SIDE, left : left + _SIDE]).astype(np.float32).mean(2)
    return min(_along(luma), _along(luma.T))


def _along(luma: NDArray[np.float32]) -> float:
    steps = np.abs(np.diff(luma, axis=1))
    first = (steps[:, 1:-1] > np.maximum(steps[:, :-2], steps[:, 2:])).mean(0)
    places = np.arange(len(first)) % _BLOCK
    frequency = np.sort([first[places == phase].mean() for phase in range(_BLOCK)])
    return float(frequency[-1] - frequency[-2])
