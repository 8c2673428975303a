import io
import sys
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from scorefield.data import photo as module
from scorefield.data.levels import in_8_bits, in_16_bits
from scorefield.data.metadata import Metadata
from scorefield.data.photo import Photo, as_photo
from scorefield.errors import UserError

RNG = np.random.default_rng(0)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_PROFILE = SRGB[:16] + b"GRAY" + SRGB[20:]  # only the header is read
LOSSLESS = [".png", ".tif", ".tiff", ".webp", ".bmp"]
LOSSY = [".jpg", ".avif", ".heic"]
OF = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def levels(channels=3, depth=8, size=(5, 7)):
    return RNG.integers(0, 1 << depth, (*size, channels)).astype(np.uint8 if depth == 8 else np.uint16)


def smooth(channels=3, size=(32, 48)):
    y, x = np.mgrid[: size[0], : size[1]]
    return np.stack([y * 5 + k * 20 + x for k in range(channels)], axis=2).astype(np.uint8)


def exif(orientation=1):
    block = Image.Exif()
    block[0x0112], block[0x010F] = orientation, "A maker"
    block[0x8769] = {0x9003: "2001:02:03 04:05:06"}  # when it was taken
    return block


def written(path, array, **options):
    flat = array[..., 0] if array.shape[2] == 1 else array
    if path.suffix == ".heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    Image.fromarray(flat).save(path, **options)
    return path


def original(array, alpha=None, **facts):
    return Photo(path=module.Path("x"), levels=array, alpha=alpha, metadata=Metadata(**facts))


def facts(block):
    tags = Image.Exif()
    tags.load(block)
    return tags.get(0x0112, 1), tags[0x010F], tags.get_ifd(0x8769)[0x9003]


# --- depths --------------------------------------------------------------------------------------


def test_sixteen_bits_and_eight_undo_each_other_and_round():
    every = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    assert (in_8_bits(in_16_bits(every)) == every).all()
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    assert (in_8_bits(deep) == np.rint(deep / 257)).all()


# --- there and back ------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "channels"), list(product(LOSSLESS, (1, 2, 3, 4))))
def test_eight_bits_and_alpha_come_back_byte_for_byte(tmp_path, suffix, channels):
    array = levels(channels)
    color = 1 if channels < 3 else 3
    alpha = array[..., color] if channels > color and suffix != ".bmp" else None
    path = original(array[..., :color], alpha).save(array[..., :color], tmp_path / f"a{suffix}")
    back = Photo.read(path)
    if suffix == ".webp" and color == 1:  # it has no grey
        assert (back.levels == array[..., :1]).all()
    else:
        assert (back.levels == array[..., :color]).all()
        assert back.levels.shape[2] == color
    assert (back.alpha is None) if alpha is None else (back.alpha == alpha).all()


@pytest.mark.parametrize(("suffix", "channels"), list(product([".png", ".tif"], (1, 2, 3, 4))))
def test_sixteen_bits_and_alpha_come_back_with_exif_and_profile(tmp_path, suffix, channels):
    if channels != 1:
        pytest.importorskip("cv2")
    array = levels(channels, 16, (33, 21))
    color = 1 if channels < 3 else 3
    alpha = array[..., color] if channels > color else None
    icc = GREY_PROFILE if color == 1 else SRGB
    block = exif().tobytes()[6:]
    source = original(array[..., :color], alpha, exif=block, icc=icc)
    back = Photo.read(source.save(source.levels, tmp_path / f"a{suffix}"))
    assert back.levels.dtype == np.uint16
    assert (back.levels == source.levels).all()  # of deep grey with alpha, TIFF makes colors
    assert (back.alpha is None) if alpha is None else (back.alpha == alpha).all()
    assert back.icc == icc
    assert facts(back.exif) == facts(block)
    assert back.notes == ()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg", ".avif", ".heic"])
