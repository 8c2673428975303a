"""From coarse to fine: color on the luma that is known, and wide masks by way of a small image."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restoration.learners import EachPixel, levels, model_of, nothing, tiled, tiny_learner
from scorefield.degradations import Box
from scorefield.restoration.canvas import Canvas
from scorefield.restoration.guided_upsample import recolored
from scorefield.restoration.multiscale import colorize, contains_square, fill, fit_within, sizes_between
from scorefield.restoration.pixels import enlarged

RANGE = (-1.0, 1.0)
LUMA = np.array([0.299, 0.587, 0.114])


def off_luma(color, grey):
    """The largest difference of luma, in levels."""
    return np.abs(color @ LUMA - grey[..., 0]).max()


@settings(max_examples=20)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4), st.integers(0, 99))
def test_recolored_images_have_the_luma_that_is_known(height, width, times, seed):
    grey = levels(times * height, times * width, channels=1, seed=seed)
    sample, small = levels(height, width, seed=seed + 1), grey[::times, ::times]
    out = recolored(sample, small, grey)
    assert out.shape == (*grey.shape[:2], 3) and out.dtype == np.uint8
    assert off_luma(out, grey) <= 0.5 + 1e-3  # each channel is rounded by half a level at most


def test_at_16_bits_the_luma_is_known_to_16_bits():
    grey = levels(50, 60, np.uint16, 1)
    out = recolored(levels(25, 30, np.uint16), grey[::2, ::2], grey)
    assert out.dtype == np.uint16 and off_luma(out, grey) <= 0.6


def test_a_result_with_the_right_luma_comes_back_as_it_is():
    sample = levels(30, 40) // 2 + 64  # far enough from black and white
    grey = np.rint(sample @ LUMA).astype(np.uint8)[..., None]
    assert np.abs(recolored(sample, grey, grey).astype(int) - sample).max() <= 1


def test_color_goes_along_the_edges_of_the_luma():
    # two colors that meet at an edge of the luma: enlarged 8 times, the color keeps to its side
    grey = np.full((128, 128, 1), 60, np.uint8)
    grey[:, 61:] = 180  # not where small pixels end
    true = np.where(grey > 100, [230, 170, 100], [20, 60, 165]).astype(np.uint8)
    small = Canvas(levels=true, mask=None, value_range=RANGE).reduced((16, 16)).levels
    small_grey = Canvas(levels=grey, mask=None, value_range=RANGE).reduced((16, 16)).levels
    out = recolored(small, small_grey, grey).astype(int)
    plain = enlarged(torch.from_numpy(small).permute(2, 0, 1).float(), (128, 128), Box(0, 0, 128, 128))
    band = slice(58, 64)
    plainly = np.abs(plain.permute(1, 2, 0).numpy() - true)[:, band].mean()
    assert np.abs(out - true)[:, band].mean() < plainly / 4  # measured a tenth


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 90), st.integers(1, 90), st.integers(0, 9))
def test_a_part_that_is_enlarged_is_the_part_of_the_enlarged(h, w, height, width, seed):
    small = torch.rand(2, h, w, generator=torch.Generator().manual_seed(seed))
    size = (max(h, height), max(w, width))
    whole = enlarged(small, size, Box(0, 0, *size))
    expected = torch.nn.functional.interpolate(small[None], size, mode="bilinear")[0]
    torch.testing.assert_close(whole, expected, rtol=0, atol=1e-5)
    top, left = seed % size[0], seed % size[1]
    part = enlarged(small, size, Box(top, left, size[0] - top, size[1] - left))
    assert torch.equal(part, whole[:, top:, left:])


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([64, 128, 256]))
def test_stages_go_from_small_to_whole_by_at_most_two(height, width, side):
    sizes = sizes_between((height, width), side)
    assert sizes[-1] == (height, width)
    assert max(sizes[0]) == min(side, max(height, width))
    for small, large in pairwise(sizes):
        assert small != large
        assert max(large) <= 2.05 * max(small)
    assert fit_within((height, width), side) == sizes[0]


@pytest.mark.parametrize(("side", "expected"), [(1, True), (6, True), (7, False)])
def test_a_mask_contains_squares_up_to_its_depth(side, expected):
    masked = np.zeros((40, 50), np.bool_)
    masked[10:16, :] = True
    masked[:, 3:8] = True
    assert contains_square(masked, side) is expected


def test_colors_of_a_large_image_come_from_a_small_one_and_its_luma_from_itself():
    network = EachPixel()
    grey = np.broadcast_to(levels(150, 210, channels=1), (150, 210, 3))
    canvas = Canvas(levels=grey, mask=None, value_range=RANGE)
    reports = []
    by = colorize(tiled(model_of(network), candidates=2, steps=4), canvas, keep_luminance=False)
    results = by.samples(reports.append)
    assert {shape[2:] for shape in network.shapes} == {(23, 32)}  # whole, though a tile has 64
    assert sum(reports) == by.evaluations == 8
    assert len(results) == 2 and not np.array_equal(*results)
    assert max(off_luma(result, grey[..., :1]) for result in results) <= 0.5 + 1e-3


def test_a_small_image_keeps_its_luma_or_not_as_is_wished():
    grey = np.broadcast_to(levels(40, 50, channels=1), (40, 50, 3))
    canvas = Canvas(levels=grey, mask=None, value_range=RANGE)
    kept, free = (
        colorize(tiled(tiny_learner(size=32), steps=3), canvas, keep_luminance=keep).samples(nothing)[0]
        for keep in (True, False)
    )
    assert off_luma(kept, grey[..., :1]) <= 0.5 + 1e-3 < off_luma(free, grey[..., :1])


def wide_mask(height=120, width=180):
    masked = np.zeros((height, width), np.bool_)
    masked[:, 60:] = True
    return Canvas(levels=levels(height, width), mask=masked, value_range=RANGE)


def test_a_wide_mask_is_filled_from_small_to_large():
    network, canvas, reports = EachPixel(), wide_mask(), []
    by = fill(tiled(model_of(network), steps=10, tile=64), canvas)
    (result,) = by.samples(reports.append)
    assert sum(reports) == by.evaluations == sum(shape[0] for shape in network.shapes)
    assert network.shapes[0][2:] == (21, 32) and max(max(s[2:]) for s in network.shapes) < 64 + 16
    assert np.array_equal(result[~canvas.mask], canvas.levels[~canvas.mask])


def test_what_is_drawn_small_is_what_is_drawn_large():
    # pixels that correlate with nothing: only the small result makes neighbours of the large one alike
    canvas = wide_mask(240, 360)
    model = model_of(EachPixel(0.3, 1e4))  # N(0, 0.3²), and nothing is shown
    (plain,) = tiled(model, steps=30).sample(canvas, report=nothing)
    (restored,) = fill(tiled(model, steps=30), canvas).samples(nothing)

    def likeness(image):
        drawn = image[:, 64:] / 127.5 - 1
        a, b = drawn[:, 1:].ravel(), drawn[:, :-1].ravel()
        return np.corrcoef(a, b)[0, 1]

    assert abs(likeness(plain)) < 0.02 and likeness(restored) > 0.05


def test_a_narrow_mask_is_filled_at_its_own_size():
    canvas = wide_mask()
    canvas.mask[:] = False
    canvas.mask[50:56, 10:170] = True
    by = tiled(tiny_learner(), steps=2)
    (result,) = fill(by, canvas).samples(nothing)
    assert np.array_equal(result, by.sample(canvas, report=nothing)[0])


@pytest.mark.parametrize(("regression", "evaluations"), [(True, 1), (False, 2)])
def test_few_evaluations_fill_a_wide_mask_by_its_small_result_enlarged(regression, evaluations):
    sampler = tiled(tiny_learner(regression=regression), steps=evaluations)
    canvas = wide_mask()
    by = fill(sampler, canvas)
    (result,) = by.samples(nothing)
    assert by.evaluations == evaluations
    (small,) = sampler.sample(canvas.reduced((21, 32)), report=nothing)
    large = enlarged(torch.from_numpy(small).permute(2, 0, 1).float(), (120, 180), Box(0, 0, 120, 180))
    assert np.abs(result - large.permute(1, 2, 0).numpy())[canvas.mask].max() <= 0.51
    assert np.array_equal(result[~canvas.mask], canvas.levels[~canvas.mask])
