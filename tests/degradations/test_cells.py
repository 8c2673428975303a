"""The quantisation cells of a JPEG file: whose they are, what they keep, and that they are a projection."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from oracles import seeded
from scorefield.data.photo import jpeg_header
from scorefield.degradations import JPEG, Blur, Box, QuantisationCells, file_cells, quantisation_cells
from scorefield.degradations.jpeg import standard_tables

ENCODER = 2.0
"""Levels. An encoder rounds Y, C_b and C_r to whole levels before the DCT, with std 0.3, which has std 0.3 in every
coefficient too. At quality 90 a few of 64 so leave their cell; by 6 of these stds in one pixel is out of reach."""
FLOAT = 255 * 64 * torch.finfo(torch.float32).eps
"""Of sums over 64 products of numbers up to 255."""
SIZES = [(48, 64), (37, 51), (16, 16), (9, 90)]
SAMPLINGS = ["4:2:0", "4:2:2", "4:4:4"]


def image(channels, height, width, seed=0, contrast=60.0):
    """A smooth image in levels, (C, H, W), away from black and white, where nothing is clipped."""
    x = Blur(std=1.0)(torch.randn(1, channels, height, width, generator=seeded(seed)))[0]
    return (128 + contrast * x / x.abs().max()).round()


def saved(x, **settings):
    """The decoded file of x, with its header."""
    array = x.to(torch.uint8).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(file, "JPEG", **settings)
    with Image.open(file) as read:
        header = jpeg_header(read)
        assert header is not None
        return torch.from_numpy(np.atleast_3d(np.array(read))).permute(2, 0, 1), header


def cells_of(x, **settings) -> QuantisationCells:
    cells = file_cells(*saved(x, **settings))
    assert cells is not None
    return cells


def exact_cells(x, *, quality=30, subsampling="4:2:0", share=1.0) -> QuantisationCells:
    """Those of the operator JPEG, which rounds nothing but coefficients."""
    y = JPEG(quality=quality, subsampling=subsampling, value_range=(0, 255))(x[None])[0]
    cells = quantisation_cells(y, standard_tables(quality), subsampling, smooth=False)
    return replace(cells, value_range=(0.0, 255.0), share=share)


def planes(x):
    """Y, C_b, C_r of JFIF, of (C, H, W)."""
    if x.shape[0] == 1:
        return x
    r, g, b = x
    y = 0.299 * r + 0.587 * g + 0.114 * b
    return torch.stack([y, (b - y) / 1.772, (r - y) / 1.402])


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("subsampling", SAMPLINGS)
@pytest.mark.parametrize("quality", [10, 50, 90])
def test_a_file_of_pillows_was_made_from_an_image_within_its_cells(quality, subsampling, size):
    x = image(3, *size)
    again = cells_of(x, quality=quality, subsampling=subsampling)(x[None])[0]
    assert float((again - x).abs().max()) <= ENCODER


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("quality", [10, 90])
def test_so_was_a_grey_one(quality, size):
    x = image(1, *size)
    assert float((cells_of(x, quality=quality)(x[None])[0] - x).abs().max()) <= ENCODER


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("subsampling", SAMPLINGS)
def test_without_an_encoders_rounding_the_original_stays_as_it_is(subsampling, size, channels):
    x = image(channels, *size)
    assert float((exact_cells(x, subsampling=subsampling)(x[None])[0] - x).abs().max()) <= FLOAT


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("subsampling", SAMPLINGS)
def test_no_image_moves_away_from_the_original(subsampling, size, channels):
    x = image(channels, *size)
    z = x + 30 * torch.randn(x.shape, generator=seeded(1))
    nearer = exact_cells(x, subsampling=subsampling)(z[None])[0]
    before, after = (planes(a - x).square().sum((1, 2)) for a in (z, nearer))
    assert (after <= before * (1 + FLOAT)).all()
    assert min(size) < 16 or (after < 0.9 * before).any()  # noise of 30 levels leaves the cells


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_it_is_a_projection_onto_the_share(share):
    x = image(3, 32, 48)
    cells = exact_cells(x, share=share)
    z = image(3, 32, 48, seed=2)[None]
    once = cells(z)
    torch.testing.assert_close(cells(once), once, atol=FLOAT, rtol=0)
    luma = planes(once[0])[:1]
    found = torch.stack([block for row in luma[0].split(8) for block in row.split(8, 1)])
    basis = torch.from_numpy(dct_matrix()).float()
    away = (basis @ (found - 128) @ basis.T - stacked(cells.centres[0])).abs()
    assert (away <= share / 2 * torch.tensor(standard_tables(30)[0]).reshape(8, 8) + 4 * FLOAT).all()


def dct_matrix():
    """By the inverse FFT's convention of SciPy: independent of the package."""
    k, j = np.arange(8)[:, None], np.arange(8)
    return np.where(k == 0, np.sqrt(1 / 8), np.sqrt(2 / 8)) * np.cos(np.pi * k * (2 * j + 1) / 16)


def stacked(plane):
    return torch.stack([block for row in plane.split(8) for block in row.split(8, 1)])


def test_decoded_coefficients_are_multiples_of_the_steps():
    """Chroma too, though the decoder enlarged it by a filter."""
    cells = cells_of(image(3, 64, 96, contrast=100), quality=50, subsampling="4:2:0")
    for number, centres in enumerate(cells.centres):
        steps = torch.tensor(standard_tables(50)[number > 0]).reshape(8, 8)
        multiples = stacked(centres) / steps
        assert torch.equal(multiples, multiples.round())


@pytest.mark.parametrize("subsampling", SAMPLINGS)
def test_a_part_has_the_cells_of_the_whole(subsampling):
    x = image(3, 64, 77)
    cells = exact_cells(x, subsampling=subsampling)
    z, box = image(3, 64, 77, seed=3)[None], Box(16, 32, 48, 45)
    whole = cells(z)[(..., *box.slices)]
    part = cells.part(box)(z[(..., *box.slices)])
    torch.testing.assert_close(part, whole, atol=FLOAT, rtol=0)
    with pytest.raises(ValueError, match="multiples of 16"):
        cells.part(Box(8, 0, 16, 16))


def test_the_value_range_says_where_black_and_white_are():
    x = image(3, 32, 32)
    cells, z = exact_cells(x), image(3, 32, 32, seed=4)
    scaled = replace(cells, value_range=(-1.0, 1.0))(z[None] / 127.5 - 1)
    torch.testing.assert_close((scaled + 1) * 127.5, cells(z[None]), atol=FLOAT, rtol=0)


def test_a_file_of_red_green_and_blue_has_no_cells():
    x = image(3, 32, 32)
    pixels, header = saved(x, quality=30, keep_rgb=True)
    assert header.sampling == -1
    assert file_cells(pixels, header) is None


def test_another_number_of_channels_is_refused():
    with pytest.raises(ValueError, match="3 planes"):
        exact_cells(image(3, 16, 16))(torch.zeros(1, 1, 16, 16))