def test_exif_and_profile_come_back_and_the_image_stands_upright(tmp_path, suffix):
    array = smooth()
    path = written(tmp_path / f"a{suffix}", array, exif=exif(6).tobytes(), icc_profile=SRGB)
    first = Photo.read(path)
    assert first.levels.shape == (48, 32, 3)
    second = Photo.read(first.save(first.levels, tmp_path / f"b{suffix}"))
    for one in (first, second):
        assert facts(one.exif) == (1, "A maker", "2001:02:03 04:05:06")
        assert one.icc == SRGB
    assert np.abs(second.levels.astype(int) - first.levels).max() <= (0 if suffix in LOSSLESS else 6)
    with Image.open(tmp_path / f"b{suffix}") as image:
        assert ImageOps.exif_transpose(image).size == image.size == (32, 48)


@pytest.mark.parametrize("suffix", [".avif", ".heic", ".webp"])
def test_alpha_goes_through_modern_formats(tmp_path, suffix):
    if suffix == ".heic":
        pytest.importorskip("pillow_heif")
    array, alpha = smooth(), smooth(1)[..., 0]
    back = Photo.read(original(array, alpha).save(array, tmp_path / f"a{suffix}"))
    assert np.abs(back.alpha.astype(int) - alpha).max() <= 4
    assert np.abs(back.levels.astype(int) - array).max() <= 8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("deep", [False, True])
def test_each_orientation_is_what_pillow_makes_of_it(tmp_path, orientation, deep):
    if deep:
        pytest.importorskip("cv2")
    array = levels(3)
    source = original(in_16_bits(array) if deep else array, exif=exif(orientation).tobytes()[6:])
    path = source.save(source.levels, tmp_path / "a.png")
    expected = ImageOps.exif_transpose(Image.open(path))
    read = Photo.read(path)
    assert (in_8_bits(read.levels) == np.asarray(expected)).all()
    assert facts(read.exif)[0] == 1


def test_only_orientation_and_thumbnail_of_an_exif_block_change(tmp_path):
    block = exif(8).tobytes()
    path = written(tmp_path / "a.jpg", smooth(), exif=block)
    kept = Photo.read(path).exif
    assert [i for i, (a, b) in enumerate(zip(block[6:], kept, strict=True)) if a != b] == [
        block[6:].index(b"\x12\x01\x03\x00" if block[6:8] == b"II" else b"\x01\x12\x00\x03")
        + (8 if block[6:8] == b"II" else 9)
    ]


# --- what a file may hold ------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    mode=st.sampled_from(["1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16"]),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 1 << 16),
)
def test_every_mode_gives_what_pillow_shows(mode, size, seed, tmp_path_factory):
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("modes") / ("a.tif" if mode == "PA" else "a.png")
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, size[::-1]).astype(np.uint16))
    else:
        base = "RGBA" if mode in ("PA", "RGBA") else "LA" if mode == "LA" else "RGB"
        noise = rng.integers(0, 256, (*size[::-1], len(base))).astype(np.uint8)
        image = Image.fromarray(noise, base) if mode != "PA" else Image.fromarray(noise)
        image = image.convert("P") if mode == "P" else image if mode == "PA" else image.convert(mode)
    image.save(path)
    read = Photo.read(path)
    grey = mode in ("1", "L", "LA", "I;16")
    assert read.levels.shape == (size[1], size[0], 1 if grey else 3)
    if mode == "I;16":
        assert (read.levels[..., 0] == np.asarray(image)).all()
        return
    shown = np.asarray(image.convert("RGBA"))
    assert (read.levels == shown[..., : 1 if grey else 3]).all()
    assert (read.alpha is None) == (mode not in ("LA", "PA", "RGBA"))
    assert read.alpha is None or (read.alpha == shown[..., 3]).all()
    assert read.image.size == size
    assert tuple(read.pixels.shape) == (1 if grey else 3, size[1], size[0])


def test_a_palette_of_greys_is_grey_and_its_clear_entry_is_alpha(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 10, 10, 200, 200, 200])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=1)
    read = Photo.read(tmp_path / "a.png")
    assert read.levels.tolist() == [[[10], [200]]]
    assert read.alpha.tolist() == [[255, 0]]


