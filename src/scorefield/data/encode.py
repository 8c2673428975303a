"""Pixels written as an image file, with its metadata and alpha, whole or not at all.

References:
    PNG (third edition), §5.3 chunks, §9 filtering, §11.3 iCCP and eXIf. https://www.w3.org/TR/png-3/
    TIFF 6.0, part 1: baseline. Adobe (1992)
"""

import struct
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import IFDRational, ImageFileDirectory_v2

from scorefield.data.exif import DESCRIBING, INNER, MARK
from scorefield.data.isobmff import with_cicp
from scorefield.data.levels import Levels
from scorefield.data.metadata import Metadata, jpeg_iptc, png_chunks
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
DEEP = frozenset({"PNG", "TIFF"})  # formats of up to 16 bits a channel
OPAQUE = frozenset({"JPEG", "BMP"})  # formats without alpha
_CODED = frozenset({"AVIF", "HEIF"})  # formats with code points of color, like PNG's cICP
LOSSY = frozenset({"JPEG", "AVIF", "HEIF"})
_JPEG_XMP = 65533 - 29  # the largest XMP packet of a JPEG file, behind its name space
_JPEG_EXIF = 65533 - len(MARK)  # the largest EXIF block
_JPEG_ICC = 255 * (65533 - 14)  # the largest color profile, in numbered parts behind their name


