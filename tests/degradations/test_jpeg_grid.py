"""Traces of JPEG compression in the pixels alone."""

import io

import numpy as np
import pytest
from PIL import Image

from scorefield.degradations.jpeg_grid import grid_strength
from scorefield.restoration.tasks import GRID


def scene(size=(160, 192)):
    """Slopes, a disc, stripes of a period that is no multiple of 8, and grain."""
    y, x = np.mgrid[: size[0], : size[1]]
    image = np.stack([40 + 150 * x / size[1], 60 + 120 * y / size[0], 200 - 120 * x / size[1]], 2)
    image[np.hypot(x - 60, y - 70) < 40] = (235, 190, 60)
    image[(x > 130) & (y % 12 < 5)] = (30, 40, 90)
    return (image + np.random.default_rng(0).normal(0, 6, size)[..., None]).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("quality", [10, 30])
@pytest.mark.parametrize("crop", [(0, 0), (3, 5)])
def test_blocks_are_seen_wherever_they_begin(quality, crop):
    file = io.BytesIO()
    Image.fromarray(scene()).save(file, "JPEG", quality=quality)
    decoded = np.asarray(Image.open(file))[crop[0] :, crop[1] :]
    assert grid_strength(decoded) > GRID
    assert grid_strength(decoded.astype(np.uint16) * 257) > GRID


@pytest.mark.parametrize("kind", ["scene", "noise", "slopes", "flat", "squares of 16", "small"])
def test_without_compression_none_are_seen(kind):
    y, x = np.mgrid[:128, :128]
    image = {
        "scene": scene(),
        "noise": np.random.default_rng(0).integers(0, 256, (128, 128, 3)).astype(np.uint8),
        "slopes": np.stack([x, y, x + y], 2).astype(np.uint8),
        "flat": np.full((128, 128, 1), 7, np.uint8),
        "squares of 16": (255 * ((x // 4 + y // 4) % 2))[..., None].astype(np.uint8),
        "small": scene((16, 16)),
    }[kind]
    assert grid_strength(image) < GRID