@pytest.mark.parametrize(("mode", "clear"), [("L", 7), ("RGB", (7, 7, 7)), ("I;16", 7)])
def test_a_clear_color_is_alpha_and_stays_beneath_it(tmp_path, mode, clear):
    image = Image.new(mode, (2, 1), clear)
    image.putpixel((1, 0), (9, 9, 9) if mode == "RGB" else 9)
    image.save(tmp_path / "a.png", transparency=clear)
    read = Photo.read(tmp_path / "a.png")
    assert read.levels[..., 0].tolist() == [[7, 9]]
    assert read.alpha.tolist() == [[0, 65535 if mode == "I;16" else 255]]


def test_of_an_animation_the_first_image_is_taken_and_that_is_said(tmp_path):
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue", "lime")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    read = Photo.read(tmp_path / "a.gif")
    assert read.levels[0, 0].tolist() == [255, 0, 0]
    assert read.notes == ("holds 3 images: the first one is taken",)


def test_without_opencv_sixteen_bit_color_is_read_as_eight_and_that_is_said(tmp_path, monkeypatch):
    array = levels(3, 16)
    path = original(array).save(array, tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "cv2", None)
    read = Photo.read(path)
    assert (read.levels == array >> 8).all()  # as Pillow cuts them
    assert "pip install 'scorefield[photos]'" in read.notes[0]


def test_without_pillow_heif_heic_is_refused_by_the_extra_that_reads_it(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"  # whatever its name
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UserError, match=r"a\.jpg: HEIC needs pillow_heif\. Install .*scorefield\[photos\]"):
        Photo.read(path)


# --- what cannot be read -------------------------------------------------------------------------


def bad(tmp_path, name):
    path = tmp_path / name
    good = io.BytesIO()
    Image.fromarray(levels(3, size=(64, 64))).save(good, "PNG")
    match name:
        case "folder":
            path.mkdir()
        case "cut.png":
            path.write_bytes(good.getvalue()[:-2000])
        case "words.png":
            path.write_text("not an image")
        case "empty.jpg":
            path.touch()
        case "cmyk.jpg":
            Image.new("CMYK", (4, 4)).save(path)
        case "float.tif":
            Image.fromarray(np.full((4, 4), 2, np.float32)).save(path)
        case "long.tif":
            Image.fromarray(np.full((4, 4), 70000, np.int32)).save(path)
        case "deep-cut.png":
            array = levels(3, 16, (64, 64))
            original(array).save(array, path)
            path.write_bytes(path.read_bytes()[:-9000])
    return path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.png", "no such file"),
        ("folder", "is a folder, not an image"),
        ("cut.png", "is truncated or damaged"),
        ("deep-cut.png", "is truncated or damaged"),
        ("words.png", "is not an image that can be read"),
        ("empty.jpg", "is not an image that can be read"),
        ("cmyk.jpg", r"is a CMYK image\. Convert it to RGB first"),
        ("float.tif", "float pixels span 2…2; expected 0…1 or 0…255"),
        ("long.tif", "integer pixels span 70000…70000; expected 16 bits"),
    ],
)
def test_what_cannot_be_read_is_reported_in_one_line(tmp_path, name, words):
    with pytest.raises(UserError, match=rf"{name}: {words}") as raised:
        Photo.read(bad(tmp_path, name))
    assert "\n" not in str(raised.value)


def test_too_many_pixels_are_refused_before_any_is_decoded(tmp_path, monkeypatch):
    path = written(tmp_path / "a.png", levels(size=(10, 11)))
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(UserError, match=r"11×10 is more than 0\.000109 million pixels"):
        Photo.read(path, max_pixels=109)


# --- what cannot be written ----------------------------------------------------------------------


def test_what_a_format_cannot_keep_is_reported_and_left_out(tmp_path):
    array = levels(3, 16, (16, 16))
    clear = np.zeros((16, 16), np.uint16)
    source = original(array, clear, exif=bytes(70_000), icc=SRGB)
    assert source.lost("a.png") == ()
    assert source.lost("a.webp") == ("16 bits a channel",)
    assert source.lost("a.jpg") == (
        "16 bits a channel",
        "alpha (it is put on white)",
        "EXIF",
        "each pixel exactly",
    )
    assert "the color profile" in source.lost("a.bmp")
    back = Photo.read(source.save(array, tmp_path / "a.jpg"))
    assert (back.levels == 255).all()
    assert back.exif is None
    assert back.icc == SRGB


