"""From an image as a user has it to what a model that learned to restore is shown."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from scorefield.data.bit_depth import Levels, image_of
from scorefield.degradations import Degradation, DegradationSpec, shown
from scorefield.model import ScoreModel
from scorefield.restoration.canvas import Canvas, canvas_of
from scorefield.restoration.levels import in_color, levels_of, pixels_of, to_values
from scorefield.restoration.observed import Given, grey_of, left_of
from scorefield.restoration.tasks import ImageInput, Request, Size, Task


def _as_it_is(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What the model is shown, and what people are.

    Args:
        canvas: of the whole size.
        degraded: what is left as an image; what is missing of it is grey.
        original: the clean image if there is one, or the image as it came in.
        lay: brings an image of the size that came in, (1, C, H, W), onto the canvas.
    """

    canvas: Canvas
    degraded: Image.Image
    original: Image.Image
    lay: Callable[[Tensor], Tensor] = _as_it_is


def sighted(
    model: ScoreModel, given: Given, task: Task, request: Request, image: ImageInput, *, simulate: bool
) -> Sight:
    """What a task shows.

    Args:
        model: trained on the task.
        given: what is left; with `simulate` the clean image.
        task: the task.
        request: what it is told.
        image: as it was given.
        simulate: do the degradation first.

    Raises:
        UserError: an image that does not fit the model, or a request that cannot be.
    """
    simulate = simulate or (task.strips and in_color(given.levels))
    if simulate or task.seen == "by the operator":
        degradation = task.degradation(request, image, given.size, model)
        if task.seen != "itself":
            return operated(model, given, degradation, request, simulate=simulate)
        left = left_of(model, given, degradation, simulate=True, noise=request.noise, seed=request.seed)
        return _itself(model, Given(levels=left.levels), left.clean)
    if task.seen == "itself":
        return _itself(model, Given(levels=given.channels(1)) if task.strips else given, None)
    degradation = task.degradation(request, image, given.size, model)
    return _around(model, given, degradation)


def operated(
    model: ScoreModel, given: Given, degradation: DegradationSpec | Degradation, request: Request, *, simulate: bool
) -> Sight:
    """What an operator shows of what it leaves.

    Raises:
        UserError: an image of other channels or another size than the degradation leaves.
    """
    left = left_of(model, given, degradation, simulate=simulate, noise=request.noise, seed=request.seed)
    y = to_values(left.levels, model.value_range)[None]
    generator = torch.Generator().manual_seed(request.seed)
    canvas = canvas_of(left.degradation, y, left.levels, model, generator=generator)
    degraded = image_of(left.levels) if canvas.hole is None else _with_grey(canvas)
    before = left.levels if left.clean is None else left.clean
    known = canvas.hole is None and left.clean is None
    original = degraded if known else image_of(before)
    return Sight(canvas=canvas, degraded=degraded, original=original, lay=left.degradation.pinv)


def _itself(model: ScoreModel, given: Given, clean: Levels | None) -> Sight:
    degraded = image_of(given.levels)
    canvas = Canvas(levels=given.channels(model.shape[0]), hole=None, value_range=model.value_range)
    return Sight(canvas=canvas, degraded=degraded, original=degraded if clean is None else image_of(clean))


def _around(model: ScoreModel, given: Given, degradation: DegradationSpec) -> Sight:
    """An image with a hole, or with nothing around it."""
    levels = given.channels(model.shape[0])
    whole = (model.shape[0], *degradation.before(given.size))
    operator = degradation.operator(whole, model.value_range)
    canvas = with_hole(model, levels, operator)
    original = image_of(given.levels)
    return Sight(canvas=canvas, degraded=_with_grey(canvas), original=original, lay=operator.pinv)


def with_hole(model: ScoreModel, levels: Levels, degradation: Degradation) -> Canvas:
    """What is left of an image on a canvas of the whole size, by an operator that does nothing but cut."""
    one = torch.zeros(1, 1, *levels.shape[:2])
    hole = shown(degradation, one, generator=torch.Generator().manual_seed(0)).fill[0, 0] > 0
    laid: Tensor = degradation.pinv(pixels_of(levels)[None])[0]
    return Canvas(levels=levels_of(laid), hole=hole.numpy(), value_range=model.value_range, noise=model.spec.hole_fill)


def _with_grey(canvas: Canvas) -> Image.Image:
    assert canvas.hole is not None
    return image_of(np.where(canvas.hole[..., None], grey_of(canvas.levels), canvas.levels))


__all__ = ["Sight", "Size", "operated", "sighted", "with_hole"]
