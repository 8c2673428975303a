"""EXIF metadata, kept byte for byte except for orientation, thumbnail, sizes and a note of the software.

An EXIF block is a small TIFF file: a byte order, the offset of a first list of entries (twelve bytes each),
and the offset of a second list, which holds a thumbnail. Two values change: the orientation (tag 0x0112)
becomes 1, since pixels are read upright, and the offset of the thumbnail, which shows the old image, becomes 0.
Maker notes hold offsets from the start of the block, so they stay valid only if nothing moves: entries are added in
a new first list at the end of the block, and the old one is left where it is.

References:
    CIPA DC-008, Exif 2.32, §4.6.
"""

import struct

from PIL import Image

ORIENTATION = 0x0112
MARK = b"Exif\x00\x00"  # precedes the block in a JPEG file
_ORDERS = {b"II*\x00": "<", b"MM\x00*": ">"}
X_RESOLUTION, Y_RESOLUTION, _UNIT = 0x011A, 0x011B, 0x0128
_PROCESSING_SOFTWARE = 0x000B
_SIZES = ((0x0100, 0), (0x0101, 1), (0xA002, 0), (0xA003, 1))  # tags that hold the width or the height
DESCRIBING = (
    _PROCESSING_SOFTWARE, 0x010D, 0x010E, 0x010F, 0x0110, X_RESOLUTION, Y_RESOLUTION, _UNIT, 0x0131, 0x0132, 0x013B,
    0x013C, 0x8298,
)  # fmt: skip
INNER = (0x8769, 0x8825)  # nested lists: the camera's entries, and the position's
_EMPTY = b"II*\0\x08\0\0\0\0\0\0\0\0\0"
_SHORT, _ASCII, _LONG, _RATIONAL = 3, 2, 4, 5


def tags_of(image: Image.Image) -> Image.Exif:
    """The EXIF tags of an image; none where the block is damaged."""
    try:
        return image.getexif()
    except Exception:  # Pillow raises anything on a damaged block
        return Image.Exif()


