"""From a picture as a user has it to what a model that learned to mend is shown."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from scorefield.data.depth import Levels, picture_of
from scorefield.degradations import Damage, Degradation, shown
from scorefield.model import ScoreModel
from scorefield.restoration.canvas import Canvas, canvas_of
from scorefield.restoration.levels import in_color, levels_of, pixels_of, to_values
from scorefield.restoration.observed import Given, grey_of, left_of
from scorefield.restoration.tasks import Picture, Size, Task, Wish


def _as_it_is(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What the model is shown, and what people are.

    Args:
        canvas: of the whole size.
        damaged: what is left as a picture; what is missing of it is grey.
        original: the clean picture if there is one, or the picture as it came in.
        lay: brings a picture of the size that came in, (1, C, H, W), onto the canvas.
    """

    canvas: Canvas
    damaged: Image.Image
    original: Image.Image
    lay: Callable[[Tensor], Tensor] = _as_it_is


def sighted(
    model: ScoreModel, given: Given, task: Task, wish: Wish, picture: Picture, *, simulate: bool
) -> Sight:
    """What a task shows.

    Args:
        model: trained on the task.
        given: what is left; with `simulate` the clean picture.
        task: the task.
        wish: what it is told.
        picture: as it was given.
        simulate: do the damage first.

    Raises:
        UserError: a picture that does not fit the model, or a wish that cannot be.
    """
    simulate = simulate or (task.strips and in_color(given.levels))
    if simulate or task.seen == "by the operator":
        damage = task.damage(wish, picture, given.size, model)
        if task.seen != "itself":
            return operated(model, given, damage, wish, simulate=simulate)
        left = left_of(model, given, damage, simulate=True, noise=wish.noise, seed=wish.seed)
        return _itself(model, Given(levels=left.levels), left.clean)
    if task.seen == "itself":
        return _itself(model, Given(levels=given.channels(1)) if task.strips else given, None)
    damage = task.damage(wish, picture, given.size, model)
    return _around(model, given, damage)


def operated(
    model: ScoreModel, given: Given, damage: Damage | Degradation, wish: Wish, *, simulate: bool
) -> Sight:
    """What an operator shows of what it leaves.

    Raises:
        UserError: a picture of other channels or another size than the damage leaves.
    """
    left = left_of(model, given, damage, simulate=simulate, noise=wish.noise, seed=wish.seed)
    y = to_values(left.levels, model.value_range)[None]
    generator = torch.Generator().manual_seed(wish.seed)
    canvas = canvas_of(left.degradation, y, left.levels, model, generator=generator)
    damaged = picture_of(left.levels) if canvas.hole is None else _with_grey(canvas)
    before = left.levels if left.clean is None else left.clean
    known = canvas.hole is None and left.clean is None
    original = damaged if known else picture_of(before)
    return Sight(canvas=canvas, damaged=damaged, original=original, lay=left.degradation.pinv)


def _itself(model: ScoreModel, given: Given, clean: Levels | None) -> Sight:
    damaged = picture_of(given.levels)
    canvas = Canvas(levels=given.channels(model.shape[0]), hole=None, value_range=model.value_range)
    return Sight(canvas=canvas, damaged=damaged, original=damaged if clean is None else picture_of(clean))


def _around(model: ScoreModel, given: Given, damage: Damage) -> Sight:
    """A picture with a hole, or with nothing around it."""
    levels = given.channels(model.shape[0])
    whole = (model.shape[0], *damage.before(given.size))
    operator = damage.operator(whole, model.value_range)
    canvas = with_hole(model, levels, operator)
    original = picture_of(given.levels)
    return Sight(canvas=canvas, damaged=_with_grey(canvas), original=original, lay=operator.pinv)


def with_hole(model: ScoreModel, levels: Levels, degradation: Degradation) -> Canvas:
    """What is left of a picture on a canvas of the whole size, by an operator that does nothing but cut."""
    one = torch.zeros(1, 1, *levels.shape[:2])
    hole = shown(degradation, one, generator=torch.Generator().manual_seed(0)).fill[0, 0] > 0
    laid: Tensor = degradation.pinv(pixels_of(levels)[None])[0]
    return Canvas(levels=levels_of(laid), hole=hole.numpy(), value_range=model.value_range, noise=model.hole)


def _with_grey(canvas: Canvas) -> Image.Image:
    assert canvas.hole is not None
    return picture_of(np.where(canvas.hole[..., None], grey_of(canvas.levels), canvas.levels))


__all__ = ["Sight", "Size", "operated", "sighted", "with_hole"]
