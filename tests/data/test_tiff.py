"""TIFF files of every kind that scanners and programs write, against the pixels that went into them."""

import io
import struct
import tracemalloc

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from scorefield.data import tiff
from scorefield.data.image import header, read_image
from scorefield.data.levels import in_8_bits
from scorefield.data.photo import Photo, as_photo
from scorefield.data.tiff import upright
from scorefield.errors import UserError

RNG = np.random.default_rng(0)
LAB = ImageCms.createProfile("LAB")


def noise(depth, channels=3, size=(21, 34)):
    return RNG.integers(0, 1 << depth, (*size, channels)).astype(np.uint8 if depth <= 8 else np.uint16)


def written(path, array, **facts):
    tifffile.imwrite(path, array, metadata=None, **facts)
    return path


def plain(array):
    return array[..., 0] if array.shape[2] == 1 else array


def packed(array, bits):
    """Rows of samples as so many bits each, highest first, each row from a whole byte on."""
    rows = array.reshape(len(array), -1)
    digits = (rows[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(digits.reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()


def by_hand(path, content, size, channels, bits, photometric, *, order="<", more=()):
    """A TIFF of one strip that no library writes; `more` are (tag, short)."""
    h, w = size
    entries = sorted([
        (256, 4, w), (257, 4, h), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 8), (277, 3, channels),
        (278, 4, h), (279, 4, len(content)), *((tag, 3, value) for tag, value in more),
    ])  # fmt: skip
    content += b"\0" * (len(content) % 2)
    at = 8 + len(content)
    depths = struct.pack(f"{order}{channels}H", *[bits] * channels)
    end = at + 2 + 12 * len(entries) + 4
    out = struct.pack(order + "H", len(entries))
    for tag, kind, value in entries:
        count = channels if tag == 258 else 1
        if tag == 258 and channels > 2:
            out += struct.pack(order + "HHII", tag, kind, count, end)
        elif tag == 258:
            out += struct.pack(order + "HHI", tag, kind, count) + depths.ljust(4, b"\0")
        else:
            body = struct.pack(order + ("H" if kind == 3 else "I"), value).ljust(4, b"\0")
            out += struct.pack(order + "HHI", tag, kind, 1) + body
    mark = b"II*\0" if order == "<" else b"MM\0*"
    path.write_bytes(mark + struct.pack(order + "I", at) + content + out + b"\0" * 4 + depths)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("depth", "channels", "compression"),
    [
        (8, 1, None),
        (16, 1, None),
        (8, 3, "tiff_lzw"),
        (16, 3, "zlib"),
        (8, 4, None),
        (8, 2, "packbits"),
        (1, 1, "group4"),
        (8, 3, "jpeg"),
        (8, "P", None),
    ],
)
def test_every_orientation_is_applied_once_and_the_same_everywhere(tmp_path, orientation, depth, channels, compression):
    path = tmp_path / "a.tif"
    if depth == 16:
        array = noise(16, channels)
        expected = upright(array, orientation)
        photometric = "minisblack" if channels == 1 else "rgb"
        written(
            path, plain(array), photometric=photometric, compression=compression, extratags=[(274, 3, 1, orientation)]
        )
    else:
        image = Image.fromarray(plain(noise(8, 3 if channels == "P" else channels)))
        image = image.quantize(16) if channels == "P" else image.convert("1") if depth == 1 else image
        exif = Image.Exif()
        exif[274] = orientation
        image.save(path, exif=exif, compression=compression)
        shown = image.convert("RGB" if channels == "P" else "L") if image.mode in ("1", "P") else image
        if compression == "jpeg":
            shown = Image.open(io.BytesIO(path.read_bytes()))
            shown.load()  # turned by Pillow, from memory
            expected = np.asarray(shown)
        else:
            expected = upright(np.atleast_3d(np.asarray(shown)), orientation)
    photo = Photo.read(path)
    color = 1 if expected.shape[2] < 3 else 3
    assert (photo.levels == expected[..., :color]).all()
    assert expected.shape[2] == color or (photo.alpha == expected[..., color]).all()
    assert header(path)[0] == photo.levels.shape[:2]
    read = read_image(path)
    assert (read.height, read.width) == photo.levels.shape[:2]
    if photo.alpha is None:
        assert (np.atleast_3d(np.asarray(read)) == in_8_bits(photo.levels)).all()
    lazy = as_photo(Image.open(path)) if depth == 8 else photo
    assert (lazy.levels == photo.levels).all()
    again = Photo.read(photo.save(photo.levels, tmp_path / "b.tif"))
    assert (again.levels == photo.levels).all()


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("predictor", [False, True])
def test_planes_tiles_strips_and_byte_orders_are_the_same_image(tmp_path, depth, compression, tile, order, predictor):
    array = noise(depth)
    for planar in ("contig", "separate"):
        given = array if planar == "contig" else np.ascontiguousarray(array.transpose(2, 0, 1))
        path = written(
            tmp_path / f"{planar}.tif", given, photometric="rgb", planarconfig=planar, compression=compression,
            tile=tile, rowsperstrip=None if tile else 4, byteorder=order,
            predictor=predictor and compression is not None,
        )  # fmt: skip
        assert (Photo.read(path).levels == array).all()


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8, 10, 12, 14, 16])
@pytest.mark.parametrize(("channels", "white_is_zero"), [(1, False), (1, True), (3, False)])
def test_every_depth_has_its_own_white(tmp_path, bits, channels, white_is_zero):
    top = 2**bits - 1
    values = RNG.integers(0, top + 1, (9, 13, channels))
    values[0, 0], values[0, 1] = 0, top
    content = values.astype("<u2").tobytes() if bits == 16 else packed(values, bits)
    photometric = 2 if channels == 3 else 0 if white_is_zero else 1
    photo = Photo.read(by_hand(tmp_path / "a.tif", content, (9, 13), channels, bits, photometric))
    white = 255 if bits <= 8 else 65535
    expected = np.rint(values * (white / top))
    assert (photo.levels == (white - expected if white_is_zero else expected)).all()
    assert photo.levels.dtype == (np.uint8 if bits <= 8 else np.uint16)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("scale", [1, 255])
