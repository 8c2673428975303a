"""Predictor–corrector sampling: a step down, then Langevin dynamics at the new noise level.

The predictor, any sampler, takes x from one noise level to the next, σ. Langevin updates then correct its
error; but for their finite step they leave p(·; σ) unchanged (Song et al. 2021, App. G, Algorithms 2 and 4):

    x ← x + ε s + √(2ε) z,      ε = 2 (r ‖z‖/‖s‖)²,      s = ∇ log p(x; σ),   z ~ N(0, I).

r is the signal-to-noise ratio. With s = (D − x)/σ² and n = (x − D)/σ this is, for a = ε/σ²,

    x ← x + a (D − x) + √(2a) σ z,      a = 2 (r ‖z‖/‖n‖)²,

the form that the code uses. The variance-preserving form (Algorithms 3 and 5) has a further factor α_i, close
to 1, in ε. On a Gaussian in many dimensions the corrector gives 1 + r² times the variance of p(·; σ).

‖z‖ and ‖s‖ are norms of each image. The authors' program takes their means over the batch, so that an image
depends on its neighbours. In few dimensions ‖n‖ may be close to 0; a is therefore limited to 1. The step
still depends on x there, and the distribution becomes too wide: the corrector is for images, not for points
in few dimensions.

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
from scorefield.model import Denoiser, expand
from scorefield.samplers.ancestral import Ancestral
from scorefield.samplers.base import Project, Sampler, Step, broadcast_sigma, check_levels, randn_like

__all__ = ["PredictorCorrector"]


@dataclass(frozen=True, kw_only=True)
class PredictorCorrector:
    """Algorithms 2–5 of Song et al. (2021); at σ = 0 there is nothing to correct.

    Args:
        predictor: goes from each noise level to the next. It receives a schedule of these two only, so a multistep
            sampler has order 1, and Heun's churn is that of a single step.
        snr: r; the paper's 0.16 is for CIFAR-10.
        updates: M, of the corrector on each noise level.

    Raises:
        UserError: r is not positive and finite, or M < 0.
    """

    predictor: Sampler = field(default_factory=lambda: Ancestral(variance="reverse-diffusion"))
    snr: float = 0.16
    updates: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.snr < math.inf:
            raise UserError("snr", f"the signal-to-noise ratio must be positive and finite, got {self.snr:g}.")
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
        index = evaluations = 0
        for s, t in pairwise(check_levels(sigmas)):
            before = evaluations
            for step in self.predictor.iterate(denoiser, x, _two(s, t), generator=generator, project=project):
                x, evaluations = step.x, before + step.evaluations
                yield replace(step, index=index, evaluations=evaluations)
                index += 1
            for _ in range(self.updates if t > 0 else 0):
                denoised = denoiser(x, broadcast_sigma(t, x))
                evaluations += 1
                x = self._correct(x, denoised, t, randn_like(x, generator))
                x = x if project is None else project(x, t)
                yield Step(index=index, evaluations=evaluations, sigma=t, x=x, denoised=denoised)
                index += 1

    def _correct(self, x: Tensor, denoised: Tensor, sigma: float, z: Tensor) -> Tensor:
        """The module's update."""
        predicted = _norm(x - denoised) / sigma
        a = expand((2 * (self.snr * _norm(z) / predicted) ** 2).clamp(max=1), x)
        return x + a * (denoised - x) + (2 * a).sqrt() * (sigma * z)


def _norm(x: Tensor) -> Tensor:
    """The norm of each image, (B,)."""
    return x.flatten(1).norm(dim=1)


def _two(s: float, t: float) -> Tensor:
    """A schedule of two noise levels, on the CPU, so that reading it needs no synchronisation."""
    return torch.tensor([s, t], dtype=torch.float64)