def orientation_of(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 where the image has none or another value."""
    return valid_orientation(tags_of(image).get(ORIENTATION))


def valid_orientation(value: object) -> int:
    """The value of an orientation tag where it is one of 1 to 8; else 1, which is upright."""
    return int(value) if isinstance(value, int) and 1 <= value <= 8 else 1


def upright_exif(image: Image.Image) -> bytes | None:
    """The EXIF block of an image that is no TIFF, for the upright image; None if there is none.

    Args:
        image: loaded by Pillow.

    Returns:
        The block without `MARK`.
    """
    if image.format == "TIFF":
        return directory_exif(image.getexif())
    block = image.info.get("exif")
    if not isinstance(block, bytes) and "Raw profile type exif" in image.info:  # old programs' place in a PNG
        tags = tags_of(image)
        block = tags.tobytes() if len(tags) else None
    return _upright(block.removeprefix(MARK)) if isinstance(block, bytes) else None


def directory_exif(own: Image.Exif, *, swapped: bool = False) -> bytes | None:
    """A block of those tags of a TIFF that do not describe its storage; None if there are none.

    Taken are description, maker, model, resolution, software, date, artist, copyright, and the nested lists.

    Args:
        own: all tags.
        swapped: the image was turned by a quarter: exchange the two resolutions.
    """
    kept = Image.Exif()
    for tag in DESCRIBING:
        if tag in own:
            kept[tag] = own[tag]
    if swapped and X_RESOLUTION in kept and Y_RESOLUTION in kept:
        kept[X_RESOLUTION], kept[Y_RESOLUTION] = kept[Y_RESOLUTION], kept[X_RESOLUTION]
    for tag in INNER:
        if inner := own.get_ifd(tag):
            kept[tag] = inner
    return kept.tobytes().removeprefix(MARK) if len(kept) else None


def resolution_of(exif: bytes | None) -> tuple[float, float] | None:
    """Dots per inch along x and y; None where the block has none."""
    if exif is None:
        return None
    tags = Image.Exif()
    try:
        tags.load(exif)
        x, y = float(tags[X_RESOLUTION]), float(tags[Y_RESOLUTION])
        scale = {2: 1.0, 3: 2.54}[tags.get(_UNIT, 2)]
    except Exception:  # Pillow raises anything on a damaged block
        return None
    return (scale * x, scale * y) if 1e-3 < x < 1e6 and 1e-3 < y < 1e6 else None


def marked_exif(
    exif: bytes | None,
    *,
    size: tuple[int, int] | None = None,
    software: str | None = None,
    dpi: tuple[float, float] | None = None,
) -> bytes | None:
    """The block with some entries changed; as it was where it is damaged.

    Args:
        exif: a block, or None for a new one.
        size: (W, H), set where the block speaks of a size.
        software: that processed the image last.
        dpi: resolution along x and y.
    """
    block = bytearray(_EMPTY if exif is None else exif)
    order = _ORDERS.get(bytes(block[:4]))
    if order is None:
        return exif
    try:
        if size is not None:
            _set_sizes(block, order, struct.unpack_from(order + "I", block, 4)[0], size, depth=0)
        entries = _entries(block, order)
        if software is not None:
            text = software.encode() + b"\0"
            entries[_PROCESSING_SOFTWARE] = _entry(block, order, _PROCESSING_SOFTWARE, _ASCII, len(text), text)
        if dpi is not None:
            for tag, dots in zip((X_RESOLUTION, Y_RESOLUTION), dpi, strict=True):
                ratio = struct.pack(order + "II", round(10_000 * dots), 10_000)
                entries[tag] = _entry(block, order, tag, _RATIONAL, 1, ratio)
            entries[_UNIT] = _entry(block, order, _UNIT, _SHORT, 1, struct.pack(order + "HH", 2, 0))
    except struct.error:
        return exif
    if software is not None or dpi is not None:
        block += b"\0" * (len(block) % 2)
        struct.pack_into(order + "I", block, 4, len(block))
        block += struct.pack(order + "H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries))
        block += b"\0\0\0\0"
    return bytes(block)


def _entries(block: bytearray, order: str) -> dict[int, bytes]:
    (at,) = struct.unpack_from(order + "I", block, 4)
    (count,) = struct.unpack_from(order + "H", block, at)
    places = range(at + 2, at + 2 + 12 * count, 12)
    return {struct.unpack_from(order + "H", block, place)[0]: bytes(block[place : place + 12]) for place in places}


def _entry(block: bytearray, order: str, tag: int, kind: int, count: int, value: bytes) -> bytes:
    """An entry of a list; a value of more than four bytes is added to the block."""
    if len(value) > 4:
        block += b"\0" * (len(block) % 2)
        at = len(block)
        block += value
        value = struct.pack(order + "I", at)
    return struct.pack(order + "HHI", tag, kind, count) + value.ljust(4, b"\0")


def _set_sizes(block: bytearray, order: str, at: int, size: tuple[int, int], *, depth: int) -> None:
    (count,) = struct.unpack_from(order + "H", block, at)
    for place in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(order + "HHI", block, place)
        if tag == INNER[0] and depth == 0:
            _set_sizes(block, order, struct.unpack_from(order + "I", block, place + 8)[0], size, depth=1)
        for sized, axis in _SIZES:
            if tag == sized and number == 1 and kind in (_SHORT, _LONG):
                struct.pack_into(order + "HII", block, place + 2, _LONG, 1, size[axis])


def _upright(block: bytes) -> bytes | None:
    """The block with orientation 1 and without thumbnail; None if it is damaged."""
    order = _ORDERS.get(block[:4])
    if order is None:
        return None
    changed = bytearray(block)
    try:
        at = struct.unpack_from(order + "I", block, 4)[0]
        (count,) = struct.unpack_from(order + "H", block, at)
        places = range(at + 2, at + 2 + 12 * count, 12)
        tags = {struct.unpack_from(order + "H", block, place)[0]: place for place in places}
        if (place := tags.get(ORIENTATION)) is not None:
            turned = struct.unpack_from(order + "H", block, place + 8)[0] in (5, 6, 7, 8)
            struct.pack_into(order + "HIHH", changed, place + 2, 3, 1, 1, 0)
            x, y = tags.get(X_RESOLUTION), tags.get(Y_RESOLUTION)
            if turned and x is not None and y is not None:
                changed[x + 2 : x + 12], changed[y + 2 : y + 12] = block[y + 2 : y + 12], block[x + 2 : x + 12]
        struct.pack_into(order + "I", changed, at + 2 + 12 * count, 0)
    except struct.error:
        return None
    return bytes(changed)
