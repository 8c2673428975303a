"""How a sampler is fitted to a model.

What goes down a schedule without Langevin dynamics takes Karras et al.'s schedule from the model's largest noise
level to its least, then 0. Where the model's noise levels are few and the first leaves a shadow of the image, as
NCSN's, it is `Settled` there before. For annealed Langevin dynamics there are three ways.

* A model of few noise levels, as NCSN's ten, is walked down them with the paper's numbers (Song & Ermon 2019, §5):
  T = 100, and ε = 2e-5 at σ_L = 0.01, which is ε = 0.2 σ_L² in whatever units, and no last denoising.
* A model of many noise levels is walked down them with T = 5, ε by the variance rule of Song & Ermon (2020),
  Technique 4, and a last denoising.
* A model of no noise levels is given a geometric schedule over its noise levels, and then treated as the second.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from scorefield import schedules
from scorefield.errors import UserError
from scorefield.model import ScoreModel
from scorefield.samplers.base import Sampler
from scorefield.samplers.burn_in import Settled
from scorefield.samplers.langevin import AnnealedLangevin, Convention, Langevin
from scorefield.samplers.mala import MALA
from scorefield.samplers.settings import Setting, arguments, values_of

_FEW = 50  # noise levels; NCSN has 10, the schedules of Song & Ermon (2020) have 232 and more
_PAPERS_RATE = 0.2  # ε/σ_L² of Song & Ermon (2019): 2e-5/0.01²
_LEAST = 0.01  # the last noise level of Langevin dynamics where the model knows less noise than that


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A sampler and the schedule it goes down.

    Args:
        sampler: with its settings.
        sigmas: the schedule, (L,).
        schedule: its name: one in `schedules.SCHEDULES`, "own" for the model's noise levels, "one level", or "given".
        off_schedule: the largest factor between a noise level and the nearest that the model was trained on; 1 where
            it learned every noise level.
    """

    sampler: Sampler
    sigmas: Tensor
    schedule: str = "given"
    off_schedule: float = 1.0

    @property
    def evaluations(self) -> int:
        """How often it calls the denoiser."""
        return self.sampler.evaluations(self.sigmas)

    @property
    def settings(self) -> dict[str, Setting]:
        """The sampler's settings by the names that `plan` takes."""
        return values_of(self.sampler.sampler if isinstance(self.sampler, Settled) else self.sampler)


@dataclass(frozen=True, kw_only=True)
class Request:
    """All that a plan is made from; what is None is left to the plan.

    Args:
        model: whose noise levels or noise levels are walked.
        make: the sampler's class, or a function that makes one of settings.
        steps: see `plan`.
        sigmas: a schedule of the caller's own.
        schedule: a schedule's name.
        settings: of the sampler.
    """

    model: ScoreModel
    make: Callable[..., Sampler]
    steps: int | None
    sigmas: Tensor | None
    schedule: str | None
    settings: Mapping[str, Setting]

    @property
    def convention(self) -> Convention:
        """How step sizes are meant."""
        return cast(Convention, self.settings.get("convention", "paper"))

    @property
    def steps_each(self) -> int | None:
        """T, updates on each noise level."""
        return cast(int | None, self.settings.get("steps_each"))

    @property
    def step_size(self) -> float | None:
        """ε, in the convention."""
        return cast(float | None, self.settings.get("step_size"))


Fit = Callable[[Request], Plan]


def down(steps: int, *, few: int | None = None) -> Fit:
    """The fit of a sampler that takes one step from noise level to noise level.

    Args:
        steps: noise levels above 0, by default.
        few: the same for a model of few noise levels.
    """

    def fit(request: Request) -> Plan:
        schedule = request.model.schedule
        if schedule is not None and len(schedule) == 1:  # a regression: its one evaluation is the answer
            sampler = request.make(**arguments(request.settings))
            return Plan(sampler=sampler, sigmas=schedules.ended(schedule), schedule="own")
        is_few = schedule is not None and _has_few(schedule)
        count = request.steps or (few if is_few and few else steps)
        name, sigmas = _schedule(request, count)
        sampler = request.make(**arguments(request.settings))
        return Plan(sampler=Settled(sampler=sampler) if is_few else sampler, sigmas=sigmas, schedule=name)

    return fit


