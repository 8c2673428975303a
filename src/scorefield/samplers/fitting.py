"""How a sampler is fitted to a model.

What goes down a ladder without Langevin dynamics takes Karras et al.'s ladder from the model's largest noise
level to its least, then 0. Where the model's rungs are few and the first leaves a shadow of the picture, as
NCSN's, it is `Settled` there before. For annealed Langevin dynamics there are three ways.

* A model of few rungs, as NCSN's ten, is walked down them with the paper's numbers (Song & Ermon 2019, §5):
  T = 100, and ε = 2e-5 at σ_L = 0.01, which is ε = 0.2 σ_L² in whatever units, and no last denoising.
* A model of many rungs is walked down them with T = 5, ε by the variance rule of Song & Ermon (2020),
  Technique 4, and a last denoising.
* A model of no rungs is given a geometric ladder over its noise levels, and then treated as the second.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from scorefield import noise
from scorefield.errors import UserError
from scorefield.model import ScoreModel
from scorefield.samplers.langevin import AnnealedLangevin, Convention, Langevin
from scorefield.samplers.mala import MALA
from scorefield.samplers.settings import Setting, arguments, values_of
from scorefield.samplers.settled import Settled
from scorefield.samplers.step import Sampler

_FEW = 50  # rungs; NCSN has 10, the ladders of Song & Ermon (2020) have 232 and more
_PAPERS_RATE = 0.2  # ε/σ_L² of Song & Ermon (2019): 2e-5/0.01²
_LEAST = 0.01  # the last rung of Langevin dynamics where the model knows less noise than that


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A sampler and the ladder it goes down.

    Args:
        sampler: with its settings.
        sigmas: the ladder, (L,).
        ladder: its name: one in `noise.LADDERS`, "own" for the model's rungs, "one level", or "given".
        off_ladder: the largest factor between a rung and the nearest that the model was trained on; 1 where
            it learned every noise level.
    """

    sampler: Sampler
    sigmas: Tensor
    ladder: str = "given"
    off_ladder: float = 1.0

    @property
    def evaluations(self) -> int:
        """How often it calls the denoiser."""
        return self.sampler.evaluations(self.sigmas)

    @property
    def settings(self) -> dict[str, Setting]:
        """The sampler's settings by the names that `plan` takes."""
        return values_of(self.sampler.sampler if isinstance(self.sampler, Settled) else self.sampler)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """All that a plan is made from; what is None is left to the plan.

    Args:
        model: whose noise levels or rungs are walked.
        make: the sampler's class, or a function that makes one of settings.
        steps: see `plan`.
        sigmas: a ladder of the caller's own.
        ladder: a ladder's name.
        settings: of the sampler.
    """

    model: ScoreModel
    make: Callable[..., Sampler]
    steps: int | None
    sigmas: Tensor | None
    ladder: str | None
    settings: Mapping[str, Setting]

    @property
    def convention(self) -> Convention:
        """How step sizes are meant."""
        return cast(Convention, self.settings.get("convention", "paper"))

    @property
    def steps_each(self) -> int | None:
        """T, updates on each rung."""
        return cast(int | None, self.settings.get("steps_each"))

    @property
    def step_size(self) -> float | None:
        """ε, in the convention."""
        return cast(float | None, self.settings.get("step_size"))


Fit = Callable[[Wish], Plan]


def down(steps: int, *, few: int | None = None) -> Fit:
    """The fit of a sampler that takes one step from rung to rung.

    Args:
        steps: rungs above 0, by default.
        few: the same for a model of few rungs.
    """

    def fit(wish: Wish) -> Plan:
        ladder = wish.model.ladder
        if ladder is not None and len(ladder) == 1:  # a regression: its one evaluation is the answer
            sampler = wish.make(**arguments(wish.settings))
            return Plan(sampler=sampler, sigmas=noise.ended(ladder), ladder="own")
        is_few = ladder is not None and _has_few(ladder)
        count = wish.steps or (few if is_few and few else steps)
        name, sigmas = _ladder(wish, count)
        sampler = wish.make(**arguments(wish.settings))
        return Plan(sampler=Settled(sampler=sampler) if is_few else sampler, sigmas=sigmas, ladder=name)

    return fit


