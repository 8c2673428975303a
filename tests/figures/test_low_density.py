"""Where a learned score is right."""

import pytest
import torch
from torch import nn

from scorefield.figures.catalog import LowDensity
from scorefield.figures.low_density import errors_by_density, train
from scorefield.figures.mixing import mixture
from scorefield.model import ScoreNetwork


class Scaled(nn.Module):
    """The exact score times a factor."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x, label, source=None):
        return self.factor * mixture().score(x)


@pytest.mark.parametrize("factor", [1.0, 0.0, -1.0, 1.25])
def test_the_error_of_a_scaled_score_is_the_scale_less_one_in_every_bin(factor):
    rows = errors_by_density(ScoreNetwork(Scaled(factor)), LowDensity(points=81))
    assert len(rows) == 9
    for row in rows:
        assert row["relative_error"] == pytest.approx(abs(factor - 1), abs=1e-5)
        if factor:
            assert row["cosine"] == pytest.approx(1 if factor > 0 else -1, abs=1e-5)


def test_the_bins_cover_the_square_and_all_samples():
    rows = errors_by_density(ScoreNetwork(Scaled(1.0)), LowDensity())
    assert sum(row["share_of_square"] for row in rows) == pytest.approx(1, abs=1e-9)
    assert sum(row["share_of_samples"] for row in rows) == pytest.approx(1, abs=0.01)  # 3σ from the edge
    # In the plane exp(−r²/2) > c holds 1 − c of N(0, I); the small mode is a quarter as high.
    assert rows[0]["share_of_samples"] == pytest.approx(0.8 * (1 - 0.1) + 0.2 * (1 - 0.4), abs=0.01)


@pytest.mark.slow
def test_training_begins_to_learn_the_score_where_the_data_are():
    """From √E‖s‖² = √2 for s = 0; 400 iterations reach 0.3 in the densest decade, 1 is that of no score."""
    rows = errors_by_density(train(LowDensity(iterations=400, width=64)), LowDensity(points=61))
    assert rows[0]["relative_error"] < 0.6
    assert rows[0]["cosine"] > 0.8
    assert rows[-1]["relative_error"] > rows[0]["relative_error"]


def test_the_same_seed_gives_the_same_field():
    settings = LowDensity(iterations=5, batch=8, width=8)
    first, second, third = (train(settings, seed=seed) for seed in (3, 3, 4))
    weights = [torch.cat([p.flatten() for p in field.parameters()]) for field in (first, second, third)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
