import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from scorefield.cli.page import ShownImage, write_page
from scorefield.data.image import in_8_bits
from scorefield.data.metadata import Metadata
from scorefield.data.photo import Photo
from scorefield.errors import UserError
from scorefield.restoration import Restoration

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
HOLE = (slice(2, 5), slice(3, 7))


def noise(shape, depth=8, seed=0):
    whole = np.random.default_rng(seed).integers(0, 1 << depth, shape)
    return whole.astype(np.uint8 if depth == 8 else np.uint16)


def restored(source=None, count=2, size=(8, 10), depth=8, levels=None):
    """Candidates that differ under the mask and agree around it."""
    known = source.levels if source is not None else noise((*size, 3), depth)
    if levels is None:
        levels = [known.copy() for _ in range(count)]
        for k, one in enumerate(levels):
            one[HOLE] = 40 * (k + 1)
    stack = torch.tensor(np.stack([in_8_bits(one) for one in levels])).float()
    return Restoration(
        levels=levels,
        degraded_levels=known,
        std=stack.std(0, correction=0).mean(-1) / 255,
        photo=source or Photo(path=Path("image"), levels=known),
    )


def read(path, suffix, *, depth=8, channels=3, alpha=False):
    """An image that was written and read, with all that its format holds."""
    exif = Image.Exif()
    exif[0x010F] = "A maker"
    levels = noise((8, 10, channels), depth)
    first = Photo(
        path=Path("x"),
        levels=levels,
        alpha=noise((8, 10), depth, seed=1) if alpha else None,
        metadata=Metadata(exif=exif.tobytes()[6:], icc=SRGB),
    )
    return Photo.read(first.save(levels, path / f"in{suffix}"))


# --- what is written -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "depth", "alpha"),
    [
        (".png", 8, False),
        (".png", 8, True),
        (".png", 16, False),
        (".png", 16, True),
        (".tif", 8, True),
        (".tif", 16, False),
        (".tiff", 16, True),
        (".webp", 8, False),
        (".webp", 8, True),
        (".jpg", 8, False),
        (".bmp", 8, False),
        (".avif", 8, True),
    ],
)
def test_known_pixels_are_the_sources_own_in_what_is_written_and_read_again(tmp_path, suffix, depth, alpha):
    if depth == 16:
        pytest.importorskip("cv2")
    source = read(tmp_path, suffix, depth=depth, alpha=alpha)
    sample = restored(source)
    paths = sample.save(tmp_path / "out", stem="a")
    own = suffix if suffix in (".png", ".tif", ".tiff", ".webp") else ".png"
    assert [path.name for path in paths] == [f"a-1{own}", f"a-2{own}", "a-sheet.png"]
    for path, levels in zip(paths, sample.levels, strict=False):
        back = Photo.read(path)
        assert back.levels.dtype == source.levels.dtype
        assert (back.levels == levels).all()
        known = np.ones(levels.shape, bool)
        known[HOLE] = False
        assert (back.levels[known] == source.levels[known]).all()
        assert (back.alpha is None) == (source.alpha is None)
        assert source.alpha is None or (back.alpha == source.alpha).all()
        assert back.icc == source.icc
        tags = Image.Exif()
        tags.load(back.exif)
        assert tags[0x000B].startswith("scorefield ")
        assert source.exif is None or tags[0x010F] == "A maker"


def test_without_a_source_results_are_png_of_their_own_depth(tmp_path):
    deep = restored(depth=16, levels=[noise((8, 10, 1), 16)])
    (path, _) = deep.save(tmp_path, stem="deep")
    assert (Photo.read(path).levels == deep.levels[0]).all()


@pytest.mark.parametrize("wanted", ["png", "tiff", "webp", "JPG", ".avif"])
def test_the_format_requested_is_written(tmp_path, wanted):
    paths = restored().save(tmp_path, stem="a", format=wanted)
    suffix = f".{wanted.lower().lstrip('.')}"
    assert [path.name for path in paths] == [f"a-1{suffix}", f"a-2{suffix}", "a-sheet.png"]
    kinds = {".png": "PNG", ".tiff": "TIFF", ".webp": "WEBP", ".jpg": "JPEG", ".avif": "AVIF"}
    with Image.open(paths[0]) as image:
        assert image.format == kinds[suffix]


def test_an_unknown_format_is_reported_and_nothing_is_written(tmp_path):
    with pytest.raises(UserError, match=r"format: cannot write `gif`\. Use one of png, jpg"):
        restored().save(tmp_path / "out", format="gif")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("there", ["a-2.png", "a-sheet.png", "a-map.png"])
def test_nothing_is_written_over_what_is_there_nor_beside_it(tmp_path, there):
    (tmp_path / there).write_text("mine")
    with pytest.raises(UserError, match=rf"{there}: already exists\..*--overwrite"):
        restored().save(tmp_path, stem="a", with_map=True)
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"
    paths = restored().save(tmp_path, stem="a", with_map=True, overwrite=True)
    assert [path.name for path in paths] == ["a-1.png", "a-2.png", "a-sheet.png", "a-map.png"]
    assert Image.open(tmp_path / there).format == "PNG"


