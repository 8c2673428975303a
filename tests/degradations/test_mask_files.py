"""Masks as people give them: transparency, names and seeds, and a preview."""

import numpy as np
import pytest
import torch
from PIL import Image

from oracles import seeded
from scorefield.degradations import (
    MASKS,
    Brush,
    Identity,
    Scratched,
    Scratches,
    alpha_mask,
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
@pytest.mark.parametrize("color", [0, 90, 255])
def test_in_a_mask_file_of_one_color_transparent_is_filled(tmp_path, mode, color):
    path = layered(tmp_path / "m.png", color, 255 * (1 - HOLE), mode)
    assert read_mask(path, (2, 3)).mask[0, 0].tolist() == HOLE.tolist()
    assert read_mask(path, (2, 3), invert=True).mask[0, 0].tolist() == (1 - HOLE).tolist()


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
