"""What a JPEG file allows: results stay within its quantisation cells (`degradations.cells`).

The cells lie in the image as the file stores it; results are upright. A large image is worked on by bands of rows, so
that it needs no float copy.
"""

from dataclasses import dataclass
from typing import Self

import torch

from scorefield.data.image import Levels
from scorefield.data.photo import Photo
from scorefield.degradations import Box, QuantisationCells, file_cells
from scorefield.degradations.rotated import stored, upright
from scorefield.restoration.pixels import levels_of, pixels_of

__all__ = ["SHARE", "FileCells"]

SHARE = 0.6
"""Of a cell that results may take. Originals are seldom near the border: on 30 photographs 0.6 gained most from quality
10 to 75, and at 90 no photograph lost more than 0.05 dB."""
_ROWS = 256  # of a band, a multiple of 16


@dataclass(frozen=True, kw_only=True, eq=False)
class FileCells:
    """The cells of a file.

    Args:
        cells: in the image as it is stored, in levels of 255.
        orientation: EXIF's.
    """

    cells: QuantisationCells
    orientation: int

    @classmethod
    def of(cls, photo: Photo) -> Self | None:
        """The cells of a photo's JPEG file; None if it is none, or stores its channels in an unusual way."""
        if photo.jpeg is None or photo.deep:
            return None
        pixels = stored(pixels_of(photo.levels), photo.jpeg.orientation)
        cells = file_cells(pixels, photo.jpeg)
        return None if cells is None else cls(cells=cells, orientation=photo.jpeg.orientation)

    def nearest(self, levels: Levels) -> Levels:
        """The nearest image of `SHARE` of the cells, rounded and clamped to bytes.

        Args:
            levels: (H, W, C), of the photo's size and 8 bits, upright; another number of channels comes back as it is.
        """
        if levels.shape[2] != len(self.cells.centres):
            return levels
        pixels = stored(pixels_of(levels), self.orientation)
        out = torch.empty_like(pixels)
        for top in range(0, pixels.shape[-2], _ROWS):
            rows = pixels[:, top : top + _ROWS]
            part = self.cells.with_share(SHARE).part(Box(top, 0, *rows.shape[-2:]))
            out[:, top : top + _ROWS] = part(rows[None].float())[0].round().clamp(0, 255).to(out.dtype)
        return levels_of(upright(out, self.orientation))
