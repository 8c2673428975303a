"""One call from a degraded image to several restored ones.

A task or a degradation says what the image went through (`tasks`), a method says how that is answered
(`methods`), and a sampler draws the candidates. A model that was trained to restore (`learned`) takes images
of any size: by tiles (`painting`), and from coarse to fine where the whole must be in view (`coarse`). A
method without training draws the image whole.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scorefield.data.bit_depth import Levels, image_of
from scorefield.degradations import MASKS, Degradation, DegradationSpec, parse_degradation
from scorefield.errors import UserError
from scorefield.hub import load
from scorefield.model import ScoreModel
from scorefield.restoration.candidates import Beside, drawn, gathered, observed
from scorefield.restoration.canvas import Canvas
from scorefield.restoration.coarse import Answering, colored, filled, tiled
from scorefield.restoration.learned import Learned
from scorefield.restoration.levels import as_grey, in_color, is_grey
from scorefield.restoration.methods import METHODS, Approach, approach
from scorefield.restoration.observed import Given, Job, check_jpeg, grey_of, left_of, prepared, shape_before
from scorefield.restoration.painting import Painter
from scorefield.restoration.panorama import panorama, route
from scorefield.restoration.restored import Restored
from scorefield.restoration.sight import Sight, operated, sighted
from scorefield.restoration.tasks import TASKS, ImageInput, Request, check_worth, task_named, tasks_named
from scorefield.restoration.tiling import up

__all__ = ["MASKS", "METHODS", "TASKS", "Restored", "restore"]

_TILE, _WIDE, _OVERLAP = 2, 256, 32
_COARSE = 2.0


@torch.no_grad()
def restore(
    model: ScoreModel | str | Path,
    image: ImageInput,
    task: str | None = None,
    *,
    degradation: str | Sequence[str] | Degradation | None = None,
    simulate: bool = False,
    mask: str | Path | Tensor = "center",
    invert: bool = False,
    sides: Sequence[str] = ("left", "right"),
    amount: float = 0.5,
    times: int = 1,
    quality: int | None = None,
    factor: int | None = None,
    std: float = 1.0,
    noise: float = 0.0,
    keep_luminance: bool = True,
    method: str | None = None,
    candidates: int = 1,
    average: bool = False,
    sampler: str | None = None,
    steps: int | None = None,
    schedule: str | None = None,
    tile: int | None = None,
    seed: int = 0,
    track: Callable[[int, int], None] | None = None,
) -> Restored:
    """Restore an image, several times over.

    Where a degradation leaves pixels as they are (a mask, a crop), they come back byte for byte. Answers have the
    bits of the image, 8 or 16. A grey image (`levels.is_grey`) comes back grey, from a model for color by the
    luma of its answers, unless color was asked for or the task is "paired".

    Args:
        model: a score model, or what `load` takes: one that was trained to restore, or an unconditional one.
        image: the degraded image: a path, a PIL image, or uint8 (C, H, W).
        task: a name in TASKS; "inpaint" if no `degradation` is given either.
        degradation: in a task's place what the image went through, as `degradations.parse_degradation` reads it, in
            order, or an operator.
        simulate: the image is clean; do the degradation first.
        mask: inpaint: white = fill: an image file, a name in MASKS, "alpha", or a tensor (H, W) of 0 and 1.
        invert: inpaint: take the mask's black for what is to be filled.
        sides: uncrop: out of top, right, bottom, left.
        amount: uncrop: how much is drawn at each, as a part of the image's width or height.
        times: uncrop: how often, each time beyond what was drawn before: a panorama.
        quality: dejpeg: of the JPEG file, if it is not to be read from there.
        factor: upscale: by default the one that leads to the model's own size.
        std: deblur: of the blur, in pixels.
        noise: standard deviation of Gaussian noise in the image, in steps of 8 bits.
        keep_luminance: colorize: the answers' luma is the image's, to rounding. Where the image is larger
            than the model draws at once it is kept in any case.
        method: a name in METHODS; by default "learned" for a model that was trained to restore, else "pigdm".
        candidates: how many answers.
        average: give their mean alone, which is nearer to the original, and less sharp.
        sampler: a name in `samplers.PRESETS`; by default the method's.
        steps: see `methods.approach`.
        schedule: likewise.
        tile: of a model that was trained to restore, the side of the squares in which a large image is restored.
        seed: of all noise.
        track: called with (evaluations done, evaluations in all); a tile of each candidate counts by itself.

    Raises:
        UserError: an image or mask that cannot be read or does not fit, a setting that cannot be, an
            unknown name, or a model that was not trained on the task.
    """
    if candidates < 1:
        raise UserError("candidates", f"need at least one, got {candidates}.")
    words = [degradation] if isinstance(degradation, str) else degradation
    asked = _Asked(
        image=image,
        task=_task(task, words),
        degradation=words,
        simulate=simulate,
        times=times,
        keep_luminance=keep_luminance,
        request=Request(
            mask=mask, invert=invert, sides=sides, amount=amount, quality=quality, factor=factor, std=std,
            noise=noise, seed=seed,
        ),
    )  # fmt: skip
    model = model if isinstance(model, ScoreModel) else load(model)
    for needed in asked.needed[1:]:
        approach(model, method, task=needed)
    chosen = approach(model, method, sampler, steps, schedule=schedule, task=asked.needed[0])
    asked.check(model, chosen)
    given = Given.of(image)
    if asked.task == "dejpeg" and not simulate:
        check_jpeg(given, asked.request)
    if not chosen.method.learned:
        job = asked.job(model, given)
        answers = observed(model, job, chosen, candidates, seed, track)
        source = given.grown(job.degradation.pinv, job.shape[1:])
        beside = Beside(degraded=job.degraded, original=job.original, source=source)
        return gathered(asked.kept_grey(model, given, answers, job.known.all(2)), beside, average=average)
    painter = Painter(
        learned=Learned(model=model),
        plan=chosen.plan,
        candidates=candidates,
        seed=seed,
        tile=_tile(model, tile),
        overlap=_OVERLAP,
    )
    sight, answering = asked.seen(painter, given)
    source = given.grown(sight.lay, sight.canvas.size)
    beside = Beside(degraded=sight.degraded, original=sight.original, source=source)
    known = None if sight.canvas.hole is None else ~sight.canvas.hole
    answers = asked.kept_grey(model, given, drawn(answering, track), known)
    return gathered(answers, beside, average=average)


def _task(task: str | None, degradation: Sequence[str] | Degradation | None) -> str | None:
    """The task's name, if it is a task, and a clear word before a model is loaded if it is nothing."""
    if degradation is None:
        task_named(task or "inpaint")
        return task or "inpaint"
    if task is not None:
        raise UserError("degradation", f"given beside the task {task!r}, which is one itself.", "Leave out either.")
    if isinstance(degradation, Sequence):
        parse_degradation(degradation)
    return None


