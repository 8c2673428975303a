"""Free-form masks: brush strokes, rectangles, and Palette's mixture of both.

A stroke is a zigzag of v vertices. The step from each has a length r and an angle θ, or 2π − θ at every other
vertex,

    v ~ U{4 … 11},   θ ~ U(2π/5 − a, 2π/5 + b),   a, b ~ U(0, 2π/15) for each stroke,
    r ~ N(d/8, (d/16)²) cut to [0, d/4],   d = √(H² + W²),

drawn as a line of width U(12, 40) with round joints; other sizes than 256 × 256 scale the width by √(HW)/256.
One to three strokes make a mask, which is flipped at random along both axes (Yu et al. 2019, Algorithm 1; the
numbers are those of the authors' program, since the paper leaves them open).

For rectangles the papers state only number and coverage. Here n ~ U{1 … 5} of them divide c ~ U(0.1, 0.4) of
the image in proportion to U(½, 3/2) each, and one of share s is

    H √(s a) × W √(s / a),     a = 2^U(−1, 1),

uniformly placed within the image. They may overlap. If their union covers less than 0.1, all but n is drawn
again, which keeps the distribution of n.

References:
    Yu et al. (2019), Algorithm 1. https://arxiv.org/abs/1806.03589
    Saharia et al. (2022), §4: 60 % strokes, 40 % rectangles. https://arxiv.org/abs/2111.05826
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Generator

from scorefield.degradations.base import Box, fast_rng
from scorefield.degradations.mask import Mask
from scorefield.errors import UserError

_TRIES = 1000
_ANGLE, _SPREAD = 2 * math.pi / 5, 2 * math.pi / 15


@dataclass(frozen=True, kw_only=True)
class Brush:
    """Free-form strokes; see the module.

    Args:
        strokes: smallest and largest number.
        vertices: of a stroke, smallest and largest number.
        width: of a stroke in pixels, smallest and largest, in images of 256 × 256.
        cover: bounds of the masked share of the image, e.g. (0.2, 0.3) for a benchmark.

    Raises:
        UserError: a decreasing range, or one outside of what can be drawn.
    """

    strokes: tuple[int, int] = (1, 3)
    vertices: tuple[int, int] = (4, 11)
    width: tuple[float, float] = (12.0, 40.0)
    cover: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        _check_range("brush", "strokes", self.strokes, 1, math.inf)
        _check_range("brush", "vertices", self.vertices, 1, math.inf)
        _check_range("brush", "width", self.width, 0, math.inf)
        _check_range("brush", "cover", self.cover, 0, 1)

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> Mask:
        """One mask, (1, 1, H, W), that masks some pixels and keeps some.

        Raises:
            UserError: none of a thousand masks is within `cover`.
        """
        h, w = shape[-2:]
        return _within("brush", lambda rng: self._painted(h, w, rng), self.cover, fast_rng(generator))

    def _painted(self, h: int, w: int, rng: Random) -> NDArray[np.uint8]:
        image = Image.new("L", (w, h))
        canvas = ImageDraw.Draw(image)
        left, top = rng.random() < 0.5, rng.random() < 0.5  # mirrored
        for _ in range(rng.randint(*self.strokes)):
            points = [
                (w - x if left else x, h - y if top else y) for x, y in _zigzag(h, w, rng.randint(*self.vertices), rng)
            ]
            wide = rng.uniform(*self.width) * math.sqrt(h * w) / 256
            canvas.line(points, fill=1, width=max(1, round(wide)))
            r = wide / 2
            for x, y in points:
                canvas.ellipse((x - r, y - r, x + r, y + r), fill=1)
        return np.asarray(image)


@dataclass(frozen=True, kw_only=True)
class Boxes:
    """Rectangles; see the module.

    Args:
        count: smallest and largest number, uniformly drawn.
        cover: bounds of the masked share of the image.

    Raises:
        UserError: a decreasing range, or one outside of what can be drawn.
    """

    count: tuple[int, int] = (1, 5)
    cover: tuple[float, float] = (0.1, 0.4)

    def __post_init__(self) -> None:
        _check_range("boxes", "count", self.count, 1, math.inf)
        _check_range("boxes", "cover", self.cover, 0, 1)

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> Mask:
        """One mask, (1, 1, H, W), that masks some pixels and keeps some.

        Raises:
            UserError: none of a thousand masks is within `cover`.
        """
        h, w = shape[-2:]
        rng = fast_rng(generator)
        n = rng.randint(*self.count)
        return _within("boxes", lambda rng: _filled(h, w, self.boxes(h, w, n, rng)), self.cover, rng)

    def boxes(self, h: int, w: int, n: int, rng: Random) -> list[Box]:
        """n rectangles within h × w; their union may be outside of `cover`."""
        parts = [rng.uniform(0.5, 1.5) for _ in range(n)]
        share = rng.uniform(*self.cover) / sum(parts)
        return [_placed(h, w, share * part, rng) for part in parts]


@dataclass(frozen=True, kw_only=True)
class FreeForm:
    """Strokes or rectangles at random, as in Palette.

    Args:
        brush: share of masks that are strokes.
        strokes: distribution of strokes.
        boxes: distribution of rectangles.

    Raises:
        UserError: the share is not in [0, 1].
    """

    brush: float = 0.6
    strokes: Brush = field(default_factory=Brush)
    boxes: Boxes = field(default_factory=Boxes)

    def __post_init__(self) -> None:
        if not 0 <= self.brush <= 1:
            raise UserError("masks", f"a share lies within 0 and 1, got {self.brush:g}.")

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> Mask:
        """One mask, (1, 1, H, W)."""
        chosen = self.strokes if fast_rng(generator).random() < self.brush else self.boxes
        return chosen.draw(shape, generator=generator)


def _zigzag(h: int, w: int, vertices: int, rng: Random) -> list[tuple[float, float]]:
    """A start and `vertices` more points, (x, y), all within the image."""
    least, most = _ANGLE - rng.uniform(0, _SPREAD), _ANGLE + rng.uniform(0, _SPREAD)
    mean = math.hypot(h, w) / 8
    x, y = rng.uniform(0, w), rng.uniform(0, h)
    points = [(x, y)]
    for i in range(vertices):
        angle = rng.uniform(least, most)
        length = min(max(rng.gauss(mean, mean / 2), 0), 2 * mean)
        x += length * math.cos(angle)
        y += length * math.sin(angle) * (1 if i % 2 else -1)
        x, y = min(max(x, 0), w), min(max(y, 0), h)
        points.append((x, y))
    return points


def _placed(h: int, w: int, share: float, rng: Random) -> Box:
    """A rectangle of this share of the image, uniformly placed."""
    aspect = 2 ** rng.uniform(-1, 1)
    height = min(max(1, round(h * math.sqrt(share * aspect))), h)
    width = min(max(1, round(w * math.sqrt(share / aspect))), w)
    return Box(rng.randint(0, h - height), rng.randint(0, w - width), height, width)


def _filled(h: int, w: int, boxes: list[Box]) -> NDArray[np.uint8]:
    mask = np.zeros((h, w), np.uint8)
    for top, left, height, width in boxes:
        mask[top : top + height, left : left + width] = 1
    return mask


def _within(where: str, paint: Callable[[Random], NDArray[np.uint8]], cover: tuple[float, float], rng: Random) -> Mask:
    """The first mask whose share is within `cover`, and neither empty nor full."""
    for _ in range(_TRIES):
        mask = paint(rng)
        filled, size = int(np.count_nonzero(mask)), mask.size
        if 0 < filled < size and cover[0] * size <= filled <= cover[1] * size:
            return Mask(mask=torch.from_numpy(mask.astype(np.float32))[None, None])
    raise UserError(where, f"no mask of {_TRIES} covers {cover[0]:.0%} to {cover[1]:.0%} of the image.")


def _check_range(where: str, what: str, range_: tuple[float, float], low_limit: float, high_limit: float) -> None:
    low, high = range_
    if not low_limit <= low <= high <= high_limit:
        raise UserError(where, f"{what} is an increasing range from {low_limit:g} or more, got {range_}.")
