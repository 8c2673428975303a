"""The animation of the way from noise to images."""

import numpy as np
import pytest
import torch
from PIL import Image

from scorefield.figures.trace import Trace
from scorefield.samplers import Step


def step(index, *, value=0.0, sigma=1.0, n=2, channels=1):
    x = torch.full((n, channels, 4, 4), value)
    return Step(index=index, evaluations=index + 1, sigma=sigma, x=x, denoised=-x)


def levels(frame):
    """The grey of the middle of the first noisy and the first denoised image."""
    values = np.asarray(frame)
    half = (values.shape[1] - 12) // 2
    return int(values[10, 10]), int(values[10, half + 12 + 10])


@pytest.mark.parametrize("steps", [1, 2, 5, 9, 10, 11, 40, 1000])
def test_few_frames_are_kept_among_them_the_first_and_the_last(steps):
    trace = Trace((-1.0, 1.0), frames=10)
    for index in range(steps):
        trace.add(step(index, value=(1 - index / 1000) * 2**0.5))  # shown as 1 − index/1000
    seen = [levels(frame)[0] for frame in trace.images()]
    assert len(seen) <= 11
    assert seen[0] == 255
    assert seen[-1] == round(255 * (1 - (steps - 1) / 2000))
    assert seen == sorted(seen, reverse=True)
    between = np.diff(seen[:-1])
    assert len(between) < 2 or np.ptp(between) <= 1  # evenly, but for the last
    assert len(seen) == steps or len(seen) >= 5


def test_a_noisy_image_is_shown_at_unit_spread_beside_what_the_model_makes_of_it():
    """x = 0.6·√(1+σ²) at σ = 3 is shown as 0.6; D as it is."""
    trace = Trace((-1.0, 1.0))
    x = torch.full((1, 1, 4, 4), 0.6 * 10**0.5)
    trace.add(Step(index=0, evaluations=1, sigma=3.0, x=x, denoised=torch.full_like(x, -0.2)))
    assert levels(trace.images()[0]) == (round(255 * 0.8), round(255 * 0.4))


def test_a_range_from_0_to_1_shrinks_towards_its_middle():
    trace = Trace((0.0, 1.0))
    x = torch.full((1, 1, 4, 4), 0.5 + 0.25 * 10**0.5)
    trace.add(Step(index=0, evaluations=1, sigma=3.0, x=x, denoised=torch.zeros_like(x)))
    assert levels(trace.images()[0]) == (round(255 * 0.75), 0)


def test_only_the_first_batch_is_followed():
    trace = Trace((-1.0, 1.0))
    for index in (0, 1, 2, 0, 1, 2):
        trace.add(step(index))
    assert len(trace.images()) <= 4


def test_color_traces_are_written_as_an_animation(tmp_path):
    trace = Trace((-1.0, 1.0), count=4)
    for index in range(6):
        trace.add(step(index, value=index / 5, n=9, channels=3))
    path = trace.save(tmp_path / "way.gif")
    with Image.open(path) as film:
        assert film.format == "GIF"
        assert film.n_frames >= 5
