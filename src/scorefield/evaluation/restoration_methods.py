"""Methods of restoration that are measured, by name.

| method | meaning |
| --- | --- |
| `MODEL` | a conditional model |
| `METHOD:MODEL` | a method of `restoration.METHODS` with an unconditional model, as `pigdm:photos` |
| `METHOD@STEPS:MODEL`, `@STEPS:MODEL` | the same with this number of steps |

Every image is restored by `scorefield.restoration.restore`, the call that the command line's verbs make.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from scorefield.data.photo import Photo, as_photo
from scorefield.degradations import AdditiveNoise, Blur, Degradation, Downscale, EncodedJPEG, Mask
from scorefield.errors import UserError, did_you_mean
from scorefield.evaluation.cases import Case
from scorefield.evaluation.degraded import DegradedSet
from scorefield.model import ScoreModel
from scorefield.restoration import (
    METHODS,
    TASKS,
    Deblur,
    Dejpeg,
    Denoise,
    Inpaint,
    MethodPlan,
    Task,
    Upscale,
    named_task,
    resolve_method,
    restore,
)
from scorefield.restoration.methods import CONDITIONAL_METHOD

__all__ = [
    "MethodName",
    "ModelMethod",
    "RestorationMethod",
    "Unrestored",
    "check_methods",
    "model_method",
    "parse_method",
    "task_for",
]

_GRADIENT_COST = 3.0  # of an evaluation with its gradient, in evaluations


class RestorationMethod(Protocol):
    """A way to restore degraded images."""

    @property
    def name(self) -> str:
        """Its name in tables."""
        ...

    def is_random(self, task: str) -> bool:
        """Whether another seed gives another result."""
        ...

    def serves(self, task: str) -> bool:
        """Whether it restores this task."""
        ...

    def describe(self, task: str) -> str:
        """Settings for the task, in one line."""
        ...

    def evaluations(self, task: str) -> int:
        """Network evaluations for one candidate; 0 without a network."""
        ...

    def cost(self, task: str) -> float:
        """Of one candidate, in evaluations without gradient, for the progress."""
        ...

    def candidates(self, images: DegradedSet, rows: range, *, count: int, seed: int) -> list[Tensor]:
        """So many candidates for each of these images, each uint8 (n, C, H, W)."""
        ...


@dataclass(frozen=True, kw_only=True)
class ModelMethod:
    """A model with a method, called through `restore`.

    Args:
        name: in tables.
        model: conditional for the method "palette", unconditional for any other.
        method: a name in `restoration.METHODS`.
        sampler: a name in `samplers.PRESETS`; None takes the method's.
        steps: of the sampler; None takes the task's or the method's.
    """

    name: str
    model: ScoreModel
    method: str
    sampler: str | None = None
    steps: int | None = None

    def is_random(self, task: str) -> bool:
        """A regression, whose schedule has one level, gives one result."""
        schedule = self.model.for_task(task).schedule
        return schedule is None or len(schedule) > 1

    def serves(self, task: str) -> bool:
        """A conditional model its own tasks, any other method every task."""
        return self.method != CONDITIONAL_METHOD or task in self.model.for_task(task).spec.tasks

    def describe(self, task: str) -> str:
        """Method, sampler, evaluations and parameters."""
        parameters = sum(p.numel() for p in self.model.for_task(task).network.parameters()) / 1e6
        method = "" if self.method == CONDITIONAL_METHOD else f"{self.method}, "
        sampler = self.sampler or METHODS[self.method].sampler
        return f"{method}{sampler}, {self.evaluations(task)} evaluations, {parameters:.2f} M parameters"

    def evaluations(self, task: str) -> int:
        """As `restore` plans them for the task."""
        return self._plan(task).plan.evaluations

    def cost(self, task: str) -> float:
        """More where the method differentiates the network."""
        gradient = METHODS[self.method].memory > 1
        return self.evaluations(task) * (_GRADIENT_COST if gradient else 1.0)

    def candidates(self, images: DegradedSet, rows: range, *, count: int, seed: int) -> list[Tensor]:
        """By `restore`, image by image; image i has the seed `seed + i`."""
        model = self.model.for_task(images.case.task)
        operators = images.operators(rows, model.value_range)
        results: list[list[Tensor]] = []
        for row, operator in zip(rows, operators, strict=True):
            made = restore(
                model,
                _photo(images.degraded[row], operator),
                task_for(images.case.task, operator, model),
                method=self.method,
                candidates=count,
                sampler=self.sampler,
                steps=self.steps,
                seed=seed + row,
            )
            results.append([_pixels(levels, images.originals.shape[1]) for levels in made.levels])
        known = slice(rows.start, rows.stop)
        return [
            torch.where(images.unknown[known], torch.stack(one), images.shown[known])
            for one in zip(*results, strict=True)
        ]

    def _plan(self, task: str) -> MethodPlan:
        return resolve_method(
            self.model.for_task(task),
            self.method,
            self.sampler,
            self.steps,
            tasks=(task,),
            task_steps=named_task(task).steps,
        )


@dataclass(frozen=True, kw_only=True)
class Unrestored:
    """The degraded images themselves, grey under masks."""

    name: str = "input"

    def is_random(self, task: str) -> bool:
        """Never."""
        return False

    def serves(self, task: str) -> bool:
        """Every task."""
        return True

    def describe(self, task: str) -> str:
        """In one line."""
        return "the degraded image itself, middle grey under masks"

    def evaluations(self, task: str) -> int:
        """None."""
        return 0

    def cost(self, task: str) -> float:
        """None."""
        return 0.0

    def candidates(self, images: DegradedSet, rows: range, *, count: int, seed: int) -> list[Tensor]:
        """The images as they are."""
        return [images.shown[rows.start : rows.stop]]


@dataclass(frozen=True, kw_only=True)
class _MaskedSides(Inpaint):
    """Uncropping of crops whose sides are masked."""

    name: ClassVar[str] = "uncrop"


def _photo(pixels: Tensor, operator: Degradation) -> Photo:
    """The degraded image; of one that a JPEG file was made of, with the file's header."""
    photo = as_photo(pixels)
    return replace(photo, jpeg=operator.header(pixels)) if isinstance(operator, EncodedJPEG) else photo


