"""One call from a damaged picture to several mended ones.

A task or a damage says what the picture went through (`tasks`), a method says how that is answered
(`methods`), and a sampler draws the candidates. A model that was trained to mend (`learned`) takes pictures
of any size: by tiles (`painting`), and from coarse to fine where the whole must be in view (`coarse`). A
method without training draws the picture whole.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scorefield.data.depth import picture_of
from scorefield.degradations import MASKS, Damage, Degradation, parse_damage
from scorefield.errors import UserError
from scorefield.hub import load
from scorefield.model import ScoreModel
from scorefield.restoration.candidates import Beside, drawn, gathered, observed
from scorefield.restoration.canvas import Canvas
from scorefield.restoration.coarse import Answering, colored, filled, tiled
from scorefield.restoration.learned import Learned
from scorefield.restoration.levels import in_color
from scorefield.restoration.methods import METHODS, Approach, approach
from scorefield.restoration.observed import Given, Job, grey_of, left_of, prepared
from scorefield.restoration.painting import Painter
from scorefield.restoration.panorama import panorama, route
from scorefield.restoration.restored import Restored
from scorefield.restoration.sight import Sight, operated, sighted
from scorefield.restoration.tasks import TASKS, Picture, Wish, check_worth, task_named, tasks_named
from scorefield.restoration.tiling import up

__all__ = ["MASKS", "METHODS", "TASKS", "Restored", "restore"]

_TILE, _WIDE, _OVERLAP = 2, 256, 32
_COARSE = 2.0


@torch.no_grad()
def restore(
    model: ScoreModel | str | Path,
    picture: Picture,
    task: str | None = None,
    *,
    damage: str | Sequence[str] | Degradation | None = None,
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
    ladder: str | None = None,
    tile: int | None = None,
    seed: int = 0,
    track: Callable[[int, int], None] | None = None,
) -> Restored:
    """Mend a picture, several times over.

    Where a damage leaves pixels as they are (a mask, a crop), they come back byte for byte. Answers have the
    bits of the picture, 8 or 16.

    Args:
        model: a score model, or what `load` takes: one that was trained to mend, or an unconditional one.
        picture: the damaged picture: a path, a PIL picture, or uint8 (C, H, W).
        task: a name in TASKS; "inpaint" if no `damage` is given either.
        damage: in a task's place what the picture went through, as `degradations.parse_damage` reads it, in
            order, or an operator.
        simulate: the picture is clean; do the damage first.
        mask: inpaint: white = fill: a picture file, a name in MASKS, "alpha", or a tensor (H, W) of 0 and 1.
        invert: inpaint: take the mask's black for what is to be filled.
        sides: uncrop: out of top, right, bottom, left.
        amount: uncrop: how much is drawn at each, as a part of the picture's width or height.
        times: uncrop: how often, each time beyond what was drawn before: a panorama.
        quality: dejpeg: of the JPEG file, if it is not to be read from there.
        factor: upscale: by default the one that leads to the model's own size.
        std: deblur: of the blur, in pixels.
        noise: standard deviation of Gaussian noise in the picture, in steps of 8 bits.
        keep_luminance: colorize: the answers' luma is the picture's, to rounding. Where the picture is larger
            than the model draws at once it is kept in any case.
        method: a name in METHODS; by default "learned" for a model that was trained to mend, else "pigdm".
        candidates: how many answers.
        average: give their mean alone, which is nearer to the original, and less sharp.
        sampler: a name in `samplers.SAMPLERS`; by default the method's.
        steps: see `methods.approach`.
        ladder: likewise.
        tile: of a model that was trained to mend, the side of the squares in which a large picture is mended.
        seed: of all noise.
        track: called with (evaluations done, evaluations in all); a tile of each candidate counts by itself.

    Raises:
        UserError: a picture or mask that cannot be read or does not fit, a setting that cannot be, an
            unknown name, or a model that was not trained on the task.
    """
    if candidates < 1:
        raise UserError("candidates", f"need at least one, got {candidates}.")
    words = [damage] if isinstance(damage, str) else damage
    asked = _Asked(
        picture=picture,
        task=_task(task, words),
        damage=words,
        simulate=simulate,
        times=times,
        keep_luminance=keep_luminance,
        wish=Wish(
            mask=mask, invert=invert, sides=sides, amount=amount, quality=quality, factor=factor, std=std,
            noise=noise, seed=seed,
        ),
    )  # fmt: skip
    model = model if isinstance(model, ScoreModel) else load(model)
    for needed in asked.needed[1:]:
        approach(model, method, task=needed)
    chosen = approach(model, method, sampler, steps, ladder=ladder, task=asked.needed[0])
    asked.check(model, chosen)
    given = Given.of(picture)
    if not chosen.method.learned:
        job = asked.job(model, given)
        answers = observed(model, job, chosen, candidates, seed, track)
        source = given.grown(job.degradation.pinv, job.shape[1:])
        beside = Beside(damaged=job.damaged, original=job.original, source=source)
        return gathered(answers, beside, average=average)
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
    beside = Beside(damaged=sight.damaged, original=sight.original, source=source)
    return gathered(drawn(answering, track), beside, average=average)


def _task(task: str | None, damage: Sequence[str] | Degradation | None) -> str | None:
    """The task's name, if it is a task, and a clear word before a model is loaded if it is nothing."""
    if damage is None:
        task_named(task or "inpaint")
        return task or "inpaint"
    if task is not None:
        raise UserError(
            "damage", f"given beside the task {task!r}, which is one itself.", "Leave out either."
        )
    if isinstance(damage, Sequence):
        parse_damage(damage)
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

    picture: Picture
    task: str | None
    damage: Sequence[str] | Degradation | None
    simulate: bool
    times: int
    keep_luminance: bool
    wish: Wish

    @property
    def needed(self) -> list[str | None]:
        """The tasks that a model must have learned; None where that cannot be told."""
        if self.task is not None:
            return [self.task]
        return [*tasks_named(self.damage)] if isinstance(self.damage, Sequence) else [None]

    def check(self, model: ScoreModel, chosen: Approach) -> None:
        """See that it is worth the while, and that the method can go on so many times."""
        if self.task == "dejpeg" and not self.simulate:
            check_worth(self.picture, self.wish, model)
        if self.times != 1 and not (self.task == "uncrop" and chosen.method.learned):
            raise UserError(
                "times", "is for uncrop alone, by a model that was trained on it.", "Leave it out."
            )

    def job(self, model: ScoreModel, given: Given) -> Job:
        """An observation, for methods that are told the operator."""
        simulate = self.simulate
        if self.task is not None:
            named = task_named(self.task)
            damage = named.damage(self.wish, self.picture, given.size, model)
            simulate = simulate or (named.strips and in_color(given.levels))
        else:
            damage = self._damage()
        left = left_of(model, given, damage, simulate=simulate, noise=self.wish.noise, seed=self.wish.seed)
        return prepared(model, left)

    def seen(self, painter: Painter, given: Given) -> tuple[Sight, Answering]:
        """What a model that was trained to mend is shown, and its way to answers."""
        model = painter.learned.model
        side, deep = round(_COARSE * max(model.shape[-2:])), max(model.shape[-2:]) // 2
        if self.times != 1:
            return self._panorama(painter, given, side, deep)
        if self.task is None:
            sight = operated(model, given, self._damage(), self.wish, simulate=self.simulate)
        else:
            named = task_named(self.task)
            sight = sighted(model, given, named, self.wish, self.picture, simulate=self.simulate)
        if self.needed == ["colorize"]:
            return sight, colored(painter, sight.canvas, side=side, keep=self.keep_luminance)
        if sight.canvas.hole is not None and sight.canvas.source is None:
            return sight, filled(painter, sight.canvas, side=side, deep=deep)
        return sight, tiled(painter, sight.canvas)

    def _panorama(self, painter: Painter, given: Given, side: int, deep: int) -> tuple[Sight, Answering]:
        model, wish = painter.learned.model, self.wish
        task_named("uncrop").damage(wish, self.picture, given.size, model)  # or a clear word
        way = route(given.size, wish.sides, wish.amount, self.times)
        levels = given.channels(model.shape[0])
        grey = np.full((*way.size, levels.shape[2]), grey_of(levels))
        grey[way.picture.slices] = levels
        canvas = Canvas(levels=grey, hole=None, value_range=model.value_range)

        def lay(x: Tensor) -> Tensor:
            whole = x.new_zeros(*x.shape[:2], *way.size)
            whole[(..., *way.picture.slices)] = x
            return whole

        original = picture_of(given.levels)
        sight = Sight(canvas=canvas, damaged=picture_of(grey), original=original, lay=lay)
        return sight, panorama(painter, levels, way, side=side, deep=deep)

    def _damage(self) -> Damage | Degradation:
        assert self.damage is not None
        return parse_damage(self.damage) if isinstance(self.damage, Sequence) else self.damage
