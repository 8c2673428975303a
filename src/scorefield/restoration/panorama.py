"""An image uncropped again and again: a panorama (Saharia et al. 2022, who do so eight times).

Each time the model sees the outermost part of what there is, about square, and draws on from there. What was
drawn is known from then on.

References:
    Saharia et al. (2022). https://arxiv.org/abs/2111.05826
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from scorefield.data.bit_depth import Levels
from scorefield.errors import UserError
from scorefield.restoration.canvas import Canvas
from scorefield.restoration.coarse import Answering, filled
from scorefield.restoration.levels import Box
from scorefield.restoration.painting import STAGES, Painter, Tell


@dataclass(frozen=True, kw_only=True)
class Step:
    """One time: what the model sees, and which part of it is drawn; both in the finished panorama."""

    seen: Box
    drawn: Box


@dataclass(frozen=True, kw_only=True)
class Route:
    """All times, in their order.

    Args:
        size: (H, W) of the panorama.
        image: where the image lies in it.
        steps: the times.
    """

    size: tuple[int, int]
    image: Box
    steps: list[Step]


def route(size: tuple[int, int], sides: Sequence[str], amount: float, times: int) -> Route:
    """The way from an image to its panorama.

    Args:
        size: (H, W) of the image.
        sides: out of top, right, bottom, left, in the order in which they are drawn.
        amount: of the image's height or width, drawn each time at each side.
        times: how often at each side.

    Raises:
        UserError: times < 1.
    """
    if times < 1:
        raise UserError("times", f"need at least one, got {times}.")
    new = {side: max(1, round(amount * size[_axis(side)])) for side in sides}
    before = [times * new.get("top", 0), times * new.get("left", 0)]
    after = [times * new.get("bottom", 0), times * new.get("right", 0)]
    begins, ends = list(before), [b + length for b, length in zip(before, size, strict=True)]
    steps: list[Step] = []
    for _ in range(times):
        for side in sides:
            axis = _axis(side)
            across = ends[1 - axis] - begins[1 - axis]
            known = min(ends[axis] - begins[axis], max(new[side], across - new[side]))
            if side in ("top", "left"):
                begins[axis] -= new[side]
                first, drawn = begins[axis], begins[axis]
            else:
                first, drawn = ends[axis] - known, ends[axis]
                ends[axis] += new[side]
            seen, fresh = (first, known + new[side]), (drawn, new[side])
            boxes = [_box(axis, along, begins, across) for along in (seen, fresh)]
            steps.append(Step(seen=boxes[0], drawn=boxes[1]))
    whole = (before[0] + size[0] + after[0], before[1] + size[1] + after[1])
    return Route(size=whole, image=Box(before[0], before[1], *size), steps=steps)


def _axis(side: str) -> int:
    return 0 if side in ("top", "bottom") else 1


def _box(axis: int, along: tuple[int, int], begins: list[int], across: int) -> Box:
    if axis == 0:
        return Box(along[0], begins[1], along[1], across)
    return Box(begins[0], along[0], across, along[1])


def panorama(painter: Painter, levels: Levels, way: Route, *, side: int, deep: int) -> Answering:
    """The panoramas of an image, one for each candidate.

    Args:
        painter: how images are answered.
        levels: the image, with the model's channels.
        way: see `route`.
        side: see `coarse.filled`.
        deep: likewise.
    """
    one = replace(painter, candidates=1)
    empty = np.broadcast_to(np.zeros(1, levels.dtype), (*way.size, levels.shape[2]))
    each = sum(filled(one, _window(one, empty, step), side=side, deep=deep).evaluations for step in way.steps)

    def answers(tell: Tell) -> list[Levels]:
        return [draw(candidate, tell) for candidate in range(painter.candidates)]

    def draw(candidate: int, tell: Tell) -> Levels:
        wide = np.zeros((*way.size, levels.shape[2]), levels.dtype)
        wide[way.image.slices] = levels
        for number, step in enumerate(way.steps):
            stage = STAGES * (number + 1)
            by = replace(one, first=painter.first + candidate, stage=stage)
            canvas = _window(by, wide, step)
            (answer,) = filled(by, canvas, side=side, deep=deep).answers(tell)
            wide[step.seen.slices] = answer
        return wide

    return Answering(evaluations=painter.candidates * each, answers=answers)


def _window(painter: Painter, wide: Levels, step: Step) -> Canvas:
    model = painter.learned.model
    hole = np.zeros((step.seen.height, step.seen.width), np.bool_)
    place = step.drawn._replace(top=step.drawn.top - step.seen.top, left=step.drawn.left - step.seen.left)
    hole[place.slices] = True
    return Canvas(levels=wide[step.seen.slices], hole=hole, value_range=model.value_range, noise=model.spec.hole_fill)
