"""What an image file says beside its pixels, carried to the files of its restored versions.

    EXIF            its block, byte for byte; orientation 1, sizes and software brought up to date
    color           the ICC profile; of PNG also cICP, sRGB, gAMA, cHRM; of AVIF and HEIF the code points of cICP
    resolution      of print, in dots per inch, from JFIF, pHYs, TIFF or EXIF
    XMP, IPTC       the packets as they are; orientation and sizes in XMP brought up to date
    text            of PNG; a JPEG's comment

References:
    PNG (third edition), §11.3. https://www.w3.org/TR/png-3/
    Adobe, XMP specification part 3 (2020): storage in files; IPTC-NAA in Photoshop's image resource 0x0404
"""

import re
import struct
import zlib
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

from PIL import Image

from scorefield.data.exif import directory_exif, marked_exif, resolution_of, upright_exif
from scorefield.data.isobmff import coded_color
from scorefield.data.png import MOST_UNPACKED, PNG
from scorefield.data.tiff import is_bigtiff

COLOR_CHUNKS = (b"cICP", b"sRGB", b"gAMA", b"cHRM", b"mDCV", b"cLLI")
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
_XMP_KEY, _RAW_KEY = b"XML:com.adobe.xmp", b"Raw profile type "
_IPTC_RESOURCE = 0x0404
_XMP_TAG, _IPTC_TAG = 700, 33723
_GAIN_MAPS = (
    b"urn:iso:std:iso:ts:21496:-1", b"http://ns.adobe.com/hdr-gain-map/1.0/", b"http://ns.apple.com/HDRGainMap/1.0/",
    b"urn:com:apple:photo:2020:aux:hdrgainmap",
)  # fmt: skip
_INCH = 0.0254  # metres


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a file says beside its pixels.

    Args:
        exif: a TIFF structure, with orientation 1.
        icc: the color profile.
        dpi: of print, along x and y, for the upright image.
        xmp: an XMP packet.
        iptc: IPTC-NAA records.
        chunks: PNG's chunks of color and text, by name, in order.
        software: that restored the image, for a note in EXIF.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    software: str | None = None

    @property
    def noted_exif(self) -> bytes | None:
        """EXIF with the software as its ProcessingSoftware.

        The resolution is written there too, if EXIF does not have it: some formats have no other place.
        """
        if self.software is None:
            return self.exif
        dpi = None if resolution_of(self.exif) is not None else self.dpi
        return marked_exif(self.exif, software=self.software, dpi=dpi)

    @property
    def color(self) -> "Metadata":
        """What says how the colors look, and nothing else."""
        return Metadata(icc=self.icc, chunks=tuple(c for c in self.chunks if c[0] in COLOR_CHUNKS))

    @property
    def text(self) -> "tuple[tuple[bytes, bytes], ...]":
        """PNG's chunks of text."""
        return tuple(c for c in self.chunks if c[0] not in COLOR_CHUNKS)

    def without_color(self) -> "Metadata":
        """The same for pixels that were converted to sRGB."""
        return replace(self, icc=None, chunks=self.text)

    def for_size(self, width: int, height: int) -> "Metadata":
        """The same where it speaks of the image's size."""
        exif = None if self.exif is None else marked_exif(self.exif, size=(width, height))
        return replace(self, exif=exif, xmp=None if self.xmp is None else _sized(self.xmp, width, height))


def read_metadata(image: Image.Image, content: bytes, orientation: int) -> Metadata:
    """Of an image that Pillow has loaded; not of a TIFF file.

    Args:
        image: the image.
        content: the whole file; empty for an image from memory.
        orientation: the image is turned by, 1 to 8.
    """
    exif = upright_exif(image)
    chunks, raw = _png_chunks(content) if content.startswith(PNG) else (_cicp(content), {})
    comment = image.info.get("comment")
    if image.format in ("JPEG", "MPO") and isinstance(comment, bytes) and comment.strip(b"\0 "):
        chunks = (*chunks, (b"tEXt", b"Comment\0" + comment.replace(b"\0", b" ")))
    resources: Any = image.info.get("photoshop")
    iptc = resources.get(_IPTC_RESOURCE) if isinstance(resources, dict) else raw.get(b"iptc")
    xmp = image.info.get("xmp") or raw.get(b"xmp")
    icc = image.info.get("icc_profile") or None
    if icc is not None and not content.startswith(PNG):
        chunks = tuple(chunk for chunk in chunks if chunk[0] != b"cICP")  # the profile says it in full
    return Metadata(
        exif=exif,
        icc=icc,
        dpi=_turned(_dpi(image), orientation) or resolution_of(exif),
        xmp=_without_gain_map(_upright_xmp(xmp)) if isinstance(xmp, bytes) else None,
        iptc=_records(iptc) if isinstance(iptc, bytes) else None,
        chunks=chunks,
    )


