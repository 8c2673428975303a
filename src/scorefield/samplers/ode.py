"""Euler's and Heun's rules for the probability-flow ODE.

In the coordinate x = x0 + σn the solution of this ODE is distributed as p(·; σ) at every σ (Karras et al. 2022,
eq. 1):

    dx/dσ = −σ ∇ log p(x; σ) = (x − D(x; σ))/σ.

Both samplers may churn (Algorithm 2, lines 4–6): while σ lies in [churn_min, churn_max], a step first adds
noise, which raises x from σ to σ̂:

    σ̂ = σ + min(churn/steps, √2 − 1) σ,      x ← x + churn_noise √(σ̂² − σ²) z,      z ~ N(0, I).

References:
    Karras et al. (2022), Algorithms 1 and 2. https://arxiv.org/abs/2206.00364
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from torch import Generator, Tensor

from scorefield.model import Denoiser
from scorefield.samplers.base import Project, Step, broadcast_sigma, check_levels, randn_like

__all__ = ["Euler", "Heun"]


@dataclass(frozen=True, kw_only=True)
class Euler:
    """Euler's first-order rule, x ← x + (τ − σ̂)(x − D)/σ̂: Algorithm 2 without its lines 8–10.

    Without churn it is DDIM (Song et al. 2021, https://arxiv.org/abs/2010.02502, eq. 13).

    Args:
        churn: S_churn, ≥ 0; at 0 the sampler is deterministic.
        churn_min: S_tmin.
        churn_max: S_tmax.
        churn_noise: S_noise, the std of the noise added.
    """

    churn: float = 0.0
    churn_min: float = 0.0
    churn_max: float = math.inf
    churn_noise: float = 1.0

    def evaluations(self, sigmas: Tensor) -> int:
        """One for every step."""
        return len(sigmas) - 1

    def iterate(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigmas: Tensor,
        *,
        generator: Generator,
        project: Project | None = None,
    ) -> Iterator[Step]:
        """Yield each step; see `Sampler.iterate`."""
        levels = check_levels(sigmas)
        for index, (s, t) in enumerate(pairwise(levels)):
            up, x = _churned(self, len(levels) - 1, s, x, generator)
            denoised = denoiser(x, broadcast_sigma(up, x))
            ahead = x + (t - up) * ((x - denoised) / up)
            x = ahead if project is None else project(ahead, t)
            yield Step(index=index, evaluations=index + 1, sigma=t, x=x, denoised=denoised)


@dataclass(frozen=True, kw_only=True)
class Heun:
    """Heun's second-order rule: an Euler step, then the mean of the slopes at both its ends.

    Algorithm 2; without churn it is deterministic, Algorithm 1.

    Args:
        churn: S_churn, ≥ 0.
        churn_min: S_tmin.
        churn_max: S_tmax.
        churn_noise: S_noise, the std of the noise added.
    """

    churn: float = 0.0
    churn_min: float = 0.0
    churn_max: float = math.inf
    churn_noise: float = 1.0

    def evaluations(self, sigmas: Tensor) -> int:
        """Two for every step, one for a step to 0."""
        return 2 * (len(sigmas) - 1) - int(float(sigmas[-1]) == 0)

    def iterate(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigmas: Tensor,
        *,
        generator: Generator,
        project: Project | None = None,
    ) -> Iterator[Step]:
        """Yield each step; see `Sampler.iterate`."""
        levels = check_levels(sigmas)
        evaluations = 0
        for index, (s, t) in enumerate(pairwise(levels)):
            up, x = _churned(self, len(levels) - 1, s, x, generator)
            denoised = denoiser(x, broadcast_sigma(up, x))
            evaluations += 1
            slope = (x - denoised) / up
            ahead = x + (t - up) * slope
            if t > 0:
                denoised = denoiser(ahead, broadcast_sigma(t, x))
                evaluations += 1
                slope = (slope + (ahead - denoised) / t) / 2
                ahead = x + (t - up) * slope
            x = ahead if project is None else project(ahead, t)
            yield Step(index=index, evaluations=evaluations, sigma=t, x=x, denoised=denoised)


def _churned(settings: Euler | Heun, steps: int, s: float, x: Tensor, generator: Generator) -> tuple[float, Tensor]:
    """σ̂, and x with noise added up to σ̂."""
    most = min(settings.churn / steps, math.sqrt(2) - 1)
    if not (most > 0 and settings.churn_min <= s <= settings.churn_max):
        return s, x
    up = s * (1 + most)
    return up, x + (settings.churn_noise * math.sqrt(up**2 - s**2)) * randn_like(x, generator)