def annealed(request: Request) -> Plan:
    """Annealed Langevin dynamics; see the module."""
    name, sigmas, each, epsilon, few = _way_down(request)
    denoise = bool(request.settings.get("denoise", not few))
    sampler = AnnealedLangevin(step_size=epsilon, steps=each, denoise=denoise, convention=request.convention)
    return Plan(sampler=sampler, sigmas=sigmas, schedule=name)


def adjusted(request: Request) -> Plan:
    """The same with a Metropolis test, and no last denoising."""
    name, sigmas, each, epsilon, _ = _way_down(request)
    sampler = MALA(step_size=epsilon, steps=each, convention=request.convention)
    return Plan(sampler=sampler, sigmas=sigmas, schedule=name)


def at_one_level(request: Request) -> Plan:
    """Langevin dynamics at one small level: the ablation of Song & Ermon (2019), App. C.1."""
    if request.schedule not in (None, "own"):
        raise UserError("schedule", "the langevin sampler stays at one noise level.", "Give that as its schedule.")
    name, sigmas = _levels(request)
    if name == "own":
        sigmas = own_levels(request.model)[-1:]
    elif sigmas is None:
        name, sigmas = "one level", torch.tensor([max(request.model.sigma_range[0], _LEAST)])
    each = request.steps_each or max(1, (request.steps or 1000) // max(1, len(sigmas)))
    alpha = _papers_step(sigmas) if request.step_size is None else request.step_size
    sampler = Langevin(step_size=alpha, steps=each, convention=request.convention)
    return Plan(sampler=sampler, sigmas=sigmas, schedule=name)


def own_levels(model: ScoreModel) -> Tensor:
    """The noise levels that the model was trained on.

    Raises:
        UserError: it learned every noise level.
    """
    if model.schedule is None:
        raise UserError(
            "schedule",
            "this model learned every noise level and has no noise levels of its own.",
            f"Choose one of {', '.join(schedules.SCHEDULES)}.",
        )
    return model.schedule


def _schedule(request: Request, count: int) -> tuple[str, Tensor]:
    """Name and noise levels of a schedule of `count` noise levels above 0."""
    if request.sigmas is not None:
        if request.steps is not None:
            raise UserError("steps", "a schedule of your own has its number of noise levels already.", "Leave it out.")
        return "given", request.sigmas
    name = request.schedule or "karras"
    if name == "own":
        return name, schedules.ended(schedules.thinned(own_levels(request.model), count))
    low, high = request.model.sigma_range
    return name, schedules.SCHEDULES[name](high, low, count)


def _way_down(request: Request) -> tuple[str, Tensor, int, float, bool]:
    """The schedule's name, the schedule, T, ε in the request's convention, and whether the noise levels are few."""
    name, own = _levels(request)
    few = own is not None and _has_few(own)
    each = request.steps_each
    if own is None:
        low, high = request.model.sigma_range
        steps = request.steps or 100 * (each or 5)
        each = each or (5 if steps >= 10 else 1)
        sigmas = schedules.SCHEDULES[name](high, max(low, _LEAST), max(2, steps // each))
        sigmas = sigmas[sigmas > 0]
    elif request.steps is None:
        sigmas, each = own, each or (100 if few else 5)
    else:
        each = each or max(1, request.steps // max(1, len(own)))
        sigmas = schedules.thinned(own, request.steps // each)
    if request.step_size is not None:
        return name, sigmas, each, request.step_size, few
    if few:
        return name, sigmas, each, _papers_step(sigmas), few
    epsilon = schedules.langevin_step_size(sigmas, each)
    return name, sigmas, each, epsilon if request.convention == "paper" else epsilon / 2, few


def _levels(request: Request) -> tuple[str, Tensor | None]:
    """The name of the schedule of Langevin dynamics, and its noise levels if they do not depend on the steps."""
    if request.sigmas is not None:
        return "given", request.sigmas
    if request.schedule == "own" or (request.schedule is None and request.model.schedule is not None):
        return "own", own_levels(request.model)
    return request.schedule or "geometric", None


def _papers_step(sigmas: Tensor) -> float:
    """ε = 0.2 σ_L²; of no noise level 0, which the sampler then refuses."""
    return _PAPERS_RATE * sigmas[-1:].sum().item() ** 2


def _has_few(sigmas: Tensor) -> bool:
    """Whether a schedule's noise levels lie so far apart that what is between them counts."""
    return len(sigmas) <= _FEW
