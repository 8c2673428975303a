"""TIFF files: samples of any depth, upright, as 8 or 16 bits.

tifffile reads the tags, and libtiff, through Pillow, unpacks the compressed strips and tiles. What the samples mean
is decided here, by the tags alone:

    depth           1, 2, 4, 8 bits → 8 bits; 9 to 16 → 16 bits; white is 2^bits − 1
    32 bits         16 bits where the values stay within 0…65535, else white is 2³² − 1
    floats          0…1 or 0…255 → 16 bits
    white is zero   v → white − v
    associated α    v → v / α
    CIELab          → sRGB of 16 bits;  CMYK → sRGB of 8 bits by its color profile

What is none of these is refused. Pillow reads the samples itself where they are compressed as JPEG, fax or WebP.
Files are always read from memory: a TIFF that Pillow opens by its path, turned by a quarter, comes out garbled.

References:
    TIFF 6.0. Adobe (1992); Adobe Photoshop TIFF technical notes (2002) for the floating-point predictor
"""

import logging
import math
import struct
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile
from tifffile import TiffFile, TiffFileError

from scorefield.data.color import cmyk_to_srgb, lab_to_srgb
from scorefield.data.exif import ORIENTATION, valid_orientation
from scorefield.data.levels import Levels, by_rows, in_8_bits, in_16_bits
from scorefield.errors import ImageReadError

Array = NDArray[Any]

MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How a TIFF or BigTIFF file begins."""

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _CIELAB, _ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
_COLORS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _CIELAB: 3, _ICCLAB: 3}
_NONE, _PILLOW_READS = 1, frozenset({2, 3, 4, 6, 7, 32771, 50001})  # fax, JPEG, WebP
_PACKED = frozenset({5, 8, 32773, 32946, 34925, 50000})  # LZW, deflate, PackBits, LZMA, Zstandard
_UINT, _INT, _FLOAT = 1, 2, 3
_ASSOCIATED, _UNASSOCIATED = 1, 2
_REDUCED = 1  # of NewSubfileType: a thumbnail
_ICC, _INK_SET, _SUBFILE = 34675, 332, 254
BYTE_SCALED = 16.0
"""Floats 0…255 reach this in all but black images; floats 0…1 whose highlights overshoot do not."""

_MOST_BYTES = 2**31  # of one strip or tile, unpacked
_LARGE_TILE = 2**22  # pixels of a tile that any image may have

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # it warns of what a damaged file holds


@dataclass(frozen=True, kw_only=True, eq=False)
class TIFF:
    """The image of a TIFF file.

    Args:
        samples: (H, W, C), upright; grey, grey and alpha, RGB, or RGB and alpha, which is unassociated.
        tags_at: where the directory of its tags begins in the file.
        orientation: it was turned by.
        icc: the color profile of the samples.
        notes: what was changed or left out, in words.
    """

    samples: Levels
    tags_at: int
    orientation: int
    icc: bytes | None
    notes: tuple[str, ...]


def is_tiff(start: bytes) -> bool:
    """Whether a file that begins so is a TIFF."""
    return start[:4] in MARKS


def is_bigtiff(start: bytes) -> bool:
    """Whether a file that begins so has offsets of 64 bits."""
    return start[:4] in MARKS[2:]


def tiff_header(file: BinaryIO) -> tuple[tuple[int, int], bool]:
    """The size (H, W) of the upright image and whether it is grey, from its tags.

    Raises:
        ImageReadError: it is damaged, or none of the kinds that are read.
    """
    with _opened(file) as (page, _):
        h, w = page.imagelength, page.imagewidth
        grey = page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
        if page.photometric == _PALETTE:
            table = _color_map(page)
            grey = bool((table == table[:, :1]).all())
        return ((w, h) if _orientation(page) > 4 else (h, w)), grey


def read_tiff(content: bytes, *, within: Callable[[int, int], AbstractContextManager[None]]) -> TIFF:
    """The image of a TIFF file: the first that is no thumbnail.

    Args:
        content: the whole file.
        within: from the width and height that its tags announce, the context in which samples are decoded; it
            refuses an image that is too large.

    Raises:
        ImageReadError: it is damaged, refused, or none of the kinds that are read.
    """
    with _opened(BytesIO(content)) as (page, notes):
        h, w = page.imagelength, page.imagewidth
        if h < 1 or w < 1:
            raise ImageReadError(f"has no pixels ({w}×{h})")
        profile = page.tags.get(_ICC)
        icc = bytes(profile.value) if profile is not None and isinstance(profile.value, bytes) else None
        orientation = _orientation(page)
        with within(w, h):
            if int(page.compression) in _PILLOW_READS:
                samples, icc, more = _by_pillow(content, page, icc)
            else:
                samples, icc, more = _meaning(_stored(page, content), page, icc)
                samples = upright(samples, orientation)
        return TIFF(
            samples=samples, tags_at=page.offset, orientation=orientation, icc=icc, notes=(*notes, *more)
        )  # fmt: skip


def upright(samples: Levels, orientation: int) -> Levels:
    """Upright by the orientation of TIFF and EXIF (Exif 2.3, tag 0x0112): 5 to 8 exchange the axes."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    return samples


