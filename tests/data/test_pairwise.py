"""Distances among images against all pairs taken one by one."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oracles import seeded
from scorefield.data.pairwise import pairwise_distances
from scorefield.errors import UserError


def all_distances(images):
    rows = images.double().flatten(1) / (255 if images.dtype == torch.uint8 else 1)
    pairs = torch.triu_indices(len(rows), len(rows), offset=1)
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")[pairs[0], pairs[1]]


def blobs(n, seed=0, *, bytes_=True):
    """Of very different brightness, as images are."""
    light = torch.rand(n, 1, 1, 1, generator=seeded(seed))
    values = light * torch.rand(n, 1, 5, 6, generator=seeded(seed + 1))
    return (values * 255).round().byte() if bytes_ else values


@given(st.integers(2, 60), st.integers(1, 9), st.integers(0, 50), st.booleans())
def test_the_largest_distance_is_that_of_all_pairs(n, chunk, seed, bytes_):
    images = blobs(n, seed, bytes_=bytes_)
    found, exact = pairwise_distances(images, chunk=chunk), all_distances(images)
    assert found.exact and (found.images, found.dim) == (n, 30)
    assert found.largest == pytest.approx(float(exact.max()), rel=1e-6, abs=1e-6)
    assert found.median == pytest.approx(float(exact.median()), rel=1e-4, abs=1e-5)


def test_images_all_as_far_from_the_mean_are_compared_with_one_another():
    # r_i + r_j never falls below what was found: no pair may be left out
    rows = torch.nn.functional.normalize(torch.randn(300, 40, generator=seeded()), dim=1)
    assert pairwise_distances(rows, chunk=16).largest == pytest.approx(float(all_distances(rows).max()), rel=1e-6)


def test_black_and_white_are_as_far_apart_as_can_be():
    images = torch.cat([torch.zeros(1, 3, 32, 32), torch.full((99, 3, 32, 32), 128), torch.full((1, 3, 32, 32), 255)])
    assert pairwise_distances(images.byte()).largest == pytest.approx(3072**0.5, rel=1e-6)


def test_cut_short_it_says_so_and_is_no_larger_than_the_truth():
    images = torch.randn(400, 30, generator=seeded())
    cut, whole = pairwise_distances(images, chunk=8, budget=1e4), pairwise_distances(images, chunk=8)
    assert not cut.exact and whole.exact
    assert 0.5 * whole.largest < cut.largest <= whole.largest


def test_the_median_of_many_is_that_of_a_fixed_sample():
    images = blobs(2500)
    assert pairwise_distances(images) == pairwise_distances(images)
    assert pairwise_distances(images).median == pytest.approx(float(all_distances(images).median()), rel=0.05)


def test_the_same_image_twice_is_at_no_distance():
    found = pairwise_distances(blobs(1).expand(7, -1, -1, -1))
    assert found.largest == 0 and found.exact and found.median == 0


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_have_no_distance(n):
    with pytest.raises(UserError, match=f"a distance needs two, got {n}"):
        pairwise_distances(blobs(2)[:n])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_is_reported(bad):
    images = blobs(5, bytes_=False)
    images[3, 0, 2, 2] = bad
    with pytest.raises(UserError, match="NaN or infinity"):
        pairwise_distances(images)
