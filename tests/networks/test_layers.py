"""Small parts of networks."""

import math

import pytest
import torch

from scorefield.networks.layers import SinusoidalEmbedding, groups_of


def test_embedding_is_cosines_and_sines_of_falling_frequency():
    label = torch.tensor([0.7, -3.0])
    embedded = SinusoidalEmbedding(8)(label)
    for k in range(4):
        frequency = 10_000 ** (-k / 4)
        for row, value in enumerate((0.7, -3.0)):
            assert float(embedded[row, k]) == pytest.approx(math.cos(value * frequency), abs=1e-6)
            assert float(embedded[row, 4 + k]) == pytest.approx(math.sin(value * frequency), abs=1e-6)


@pytest.mark.parametrize("channels", [*range(1, 70), 96, 100, 256, 1000])
def test_groups_divide_the_channels(channels):
    groups = groups_of(channels)
    assert 1 <= groups <= 32 and channels % groups == 0
    assert groups == 1 or channels // groups >= 8
