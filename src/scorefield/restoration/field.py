"""Noise that hangs on the place alone: a tile sees the same wherever it is cut, and so do its neighbours.

Each block of 64 × 64 pixels has a stream of its own, of the counter-based generator Philox: the seed and the
stream's number are its key, the block's row and column its counter. Nothing has to be drawn in any order, no
block needs memory that is not looked at, and it is the same on every device.

References:
    Salmon et al. (2011), Philox. https://doi.org/10.1145/2063384.2063405
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scorefield.restoration.levels import Box

BLOCK = 64


@dataclass(frozen=True, kw_only=True)
class NoiseField:
    """N(0, I) over an endless plane.

    Args:
        seed: any whole number.
        stream: two numbers from 0, below 2³¹, and 0 or 1; streams of one seed are independent.
        channels: of the images.
    """

    seed: int
    stream: tuple[int, int, int]
    channels: int

    def window(self, box: Box) -> Tensor:
        """The noise within a box, (C, h, w), float32, on the processor."""
        rows, columns = _blocks(box.top, box.height), _blocks(box.left, box.width)
        lines = [np.concatenate([self._block(r, c) for c in columns], 2) for r in rows]
        noise = np.concatenate(lines, 1)
        top, left = box.top - rows[0] * BLOCK, box.left - columns[0] * BLOCK
        part = noise[:, top : top + box.height, left : left + box.width]
        return torch.from_numpy(np.ascontiguousarray(part))

    def _block(self, row: int, column: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
        one, two, three = self.stream
        key = np.array([self.seed % 2**64, one << 32 | two << 1 | three], np.uint64)
        counter = np.array([0, 0, row, column], np.uint64)
        generator = np.random.Generator(np.random.Philox(key=key, counter=counter))
        return generator.standard_normal((self.channels, BLOCK, BLOCK), np.float32)


def _blocks(start: int, length: int) -> range:
    return range(start // BLOCK, (start + length - 1) // BLOCK + 1)
