"""Langevin dynamics, at one noise level and annealed.

Langevin dynamics follows the score and adds noise (Song & Ermon 2019, eq. 4),

    x ← x + (α/2) ∇ log p(x; σ) + √α z,      z ~ N(0, I),

and for small α its stationary distribution is p(·; σ). Annealed, it runs T updates on each noise level, with
a step in proportion to the level's variance (Algorithm 1): α_i = ε σ_i²/σ_L². With the score (D − x)/σ² the
update is

    x ← x + (r/2) (D(x; σ) − x) + √α z,      r = α/σ²,

The code uses this form for σ > 0, so that a small σ does not magnify the rounding of D. At σ = 0, D = x carries
no information, and the density must give its score directly.

There are two conventions for the step size. The paper's is above. The authors' programs, and Song & Ermon
(2020), write x ← x + α s + √(2α) z, where the same number is twice the step. `convention` says which one a
step size follows; α above is always the paper's.

References:
    Song & Ermon (2019). https://arxiv.org/abs/1907.05600
    Song & Ermon (2020), Algorithm 1. https://arxiv.org/abs/2006.09011
    Jolicoeur-Martineau et al. (2021), §3.1 (last denoising step). https://arxiv.org/abs/2009.05475
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Generator, Tensor

from scorefield.errors import UserError, did_you_mean
from scorefield.model import Denoiser, PredictsScore, score
from scorefield.samplers.base import Project, Step, broadcast_sigma, randn_like
from scorefield.schedules import check_schedule

__all__ = ["AnnealedLangevin", "Convention", "Langevin"]

Convention = Literal["paper", "code"]
"""What a step size α means: x + (α/2) s + √α z, or x + α s + √(2α) z."""

_FACTORS: dict[str, float] = {"paper": 1.0, "code": 2.0}


@dataclass(frozen=True, kw_only=True)
class Langevin:
    """T updates of one fixed step α on every noise level; on a single level, plain Langevin dynamics (eq. 4).

    The schedule may be the single level σ = 0, or end there, if the denoiser gives its score directly.

    Args:
        step_size: α, in squared units of x.
        steps_each: T.
        convention: of the step size: "paper", x + (α/2) s + √α z, or "code", x + α s + √(2α) z.
    """

    step_size: float
    steps_each: int = 1000
    convention: Convention = "paper"

    def evaluations(self, sigmas: Tensor) -> int:
        """T for every noise level."""
        return self.steps_each * len(sigmas)

    def iterate(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigmas: Tensor,
        *,
        generator: Generator,
        project: Project | None = None,
    ) -> Iterator[Step]:
        """Yield each update; see `Sampler.iterate`."""
        levels = langevin_levels(denoiser, sigmas)
        alpha = paper_step(self.step_size, self.steps_each, self.convention)
        return _chain(denoiser, x, levels, [alpha] * len(levels), self.steps_each, generator, project)


@dataclass(frozen=True, kw_only=True)
class AnnealedLangevin:
    """Algorithm 1 of Song & Ermon (2019).

    Args:
        step_size: ε; the step on noise level i is α_i = ε σ_i²/σ_L². The paper's 2e-5 is for σ_L = 0.01.
        steps_each: T, updates on each noise level.
        denoise: end with x ← D(x; σ_L), which removes the noise of the last level. The paper does not; Song & Ermon
            (2020) do.
        convention: of the step size: "paper", x + (α/2) s + √α z, or "code", x + α s + √(2α) z.
    """

    step_size: float = 2e-5
    steps_each: int = 100
    denoise: bool = False
    convention: Convention = "paper"

    def evaluations(self, sigmas: Tensor) -> int:
        """T for every noise level, and one for the last denoising."""
        return self.steps_each * len(sigmas) + self.denoise

    def iterate(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigmas: Tensor,
        *,
        generator: Generator,
        project: Project | None = None,
    ) -> Iterator[Step]:
        """Yield each update; see `Sampler.iterate`."""
        levels = check_schedule(sigmas)
        alphas = annealed_steps(levels, paper_step(self.step_size, self.steps_each, self.convention))
        index = -1
        for step in _chain(denoiser, x, levels, alphas, self.steps_each, generator, project):
            yield step
            x, index = step.x, step.index
        if self.denoise:
            denoised = denoiser(x, broadcast_sigma(levels[-1], x))
            x = denoised if project is None else project(denoised, 0.0)
            yield Step(index=index + 1, evaluations=index + 2, sigma=0.0, x=x, denoised=denoised)


def paper_step(step_size: float, steps_each: int, convention: str) -> float:
    """The step size in the paper's convention, x + (α/2) s + √α z, after checking the settings.

    Raises:
        UserError: an unknown convention, a step that is not positive and finite, or no update.
    """
    if convention not in _FACTORS:
        raise UserError("convention", f"no such convention {convention!r}.", did_you_mean(convention, _FACTORS))
    if steps_each < 1 or not 0 < step_size < math.inf:
        raise UserError("sampler", "Langevin dynamics needs steps_each ≥ 1 and a finite step_size > 0.")
    return step_size * _FACTORS[convention]


def annealed_steps(levels: list[float], epsilon: float) -> list[float]:
    """α_i = ε σ_i²/σ_L² of each noise level (Song & Ermon 2019, Algorithm 1); ε itself on a single level.

    Raises:
        UserError: a schedule of several noise levels that ends at σ = 0.
    """
    if len(levels) > 1 and levels[-1] == 0:
        raise UserError("sigmas", "annealing needs noise on every noise level; this schedule ends at 0.")
    return [epsilon * (sigma / levels[-1]) ** 2 if sigma > 0 else epsilon for sigma in levels]


def langevin_levels(denoiser: Denoiser, sigmas: Tensor) -> list[float]:
    """The noise levels as numbers; for Langevin dynamics the single level 0 is allowed too.

    Raises:
        UserError: not a schedule, or σ = 0 with a denoiser that does not give its score directly.
    """
    levels = [0.0] if sigmas.tolist() == [0.0] else check_schedule(sigmas)
    if levels[-1] == 0 and not isinstance(denoiser, PredictsScore):
        raise UserError(
            "sigmas",
            "at σ = 0 a denoiser gives no score.",
            "End the schedule above 0, or pass a density that gives its score, such as ScoreNetwork.",
        )
    return levels


def _chain(
    denoiser: Denoiser,
    x: Tensor,
    levels: list[float],
    alphas: list[float],
    steps_each: int,
    generator: Generator,
    project: Project | None,
) -> Iterator[Step]:
    """The module's update, `steps_each` times on each noise level with its α."""
    index = 0
    for sigma, alpha in zip(levels, alphas, strict=True):
        level = broadcast_sigma(sigma, x)
        for _ in range(steps_each):
            if sigma > 0:
                denoised = denoiser(x, level)
                drift = (alpha / sigma**2 / 2) * (denoised - x)
            else:
                denoised = x
                drift = (alpha / 2) * score(denoiser, x, level)
            x = x + drift + alpha**0.5 * randn_like(x, generator)
            if project is not None:
                x = project(x, sigma)
            yield Step(index=index, evaluations=index + 1, sigma=sigma, x=x, denoised=denoised)
            index += 1
