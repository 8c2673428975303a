"""Colors by a file's own profile: what LittleCMS makes of CMYK, and the closed form of a tone curve for grey."""

import io
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from data.profiles import CORNERS, cmyk_profile, grey_profile, ink_lab
from scorefield.data.color import lab_to_srgb
from scorefield.data.image import read_image
from scorefield.data.metadata import Metadata
from scorefield.data.photo import Photo, as_photo
from scorefield.errors import UserError

INKS = np.random.default_rng(0).integers(0, 256, (16, 24, 4), dtype=np.uint8)


def littlecms(inks, icc):
    """sRGB (H, W, 3) of CMYK, by LittleCMS itself, perceptual as the file's profile has one table."""
    image = Image.frombytes("CMYK", inks.shape[1::-1], inks.tobytes())
    source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    made = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), "CMYK", "RGB")
    return np.asarray(ImageCms.applyTransform(image, made))


def cmyk_file(path, inks, icc, kind):
    """A file of these inks: 255 is full ink."""
    image = Image.frombytes("CMYK", inks.shape[1::-1], inks.tobytes())
    extra = [] if icc is None else [(34675, 7, len(icc), icc)]
    if kind.startswith("jpeg"):
        image.save(path, "JPEG", quality=100, subsampling=0, icc_profile=icc)
        content = path.read_bytes()
        at = content.find(b"\xff\xee\0\x0eAdobe")
        if kind == "jpeg without Adobe's marker" and at >= 0:
            path.write_bytes(content[:at] + content[at + 16 :])
        elif kind == "jpeg with Adobe's marker" and at < 0:
            path.write_bytes(content[:2] + b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0" + content[2:])
    elif kind == "tiff by Pillow":
        image.save(path, "TIFF", compression="jpeg", quality=100, icc_profile=icc)
    else:
        deep = inks * np.uint16(257) if kind == "tiff of 16 bits" else inks
        options = {"planarconfig": "separate"} if kind == "tiff of planes" else {}
        deep = np.ascontiguousarray(deep.transpose(2, 0, 1)) if options else deep
        tifffile.imwrite(path, deep, photometric="separated", metadata=None, extratags=extra, **options)
    return path


KINDS = {
    "jpeg with Adobe's marker": 3,  # levels: the loss of a JPEG of quality 100, in four channels
    "jpeg without Adobe's marker": 3,
    "tiff": 1,
    "tiff of 16 bits": 1,
    "tiff of planes": 1,
    "tiff by Pillow": 3,
}


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("kind", KINDS)
def test_cmyk_has_the_colors_that_littlecms_gives_to_its_profile(tmp_path, kind, depth):
    icc = cmyk_profile(depth)
    y, x = np.mgrid[:16, :24]
    inks = np.stack([y * 12, x * 9, 100 + y + x, 3 * y + x], 2).astype(np.uint8) if KINDS[kind] > 1 else INKS
    path = cmyk_file(tmp_path / "print", inks, icc, kind)
    photo, expected = Photo.read(path), littlecms(inks, icc).astype(int)
    assert np.abs(photo.levels.astype(int) - expected).max() <= KINDS[kind]
    assert np.array_equal(np.asarray(read_image(path)), photo.levels)
    assert photo.icc is None  # they are sRGB now
    assert "CMYK is converted to sRGB by its color profile" in photo.notes


@pytest.mark.parametrize("depth", [8, 16])
def test_the_corners_of_cmyk_have_the_colors_of_the_profiles_table(tmp_path, depth):
    """Where all inks are 0 or 255 the table gives Lab itself, and Lab has a closed form."""
    inks = (255 * CORNERS).astype(np.uint8)[None]
    lab = ink_lab(CORNERS)
    stored = np.rint(np.stack([655.35 * lab[:, 0], *(257 * (lab[:, i] + 128) for i in (1, 2))], 1))
    expected = np.rint(lab_to_srgb(stored.astype(np.uint16)[None], signed=False) / 257)
    photo = Photo.read(cmyk_file(tmp_path / "print.tif", inks, cmyk_profile(depth), "tiff"))
    tolerance = 3 if depth == 8 else 1  # a table of 8 bits has steps of 1 in a and b, up to 2.5 levels of dark sRGB
    assert np.abs(photo.levels - expected).max() <= tolerance
    assert photo.levels[0, 0].tolist() == [255, 255, 255]  # paper
    assert photo.levels[0, 1].max() == 0  # full black


def test_an_image_of_cmyk_in_memory_goes_the_same_way():
    image = Image.frombytes("CMYK", (24, 16), INKS.tobytes())
    image.info["icc_profile"] = cmyk_profile()
    assert np.abs(as_photo(image).levels.astype(int) - littlecms(INKS, cmyk_profile())).max() <= 1


@pytest.mark.parametrize("profile", ["none", "of grey", "cut", "of no sense"])
@pytest.mark.parametrize("kind", KINDS)
def test_cmyk_whose_profile_says_nothing_is_refused(tmp_path, kind, profile):
    icc = {
        "none": None,
        "of grey": grey_profile(2.2),
        "cut": cmyk_profile()[:200],
        "of no sense": cmyk_profile()[:128] + bytes(400),
    }[profile]
    path = cmyk_file(tmp_path / "print", INKS, icc, kind)
    for read in (Photo.read, read_image):
        with pytest.raises(UserError, match="is a CMYK image") as raised:
            read(path)
        assert "\n" not in str(raised.value)


# --- grey ----------------------------------------------------------------------------------------


def dot_gain(v):
    """The tone of print that spreads by 20 % at half coverage: a = 1 − v, a + 0.2 · 4 a (1 − a) of the paper is ink."""
    a = 1 - v
    return np.clip(1 - a - 0.8 * a * (1 - a), 0, 1)


CURVES = {
    "gamma 1": (1.0, lambda v: v),
    "gamma 2.2": (563 / 256, lambda v: v ** (563 / 256)),  # as it is stored
    "print": (dot_gain, dot_gain),
}


def shown(linear):
    """sRGB's encoding, IEC 61966-2-1, 0…1."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("name", CURVES)
def test_grey_by_a_profile_becomes_srgb_by_its_tone_curve(tmp_path, name, suffix, deep):
    made_of, curve = CURVES[name]
    top = 65535 if deep else 255
    levels = np.arange(0, top + 1, 257 if deep else 1)[None, :, None].astype(np.uint16 if deep else np.uint8)
    source = as_photo(levels)
    icc = grey_profile(made_of)
    path = replace(source, metadata=Metadata(icc=icc)).save(levels, tmp_path / f"a{suffix}")
    photo = Photo.read(path)
    assert (photo.levels == levels).all() and photo.icc == icc
    converted = photo.in_srgb_grey()
    expected = 255 * shown(curve(levels / top))
    assert np.abs(converted.levels * (255 / top) - expected).max() <= 1  # one level of 8 bits
    assert converted.icc is None
    assert converted.notes[-1] == "grey is converted to sRGB by its color profile"
    assert converted.in_srgb_grey() is converted


def test_a_profile_of_color_or_of_no_sense_converts_no_grey():
    levels = np.arange(256, dtype=np.uint8)[None, :, None]
    plain = as_photo(levels)
    assert plain.in_srgb_grey() is plain
    broken = replace(plain, metadata=Metadata(icc=grey_profile(2.2)[:150]))
    assert (broken.in_srgb_grey().levels == levels).all()
