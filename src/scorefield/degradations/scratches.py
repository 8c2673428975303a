"""Scratches and dust, as on old photographs: thin lines and specks, bright or dark.

    A(x) = (1 − a) ⊙ x + a ⊙ v

with an opacity a of each pixel and a value v of what lies on it: near white where the layer is off, near
black where dirt is on it. A scratch is an open line that bends little, of about a pixel in an image of 256 ×
256; scratches of one image share their direction by half, as those of a film do. A speck is a small disc.
All of it is drawn at twice the size and averaged, so that it may be thinner than a pixel.

Where such marks lie is not told to a network that restores: it is shown y, and all of y is to be predicted.
"""

import math
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Generator, Tensor

from scorefield.degradations.base import Shown, all_to_predict, dice
from scorefield.errors import UserError

_FINE = 2


@dataclass(frozen=True, kw_only=True)
class Scratched:
    """The operator that lays marks upon an image.

    Args:
        opacity: a, (1, 1, H, W), within 0 and 1.
        value: v, (1, 1, H, W), in x's range.
    """

    opacity: Tensor
    value: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """(1 − a) ⊙ x + a ⊙ v, (B, C, H, W)."""
        return torch.lerp(x, self.value.to(x), self.opacity.to(x))

    def pinv(self, y: Tensor) -> Tensor:
        """(y − a ⊙ v)/(1 − a), and y where nothing shows through."""
        a, v = self.opacity.to(y), self.value.to(y)
        return torch.where(a < 1, (y - a * v) / (1 - a).clamp(min=torch.finfo(y.dtype).eps), y)

    def shown(self, y: Tensor, *, generator: Generator) -> Shown:
        """Y itself, all of it to be predicted."""
        return all_to_predict(y)


@dataclass(frozen=True, kw_only=True)
class Scratches:
    """The distribution of marks; see the module.

    Args:
        lines: fewest and most scratches.
        specks: fewest and most specks.
        width: of lines, least and greatest, in pixels of an image of 256 × 256.
        value_range: black and white in x.

    Raises:
        UserError: a range that falls.
    """

    lines: tuple[int, int] = (1, 6)
    specks: tuple[int, int] = (0, 12)
    width: tuple[float, float] = (0.8, 3.0)
    value_range: tuple[float, float] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        for what, (low, high) in (("lines", self.lines), ("specks", self.specks), ("width", self.width)):
            if not 0 <= low <= high:
                raise UserError("scratches", f"{what} go from 0 or more upwards, got {low:g} to {high:g}.")

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> Scratched:
        """One image's marks."""
        h, w = shape[-2:]
        luck = dice(generator)
        opacity, level = (Image.new("L", (_FINE * w, _FINE * h)) for _ in range(2))
        layers = ImageDraw.Draw(opacity), ImageDraw.Draw(level)
        scale, along = _FINE * math.sqrt(h * w) / 256, luck.uniform(0, math.pi)
        for _ in range(luck.randint(*self.lines)):
            angle = along + luck.gauss(0, 0.1) if luck.random() < 0.5 else luck.uniform(0, math.pi)
            points = _line(_FINE * h, _FINE * w, angle, luck)
            wide, (a, v) = max(1, round(luck.uniform(*self.width) * scale)), _mark(luck)
            layers[0].line(points, fill=a, width=wide)
            layers[1].line(points, fill=v, width=wide)
        for _ in range(luck.randint(*self.specks)):
            x, y, r = luck.uniform(0, _FINE * w), luck.uniform(0, _FINE * h), luck.uniform(0.5, 2.5) * scale
            box, (a, v) = (x - r, y - r, x + r, y + r), _mark(luck)
            layers[0].ellipse(box, fill=a)
            layers[1].ellipse(box, fill=v)
        return self._averaged(np.asarray(opacity), np.asarray(level))

    def _averaged(self, opacity: NDArray[np.uint8], level: NDArray[np.uint8]) -> Scratched:
        """Means of squares: of a, and of v weighted by it."""
        low, high = self.value_range
        a, v = (torch.from_numpy(plane / np.float32(255))[None, None] for plane in (opacity, level))
        weight = torch.nn.functional.avg_pool2d(a, _FINE)
        mean = torch.nn.functional.avg_pool2d(a * v, _FINE) / weight.clamp(min=1e-6)
        return Scratched(opacity=weight, value=low + (high - low) * mean)


def _line(h: int, w: int, angle: float, luck: Random) -> list[tuple[float, float]]:
    """An open line of eight pieces that bends a little at each."""
    x, y = luck.uniform(0, w), luck.uniform(0, h)
    step = luck.uniform(0.02, 0.15) * math.hypot(h, w)
    points = [(x, y)]
    for _ in range(8):
        angle += luck.gauss(0, 0.08)
        x, y = x + step * math.cos(angle), y + step * math.sin(angle)
        points.append((x, y))
    return points


def _mark(luck: Random) -> tuple[int, int]:
    """Opacity and value, of 255: three of four marks are bright."""
    bright = luck.random() < 0.75
    return luck.randint(140, 255), luck.randint(210, 255) if bright else luck.randint(0, 40)