def annealed(wish: Wish) -> Plan:
    """Annealed Langevin dynamics; see the module."""
    name, sigmas, each, epsilon, few = _way_down(wish)
    denoise = bool(wish.settings.get("denoise", not few))
    sampler = AnnealedLangevin(step_size=epsilon, steps=each, denoise=denoise, convention=wish.convention)
    return Plan(sampler=sampler, sigmas=sigmas, ladder=name)


def adjusted(wish: Wish) -> Plan:
    """The same with a Metropolis test, and no last denoising."""
    name, sigmas, each, epsilon, _ = _way_down(wish)
    sampler = MALA(step_size=epsilon, steps=each, convention=wish.convention)
    return Plan(sampler=sampler, sigmas=sigmas, ladder=name)


def at_one_level(wish: Wish) -> Plan:
    """Langevin dynamics at one small level: the ablation of Song & Ermon (2019), App. C.1."""
    if wish.ladder not in (None, "own"):
        raise UserError(
            "ladder", "the langevin sampler stays at one noise level.", "Give that as its ladder."
        )
    name, sigmas = _rungs(wish)
    if name == "own":
        sigmas = own_rungs(wish.model)[-1:]
    elif sigmas is None:
        name, sigmas = "one level", torch.tensor([max(wish.model.sigma_range[0], _LEAST)])
    each = wish.steps_each or max(1, (wish.steps or 1000) // max(1, len(sigmas)))
    alpha = _papers_step(sigmas) if wish.step_size is None else wish.step_size
    sampler = Langevin(step_size=alpha, steps=each, convention=wish.convention)
    return Plan(sampler=sampler, sigmas=sigmas, ladder=name)


def own_rungs(model: ScoreModel) -> Tensor:
    """The rungs that the model was trained on.

    Raises:
        UserError: it learned every noise level.
    """
    if model.ladder is None:
        raise UserError(
            "ladder",
            "this model learned every noise level and has no rungs of its own.",
            f"Choose one of {', '.join(noise.LADDERS)}.",
        )
    return model.ladder


def _ladder(wish: Wish, count: int) -> tuple[str, Tensor]:
    """Name and rungs of a ladder of `count` rungs above 0."""
    if wish.sigmas is not None:
        if wish.steps is not None:
            raise UserError("steps", "a ladder of your own has its number of rungs already.", "Leave it out.")
        return "given", wish.sigmas
    name = wish.ladder or "karras"
    if name == "own":
        return name, noise.ended(noise.thinned(own_rungs(wish.model), count))
    low, high = wish.model.sigma_range
    return name, noise.LADDERS[name](high, low, count)


def _way_down(wish: Wish) -> tuple[str, Tensor, int, float, bool]:
    """The ladder's name, the ladder, T, ε in the wish's convention, and whether the rungs are few."""
    name, own = _rungs(wish)
    few = own is not None and _has_few(own)
    each = wish.steps_each
    if own is None:
        low, high = wish.model.sigma_range
        steps = wish.steps or 100 * (each or 5)
        each = each or (5 if steps >= 10 else 1)
        sigmas = noise.LADDERS[name](high, max(low, _LEAST), max(2, steps // each))
        sigmas = sigmas[sigmas > 0]
    elif wish.steps is None:
        sigmas, each = own, each or (100 if few else 5)
    else:
        each = each or max(1, wish.steps // max(1, len(own)))
        sigmas = noise.thinned(own, wish.steps // each)
    if wish.step_size is not None:
        return name, sigmas, each, wish.step_size, few
    if few:
        return name, sigmas, each, _papers_step(sigmas), few
    epsilon = noise.langevin_step_size(sigmas, each)
    return name, sigmas, each, epsilon if wish.convention == "paper" else epsilon / 2, few


def _rungs(wish: Wish) -> tuple[str, Tensor | None]:
    """The name of the ladder of Langevin dynamics, and its rungs if they do not depend on the steps."""
    if wish.sigmas is not None:
        return "given", wish.sigmas
    if wish.ladder == "own" or (wish.ladder is None and wish.model.ladder is not None):
        return "own", own_rungs(wish.model)
    return wish.ladder or "geometric", None


def _papers_step(sigmas: Tensor) -> float:
    """ε = 0.2 σ_L²; of no rung 0, which the sampler then refuses."""
    return _PAPERS_RATE * sigmas[-1:].sum().item() ** 2


def _has_few(sigmas: Tensor) -> bool:
    """Whether a ladder's rungs lie so far apart that what is between them counts."""
    return len(sigmas) <= _FEW