@pytest.mark.parametrize("suffix", [".tif", ".png", ".avif"])
def test_degraded_exif_tags_never_keep_an_image_from_being_written(tmp_path, suffix):
    words, ratio = (b"\x01\x0f\x00\x02\x00\x00\x00\x08", b"\x01\x0f\x00\x05\x00\x00\x00\x01")
    assert words in exif().tobytes()
    block = exif().tobytes().replace(words, ratio)  # the maker's name said to be a number
    source = original(smooth(), exif=block[6:])
    assert source.lost(f"a{suffix}")[:1] == (("EXIF",) if suffix == ".avif" else ())
    source.save(source.levels, tmp_path / f"a{suffix}")
    assert Photo.read(tmp_path / f"a{suffix}").levels.shape == (32, 48, 3)


def test_a_profile_of_grey_does_not_go_with_colors_nor_alpha_with_another_size(tmp_path):
    source = original(levels(1), levels(1)[..., 0], icc=GREY_PROFILE)
    colored = Photo.read(source.save(levels(3), tmp_path / "a.png"))
    assert colored.icc is None
    assert (colored.alpha == source.alpha).all()
    larger = Photo.read(source.save(levels(1, size=(10, 14)), tmp_path / "b.png"))
    assert larger.icc == GREY_PROFILE
    assert larger.alpha is None


def test_an_unknown_suffix_or_a_size_beyond_the_format_is_reported_and_nothing_is_left(tmp_path):
    source = original(levels())
    with pytest.raises(UserError, match=r"a\.xyz: cannot write `\.xyz`\. Use one of \.png"):
        source.save(levels(), tmp_path / "a.xyz")
    with pytest.raises(UserError, match=r"a\.webp: "):
        source.save(np.zeros((1, 20000, 3), np.uint8), tmp_path / "a.webp")
    assert list(tmp_path.iterdir()) == []


# --- images in memory ----------------------------------------------------------------------------

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_array_and_a_tensor_are_the_same_photo(channels, dtype):
    array = PIXELS[..., :channels].astype(dtype) * (257 if dtype is np.uint16 else 1)
    for photo in (as_photo(array), as_photo(torch.from_numpy(array.transpose(2, 0, 1).copy()))):
        colors = 1 if channels < 3 else 3
        assert np.array_equal(photo.levels, array[..., :colors]) and photo.levels.dtype == dtype
        assert (photo.alpha is None) == (channels in (1, 3))
        assert photo.alpha is None or np.array_equal(photo.alpha, array[..., colors])
    assert np.array_equal(as_photo(array[..., 0]).levels, array[..., :1])


@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_are_read_in_the_stated_range(value_range, dtype):
    low, high = value_range
    array = (low + (high - low) * PIXELS[..., :3].astype(dtype) / 255).astype(dtype)
    for image in (array, torch.from_numpy(array).permute(2, 0, 1)):
        assert np.array_equal(as_photo(image, value_range=value_range).levels, PIXELS[..., :3])
        with pytest.raises(UserError, match=r"without a range\. Pass sf\.as_photo\(x, value_range=\(0, 1\)\)"):
            as_photo(image)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "I", "I;16"])
