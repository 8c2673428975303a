"""Burn-in: Langevin-like updates at σ_max before the sampler starts.

Samplers start from noise of the first level, x = σ_1 n. That is as good as a draw from p(x; σ_1) if σ_1
drowns the images. The schedule of Song & Ermon (2019) starts at σ_1 = 1 for pixels in [0, 1], where the
images still show through, and a deterministic sampler cannot recover from that start. The burn-in first leads
x to p(x; σ_1). Each update renews a part a of its noise n = (x − D(x; σ_1))/σ_1:

    x ← D + σ_1 ((1 − a) n + √(1 − (1 − a)²) z),      z ~ N(0, I).

For small a this is Langevin dynamics at rate a; for every a it keeps the std of the noise at σ_1. On a
Gaussian of variance s² its stationary variance is (s² + σ²)(2 − a)/(2 − aq), q = σ²/(s² + σ²), which is
nearly exact if σ_1 is well above s, as on a first noise level.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Generator, Tensor

from scorefield.errors import UserError
from scorefield.model import Denoiser
from scorefield.samplers.base import Project, Sampler, Step, broadcast_sigma, randn_like
from scorefield.schedules import check_schedule

__all__ = ["BurnIn"]


@dataclass(frozen=True, kw_only=True)
class BurnIn:
    """The module's update at the first noise level, then another sampler.

    Args:
        sampler: follows the schedule afterwards.
        updates: how many, at the first noise level.
        renewal: a, the part of the noise that each update renews, in (0, 1].

    Raises:
        UserError: a renewal outside of (0, 1], or updates < 0.
    """

    sampler: Sampler
    updates: int = 10
    renewal: float = 0.6

    def __post_init__(self) -> None:
        if not 0 < self.renewal <= 1 or self.updates < 0:
            raise UserError("sampler", "a burn-in needs 0 < renewal ≤ 1 and updates ≥ 0.")

    def evaluations(self, sigmas: Tensor) -> int:
        """The sampler's, and one for each update."""
        return self.updates + self.sampler.evaluations(sigmas)

    def iterate(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigmas: Tensor,
        *,
        generator: Generator,
        project: Project | None = None,
    ) -> Iterator[Step]:
        """Yield each update and each step; see `Sampler.iterate`."""
        sigma = check_schedule(sigmas)[0]
        kept = 1 - self.renewal
        for index in range(self.updates):
            denoised = denoiser(x, broadcast_sigma(sigma, x))
            renewed = (1 - kept**2) ** 0.5 * sigma * randn_like(x, generator)
            x = denoised + kept * (x - denoised) + renewed
            x = x if project is None else project(x, sigma)
            yield Step(index=index, evaluations=index + 1, sigma=sigma, x=x, denoised=denoised)
        for step in self.sampler.iterate(denoiser, x, sigmas, generator=generator, project=project):
            yield replace(step, index=step.index + self.updates, evaluations=step.evaluations + self.updates)
