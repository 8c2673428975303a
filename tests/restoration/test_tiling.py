"""Tiles: they cover, they agree with JPEG's blocks, and their windows sum to one."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scorefield.degradations import Box
from scorefield.errors import UserError
from scorefield.restoration.tiles import GRID, BlendBuffer, Tiling, cuts

SIDES = st.integers(1, 700)
TILES = st.sampled_from([(64, 32), (64, 16), (128, 32), (96, 0), (256, 48)])


@given(SIDES, TILES)
def test_tiles_cover_a_side_with_their_overlap_and_no_more_of_them_than_it_takes(length, tile):
    tile, overlap = tile
    found = cuts(length, tile, overlap)
    assert found[0][0] == 0 and sum(found[-1]) == length
    assert all(start % GRID == 0 for start, _ in found)
    assert all(0 < extent <= tile for _, extent in found)
    for (start, extent), (following, _) in pairwise(found):
        assert start < following and start + extent - following == overlap
    if length > tile:
        assert (len(found) - 1) * (tile - overlap) < length - overlap
        assert min(extent for _, extent in found) > tile // 2 - GRID
    else:
        assert found == [(0, length)]


@settings(max_examples=15)
@given(SIDES, SIDES, TILES)
def test_windows_put_an_image_together_as_it_was(height, width, tile):
    tiling = Tiling(size=(height, width), tile=tile[0], overlap=tile[1])
    image = torch.rand(2, 1, height, width)
    strip = BlendBuffer.of(tiling, 2, 1)
    rows, ends = [], [top for top, _ in tiling.rows[1:]] + [height]
    for row, end in zip(tiling.rows, ends, strict=True):
        for box in tiling.boxes(row):
            for k in range(2):
                strip.add(box, tiling.weight(box), [k], image[(slice(k, k + 1), slice(None), *box.slices)])
        means, there = strip.pop_rows(end)
        assert bool(there.all())
        rows.append(means)
    torch.testing.assert_close(torch.cat(rows, 2), image, rtol=0, atol=1e-5)
    assert strip.sums.shape[2] == max(extent for _, extent in tiling.rows)  # no more is held


def test_neighbouring_windows_sum_to_one_and_are_flat_at_both_ends():
    tiling = Tiling(size=(64, 224), tile=128, overlap=32)
    first, second = (tiling.weight(box)[0] for box in tiling.boxes(tiling.rows[0]))
    assert tiling.columns == [(0, 128), (96, 128)]
    torch.testing.assert_close(first[96:] + second[:32], torch.ones(32))
    assert float(first[:96].min()) == 1 and float(first[96]) > 0.999 and float(first[-1]) < 1e-3


def test_what_no_tile_was_laid_on_is_reported():
    strip = BlendBuffer.of(Tiling(size=(64, 128), tile=64, overlap=0), 1, 1)
    strip.add(Box(0, 64, 64, 64), torch.ones(64, 64), [0], torch.ones(1, 1, 64, 64))
    _, there = strip.pop_rows(64)
    assert not bool(there[:, :64].any()) and bool(there[:, 64:].all())


@pytest.mark.parametrize(("tile", "overlap"), [(60, 16), (0, 0), (64, 8), (64, 48), (64, -16)])
def test_sides_that_cannot_be_are_reported(tile, overlap):
    with pytest.raises(UserError, match="tile: "):
        Tiling(size=(100, 100), tile=tile, overlap=overlap)
