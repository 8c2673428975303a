"""Scratches and dust, as on old photographs: thin lines and specks, bright or dark.

    A(x) = (1 − a) ⊙ x + a ⊙ v

with an opacity a and a value v for each pixel: v is near white where the emulsion is gone, near black where
dirt lies. A scratch is an open, slightly bent line, about a pixel wide in an image of 256 × 256; half of the
scratches of an image share a direction, as on film. A speck is a small disc. Marks are drawn at twice the
size and averaged, so they may be thinner than a pixel.

A restoration network does not learn where the marks are: its source is y, and every pixel is to be predicted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Generator, Tensor

from scorefield.degradations.base import Box, SameSize, fast_rng
from scorefield.errors import UserError

_FINE = 2


@dataclass(frozen=True, kw_only=True)
class Scratched(SameSize):
    """The operator that draws marks on an image.

    Args:
        opacity: a, (1 or B, 1, H, W), in [0, 1].
        value: v, (1 or B, 1, H, W), in x's range.
    """

    opacity: Tensor
    value: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """(1 − a) ⊙ x + a ⊙ v, (B, C, H, W)."""
        return torch.lerp(x, self.value.to(x), self.opacity.to(x))

    def pinv(self, y: Tensor) -> Tensor:
        """(y − a ⊙ v)/(1 − a), and y where a = 1."""
        a, v = self.opacity.to(y), self.value.to(y)
        return torch.where(a < 1, (y - a * v) / (1 - a).clamp(min=torch.finfo(y.dtype).eps), y)

    def cut(self, boxes: Sequence[Box]) -> Self:
        """The marks of each tile, (B, 1, h, w)."""
        opacity, value = (torch.cat([each[(..., *box.slices)] for box in boxes]) for each in (self.opacity, self.value))
        return replace(self, opacity=opacity, value=value)


@dataclass(frozen=True, kw_only=True)
class Scratches:
    """The distribution of marks; see the module.

    Args:
        lines: smallest and largest number of scratches.
        specks: smallest and largest number of specks.
        width: of lines, smallest and largest, in pixels of an image of `side` × `side`.
        side: the size of the image that widths are stated for; they grow with √(H W).
        value_range: black and white in x.

    Raises:
        UserError: a decreasing range, or a side that is not positive.
    """

    lines: tuple[int, int] = (1, 6)
    specks: tuple[int, int] = (0, 12)
    width: tuple[float, float] = (0.8, 3.0)
    side: float = 256.0
    value_range: tuple[float, float] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        for what, (low, high) in (("lines", self.lines), ("specks", self.specks), ("width", self.width)):
            if not 0 <= low <= high:
                raise UserError("scratches", f"{what} go from 0 or more upwards, got {low:g} to {high:g}.")
        if not 1 <= self.side < math.inf:
            raise UserError("scratches", f"a side is 1 pixel or more, got {self.side:g}.")

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> Scratched:
        """The marks of one image."""
        h, w = shape[-2:]
        rng = fast_rng(generator)
        opacity, level = (Image.new("L", (_FINE * w, _FINE * h)) for _ in range(2))
        layers = ImageDraw.Draw(opacity), ImageDraw.Draw(level)
        scale, along = _FINE * math.sqrt(h * w) / self.side, rng.uniform(0, math.pi)
        for _ in range(rng.randint(*self.lines)):
            angle = along + rng.gauss(0, 0.1) if rng.random() < 0.5 else rng.uniform(0, math.pi)
            points = _line(_FINE * h, _FINE * w, angle, rng)
            wide, (a, v) = max(1, round(rng.uniform(*self.width) * scale)), _mark(rng)
            layers[0].line(points, fill=a, width=wide)
            layers[1].line(points, fill=v, width=wide)
        for _ in range(rng.randint(*self.specks)):
            x, y, r = rng.uniform(0, _FINE * w), rng.uniform(0, _FINE * h), rng.uniform(0.5, 2.5) * scale
            box, (a, v) = (x - r, y - r, x + r, y + r), _mark(rng)
            layers[0].ellipse(box, fill=a)
            layers[1].ellipse(box, fill=v)
        return self._averaged(np.asarray(opacity), np.asarray(level))

    def _averaged(self, opacity: NDArray[np.uint8], level: NDArray[np.uint8]) -> Scratched:
        """Means over squares: of a, and of v weighted by a."""
        low, high = self.value_range
        a, v = (torch.from_numpy(plane / np.float32(255))[None, None] for plane in (opacity, level))
        weight = torch.nn.functional.avg_pool2d(a, _FINE)
        mean = torch.nn.functional.avg_pool2d(a * v, _FINE) / weight.clamp(min=1e-6)
        return Scratched(opacity=weight, value=low + (high - low) * mean)


def _line(h: int, w: int, angle: float, rng: Random) -> list[tuple[float, float]]:
    """An open line of eight segments, slightly bent at each joint."""
    x, y = rng.uniform(0, w), rng.uniform(0, h)
    step = rng.uniform(0.02, 0.15) * math.hypot(h, w)
    points = [(x, y)]
    for _ in range(8):
        angle += rng.gauss(0, 0.08)
        x, y = x + step * math.cos(angle), y + step * math.sin(angle)
        points.append((x, y))
    return points


def _mark(rng: Random) -> tuple[int, int]:
    """Opacity and value, of 255: three of four marks are bright."""
    bright = rng.random() < 0.75
    return rng.randint(140, 255), rng.randint(210, 255) if bright else rng.randint(0, 40)
