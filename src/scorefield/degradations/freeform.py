"""Holes of any form: strokes of a brush, rectangles, and the mix of both that Palette learns from.

A stroke goes zigzag through v vertices. From each it goes on by a length r at an angle θ, taken from below
the axis at every other vertex (2π − θ),

    v ~ U{4 … 11},   θ ~ U(2π/5 − a, 2π/5 + b),   a, b ~ U(0, 2π/15) for each stroke,
    r ~ N(d/8, (d/16)²) cut to [0, d/4],   d = √(H² + W²),

as a line of width U(12, 40) with round joints, for images of 256 × 256; other sizes scale it by
√(HW)/256. One to three strokes make a mask, which is mirrored left to right and top to bottom by chance
(Yu et al. 2019, Algorithm 1, with the numbers of the authors' program, which the paper leaves open).

Of rectangles the papers say no more than their number and cover. Here n ~ U{1 … 5} of them share out
c ~ U(0.1, 0.4) of the image in proportion to U(½, 3/2) each, and one of share s is

    H √(s a) × W √(s / a),     a = 2^U(−1, 1),

at any place within the image. They may overlap. If their union then covers less than 0.1, all but n is
drawn again, which keeps n's distribution.

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

from scorefield.degradations.base import dice
from scorefield.degradations.mask import Mask
from scorefield.errors import UserError

_TRIES = 1000
_ANGLE, _SPREAD = 2 * math.pi / 5, 2 * math.pi / 15
Box = tuple[int, int, int, int]
"""Top, left, height, width."""


@dataclass(frozen=True, kw_only=True)
class Brush:
    """Free-form strokes; see the module.

    Args:
        strokes: fewest and most.
        vertices: of a stroke, fewest and most.
        width: of a stroke in pixels, least and greatest, in images of 256 × 256.
        cover: bounds of the share of the image that is filled, e.g. (0.2, 0.3) to measure by.

    Raises:
        UserError: a range that falls or leaves what can be drawn.
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
        """One mask, (1, 1, H, W), that fills something and keeps something.

        Raises:
            UserError: a thousand masks, and none covers as much as it should.
        """
        h, w = shape[-2:]
        return _within("brush", lambda luck: self._painted(h, w, luck), self.cover, dice(generator))

    def _painted(self, h: int, w: int, luck: Random) -> NDArray[np.uint8]:
        image = Image.new("L", (w, h))
        canvas = ImageDraw.Draw(image)
        left, top = luck.random() < 0.5, luck.random() < 0.5  # mirrored
        for _ in range(luck.randint(*self.strokes)):
            points = [
                (w - x if left else x, h - y if top else y)
                for x, y in _zigzag(h, w, luck.randint(*self.vertices), luck)
            ]
            wide = luck.uniform(*self.width) * math.sqrt(h * w) / 256
            canvas.line(points, fill=1, width=max(1, round(wide)))
            r = wide / 2
            for x, y in points:
                canvas.ellipse((x - r, y - r, x + r, y + r), fill=1)
        return np.asarray(image)


@dataclass(frozen=True, kw_only=True)
class Boxes:
    """Rectangles; see the module.

    Args:
        count: fewest and most, each number as likely.
        cover: bounds of the share of the image that they fill together.

    Raises:
        UserError: a range that falls or leaves what can be drawn.
    """

    count: tuple[int, int] = (1, 5)
    cover: tuple[float, float] = (0.1, 0.4)

    def __post_init__(self) -> None:
        _check_range("boxes", "count", self.count, 1, math.inf)
        _check_range("boxes", "cover", self.cover, 0, 1)

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> Mask:
        """One mask, (1, 1, H, W), that fills something and keeps something.

        Raises:
            UserError: a thousand masks, and none covers as much as it should.
        """
        h, w = shape[-2:]
        luck = dice(generator)
        n = luck.randint(*self.count)
        return _within("boxes", lambda luck: _filled(h, w, self.boxes(h, w, n, luck)), self.cover, luck)

    def boxes(self, h: int, w: int, n: int, luck: Random) -> list[Box]:
        """N rectangles within h × w, whose union may still leave the bounds."""
        parts = [luck.uniform(0.5, 1.5) for _ in range(n)]
        share = luck.uniform(*self.cover) / sum(parts)
        return [_placed(h, w, share * part, luck) for part in parts]


@dataclass(frozen=True, kw_only=True)
class FreeForm:
    """Strokes or rectangles by chance, as in Palette.

    Args:
        brush: share of masks that are strokes.
        strokes: distribution of those.
        boxes: distribution of the others.

    Raises:
        UserError: a share that is not within 0 and 1.
    """

    brush: float = 0.6
    strokes: Brush = field(default_factory=Brush)
    boxes: Boxes = field(default_factory=Boxes)

    def __post_init__(self) -> None:
        if not 0 <= self.brush <= 1:
            raise UserError("masks", f"a share lies within 0 and 1, got {self.brush:g}.")

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> Mask:
        """One mask, (1, 1, H, W)."""
        chosen = self.strokes if dice(generator).random() < self.brush else self.boxes
        return chosen.draw(shape, generator=generator)


def _zigzag(h: int, w: int, vertices: int, luck: Random) -> list[tuple[float, float]]:
    """A start and as many points after it, (x, y), none beyond the image."""
    least, most = _ANGLE - luck.uniform(0, _SPREAD), _ANGLE + luck.uniform(0, _SPREAD)
    mean = math.hypot(h, w) / 8
    x, y = luck.uniform(0, w), luck.uniform(0, h)
    points = [(x, y)]
    for i in range(vertices):
        angle = luck.uniform(least, most)
        length = min(max(luck.gauss(mean, mean / 2), 0), 2 * mean)
        x += length * math.cos(angle)
        y += length * math.sin(angle) * (1 if i % 2 else -1)
        x, y = min(max(x, 0), w), min(max(y, 0), h)
        points.append((x, y))
    return points


def _placed(h: int, w: int, share: float, luck: Random) -> Box:
    """A rectangle of that share of the image, anywhere within."""
    aspect = 2 ** luck.uniform(-1, 1)
    height = min(max(1, round(h * math.sqrt(share * aspect))), h)
    width = min(max(1, round(w * math.sqrt(share / aspect))), w)
    return luck.randint(0, h - height), luck.randint(0, w - width), height, width


def _filled(h: int, w: int, boxes: list[Box]) -> NDArray[np.uint8]:
    fill = np.zeros((h, w), np.uint8)
    for top, left, height, width in boxes:
        fill[top : top + height, left : left + width] = 1
    return fill


def _within(where: str, paint: Callable[[Random], NDArray[np.uint8]], cover: tuple[float, float], luck: Random) -> Mask:
    """The first mask of many that covers as much as it should, and neither nothing nor all."""
    for _ in range(_TRIES):
        fill = paint(luck)
        filled, size = int(np.count_nonzero(fill)), fill.size
        if 0 < filled < size and cover[0] * size <= filled <= cover[1] * size:
            return Mask(fill=torch.from_numpy(fill.astype(np.float32))[None, None])
    raise UserError(where, f"no mask of {_TRIES} covers {cover[0]:.0%} to {cover[1]:.0%} of the image.")


def _check_range(where: str, what: str, range_: tuple[float, float], least: float, most: float) -> None:
    low, high = range_
    if not least <= low <= high <= most:
        raise UserError(where, f"{what} go from one number up to another, {least:g} or more, got {range_}.")
