"""Large images by tiles: as one would be, where pixels are independent; known pixels above all."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from restoration.learners import EachPixel, levels, model_of, nothing, tiled, tiny_learner
from scorefield.restoration import tiled_sampling as module
from scorefield.restoration.canvas import Canvas
from scorefield.restoration.pixels import enlarged

RANGE = (-1.0, 1.0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiles_put_together_are_the_image_drawn_whole(dtype):
    # independent pixels: tiles agree where they overlap, noise included
    canvas = Canvas(levels=levels(150, 203, dtype), mask=None, value_range=RANGE)
    model = model_of(EachPixel())
    whole = tiled(model, tile=208, candidates=2).sample(canvas, report=nothing)
    tiles = tiled(model, tile=64, candidates=2).sample(canvas, report=nothing)
    for a, b in zip(whole, tiles, strict=True):
        assert a.dtype == b.dtype == dtype
        apart = np.abs(a.astype(int) - b.astype(int))
        assert apart.max() <= (1 if dtype == np.uint8 else 16)  # of float rounding, 2e-7 of σ_max 20
        assert (apart > 0).mean() < (0.001 if dtype == np.uint8 else 0.5)
    assert np.abs(whole[0].astype(int) - whole[1]).mean() > 5  # candidates differ


def test_samples_are_draws_of_the_posterior():
    spread, seen = 0.3, 0.2
    canvas = Canvas(levels=np.full((200, 200, 3), 200, np.uint8), mask=None, value_range=RANGE)
    (result,) = tiled(model_of(EachPixel(spread, seen)), steps=40).sample(canvas, report=nothing)
    drawn, y = result / 127.5 - 1, 200 / 127.5 - 1
    variance = 1 / (spread**-2 + seen**-2)
    assert drawn.mean() == pytest.approx(y * variance / seen**2, abs=0.003)
    assert drawn.std() == pytest.approx(variance**0.5, rel=0.03)


def with_hole(dtype=np.uint8):
    hole = np.zeros((120, 155), np.bool_)
    hole[20:45, 60:85] = True
    hole[110:, 142:] = True
    return Canvas(levels=levels(120, 155, dtype), mask=hole, value_range=RANGE)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_known_pixels_come_back_byte_for_byte_and_masked_pixels_are_drawn(dtype):
    canvas = with_hole(dtype)
    samples = tiled(tiny_learner(), candidates=2, steps=3).sample(canvas, report=nothing)
    assert len(samples) == 2
    for answer in samples:
        assert np.array_equal(answer[~canvas.mask], canvas.levels[~canvas.mask])
        assert (answer[canvas.mask] != canvas.levels[canvas.mask]).mean() > 0.9


def test_tiles_with_nothing_to_fill_are_left_out_and_all_evaluations_are_reported():
    canvas, network = with_hole(), EachPixel()
    by, reports = tiled(model_of(network), candidates=3, steps=5), []
    by.sample(canvas, report=reports.append)
    tiles = sum(shape[0] for shape in network.shapes)
    assert tiles == sum(reports) == by.evaluations(canvas)
    assert by.evaluations(canvas) < 0.6 * by.evaluations(replace(canvas, mask=None))


def test_masked_pixels_are_noise_of_the_models_strength():
    canvas = replace(with_hole(), masked_input=0.25)
    by = tiled(tiny_learner())
    seen = canvas.network_input(canvas.whole, by._noise(0, 1).window)
    inside = seen.source[0][:, torch.from_numpy(canvas.mask)]
    assert float(inside.std()) == pytest.approx(0.25, rel=0.05)
    assert torch.equal(seen.mask[0, 0] > 0, torch.from_numpy(canvas.mask))


def test_answers_do_not_depend_on_how_many_tiles_are_done_at_once(monkeypatch):
    canvas = Canvas(levels=levels(70, 100), mask=None, value_range=RANGE)  # two rows of two tiles
    model = tiny_learner()
    results = []
    for count in (1, 1 << 20):
        monkeypatch.setattr(module, "PIXELS_AT_ONCE", count)
        results.append(tiled(model, candidates=2, steps=2).sample(canvas, report=nothing))
    one, many = results
    for a, b in zip(one, many, strict=True):
        assert np.abs(a.astype(int) - b.astype(int)).max() <= 1


def test_no_batch_is_larger_than_is_allowed_and_no_tile_larger_than_a_tile(monkeypatch):
    network = EachPixel()
    canvas = Canvas(levels=levels(200, 300), mask=None, value_range=RANGE)
    monkeypatch.setattr(module, "PIXELS_AT_ONCE", 3 * 64 * 64)
    tiled(model_of(network), candidates=4, steps=2).sample(canvas, report=nothing)
    assert max(b * h * w for b, _, h, w in network.shapes) <= 3 * 64 * 64
    assert max(max(shape[2:]) for shape in network.shapes) < 64 + 16
    assert max(shape[0] for shape in network.shapes) >= 3


def test_a_warm_start_keeps_of_the_start_what_the_ode_says():
    # SDEdit on N(0, s²) that is shown nothing (t → ∞): x0 from m ends at m k, k = s/√(s² + σ²)
    spread, sigma, m = 0.3, 0.4, 0.6
    model = model_of(EachPixel(spread, 1e4))
    canvas = Canvas(levels=np.zeros((100, 120, 3), np.uint8), mask=None, value_range=RANGE)
    by = tiled(model, steps=60, sampler="heun").from_level(sigma, 1)
    start = torch.full((3, 25, 30), m)
    (result,) = by.sample(canvas, report=nothing, start=[start])
    drawn = result / 127.5 - 1
    k = spread / (spread**2 + sigma**2) ** 0.5
    assert drawn.mean() == pytest.approx(m * k, abs=0.01)
    assert drawn.std() == pytest.approx(sigma * k, rel=0.03)


def test_seeds_stages_and_candidates_have_noise_of_their_own():
    canvas = Canvas(levels=levels(40, 40), mask=None, value_range=RANGE)
    by = tiled(model_of(EachPixel()))
    settings = ({}, {"seed": 4}, {"stage": 1}, {"first": 1})
    results = [replace(by, **each).sample(canvas, report=nothing)[0] for each in settings]
    again = by.sample(canvas, report=nothing)[0]
    assert np.array_equal(results[0], again)
    assert all(not np.array_equal(results[0], other) for other in results[1:])
    second = replace(by, candidates=2).sample(canvas, report=nothing)[1]
    assert np.array_equal(second, results[3])


def test_a_reduced_canvas_is_the_mean_of_what_is_known_beneath():
    image = levels(8, 8)
    masked = np.zeros((8, 8), np.bool_)
    masked[:, :5] = True
    small = Canvas(levels=image, mask=masked, value_range=RANGE).reduced((4, 4))
    assert np.array_equal(small.mask, [[True, True, False, False]] * 4)
    mean = image[:2, 6:].astype(float).mean((0, 1))
    assert np.abs(small.levels[0, 3] - mean).max() <= 0.5
    half = image[:2, 5:6].astype(float).mean((0, 1))  # one of two columns is known
    assert np.abs(small.levels[0, 2] - half).max() <= 0.5


def test_where_masked_pixels_are_interpolated_a_warm_start_replaces_them():
    # pixels all but known from what is shown: the result under the mask is the enlarged start
    masked = np.zeros((100, 120), np.bool_)
    masked[:, 40:] = True  # whole tiles of it, that see nothing known
    canvas = Canvas(levels=levels(100, 120), mask=masked, value_range=RANGE, masked_input="smooth")
    by = tiled(model_of(EachPixel(10.0, 1e-3)), steps=10).from_level(0.4, 1)
    start = torch.rand(3, 25, 30, generator=torch.Generator().manual_seed(0)) * 2 - 1
    (restored,) = by.sample(canvas, report=nothing, start=[start])
    guess = enlarged(start, (100, 120), canvas.whole).permute(1, 2, 0).numpy()
    assert np.abs(restored / 127.5 - 1 - guess)[masked].max() < 0.012  # half a level, and 4 spreads of 1e-3
    assert np.array_equal(restored[~masked], canvas.levels[~masked])
