"""Noise as a function of seed and position."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scorefield.degradations import Box
from scorefield.restoration.tiles import NoiseField

WHOLE = NoiseField(seed=7, stream=(0, 0, 0), channels=3).window(Box(0, 0, 300, 200))


@settings(max_examples=30)
@given(st.integers(0, 250), st.integers(0, 150), st.integers(1, 50), st.integers(1, 50))
def test_a_window_is_a_part_of_the_whole(top, left, height, width):
    part = NoiseField(seed=7, stream=(0, 0, 0), channels=3).window(Box(top, left, height, width))
    assert torch.equal(part, WHOLE[:, top : top + height, left : left + width])


def test_it_is_standard_normal_and_white():
    n = WHOLE.numel()
    assert abs(float(WHOLE.mean())) < 4 / math.sqrt(n)
    assert abs(float(WHOLE.var()) - 1) < 4 * math.sqrt(2 / n)
    for a, b in (
        (WHOLE[:, 1:], WHOLE[:, :-1]),
        (WHOLE[:, :, 64:], WHOLE[:, :, :-64]),
        (WHOLE[:1], WHOLE[1:2]),
    ):
        assert abs(float((a * b).mean())) < 4 / math.sqrt(a.numel())


def test_seeds_and_streams_are_independent():
    box = Box(64, 0, 64, 64)
    fields = [
        NoiseField(seed=seed, stream=stream, channels=1).window(box)
        for seed in (0, 1, -1, 2**70)
        for stream in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0))
    ]
    flat = torch.stack([field.flatten() for field in fields[:12]])  # 2**70 is 0 by 64 bits
    correlations = torch.corrcoef(flat) - torch.eye(12)
    assert float(correlations.abs().max()) < 4.5 / 64
