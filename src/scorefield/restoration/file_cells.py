"""What a JPEG file allows: results stay within its quantisation cells (`degradations.cells`).

The cells lie in the image as the file stores it; results are upright. A large image is worked on by bands of rows, so
that neither it nor its cells need a float copy.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from scorefield.data.image import Levels
from scorefield.data.photo import JPEGHeader, Photo
from scorefield.data.tiff import upright
from scorefield.degradations import Box, file_cells
from scorefield.degradations.jpeg import subsampling_of
from scorefield.restoration.pixels import has_color, is_grey, levels_of, pixels_of

__all__ = ["SHARE", "FileCells"]

SHARE = 0.6
"""Of a cell that results may take. Originals are seldom near the border: on 30 photographs 0.6 gained most from quality
10 to 75, and at 90 no photograph lost more than 0.05 dB."""
_ROWS = 256  # of a band, a multiple of 16
_MARGIN = 16  # rows around a band on which its cells depend: a decoder's filter of chroma is undone over 8 of 2 each
_STORED = {6: 8, 8: 6}  # orientation → the one that turns back; the others are their own


@dataclass(frozen=True, kw_only=True, eq=False)
class FileCells:
    """The cells of a file.

    Args:
        levels: its decoded image, (H, W, C), of 8 bits, upright.
        header: how it was compressed.
    """

    levels: Levels
    header: JPEGHeader

    @classmethod
    def of(cls, photo: Photo) -> Self | None:
        """The cells of a photo's JPEG file; None if it is none, or stores its channels in an unusual way."""
        if photo.jpeg is None or photo.deep or subsampling_of(photo.jpeg) is None:
            return None
        return cls(levels=photo.levels, header=photo.jpeg)

    def nearest(self, levels: Levels) -> Levels:
        """The nearest image of `SHARE` of the cells, rounded and clamped to bytes.

        Where the file's image is grey in RGB, a grey image stays grey: its luma is that of the nearest.

        Args:
            levels: (H, W, C), of the photo's size and 8 bits, upright; another number of channels comes back as it is.
        """
        if levels.shape[2] != self.levels.shape[2]:
            return levels
        grey = is_grey(self.levels) and not has_color(levels)
        turned = _STORED.get(self.header.orientation, self.header.orientation)
        file, sample = upright(self.levels, turned), upright(levels, turned)
        out = np.empty(sample.shape, levels.dtype)
        for top in range(0, len(sample), _ROWS):
            first = max(0, top - _MARGIN)
            cells = file_cells(pixels_of(file[first : top + _ROWS + _MARGIN].copy()), self.header)
            assert cells is not None  # `of` has looked
            rows = pixels_of(sample[top : top + _ROWS, :, : 1 if grey else None].copy())
            cells = cells.part(Box(top - first, 0, *rows.shape[-2:])).with_share(SHARE)
            if grey:
                cells = replace(cells, centres=cells.centres[:1])
            out[top : top + _ROWS] = levels_of(cells(rows[None].float())[0].round().clamp(0, 255).to(rows.dtype))
        return np.ascontiguousarray(upright(out, self.header.orientation))
