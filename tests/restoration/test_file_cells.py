"""Restored JPEG files stay within the file's quantisation cells, however it is stored."""

import numpy as np
import pytest
import torch
from PIL import Image

from oracles import seeded
from scorefield.data.photo import Photo
from scorefield.degradations import Blur, file_cells
from scorefield.degradations.jpeg import standard_tables
from scorefield.degradations.rotated import stored, upright
from scorefield.model import ModelSpec, RestorationSpec, ScoreModel
from scorefield.parameterization import Regression
from scorefield.restoration import Dejpeg, restore
from scorefield.restoration.file_cells import SHARE, FileCells
from scorefield.restoration.pixels import as_grey, has_color, is_grey, levels_of, pixels_of

ROUNDING = 2
"""Levels. A result is rounded to bytes, which moves a coefficient by 0.3 levels on average; back in its cell, and
rounded again, a pixel of three channels is off by 1 as a rule and by no more than 2."""


class Wrong(torch.nn.Module):
    """A regression that adds noise of 25 levels, and the tables that it was given."""

    tables = True

    def __init__(self):
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(()))
        self.given = []

    def forward(self, x, label, source=None, *, tables=None):
        self.given.append(tables)
        noise = torch.randn(1, 3, 512, 512, generator=seeded(7))
        return source + 0.2 * noise[..., : x.shape[-2], : x.shape[-1]]


def wrong():
    restoration = RestorationSpec(tasks=("dejpeg", "denoise"), steps=1)
    spec = ModelSpec(shape=(3, 64, 64), sigma_range=(1.0, 1.0), restoration=restoration)
    return ScoreModel(Wrong(), Regression(), spec).eval()


def levels(height, width, channels=3):
    """A smooth image away from black and white, where nothing is clipped."""
    x = Blur(std=1.5)(torch.randn(1, channels, height, width, generator=seeded(height)))[0]
    return (128 + 45 * x / x.abs().max()).round().to(torch.uint8).permute(1, 2, 0).numpy()


def photo(path, *, orientation=1, channels=3, height=70, width=101, **settings):
    pixels = levels(height, width, channels=channels)
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, "JPEG", exif=exif, **{"quality": 30, **settings})
    return Photo.read(path)


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:2:2", "4:4:4"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_restored_file_stays_in_its_cells(tmp_path, orientation, subsampling):
    file = photo(tmp_path / "a.jpg", orientation=orientation, subsampling=subsampling)
    (restored,) = restore(wrong(), file, "dejpeg").levels
    away = np.abs(FileCells.of(file).nearest(restored).astype(int) - restored)
    assert away.max() <= ROUNDING
    assert np.abs(restored.astype(int) - file.levels).mean() > 1
    stored = Photo.read(photo(tmp_path / "b.jpg", subsampling=subsampling).path)
    upright = {1: stored.levels, 3: stored.levels[::-1, ::-1], 6: np.rot90(stored.levels, -1)}
    if orientation in upright:
        assert np.array_equal(file.levels, upright[orientation])


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_is_taken_as_upright(tmp_path, orientation):
    file, upright = (photo(tmp_path / f"{number}.jpg", orientation=number) for number in (orientation, 1))
    assert np.array_equal(file.levels, upright.levels)
    assert np.array_equal(restore(wrong(), file, "dejpeg").levels, restore(wrong(), upright, "dejpeg").levels)


def test_a_grey_file_stays_in_its_cells_and_grey(tmp_path):
    file = photo(tmp_path / "grey.jpg", channels=1)
    (restored,) = restore(wrong(), file, "dejpeg").levels
    assert restored.shape == file.levels.shape
    assert np.abs(FileCells.of(file).nearest(restored).astype(int) - restored).max() <= ROUNDING


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
@pytest.mark.parametrize("tint", [0, 2, 3])
def test_a_grey_image_that_was_saved_in_color_comes_back_grey_and_in_its_cells_of_luma(tmp_path, tint, subsampling):
    pixels = levels(70, 101, channels=1).repeat(3, 2)
    pixels[..., 2] += np.uint8(tint)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=90, subsampling=subsampling)
    file = Photo.read(tmp_path / "a.jpg")
    assert is_grey(file.levels)
    (restored,) = restore(wrong(), file, "dejpeg").levels
    assert restored.shape == file.levels.shape
    assert not has_color(restored)
    luma = [as_grey(each, None, 1).astype(int) for each in (FileCells.of(file).nearest(restored), restored)]
    assert np.abs(luma[0] - luma[1]).max() <= ROUNDING


def test_the_file_itself_is_its_own_nearest_image(tmp_path):
    for quality in (10, 50, 90):  # with whole chroma: a decoder's filter blurs halved chroma
        file = photo(tmp_path / f"{quality}.jpg", quality=quality, subsampling="4:4:4")
        away = np.abs(FileCells.of(file).nearest(file.levels).astype(int) - file.levels)
        assert away.max() <= ROUNDING


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_network_is_given_the_files_tables_in_the_upright_images_axes(tmp_path, orientation):
    model = wrong()
    restore(model, photo(tmp_path / "a.jpg", orientation=orientation), "dejpeg")
    luma, chroma = (torch.tensor(table).reshape(8, 8).float() for table in standard_tables(30))
    expected = torch.stack([luma, chroma]) if orientation == 1 else torch.stack([luma.T, chroma.T])
    assert model.network.given
    for given in model.network.given:
        assert torch.equal(given, expected.flatten().expand(len(given), -1))


def test_without_a_file_it_is_given_what_the_quality_says_or_nothing(tmp_path):
    pixels = levels(40, 50)
    for quality, first in ((None, None), (30, standard_tables(30)[0][0])):
        model = wrong()
        restore(model, pixels, Dejpeg(quality=quality))
        (given,) = model.network.given
        assert given is None if first is None else float(given[0, 0]) == first


def test_other_tasks_are_not_bound_to_the_cells(tmp_path):
    file = photo(tmp_path / "a.jpg")
    far = restore(wrong(), file, "denoise").levels[0]
    near = FileCells.of(file).nearest(far)
    assert np.abs(near.astype(int) - far).mean() > ROUNDING


def test_the_share_is_part_of_a_cell():
    assert 0 < SHARE <= 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("subsampling", ["4:2:0", "4:2:2", "4:4:4"])
@pytest.mark.parametrize(("height", "orientation"), [(16, 1), (255, 6), (257, 8), (530, 5), (790, 7), (541, 3)])
def test_the_cells_by_bands_are_those_of_the_whole_image(tmp_path, height, orientation, subsampling, channels):
    settings = {} if channels == 1 else {"subsampling": subsampling}
    file = photo(tmp_path / "a.jpg", orientation=orientation, channels=channels, height=height, width=41, **settings)
    sample = (file.levels + np.random.default_rng(0).normal(0, 25, file.levels.shape)).clip(0, 255).astype(np.uint8)
    as_stored = stored(pixels_of(sample), orientation)
    cells = file_cells(stored(pixels_of(file.levels), orientation), file.jpeg).with_share(SHARE)
    whole = upright(cells(as_stored[None].float())[0].round().clamp(0, 255).to(torch.uint8), orientation)
    assert np.array_equal(FileCells.of(file).nearest(sample), levels_of(whole))
