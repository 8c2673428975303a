"""Panoramas: where each time looks and draws, and that the image stays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restoration.learners import EachPixel, model_of, tiny_learner
from restoration.test_painting import levels, nothing, painter
from scorefield.errors import UserError
from scorefield.restoration.panorama import panorama, route

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
    way = route((height, width), sides, amount, times)
    known = np.zeros(way.size, np.bool_)
    known[way.image.slices] = True
    assert (way.image.height, way.image.width) == (height, width) and known.sum() == height * width
    assert len(way.steps) == times * len(sides)
    for step in way.steps:
        rows, columns = step.drawn.slices
        assert known[rows, columns].size and not known[rows, columns].any()
        seen = np.zeros_like(known)
        seen[step.seen.slices] = True
        assert seen[rows, columns].all()
        known[rows, columns] = True
        assert known[step.seen.slices].all()
    assert known.all()
    tall, wide = max(1, round(amount * height)), max(1, round(amount * width))
    assert way.size[0] == height + times * tall * sum(side in sides for side in ("top", "bottom"))
    assert way.size[1] == width + times * wide * sum(side in sides for side in ("left", "right"))


def test_the_image_stays_and_the_rest_is_drawn_differently_by_each_candidate():
    image = levels(30, 40)
    way = route((30, 40), ("right", "left"), 0.5, 3)
    network, told = EachPixel(), []
    by = panorama(painter(model_of(network), candidates=2, steps=4), image, way, side=128, deep=32)
    answers = by.answers(told.append)
    assert sum(told) == by.evaluations == 2 * 6 * 4
    for answer in answers:
        assert answer.shape == (30, 40 + 6 * 20, 3)
        assert np.array_equal(answer[:, 60:100], image)
    rest = np.delete(np.stack(answers), slice(60, 100), 2).astype(int)
    assert (rest[0] != rest[1]).mean() > 0.9
    strips = [answers[0][:, k * 20 : k * 20 + 20] for k in (0, 1, 2, 5, 6, 7)]
    assert all(not np.array_equal(a, b) for k, a in enumerate(strips) for b in strips[:k])


def test_16_bits_stay_16_bits():
    image = levels(20, 20, np.uint16)
    way = route((20, 20), ("bottom",), 0.5, 2)
    (answer,) = panorama(painter(tiny_learner(), steps=2), image, way, side=64, deep=32).answers(nothing)
    assert answer.dtype == np.uint16 and np.array_equal(answer[:20], image)


def test_no_time_at_all_is_told():
    with pytest.raises(UserError, match="times: need at least one"):
        route((8, 8), ("left",), 0.5, 0)
