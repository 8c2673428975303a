"""JPEG in tensors against Pillow's encoder and decoder, and the distributions it keeps."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from oracles import seeded
from scorefield.data.datasets import open_images
from scorefield.data.image import fit, read_image, to_float, to_pil, to_tensor, to_uint8
from scorefield.data.photo import Photo
from scorefield.degradations import JPEG, Blur, Rotated, adjoint, jpeg_operator, nearest_quality
from scorefield.degradations.jpeg import standard_tables
from scorefield.errors import UserError

PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "photos" / "test"
SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")


def image(channels=3, size=64, seed=0):
    """A smooth colored image, uint8 (C, H, W)."""
    x = Blur(std=3.0)(torch.randn(1, channels, size, size, generator=seeded(seed)))[0]
    return to_uint8(0.6 * x / x.abs().max() + 0.1, (-1.0, 1.0))


def pillow(pixels, quality, subsampling):
    """What Pillow makes of the pixels, uint8 (C, H, W)."""
    buffer, image = io.BytesIO(), to_pil(pixels)
    if pixels.shape[0] == 1:
        image.save(buffer, "JPEG", quality=quality)
    else:
        image.save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    with Image.open(buffer) as back:
        return to_tensor(back)


def difference(pixels, quality, subsampling):
    mine = JPEG(quality=quality, subsampling=subsampling)(to_float(pixels, (-1.0, 1.0))[None])[0]
    return float((to_uint8(mine, (-1.0, 1.0)).float() - pillow(pixels, quality, subsampling)).abs().mean())


@pytest.mark.parametrize("quality", [1, 10, 50, 75, 95])
def test_the_tables_are_those_that_pillow_writes(quality):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        written = image.quantization
    assert standard_tables(quality) == (tuple(written[0]), tuple(written[1]))


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("quality", [5, 30, 90])
def test_a_smooth_image_is_what_pillow_makes_of_it(quality, subsampling):
    # measured 0.2 to 0.7 of 255 levels, and up to 2.1 where the decoder smooths the chroma that it enlarges
    assert difference(image(), quality, subsampling) < (1 if subsampling == "4:4:4" else 2.5)


@pytest.mark.parametrize("quality", [5, 30, 90])
def test_a_grey_image_is_what_pillow_makes_of_it_almost_to_the_byte(quality):
    assert difference(image(1), quality, "4:4:4") < 0.3  # measured 0.02 to 0.2
    # of one channel alone: sides that are no whole blocks are continued as libjpeg continues them
    assert difference(image(1)[:, :27, :45], quality, "4:4:4") < 0.3


def test_clothes_are_what_pillow_makes_of_them():
    pixels = open_images("fashion", split="test").images[:50]
    levels = [difference(one, 10, "4:4:4") for one in pixels]
    assert sum(levels) / len(levels) < 0.3


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="no photographs here")
@pytest.mark.parametrize(("subsampling", "bound"), [("4:4:4", 1.2), ("4:2:0", 2.2)])
def test_photographs_are_what_pillow_makes_of_them(subsampling, bound):
    photos = [to_tensor(fit(read_image(path), (128, 128), 3)) for path in sorted(PHOTOS.glob("*.webp"))[:8]]
    levels = [difference(one, quality, subsampling) for one in photos for quality in (5, 30, 75)]
    assert sum(levels) / len(levels) < bound  # measured 0.86 and 1.75 at this small size


@settings(max_examples=20)
@given(
    st.integers(1, 100),
    st.sampled_from(SUBSAMPLINGS),
    st.sampled_from([1, 3]),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([(-1.0, 1.0), (0.0, 1.0)]),
)
def test_twice_is_once_where_the_sides_are_whole_blocks(quality, subsampling, channels, rows, columns, values):
    low, high = values
    x = low + (high - low) * torch.rand(2, channels, 16 * rows, 16 * columns, generator=seeded(quality))
    degradation = JPEG(quality=quality, subsampling=subsampling, value_range=values)
    y = degradation(x)
    assert y.shape == x.shape
    assert float((degradation(degradation.pinv(y)) - y).abs().max()) < 1e-4 * (high - low)
    assert not torch.allclose(y, x, atol=1e-3)


def test_blocks_over_the_edge_come_back_nearly():
    pixels = to_float(image(size=32)[:, :28, :28], (-1.0, 1.0))[None]
    degradation = JPEG(quality=20)
    y = degradation(pixels)
    assert float((degradation(y) - y).abs().mean()) * 127.5 < 2  # measured 0.6 levels


def test_the_value_range_says_where_black_and_white_are():
    x = torch.rand(1, 3, 16, 16, generator=seeded())
    around = JPEG(quality=20)(2 * x - 1)
    above = JPEG(quality=20, value_range=(0.0, 1.0))(x)
    torch.testing.assert_close(around, 2 * above - 1, atol=1e-4, rtol=0)


def test_gradients_pass_straight_through_the_rounding():
    # what is left of A without its rounding averages chroma: a projector that is the identity on grey
    x, v = torch.randn(2, 1, 3, 16, 16, generator=seeded())
    for subsampling in SUBSAMPLINGS:
        back = adjoint(JPEG(quality=5, subsampling=subsampling), x, v)
        again = adjoint(JPEG(quality=90, subsampling=subsampling), 0 * x, v)
        torch.testing.assert_close(back, again, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(adjoint(JPEG(quality=5, subsampling="4:4:4"), x, v), v, atol=1e-4, rtol=1e-4)
    grey = v[:, :1]
    torch.testing.assert_close(adjoint(JPEG(quality=5), x[:, :1], grey), grey, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(adjoint(JPEG(quality=5), x, v), v, atol=0.1)


def read_jpeg(path, value_range=(-1.0, 1.0)):
    photo = Photo.read(path)
    return jpeg_operator(photo.jpeg, path, value_range)


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", [3, 10, 75, 100])
@pytest.mark.parametrize(("number", "subsampling"), list(enumerate(SUBSAMPLINGS)))
def test_a_file_reveals_its_settings(tmp_path, quality, number, subsampling):
    path = tmp_path / "p.jpg"
    to_pil(image()).save(path, quality=quality, subsampling=number)
    assert read_jpeg(path) == JPEG(quality=quality, subsampling=subsampling)
    to_pil(image(1)).save(path, quality=quality)
    assert read_jpeg(path, (0.0, 1.0)) == JPEG(quality=quality, subsampling="4:4:4", value_range=(0.0, 1.0))


def test_tables_of_ones_own_are_read_from_the_file_and_used(tmp_path):
    own = [[7] * 64, [30] * 64]
    to_pil(image()).save(tmp_path / "p.jpg", qtables=own, subsampling=0)
    read = read_jpeg(tmp_path / "p.jpg")
    assert read.tables == (tuple(own[0]), tuple(own[1]))
    pixels, back = image(), to_tensor(read_image(tmp_path / "p.jpg"))
    mine = to_uint8(read(to_float(pixels, (-1.0, 1.0))[None])[0], (-1.0, 1.0))
    assert float((mine.float() - back).abs().mean()) < 1.2


def test_a_decoded_file_is_brought_onto_what_the_operator_gives(tmp_path):
    pixels = image()
    to_pil(pixels).save(tmp_path / "p.jpg", quality=10)
    degradation, x = read_jpeg(tmp_path / "p.jpg"), to_float(pixels, (-1.0, 1.0))[None]
    snapped = degradation(to_float(to_tensor(read_image(tmp_path / "p.jpg")), (-1.0, 1.0))[None])
    assert float((snapped - degradation(x)).abs().mean()) * 127.5 < 0.6  # measured 0.3 levels


def test_an_image_that_is_stored_rotated_was_degraded_so(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    to_pil(image()[:, :37, :58]).save(tmp_path / "p.jpg", quality=10, exif=exif)
    degradation = read_jpeg(tmp_path / "p.jpg")
    assert degradation == Rotated(degradation=JPEG(quality=10), orientation=6)
    back = to_float(to_tensor(read_image(tmp_path / "p.jpg")), (-1.0, 1.0))[None]
    assert back.shape[-2:] == (58, 37)
    near, far = (float((a(back) - back).abs().mean()) for a in (degradation, JPEG(quality=10)))
    assert near < 0.6 * far  # along the blocks as they lie


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: JPEG(quality=0), "1 to 100, got 0"),
        (lambda: JPEG(quality=101), "1 to 100"),
        (lambda: JPEG(subsampling="4:2:1"), "no such subsampling '4:2:1'"),
        (lambda: JPEG(tables=((1,) * 63, (1,) * 64)), "64 numbers"),
        (lambda: JPEG(tables=((0,) * 64, (1,) * 64)), "1 or more"),
        (lambda: JPEG()(torch.zeros(1, 2, 8, 8)), "1 or 3 channels"),
    ],
)
def test_mistakes_are_reported(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_files_of_other_kinds_have_no_header_of_jpeg(tmp_path):
    to_pil(image()).save(tmp_path / "p.png")
    assert Photo.read(tmp_path / "p.png").jpeg is None


def test_a_file_whose_tables_are_of_no_standard_has_one_nearest_quality(tmp_path):
    luma, chroma = standard_tables(76)[0], standard_tables(54)[1]  # other programs' ratio of luma to chroma
    to_pil(image()).save(tmp_path / "p.jpg", qtables=[list(luma), list(chroma)], subsampling=0)
    quality = nearest_quality(Photo.read(tmp_path / "p.jpg").jpeg)
    apart = {q: np.abs(np.subtract(standard_tables(q), (luma, chroma))).sum() for q in range(1, 101)}
    assert apart[quality] == min(apart.values())
    assert read_jpeg(tmp_path / "p.jpg").quality == quality
