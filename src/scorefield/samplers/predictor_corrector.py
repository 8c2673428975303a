"""Predictor–corrector sampling: a step down, then Langevin dynamics at the new noise level.

The predictor, any sampler, takes x from one noise level to the next, σ. Langevin updates with a small step ε
leave p(·; σ) unchanged and so correct its error (Song et al. 2021, App. G, Algorithms 2 and 4):

    x ← x + ε s + √(2ε) z,      s = ∇ log p(x; σ),   z ~ N(0, I).

With s = (D − x)/σ² and a = ε/σ² this is the form that the code uses,

    x ← x + a (D − x) + √(2a) σ z,      a = 2r²,

where r is the signal-to-noise ratio. On N(μ, s² I) the corrector alone leads to the variance
(s² + σ²)/(1 − b/2), b = aσ²/(s² + σ²): at most 1/(1 − r²) times the right one, in any number of dimensions.

Published is ε = 2 (r ‖z‖/‖s‖)², that is a = 2 (r ‖z‖/‖n‖)² with n = (x − D)/σ, the noise that the network
predicts. The authors' program takes both norms as means over the batch, so that an image depends on the others of
its batch. Taken of each image by itself, the step depends on the state that it moves: this is not Langevin dynamics
of p(·; σ), and on N(0, I) it doubles the variance in two dimensions. An n of unit variance has ‖n‖ = ‖z‖ in many
dimensions, which gives the constant above. The variance-preserving form (Algorithms 3 and 5) has a further factor
α_i, close to 1, in ε.

References:
    Song et al. (2021), §4.2, App. G. https://arxiv.org/abs/2011.13456
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Generator, Tensor

from scorefield.errors import UserError
from scorefield.model import Denoiser
from scorefield.samplers.ancestral import Ancestral
from scorefield.samplers.base import Project, Sampler, Step, broadcast_sigma, check_levels, randn_like

__all__ = ["PredictorCorrector"]


@dataclass(frozen=True, kw_only=True)
class PredictorCorrector:
    """Algorithms 2–5 of Song et al. (2021); at σ = 0 there is nothing to correct.

    Args:
        predictor: goes from each noise level to the next. It receives a schedule of these two only, so a multistep
            sampler has order 1, and Heun's churn is that of a single step.
        snr: r, below 1, where the step becomes unstable; the paper's 0.16 is for CIFAR-10.
        updates: M, of the corrector on each noise level.

    Raises:
        UserError: r outside of (0, 1), or M < 0.
    """

    predictor: Sampler = field(default_factory=lambda: Ancestral(variance="reverse-diffusion"))
    snr: float = 0.16
    updates: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.snr < 1:
            raise UserError("snr", f"need a signal-to-noise ratio between 0 and 1, got {self.snr:g}.")
        if self.updates < 0:
            raise UserError("updates", f"need 0 or more on each noise level, got {self.updates}.")

    def evaluations(self, sigmas: Tensor) -> int:
        """The predictor's for each step, and M for every noise level reached above 0."""
        levels: list[float] = sigmas.tolist()
        return sum(self.predictor.evaluations(_two(s, t)) + self.updates * (t > 0) for s, t in pairwise(levels))

    def iterate(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigmas: Tensor,
        *,
        generator: Generator,
        project: Project | None = None,
    ) -> Iterator[Step]:
        """Yield each step and each update; see `Sampler.iterate`."""
        a, index, evaluations = 2 * self.snr**2, 0, 0
        for s, t in pairwise(check_levels(sigmas)):
            before = evaluations
            for step in self.predictor.iterate(denoiser, x, _two(s, t), generator=generator, project=project):
                x, evaluations = step.x, before + step.evaluations
                yield replace(step, index=index, evaluations=evaluations)
                index += 1
            for _ in range(self.updates if t > 0 else 0):
                denoised = denoiser(x, broadcast_sigma(t, x))
                evaluations += 1
                x = x + a * (denoised - x) + math.sqrt(2 * a) * t * randn_like(x, generator)
                x = x if project is None else project(x, t)
                yield Step(index=index, evaluations=evaluations, sigma=t, x=x, denoised=denoised)
                index += 1


def _two(s: float, t: float) -> Tensor:
    """A schedule of two noise levels, on the CPU, so that reading it needs no synchronisation."""
    return torch.tensor([s, t], dtype=torch.float64)
