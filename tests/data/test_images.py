import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from scorefield.data.image import fit, read_image, to_float, to_pil, to_tensor, to_uint8
from scorefield.errors import UserError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def saved(path, image, **options):
    image.save(path, **options)
    return path


def halves(left=RED, right=BLUE, size=(8, 4)):
    image = Image.new("RGB", size, left)
    image.paste(right, (size[0] // 2, 0, *size))
    return image


# --- modes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("orientation", "corner"),
    list(enumerate(2 * ["top left", "top right", "bottom right", "bottom left"], start=1)),
)
def test_exif_orientation_puts_the_first_corner_where_the_standard_says(tmp_path, orientation, corner):
    # Exif 2.3, tag 0x0112: where the stored row 0, column 0 belongs; 5 to 8 exchange the axes.
    image = Image.new("RGB", (8, 4))
    image.putpixel((0, 0), RED)
    exif = Image.Exif()
    exif[0x0112] = orientation
    read = read_image(saved(tmp_path / "a.png", image, exif=exif))
    assert read.size == ((8, 4) if orientation < 5 else (4, 8))
    at = {"left": 0, "right": read.width - 1}, {"top": 0, "bottom": read.height - 1}
    vertical, horizontal = corner.split()
    assert read.getpixel((at[0][horizontal], at[1][vertical])) == RED


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    levels = np.array([[0, 257, 128 * 257, 65535, 128, 129]], np.uint16)
    read = read_image(saved(tmp_path / "deep.png", Image.fromarray(levels)))
    assert read.mode == "L"
    assert np.asarray(read).tolist() == [[0, 1, 128, 255, 0, 1]]  # 128/257 < ½ < 129/257


def test_thirty_two_bit_integers_count_as_sixteen_bits_or_are_refused(tmp_path):
    deep = saved(tmp_path / "deep.tif", Image.fromarray(np.array([[0, 65535]], np.int32)))
    assert np.asarray(read_image(deep)).tolist() == [[0, 255]]
    beyond = saved(tmp_path / "beyond.tif", Image.fromarray(np.array([[0, 70000]], np.int32)))
    with pytest.raises(UserError, match=r"beyond\.tif: integer pixels span 0…70000; expected 16 bits"):
        read_image(beyond)


def test_float_pixels_are_unit_or_byte_scaled_and_others_are_refused(tmp_path):
    def of(values):
        return saved(tmp_path / "f.tif", Image.fromarray(np.array([values], np.float32)))

    assert np.asarray(read_image(of([0, 0.5, 1]))).tolist() == [[0, 128, 255]]
    assert np.asarray(read_image(of([0, 7.6, 255]))).tolist() == [[0, 8, 255]]
    for wrong in ([-1, 1], [0, 256], [0, np.nan]):
        with pytest.raises(UserError, match="float pixels span"):
            read_image(of(wrong))


@pytest.mark.parametrize("suffix", [".tif", ".jpg"])
def test_cmyk_without_a_profile_has_no_colors_and_is_refused(tmp_path, suffix):
    path = saved(tmp_path / f"print{suffix}", Image.new("CMYK", (4, 4), (255, 0, 0, 0)))
    with pytest.raises(UserError, match="CMYK"):
        read_image(path)


def test_a_colour_palette_becomes_rgb_and_a_grey_one_grey(tmp_path):
    colour = halves().quantize(4)
    assert np.array_equal(np.asarray(read_image(saved(tmp_path / "c.png", colour))), np.asarray(halves()))
    grey = Image.new("P", (2, 1))
    grey.putpalette([200, 200, 200, 10, 10, 10])
    grey.putpixel((1, 0), 1)
    read = read_image(saved(tmp_path / "g.png", grey))
    assert (read.mode, np.asarray(read).tolist()) == ("L", [[200, 10]])


def test_alpha_is_composited_on_white(tmp_path):
    image = Image.new("RGBA", (2, 1), (0, 100, 200, 0))
    image.putpixel((1, 0), (0, 100, 200, 51))  # α = 1/5
    read = read_image(saved(tmp_path / "a.png", image))
    assert read.mode == "RGB"
    assert read.getpixel((0, 0)) == (255, 255, 255)
    assert read.getpixel((1, 0)) == pytest.approx((204, 224, 244), abs=1)


def test_grey_with_alpha_stays_grey_on_white(tmp_path):
    image = Image.new("LA", (2, 1), (0, 0))
    image.putpixel((1, 0), (0, 255))
    read = read_image(saved(tmp_path / "a.png", image))
    assert (read.mode, np.asarray(read).tolist()) == ("L", [[255, 0]])


def test_a_transparent_palette_entry_is_white(tmp_path):
    path = saved(tmp_path / "t.gif", halves().quantize(2), transparency=halves().quantize(2).getpixel((0, 0)))
    read = read_image(path)
    assert (read.getpixel((0, 0)), read.getpixel((7, 0))) == ((255, 255, 255), BLUE)


def test_one_bit_becomes_black_and_white(tmp_path):
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    read = read_image(saved(tmp_path / "b.png", image))
    assert (read.mode, np.asarray(read).tolist()) == ("L", [[0, 255]])


def test_of_an_animation_the_first_frame_is_read(tmp_path):
    frames = [Image.new("RGB", (4, 4), c) for c in (RED, BLUE)]
    path = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert read_image(path).convert("RGB").getpixel((0, 0)) == RED


def test_a_jpeg_decoded_small_looks_as_one_decoded_whole(tmp_path):
    y, x = np.mgrid[:512, :640]
    smooth = Image.fromarray(np.stack([x % 256, y // 2, (x + y) // 5], -1).astype(np.uint8))
    path = saved(tmp_path / "big.jpg", smooth, quality=95)
    small = read_image(path, at_least=(32, 32))
    assert small.width < 640
    difference = np.abs(np.asarray(fit(small, (32, 32), 3), float) - np.asarray(fit(smooth, (32, 32), 3)))
    assert difference.mean() < 2  # of 255


# --- bad files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "bmp", "tif"])
def test_a_truncated_file_is_reported_with_its_name(tmp_path, kind):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    path = saved(tmp_path / f"half.{kind}", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=rf"half\.{kind}: is .*(truncated|degraded)") as raised:
        read_image(path)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_image_is_reported(tmp_path):
    (tmp_path / "notes.png").write_text("not an image")
    with pytest.raises(UserError, match=r"notes\.png: is not an image that can be read"):
        read_image(tmp_path / "notes.png")


def test_a_missing_file_and_a_folder_are_reported(tmp_path):
    with pytest.raises(UserError, match=r"none\.png: no such file\.$"):
        read_image(tmp_path / "none.png")
    with pytest.raises(UserError, match=r"is a folder, not an image\.$"):
        read_image(tmp_path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused_from_its_header(tmp_path, monkeypatch):
    bomb = saved(tmp_path / "bomb.png", Image.new("1", (11_000, 10_000)))
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(UserError, match=r"bomb\.png: 11000×10000 is more than 100 million pixels"):
        read_image(bomb)


def test_a_bomb_beyond_pillows_own_bound_is_the_same_kind_of_error(tmp_path):
    bomb = saved(tmp_path / "bomb.png", Image.new("1", (20_000, 9_500)))
    with pytest.raises(UserError, match=r"bomb\.png: has far too many pixels"):
        read_image(bomb)


# --- fit and tensors -----------------------------------------------------------------------------


def test_fit_cuts_the_centre_to_the_aspect():
    image = Image.new("RGB", (30, 10), RED)
    image.paste(GREEN, (10, 0, 20, 10))
    assert np.array_equal(np.asarray(fit(image, (10, 10), 3)), np.full((10, 10, 3), GREEN))
    tall = image.transpose(Image.Transpose.ROTATE_90)
    assert np.array_equal(np.asarray(fit(tall, (10, 10), 3)), np.full((10, 10, 3), GREEN))


def test_fit_keeps_the_mean_of_a_fine_pattern_so_it_is_antialiased():
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    reduced = np.asarray(fit(Image.fromarray(stripes), (8, 8), 1), float)
    assert np.abs(reduced - 127.5).max() < 4  # nearest neighbour gives 0 or 255


def test_fit_leaves_an_image_of_the_right_size_alone():
    image = halves(size=(6, 4))
    assert np.array_equal(np.asarray(fit(image, (4, 6), 3)), np.asarray(image))


def test_fit_converts_between_grey_and_rgb_by_luma():
    assert fit(Image.new("RGB", (1, 1), RED), (1, 1), 1).getpixel((0, 0)) == 76  # 0.299 · 255
    assert fit(Image.new("L", (1, 1), 90), (1, 1), 3).getpixel((0, 0)) == (90, 90, 90)
    with pytest.raises(UserError, match="channels: 2 is not possible"):
        fit(Image.new("L", (1, 1)), (1, 1), 2)


@pytest.mark.parametrize("channels", [1, 3])
def test_tensor_and_image_invert_each_other(channels):
    pixels = torch.randint(256, (channels, 5, 7), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    assert torch.equal(to_tensor(to_pil(pixels)), pixels)


def test_tensor_axes_are_channel_row_column():
    pixels = to_tensor(halves(size=(8, 4)))
    assert pixels.shape == (3, 4, 8)
    assert pixels[:, 0, 0].tolist() == list(RED)
    assert pixels[:, 3, 7].tolist() == list(BLUE)


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0), (-0.5, 2.0)])
def test_floats_and_bytes_invert_each_other_on_every_value(value_range):
    levels = torch.arange(256, dtype=torch.uint8)
    floats = to_float(levels, value_range)
    assert floats.dtype == torch.float32
    assert (floats[0].item(), floats[-1].item()) == pytest.approx(value_range, abs=1e-6)
    assert torch.equal(to_uint8(floats, value_range), levels)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.sampled_from([(0.0, 1.0), (-1.0, 1.0)]))
def test_any_float_becomes_its_nearest_byte(value, value_range):
    level = to_uint8(torch.tensor([value]), value_range).item()
    low, high = value_range
    clamped = min(max(value, low), high)
    assert abs(level - 255 * (clamped - low) / (high - low)) <= 0.5 + 1e-4


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_no_pixel_stands_for_a_value_that_is_not_finite(value):
    with pytest.raises(FloatingPointError, match="not finite"):
        to_uint8(torch.tensor([0.5, value]), (0.0, 1.0))