def test_every_mode_of_pillow_is_read_as_its_file_is(tmp_path, mode):
    image = Image.fromarray(PIXELS[..., 0])
    if mode in ("I", "I;16"):
        image = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 200)
        image = image.convert("I") if mode == "I" else image
    else:
        image = image.convert("RGBA" if mode == "PA" else mode).convert(mode)
    photo = as_photo(image)
    assert photo.levels.shape[:2] == (5, 7) and photo.sha256 == ""
    if mode != "PA":  # which no file holds
        path = tmp_path / ("a.tif" if mode == "I" else "a.png")
        image.save(path)
        assert np.array_equal(photo.levels, Photo.read(path).levels)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((3, 5, 7), np.uint8), r"shape of \(3, 5, 7\).*\(H, W, C\)"),
        (torch.zeros(5, 7, 3, dtype=torch.uint8), r"shape of \(5, 7, 3\).*\(C, H, W\)"),
        (torch.zeros(1, 3, 5, 7, dtype=torch.uint8), "is not one of an image"),
        (np.zeros((5, 7), np.int64), "int64 is not a type of pixels"),
        (np.zeros((5, 7), bool), "bool is not a type of pixels"),
        (Image.new("CMYK", (5, 7)), "CMYK"),
        (Image.new("LAB", (5, 7)), "CIELab"),
        (np.ma.masked_array(np.zeros((5, 7), np.uint8), True), "masked"),
        (torch.zeros(5, 7).to_sparse(), "sparse"),
        (Image.new("F", (5, 7)), "float pixels without a range"),
    ],
)
def test_other_images_are_refused(image, words):
    with pytest.raises(UserError, match=words):
        as_photo(image)


def test_a_wrong_range_is_noticed():
    with pytest.raises(UserError, match=r"its values span 0…200, not -1…1\. Check value_range"):
        as_photo(np.array([[0.0, 200.0]]), value_range=(-1, 1))
    with pytest.raises(UserError, match="its values span nan"):
        as_photo(np.array([[0.0, np.nan]]), value_range=(-1, 1))


def test_the_byte_order_of_an_array_does_not_matter():
    array = levels(3, 16)
    photo = as_photo(array.astype(">u2"))
    assert photo.levels.dtype == np.uint16
    assert (photo.levels == array).all()


# --- images of JPEG files that were changed ------------------------------------------------------


def put(image):
    image.putpixel((3, 3), (1, 2, 3))


def pasted(image):
    image.paste("red", (0, 0, 8, 8))


def turned(image):
    image.getexif()[0x0112] = 3
    ImageOps.exif_transpose(image, in_place=True)


def stretched(image):
    image.load()
    image.im = image.im.resize(image.size, Image.Resampling.BILINEAR, (0, 0, 24, 24))


CHANGES = {
    "thumbnail": lambda image: image.thumbnail((24, 16)),
    "draft": lambda image: image.draft("RGB", (24, 16)),
    "draft and load": lambda image: (image.draft("RGB", (24, 16)), image.load()),
    "exif_transpose": turned,
    "putpixel": put,
    "paste": pasted,
    "resize": stretched,
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("from_memory", [False, True])
def test_an_image_that_was_changed_has_no_jpeg_header(tmp_path, name, from_memory):
    path = written(tmp_path / "a.jpg", smooth(), quality=60)
    image = Image.open(io.BytesIO(path.read_bytes()) if from_memory else path)
    CHANGES[name](image)
    assert as_photo(image).jpeg is None


@pytest.mark.parametrize("prepare", [lambda _: None, Image.Image.load, lambda image: image.draft("RGB", image.size)])
def test_an_image_with_the_pixels_of_its_jpeg_file_has_the_header(tmp_path, prepare):
    path = written(tmp_path / "a.jpg", smooth(), quality=60, exif=exif(6).tobytes())
    image = Image.open(path)
    prepare(image)
    photo, file = as_photo(image), Photo.read(path)
    assert photo.jpeg == file.jpeg
    assert np.array_equal(photo.levels, file.levels)


def test_an_image_that_is_opened_in_memory_and_not_decoded_has_the_header(tmp_path):
    path = written(tmp_path / "a.jpg", smooth(), quality=60)
    content = io.BytesIO(path.read_bytes())
    assert as_photo(Image.open(content)).jpeg == Photo.read(path).jpeg


def test_an_image_whose_file_was_replaced_or_removed_has_no_jpeg_header(tmp_path):
    path = written(tmp_path / "a.jpg", smooth(), quality=60)
    image = Image.open(path)
    image.load()
    written(path, smooth()[::-1], quality=60)
    assert as_photo(image).jpeg is None
    path.unlink()
    assert as_photo(image).jpeg is None
