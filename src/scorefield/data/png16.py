"""Two formats that Pillow does not write in full: PNG of 16 bits a channel, TIFF with what a camera tells.

References:
    PNG (third edition), §5.3 chunks, §9 filtering, §11.3 iCCP and eXIf. https://www.w3.org/TR/png-3/
    TIFF 6.0, part 1: baseline. Adobe (1992)
"""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from scorefield.data.bit_depth import Levels
from scorefield.data.exif import DESCRIBING, INNER

_PNG_COLOR = {1: 0, 2: 4, 3: 2, 4: 6}  # channels → color type
_UP = 2  # the filter that takes the row above away
_EFFORT = 3  # of deflate: photographs hardly shrink further, and twice as slowly
_LITTLE = b"II*\0\x08\0\0\0"  # a TIFF file's first bytes: its byte order, and where its directory begins
_DEFLATE, _ALPHA = 8, 2  # TIFF's compression, and ExtraSamples "unassociated alpha"


def png_bytes(samples: NDArray[np.uint16], *, exif: bytes | None = None, icc: bytes | None = None) -> bytes:
    """A PNG file of 16 bits a channel.

    Args:
        samples: (H, W, C): grey, grey and alpha, RGB, RGB and alpha.
        exif: a TIFF structure, without the "Exif" mark that JPEG sets before it.
        icc: a color profile.
    """
    h, w, channels = samples.shape
    rows = samples.astype(">u2").reshape(h, -1).view(np.uint8)
    filtered = np.full((h, rows.shape[1] + 1), _UP, np.uint8)
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])  # modulo 256, as §9.2 has it
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", w, h, 16, _PNG_COLOR[channels], 0, 0, 0))]
    if icc is not None:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc)))
    if exif is not None:
        chunks.append((b"eXIf", exif))
    chunks += [(b"IDAT", zlib.compress(filtered.tobytes(), _EFFORT)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)


def tiff_bytes(samples: Levels, *, exif: bytes | None = None, icc: bytes | None = None) -> bytes:
    """A TIFF file of 8 or 16 bits a channel, deflated in one strip.

    Args:
        samples: (H, W, C), uint8 or uint16, channels as for `png_bytes`.
        exif: what it tells of the image stands in the file's own directory; degraded tags are left out.
        icc: a color profile.
    """
    h, w, channels = samples.shape
    strip = zlib.compress(samples.astype(samples.dtype.newbyteorder("<")).tobytes(), _EFFORT)
    directory = _directory(exif)
    directory[256], directory[257] = w, h
    directory[258] = (8 * samples.dtype.itemsize,) * channels
    directory[259] = _DEFLATE
    directory[262] = 1 if channels < 3 else 2  # black is zero, or RGB
    directory[277] = channels
    directory[273], directory[278], directory[279] = 0, h, len(strip)  # where: right behind the directory
    if channels in (2, 4):
        directory[338] = _ALPHA
    if icc is not None:
        directory.tagtype[34675] = 7
        directory[34675] = icc
    return _LITTLE + directory.tobytes(8) + strip


def _directory(exif: bytes | None) -> ImageFileDirectory_v2:
    """A TIFF directory with those tags that are not about storage, as far as they can be written."""
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
