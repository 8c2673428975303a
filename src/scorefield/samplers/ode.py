"""Along the probability-flow ODE.

In the coordinate x = x0 + σn the ODE whose solution at every σ follows p(·; σ) is (Karras et al. 2022, eq. 1)

    dx/dσ = −σ ∇ log p(x; σ) = (x − D(x; σ))/σ.

References:
    Karras et al. (2022), Algorithms 1 and 2. https://arxiv.org/abs/2206.00364
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from torch import Generator, Tensor

from scorefield.errors import UserError
from scorefield.model import Denoiser
from scorefield.noise import check_ladder
from scorefield.samplers.step import Project, Step, fresh_noise, full


@dataclass(frozen=True, kw_only=True)
class Heun:
    """Heun's second-order rule: an Euler step, then the mean of the slopes at both its ends.

    With `churn` each step first adds noise, from σ up to σ + min(churn/steps, √2 − 1)·σ, while σ lies in
    [churn_min, churn_max] (Algorithm 2). Without, nothing is random (Algorithm 1).

    Args:
        churn: S_churn, ≥ 0.
        churn_min: S_tmin.
        churn_max: S_tmax.
        churn_noise: S_noise, the spread of the noise added.
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
        rungs = check_ladder(sigmas)
        if len(rungs) < 2:
            raise UserError("sigmas", "an ODE sampler needs a ladder of at least two rungs.")
        most = min(self.churn / (len(rungs) - 1), math.sqrt(2) - 1)
        evaluations = 0
        for index, (s, t) in enumerate(pairwise(rungs)):
            if most > 0 and self.churn_min <= s <= self.churn_max:
                up = s * (1 + most)
                x = x + (self.churn_noise * math.sqrt(up**2 - s**2)) * fresh_noise(x, generator)
            else:
                up = s
            denoised = denoiser(x, full(up, x))
            evaluations += 1
            slope = (x - denoised) / up
            ahead = x + (t - up) * slope
            if t > 0:
                denoised = denoiser(ahead, full(t, x))
                evaluations += 1
                slope = (slope + (ahead - denoised) / t) / 2
                ahead = x + (t - up) * slope
            x = ahead if project is None else project(ahead, t)
            yield Step(index=index, evaluations=evaluations, sigma=t, x=x, denoised=denoised)
