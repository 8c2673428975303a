"""EXIF metadata, kept byte for byte except for orientation and thumbnail.

An EXIF block is a small TIFF file: a byte order, the offset of a first list of entries (twelve bytes each),
and the offset of a second list, which holds a thumbnail. Two values change: the orientation (tag 0x0112)
becomes 1, since pixels are read upright, and the offset of the thumbnail, which shows the old image, becomes 0.
Maker notes hold offsets from the start of the block, so they stay valid only if nothing moves.

References:
    CIPA DC-008, Exif 2.32, §4.6.
"""

import struct

from PIL import Image

ORIENTATION = 0x0112
MARK = b"Exif\x00\x00"  # precedes the block in a JPEG file
_ORDERS = {b"II*\x00": "<", b"MM\x00*": ">"}
DESCRIBING = (0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x8298)
INNER = (0x8769, 0x8825)  # nested lists: the camera's entries, and the position's


def upright_exif(image: Image.Image) -> bytes | None:
    """The EXIF block of an image, for the upright image; None if there is none.

    Args:
        image: loaded by Pillow. The entries of a TIFF also describe its storage; of these are taken:
            description, maker, model, resolution, software, date, artist, copyright, and the nested lists.

    Returns:
        The block without `MARK`.
    """
    if image.format == "TIFF":
        own, kept = image.getexif(), Image.Exif()
        for tag in DESCRIBING:
            if tag in own:
                kept[tag] = own[tag]
        for tag in INNER:
            if inner := own.get_ifd(tag):
                kept[tag] = inner
        return kept.tobytes().removeprefix(MARK) if len(kept) else None
    block = image.info.get("exif")
    return _upright(block.removeprefix(MARK)) if isinstance(block, bytes) else None


def _upright(block: bytes) -> bytes | None:
    """The block with orientation 1 and without thumbnail; None if it is damaged."""
    order = _ORDERS.get(block[:4])
    if order is None:
        return None
    changed = bytearray(block)
    try:
        at = struct.unpack_from(order + "I", block, 4)[0]
        (count,) = struct.unpack_from(order + "H", block, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            if struct.unpack_from(order + "H", block, entry)[0] == ORIENTATION:
                struct.pack_into(order + "HIHH", changed, entry + 2, 3, 1, 1, 0)
        struct.pack_into(order + "I", changed, at + 2 + 12 * count, 0)
    except struct.error:
        return None
    return bytes(changed)
