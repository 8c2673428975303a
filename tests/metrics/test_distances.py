"""Distances against closed forms and against plain implementations of their definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from scorefield.metrics.distances import (
    energy_distance,
    frechet_distance,
    frechet_from_statistics,
    inception_score,
    kernel_distance,
    moments,
)

EYE = torch.eye(3, dtype=torch.float64)
ZERO = torch.zeros(3, dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(width: int) -> Tensor:
    return torch.linalg.qr(normal(width, width, seed=9))[0]


def random_covariance(width: int, rank: int, seed: int) -> Tensor:
    root = normal(width, rank, seed=seed)
    return root @ root.T


@given(st.floats(-50, 50), st.floats(-50, 50), st.floats(0, 50), st.floats(0, 50))
def test_frechet_in_one_dimension_is_the_difference_of_means_and_deviations(m, n, s, t):
    def one(value: float) -> Tensor:
        return torch.tensor([value], dtype=torch.float64)

    found = frechet_from_statistics(one(m), one(s**2)[None], one(n), one(t**2)[None])
    assert found == pytest.approx((m - n) ** 2 + (s - t) ** 2, rel=1e-9, abs=1e-9)


def test_frechet_of_commuting_covariances_adds_up_over_the_common_axes():
    q = rotation(3)
    a, b = torch.tensor([1.0, 4.0, 9.0]).double(), torch.tensor([16.0, 1.0, 0.0]).double()
    found = frechet_from_statistics(ZERO + 1, q @ a.diag() @ q.T, ZERO, q @ b.diag() @ q.T)
    assert found == pytest.approx(3 + (1 - 4) ** 2 + (2 - 1) ** 2 + 3**2, rel=1e-12)


def test_frechet_agrees_with_the_root_of_the_product_that_does_not_commute():
    a, b = random_covariance(5, 5, 1), random_covariance(5, 5, 2)
    zero = torch.zeros(5, dtype=torch.float64)
    values = np.linalg.eigvals((a @ b).numpy())  # of ΣaΣb itself: positive, though it is not symmetric
    expected = float(a.trace() + b.trace()) - 2 * np.sqrt(values.real).sum()
    assert frechet_from_statistics(zero, a, zero, b) == pytest.approx(expected, rel=1e-9)


def test_frechet_of_the_sample_uses_the_unbiased_covariance():
    a, b = normal(50, 4), 2 * normal(40, 4, seed=1) + 1
    expected = frechet_from_statistics(
        *(torch.from_numpy(s) for x in (a, b) for s in (x.numpy().mean(0), np.cov(x.numpy().T)))
    )
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)
    assert moments(a)[1].shape == (4, 4)


@pytest.mark.parametrize("rows", [5, 200])  # 5 rows of 16 values: a singular covariance
def test_frechet_of_a_sample_with_itself_is_zero_and_it_is_symmetric(rows):
    a, b = normal(rows, 16), 3 * normal(rows, 16, seed=1) - 2
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-12 * rows)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-12)
    assert frechet_distance(a, b) > 16 * 4 * 0.5


def test_frechet_does_not_feel_a_common_rotation_and_scales_with_the_square():
    a, b, q = normal(60, 6), normal(80, 6, seed=1) * torch.arange(1, 7), rotation(6)
    distance = frechet_distance(a, b)
    assert frechet_distance(a @ q, b @ q) == pytest.approx(distance, rel=1e-10)
    assert frechet_distance(3 * a, 3 * b) == pytest.approx(9 * distance, rel=1e-10)


def test_frechet_of_singular_covariances_keeps_twelve_digits():
    line = torch.diag(torch.tensor([4.0, 0.0, 0.0])).double()
    plane = torch.diag(torch.tensor([1.0, 9.0, 0.0])).double()
    assert frechet_from_statistics(ZERO, line, ZERO, plane) == pytest.approx(1 + 9, rel=1e-12)
    thin = random_covariance(40, 3, 3)
    wide = torch.zeros(40, dtype=torch.float64)
    assert frechet_from_statistics(wide, thin, wide, thin) == pytest.approx(0, abs=1e-11)
    assert frechet_from_statistics(ZERO, 0 * EYE, ZERO, EYE) == pytest.approx(3, rel=1e-12)


def plain_kernel_distance(a: Tensor, b: Tensor) -> float:
    def k(x: Tensor, y: Tensor) -> float:
        return (float(x @ y) / len(x) + 1) ** 3

    def within(s: Tensor) -> float:
        return sum(k(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j) / len(s) / (len(s) - 1)

    return within(a) + within(b) - 2 * sum(k(x, y) for x in a for y in b) / len(a) / len(b)


def test_kernel_distance_is_its_definition_over_all_pairs():
    a, b = normal(12, 3), normal(9, 3, seed=1) + 0.5
    assert kernel_distance(a, b)[0] == pytest.approx(plain_kernel_distance(a, b), rel=1e-11)


def test_kernel_distance_is_unbiased_for_one_distribution():
    values = torch.tensor([kernel_distance(normal(10, 4, seed=s), normal(10, 4, seed=s + 500))[0] for s in range(300)])
    assert values.mean().abs() < 3 * values.std() / 300**0.5  # a biased estimate is off by 40 of these
    assert (values < 0).any()


def test_kernel_distance_states_its_own_deviation():
    drawn = [kernel_distance(normal(60, 4, seed=s), normal(60, 4, seed=s + 500) + 0.4) for s in range(150)]
    values, stated = torch.tensor(drawn).T
    assert stated.mean() == pytest.approx(float(values.std()), rel=0.2)


def test_kernel_distance_over_subsets_estimates_the_whole():
    a, b = normal(400, 4), normal(300, 4, seed=1) + 0.3
    whole, _ = kernel_distance(a, b)
    mean, deviation = kernel_distance(a, b, subsets=200, subset_size=100)
    assert mean == pytest.approx(whole, abs=4 * deviation / 200**0.5)
    assert (mean, deviation) == kernel_distance(a, b, subsets=200, subset_size=100)
    assert mean != kernel_distance(a, b, subsets=200, subset_size=100, seed=1)[0]


@pytest.mark.parametrize("classes", [2, 10])
def test_inception_score_is_one_for_equal_rows_and_k_for_certain_even_classes(classes):
    even = torch.full((100, classes), 1 / classes)
    assert inception_score(even) == pytest.approx((1, 0), abs=1e-6)
    collapsed = torch.eye(classes)[torch.zeros(100, dtype=torch.int64)]
    assert inception_score(collapsed) == pytest.approx((1, 0), abs=1e-12)
    certain = torch.eye(classes)[torch.arange(100) % classes]
    assert inception_score(certain, splits=1) == pytest.approx((classes, 0), rel=1e-12)


def test_inception_score_of_a_binary_channel_is_two_to_its_mutual_information():
    error = 0.1
    p = torch.tensor([[1 - error, error], [error, 1 - error]], dtype=torch.float64).repeat(500, 1)
    entropy = -error * math.log(error) - (1 - error) * math.log(1 - error)
    assert inception_score(p, splits=1)[0] == pytest.approx(2 * math.exp(-entropy), rel=1e-9)


def test_inception_score_does_not_mistake_sorted_classes_for_collapse():
    certain = torch.eye(10)[torch.arange(5000) // 500]
    mean, deviation = inception_score(certain)
    assert 9.7 < mean <= 10 and 0 < deviation < 0.2


def test_energy_distance_of_two_points_is_twice_their_distance():
    assert energy_distance(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]])) == pytest.approx(10)


def test_energy_distance_is_its_definition_in_blocks():
    a, b = normal(30, 2), normal(25, 2, seed=1) * 2

    def mean(x: Tensor, y: Tensor) -> float:
        return float((x[:, None] - y[None]).norm(dim=2).mean())

    expected = 2 * mean(a, b) - mean(a, a) - mean(b, b)
    assert energy_distance(a, b, chunk=7) == pytest.approx(expected, rel=1e-10)
    assert energy_distance(a, a, chunk=7) == pytest.approx(0, abs=1e-12)


def test_energy_distance_of_one_distribution_falls_as_one_over_n():
    near, far = (
        sum(energy_distance(normal(n, 2, seed=s), normal(n, 2, seed=s + 99)) for s in range(20)) / 20
        for n in (400, 100)
    )
    assert far / near == pytest.approx(4, rel=0.35)


def test_energy_distance_in_one_dimension_is_twice_the_squared_difference_of_distribution_functions():
    a, b = normal(200, 1), normal(150, 1, seed=1) + 1
    points = torch.cat([a, b]).flatten().sort().values
    difference = (points[:, None] >= a.T).double().mean(1) - (points[:, None] >= b.T).double().mean(1)
    expected = 2 * (difference[:-1].square() * points.diff()).sum()  # Székely & Rizzo 2013, §2
    assert energy_distance(a, b) == pytest.approx(float(expected), rel=1e-10)


@pytest.mark.parametrize("measure", [frechet_distance, kernel_distance, energy_distance])
def test_distances_refuse_what_they_cannot_compare(measure):
    good = normal(8, 3)
    bad = good.clone()
    bad[2, 1] = math.nan
    with pytest.raises(ValueError, match="1 of 8 rows hold NaN"):
        measure(good, bad)
    with pytest.raises(ValueError, match="widths 3 and 2"):
        measure(good, good[:, :2])
    with pytest.raises(ValueError, match="rows"):
        measure(good, good[:0])
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        measure(good[0], good)


def test_one_row_has_no_covariance():
    with pytest.raises(ValueError, match="1 rows, need at least 2"):
        frechet_distance(normal(1, 3), normal(8, 3))


def test_statistics_of_other_widths_or_with_nan_are_refused():
    with pytest.raises(ValueError, match="do not belong together"):
        frechet_from_statistics(ZERO, EYE, ZERO[:2], EYE[:2, :2])
    with pytest.raises(ValueError, match="NaN"):
        frechet_from_statistics(ZERO, EYE, ZERO * math.nan, EYE)


def test_inception_score_refuses_scores_and_too_many_splits():
    with pytest.raises(ValueError, match="sum to 1"):
        inception_score(normal(20, 4))
    with pytest.raises(ValueError, match="splits of"):
        inception_score(torch.full((5, 2), 0.5))
