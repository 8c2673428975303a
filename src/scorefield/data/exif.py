"""What a camera wrote into an image, kept byte for byte, and told that the image now stands upright.

An EXIF block is a small TIFF file: a byte order, the offset of a first list of entries (twelve bytes each),
and the offset of a second one, which holds a thumbnail. Only two values are changed: the orientation
(tag 0x0112) becomes 1, and the thumbnail, which would show the image as it was, is no longer pointed at.
Notes of makers hold offsets from the block's beginning, and so survive only where nothing is moved.

References:
    CIPA DC-008, Exif 2.32, §4.6.
"""

import struct

from PIL import Image

ORIENTATION = 0x0112
MARK = b"Exif\x00\x00"  # what JPEG sets before the block
_ORDERS = {b"II*\x00": "<", b"MM\x00*": ">"}
DESCRIBING = (0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x8298)
INNER = (0x8769, 0x8825)  # lists of their own: the camera's entries, and the place's


def upright_exif(image: Image.Image) -> bytes | None:
    """The block that an image carries, for the same image upright; None where there is none.

    Args:
        image: as Pillow has loaded it. Of a TIFF, whose own entries say how it is stored, these are taken:
            description, maker, model, resolution, program, date, artist, rights, with the camera's own list.

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
    """The block with its orientation 1 and without its thumbnail; None if it is degraded."""
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
