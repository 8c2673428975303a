"""What comes out of a restoration: candidates, where they disagree, and a sheet to see them by.

Of candidates x₁ … xₙ, drawn from p(x | y), the map shows each pixel's standard deviation

    u = √( (1/n) Σ (xᵢ − x̄)² ),   x̄ = (1/n) Σ xᵢ,

so it is black where y leaves no choice, and white where the candidates differ most.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from scorefield.data.bit_depth import Levels, image_of
from scorefield.data.encode import FORMATS, format_of
from scorefield.data.grids import grid, save_image
from scorefield.data.image import to_tensor
from scorefield.data.photo import Original
from scorefield.errors import UserError
from scorefield.files import refuse_existing

_OWN = frozenset({"PNG", "TIFF", "WEBP"})  # written losslessly, with all that such a file holds
_WEBP_SIDE = 16383
_PAD = 2
_RAMP = ((0, 0, 0), (75, 25, 115), (190, 55, 105), (250, 145, 50), (255, 255, 255))


@dataclass(frozen=True, kw_only=True)
class Restored:
    """Candidates for a restored image.

    Args:
        levels: the candidates, (H, W, C), uint8 or uint16, C of 1 or 3.
        degraded: what there was to go by; missing pixels are grey.
        original: the clean image where it is known, or the image as it was read.
        uncertainty: where the candidates disagree, their standard deviation over the value range, (H, W).
        source: the file that was restored, whose depth, alpha, EXIF and color profile the answers are to have.
    """

    levels: list[Levels]
    degraded: Image.Image
    original: Image.Image
    uncertainty: Tensor
    source: Original | None = None

    @property
    def images(self) -> list[Image.Image]:
        """The candidates in 8 bits, "L" or "RGB"."""
        return [image_of(levels) for levels in self.levels]

    @property
    def scale(self) -> str:
        """What the map's white stands for, in words."""
        largest = 255 * float(self.uncertainty.max())
        if largest == 0:
            return "the candidates agree everywhere"
        return f"white: the candidates' standard deviation is {largest:.3g} of 255 levels; black: they agree"

    def heat(self) -> Image.Image:
        """The uncertainty in colors: black 0, then purple and orange, white the largest (see `scale`)."""
        values = self.uncertainty.detach().cpu().numpy().astype(np.float64)
        at = values / (values.max() or 1.0) * (len(_RAMP) - 1)
        knots = range(len(_RAMP))
        channels = [np.interp(at, knots, [color[c] for color in _RAMP]) for c in range(3)]
        return Image.fromarray(np.rint(np.stack(channels, axis=2)).astype(np.uint8))

    def sheet(self, max_width: int = 1600) -> Image.Image:
        """Degraded image, candidates, and the original where it is not the degraded image itself.

        Args:
            max_width: large images are reduced until the row is no wider, in pixels.
        """
        shown = [self.degraded, *self.images]
        if self.original is not self.degraded:
            shown.append(self.original)
        high, wide = self.levels[0].shape[:2]
        part = min(1.0, max(1, max_width // len(shown) - 2 * _PAD) / wide)
        size = max(1, round(wide * part)), max(1, round(high * part))
        mode = "L" if all(image.mode == "L" for image in shown) else "RGB"
        tiles = [_tile(image.convert(mode), (wide, high), size) for image in shown]
        stack = torch.stack([to_tensor(tile) for tile in tiles])
        return grid(stack, columns=len(tiles), pad=_PAD, scale=1 if part < 1 else None)

    def save(
        self,
        out: str | Path,
        *,
        stem: str = "image",
        format: str | None = None,  # noqa: A002
        overwrite: bool = False,
        with_map: bool = False,
    ) -> list[Path]:
        """Write `stem`-1.png, …, `stem`-sheet.png and, asked for, `stem`-map.png into the folder `out`.

        Where the degradation leaves pixels as they are, those in a lossless file are the source's own, and so
        are its depth, alpha, EXIF and color profile.

        Args:
            out: is made if it is not there.
            stem: what the names begin with.
            format: of the candidates, by its suffix; by default the source's own where that is PNG, TIFF or
                WebP (written losslessly), and else PNG, for a JPEG would change the pixels that are known.
            overwrite: replace what is there.
            with_map: write `heat` as well.

        Returns:
            The candidates' paths, the sheet's and the map's.

        Raises:
            UserError: a file is already there, an unknown format, or a disk that does not take it.
        """
        suffix = self._suffix(format)
        names = [f"{stem}-{k + 1}{suffix}" for k in range(len(self.levels))]
        more = [f"{stem}-sheet.png"] + ([f"{stem}-map.png"] if with_map else [])
        paths = [refuse_existing(Path(out) / name, overwrite=overwrite) for name in (*names, *more)]
        source = self.source or Original(path=Path(stem), levels=self.levels[0])
        for path, levels in zip(paths, self.levels, strict=False):
            source.save(levels, path)
        save_image(self.sheet(), paths[len(names)])
        if with_map:
            save_image(self.heat(), paths[-1])
        return paths

    def _suffix(self, request: str | None) -> str:
        if request is not None:
            suffix = f".{request.lower().lstrip('.')}"
            if suffix not in FORMATS:
                known = ", ".join(known[1:] for known in FORMATS)
                raise UserError("format", f"cannot write `{request}`.", f"Use one of {known}.")
            return suffix
        if self.source is None or self.source.format not in _OWN:
            return ".png"
        if self.source.format == "WEBP" and max(self.levels[0].shape[:2]) > _WEBP_SIDE:
            return ".png"
        own = self.source.path.suffix.lower()
        if own in FORMATS and format_of(self.source.path) == self.source.format:
            return own
        return next(suffix for suffix, kind in FORMATS.items() if kind == self.source.format)


def _tile(image: Image.Image, size: tuple[int, int], reduced: tuple[int, int]) -> Image.Image:
    """The image on a tile of `size` (W, H), enlarged if it so fits, or amid white; then reduced."""
    if image.width > size[0] or image.height > size[1]:
        image = image.copy()
        image.thumbnail(size, Image.Resampling.LANCZOS)
    times = min(size[0] // image.width, size[1] // image.height)
    tile = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    if tile.size != size:
        tile = Image.new(image.mode, size, "white")
        tile.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    return tile if reduced == size else tile.resize(reduced, Image.Resampling.LANCZOS)
