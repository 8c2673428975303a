"""Masks as people give them: transparency, names and seeds, and a preview."""

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageFilter

from oracles import seeded
from scorefield.degradations import (
    MASKS,
    Brush,
    Identity,
    Scratched,
    Scratches,
    alpha_mask,
    array_mask,
    color_mask,
    grown_mask,
    mask_preview,
    named_mask,
    parse_degradation,
    read_mask,
)
from scorefield.errors import UserError

HOLE = np.array([[1, 0, 0], [0, 1, 1]], np.uint8)
RANGE = (-1.0, 1.0)


def layered(path, colors, alpha, mode="RGBA", **options):
    """A file with colors (one grey level for each pixel) and transparency."""
    grey = np.broadcast_to(np.asarray(colors, np.uint8), alpha.shape)
    array = np.stack([grey, grey, grey, alpha.astype(np.uint8)], -1)
    Image.fromarray(array).convert(mode).save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("color", [0, 90])
def test_in_a_sheet_of_one_color_the_holes_are_filled(tmp_path, mode, color):
    path = layered(tmp_path / "m.png", color, 255 * (1 - HOLE), mode)
    assert read_mask(path, (2, 3)).mask[0, 0].tolist() == HOLE.tolist()
    assert read_mask(path, (2, 3), invert=True).mask[0, 0].tolist() == (1 - HOLE).tolist()


def strokes(size=(40, 60)):
    fill = np.zeros(size, np.uint8)
    fill[10:14, 5:50] = 1
    return fill


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
@pytest.mark.parametrize("color", [(255, 255, 255), (255, 0, 0), (90, 90, 90)])
def test_of_strokes_on_a_transparent_layer_what_is_painted_is_filled(tmp_path, suffix, color):
    fill = strokes()
    under = np.broadcast_to(np.uint8(color), (*fill.shape, 3))
    path = tmp_path / f"m.{suffix}"
    Image.fromarray(np.dstack([under, 255 * fill])).save(path, **({"lossless": True} if suffix == "webp" else {}))
    assert (read_mask(path, fill.shape).mask[0, 0].numpy() == fill).all()


def test_of_an_image_with_an_erased_hole_the_hole_is_filled(tmp_path):
    fill = strokes()
    colors = np.random.default_rng(0).integers(0, 256, (*fill.shape, 3)).astype(np.uint8)
    Image.fromarray(np.dstack([colors, 255 * (1 - fill)])).save(tmp_path / "m.png")
    assert (read_mask(tmp_path / "m.png", fill.shape).mask[0, 0].numpy() == fill).all()


def unclear(kind):
    fill, rng = strokes(), np.random.default_rng(0)
    photo = rng.integers(0, 256, (*fill.shape, 3)).astype(np.uint8)
    match kind:
        case "photograph":
            return photo
        case "photograph with a white hole":
            return np.where(fill[..., None] > 0, 255, photo).astype(np.uint8)
        case "red strokes on white":
            return np.where(fill[..., None] > 0, np.uint8([255, 0, 0]), np.uint8(255))
        case "red strokes on a photograph":
            return np.where(fill[..., None] > 0, np.uint8([255, 0, 0]), photo)
        case "black strokes on a layer":
            return np.dstack([0 * photo, 255 * fill])
        case _:  # strokes of several colors on a layer
            return np.dstack([photo, 255 * fill])


@pytest.mark.parametrize(
    "kind",
    [
        "photograph",
        "photograph with a white hole",
        "red strokes on white",
        "red strokes on a photograph",
        "black strokes on a layer",
        "colors on a layer",
    ],
)
def test_what_may_mean_either_or_is_no_mask_is_refused_with_what_to_do(tmp_path, kind):
    Image.fromarray(unclear(kind)).save(tmp_path / "m.png")
    with pytest.raises(UserError, match="filled white"):
        read_mask(tmp_path / "m.png", (40, 60))


