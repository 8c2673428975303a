"""Lossy files as photographs meet them: saved once or twice, shifted, reduced, as JPEG, WebP or AVIF.

A photograph on the web has often been saved before: cropped, so that the blocks of the two files do not coincide, or
reduced, so that the first file's blocks are smaller than 8 pixels. Each `Save` is

    x → enlarged by 1/reduced → `shift` pixels repeated at the top and the left → file → cut → reduced

and the last one is the file at hand. The network receives its quantisation tables if it is a JPEG file whose blocks
begin at the image's corner, and if they are not `hidden`.

References:
    Jiang et al. (2021) (double JPEG with shifted blocks). https://arxiv.org/abs/2109.14573
"""

import io
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

import torch
from PIL import Image, ImageOps
from torch import Generator, Tensor

from scorefield.data.image import open_image, to_float, to_pil, to_tensor, to_uint8
from scorefield.degradations.base import NetworkInput, fast_rng, predict_all
from scorefield.degradations.jpeg import Subsampling, Tables, check_jpeg, standard_tables, table_tensor
from scorefield.errors import UserError

__all__ = ["Compressed", "RandomCompression", "Save"]

_FASTEST_AVIF = 8  # libavif's speed from which the encoder keeps up with training; 10 is coarser than files are


@dataclass(frozen=True, kw_only=True)
class Save:
    """One writing and reading of a file.

    Args:
        format: of the file.
        quality: 1 to 100, as the format's encoder defines it.
        subsampling: of a JPEG's chroma.
        tables: of a JPEG, in place of those of the quality.
        shift: rows and columns by which the blocks are shifted, up and to the left.
        reduced: factor, at most 1, by which the image was reduced after it was saved.

    Raises:
        UserError: no such quality or subsampling, or an impossible factor.
    """

    format: Literal["JPEG", "WEBP", "AVIF"] = "JPEG"
    quality: int = 75
    subsampling: Subsampling = "4:2:0"
    tables: Tables | None = None
    shift: tuple[int, int] = (0, 0)
    reduced: float = 1.0

    def __post_init__(self) -> None:
        check_jpeg(self.quality, self.subsampling)
        if not 0 < self.reduced <= 1 or min(self.shift) < 0:
            raise UserError("save", f"no image is reduced by {self.reduced:g} or shifted by {self.shift}.")

    def __call__(self, image: Image.Image) -> Image.Image:
        """The image as it was read back, of the same size and mode."""
        size, (down, right) = image.size, self.shift
        if self.reduced < 1:
            larger = max(1, round(size[0] / self.reduced)), max(1, round(size[1] / self.reduced))
            image = image.resize(larger, Image.Resampling.BICUBIC)
        if down or right:
            image = _repeated(image, down, right)
        file = io.BytesIO()
        image.save(file, self.format, **self._options())
        with open_image(Path(self.format.lower()), file.getvalue(), formats=(self.format,)) as read:
            made = read.convert(image.mode)
        if down or right:
            made = made.crop((right, down, *made.size))
        return made if made.size == size else made.resize(size, Image.Resampling.LANCZOS)

    @property
    def visible_tables(self) -> Tables | None:
        """The quantisation tables of the file, if its blocks begin at the corner of the image."""
        if self.format != "JPEG" or self.reduced < 1 or any(self.shift):
            return None
        return self.tables or standard_tables(self.quality)

    def _options(self) -> dict[str, Any]:
        if self.format == "AVIF":
            return {"quality": self.quality, "speed": _FASTEST_AVIF, "max_threads": 1}
        if self.format == "WEBP":
            return {"quality": self.quality, "method": 2}
        how: dict[str, Any] = {"quality": self.quality} if self.tables is None else {"qtables": list(self.tables)}
        return {"subsampling": self.subsampling, **how}


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """The operator of one or more lossy files, each of what was read from the last; of none, the identity.

    Args:
        saves: in their order.
        hidden: the network does not receive the quantisation tables.
        value_range: black and white in x.
    """

    saves: tuple[Save, ...]
    hidden: bool = False
    value_range: tuple[float, float] = (-1.0, 1.0)

    def __call__(self, x: Tensor) -> Tensor:
        """The image as last read, (B, C, H, W), C of 1 or 3, in bytes' steps of its range.

        Raises:
            UserError: x has another number of channels.
        """
        if x.shape[1] not in (1, 3):
            raise UserError("compression", f"made for 1 or 3 channels, the image has {x.shape[1]}.")
        if not self.saves:
            return x
        pixels = to_uint8(x, self.value_range).cpu()
        return to_float(torch.stack([self._saved(image) for image in pixels]), self.value_range).to(x)

    def pinv(self, y: Tensor) -> Tensor:
        """Y itself, which the last file changes little if it is saved again."""
        return y

    def network_input(self, y: Tensor, *, generator: Generator) -> NetworkInput:
        """The source is y, with the quantisation tables unless they are hidden; every pixel is to be predicted."""
        made = predict_all(y)
        tables = None if self.hidden or not self.saves else self.saves[-1].visible_tables
        return made if tables is None else made._replace(tables=table_tensor(tables, y))

    def _saved(self, pixels: Tensor) -> Tensor:
        image = to_pil(pixels)
        for save in self.saves:
            image = save(image)
        return to_tensor(image)


