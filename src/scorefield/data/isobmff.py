"""Boxes of AVIF and HEIF files: the code points of an image's color, which Pillow neither reads nor writes.

A file is a tree of boxes: four bytes of size, four of kind, a body. The box `meta` names the primary item (`pitm`), has
the properties of all items (`iprp`/`ipco`), and says which belong to which (`iprp`/`ipma`). The property `colr` of type
`nclx` holds code points of primaries and of the transfer function (Display P3 is 12 and 13, BT.2100 PQ 9 and 16), and
`pixi` the bits of a channel. `colr` is valid in place of what the coded image says.

References:
    ISO/IEC 14496-12, §4.2 boxes, §12.1.5 colr; ISO/IEC 23008-12, §6.5 properties, §9.3 ipma; ITU-T H.273, §8
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

_MOST_BOXES = 4096  # of one level, and entries of a list: a photograph in tiles has a few hundred
_SRGB_PRIMARIES = (1, 2)  # BT.709, or not said
_SRGB_TRANSFERS = (1, 2, 6, 13, 14, 15)  # sRGB, or the video curves that every program shows as sRGB


class CodedColor(NamedTuple):
    """What the properties of the primary item say.

    Args:
        cicp: code points of primaries and transfer; None where they are sRGB's, or not said.
        bits: of a channel; 8 where it is not said.
        place: where the code points stand in the file, two of 16 bits; 0 where they do not.
    """

    cicp: tuple[int, int] | None = None
    bits: int = 8
    place: int = 0


def coded_color(content: bytes) -> CodedColor:
    """Of an AVIF or HEIF file; of a damaged one, or another, that nothing is said.

    Args:
        content: the whole file.
    """
    if content[4:8] != b"ftyp":
        return CodedColor()
    try:
        return _coded_color(content)
    except (struct.error, IndexError):
        return CodedColor()


def with_cicp(content: bytes, primaries: int, transfer: int) -> bytes:
    """The file with other code points; as it is where it has none."""
    place = coded_color(content).place
    return content[:place] + struct.pack(">HH", primaries, transfer) + content[place + 4 :] if place else content


def _coded_color(content: bytes) -> CodedColor:
    meta = {kind: span for kind, *span in _boxes(content, 0, len(content))}.get(b"meta")
    if meta is None:
        return CodedColor()
    parts = {kind: (begin, end) for kind, begin, end in _boxes(content, meta[0] + 4, meta[1])}
    if b"pitm" not in parts or b"iprp" not in parts:
        return CodedColor()
    at = parts[b"pitm"][0]
    (item,) = struct.unpack_from(">H" if content[at] == 0 else ">I", content, at + 4)
    properties, own = list[tuple[bytes, int, int]](), set[int]()
    for kind, begin, end in _boxes(content, *parts[b"iprp"]):
        if kind == b"ipco":
            properties = list(_boxes(content, begin, end))
        elif kind == b"ipma":
            own |= _associated(content, begin, item)
    found = CodedColor()
    for index, (kind, begin, end) in enumerate(properties, 1):
        if index not in own:
            continue
        if kind == b"pixi" and end - begin > 5 and content[begin + 4]:
            found = found._replace(bits=max(content[begin + 5 : begin + 5 + content[begin + 4]]))
        elif kind == b"colr" and content[begin : begin + 4] == b"nclx" and end - begin >= 8:
            primaries, transfer = struct.unpack_from(">HH", content, begin + 4)
            plain = primaries in _SRGB_PRIMARIES and transfer in _SRGB_TRANSFERS
            known = not plain and max(primaries, transfer) < 256
            found = found._replace(cicp=(primaries, transfer) if known else None, place=begin + 4)
    return found


def _boxes(content: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of the body of each box; the rest is passed over where a size is of no sense."""
    for _ in range(_MOST_BOXES):
        if at + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", content, at)
        body = at + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", content, body)
            body += 8
        stop = end if size == 0 else at + size
        if not body <= stop <= end:
            return
        yield kind, body, stop
        at = stop


def _associated(content: bytes, at: int, item: int) -> set[int]:
    """The numbers, from 1 on, of the properties of an item."""
    version, wide = content[at], content[at + 3] & 1
    (count,) = struct.unpack_from(">I", content, at + 4)
    at += 8
    for _ in range(min(count, _MOST_BOXES)):
        (number,) = struct.unpack_from(">H" if version == 0 else ">I", content, at)
        at += 2 if version == 0 else 4
        length, at = content[at], at + 1
        form = f">{length}{'H' if wide else 'B'}"
        if number == item:
            return {value & (0x7FFF if wide else 0x7F) for value in struct.unpack_from(form, content, at)}
        at += struct.calcsize(form)
    return set()
