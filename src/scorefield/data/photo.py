"""An image with all that its file holds, so that a restored one can be written like it.

Models see 8 bits, grey or RGB. A file may hold more, which must not be lost on the way:

    levels    (H, W, C), 8 or 16 bits, C = 1 or 3, upright
    alpha     (H, W), of the same depth; colors beneath it stay as they are
    EXIF      its orientation set to 1, since the pixels are upright
    ICC       the color profile; no color is converted

Between the two depths, v₁₆ = 257 v₈ and v₈ = round(v₁₆ / 257).
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from scorefield.data.bit_depth import Levels, image_of, in_8_bits, in_16_bits
from scorefield.data.encode import DEEP, LOSSY, OPAQUE, format_of, holds_exif, know_heif, write_samples
from scorefield.data.exif import ORIENTATION, upright_exif
from scorefield.data.image import (
    GREY_MODES,
    MAX_PIXELS,
    ImageReadError,
    check_pixels,
    has_grey_palette,
    reason,
)
from scorefield.errors import UserError

_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})


@dataclass(frozen=True, kw_only=True, eq=False)
class Original:
    """An image as it was read.

    Args:
        path: where from.
        levels: (H, W, C), uint8 or uint16, C of 1 (grey) or 3 (RGB), upright, as if opaque.
        alpha: (H, W), of the levels' depth, or None where all is opaque by the file's kind.
        exif: a TIFF structure, with orientation 1.
        icc: the color profile.
        format: Pillow's name of the file's kind.
        notes: what was left behind at reading, in words.
    """

    path: Path
    levels: Levels
    alpha: Levels | None = None
    exif: bytes | None = None
    icc: bytes | None = None
    format: str = "PNG"
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: str | Path, *, max_pixels: int = MAX_PIXELS) -> "Original":
        """Read an image with all that belongs to it.

        The pixel count is read from the header, before anything is decoded. 16-bit RGB needs OpenCV and
        HEIC needs `pillow_heif`, both of the extra `photos`.

        Raises:
            UserError: no file, a folder, a damaged file, too many pixels, CMYK or float pixels.
        """
        path = Path(path)
        if path.is_dir():
            raise UserError(path, "is a folder, not an image.")
        try:
            if _is_heif(path):
                know_heif(path)
            with Image.open(path) as image:
                check_pixels(image, max_pixels)
                return _read(path, image)
        except UserError:
            raise
        except ImageReadError as problem:
            raise UserError(path, f"{problem}.") from None
        except Exception as error:  # codecs raise anything on damaged files
            raise UserError(path, f"{reason(error)}.") from None

    @property
    def deep(self) -> bool:
        """Whether it has 16 bits a channel."""
        return self.levels.dtype == np.uint16

    @property
    def image(self) -> Image.Image:
        """In 8 bits, "L" or "RGB"."""
        return image_of(self.levels)

    @property
    def pixels(self) -> Tensor:
        """In 8 bits: uint8, (C, H, W)."""
        return torch.from_numpy(in_8_bits(self.levels).transpose(2, 0, 1).copy())

    def lost(self, path: str | Path) -> tuple[str, ...]:
        """What a file of this name cannot keep, in words; `save` leaves it out without a word.

        Raises:
            UserError: unknown suffix.
        """
        kind = format_of(Path(path))
        found = {
            "16 bits a channel": self.deep and kind not in DEEP,
            "alpha (it is put on white)": self.alpha is not None and kind in OPAQUE,
            "EXIF": not holds_exif(kind, self.exif),
            "the color profile": self.icc is not None and kind == "BMP",
            "each pixel exactly": kind in LOSSY,
        }
        return tuple(words for words, is_lost in found.items() if is_lost)

    def save(self, levels: Levels, path: str | Path, *, quality: int = 95) -> Path:
        """Write an image with this one's depth, alpha, EXIF and color profile, in the suffix's format.

        PNG, TIFF, WebP and BMP are written losslessly; `lost` tells what a format cannot keep. A profile
        of grey does not go with colors, nor the other way round; alpha of another size is left out.

        Args:
            levels: (H, W, C), uint8 or uint16, C of 1 or 3.
            path: what is there already is replaced, in one step.
            quality: of JPEG, AVIF and HEIC, 0 to 100; colors are not subsampled.

        Raises:
            UserError: unknown suffix, a missing extra, or a disk that does not take it.
        """
        path = Path(path)
        at_depth = in_16_bits if self.deep and format_of(path) in DEEP else in_8_bits
        samples: Levels = at_depth(levels)
        if self.alpha is not None and self.alpha.shape == levels.shape[:2]:
            samples = np.concatenate([samples, at_depth(self.alpha)[..., None]], axis=2)
        write_samples(samples, path, exif=self.exif, icc=self.icc, quality=quality)
        return path


# --- reading -------------------------------------------------------------------------------------


def _is_heif(path: Path) -> bool:
    """By the file's first bytes, ISO/IEC 14496-12 `ftyp` and its brand, whatever its name."""
    with path.open("rb") as file:
        start = file.read(12)
    return start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS


