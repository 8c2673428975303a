"""PNG files whose pixels are sound and whose notes are not: the notes are left out, and that is said.

Pillow refuses a whole file for a profile that unpacks to more than 1 MB, a text packed in an unknown way, or a wrong
checksum of either. None of them has a bearing on the pixels, so these chunks are cut out before Pillow reads the file.

References:
    PNG (third edition), §5.3 chunks, §11.3 iCCP, zTXt, iTXt. https://www.w3.org/TR/png-3/
"""

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO, NamedTuple

PNG = b"\x89PNG\r\n\x1a\n"
DEFLATE = 1032  # the most bytes that one byte can unpack to (RFC 1951: 258 bytes in 2 bits)
MOST_UNPACKED = 2**20  # bytes that Pillow unpacks of one chunk
_MOST_TEXT = 2**26  # bytes of all texts together
_WORDS = {
    b"iCCP": "its color profile", b"eXIf": "its EXIF", b"pHYs": "its resolution", b"tIME": "its time",
    b"tEXt": "a text", b"zTXt": "a text", b"iTXt": "a text",
    **dict.fromkeys((b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI"), "a note on its colors"),
}  # fmt: skip
_OF_PIXELS = {b"tRNS", b"acTL", b"fcTL", b"fdAT"}  # the other chunks of a small first letter are notes (§5.4)
_LENGTHS = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9, b"cICP": 4}


class _Fault(NamedTuple):
    """A chunk to leave out: where it begins and ends in the file, and why."""

    begin: int
    end: int
    words: str


def sound_png(content: bytes) -> tuple[bytes, tuple[str, ...]]:
    """A PNG file without the notes that Pillow would refuse it for, and what was left out, in words.

    Args:
        content: a whole file; one that is no PNG is returned as it is.
    """
    faults = list(_faults(BytesIO(content)))
    parts, at = list[bytes](), 0
    for fault in faults:
        parts.append(content[at : fault.begin])
        at = fault.end
    words = tuple(dict.fromkeys(fault.words for fault in faults))
    return (b"".join((*parts, content[at:])), words) if faults else (content, ())


def is_sound_png(file: BinaryIO) -> bool:
    """Whether a file is no PNG, or one whose notes are sound; pixels are passed over unread."""
    return next(_faults(file), None) is None


def _faults(file: BinaryIO) -> Iterator[_Fault]:
    if file.read(len(PNG)) != PNG:
        return
    at, texts = len(PNG), 0
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        begin, at = at, at + 12 + length
        if not name[:1].islower() or name in _OF_PIXELS:
            file.seek(at)
            continue
        body, check = file.read(length), file.read(4)
        if len(check) < 4:
            return  # the file ends here: not the fault of the notes
        if zlib.crc32(name + body) != int.from_bytes(check, "big"):
            why: str | None = "its checksum is wrong"
        else:
            why, unpacked = _why_not(name, body)
            texts += unpacked if name in (b"tEXt", b"zTXt", b"iTXt") else 0
            why = why or ("all texts have more than 64 MB" if texts > _MOST_TEXT else None)
        if why is not None:
            yield _Fault(begin, at, f"{_WORDS.get(name, 'a note')} is left out: {why}")


def _why_not(name: bytes, body: bytes) -> tuple[str | None, int]:
    """Why a chunk cannot be read, and how many bytes it unpacks to."""
    if name in _LENGTHS and len(body) != _LENGTHS[name]:
        return "it has a wrong length", 0
    rest = body.partition(b"\0")[2]
    if name == b"iTXt":
        if rest[:1] != b"\1":
            return None, len(body)
        method, packed = rest[1:2], rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    elif name in (b"iCCP", b"zTXt"):
        method, packed = rest[:1], rest[1:]
    else:
        return None, len(body)
    if method != b"\0":
        return "it is packed in an unknown way" if method else "it ends early", 0
    unpacker = zlib.decompressobj()
    try:
        size = len(unpacker.decompress(packed, MOST_UNPACKED))
    except zlib.error:
        return "it is damaged", 0
    return ("it unpacks to more than 1 MB" if unpacker.unconsumed_tail else None), size
