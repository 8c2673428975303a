"""From coarse to fine: what takes the whole image in view is answered at a small size first.

A model has learned images of one size, and a tile of a large image sees only its own part: whether a car
is red, or what stands in the middle of a wide hole, tiles would each decide for themselves. So color is drawn
on a reduced image, and enlarged along the edges of the known luma (`recolor`). Wide holes are filled in a
reduced image, and then at sizes each up to twice the last, from the answer before, enlarged and made noisy
to a middle σ (SDEdit; as in cascades, Ho et al. 2022).

References:
    Meng et al. (2022), SDEdit, Algorithm 1. https://arxiv.org/abs/2108.01073
    Ho et al. (2022), Cascaded diffusion models, §3. https://arxiv.org/abs/2106.15282
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from scorefield.data.bit_depth import Levels
from scorefield.restoration.canvas import Canvas, larger
from scorefield.restoration.levels import Box, to_levels, to_values
from scorefield.restoration.painting import Painter, Tell
from scorefield.restoration.recolor import recolored

REFILL = 0.2
"""σ over half the value range, to which an enlarged answer is made noisy."""
_FACTOR, _ROWS, _MANY = 2.0, 256, 3

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Answering:
    """A way from a canvas to answers, and what it takes.

    Args:
        evaluations: of a tile.
        answers: does it.
    """

    evaluations: int
    answers: Callable[[Tell], list[Levels]]


def tiled(painter: Painter, canvas: Canvas) -> Answering:
    """By tiles of the image as it is."""
    return Answering(evaluations=painter.evaluations(canvas), answers=lambda tell: painter.paint(canvas, tell=tell))


def colored(painter: Painter, canvas: Canvas, *, side: int, keep: bool) -> Answering:
    """Color for a grey image, (H, W, 3) with equal channels.

    Args:
        painter: how images are answered.
        canvas: the grey image.
        side: the longest side at which it is drawn.
        keep: the luma, also where the image is drawn at its own size; else it is kept where it is not.
    """
    small, painter = canvas.reduced(within(canvas.size, side)), painter.seeing(side)

    def answers(tell: Tell) -> list[Levels]:
        drawn = painter.paint(small, tell=tell)
        if small is canvas and not keep:
            return drawn
        return [recolored(each, small.levels[..., :1], canvas.levels[..., :1]) for each in drawn]

    return Answering(evaluations=painter.evaluations(small), answers=answers)


def filled(painter: Painter, canvas: Canvas, *, side: int, deep: int) -> Answering:
    """What a hole holds.

    Args:
        painter: how images are answered.
        canvas: with a hole.
        side: the longest side at which the whole image is drawn.
        deep: a hole into which a square of this side fits is too deep for tiles.
    """
    if max(canvas.size) <= side:
        return tiled(painter.seeing(side), canvas)
    if canvas.hole is None or not holds(canvas.hole, deep):
        return tiled(painter, canvas)
    low, high = canvas.value_range
    middle = REFILL * (high - low) / 2
    sizes = stages(canvas.size, side)
    if painter.plan.evaluations < _MANY:  # it sees nothing of where it begins, or leaves grain there
        sizes = sizes[:1]
    canvases = [canvas.reduced(size) for size in sizes]
    warm = (painter.warm(middle, stage) for stage in range(1, len(canvases)))
    painters = [painter.seeing(side), *warm]

    def answers(tell: Tell) -> list[Levels]:
        drawn = painters[0].paint(canvases[0], tell=tell)
        for by, at in zip(painters[1:], canvases[1:], strict=True):
            start = [to_values(each, at.value_range) for each in drawn]
            drawn = by.paint(at, tell=tell, start=start)
        return drawn if sizes[-1] == canvas.size else [laid(each, canvas) for each in drawn]

    parts = zip(painters, canvases, strict=True)
    return Answering(evaluations=sum(by.evaluations(at) for by, at in parts), answers=answers)


def laid(answer: Levels, canvas: Canvas) -> Levels:
    """A small answer, enlarged, where the canvas has its hole."""
    small, out = to_values(answer, canvas.value_range), np.empty(canvas.levels.shape, answer.dtype)
    for top in range(0, canvas.size[0], _ROWS):
        box = Box(top, 0, min(_ROWS, canvas.size[0] - top), canvas.size[1])
        drawn = to_levels(larger(small, canvas.size, box), canvas.value_range, answer)
        out[box.slices] = canvas.settled(drawn, box.slices[0], np.ones(drawn.shape[:2], np.bool_))
    return out


def within(size: Size, side: int) -> Size:
    """The size, reduced so far that no side is longer."""
    scale = min(1.0, side / max(size))
    h, w = (max(1, round(scale * length)) for length in size)
    return h, w


def stages(size: Size, side: int) -> list[Size]:
    """From a size whose longest side is `side` to the whole one, by equal factors of at most 2."""
    steps = max(0, math.ceil(math.log(max(size) / side, _FACTOR) - 1e-9))
    longest = [side * (max(size) / side) ** (step / max(1, steps)) for step in range(steps)]
    sizes = [within(size, round(length)) for length in longest]
    kept = [small for small, large in pairwise([*sizes, size]) if small != large]
    return [*kept, size]


def holds(hole: NDArray[np.bool_], side: int) -> bool:
    """Whether a square of that side lies within the hole."""
    h, w = hole.shape
    if min(h, w) < side:
        return bool(hole.all())
    sums = np.zeros((h + 1, w + 1), np.int32)
    np.cumsum(hole, 0, out=sums[1:, 1:], dtype=np.int32)
    np.cumsum(sums[1:, 1:], 1, out=sums[1:, 1:])
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return bool((inside == side * side).any())
