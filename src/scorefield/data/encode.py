"""Samples written as an image file, with EXIF, color profile and alpha, whole or not at all."""

from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scorefield.data.bit_depth import Levels
from scorefield.data.exif import MARK
from scorefield.data.png16 import png_bytes, tiff_bytes
from scorefield.errors import UserError
from scorefield.files import atomic

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".avif": "AVIF",
    ".heic": "HEIF",
    ".heif": "HEIF",
}
DEEP = frozenset({"PNG", "TIFF"})  # may have 16 bits a channel
OPAQUE = frozenset({"JPEG", "BMP"})  # have no alpha
LOSSY = frozenset({"JPEG", "AVIF", "HEIF"})
_JPEG_EXIF = 65533 - len(MARK)  # bytes that one of its segments holds


def format_of(path: Path) -> str:
    """Pillow's name of the format that a file of this name is written in.

    Raises:
        UserError: unknown suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise UserError(path, f"cannot write `{path.suffix}`.", f"Use one of {', '.join(FORMATS)}.")
    return FORMATS[suffix]


def holds_exif(kind: str, exif: bytes | None) -> bool:
    """Whether a file of this format takes the block."""
    if exif is None or kind not in ("BMP", "JPEG", "AVIF"):
        return True
    return kind != "BMP" and (len(exif) <= _JPEG_EXIF if kind == "JPEG" else _is_sound(exif))


def _is_sound(exif: bytes) -> bool:
    """Whether Pillow, which parses it for AVIF, can write it anew."""
    tags = Image.Exif()
    try:
        tags.load(exif)
        tags.tobytes()
    except Exception:  # it raises anything on tags of a wrong kind
        return False
    return True


def suits(icc: bytes | None, channels: int) -> bool:
    """Whether a profile is one for 1 or 3 channels: its header names a color space (ICC.1:2022, 7.2.6)."""
    return icc is None or icc[16:20] == (b"GRAY" if channels == 1 else b"RGB ")


def know_heif(path: Path) -> None:
    """Teach Pillow to read and write HEIC.

    Raises:
        UserError: `pillow_heif` is missing.
    """
    try:
        import_module("pillow_heif").register_heif_opener()
    except ImportError:
        mend = "Install it by: pip install 'scorefield[photos]'"
        raise UserError(path, "HEIC needs pillow_heif.", mend) from None


def write_samples(samples: Levels, path: Path, *, exif: bytes | None, icc: bytes | None, quality: int) -> None:
    """Write in the format of the suffix.

    Args:
        samples: (H, W, C) of 1 to 4 channels, alpha last; 16 bits for PNG and TIFF only.
        path: replaced in one step.
        exif: without the mark; left out where the format has no place for it.
        icc: left out where it is a profile of other channels.
        quality: of lossy formats.

    Raises:
        UserError: unknown suffix, `pillow_heif` is missing, or a disk that does not take the file.
    """
    kind = format_of(path)
    if kind == "TIFF" and samples.dtype == np.uint16 and samples.shape[2] == 2:
        samples = samples[..., [0, 0, 0, 1]]  # few programs read deep grey with alpha
    exif = exif if holds_exif(kind, exif) else None
    icc = icc if suits(icc, 1 if samples.shape[2] < 3 else 3) else None
    if kind == "HEIF":
        know_heif(path)
    try:
        with _atomic(path) as part:
            if kind == "TIFF":
                part.write_bytes(tiff_bytes(samples, exif=exif, icc=icc))
            elif samples.dtype == np.uint16:
                part.write_bytes(png_bytes(samples.astype(np.uint16, copy=False), exif=exif, icc=icc))
            else:
                _write(part, samples.astype(np.uint8, copy=False), kind, exif, icc, quality)
    except ValueError as error:  # a codec's word on a size that it has no room for
        raise UserError(path, f"{kind} cannot hold this image: {error}.", "Choose PNG.") from error


def _write(
    path: Path, samples: NDArray[np.uint8], kind: str, exif: bytes | None, icc: bytes | None, quality: int
) -> None:
    image = Image.fromarray(np.ascontiguousarray(samples[..., 0] if samples.shape[2] == 1 else samples))
    if kind in OPAQUE and image.mode in ("LA", "RGBA"):
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA")).convert(image.mode[:-1])
    options: dict[str, Any] = dict(_options(quality).get(kind, {}))
    if exif is not None:
        options["exif"] = MARK + exif
    if icc is not None and kind != "BMP":
        options["icc_profile"] = icc
    image.save(path, kind, **options)


def _options(quality: int) -> dict[str, dict[str, object]]:
    return {
        "JPEG": {"quality": quality, "subsampling": 0},
        "WEBP": {"lossless": True, "exact": True},  # exact: colors under full transparency stay
        "AVIF": {"quality": quality, "subsampling": "4:4:4"},
        "HEIF": {"quality": quality, "chroma": 444},
    }


@contextmanager
def _atomic(path: Path) -> Generator[Path]:
    try:
        with atomic(path) as part:
            yield part
    except OSError as error:
        raise UserError(path, f"cannot be written: {error.strerror or error}.") from error