# --- tags ----------------------------------------------------------------------------------------


@contextmanager
def _opened(file: BinaryIO) -> Generator[tuple[Any, tuple[str, ...]]]:
    """The page of the first image that is no thumbnail, and what to say of the others."""
    try:
        with TiffFile(file, name="image") as tiff:
            pages: list[Any] = [tiff.pages.first]
            for index in range(1, 3):  # whether there are others, not how many: a chain may be endless
                try:
                    pages.append(tiff.pages.get(index, validate=False, cache=True, aspage=True))
                except (IndexError, TiffFileError, RuntimeError):
                    break
            whole = [page for page in pages if not _is_reduced(page)]
            page: Any = (whole or pages)[0]
            _check_tiles(page)
            notes = ("holds several images: the first one is taken",) if len(whole) > 1 else ()
            yield page, notes
    except ImageReadError:
        raise
    except Exception as error:  # tags may hold anything
        first = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise ImageReadError(f"is truncated or damaged ({first})") from error


def _check_tiles(page: Any) -> None:
    h, w = (page.tilelength, page.tilewidth) if page.is_tiled else (0, 0)
    if h * w > max(4 * page.imagelength * page.imagewidth, _LARGE_TILE):  # a tile is unpacked as a whole
        raise ImageReadError(f"its tiles of {w}×{h} are far larger than it (a decompression bomb?)")


def _is_reduced(page: Any) -> bool:
    tag = page.tags.get(_SUBFILE)
    return tag is not None and isinstance(tag.value, int) and bool(int(tag.value) & _REDUCED)


def _orientation(page: Any) -> int:
    tag = page.tags.get(ORIENTATION)
    return 1 if tag is None else valid_orientation(tag.value)


def _color_map(page: Any) -> NDArray[np.uint8]:
    """(colors, 3). Its entries have 16 bits; those of some old writers only 8."""
    if page.colormap is None:
        raise ImageReadError("is truncated or damaged (its palette is missing)")
    table = np.asarray(page.colormap).reshape(3, -1).T
    return (table if table.max(initial=0) < 256 else table >> 8).astype(np.uint8)


# --- samples as they are stored ------------------------------------------------------------------


