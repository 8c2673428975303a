"""Degradation by name, and the size an image had before it."""

import pytest
import torch
from PIL import Image

from oracles import seeded
from scorefield.degradations import (
    JPEG,
    Blur,
    Composed,
    Crop,
    Downscale,
    Grey,
    Mask,
    Side,
    crop_margins,
    parse_degradation,
)
from scorefield.errors import UserError

RANGE = (-1.0, 1.0)


def operator(text, shape=(3, 16, 24)):
    return parse_degradation(text).operator(shape, RANGE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("grey", Grey()),
        ("downscale:4", Downscale(factor=4)),
        ("blur:1.5", Blur(std=1.5)),
        ("jpeg:10", JPEG(quality=10)),
        ("jpeg:10,4:4:4", JPEG(quality=10, subsampling="4:4:4")),
        ("crop:1,2,3,4", Crop(top=1, left=4, height=12, width=18, size=(16, 24))),
        ("crop:3", Crop(top=3, left=3, height=10, width=18, size=(16, 24))),
        (["grey", "downscale:2"], Composed(parts=(Grey(), Downscale(factor=2)))),
    ],
)
def test_a_name_is_an_operator(text, expected):
    assert operator(text) == expected


def test_a_mask_is_named_or_a_file(tmp_path):
    Image.new("L", (24, 16), "black").save(tmp_path / "m.png")
    with Image.open(tmp_path / "m.png") as image:
        image.paste("white", (0, 0, 12, 16))
        image.save(tmp_path / "m.png")
    left = Side(side="left").draw((1, 3, 16, 24), generator=seeded())
    for text in ("mask:left", f"mask:{tmp_path / 'm.png'}"):
        made = operator(text)
        assert isinstance(made, Mask) and torch.equal(made.mask, left.mask)


def test_the_range_of_values_reaches_jpeg():
    assert parse_degradation("jpeg:10").operator((3, 8, 8), (0.0, 1.0)) == JPEG(quality=10, value_range=(0.0, 1.0))


def test_each_of_several_is_made_for_what_the_one_before_leaves():
    made = operator(["crop:0,8,0,0", "mask:right", "downscale:2"])
    assert made(torch.zeros(1, 3, 16, 24)).shape == (1, 3, 8, 8)
    assert made.parts[1].mask.shape == (1, 1, 16, 16)


@pytest.mark.parametrize(
    "texts",
    ["grey", "downscale:2", "crop:1,2,3,4", ["crop:2", "downscale:4", "blur:1"], ["downscale:2", "crop:1"]],
)
def test_the_size_before_is_the_size_that_leads_there(texts):
    degradation = parse_degradation(texts)
    size = degradation.before((4, 8))
    assert degradation.operator((3, *size), RANGE)(torch.zeros(1, 3, *size)).shape[-2:] == (4, 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gery", r"no such degradation 'gery'\. Did you mean `grey`"),
        ("", "no such degradation"),
        ([], "none is named.*jpeg"),
        ("grey:2", "nothing to set"),
        ("jpeg", "'' is no whole number.*jpeg:10"),
        ("jpeg:ten", "'ten' is no whole number"),
        ("jpeg:0", "1 to 100, got 0"),
        ("jpeg:10,4:1:1", "no such subsampling"),
        ("downscale:0", "1 or more"),
        ("downscale:1.5", "no whole number"),
        ("blur:nan", "above 0"),
        ("blur:wide", "'wide' is no number"),
        ("mask:middle", "mask:middle: no such mask.*center"),
        ("crop:1,2", "one number, or four"),
        ("crop:-1", "cut nothing"),
        ("crop:0", "cut nothing"),
    ],
)
def test_what_cannot_be_meant_is_reported(text, message):
    with pytest.raises(UserError, match=message):
        parse_degradation(text)


def test_an_image_that_would_be_gone_is_reported():
    with pytest.raises(UserError, match="nothing of an image of 16×24 would be left"):
        operator("crop:8")
    with pytest.raises(UserError, match="does not divide by 5"):
        operator(["downscale:5", "grey"])
    with pytest.raises(UserError, match="cut nothing"):
        crop_margins((0, 0, 0, 0))
