"""Ways to restore that are measured side by side, by name: models, methods without training, classical tools.

| name | what |
| --- | --- |
| `MODEL` | a model that restores; one `step` is enough for a regression |
| `METHOD:MODEL` | a method of `restoration.METHODS` with an unconditional model, as `pigdm:photos` |
| `METHOD@STEPS:MODEL`, `@STEPS:MODEL` | the same with so many steps of its sampler |
| `tv`, `opencv-telea` … | a tool of `evaluation.classical` |
| `input` | nothing: the degraded image itself |

What is known of an image is put back into every answer. Images larger than a model that restores was trained
on are given to `restore`, as a user's are: tile by tile, holes and colors from coarse to fine.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from scorefield.degradations import Degradation, EncodedJPEG, Grey, Mask
from scorefield.errors import UserError, did_you_mean
from scorefield.evaluation.classical import CLASSICAL, Degraded, Restorer
from scorefield.evaluation.trial import Trial
from scorefield.model import ScoreModel
from scorefield.restoration import (
    METHODS,
    TASKS,
    Colorize,
    Custom,
    Dejpeg,
    Inpaint,
    MethodPlan,
    Task,
    resolve_method,
    restore,
)
from scorefield.restoration.methods import CONDITIONAL_METHOD as LEARNED

INPUT = "input"
_PIXELS_AT_ONCE = 1 << 18
_GRADIENT = 3.0  # times an evaluation, where a method differentiates the network


class System(Protocol):
    """A way to restore."""

    @property
    def name(self) -> str:
        """As it is called in tables."""
        ...

    @property
    def words(self) -> str:
        """What it is and how it was set, in a line."""
        ...

    @property
    def evaluations(self) -> int:
        """Of a network for one answer; 0 without one."""
        ...

    @property
    def cost(self) -> float:
        """Of one answer, in evaluations, for the clock."""
        ...

    @property
    def random(self) -> bool:
        """Whether another seed gives another answer."""
        ...

    def at_once(self, trial: Trial) -> int:
        """How many images it takes at once, as memory allows."""
        ...

    def mend(self, trial: Trial, rows: slice, *, seed: int) -> Tensor:
        """One answer to each of these degraded images, uint8 (n, C, H, W)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Restoring:
    """A network with a method.

    Args:
        name: in tables.
        model: of images given degraded ones for the method `learned`, of images alone for any other.
        method: a name in `restoration.METHODS`.
        approach: the method with its sampler and schedule.
        sampler: its name.
        steps: of the sampler as asked for, or None.
    """

    name: str
    model: ScoreModel
    method: str
    approach: MethodPlan
    sampler: str
    steps: int | None = None

    @property
    def words(self) -> str:
        """Method, sampler and evaluations."""
        count = sum(p.numel() for p in self.model.network.parameters())
        way = "" if self.method == LEARNED else f"{self.method}, "
        return f"{way}{self.sampler}, {self.evaluations} evaluations, {count / 1e6:.2f} M parameters"

    @property
    def evaluations(self) -> int:
        """Of the network for one answer."""
        return self.approach.plan.evaluations

    @property
    def cost(self) -> float:
        """A method that differentiates the network pays for it."""
        return self.evaluations * (_GRADIENT if self.approach.method.memory > 1 else 1.0)

    @property
    def random(self) -> bool:
        """A regression has one answer."""
        schedule = self.model.schedule
        return schedule is None or len(schedule) > 1

    def serves(self, task: str) -> bool:
        """What the model was trained on; everything without training."""
        return self.method != LEARNED or task in self.model.spec.tasks

    def at_once(self, trial: Trial) -> int:
        """By the pixels of an image and the method's memory."""
        pixels = trial.originals[0, 0].numel() * self.approach.method.memory
        return max(1, _PIXELS_AT_ONCE // pixels)

    def mend(self, trial: Trial, rows: slice, *, seed: int) -> Tensor:
        """One result for each, by `restore`: what is measured here is what the verbs run."""
        observation = trial.solvable(rows, self.model.value_range)
        low, high = self.model.value_range
        noise_std = observation.noise * 255 / (high - low)
        operators = trial.operators(rows, self.model.value_range)
        results: list[Tensor] = []
        for left, operator in zip(trial.left[rows], operators, strict=True):
            made = restore(
                self.model, left, _task(trial.case.task, operator, noise_std), method=self.method,
                sampler=self.sampler, steps=self.steps, seed=seed,
            )  # fmt: skip
            results.append(torch.from_numpy(made.levels[0]).permute(2, 0, 1))
        return torch.where(trial.fill[rows], torch.stack(results), trial.seen[rows])


@dataclass(frozen=True, kw_only=True)
class _MaskedSides(Inpaint):
    """Uncropping of windows whose sides are masked."""

    name: ClassVar[str] = "uncrop"


def _task(name: str, operator: Degradation, noise_std: float) -> Task:
    """The task of the verbs for a degradation that was drawn."""
    if isinstance(operator, Mask):
        mask = operator.fill[0, 0]
        return _MaskedSides(mask=mask) if name == "uncrop" else Inpaint(mask=mask)
    if isinstance(operator, EncodedJPEG):
        return Dejpeg(quality=operator.quality)
    if isinstance(operator, Grey):
        return Colorize()
    return Custom(degradation=operator, noise_std=noise_std, stands_for=name if name in TASKS else None)


@dataclass(frozen=True, kw_only=True)
class Classical:
    """A tool that is set.

    Args:
        name: in CLASSICAL.
        words: how it was set.
        restorer: the tool.
    """

    name: str
    words: str
    restorer: Restorer
    evaluations = 0
    cost = 2.0
    random = False

    def at_once(self, trial: Trial) -> int:
        """As a plain network."""
        return max(1, _PIXELS_AT_ONCE // trial.originals[0, 0].numel())

    def mend(self, trial: Trial, rows: slice, *, seed: int) -> Tensor:
        """Its answer; the seed changes nothing."""
        given = trial.degraded(rows)
        return torch.where(trial.fill[rows], self.restorer(given.seen, given.hole), given.seen)


@dataclass(frozen=True, kw_only=True)
class Input:
    """The degraded image as it is."""

    name = INPUT
    words = "the degraded image itself, middle grey in holes"
    evaluations = 0
    cost = 0.0
    random = False

    def at_once(self, trial: Trial) -> int:
        """All of them."""
        return len(trial)

    def mend(self, trial: Trial, rows: slice, *, seed: int) -> Tensor:
        """What there is to see."""
        return trial.seen[rows]


def classical(name: str, train: Degraded) -> Classical:
    """The tool of that name at its best on training images with the same degradation.

    Raises:
        UserError: a package is missing.
    """
    restorer, words = CLASSICAL[name].fitted(train)
    return Classical(name=name, words=words, restorer=restorer)


@dataclass(frozen=True, kw_only=True)
class Named:
    """What the name of a system that is no classical tool says.

    Args:
        method: a name in `restoration.METHODS`.
        steps: of its sampler, or None.
        model: the model's name.
    """

    method: str
    steps: int | None
    model: str


def read_name(text: str) -> Named:
    """METHOD@STEPS:MODEL, each of the first two left out at will.

    Raises:
        UserError: no such method, or steps that are no number.
    """
    head, colon, model = text.partition(":")
    method, at, steps = head.partition("@")
    if not colon or (method and method not in METHODS and not at):
        return Named(method=LEARNED, steps=None, model=text)
    if method and method not in METHODS:
        raise UserError("method", f"no such method {method!r}.", did_you_mean(method, METHODS))
    if at and not (steps.isdecimal() and int(steps)):
        raise UserError(text, f"{steps!r} is no number of steps.", "Write e.g. pigdm@50:MODEL.")
    return Named(method=method or LEARNED, steps=int(steps) if at else None, model=model)


def restoring(
    name: str,
    model: ScoreModel,
    *,
    method: str = LEARNED,
    sampler: str | None = None,
    steps: int | None = None,
) -> Restoring:
    """A model with a method, its sampler and schedule fitted.

    Args:
        name: in tables.
        model: fitting the method.
        method: a name in `restoration.METHODS`.
        sampler: a name in `samplers.PRESETS`; by default the method's.
        steps: see `restoration.resolve_method`.

    Raises:
        UserError: a model that does not fit the method, no such method or sampler, or steps that do not fit.
    """
    if method == LEARNED and not model.spec.tasks:
        raise UserError(name, "is a model of images alone and restores by a method.", f"Write e.g. pigdm:{name}.")
    if method != LEARNED and model.spec.tasks:
        raise UserError(name, f"was trained to restore; {method} takes a model of images alone.")
    chosen = resolve_method(model, method, sampler, steps)
    return Restoring(
        name=name,
        model=model,
        method=method,
        approach=chosen,
        sampler=sampler or METHODS[method].sampler,
        steps=steps,
    )
