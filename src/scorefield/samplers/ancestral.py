"""Ancestral sampling: the reverse Markov chains of DDPM, Palette and score SDEs, and DDIM.

Between a noise level σ and the next, τ < σ, all of these keep a part k of what lies between x and D = D(x; σ), and
draw the rest of the noise afresh,

    x ← D + k (x − D) + s z,      z ~ N(0, I).

Ancestral sampling has k = (τ/σ)², and for s one of

    posterior            τ √(1 − (τ/σ)²)                    of q(x_τ | x_σ, x0): DDPM's β̃, the VE chain
    forward              √((σ² − τ²)(1 + τ²)/(1 + σ²))      of q(x_σ | x_τ): DDPM's β, Palette's 1 − α
    reverse-diffusion    √(σ² − τ²)                         of the VE SDE itself, run backwards

DDIM has s = η τ √(1 − (τ/σ)²) and k = √(τ² − s²)/σ, so that the noise of x is τ exactly: η = 1 is ancestral
sampling with the posterior's variance, η = 0 Euler's rule along the probability-flow ODE. On the step to 0
nothing is drawn. The variance-preserving chains of the papers are these, divided by √(1 + σ²).

A schedule may climb: on a noise level up, τ > σ, noise is added and nothing is denoised, x ← x + √(τ² − σ²) z. With
known pixels laid over every state, that is RePaint.

References:
    Ho et al. (2020), eq. 6–7, Algorithm 2 and §3.2. https://arxiv.org/abs/2006.11239
    Song, Meng & Ermon (2021), eq. 12 and 16 (DDIM). https://arxiv.org/abs/2010.02502
    Song et al. (2021), App. E and F (reverse diffusion, ancestral). https://arxiv.org/abs/2011.13456
    Saharia et al. (2022), §3 (Palette's variance). https://arxiv.org/abs/2111.05826
    Lugmayr et al. (2022), Algorithm 1 and §4.2 (RePaint). https://arxiv.org/abs/2201.09865
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Generator, Tensor

from scorefield.errors import UserError, did_you_mean
from scorefield.model import Denoiser
from scorefield.samplers.base import Project, Step, broadcast_sigma, randn_like
from scorefield.schedules import check_schedule

Variance = Literal["posterior", "forward", "reverse-diffusion"]
"""Which variance an ancestral step has, see the module."""


def _posterior(s: float, t: float) -> float:
    return t * math.sqrt(1 - (t / s) ** 2)


def _forward(s: float, t: float) -> float:
    # the ratio first: Palette's σ of 1e10 leaves no room for products of squares
    return s * math.sqrt((1 - (t / s) ** 2) * ((1 + t**2) / (1 + s**2)))


def _reverse_diffusion(s: float, t: float) -> float:
    return s * math.sqrt(1 - (t / s) ** 2)


_VARIANCES: dict[str, Callable[[float, float], float]] = {
    "posterior": _posterior,
    "forward": _forward,
    "reverse-diffusion": _reverse_diffusion,
}


@dataclass(frozen=True, kw_only=True)
class Ancestral:
    """The reverse chain of a diffusion model, on falling schedules and on those that climb now and then.

    Args:
        variance: of a step; "posterior" and "forward" are the two of Ho et al. (2020), §3.2,
            "reverse-diffusion" is that of Song et al. (2021), App. E.

    Raises:
        UserError: no such variance.
    """

    variance: Variance = "posterior"

    def __post_init__(self) -> None:
        if self.variance not in _VARIANCES:
            mend = did_you_mean(self.variance, _VARIANCES)
            raise UserError("variance", f"no such variance {self.variance!r}.", mend)

    def evaluations(self, sigmas: Tensor) -> int:
        """One for every noise level down."""
        return falls(sigmas)

    def iterate(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigmas: Tensor,
        *,
        generator: Generator,
        project: Project | None = None,
    ) -> Iterator[Step]:
        """Yield each step, of noise levels up too; see `Sampler.iterate`."""
        return walk(denoiser, x, at_least_two(check_schedule(sigmas, climbs=True)), self._move, generator, project)

    def _move(self, s: float, t: float) -> tuple[float, float]:
        return (t / s) ** 2, _VARIANCES[self.variance](s, t) if t > 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class DDIM:
    """Song, Meng & Ermon (2021), eq. 12 and 16, on falling schedules and on those that climb now and then.

    Args:
        eta: η, from 0, where nothing is drawn and the step is Euler's, to 1, ancestral sampling.

    Raises:
        UserError: η outside of [0, 1].
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise UserError("eta", f"DDIM's η lies in [0, 1], got {self.eta:g}.")

    def evaluations(self, sigmas: Tensor) -> int:
        """One for every noise level down."""
        return falls(sigmas)

    def iterate(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigmas: Tensor,
        *,
        generator: Generator,
        project: Project | None = None,
    ) -> Iterator[Step]:
        """Yield each step, of noise levels up too; see `Sampler.iterate`."""
        return walk(denoiser, x, at_least_two(check_schedule(sigmas, climbs=True)), self._move, generator, project)

    def _move(self, s: float, t: float) -> tuple[float, float]:
        drawn = self.eta**2 * (1 - (t / s) ** 2)  # the part of τ² that is drawn
        return (t / s) * math.sqrt(1 - drawn), t * math.sqrt(drawn)


Move = Callable[[float, float], tuple[float, float]]
"""From σ and τ < σ to k, what a step keeps of x − D, and s, the spread of what it draws."""


def walk(
    denoiser: Denoiser,
    x: Tensor,
    levels: list[float],
    move: Move,
    generator: Generator,
    project: Project | None,
) -> Iterator[Step]:
    """The module's update between each noise level and the next; a noise level up shows the last D again, or x itself."""
    evaluations, denoised = 0, x
    for index, (s, t) in enumerate(pairwise(levels)):
        if t > s:
            x = x + math.sqrt(t**2 - s**2) * randn_like(x, generator)
        else:
            kept, spread = move(s, t)
            denoised = denoiser(x, broadcast_sigma(s, x))
            evaluations += 1
            x = denoised + kept * (x - denoised)
            if spread > 0:
                x = x + spread * randn_like(x, generator)
        if project is not None:
            x = project(x, t)
        yield Step(index=index, evaluations=evaluations, sigma=t, x=x, denoised=denoised)


def falls(sigmas: Tensor) -> int:
    """How many noise levels of a schedule lie lower than the one before."""
    levels: list[float] = sigmas.tolist()
    return sum(t < s for s, t in pairwise(levels))


def at_least_two(levels: list[float]) -> list[float]:
    """The noise levels themselves.

    Raises:
        UserError: there is but one, and so no step.
    """
    if len(levels) < 2:
        raise UserError(
            "sigmas", "this sampler goes from noise level to noise level: it needs a schedule of at least two."
        )
    return levels
