"""Nearest neighbours against the search that compares everything."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scorefield.metrics.neighbours import nearest


def plain(queries: torch.Tensor, reference: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    difference = queries.flatten(1).double()[:, None] - reference.flatten(1).double()[None]
    distances, indices = difference.square().sum(2).sqrt().sort(dim=1, stable=True)
    return indices[:, :k], distances[:, :k]


@given(st.integers(0, 10**6), st.integers(1, 5), st.sampled_from([1, 3, 1024]), st.floats(-1e3, 1e3))
def test_neighbours_are_those_of_the_plain_search(seed, k, chunk, offset):
    g = torch.Generator().manual_seed(seed)
    reference, queries = torch.randn(60, 7, generator=g) + offset, torch.randn(5, 7, generator=g) + offset
    indices, distances = nearest(queries, reference, k=k, chunk=chunk)
    expected_indices, expected = plain(queries, reference, k)
    assert torch.equal(indices, expected_indices)
    torch.testing.assert_close(distances, expected, rtol=1e-12, atol=0)


def test_rows_nearer_than_the_rounding_of_a_matrix_product_are_distinguished():
    g = torch.Generator().manual_seed(0)
    base = torch.randn(1, 64, generator=g, dtype=torch.float64)
    step = torch.randn(64, generator=g, dtype=torch.float64)
    order = torch.randperm(200, generator=g)
    reference = base + 1e-9 * (order[:, None] + 1) * step
    indices, distances = nearest(base, torch.cat([reference, 5 + reference]), k=3)
    assert indices[0].tolist() == [int((order == i).nonzero()) for i in range(3)]
    torch.testing.assert_close(distances[0], 1e-9 * torch.arange(1, 4).double() * step.norm(), rtol=1e-5, atol=0)


def test_a_copy_is_at_distance_exactly_zero():
    g = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (300, 3, 16, 16), generator=g, dtype=torch.uint8)
    indices, distances = nearest(images[40:45], images)
    assert indices.flatten().tolist() == [40, 41, 42, 43, 44]
    assert distances.eq(0).all()
    floats = torch.randn(300, 50, generator=g) * 1e-3 + 1e3
    assert nearest(floats[7:9], floats)[1].eq(0).all()


def test_bytes_are_subtracted_as_numbers_without_wrapping():
    black, white = torch.zeros(1, 4, dtype=torch.uint8), torch.full((1, 4), 255, dtype=torch.uint8)
    assert nearest(black, white)[1].item() == 510


def test_equal_rows_come_in_order_of_their_indices():
    indices, distances = nearest(torch.zeros(1, 4), torch.ones(100, 4), k=3)
    assert indices.tolist() == [[0, 1, 2]] and distances.tolist() == [[2, 2, 2]]


def test_no_queries_have_no_neighbours():
    indices, distances = nearest(torch.zeros(0, 4), torch.ones(10, 4), k=2)
    assert indices.shape == distances.shape == (0, 2)


def test_what_has_no_neighbours_is_refused():
    rows = torch.zeros(5, 4)
    with pytest.raises(ValueError, match="rows of 3 and 4"):
        nearest(rows[:, :3], rows)
    with pytest.raises(ValueError, match="need 1 to 5"):
        nearest(rows, rows, k=6)
    with pytest.raises(ValueError, match="NaN"):
        nearest(rows, rows * math.nan)