@pytest.mark.parametrize("kind", ["zeros and ones", "jpeg", "16 bits", "palette", "1 bit", "soft", "white is zero"])
def test_white_is_filled_in_every_kind_of_mask_file(tmp_path, kind):
    fill = strokes()
    path = tmp_path / ("m.jpg" if kind == "jpeg" else "m.tif" if kind == "white is zero" else "m.png")
    match kind:
        case "zeros and ones":
            Image.fromarray(fill).save(path)
        case "16 bits":
            Image.fromarray(fill * np.uint16(65535)).save(path)
        case "palette":
            image = Image.fromarray(1 - fill, "P")
            image.putpalette([255, 255, 255, 0, 0, 0])
            image.save(path)
        case "1 bit":
            Image.fromarray(255 * fill).convert("1").save(path)
        case "soft":
            Image.fromarray(255 * fill).filter(ImageFilter.BoxBlur(1)).save(path)
        case "white is zero":
            tifffile.imwrite(path, 255 * (1 - fill), photometric="miniswhite")
        case _:
            Image.fromarray(255 * fill).save(path, quality=75)
    wrong = read_mask(path, fill.shape).mask[0, 0].numpy() != fill
    assert wrong.sum() == (4 if kind == "soft" else 0)  # blur rounds the four corners off


def test_what_was_painted_in_a_color_is_filled(tmp_path):
    fill = strokes()
    photo = np.random.default_rng(0).integers(0, 200, (*fill.shape, 3)).astype(np.uint8)
    Image.fromarray(np.where(fill[..., None] > 0, np.uint8([255, 0, 255]), photo)).save(tmp_path / "p.png")
    made = named_mask("#fF00ff", fill.shape, image=tmp_path / "p.png")
    assert (made.mask[0, 0].numpy() == fill).all()
    with pytest.raises(UserError, match="no pixel has the color #00ff00"):
        color_mask(tmp_path / "p.png", "#00ff00")


@pytest.mark.parametrize("pixels", [0, 1, 3, 100])
def test_a_mask_grows_to_all_sides(pixels):
    fill = np.zeros((20, 30), bool)
    fill[5, 7] = fill[19, 29] = True
    y, x = np.mgrid[:20, :30]
    expected = np.maximum(abs(y - 5), abs(x - 7)) <= pixels
    expected |= np.maximum(abs(y - 19), abs(x - 29)) <= pixels
    assert (grown_mask(fill, pixels) == expected).all()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "uint16", "float16", "float64"])
@pytest.mark.parametrize("top", ["one", "white"])
def test_an_array_is_a_mask_in_every_type(dtype, top):
    fill = strokes()
    white = {"uint8": 255, "int64": 255, "uint16": 65535}.get(dtype, 1) if top == "white" else 1
    assert (array_mask((fill * np.int64(white)).astype(dtype), fill.shape) == (fill > 0)).all()


@pytest.mark.parametrize("values", [[[0, 2.0]], [[0, -1]], [[0, np.nan]], [[0, 300]], [[0, 1j]]])
def test_an_array_of_other_values_is_refused(values):
    with pytest.raises(UserError, match="mask"):
        array_mask(np.array(values), (1, 2))


def test_in_a_mask_file_of_several_colors_white_is_filled_whatever_is_transparent(tmp_path):
    painted = layered(tmp_path / "strokes.png", 255 * HOLE, 255 * HOLE)  # white strokes on an empty layer
    assert read_mask(painted, (2, 3)).mask[0, 0].tolist() == HOLE.tolist()
    opaque = layered(tmp_path / "opaque.png", 255 * HOLE, np.full((2, 3), 255))
    assert read_mask(opaque, (2, 3)).mask[0, 0].tolist() == HOLE.tolist()


def test_a_mask_file_that_is_transparent_all_over_is_refused(tmp_path):
    with pytest.raises(UserError, match="all white"):
        read_mask(layered(tmp_path / "m.png", 0, np.zeros((2, 3))), (2, 3))


@pytest.mark.parametrize("given", ["file", "image"])
def test_the_transparency_of_an_image_is_its_mask(tmp_path, given):
    alpha = np.array([[0, 128, 255], [255, 127, 3]])
    path = layered(tmp_path / "p.png", [[1, 50, 90], [200, 7, 30]], alpha)
    image = path if given == "file" else Image.open(path)
    expected = [[1, 0, 0], [0, 1, 1]]
    assert alpha_mask(image).mask[0, 0].tolist() == expected
    assert named_mask("alpha", (2, 3), image=image).mask[0, 0].tolist() == expected
    assert alpha_mask(image, invert=True).mask[0, 0].tolist() == [[0, 1, 1], [1, 0, 0]]


