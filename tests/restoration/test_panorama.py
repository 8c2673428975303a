"""Panoramas: where each time looks and draws, and that the image stays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restoration.learners import EachPixel, levels, model_of, nothing, tiled, tiny_learner
from scorefield.errors import UserError
from scorefield.restoration import Uncrop
from scorefield.restoration.canvas import masked_canvas
from scorefield.restoration.multiscale import panorama, panorama_steps

SIDES = ("top", "right", "bottom", "left")


@settings(max_examples=50)
@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.lists(st.sampled_from(SIDES), min_size=1, unique=True),
    st.floats(0.05, 2),
    st.integers(1, 4),
)
def test_each_time_sees_what_is_known_and_draws_what_is_not(height, width, sides, amount, times):
    image, steps = panorama_steps((height, width), sides, amount, times)
    tall, wide = max(1, round(amount * height)), max(1, round(amount * width))
    size = (
        height + times * tall * sum(side in sides for side in ("top", "bottom")),
        width + times * wide * sum(side in sides for side in ("left", "right")),
    )
    known = np.zeros(size, np.bool_)
    known[image.slices] = True
    assert (image.height, image.width) == (height, width) and known.sum() == height * width
    assert len(steps) == times * len(sides)
    for seen, extended in steps:
        rows, columns = extended.slices
        assert known[rows, columns].size and not known[rows, columns].any()
        inside = np.zeros_like(known)
        inside[seen.slices] = True
        assert inside[rows, columns].all()
        known[rows, columns] = True
        assert known[seen.slices].all()
    assert known.all()


def drafted(sampler, image, size, sides, amount, times):
    whole = np.zeros((*size, image.shape[2]), image.dtype)
    canvas = masked_canvas(whole, np.ones(size, np.bool_), value_range=(-1.0, 1.0), masked_input=1.0)
    return panorama(sampler, image, canvas, sides=sides, amount=amount, times=times)


def test_the_image_stays_and_the_rest_is_drawn_differently_by_each_candidate():
    image = levels(30, 40)
    network, reports = EachPixel(), []
    by = drafted(
        tiled(model_of(network, shape=(3, 64, 64)), candidates=2, steps=4), image, (30, 160), ("right", "left"), 0.5, 3
    )
    results = by.samples(reports.append)
    assert sum(reports) == by.evaluations == 2 * 6 * 4
    for result in results:
        assert result.shape == (30, 40 + 6 * 20, 3)
        assert np.array_equal(result[:, 60:100], image)
    rest = np.delete(np.stack(results), slice(60, 100), 2).astype(int)
    assert (rest[0] != rest[1]).mean() > 0.9
    strips = [results[0][:, k * 20 : k * 20 + 20] for k in (0, 1, 2, 5, 6, 7)]
    assert all(not np.array_equal(a, b) for k, a in enumerate(strips) for b in strips[:k])


def test_16_bits_stay_16_bits():
    image = levels(20, 20, np.uint16)
    by = drafted(tiled(tiny_learner(size=64), steps=2), image, (40, 20), ("bottom",), 0.5, 2)
    (result,) = by.samples(nothing)
    assert result.dtype == np.uint16 and np.array_equal(result[:20], image)


def test_no_time_at_all_is_reported():
    with pytest.raises(UserError, match="times: need at least one"):
        Uncrop(times=0)
