"""Damaged files: the reader says what is wrong, or reads them; it never fails otherwise, and never hangs."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from scorefield.data.image import header, read_image
from scorefield.data.photo import Photo
from scorefield.errors import ImageReadError, UserError

_PLAIN = (
    ("png", "1"), ("png", "L"), ("png", "LA"), ("png", "P"), ("png", "RGB"), ("png", "RGBA"), ("png", "I;16"),
    ("jpeg", "L"), ("jpeg", "RGB"), ("jpeg", "CMYK"), ("gif", "P"), ("bmp", "RGB"), ("webp", "RGBA"), ("ppm", "RGB"),
    ("tga", "RGB"), ("avif", "RGB"),
)  # fmt: skip
_TIFF = (
    {"photometric": "rgb"},
    {"photometric": "rgb", "compression": "zlib", "predictor": True},
    {"photometric": "rgb", "tile": (16, 16)},
    {"photometric": "rgb", "planarconfig": "separate"},
    {"photometric": "rgb", "bigtiff": True},
    {"photometric": "minisblack"},
    {"photometric": "miniswhite"},
    {"photometric": "cielab"},
    {"photometric": "rgb", "float": True},
    {"photometric": "rgb", "compression": "jpeg"},
)
KINDS = len(_PLAIN) + len(_TIFF)


def seed_file(kind):
    """A small file of each kind, with EXIF and text where its format has them."""
    rng, file = np.random.default_rng(kind), io.BytesIO()
    rgb = rng.integers(0, 256, (18, 20, 3)).astype(np.uint8)
    if kind < len(_PLAIN):
        name, mode = _PLAIN[kind]
        exif = Image.Exif()
        exif[0x0112], exif[0x010F], exif[0x8769] = 6, "A maker", {0xA002: 20}
        image = Image.fromarray(rgb[..., 0] * np.uint16(257)) if mode == "I;16" else Image.fromarray(rgb).convert(mode)
        options = {"exif": exif} if name in ("png", "jpeg", "webp", "avif") else {}
        image.save(file, name, **options, **({"dpi": (300, 300)} if name in ("png", "jpeg") else {}))
        return file.getvalue()
    facts = dict(_TIFF[kind - len(_PLAIN)])
    if facts.get("compression") == "jpeg":
        Image.fromarray(rgb).save(file, "TIFF", compression="jpeg")
        return file.getvalue()
    array = rng.random((18, 20, 3), np.float32) if facts.pop("float", False) else rgb * np.uint16(257)
    if facts["photometric"].startswith("mini"):
        array = array[..., 0]
    if facts.get("planarconfig"):
        array = np.ascontiguousarray(array.transpose(2, 0, 1))
    tifffile.imwrite(file, array, metadata=None, extratags=[(274, 3, 1, 6)], **facts)
    return file.getvalue()


def mutated(content, rng):
    """Some bytes changed, mostly in the header; or cut, or a part doubled."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        near = len(data) if rng.random() < 0.4 else min(len(data), 200)
        data[rng.integers(near)] = rng.choice([0, 1, 127, 128, 255, rng.integers(256)])
    if rng.random() < 0.2:
        del data[rng.integers(1, len(data)) :]
    if rng.random() < 0.1:
        at = rng.integers(len(data))
        data[at:at] = data[at : at + rng.integers(1, 64)]
    return bytes(data)


@pytest.mark.filterwarnings("ignore")  # Pillow's, of corrupt EXIF and large sizes
@pytest.mark.parametrize("count", [8, pytest.param(77, marks=pytest.mark.slow)])  # of 26 kinds: 2,002 files
@pytest.mark.parametrize("kind", range(KINDS))
def test_a_damaged_file_is_read_or_refused_in_words(tmp_path, kind, count):
    rng, content = np.random.default_rng(kind), seed_file(kind)
    path, refused = tmp_path / "a.image", 0
    for _ in range(count):
        path.write_bytes(mutated(content, rng))
        for read in (Photo.read, read_image, header):
            try:
                read(path, max_pixels=100_000)
            except (UserError, ImageReadError) as error:
                assert str(error)
                refused += 1
    assert refused