def test_transparency_is_rotated_upright_with_its_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter with the clock
    path = layered(tmp_path / "p.png", 0, 255 * (1 - HOLE), exif=exif)
    assert torch.equal(alpha_mask(path).mask[0, 0], torch.from_numpy(np.rot90(HOLE, -1).copy()).float())


@pytest.mark.parametrize(("level", "message"), [(255, "all black"), (0, "all white")])
def test_an_image_whose_transparency_says_nothing_is_reported(tmp_path, level, message):
    with pytest.raises(UserError, match=message):
        alpha_mask(layered(tmp_path / "p.png", 90, np.full((2, 3), level)))


def test_an_image_without_transparency_is_reported(tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "p.png")
    with pytest.raises(UserError, match=r"p\.png: has no transparency.*mask file"):
        alpha_mask(tmp_path / "p.png")
    with pytest.raises(UserError, match=r"gone\.png: no such file"):
        alpha_mask(tmp_path / "gone.png")
    with pytest.raises(UserError, match=r"alpha: no such mask"):
        named_mask("alpha", (2, 3))


@pytest.mark.parametrize("name", MASKS)
def test_every_mask_by_name_is_the_same_each_time(name):
    one, other = (named_mask(name, (32, 48)).mask for _ in range(2))
    assert one.shape == (1, 1, 32, 48) and torch.equal(one, other)
    assert 0 < float(one.mean()) < 1
    assert torch.equal(named_mask(name, (32, 48), invert=True).mask, 1 - one)


def test_a_seed_after_the_name_draws_another_mask():
    drawn = Brush().draw((1, 1, 32, 48), generator=seeded(7)).mask
    assert torch.equal(named_mask("brush:7", (32, 48)).mask, drawn)
    assert not torch.equal(named_mask("brush", (32, 48)).mask, drawn)
    assert torch.equal(named_mask("brush:0", (32, 48)).mask, named_mask("brush", (32, 48)).mask)
    assert torch.equal(parse_degradation("mask:brush:7").operator((3, 32, 48), RANGE).mask, drawn)
    for wrong in ("brush:x", "brush:-1", "brsh"):
        with pytest.raises(UserError, match="no such mask"):
            named_mask(wrong, (32, 48))


def test_scratches_and_noise_have_names():
    drawn = Scratches().draw((1, 3, 32, 48), generator=seeded(7))
    made = parse_degradation("scratches:7").operator((3, 32, 48), RANGE)
    assert isinstance(made, Scratched) and torch.equal(made.opacity, drawn.opacity)
    noisy = parse_degradation("noise:25")
    assert noisy.noise == 25 and noisy.operator((3, 32, 48), RANGE) == Identity()
    assert parse_degradation("grey").noise == 0
    assert parse_degradation(["grey", "noise:25"]).noise == 25
    assert parse_degradation(["grey", "noise:25"]).operator((3, 8, 8), RANGE)(torch.zeros(1, 3, 8, 8)).shape[1] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("noise", "no number.*noise:25"),
        ("noise:0", "above 0"),
        ("noise:300", "at most 255"),
        ("scratches:x", "no whole number"),
        (["noise:5", "grey"], "noise comes last"),
        ("mask:brush:x", "no such mask"),
    ],
)
def test_what_cannot_be_meant_is_reported(text, message):
    with pytest.raises(UserError, match=message):
        parse_degradation(text)


def test_a_preview_is_red_over_the_mask_and_the_image_elsewhere():
    image = Image.fromarray(np.full((2, 3), 100, np.uint8))
    seen = np.asarray(mask_preview(image, torch.from_numpy(HOLE).float()[None, None]))
    assert seen[0, 1].tolist() == [100, 100, 100]
    assert seen[0, 0].tolist() == pytest.approx([0.6 * 255 + 0.4 * 100, 40, 40], abs=1)
    assert np.asarray(mask_preview(image, torch.ones(2, 3), opacity=1.0))[1, 1].tolist() == [255, 0, 0]
    with pytest.raises(UserError, match=r"its shape is \(1, 1, 3, 2\), the image's 2×3"):
        mask_preview(image, torch.ones(1, 1, 3, 2))
