"""Samplers that keep part of the noise and draw the rest: DDPM, Palette, DDIM, consistent annealed sampling.

From a noise level σ to the next, τ < σ, each keeps the part k of x − D, where D = D(x; σ), and adds noise of
standard deviation s:

    x ← D + k (x − D) + s z,      z ~ N(0, I).

On the step to 0 nothing is drawn. The variance-preserving chains of the papers are these, divided by √(1 + σ²).

Ancestral sampling, the reverse Markov chain of a diffusion model, has k = (τ/σ)² and for s one of

    posterior            τ √(1 − (τ/σ)²)                    of q(x_τ | x_σ, x0): DDPM's β̃, the VE chain
    forward              √((σ² − τ²)(1 + τ²)/(1 + σ²))      of q(x_σ | x_τ): DDPM's β, Palette's 1 − α
    reverse-diffusion    √(σ² − τ²)                         of the VE SDE itself, run backwards

DDIM has s = η τ √(1 − (τ/σ)²) and k = √(τ² − s²)/σ, so the noise of the new x has std τ exactly. η = 1 is
ancestral sampling with the posterior's variance; η = 0 is Euler's rule for the probability-flow ODE.

Consistent annealed sampling corrects annealed Langevin dynamics in the same way: its update
x ← x + η (D − x) + s z leaves noise of std τ (Jolicoeur-Martineau et al. 2021, §3, Algorithm 2). Here k = 1 − η
and s² = τ² − k² σ². One η serves a geometric schedule. Serrà et al. (2021) write it as a power, which serves every
decreasing schedule:

    k = (τ/σ)^r,      s = τ √(1 − (τ/σ)^(2(r − 1))),      r ≥ 1.

As the levels grow dense this becomes, with ℓ = −ln σ,

    dx = r (D − x) dℓ + √(2(r − 1)) σ dw,

the probability-flow ODE plus r − 1 parts of Langevin dynamics. r = 1 is Euler's rule and DDIM, r = 2 is
ancestral sampling, and r = ∞ keeps no noise: x ← D + τ z.

Ancestral sampling and DDIM accept a schedule that rises at times. On a step up, τ > σ, noise is added and
nothing is denoised: x ← x + √(τ² − σ²) z. With known pixels written into every state, that is RePaint.

References:
    Ho et al. (2020), eq. 6–7, Algorithm 2 and §3.2. https://arxiv.org/abs/2006.11239
    Song, Meng & Ermon (2021), eq. 12 and 16 (DDIM). https://arxiv.org/abs/2010.02502
    Song et al. (2021), App. E and F (reverse diffusion, ancestral). https://arxiv.org/abs/2011.13456
    Saharia et al. (2022), §3 (Palette's variance). https://arxiv.org/abs/2111.05826
    Lugmayr et al. (2022), Algorithm 1 and §4.2 (RePaint). https://arxiv.org/abs/2201.09865
    Jolicoeur-Martineau et al. (2021), §3. https://arxiv.org/abs/2009.05475
    Serrà et al. (2021). https://arxiv.org/abs/2104.03725
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Generator, Tensor

from scorefield.errors import UserError, did_you_mean
from scorefield.model import Denoiser
from scorefield.samplers.base import Project, Step, broadcast_sigma, check_levels, randn_like

__all__ = ["DDIM", "Ancestral", "ConsistentAnnealed", "Variance"]

Variance = Literal["posterior", "forward", "reverse-diffusion"]
"""The variance of an ancestral step; see the module."""


def _posterior(s: float, t: float) -> float:
    return t * math.sqrt(1 - (t / s) ** 2)


def _forward(s: float, t: float) -> float:
    # the ratio first: with Palette's σ of 1e10 products of squares overflow float32
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
    """The reverse chain of a diffusion model, on decreasing schedules and on those that rise at times.

    Args:
        variance: of a step. "posterior" and "forward" are the two of Ho et al. (2020), §3.2;
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
        """One for every step down."""
        return _steps_down(sigmas)

    def iterate(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigmas: Tensor,
        *,
        generator: Generator,
        project: Project | None = None,
    ) -> Iterator[Step]:
        """Yield each step, down or up; see `Sampler.iterate`."""
        return _chain(denoiser, x, check_levels(sigmas, rises=True), self._step, generator, project)

    def _step(self, s: float, t: float) -> tuple[float, float]:
        return (t / s) ** 2, _VARIANCES[self.variance](s, t) if t > 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class DDIM:
    """Song, Meng & Ermon (2021), eq. 12 and 16, on decreasing schedules and on those that rise at times.

    Args:
        eta: η in [0, 1]. At 0 nothing is drawn and the step is Euler's; 1 is ancestral sampling.

    Raises:
        UserError: η outside of [0, 1].
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise UserError("eta", f"DDIM's η lies in [0, 1], got {self.eta:g}.")

    def evaluations(self, sigmas: Tensor) -> int:
        """One for every step down."""
        return _steps_down(sigmas)

    def iterate(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigmas: Tensor,
        *,
        generator: Generator,
        project: Project | None = None,
    ) -> Iterator[Step]:
        """Yield each step, down or up; see `Sampler.iterate`."""
        return _chain(denoiser, x, check_levels(sigmas, rises=True), self._step, generator, project)

    def _step(self, s: float, t: float) -> tuple[float, float]:
        drawn = self.eta**2 * (1 - (t / s) ** 2)  # the share of τ² that is drawn
        return (t / s) * math.sqrt(1 - drawn), t * math.sqrt(drawn)


@dataclass(frozen=True, kw_only=True)
class ConsistentAnnealed:
    """Algorithm 2 of Jolicoeur-Martineau et al. (2021); a schedule that ends in 0 ends with x ← D.

    As in the authors' program, several updates per level mean a schedule that many times as dense. A model of
    discrete noise levels receives the nearest of them at the levels between.

    Args:
        rate: r, in [1, ∞]. The authors' η = 0.18 on their 232 noise levels for CIFAR-10 is r = 5.4. (They also
            allow η up to 1 + τ/σ, where the kept noise changes its sign; no r gives η > 1.)
        steps_each: n_σ, updates for each noise level above 0, in equal ratios of σ.

    Raises:
        UserError: r < 1, or no update.
    """

    rate: float = 5.4
    steps_each: int = 1

    def __post_init__(self) -> None:
        if not self.rate >= 1:
            raise UserError("rate", f"consistent annealing needs a rate of 1 or more, got {self.rate:g}.")
        if self.steps_each < 1:
            raise UserError("steps_each", f"need at least one update for each noise level, got {self.steps_each}.")

    def evaluations(self, sigmas: Tensor) -> int:
        """`steps_each` for every step to a level above 0, one for a step to 0."""
        to_zero = int(float(sigmas[-1]) == 0)
        return self.steps_each * (len(sigmas) - 1 - to_zero) + to_zero

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
        levels = _densified(check_levels(sigmas), self.steps_each)
        return _chain(denoiser, x, levels, self._step, generator, project)

    def _step(self, s: float, t: float) -> tuple[float, float]:
        ratio = t / s
        return ratio**self.rate, t * math.sqrt(1 - ratio ** (2 * (self.rate - 1)))


def _chain(
    denoiser: Denoiser,
    x: Tensor,
    levels: list[float],
    step: Callable[[float, float], tuple[float, float]],
    generator: Generator,
    project: Project | None,
) -> Iterator[Step]:
    """The module's update between neighbouring noise levels.

    A step up yields the D of the step before, or x itself if there is none.

    Args:
        denoiser: gives E[x0 | x].
        x: the initial state.
        levels: the noise levels.
        step: maps σ and τ < σ to k, the part of x − D that is kept, and s, the std of the noise drawn.
        generator: source of the noise.
        project: applied after every step.
    """
    evaluations, denoised = 0, x
    for index, (s, t) in enumerate(pairwise(levels)):
        if t > s:
            x = x + math.sqrt(t**2 - s**2) * randn_like(x, generator)
        else:
            kept, std = step(s, t)
            denoised = denoiser(x, broadcast_sigma(s, x))
            evaluations += 1
            x = denoised + kept * (x - denoised)
            if std > 0:
                x = x + std * randn_like(x, generator)
        if project is not None:
            x = project(x, t)
        yield Step(index=index, evaluations=evaluations, sigma=t, x=x, denoised=denoised)


def _steps_down(sigmas: Tensor) -> int:
    """How many noise levels lie below the one before."""
    levels: list[float] = sigmas.tolist()
    return sum(t < s for s, t in pairwise(levels))


def _densified(levels: list[float], parts: int) -> list[float]:
    """The schedule with each gap above 0 divided into `parts` equal ratios."""
    dense = levels[:1]
    for s, t in pairwise(levels):
        if t > 0:
            dense += [s * (t / s) ** (k / parts) for k in range(1, parts)]
        dense.append(t)
    return dense