def task_for(name: str, operator: Degradation, model: ScoreModel) -> Task:
    """The task of the verb `name` for an image that this operator degraded."""
    low, high = model.value_range
    match operator:
        case Mask():
            mask = operator.mask[0, 0]
            return _MaskedSides(mask=mask) if name == "uncrop" else Inpaint(mask=mask)
        case EncodedJPEG():
            return Dejpeg(quality=operator.quality)
        case AdditiveNoise():
            return Denoise(std=operator.std * 255 / (high - low))
        case Blur():
            return Deblur(std=operator.std)
        case Downscale():
            return Upscale(factor=operator.factor)
        case _:
            return named_task(name)


@dataclass(frozen=True, kw_only=True)
class MethodName:
    """What the name of a method says: METHOD@STEPS:MODEL.

    Args:
        method: a name in `restoration.METHODS`.
        steps: of its sampler, or None.
        model: the model's name; empty for the evaluated model itself.
    """

    method: str
    steps: int | None
    model: str


def parse_method(text: str) -> MethodName:
    """METHOD@STEPS:MODEL, where METHOD and @STEPS may be left out.

    Raises:
        UserError: no such method, or steps that are no number.
    """
    head, colon, model = text.partition(":")
    method, at, steps = head.partition("@")
    if not colon or (method and method not in METHODS and not at):
        return MethodName(method=CONDITIONAL_METHOD, steps=None, model=text)
    if method and method not in METHODS:
        raise UserError("method", f"no such method {method!r}.", did_you_mean(method, METHODS))
    if at and not (steps.isdecimal() and int(steps)):
        raise UserError(text, f"{steps!r} is no number of steps.", "Write e.g. pigdm@50:MODEL.")
    return MethodName(method=method or CONDITIONAL_METHOD, steps=int(steps) if at else None, model=model)


def model_method(
    name: str,
    model: ScoreModel,
    *,
    method: str = CONDITIONAL_METHOD,
    sampler: str | None = None,
    steps: int | None = None,
) -> ModelMethod:
    """A model with a method, checked to fit each other.

    Raises:
        UserError: the model does not fit the method, or there is no such method, sampler or number of steps.
    """
    if method == CONDITIONAL_METHOD and not model.spec.tasks:
        raise UserError(name, "is an unconditional model and restores by a method.", f"Write e.g. pigdm:{name}.")
    if method != CONDITIONAL_METHOD and model.spec.tasks:
        raise UserError(name, f"is a conditional model; {method} takes an unconditional one.")
    resolve_method(model, method, sampler, steps)
    return ModelMethod(name=name, model=model, method=method, sampler=sampler, steps=steps)


def check_methods(methods: Sequence[RestorationMethod], cases: Sequence[Case]) -> None:
    """Check before any work that the first method serves every case, and each other one at least one.

    Raises:
        UserError: one does not, or two have the same name.
    """
    tasks = sorted({case.task for case in cases})
    for index, method in enumerate(methods):
        unserved = [task for task in tasks if not method.serves(task)]
        if unserved and (index == 0 or len(unserved) == len(tasks)):
            known = f"It knows: {', '.join(task for task in TASKS if method.serves(task))}."
            raise UserError(method.name, f"does not {unserved[0] if index == 0 else ' or '.join(tasks)}.", known)
    names = [method.name for method in methods]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(twice, "is named twice.", "Name each method once.")


def _pixels(levels: object, channels: int) -> Tensor:
    """uint8 (C, H, W) of (H, W, C) levels; grey repeated where the originals have color."""
    pixels = torch.as_tensor(levels).permute(2, 0, 1)
    return pixels.expand(channels, -1, -1) if len(pixels) == 1 else pixels
