"""Intervals against normal theory, and on data whose groups are alike."""

import math

import pytest
import torch

from oracles import seeded
from scorefield.metrics.confidence import bootstrap, jackknife
from scorefield.metrics.distances import frechet_distance


def test_the_bootstrap_of_a_mean_is_that_of_normal_theory():
    values = torch.randn(400, generator=seeded(0)) * 3 + 1
    found = bootstrap(values, torch.arange(400))
    half = 1.96 * float(values.std()) / 20
    assert found.value == pytest.approx(float(values.mean()), abs=1e-5)
    assert found.high - found.value == pytest.approx(half, rel=0.1)
    assert found.value - found.low == pytest.approx(half, rel=0.1)


def test_windows_of_one_photograph_count_as_one():
    # Four equal windows of each of 100 photographs: as wide as 100 values, twice as wide as 400.
    values = torch.randn(100, generator=seeded(1))
    four, groups = values.repeat(4), torch.arange(100).repeat(4)
    alone, together, wrongly = (
        bootstrap(v, g) for v, g in ((values, torch.arange(100)), (four, groups), (four, torch.arange(400)))
    )
    width = [i.high - i.low for i in (alone, together, wrongly)]
    assert width[1] == pytest.approx(width[0], rel=0.01)
    assert width[1] / width[2] == pytest.approx(2, rel=0.1)


def test_a_bootstrap_is_repeated_by_its_seed_and_holds_constants():
    values = torch.rand(30, generator=seeded(2))
    groups = torch.arange(30)
    assert bootstrap(values, groups, seed=3) == bootstrap(values, groups, seed=3)
    assert bootstrap(values, groups, seed=3) != bootstrap(values, groups, seed=4)
    constant = bootstrap(torch.full((9,), 2.5), torch.arange(9))
    assert (constant.low, constant.value, constant.high) == (2.5, 2.5, 2.5)
    assert constant.excludes_zero


def test_the_jackknife_of_a_mean_is_students_interval():
    # Leaving one of 20 out in turn gives exactly s/√n for a mean.
    values = torch.randn(20, generator=seeded(3), dtype=torch.float64)
    mean, twice = jackknife(lambda rows: torch.stack([values[rows].mean(), 2 * values[rows].mean()]), torch.arange(20))
    half = 2.093 * float(values.std()) / math.sqrt(20)
    assert mean.high - mean.value == pytest.approx(half, rel=1e-3)
    assert twice.high - twice.value == pytest.approx(2 * half, rel=1e-3)


def test_the_jackknife_of_a_frechet_distance_covers_what_many_samples_show():
    def sample(seed, n=200):
        x = torch.randn(n, 4, generator=seeded(seed))
        return x, x * 0.8 + 0.3

    many = torch.tensor([frechet_distance(*sample(seed)) for seed in range(100, 160)])
    a, b = sample(0)
    (found,) = jackknife(lambda rows: torch.tensor([frechet_distance(b[rows], a[rows])]), torch.arange(200))
    assert (found.high - found.low) / 2 / 2.093 == pytest.approx(float(many.std()), rel=0.5)


@pytest.mark.parametrize("n", [20, 40, 200])
def test_the_interval_of_a_frechet_distance_is_above_zero_even_between_alike_samples(n):
    a, b = (torch.randn(n, 4, generator=seeded(seed)) for seed in (0, 1))

    def statistic(rows):
        distance = frechet_distance(b[rows], a[rows])
        return torch.tensor([distance, distance])

    one, plain = jackknife(statistic, torch.arange(n), positive=1)
    assert 0 < one.low < one.value < one.high
    assert one.value == plain.value
    relative = math.log(one.high / one.value)
    assert math.log(one.value / one.low) == pytest.approx(relative)
    assert relative == pytest.approx((plain.high - plain.value) / plain.value, rel=0.5)  # where both are narrow, equal


def test_one_photograph_has_no_interval():
    with pytest.raises(ValueError, match="two groups"):
        bootstrap(torch.ones(3), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="groups"):
        bootstrap(torch.ones(3), torch.arange(4))


def test_a_number_is_written_with_a_true_minus():
    (one,) = jackknife(lambda rows: -rows.double().mean()[None], torch.arange(3))
    assert one.text(1, signed=True).startswith("−1.0 [−")