def tiff_metadata(content: bytes, tags_at: int, icc: bytes | None, orientation: int) -> Metadata:
    """Of a TIFF file; of a BigTIFF the color profile alone.

    Args:
        content: the whole file.
        tags_at: where the directory of the image begins.
        icc: the color profile that holds for the pixels.
        orientation: the image is turned by, 1 to 8.
    """
    tags = Image.Exif()
    if is_bigtiff(content):
        return Metadata(icc=icc)
    try:
        order = "<" if content[:2] == b"II" else ">"
        own = struct.unpack_from(order + "I", content, 4)[0] == tags_at
        file = BytesIO(content if own else content[:4] + struct.pack(order + "I", tags_at) + content[8:])
        tags.load_from_fp(file)  # pyright: ignore[reportUnknownMemberType]
        exif = directory_exif(tags, swapped=orientation > 4)
        xmp, iptc = tags.get(_XMP_TAG), tags.get(_IPTC_TAG)
    except Exception:  # Pillow raises anything on tags of a wrong kind
        return Metadata(icc=icc)
    if isinstance(iptc, tuple):  # written as 32-bit integers, by old programs
        numbers = [n for n in iptc if isinstance(n, int)]
        iptc = struct.pack(f"{order}{len(numbers)}I", *numbers)
    return Metadata(
        exif=exif,
        icc=icc,
        dpi=resolution_of(exif),
        xmp=_upright_xmp(xmp) if isinstance(xmp, bytes) else None,
        iptc=_records(iptc) if isinstance(iptc, bytes) else None,
    )


# --- how each format writes it -------------------------------------------------------------------