def test_floats_of_a_known_range_are_read_and_that_is_said(tmp_path, dtype, scale):
    values = (RNG.random((9, 13, 3)) * scale).astype(dtype)
    values[0, 0] = scale
    photo = Photo.read(written(tmp_path / "a.tif", values, photometric="rgb"))
    assert (photo.levels == np.rint(values.astype(np.float64) * (65535 / scale))).all()
    assert f"float pixels, 0…{scale}" in photo.notes[0]


def test_integers_of_32_bits_are_full_scale_or_16_bits_and_that_is_said(tmp_path):
    values = RNG.integers(0, 2**32, (9, 13), dtype=np.uint32)
    photo = Photo.read(written(tmp_path / "a.tif", values, photometric="minisblack"))
    assert (photo.levels[..., 0] == np.rint(values / 65537)).all()
    photo = Photo.read(written(tmp_path / "b.tif", values >> 16, photometric="minisblack"))
    assert (photo.levels[..., 0] == values >> 16).all()
    assert "16 bits" in photo.notes[0]


@pytest.mark.parametrize("depth", [8, 16])
def test_associated_alpha_is_divided_out(tmp_path, depth):
    top = (1 << depth) - 1
    colors, alpha = noise(depth).astype(np.int64), noise(depth, 1).astype(np.int64)
    alpha[0, :9] = 0
    colors = colors * (alpha > 0)
    stored = np.rint(colors * alpha / top)
    dtype = np.uint8 if depth == 8 else np.uint16
    path = written(
        tmp_path / "a.tif", np.concatenate([stored, alpha], 2).astype(dtype), photometric="rgb",
        extrasamples=["assocalpha"],
    )  # fmt: skip
    photo = Photo.read(path)
    assert (photo.alpha == alpha[..., 0]).all()
    # a stored value is rounded by half a level, which the division enlarges; half a level more rounds the result
    assert (np.abs(photo.levels - colors) <= 0.5 * top / np.maximum(alpha, 1) + 0.5).all()


def test_an_extra_channel_that_is_no_alpha_is_left_out_and_that_is_said(tmp_path):
    array = noise(8, 4)
    photo = Photo.read(written(tmp_path / "a.tif", array, photometric="rgb", extrasamples=["unspecified"]))
    assert (photo.levels == array[..., :3]).all()
    assert photo.alpha is None
    assert photo.notes == ("1 extra channel is left out",)


@pytest.mark.parametrize("deep", [False, True])
def test_cielab_becomes_srgb(tmp_path, deep):
    y, x = np.mgrid[:24, :32]
    rgb = np.stack([60 + 4 * x, 80 + 3 * y, 200 - 3 * x], 2).astype(np.uint8)
    lab = ImageCms.profileToProfile(Image.fromarray(rgb), ImageCms.createProfile("sRGB"), LAB, outputMode="LAB")
    lab.save(tmp_path / "a.tif")
    if deep:
        stored = tifffile.imread(tmp_path / "a.tif").astype(np.int64)
        signed = np.where(stored > 127, stored - 256, stored)
        values = np.concatenate([stored[..., :1] * 257, signed[..., 1:] * 256 % 65536], 2).astype(np.uint16)
        written(tmp_path / "a.tif", values, photometric="cielab")
    photo = Photo.read(tmp_path / "a.tif")
    assert "CIELab is converted to sRGB" in photo.notes
    # Lab of 8 bits has steps of 0.4 in L and 1 in a and b: up to some 3 levels of sRGB for such colors
    assert np.abs(photo.levels / 257 - rgb).max() < 5


@pytest.mark.parametrize("suffix", [".tif", ".jpg"])
def test_cmyk_is_converted_by_its_profile_or_refused(tmp_path, suffix):
    image = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    image.save(tmp_path / f"a{suffix}")
    with pytest.raises(UserError, match="CMYK"):
        Photo.read(tmp_path / f"a{suffix}")