def _tile(model: ScoreModel, tile: int | None) -> int:
    """The side of tiles, a multiple of 16; by default twice that of training, or 256, or the training's.

    The farther from what the model has learned, the worse: a regression on 64 pixels lost 0.06 dB on JPEG of
    quality 10 with tiles of 96, 0.1 with 128 and 0.25 with 512; and the smaller, the more is done twice. With
    32 pixels shared a clear sky changes less across tiles than within; with 16, a third more.
    """
    least, trained = 2 * _OVERLAP, max(model.shape[-2:])
    if tile is not None and tile < least:
        raise UserError("tile", f"need {least} pixels or more, got {tile}.", "Leave it out.")
    return up(tile if tile is not None else max(least, trained, min(_TILE * trained, _WIDE)))


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What `restore` was asked for; see there."""

    image: ImageInput
    task: str | None
    degradation: Sequence[str] | Degradation | None
    simulate: bool
    times: int
    keep_luminance: bool
    request: Request

    @property
    def needed(self) -> list[str | None]:
        """The tasks that a model must have learned; None where that cannot be told."""
        if self.task is not None:
            return [self.task]
        return [*tasks_named(self.degradation)] if isinstance(self.degradation, Sequence) else [None]

    def check(self, model: ScoreModel, chosen: Approach) -> None:
        """See that it is worth the while, and that the method can go on so many times."""
        if self.task == "dejpeg" and not self.simulate:
            check_worth(self.image, self.request, model)
        if self.times != 1 and not (self.task == "uncrop" and chosen.method.learned):
            raise UserError("times", "is for uncrop alone, by a model that was trained on it.", "Leave it out.")

    def kept_grey(
        self, model: ScoreModel, given: Given, answers: list[Levels], known: NDArray[np.bool_] | None
    ) -> list[Levels]:
        """The answers, grey if the image is and no color was asked for; `known` pixels byte for byte."""
        if not is_grey(given.levels) or self._gives_color(model, given):
            return answers
        return [as_grey(each, given.levels.shape[2], known) for each in answers]

    def _gives_color(self, model: ScoreModel, given: Given) -> bool:
        """Whether the answer may have color where the image has none: pairs can be grey and color."""
        if self.degradation is None or isinstance(self.degradation, Sequence):
            return not {"colorize", "paired"}.isdisjoint(self.needed)
        shape = shape_before(self.degradation, given, model.shape[0], simulate=self.simulate)
        return self.degradation(torch.zeros(1, *shape)).shape[1] < shape[0]

    def job(self, model: ScoreModel, given: Given) -> Job:
        """An observation, for methods that are told the operator."""
        simulate = self.simulate
        if self.task is not None:
            named = task_named(self.task)
            degradation = named.degradation(self.request, self.image, given.size, model)
            simulate = simulate or (named.strips and in_color(given.levels))
        else:
            degradation = self._degradation()
        left = left_of(model, given, degradation, simulate=simulate, noise=self.request.noise, seed=self.request.seed)
        return prepared(model, left)

    def seen(self, painter: Painter, given: Given) -> tuple[Sight, Answering]:
        """What a model that was trained to restore is shown, and its way to answers."""
        model = painter.learned.model
        side, deep = round(_COARSE * max(model.shape[-2:])), max(model.shape[-2:]) // 2
        if self.times != 1:
            return self._panorama(painter, given, side, deep)
        if self.task is None:
            sight = operated(model, given, self._degradation(), self.request, simulate=self.simulate)
        else:
            named = task_named(self.task)
            sight = sighted(model, given, named, self.request, self.image, simulate=self.simulate)
        if self.needed == ["colorize"]:
            return sight, colored(painter, sight.canvas, side=side, keep=self.keep_luminance)
        if sight.canvas.hole is not None and sight.canvas.source is None:
            return sight, filled(painter, sight.canvas, side=side, deep=deep)
        return sight, tiled(painter, sight.canvas)

    def _panorama(self, painter: Painter, given: Given, side: int, deep: int) -> tuple[Sight, Answering]:
        model, request = painter.learned.model, self.request
        task_named("uncrop").degradation(request, self.image, given.size, model)  # or a clear word
        way = route(given.size, request.sides, request.amount, self.times)
        levels = given.channels(model.shape[0])
        grey = np.full((*way.size, levels.shape[2]), grey_of(levels))
        grey[way.image.slices] = levels
        hole = np.ones(way.size, np.bool_)
        hole[way.image.slices] = False
        canvas = Canvas(levels=grey, hole=hole, value_range=model.value_range)

        def lay(x: Tensor) -> Tensor:
            whole = x.new_zeros(*x.shape[:2], *way.size)
            whole[(..., *way.image.slices)] = x
            return whole

        original = image_of(given.levels)
        sight = Sight(canvas=canvas, degraded=image_of(grey), original=original, lay=lay)
        return sight, panorama(painter, levels, way, side=side, deep=deep)

    def _degradation(self) -> DegradationSpec | Degradation:
        assert self.degradation is not None
        return parse_degradation(self.degradation) if isinstance(self.degradation, Sequence) else self.degradation
