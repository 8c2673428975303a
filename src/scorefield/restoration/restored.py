"""What comes out of a restoration: candidates, and a sheet to see them by."""

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from scorefield.data.images import to_tensor
from scorefield.data.sheets import grid, save_image
from scorefield.files import refuse_existing


@dataclass(frozen=True, kw_only=True)
class Restored:
    """Candidates for a mended picture.

    Args:
        images: the candidates.
        damaged: what there was to go by; missing pixels are grey.
        original: the clean picture where it is known, or the picture as it was read.
        uncertainty: where the candidates disagree, their standard deviation over the value range, (H, W).
    """

    images: list[Image.Image]
    damaged: Image.Image
    original: Image.Image
    uncertainty: Tensor

    def sheet(self) -> Image.Image:
        """Damaged picture, candidates, and the original where it is not the damaged picture itself."""
        shown = [self.damaged, *self.images]
        if self.original is not self.damaged:
            shown.append(self.original)
        size = self.images[0].size
        mode = "L" if all(image.mode == "L" for image in shown) else "RGB"
        tiles = [to_tensor(_tile(image.convert(mode), size)) for image in shown]
        return grid(torch.stack(tiles), columns=len(tiles))

    def save(self, out: str | Path, *, stem: str = "picture", overwrite: bool = False) -> list[Path]:
        """Write `stem`-1.png, … and `stem`-sheet.png into the folder `out`; the paths.

        Raises:
            UserError: a file is already there.
        """
        names = [f"{stem}-{k + 1}.png" for k in range(len(self.images))] + [f"{stem}-sheet.png"]
        paths = [refuse_existing(Path(out) / name, overwrite=overwrite) for name in names]
        for path, image in zip(paths, [*self.images, self.sheet()], strict=True):
            save_image(image, path)
        return paths


def _tile(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture on a tile of `size` (W, H): enlarged if it so fits, or in the middle of white."""
    times = min(size[0] // image.width, size[1] // image.height)
    large = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    if large.size == size:
        return large
    tile = Image.new(image.mode, size, "white")
    tile.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    return tile