def _stored(page: Any, content: bytes) -> Array:
    """The samples (H, W, S) in their own type; those of fewer than 16 bits as unsigned integers."""
    h, w, count = page.imagelength, page.imagewidth, page.samplesperpixel
    bits, kind = _depth(page)
    dtype = _dtype(bits, kind, page.parent.byteorder)
    separate = int(page.planarconfig or 1) == 2 and count > 1
    planes, depth = (count, 1) if separate else (1, count)
    tall, wide = (page.tilelength, page.tilewidth) if page.is_tiled else (min(page.rowsperstrip or h, h), w)
    if tall < 1 or wide < 1 or (page.is_tiled and int(page.tiledepth or 1) != 1):
        raise ImageReadError("has tiles of a size that is not read")
    row_bytes = -(-wide * depth * bits // 8)
    down, across = -(-h // tall), -(-w // wide)
    if tall * row_bytes > _MOST_BYTES:
        raise ImageReadError(f"its strips or tiles of {tall * row_bytes / 1e9:.1f} GB are far too large")
    if not row_bytes or len(page.dataoffsets) < planes * down * across:
        raise ImageReadError("is truncated or damaged (strips are missing)")
    out = np.empty((h, w, count), dtype.newbyteorder("="))
    for index in range(planes * down * across):
        plane, place = divmod(index, down * across)
        top, left = place // across * tall, place % across * wide
        rows = tall if page.is_tiled else min(tall, h - top)
        begin = int(page.dataoffsets[index])
        packed = content[begin : begin + int(page.databytecounts[index])]
        data = _unpacked(packed, page, row_bytes, rows)
        part = _samples(data, page, bits, dtype, (rows, wide, depth))[: h - top, : w - left]
        out[top : top + tall, left : left + wide, plane if separate else slice(None)] = (
            part[..., 0] if separate else part
        )
    return out


def _depth(page: Any) -> tuple[int, int]:
    """Bits a sample and what they are: unsigned, signed or floating point."""
    bits, kind = page.bitspersample, page.sampleformat
    if not isinstance(bits, int) or not isinstance(kind, int) or int(kind) not in (_UINT, _INT, _FLOAT):
        raise ImageReadError(f"has samples of {bits} bits, of a format ({kind}) that is not read")
    allowed = {_UINT: (*range(1, 17), 32), _INT: (32,), _FLOAT: (16, 32, 64)}[int(kind)]
    if bits not in allowed:
        word = {_UINT: "unsigned", _INT: "signed", _FLOAT: "floating-point"}[int(kind)]
        raise ImageReadError(f"has {word} samples of {bits} bits, which are not read: save it with 8 or 16 bits")
    if int(page.samplesperpixel) not in range(1, 17):
        raise ImageReadError(f"has {page.samplesperpixel} channels")
    return int(bits), int(kind)


def _dtype(bits: int, kind: int, order: str) -> np.dtype[Any]:
    size = 1 if bits <= 8 else 2 if bits <= 16 else bits // 8
    return np.dtype(f"{order}{'ufi'[(_UINT, _FLOAT, _INT).index(kind)]}{size}")


def _unpacked(packed: bytes, page: Any, row_bytes: int, rows: int) -> Array:
    """The bytes of a strip or tile, (rows, row_bytes)."""
    compression = int(page.compression)
    if int(page.fillorder or 1) == 2:
        packed = np.packbits(np.unpackbits(np.frombuffer(packed, np.uint8), bitorder="little")).tobytes()
    if compression == _NONE:
        found = np.frombuffer(packed, np.uint8, min(len(packed), rows * row_bytes))
    elif compression in _PACKED:
        found = _inflated(packed, compression, row_bytes, rows)
    else:
        name = getattr(page.compression, "name", compression)
        raise ImageReadError(f"has a compression that is not read ({name}): save it with LZW or deflate")
    if found.size < rows * row_bytes:
        raise ImageReadError("is truncated or damaged (a strip ends early)")
    return found.reshape(rows, row_bytes)


def _inflated(packed: bytes, compression: int, row_bytes: int, rows: int) -> Array:
    """By libtiff: the strip as the one strip of a file whose samples are its bytes, four in a pixel if they fit."""
    depth = 4 if row_bytes % 4 == 0 else 1
    strip = packed + b"\0" * (len(packed) % 2)
    more = 8 + len(strip)  # where the depths of four samples are
    entries = [
        (256, row_bytes // depth), (257, rows), (258, 8 if depth == 1 else more), (259, compression),
        (262, 1 if depth == 1 else _CMYK), (273, 8), (277, depth), (278, rows), (279, len(packed)),
    ]  # fmt: skip
    directory = struct.pack("<H", len(entries))
    for tag, value in entries:
        directory += struct.pack("<HHII", tag, 3 if tag == 258 else 4, depth if tag == 258 else 1, value)
    head = b"II*\0" + struct.pack("<I", more + 8)
    content = head + strip + struct.pack("<4H", 8, 8, 8, 8) + directory + b"\0" * 4
    with _Strip(BytesIO(content)) as image:
        return np.asarray(image).reshape(-1)


class _Strip(TiffImageFile):
    """A strip as an image. Its size is bounded by `_MOST_BYTES`; Pillow's own limit counts bytes as pixels here."""

    def load_prepare(self) -> None:
        self.im = Image.new(self.mode, self.size, None).im


def _samples(data: Array, page: Any, bits: int, dtype: np.dtype[Any], shape: tuple[int, int, int]) -> Array:
    """Samples (rows, w, depth) of the bytes, in the machine's order."""
    rows, wide, depth = shape
    predictor = int(page.predictor or 1)
    if bits not in (8, 16, 32, 64):
        if predictor != 1:
            raise ImageReadError(f"has a predictor with {bits} bits, which is not read")
        digits = np.unpackbits(data, axis=1)[:, : wide * depth * bits].reshape(rows, wide * depth, bits)
        values = np.zeros((rows, wide * depth), dtype.newbyteorder("="))
        for bit in range(bits):  # highest first
            values = (values << 1) | digits[..., bit]
        return values.reshape(shape)
    if predictor == 3:
        if dtype.kind != "f":
            raise ImageReadError("is truncated or damaged (a predictor for floats)")
        steps = data.reshape(rows, -1, depth)
        planes = np.cumsum(steps, axis=1, dtype=np.uint8).reshape(rows, dtype.itemsize, wide * depth)
        swapped = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(dtype.newbyteorder(">"))
        return swapped.astype(dtype.newbyteorder("=")).reshape(shape)
    values = np.ascontiguousarray(data).view(dtype).astype(dtype.newbyteorder("=")).reshape(shape)
    if predictor == 2:
        whole = values.view(f"u{dtype.itemsize}")
        values = np.cumsum(whole, axis=1, dtype=whole.dtype).view(values.dtype)
    elif predictor != 1:
        raise ImageReadError(f"has a predictor ({predictor}) that is not read")
    return values


# --- what they mean ------------------------------------------------------------------------------


def _meaning(stored: Array, page: Any, icc: bytes | None) -> tuple[Levels, bytes | None, tuple[str, ...]]:
    """Grey or RGB samples, alpha last, the color profile that holds for them, and notes."""
    photometric = int(page.photometric)
    bits, kind = _depth(page)
    if photometric not in _COLORS:
        name = getattr(page.photometric, "name", photometric)
        raise ImageReadError(f"has colors of a kind that is not read ({name}): save it as RGB")
    colors = _COLORS[photometric]
    if stored.shape[2] < colors:
        raise ImageReadError("is truncated or damaged (channels are missing)")
    alpha, associated, notes = _alpha(stored, page, colors)
    own = stored[..., :colors]
    if photometric in (_CIELAB, _ICCLAB):
        if bits not in (8, 16) or kind != _UINT or associated:
            raise ImageReadError(f"is CIELab of {bits} bits, which is not read: save it as RGB")
        rgb = lab_to_srgb(own, signed=photometric == _CIELAB)
        deep = None if alpha is None else in_16_bits(_scaled(alpha, bits, kind)[0])
        return _joined(rgb, deep), None, (*notes, "CIELab is converted to sRGB")
    if photometric == _PALETTE:
        table = _color_map(page)
        if kind != _UINT or bits > 16 or int(own.max(initial=0)) >= len(table):
            raise ImageReadError("is truncated or damaged (a color beyond its palette)")
        if (table == table[:, :1]).all() and not _is_rgb(icc):
            table = table[:, :1]
        levels: Levels = table[own[..., 0]]
        clear = None if alpha is None else (_scaled(alpha, bits, kind)[0] >> (8 if bits > 8 else 0)).astype(np.uint8)
        return _joined(levels, clear), icc, notes
    levels, said = _scaled(own if alpha is None else np.concatenate([own, alpha], 2), bits, kind)
    own, rest = levels[..., :colors], levels[..., colors:]
    most = np.iinfo(levels.dtype).max
    if photometric == _WHITE_IS_ZERO:
        own = most - own
    if associated:
        own = _divided(own, rest)
    notes = (*notes, *said)
    if photometric == _CMYK:
        inks = page.tags.get(_INK_SET)
        if inks is not None and inks.value != 1:
            raise ImageReadError("has inks that are not CMYK: save it as RGB")
        flat, rest = np.ascontiguousarray(in_8_bits(own)), in_8_bits(rest)
        own, icc = cmyk_to_srgb(Image.fromarray(flat, "CMYK"), icc), None
        notes = (*notes, "CMYK is converted to sRGB by its color profile")
    return _joined(own, rest if rest.shape[2] else None), icc, notes


def _alpha(stored: Array, page: Any, colors: int) -> tuple[Array | None, bool, tuple[str, ...]]:
    """The alpha channel (H, W, 1), whether colors are multiplied by it, and notes."""
    more = stored.shape[2] - colors
    if more <= 0:
        return None, False, ()
    kinds = [int(kind) for kind in page.extrasamples or ()]
    kinds = kinds if kinds else [_UNASSOCIATED] if more == 1 else []  # writers that leave the tag out mean alpha
    places = [i for i, kind in enumerate(kinds[:more]) if kind in (_ASSOCIATED, _UNASSOCIATED)]
    left_out = more - bool(places)
    notes = () if not left_out else (f"{left_out} extra channel{'s are' if left_out > 1 else ' is'} left out",)
    if not places:
        return None, False, notes
    at = colors + places[0]
    return stored[..., at : at + 1], kinds[places[0]] == _ASSOCIATED, notes


def _scaled(values: Array, bits: int, kind: int) -> tuple[Levels, tuple[str, ...]]:
    """8 or 16 bits of samples, and what was changed."""
    if kind == _UINT and bits <= 8:
        top = 2**bits - 1
        return (values if bits == 8 else _times(values, 255 / top, np.uint8)), ()
    if kind == _UINT and bits <= 16:
        if bits == 16:
            return values, ()
        return _times(values, 65535 / (2**bits - 1), np.uint16), (f"{bits} bits are written as 16",)
    low, high = float(values.min()), float(values.max())
    if kind == _FLOAT:
        if not math.isfinite(high - low) or low < 0 or not (high <= 1 or BYTE_SCALED <= high <= 255):
            raise ImageReadError(f"float pixels span {low:g}…{high:g}; expected 0…1 or 0…255")
        top = 1 if high <= 1 else 255
        return _times(values, 65535 / top, np.uint16), (f"float pixels, 0…{top}, are written as 16 bits",)
    if low < 0 or (kind == _INT and high > 65535):
        raise ImageReadError(f"integer pixels span {low:g}…{high:g}; expected 16 bits, 0…65535")
    if high <= 65535:
        return values.astype(np.uint16), (f"integer pixels of {bits} bits are taken as 16 bits, 0…65535",)

    def halved(rows: Array) -> Array:
        return np.rint(rows.astype(np.float64) / 65537)

    return by_rows(halved, np.uint16, values), (f"{bits} bits are written as 16",)


def _times(values: Array, factor: float, dtype: type[np.generic]) -> Levels:
    """Samples times a factor, rounded, in float64."""

    def scaled(rows: Array) -> Array:
        return np.rint(rows.astype(np.float64) * factor)

    return by_rows(scaled, dtype, values)


def _divided(colors: Levels, alpha: Levels) -> Levels:
    """Associated alpha undone: v / α, and 0 where α is 0."""
    most = int(np.iinfo(colors.dtype).max)

    def divided(rows: Levels, opacity: Levels) -> Array:
        full = rows.astype(np.float64) * most / np.maximum(opacity, 1)
        return np.where(opacity > 0, np.minimum(np.rint(full), most), 0)

    return by_rows(divided, np.uint8 if most == 255 else np.uint16, colors, alpha)


def _joined(colors: Levels, alpha: Levels | None) -> Levels:
    return colors if alpha is None else np.concatenate([colors, alpha], axis=2)


def _is_rgb(icc: bytes | None) -> bool:
    return icc is not None and icc[16:20] == b"RGB "


def _by_pillow(content: bytes, page: Any, icc: bytes | None) -> tuple[Levels, bytes | None, tuple[str, ...]]:
    """The samples of 1 or 8 bits that libtiff decodes whole; Pillow turns them upright."""
    with Image.open(BytesIO(content), formats=("TIFF",)) as image:
        image.seek(page.index)
        image.load()
        if image.mode == "CMYK":
            return cmyk_to_srgb(image, icc), None, ("CMYK is converted to sRGB by its color profile",)
        if image.mode not in ("1", "L", "LA", "RGB", "RGBA", "YCbCr"):
            raise ImageReadError(f"has pixels of a kind that is not read ({image.mode}): save it as RGB")
        mode = {"1": "L", "YCbCr": "RGB"}.get(image.mode, image.mode)
        return np.atleast_3d(np.asarray(image.convert(mode))), icc, ()