def png_chunks(metadata: Metadata) -> tuple[list[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]:
    """The chunks of a PNG that stand before its palette and pixels, and those that may stand behind."""
    before = [chunk for chunk in metadata.chunks if chunk[0] in COLOR_CHUNKS]
    if metadata.icc is not None:
        before = [chunk for chunk in before if chunk[0] != b"sRGB"]  # one of the two, §11.3.2.4
        before.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.dpi is not None:
        x, y = (round(dots / _INCH) for dots in metadata.dpi)
        before.append((b"pHYs", struct.pack(">IIB", x, y, 1)))
    if metadata.exif is not None:
        before.append((b"eXIf", metadata.exif))
    behind = list(metadata.text)
    if metadata.xmp is not None:
        before.append((b"iTXt", _XMP_KEY + b"\0\0\0\0\0" + metadata.xmp))
    if metadata.iptc is not None:
        digits = iptc_resource(metadata.iptc).hex().encode()
        lines = b"\n".join(digits[i : i + 72] for i in range(0, len(digits), 72))
        words = b"\niptc\n%8d\n" % (len(digits) // 2) + lines + b"\n"
        behind.append((b"zTXt", _RAW_KEY + b"iptc\0\0" + zlib.compress(words)))
    return before, behind


def iptc_resource(iptc: bytes) -> bytes:
    """IPTC records as an image resource of Photoshop."""
    return b"8BIM" + struct.pack(">HHI", _IPTC_RESOURCE, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)


def jpeg_iptc(iptc: bytes) -> bytes:
    """The APP13 segment of a JPEG file; empty where the records are too long for it."""
    content = b"Photoshop 3.0\0" + iptc_resource(iptc)
    return b"" if len(content) > 65533 else b"\xff\xed" + struct.pack(">H", len(content) + 2) + content


# --- reading -------------------------------------------------------------------------------------


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    """As the file format itself has it; Pillow makes 72 dpi up where EXIF has none."""
    if image.format in ("JPEG", "MPO"):
        unit, density = image.info.get("jfif_unit"), image.info.get("jfif_density")
        if unit not in (1, 2) or not isinstance(density, tuple):
            return None
        scale = 1.0 if unit == 1 else 2.54
        return _positive(tuple(scale * n for n in density))
    return _positive(image.info.get("dpi")) if image.format in ("PNG", "BMP", "DIB") else None


def _positive(dpi: object) -> tuple[float, float] | None:
    if not isinstance(dpi, tuple) or len(dpi) != 2:
        return None
    x, y = float(dpi[0]), float(dpi[1])
    return (x, y) if 1e-3 < x < 1e6 and 1e-3 < y < 1e6 else None


def _turned(dpi: tuple[float, float] | None, orientation: int) -> tuple[float, float] | None:
    return (dpi[1], dpi[0]) if dpi is not None and orientation > 4 else dpi


def _png_chunks(content: bytes) -> tuple[tuple[tuple[bytes, bytes], ...], dict[bytes, bytes]]:
    """Chunks of color and text, and the profiles in text, by name."""
    found: list[tuple[bytes, bytes]] = []
    raw: dict[bytes, bytes] = {}
    at = len(PNG)
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        name, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        at += 12 + length
        if at > len(content) or name == b"IEND":
            break
        key = body.split(b"\0", 1)[0]
        if name in _TEXT_CHUNKS and key.startswith(_RAW_KEY):
            if (profile := _raw_profile(name, body)) is not None:
                raw[key.removeprefix(_RAW_KEY).lower()] = profile
        elif name in COLOR_CHUNKS or (name in _TEXT_CHUNKS and key != _XMP_KEY):
            found.append((name, body))
    return tuple(found), raw


def _cicp(content: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """The color of an AVIF or HEIF file as PNG's chunk cICP: of RGB with the full range (PNG, §11.3.2.6)."""
    cicp = coded_color(content).cicp
    return () if cicp is None else ((b"cICP", bytes((*cicp, 0, 1))),)


def _raw_profile(name: bytes, body: bytes) -> bytes | None:
    """The bytes of ImageMagick's `Raw profile type` text: a name, a length and hex digits."""
    text = body.partition(b"\0")[2]
    try:
        if name == b"zTXt":
            text = zlib.decompressobj().decompress(text[1:], MOST_UNPACKED)
        return bytes.fromhex(b"".join(text.split()[2:]).decode("ascii"))
    except (ValueError, zlib.error):
        return None


def _records(iptc: bytes) -> bytes | None:
    """IPTC records, out of Photoshop's resources where they are wrapped in them."""
    at = 0
    while iptc[at : at + 4] == b"8BIM" and at + 12 <= len(iptc):
        (number,) = struct.unpack_from(">H", iptc, at + 4)
        name = 1 + iptc[at + 6]
        begin = at + 6 + name + name % 2
        if begin + 4 > len(iptc):
            return None
        (length,) = struct.unpack_from(">I", iptc, begin)
        if number == _IPTC_RESOURCE:
            return iptc[begin + 4 : begin + 4 + length]
        at = begin + 4 + length + length % 2
    return iptc if iptc[:1] == b"\x1c" else None


def has_gain_map(content: bytes) -> bool:
    """Whether a JPEG, AVIF or HEIF file has a second image that makes it HDR (ISO 21496-1, Ultra HDR, Apple's)."""
    return not content.startswith(PNG) and any(mark in content for mark in _GAIN_MAPS)


def _without_gain_map(xmp: bytes) -> bytes:
    """The packet where it does not promise a gain map, which is not written with it."""
    if b"hdrgm:" not in xmp:
        return xmp
    xmp = re.sub(rb"<(hdrgm:\w+)\b[^>]*?(/>|>.*?</\1\s*>)", b"", xmp, flags=re.DOTALL)
    xmp = re.sub(rb"<Container:Directory>.*?</Container:Directory>", b"", xmp, flags=re.DOTALL)
    return re.sub(rb"\s(xmlns:hdrgm|hdrgm:\w+)\s*=\s*(\"[^\"]*\"|'[^']*')", b"", xmp)


def _upright_xmp(xmp: bytes) -> bytes:
    return _set(xmp, b"tiff:Orientation", 1)


def _sized(xmp: bytes, width: int, height: int) -> bytes:
    for names, value in (
        ((b"tiff:ImageWidth", b"exif:PixelXDimension"), width),
        ((b"tiff:ImageLength", b"exif:PixelYDimension"), height),
    ):
        for name in names:
            xmp = _set(xmp, name, value)
    return xmp


def _set(xmp: bytes, name: bytes, value: int) -> bytes:
    """The packet with a number changed, where it has it, as an attribute or as an element."""
    number = str(value).encode()
    xmp = re.sub(rb"(\b%s\s*=\s*[\"'])\d+" % name, lambda m: m[1] + number, xmp)
    return re.sub(rb"(<%s>)\s*\d+" % name, lambda m: m[1] + number, xmp)


__all__ = [
    "COLOR_CHUNKS", "Metadata", "has_gain_map", "iptc_resource", "jpeg_iptc", "png_chunks",
    "read_metadata", "tiff_metadata",
]  # fmt: skip
