"""Samples and their nearest training images."""

import pytest
import torch

from scorefield.figures.neighbours import find
from scorefield.metrics import random_features
from training.toys import images


def test_a_planted_copy_is_found_at_distance_zero_in_both_spaces():
    train, judge = images(), random_features(1)
    samples = torch.cat([train.images[[31, 7]], 255 - train.images[:1]])
    held_out = torch.flip(train.images[:20], (-1,))
    for space in find(samples, train, held_out, judge, k=3):
        assert space.indices[:2, 0].tolist() == [31, 7]
        assert space.distances[:2, 0].tolist() == pytest.approx([0, 0], abs=1e-4)
        assert float(space.distances[2, 0]) > 0.01
        assert bool((space.distances.diff(dim=1) >= 0).all())


def test_distances_of_pixels_are_those_of_values_from_0_to_1():
    train = images()
    flat = torch.full((1, 1, 8, 8), 100, dtype=torch.uint8)
    pixels, _ = find(flat, train, train.images[:5], random_features(1), k=1)
    near = train.images[pixels.indices[0, 0]].double()
    assert float(pixels.distances[0, 0]) == pytest.approx(float(((near - 100) / 255).norm()), rel=1e-9)


def test_a_training_image_that_is_held_out_is_not_its_own_neighbour():
    train = images()
    pixels, _ = find(train.images[:1], train, train.images[:9], random_features(1), k=1)
    assert pixels.held_out > 0.05
