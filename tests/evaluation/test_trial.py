"""Cases, windows, and what a degradation leaves of them."""

import pytest
import torch

from oracles import ramp
from scorefield.data.image import to_float, to_uint8
from scorefield.degradations import JPEG, EncodedJPEG, Identity, Mask, network_input
from scorefield.errors import UserError
from scorefield.evaluation.cases import jpeg_cases, parse_case
from scorefield.evaluation.trial import make_trial, open_test_windows
from training.toys import write_set

ALL = slice(None)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for split, names in (("train", "ab"), ("test", "cde")):
        for i, name in enumerate(names):
            ramp(folder / split / f"{name}.png", 60 + 10 * i, 50)
    return folder


@pytest.fixture(scope="module")
def windows(photographs):
    return open_test_windows(str(photographs), 16, n=6, split="test", channels=3, zoom=(0.5, 1.0), seed=1)


def generator():
    return torch.Generator().manual_seed(0)


def test_windows_are_fixed_by_the_seed_and_know_their_photograph(photographs, windows):
    again = open_test_windows(str(photographs), 16, n=6, split="test", channels=3, zoom=(0.5, 1.0), seed=1)
    other = open_test_windows(str(photographs), 16, n=6, split="test", channels=3, zoom=(0.5, 1.0), seed=2)
    assert torch.equal(windows.set.images, again.set.images)
    assert not torch.equal(windows.set.images, other.set.images)
    assert windows.groups.tolist() == [0, 1, 2, 0, 1, 2]
    assert windows.words.startswith("6 windows of 16×16 of 3 images of photographs")
    assert "test, reduced to 0.5–1, " in windows.words
    assert windows.set.images.shape == (6, 3, 16, 16)


def test_few_windows_are_of_as_many_photographs(photographs):
    two = open_test_windows(str(photographs), 16, n=2, split="test", channels=3)
    assert len(set(two.groups.tolist())) == 2


def test_a_set_of_images_of_one_size_gives_itself(tmp_path):
    data = write_set(tmp_path / "ramps.npz")
    found = open_test_windows(str(data), 8, n=500, split="test", channels=1)
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
    whole, again = (make_trial(parse_case(text), windows, seed=3) for _ in range(2))
    other = make_trial(parse_case(text), windows, seed=4)
    assert torch.equal(whole.left, again.left)
    if text in ("inpaint", "uncrop", "dejpeg", "denoise:20", "descratch"):
        assert not torch.equal(whole.left, other.left)
    # in another value range, and a few at a time, it is the same image
    for value_range in ((-1.0, 1.0), (0.0, 1.0)):
        parts = [whole.observation(rows, value_range) for rows in (slice(0, 4), slice(4, 6))]
        y = torch.cat([part.y for part in parts])
        assert torch.equal(to_uint8(y, value_range), whole.left)
        for part, rows in zip(parts, (slice(0, 4), slice(4, 6)), strict=True):
            view = network_input(part.degradation, part.y, generator=generator())
            assert torch.equal(view.mask > 0, whole.fill[rows])
            known = ~whole.fill[rows].expand_as(view.source)
            assert torch.equal(to_uint8(view.source, value_range)[known], whole.originals[rows][known])


def test_a_hole_is_grey_and_beside_it_is_the_image(windows):
    trial = make_trial(parse_case("inpaint:center"), windows)
    hole = trial.hole.expand_as(trial.seen)
    assert torch.equal(trial.hole, trial.fill)
    assert (trial.seen[hole] == 128).all()
    assert torch.equal(trial.seen[~hole], trial.originals[~hole])
    assert hole.float().mean() == pytest.approx(0.25)


def test_what_is_seen_of_grey_is_its_luma_and_of_jpeg_its_file(windows):
    grey = make_trial(parse_case("colorize"), windows)
    weights = torch.tensor([0.299, 0.587, 0.114]).reshape(3, 1, 1)
    luma = (grey.originals.float() * weights).sum(1)
    assert (grey.seen.float() - luma[:, None]).abs().max() < 0.502
    assert not grey.hole.any()
    jpeg = make_trial(parse_case("dejpeg:10"), windows)
    coded = EncodedJPEG(quality=10)(to_float(jpeg.originals, (-1, 1)))
    assert torch.equal(jpeg.seen, to_uint8(coded, (-1, 1)))


def test_a_method_without_training_is_given_an_operator_that_it_can_invert(windows):
    jpeg = make_trial(parse_case("dejpeg:10"), windows).solvable(ALL, (-1.0, 1.0))
    assert isinstance(jpeg.degradation, JPEG)
    torch.testing.assert_close(jpeg.degradation(jpeg.y), jpeg.y, atol=1e-4, rtol=0)
    noisy = make_trial(parse_case("denoise:20"), windows).solvable(ALL, (0.0, 1.0))
    assert isinstance(noisy.degradation, Identity)  # or it could take the very noise away
    assert noisy.noise == pytest.approx(20 / 255)
    masked = make_trial(parse_case("inpaint"), windows).solvable(ALL, (-1.0, 1.0))
    assert isinstance(masked.degradation, Mask)
    assert (masked.y[masked.degradation.fill.expand_as(masked.y) > 0] == 0).all()


@pytest.mark.parametrize("name", ["brush", "boxes"])
def test_masks_may_be_asked_to_cover_a_share(windows, name):
    trial = make_trial(parse_case(f"inpaint:{name},20-30"), windows)
    share = trial.fill.float().mean((1, 2, 3))
    assert ((share >= 0.2) & (share <= 0.3)).all()


def test_qualities_make_cases_of_a_plain_dejpeg():
    assert [case.text for case in jpeg_cases("dejpeg", [5, 10])] == ["dejpeg:5", "dejpeg:10"]
    assert [case.text for case in jpeg_cases("dejpeg:20", [5, 10])] == ["dejpeg:20"]
    assert parse_case("inpaint:boxes,2-8").slug == "inpaint-boxes-2-8"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("dejpg", "no such task to measure 'dejpg'. Did you mean `dejpeg`"),
        ("dejpeg:x", "is no number"),
        ("dejpeg:0", "quality"),
        ("inpaint:nose", "no such masks 'nose'"),
        ("inpaint:center,2-8", "cannot be meant"),
        ("uncrop:middle", "no such side"),
        ("colorize:3", "nothing to set"),
        ("deblur:-1", "above 0"),
    ],
)
def test_what_cannot_be_meant_is_told(text, told):
    with pytest.raises(UserError, match=told.replace("?", r"\?")):
        parse_case(text)


def test_one_image_is_too_few(tmp_path):
    ramp(tmp_path / "a.png", 40, 40)
    with pytest.raises(UserError, match="at least two images, got 1"):
        open_test_windows(str(tmp_path), 16, n=1, split="train", channels=3)
