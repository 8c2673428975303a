"""Cases, windows, and what a degradation leaves of them."""

import pytest
import torch

from oracles import ramp
from scorefield.data.image import to_float, to_uint8
from scorefield.degradations import EncodedJPEG
from scorefield.errors import UserError
from scorefield.evaluation.cases import jpeg_cases, parse_case
from scorefield.evaluation.degraded import degrade, open_crop_set
from training.toys import write_set


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for split, names in (("train", "ab"), ("test", "cde")):
        for i, name in enumerate(names):
            ramp(folder / split / f"{name}.png", 60 + 10 * i, 50)
    return folder


@pytest.fixture(scope="module")
def windows(photographs):
    return open_crop_set(str(photographs), 16, n=6, split="test", channels=3, zoom=(0.5, 1.0), seed=1)


def generator():
    return torch.Generator().manual_seed(0)


def test_windows_are_fixed_by_the_seed_and_know_their_photograph(photographs, windows):
    again = open_crop_set(str(photographs), 16, n=6, split="test", channels=3, zoom=(0.5, 1.0), seed=1)
    other = open_crop_set(str(photographs), 16, n=6, split="test", channels=3, zoom=(0.5, 1.0), seed=2)
    assert torch.equal(windows.set.images, again.set.images)
    assert not torch.equal(windows.set.images, other.set.images)
    assert windows.groups.tolist() == [0, 1, 2, 0, 1, 2]
    assert windows.words.startswith("6 crops of 16×16 of 3 images of photographs")
    assert "test, reduced to 0.5–1, " in windows.words
    assert windows.set.images.shape == (6, 3, 16, 16)


def test_few_windows_are_of_as_many_photographs(photographs):
    two = open_crop_set(str(photographs), 16, n=2, split="test", channels=3)
    assert len(set(two.groups.tolist())) == 2


def test_a_set_of_images_of_one_size_gives_itself(tmp_path):
    data = write_set(tmp_path / "ramps.npz")
    found = open_crop_set(str(data), 8, n=500, split="test", channels=1)
    assert len(found) == 24
    assert found.set.labels is not None
    assert found.groups.tolist() == list(range(24))


@pytest.mark.parametrize(
    "text",
    [
        "colorize",
        "inpaint",
        "uncrop",
        "dejpeg:10",
        "dejpeg",
        "upscale:2",
        "deblur:1",
        "denoise:20",
        "descratch",
    ],
)
def test_every_system_is_given_the_same_bytes(windows, text):
    whole, again = (degrade(windows, parse_case(text), seed=3) for _ in range(2))
    other = degrade(windows, parse_case(text), seed=4)
    assert torch.equal(whole.degraded, again.degraded)
    if text in ("inpaint", "uncrop", "dejpeg", "denoise:20", "descratch"):
        assert not torch.equal(whole.degraded, other.degraded)
    # Operators drawn again are the same.
    for value_range in [(-1.0, 1.0)]:
        operators = whole.operators(range(len(whole)), value_range)
        images = to_float(whole.originals, value_range).split(1)
        y = torch.cat([operator(x) for operator, x in zip(operators, images, strict=True)])
        assert torch.equal(to_uint8(y, value_range), whole.degraded)


def test_masked_pixels_are_grey_and_the_others_the_image(windows):
    images = degrade(windows, parse_case("inpaint:center"))
    mask = images.mask.expand_as(images.shown)
    assert torch.equal(images.mask, images.unknown)
    assert (images.shown[mask] == 128).all()
    assert torch.equal(images.shown[~mask], images.originals[~mask])
    assert mask.float().mean() == pytest.approx(0.25)


def test_grey_shows_the_luma_and_jpeg_the_file(windows):
    grey = degrade(windows, parse_case("colorize"))
    weights = torch.tensor([0.299, 0.587, 0.114]).reshape(3, 1, 1)
    luma = (grey.originals.float() * weights).sum(1)
    assert (grey.shown.float() - luma[:, None]).abs().max() < 0.502
    assert not grey.mask.any()
    jpeg = degrade(windows, parse_case("dejpeg:10"))
    coded = EncodedJPEG(quality=10)(to_float(jpeg.originals, (-1, 1)))
    assert torch.equal(jpeg.shown, to_uint8(coded, (-1, 1)))


@pytest.mark.parametrize("name", ["brush", "boxes"])
def test_masks_may_be_set_to_cover_a_share(windows, name):
    images = degrade(windows, parse_case(f"inpaint:{name},20-30"))
    share = images.unknown.float().mean((1, 2, 3))
    assert ((share >= 0.2) & (share <= 0.3)).all()


def test_qualities_make_cases_of_a_plain_dejpeg():
    assert [case.text for case in jpeg_cases("dejpeg", [5, 10])] == ["dejpeg:5", "dejpeg:10"]
    assert [case.text for case in jpeg_cases("dejpeg:20", [5, 10])] == ["dejpeg:20"]
    assert parse_case("inpaint:boxes,2-8").slug == "inpaint-boxes-2-8"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dejpg", "no such task to measure 'dejpg'. Did you mean `dejpeg`"),
        ("dejpeg:x", "is no number"),
        ("dejpeg:0", "quality"),
        ("inpaint:nose", "no such masks 'nose'"),
        ("inpaint:center,2-8", "only brush and boxes"),
        ("uncrop:middle", "no such side"),
        ("colorize:3", "takes no argument"),
        ("deblur:-1", "above 0"),
    ],
)
def test_what_cannot_be_meant_is_reported(text, message):
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        parse_case(text)


def test_one_image_is_too_few(tmp_path):
    ramp(tmp_path / "a.png", 40, 40)
    with pytest.raises(UserError, match="at least two images, got 1"):
        open_crop_set(str(tmp_path), 16, n=1, split="train", channels=3)