@dataclass(frozen=True, kw_only=True)
class RandomCompression:
    """Files of every kind that a model for JPEG meets; qualities are uniform.

    The shares `clean`, `again`, `reduced` and `other` exclude each other; what is left was saved once as JPEG.

    Args:
        quality: lowest and highest of a JPEG file, both drawn.
        clean: share of images that were never compressed.
        again: share saved twice as JPEG, the first time with blocks at another place.
        reduced: share reduced after it was saved; half of them saved as JPEG again.
        other: share saved as WebP or AVIF of quality 5 to 60.
        full_chroma: share of JPEG files with 4:4:4; a tenth of the others has 4:2:2.
        odd_tables: share of JPEG files with other tables than libjpeg's.
        hidden: share of JPEG files whose tables the network does not receive, as of an image that was pasted.
        value_range: black and white in x.

    Raises:
        UserError: no such qualities, or shares beyond 0 … 1.
    """

    quality: tuple[int, int] = (5, 95)
    clean: float = 0.05
    again: float = 0.15
    reduced: float = 0.08
    other: float = 0.07
    full_chroma: float = 0.3
    odd_tables: float = 0.15
    hidden: float = 0.1
    value_range: tuple[float, float] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        for quality in self.quality:
            check_jpeg(quality, "4:2:0")
        exclusive = (self.clean, self.again, self.reduced, self.other)
        shares = (*exclusive, sum(exclusive), self.full_chroma, self.odd_tables, self.hidden)
        if self.quality[0] > self.quality[1] or min(shares) < 0 or max(shares) > 1:
            raise UserError("compression", "qualities rise, and shares are 0 to 1, together too.")

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> Compressed:
        """One history of an image."""
        rng = fast_rng(generator)
        return Compressed(saves=self._saves(rng), hidden=rng.random() < self.hidden, value_range=self.value_range)

    def _saves(self, rng: Random) -> tuple[Save, ...]:
        names = ("clean", "again", "reduced", "other", "once")
        shares = [self.clean, self.again, self.reduced, self.other]
        (kind,) = rng.choices(names, [*shares, max(0.0, 1 - sum(shares))])
        if kind == "clean":
            return ()
        if kind == "again":
            return self._jpeg(rng, shift=(rng.randrange(8), rng.randrange(8))), self._jpeg(rng)
        if kind == "reduced":
            first = self._jpeg(rng, reduced=rng.uniform(0.5, 0.95))
            return (first, self._jpeg(rng)) if rng.random() < 0.5 else (first,)
        if kind == "other":
            return (Save(format=rng.choice(("WEBP", "AVIF")), quality=rng.randint(5, 60)),)
        return (self._jpeg(rng),)

    def _jpeg(self, rng: Random, *, shift: tuple[int, int] = (0, 0), reduced: float = 1.0) -> Save:
        quality = rng.randint(*self.quality)
        (subsampling,) = rng.choices(("4:4:4", "4:2:2", "4:2:0"), self._chroma)
        tables = _odd_tables(quality, rng) if rng.random() < self.odd_tables else None
        return Save(quality=quality, subsampling=subsampling, tables=tables, shift=shift, reduced=reduced)

    @property
    def _chroma(self) -> tuple[float, float, float]:
        rest = 1 - self.full_chroma
        return self.full_chroma, 0.1 * rest, 0.9 * rest


def _odd_tables(quality: int, rng: Random) -> Tables:
    """Tables that no quality of libjpeg has, about as coarse: flat, scaled apart, or tilted over the frequencies."""
    luma, chroma = standard_tables(quality)
    kind = rng.choice(("flat", "apart", "tilted"))
    if kind == "flat":  # the step that 24 of 64 lie below
        return (sorted(luma)[24],) * 64, (sorted(chroma)[24],) * 64
    if kind == "apart":
        return _scaled(luma, rng.uniform(0.6, 1.6)), _scaled(chroma, rng.uniform(0.5, 1.6))
    slope = rng.uniform(-0.06, 0.06)
    return _scaled(luma, slope=slope), _scaled(chroma, slope=slope)


def _scaled(table: tuple[int, ...], factor: float = 1.0, *, slope: float = 0.0) -> tuple[int, ...]:
    """The steps times factor · 2^(slope · (row + column − 4))."""
    scaled = (q * factor * 2 ** (slope * (k // 8 + k % 8 - 4)) for k, q in enumerate(table))
    return tuple(min(max(round(q), 1), 255) for q in scaled)


def _repeated(image: Image.Image, down: int, right: int) -> Image.Image:
    """With its first row and column repeated at the top and the left."""
    wide = ImageOps.expand(image, (right, down, 0, 0))
    if right:
        wide.paste(image.crop((0, 0, 1, image.height)).resize((right, image.height)), (0, down))
    if down:
        wide.paste(wide.crop((0, down, wide.width, down + 1)).resize((wide.width, down)), (0, 0))
    return wide