def test_webp_that_is_too_wide_for_its_format_becomes_png(tmp_path):
    source = replace(read(tmp_path, ".webp"), levels=np.zeros((2, 17_000, 3), np.uint8))
    paths = restored(source, levels=[source.levels]).save(tmp_path / "out", stem="a")
    assert paths[0].name == "a-1.png"


# --- what is shown -------------------------------------------------------------------------------


def test_candidates_are_shown_in_eight_bits():
    sample = restored(levels=[np.array([[[65535], [257 * 7]]], np.uint16)])
    assert sample.images[0].mode == "L"
    assert np.asarray(sample.images[0]).tolist() == [[255, 7]]


def test_the_sheet_shows_small_pixels_as_they_are_and_reduces_large_images():
    small = restored(count=2)
    sheet = small.sheet()
    times = sheet.height // 8
    assert sheet.size == (3 * (10 * times + 2) + 2, 8 * times + 2 + 2)
    assert sheet.getpixel((2, 2)) == small.degraded.getpixel((0, 0))
    large = restored(levels=[noise((600, 900, 3))])
    assert 1500 < large.sheet().width <= 1600
    assert 390 < large.sheet(1200).height <= 404  # two of 600 wide, 400 high
    flat = [np.full((300, 2000, 3), 77, np.uint8)]
    sheet = restored(levels=flat).sheet(100)
    assert sheet.getpixel((sheet.width * 3 // 4, sheet.height // 2)) == (77, 77, 77)


def test_a_degraded_image_larger_than_the_result_is_reduced_onto_its_tile():
    sample = replace(restored(), degraded_levels=np.full((90, 40, 3), (255, 0, 0), np.uint8))
    assert sample.sheet().height < 200


def test_heat_runs_from_black_to_white_and_ever_lighter_and_its_scale_is_reported():
    ramp = replace(restored(), std=torch.linspace(0, 0.2, 256)[None])
    colors = np.asarray(ramp.heat())[0]
    assert colors[0].tolist() == [0, 0, 0]
    assert colors[-1].tolist() == [255, 255, 255]
    assert len(np.unique(colors, axis=0)) == 256
    linear = (colors / 255) ** 2.2
    lightness = np.cbrt(linear @ [0.2126, 0.7152, 0.0722])  # CIE L*, up to its straight part
    assert (np.diff(lightness) > 0).all()
    assert "is 51 of 255 levels" in ramp.scale


def test_where_candidates_agree_the_map_is_black():
    alone = restored(count=1)
    assert not np.asarray(alone.heat()).any()
    assert alone.scale == "the candidates agree everywhere"
    pair = np.asarray(restored(count=2).heat())
    assert (pair[HOLE] == 255).all()  # 40 and 80 throughout
    assert pair.sum() == pair[HOLE].sum()


# --- the page ------------------------------------------------------------------------------------


class Links(HTMLParser):
    """URLs and words of a page."""

    def __init__(self, page):
        super().__init__()
        self.urls, self.words, self.tags = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.urls += [value for name, value in attrs if name in ("src", "href", "data-src", "data-file")]

    def handle_data(self, data):
        self.words.append(data)


NASTY = '<b>"x" & $parts %41 #1?.png'


def test_the_page_names_every_image_and_nothing_that_is_not_beside_it(tmp_path):
    entry = ShownImage(
        title=NASTY,
        before=f"sub/{NASTY}",
        after=["a:b-1.png", NASTY],
        map="a-map.png",
        facts={"task": "<script>alert(1)</script>", NASTY: "12 s"},
    )
    path = write_page(tmp_path, [entry, replace(entry, after=["c.png"], files=["c.tif"], map=None)])
    assert path == tmp_path / "index.html"
    text = path.read_text(encoding="utf-8")
    page = Links(text)
    found = {unquote(url.removeprefix("./")) for url in page.urls}
    assert found == {f"sub/{NASTY}", "a:b-1.png", NASTY, "a-map.png", "c.png", "c.tif"}
    assert all(re.fullmatch(r"\./[\w./~%-]+", url) for url in page.urls)
    assert page.tags.count("script") == 1
    assert "b" not in [tag for tag in page.tags if tag not in ("button", "body")] or NASTY in page.words
    assert "<script>alert(1)</script>" in page.words
    assert page.tags.count("input") == 2
    assert page.tags.count("button") == 2  # of the first image alone: the second has one candidate
    assert "//" not in re.sub(r"<!doctype html>|content: [^;]+", "", text)
    assert "2 images" in text


def test_the_page_replaces_the_one_before(tmp_path):
    write_page(tmp_path, [])
    entry = ShownImage(title="a", before="b.png", after=["c.png"])
    write_page(tmp_path, [entry], title="Others & more")
    text = (tmp_path / "index.html").read_text()
    assert "<title>Others &amp; more</title>" in text
    assert "1 image." in text
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
