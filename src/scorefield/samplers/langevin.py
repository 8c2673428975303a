"""Langevin dynamics, at one noise level and annealed.

Langevin dynamics follows the score uphill and is shaken as it goes (Song & Ermon 2019, eq. 4),

    x ← x + (α/2) ∇ log p(x; σ) + √α z,      z ~ N(0, I),

and for small α ends in p(·; σ). Annealed, it runs T updates on each noise level of a schedule, the step in proportion
to the noise level's variance (Algorithm 1): α_i = ε σ_i²/σ_L². With the score (D − x)/σ² the update is

    x ← x + (r/2) (D(x; σ) − x) + √α z,      r = α/σ²,

which is how it stands below wherever σ > 0, so that no small σ magnifies a rounding of D; at σ = 0, where D
says nothing, the density must give its score itself.

Two conventions of the step are about. The paper's is above. The authors' programs, and Song & Ermon (2020),
write x ← x + α s + √(2α) z: there the same number is twice the step. `convention` says how a step size is
to be read, and α above is always the paper's.

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

Convention = Literal["paper", "code"]
"""How a step size α is meant: x + (α/2) s + √α z, or x + α s + √(2α) z."""

_PAPERS: dict[str, float] = {"paper": 1.0, "code": 2.0}


@dataclass(frozen=True, kw_only=True)
class Langevin:
    """T updates of one fixed step α on every noise level; with a single noise level, plain Langevin dynamics (eq. 4).

    The schedule may be the one noise level σ = 0, or end there, if the denoiser gives its score itself.

    Args:
        step_size: α, in squared units of x.
        steps: T.
        convention: of α: "paper", x + (α/2) s + √α z, or "code", x + α s + √(2α) z.
    """

    step_size: float
    steps: int = 1000
    convention: Convention = "paper"

    def evaluations(self, sigmas: Tensor) -> int:
        """T for every noise level."""
        return self.steps * len(sigmas)

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
        levels = walkable(denoiser, sigmas)
        alpha = papers_step(self.step_size, self.steps, self.convention)
        return _walk(denoiser, x, levels, [alpha] * len(levels), self.steps, generator, project)


@dataclass(frozen=True, kw_only=True)
class AnnealedLangevin:
    """Algorithm 1 of Song & Ermon (2019).

    Args:
        step_size: ε; the step on noise level i is α_i = ε σ_i²/σ_L². The paper's 2e-5 is for σ_L = 0.01.
        steps: T, updates on each noise level.
        denoise: end with x ← D(x; σ_L), which takes off the noise of the last noise level. The paper does not;
            Song & Ermon (2020) do.
        convention: of ε: "paper", x + (α/2) s + √α z, or "code", x + α s + √(2α) z.
    """

    step_size: float = 2e-5
    steps: int = 100
    denoise: bool = False
    convention: Convention = "paper"

    def evaluations(self, sigmas: Tensor) -> int:
        """T for every noise level, and one for the last denoising."""
        return self.steps * len(sigmas) + self.denoise

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
        alphas = annealed_steps(levels, papers_step(self.step_size, self.steps, self.convention))
        index = -1
        for step in _walk(denoiser, x, levels, alphas, self.steps, generator, project):
            yield step
            x, index = step.x, step.index
        if self.denoise:
            denoised = denoiser(x, broadcast_sigma(levels[-1], x))
            x = denoised if project is None else project(denoised, 0.0)
            yield Step(index=index + 1, evaluations=index + 2, sigma=0.0, x=x, denoised=denoised)


def papers_step(step_size: float, steps: int, convention: str) -> float:
    """The step as x + (α/2) s + √α z means it, once the settings are known to be possible.

    Raises:
        UserError: an unknown convention, a step that is not positive and finite, or no update.
    """
    if convention not in _PAPERS:
        raise UserError("convention", f"no such convention {convention!r}.", did_you_mean(convention, _PAPERS))
    if steps < 1 or not 0 < step_size < math.inf:
        raise UserError("sampler", "Langevin dynamics needs steps ≥ 1 and a finite step_size > 0.")
    return step_size * _PAPERS[convention]


def annealed_steps(levels: list[float], epsilon: float) -> list[float]:
    """The step of each noise level, α_i = ε σ_i²/σ_L² (Song & Ermon 2019, Algorithm 1); ε alone on a single noise level.

    Raises:
        UserError: a schedule of several noise levels that ends at σ = 0.
    """
    if len(levels) > 1 and levels[-1] == 0:
        raise UserError("sigmas", "annealing needs noise on every noise level; this schedule ends at 0.")
    return [epsilon * (sigma / levels[-1]) ** 2 if sigma > 0 else epsilon for sigma in levels]


def walkable(denoiser: Denoiser, sigmas: Tensor) -> list[float]:
    """The noise levels as numbers; unlike a schedule's in general they may be 0 alone.

    Raises:
        UserError: no schedule, or a noise level at σ = 0 where the denoiser does not give its score itself.
    """
    levels = [0.0] if sigmas.tolist() == [0.0] else check_schedule(sigmas)
    if levels[-1] == 0 and not isinstance(denoiser, PredictsScore):
        raise UserError(
            "sigmas",
            "the schedule ends at 0, where a denoiser gives no score.",
            "End it above 0, or pass a density that gives its score, such as ScoreNetwork.",
        )
    return levels


def _walk(
    denoiser: Denoiser,
    x: Tensor,
    levels: list[float],
    alphas: list[float],
    steps: int,
    generator: Generator,
    project: Project | None,
) -> Iterator[Step]:
    """The module's update, `steps` times on each noise level with that noise level's α."""
    index = 0
    for sigma, alpha in zip(levels, alphas, strict=True):
        level = broadcast_sigma(sigma, x)
        for _ in range(steps):
            if sigma > 0:
                denoised = denoiser(x, level)
                uphill = (alpha / sigma**2 / 2) * (denoised - x)
            else:
                denoised = x
                uphill = (alpha / 2) * score(denoiser, x, level)
            x = x + uphill + alpha**0.5 * randn_like(x, generator)
            if project is not None:
                x = project(x, sigma)
            yield Step(index=index, evaluations=index + 1, sigma=sigma, x=x, denoised=denoised)
            index += 1