def _read(path: Path, image: Image.Image) -> Original:
    if image.mode == "CMYK":
        raise UserError(path, "is a CMYK image.", "Convert it to RGB first.")
    if image.mode == "F":
        raise UserError(path, "has float pixels.", "Convert it to 8 or 16 bits first.")
    notes, deep_color = _notes(image), _is_deep_color(image)
    grey = image.mode in GREY_MODES or has_grey_palette(image)
    image.load()
    samples = _deep_color(path, image.mode) if deep_color else None
    if samples is None:
        samples = _deep_grey(image) if image.mode[0] == "I" else _samples(image, grey)
    if deep_color and samples.dtype == np.uint8:
        notes += ("16 bits a channel are read as 8: pip install 'scorefield[photos]' reads all of them",)
    samples = _upright(samples, image.getexif().get(ORIENTATION, 1))
    channels = 1 if samples.shape[2] < 3 else 3
    return Original(
        path=path,
        levels=samples[..., :channels].copy(),
        alpha=samples[..., channels].copy() if samples.shape[2] > channels else None,
        exif=upright_exif(image),
        icc=image.info.get("icc_profile") or None,
        format="JPEG" if image.format == "MPO" else image.format or "PNG",  # a JPEG with previews behind it
        notes=notes,
    )


def _notes(image: Image.Image) -> tuple[str, ...]:
    frames = getattr(image, "n_frames", 1)
    if frames == 1 or image.format == "MPO":
        return ()
    return (f"holds {frames} images: the first one is taken",)


def _samples(image: Image.Image, grey: bool) -> Levels:
    """All channels, alpha last: (H, W, 1 to 4)."""
    if image.mode in ("La", "RGBa"):  # premultiplied: Pillow leaves them one way only
        image = image.convert("LA" if grey else "RGBA")
    if image.mode in _ALPHA or "transparency" in image.info:
        array = np.asarray(image.convert("RGBA"))
        return array[..., [0, 3]] if grey else array
    return np.atleast_3d(np.asarray(image.convert("L" if grey else "RGB")))


def _deep_grey(image: Image.Image) -> NDArray[np.uint16]:
    values = np.asarray(image)[..., None]
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ImageReadError(f"integer pixels span {low}…{high}; expected 16 bits, 0…65535")
    levels = values.astype(np.uint16)
    clear = image.info.get("transparency")
    if not isinstance(clear, int):
        return levels
    return np.concatenate([levels, np.where(levels == clear, 0, 65535).astype(np.uint16)], axis=2)


def _is_deep_color(image: Image.Image) -> bool:
    """Whether the file holds 16 bits a channel where Pillow would give 8."""
    tile: Any = getattr(image, "tile", None)
    raw: Any = tile[0][3] if tile else ""  # how its samples are packed, e.g. "RGB;16B"
    name = raw[0] if isinstance(raw, tuple) and raw else raw
    return isinstance(name, str) and ";16" in name and image.mode[0] != "I"


def _deep_color(path: Path, mode: str) -> Levels | None:
    """By OpenCV, alpha last; None where it is missing or cannot."""
    try:
        cv2: Any = import_module("cv2")
    except ImportError:
        return None
    found: NDArray[np.uint16] | None = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None or found.dtype != np.uint16 or found.ndim != 3:
        return None
    order = [0, 3] if mode == "LA" else [2, 1, 0, 3]  # OpenCV has blue first
    return found[..., order[: found.shape[2]]]


def _upright(samples: Levels, orientation: int) -> Levels:
    """As EXIF's orientation says (Exif 2.3, tag 0x0112): 5 to 8 exchange the axes."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    return samples