def test_of_several_pages_the_first_is_taken_and_said_and_thumbnails_are_passed_over(tmp_path):
    first, second = noise(16, 3), noise(16, 3)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(first, photometric="rgb", metadata=None)
        tiff.write(second, photometric="rgb", metadata=None)
    photo = Photo.read(tmp_path / "a.tif")
    assert (photo.levels == first).all()
    assert "holds several images: the first one is taken" in photo.notes
    with tifffile.TiffWriter(tmp_path / "b.tif") as tiff:
        tiff.write(first[::2, ::2].copy(), photometric="rgb", metadata=None, subfiletype=1)
        tiff.write(second, photometric="rgb", metadata=None)
    photo = Photo.read(tmp_path / "b.tif")
    assert (photo.levels == second).all()
    assert photo.notes == ()


def test_a_palette_has_its_own_colors(tmp_path):
    indices, colors = noise(8, 1), noise(16, 3, (1, 256))[0]
    path = written(tmp_path / "a.tif", indices[..., 0], photometric="palette", colormap=colors.T.copy())
    assert (Photo.read(path).levels == (colors >> 8)[indices[..., 0]]).all()


@pytest.mark.parametrize("kind", ["int8", "int16", "complex64", "cfa", "hdr", "nan", "cut"])
def test_what_cannot_be_read_right_is_refused(tmp_path, kind):
    path = tmp_path / "a.tif"
    match kind:
        case "cfa":
            written(path, noise(16, 1)[..., 0], photometric=32803)
        case "hdr":
            written(path, np.full((4, 5), 1.5, np.float32), photometric="minisblack")
        case "nan":
            written(path, np.full((4, 5), np.nan, np.float32), photometric="minisblack")
        case "cut":
            written(path, noise(16), photometric="rgb")
            path.write_bytes(path.read_bytes()[:-40])
        case _:
            written(path, np.ones((4, 5), kind), photometric="minisblack")
    for read in (Photo.read, read_image):
        with pytest.raises(UserError, match=r"a\.tif: "):
            read(path)


COMPRESSIONS = ["zlib", "lzw", "packbits", "lzma", "zstd"]


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("width", [36, 35])
def test_strips_of_more_bytes_than_pillow_allows_pixels_are_read(tmp_path, monkeypatch, width, compression):
    array = noise(8, size=(40, width))
    path = packed_by_libtiff(tmp_path / "a.tif", array, compression)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", array.shape[0] * array.shape[1] // 5)
    assert np.array_equal(Photo.read(path).levels, array)
    assert np.array_equal(np.asarray(read_image(path)), array)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_and_our_own_bounds_hold_for_them(tmp_path, monkeypatch, compression):
    array = noise(8, size=(40, 35))
    path = packed_by_libtiff(tmp_path / "a.tif", array, compression)
    with pytest.raises(UserError, match="decompression bomb"):
        Photo.read(path, max_pixels=40 * 35 - 1)
    monkeypatch.setattr(tiff, "_MOST_BYTES", array.size - 1)
    with pytest.raises(UserError, match="far too large"):
        Photo.read(path)


def packed_by_libtiff(path, array, compression):
    names = {"zlib": "tiff_adobe_deflate", "lzw": "tiff_lzw"}
    names |= {name: name for name in COMPRESSIONS if name not in names}
    Image.fromarray(array).save(path, "TIFF", compression=names[compression], strip_size=2**30)
    return path


ROWS, WIDE = 4096, 64
CONVERSIONS = {
    "4 bits": (np.uint8, 15, lambda x: tiff._scaled(x, 4, 1)[0]),
    "12 bits": (np.uint16, 4095, lambda x: tiff._scaled(x, 12, 1)[0]),
    "32 bits": (np.uint32, 2**32 - 1, lambda x: tiff._scaled(x, 32, 1)[0]),
    "floats": (np.float32, 1, lambda x: tiff._scaled(x, 32, 3)[0]),
    "doubles": (np.float64, 1, lambda x: tiff._scaled(x, 64, 3)[0]),
    "associated alpha": (np.uint16, 65535, lambda x: tiff._divided(x, x[..., :1])),
    "16 bits to 8": (np.uint16, 65535, in_8_bits),
}


@pytest.mark.parametrize("name", CONVERSIONS)
def test_no_conversion_has_all_samples_in_float64_at_once(name):
    dtype, most, convert = CONVERSIONS[name]
    values = (np.random.default_rng(0).random((ROWS, WIDE, 3)) * most).astype(dtype)
    band = 256 * WIDE * 3 * 8  # bytes of rows in float64, and convert has a few of them
    tracemalloc.start()
    out = convert(values)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < out.nbytes + 6 * band < ROWS // 256 * band
    assert np.array_equal(out, np.concatenate([convert(values[:1000]), convert(values[1000:])]))
