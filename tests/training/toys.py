"""A set of images and a recipe so small that a run takes a moment."""

from pathlib import Path

import numpy as np
import torch

from scorefield.data.image_set import ImageSet
from scorefield.training import Recipe, read_recipe

SETTINGS = [
    "network.widths=[8]",
    "network.patch=2",
    "optimizer.batch=8",
    "optimizer.warmup=4",
    "optimizer.decay_after=0",
    "training.steps=20",
    "training.log_every=5",
    "training.sample_count=2",
    'training.sample_every="1d"',
    'training.save_every="1d"',
    'training.precision="float32"',
]


def ramps(n: int = 48, side: int = 8, channels: int = 1, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Ramps of three steepnesses with some noise, uint8 (n, side, side, channels), and their classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    ramp = np.linspace(20, 235, side)[None, None, :, None] * labels[:, None, None, None] / 2
    return np.clip(ramp + rng.normal(0, 8, (n, side, side, channels)), 0, 255).astype(np.uint8), labels


def images(n: int = 48, side: int = 8, channels: int = 1, *, labelled: bool = True) -> ImageSet:
    """The ramps as an open set."""
    values, labels = ramps(n, side, channels)
    return ImageSet(
        images=torch.from_numpy(values).permute(0, 3, 1, 2).contiguous(),
        labels=torch.from_numpy(labels) if labelled else None,
        name="ramps",
        source="made here",
    )


def write_set(path: Path, *, side: int = 8, channels: int = 1, labelled: bool = True) -> Path:
    """An .npz with 48 images to learn from and 24 to test with."""
    arrays: dict[str, np.ndarray] = {}
    for split, n, seed in (("train", 48, 0), ("test", 24, 1)):
        values, labels = ramps(n, side, channels, seed=seed)
        arrays |= {f"x_{split}": values} | ({f"y_{split}": labels} if labelled else {})
    np.savez(path, **arrays)
    return path


def recipe(*settings: str) -> Recipe:
    """The tiny recipe, with settings laid over it."""
    return read_recipe("default", [*SETTINGS, *settings])