def format_of(path: Path) -> str:
    """Pillow's name of the format that belongs to the suffix.

    Raises:
        UserError: unknown suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise UserError(path, f"cannot write `{path.suffix}`.", f"Use one of {', '.join(FORMATS)}.")
    return FORMATS[suffix]


def _holds_exif(kind: str, exif: bytes) -> bool:
    """Whether a file of this format can hold the block."""
    if kind == "JPEG":
        return len(exif) <= _JPEG_EXIF
    return kind != "BMP" and (kind != "AVIF" or _is_sound(exif))


def _is_sound(exif: bytes) -> bool:
    """Whether Pillow can parse and write the block, as it does for AVIF."""
    tags = Image.Exif()
    try:
        tags.load(exif)
        tags.tobytes()
    except Exception:  # it raises anything on tags of a wrong kind
        return False
    return True


def matches_channels(icc: bytes | None, channels: int) -> bool:
    """Whether a color profile is for this number of channels, by the color space in its header (ICC.1:2022, 7.2.6)."""
    return icc is None or icc[16:20] == (b"GRAY" if channels == 1 else b"RGB ")


def register_heif(path: Path) -> None:
    """Register HEIC with Pillow.

    Raises:
        UserError: `pillow_heif` is missing.
    """
    try:
        import_module("pillow_heif").register_heif_opener()
    except ImportError:
        mend = "Install it by: pip install 'scorefield[photos]'"
        raise UserError(path, "HEIC needs pillow_heif.", mend) from None


def fitting(metadata: Metadata, kind: str, shape: tuple[int, ...]) -> Metadata:
    """The metadata that a file of this format holds, with the note of the software where it has room for it.

    Args:
        metadata: all of it.
        kind: Pillow's name of the format.
        shape: of the samples, (H, W, C).
    """
    h, w, channels = shape
    sized = metadata.for_size(w, h)
    jpeg, blocks = kind == "JPEG", (sized.noted_exif, sized.exif)
    icc = sized.icc if matches_channels(sized.icc, 1 if channels < 3 else 3) and kind != "BMP" else None
    xmp, iptc = sized.xmp if kind != "BMP" else None, sized.iptc if kind in ("PNG", "TIFF", "JPEG") else None
    return Metadata(
        exif=next((block for block in blocks if block is not None and _holds_exif(kind, block)), None),
        icc=None if jpeg and icc is not None and len(icc) > _JPEG_ICC else icc,
        dpi=sized.dpi,
        xmp=None if jpeg and xmp is not None and len(xmp) > _JPEG_XMP else xmp,
        iptc=None if jpeg and iptc is not None and not jpeg_iptc(iptc) else iptc,
        chunks=sized.chunks if kind == "PNG" else tuple(c for c in sized.chunks if c[0] == b"cICP" and kind in _CODED),
    )


def write_samples(samples: Levels, path: Path, *, metadata: Metadata, quality: int) -> None:
    """Write in the format of the suffix.

    Args:
        samples: (H, W, C) of 1 to 4 channels, alpha last; 16 bits for PNG and TIFF only.
        path: an existing file is replaced in one step.
        metadata: what the format cannot hold of it is left out, and so is a color profile for other channels.
        quality: of lossy formats.

    Raises:
        UserError: unknown suffix, `pillow_heif` is missing, or a disk that does not take the file.
    """
    kind = format_of(path)
    if kind == "TIFF" and samples.dtype == np.uint16 and samples.shape[2] == 2 and metadata.icc is None:
        samples = samples[..., [0, 0, 0, 1]]  # few programs read 16-bit grey with alpha
    metadata = fitting(metadata, kind, samples.shape)
    if kind == "HEIF":
        register_heif(path)
    try:
        with writing(path) as part:
            if kind == "TIFF":
                part.write_bytes(tiff_bytes(samples, metadata))
            elif kind == "PNG":
                part.write_bytes(png_bytes(samples, metadata))
            else:
                _write(part, samples.astype(np.uint8, copy=False), kind, metadata, quality)
    except ValueError as error:  # a codec that refuses the size
        raise UserError(path, f"{kind} cannot hold this image: {error}.", "Choose PNG.") from error


def _write(path: Path, samples: NDArray[np.uint8], kind: str, metadata: Metadata, quality: int) -> None:
    image = Image.fromarray(np.ascontiguousarray(samples[..., 0] if samples.shape[2] == 1 else samples))
    if kind in OPAQUE and image.mode in ("LA", "RGBA"):
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA")).convert(image.mode[:-1])
    options: dict[str, Any] = dict(_options(quality).get(kind, {}))
    if metadata.exif is not None:
        options["exif"] = MARK + metadata.exif
    if metadata.icc is not None:
        options["icc_profile"] = metadata.icc
    if metadata.xmp is not None:
        options["xmp"] = metadata.xmp
    if metadata.dpi is not None and kind in ("JPEG", "BMP"):
        options["dpi"] = tuple(round(dots) for dots in metadata.dpi) if kind == "JPEG" else metadata.dpi
    if metadata.iptc is not None:
        options["extra"] = jpeg_iptc(metadata.iptc)
    image.save(path, kind, **options)
    for _, points in metadata.chunks:  # cICP, see `fitting`
        path.write_bytes(with_cicp(path.read_bytes(), points[0], points[1]))


def _options(quality: int) -> dict[str, dict[str, object]]:
    return {
        "JPEG": {"quality": quality, "subsampling": 0},
        "WEBP": {"lossless": True, "exact": True},  # exact: colors under full transparency stay
        "AVIF": {"quality": quality, "subsampling": "4:4:4"},
        "HEIF": {"quality": quality, "chroma": 444},
    }


@contextmanager
def writing(path: Path) -> Generator[Path]:
    """As `files.atomic`; a disk that does not take the file is a UserError."""
    try:
        with atomic(path) as part:
            yield part
    except OSError as error:
        raise UserError(path, f"cannot be written: {error.strerror or error}.") from error


# --- PNG and TIFF with all metadata: Pillow does not write them in full ---------------------------

_PNG_COLOR = {1: 0, 2: 4, 3: 2, 4: 6}  # channels → color type
_UP = 2  # the filter that subtracts the row above
_EFFORT = 3  # of deflate: higher levels shrink photographs little and take twice as long
_HEADER_END = 33  # of a PNG: its mark and the IHDR chunk
_END_CHUNK = 12
_LITTLE = b"II*\0\x08\0\0\0"  # the first bytes of a TIFF file: byte order and offset of the directory
_DEFLATE, _ALPHA = 8, 2  # TIFF's compression, and ExtraSamples "unassociated alpha"
_BYTES = 7  # TIFF's type "undefined"


def png_bytes(samples: Levels, metadata: Metadata) -> bytes:
    """A PNG file of 8 or 16 bits a channel.

    Args:
        samples: (H, W, C): grey, grey and alpha, RGB, RGB and alpha.
        metadata: see `fitting`.
    """
    before, behind = ([_chunk(*chunk) for chunk in chunks] for chunks in png_chunks(metadata))
    if samples.dtype == np.uint8:
        file = BytesIO()
        Image.fromarray(np.ascontiguousarray(samples[..., 0] if samples.shape[2] == 1 else samples)).save(file, "PNG")
        plain = file.getvalue()
        parts = (plain[:_HEADER_END], *before, plain[_HEADER_END:-_END_CHUNK], *behind, plain[-_END_CHUNK:])
        return b"".join(parts)
    h, w, channels = samples.shape
    rows = samples.astype(">u2").reshape(h, -1).view(np.uint8)
    filtered = np.full((h, rows.shape[1] + 1), _UP, np.uint8)
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])  # modulo 256, §9.2
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 16, _PNG_COLOR[channels], 0, 0, 0))
    pixels = _chunk(b"IDAT", zlib.compress(filtered.tobytes(), _EFFORT))
    return b"".join((b"\x89PNG\r\n\x1a\n", header, *before, pixels, *behind, _chunk(b"IEND", b"")))


def tiff_bytes(samples: Levels, metadata: Metadata) -> bytes:
    """A TIFF file of 8 or 16 bits a channel, deflated in one strip.

    Args:
        samples: (H, W, C), uint8 or uint16, channels as for `png_bytes`.
        metadata: EXIF's tags go into the directory of the file; damaged ones are left out.
    """
    h, w, channels = samples.shape
    strip = zlib.compress(samples.astype(samples.dtype.newbyteorder("<")).tobytes(), _EFFORT)
    directory = _directory(metadata.exif)
    directory[256], directory[257] = w, h
    directory[258] = (8 * samples.dtype.itemsize,) * channels
    directory[259] = _DEFLATE
    directory[262] = 1 if channels < 3 else 2  # black is zero, or RGB
    directory[277] = channels
    directory[273], directory[278], directory[279] = 0, h, len(strip)  # where: right behind the directory
    if channels in (2, 4):
        directory[338] = _ALPHA
    if metadata.dpi is not None:
        directory[282], directory[283] = (IFDRational(round(10_000 * dots), 10_000) for dots in metadata.dpi)
        directory[296] = 2  # inches
    for tag, content in ((34675, metadata.icc), (700, metadata.xmp), (33723, metadata.iptc)):
        if content is not None:
            directory.tagtype[tag] = _BYTES
            directory[tag] = content
    return _LITTLE + directory.tobytes(8) + strip


def _directory(exif: bytes | None) -> ImageFileDirectory_v2:
    """A TIFF directory with the tags that do not describe storage; those that cannot be written are left out."""
    directory, tags = ImageFileDirectory_v2(_LITTLE), Image.Exif()
    if exif is not None:
        tags.load(exif)
    for tag in {*DESCRIBING, *INNER} & set(tags):
        alone = ImageFileDirectory_v2(_LITTLE)
        try:
            alone[tag] = tags.get_ifd(tag) if tag in INNER else tags[tag]
            alone.tobytes(8)
        except Exception:  # Pillow's writer raises anything on tags of a wrong kind
            continue
        directory[tag] = alone[tag]
    return directory


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
