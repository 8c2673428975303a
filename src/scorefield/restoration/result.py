"""The result of a restoration: candidates, their pixelwise standard deviation, and a sheet to compare them.

Of candidates x₁ … xₙ, samples of p(x | y), the map shows each pixel's standard deviation

    std = √( (1/n) Σ (xᵢ − x̄)² ),   x̄ = (1/n) Σ xᵢ,

black where y leaves no choice, and white where the candidates differ most.
"""

import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from scorefield.data.encode import FORMATS, format_of
from scorefield.data.grids import grid, save_image
from scorefield.data.image import Levels, image_of, in_8_bits, to_tensor
from scorefield.data.photo import Photo
from scorefield.errors import UserError
from scorefield.files import refuse_existing
from scorefield.restoration.pixels import white
from scorefield.version import __version__

_OWN = frozenset({"PNG", "TIFF", "WEBP"})  # written losslessly, with all that such a file holds
_WEBP_SIDE = 16383
_PAD = 2
_ROWS = 256  # at a time, to bound memory
_RAMP = ((0, 0, 0), (75, 25, 115), (190, 55, 105), (250, 145, 50), (255, 255, 255))


@dataclass(frozen=True, kw_only=True)
class Restoration:
    """Candidates for a restored image.

    Args:
        levels: the candidates, (H, W, C), uint8 or uint16, C of 1 or 3.
        std: their pixelwise standard deviation over the value range, mean of the channels, (H, W).
        degraded_levels: what the restoration had to go by, (H', W', C'); masked pixels are grey.
        original_levels: the clean image where it is known, or the image as it was read where that is not the
            degraded one.
        photo: the file that was restored, whose depth, alpha, EXIF and color profile the results keep.
        evaluations: of the network, for one tile each.
    """

    levels: list[Levels]
    std: Tensor
    degraded_levels: Levels
    photo: Photo
    original_levels: Levels | None = None
    evaluations: int = 0

    @property
    def images(self) -> list[Image.Image]:
        """The candidates in 8 bits, "L" or "RGB"."""
        return [image_of(levels) for levels in self.levels]

    @property
    def degraded(self) -> Image.Image:
        """What the restoration had to go by, in 8 bits; masked pixels are grey."""
        return image_of(self.degraded_levels)

    def shown(self, levels: Levels) -> Image.Image:
        """Levels in 8 bits, with the results' alpha where they have its size: "L", "LA", "RGB" or "RGBA"."""
        alpha = self.photo.alpha
        if alpha is None or alpha.shape != levels.shape[:2]:
            return image_of(levels)
        flat = np.concatenate([in_8_bits(levels), in_8_bits(alpha)[..., None]], axis=2)
        return Image.fromarray(flat)

    @property
    def original(self) -> Image.Image:
        """The clean image where it is known, else the image as it was read, in 8 bits."""
        return self.degraded if self.original_levels is None else image_of(self.original_levels)

    @property
    def scale(self) -> str:
        """What the map's white stands for, in words."""
        largest = 255 * float(self.std.max())
        if largest == 0:
            return "the candidates agree everywhere"
        return f"white: the candidates' standard deviation is {largest:.3g} of 255 levels; black: they agree"

    def average(self) -> "Restoration":
        """The mean of the candidates as the one result: nearer to the original than each, and less sharp."""
        total = sum(levels.astype(np.uint32) for levels in self.levels)
        mean = np.asarray((total + len(self.levels) // 2) // len(self.levels)).astype(self.levels[0].dtype)
        return replace(self, levels=[mean])

    def _repr_png_(self) -> bytes:
        """The sheet, for notebooks."""
        file = io.BytesIO()
        self.sheet().save(file, "PNG")
        return file.getvalue()

    def heat(self) -> Image.Image:
        """`std` in colors: black 0, then purple and orange, white the largest (see `scale`)."""
        values = self.std.detach().cpu().numpy().astype(np.float64)
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
        if self.original_levels is not None:
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
        are its depth, alpha and metadata. EXIF's ProcessingSoftware names this library.

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
        marked = replace(self.photo, metadata=replace(self.photo.metadata, software=f"scorefield {__version__}"))
        for path, levels in zip(paths, self.levels, strict=False):
            marked.save(levels, path)
        save_image(self.sheet(), paths[len(names)], metadata=self.photo.metadata.color)
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
        if self.photo.format not in _OWN:
            return ".png"
        if self.photo.format == "WEBP" and max(self.levels[0].shape[:2]) > _WEBP_SIDE:
            return ".png"
        own = self.photo.path.suffix.lower()
        if own in FORMATS and format_of(self.photo.path) == self.photo.format:
            return own
        return next(suffix for suffix, kind in FORMATS.items() if kind == self.photo.format)


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


def pixelwise_std(samples: list[Levels]) -> Tensor:
    """The standard deviation over the samples, over the value range, mean of the channels: (H, W)."""
    height, width = samples[0].shape[:2]
    std = torch.zeros(height, width)
    if len(samples) > 1:
        for top in range(0, height, _ROWS):
            rows = np.stack([sample[top : top + _ROWS] for sample in samples]).astype(np.float32)
            std[top : top + _ROWS] = torch.from_numpy(rows).std(0, correction=0).mean(-1)
    return std / white(samples[0])
