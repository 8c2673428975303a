"""Finding the way in: some updates at the first noise level, before a sampler goes down.

Samplers begin with noise of the first noise level, x = σ_1 n. Where σ_1 drowns the images, that is as good as
p(x; σ_1). The schedule of Song & Ermon (2019) begins at σ_1 = 1 for pixels in [0, 1], where a shadow of the
image is left, and a sampler without noise of its own never finds it. Here x is first led to p(x; σ_1): its
noise n = (x − D(x; σ_1))/σ_1 is renewed by a part a at a time,

    x ← D + σ_1 ((1 − a) n + √(1 − (1 − a)²) z),      z ~ N(0, I),

which is Langevin dynamics at rate a in the limit of small a, and keeps the noise at σ_1 whatever a is. On a
Gaussian of variance s² its stationary variance is (s² + σ²)(2 − a)/(2 − aq), q = σ²/(s² + σ²): nearly exact
where σ_1 is well above s, as it is on a first noise level.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Generator, Tensor

from scorefield.errors import UserError
from scorefield.model import Denoiser
from scorefield.samplers.base import Project, Sampler, Step, broadcast_sigma, randn_like
from scorefield.schedules import check_schedule


@dataclass(frozen=True, kw_only=True)
class Settled:
    """The module's update on the first noise level, and then another sampler.

    Args:
        sampler: goes down the schedule.
        updates: on the first noise level.
        part: a, the part of the noise that each renews, in (0, 1].
    """

    sampler: Sampler
    updates: int = 10
    part: float = 0.6

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
        if not 0 < self.part <= 1 or self.updates < 0:
            raise UserError("sampler", "settling needs 0 < part ≤ 1 and updates ≥ 0.")
        kept = 1 - self.part
        for index in range(self.updates):
            denoised = denoiser(x, broadcast_sigma(sigma, x))
            renewed = (1 - kept**2) ** 0.5 * sigma * randn_like(x, generator)
            x = denoised + kept * (x - denoised) + renewed
            x = x if project is None else project(x, sigma)
            yield Step(index=index, evaluations=index + 1, sigma=sigma, x=x, denoised=denoised)
        for step in self.sampler.iterate(denoiser, x, sigmas, generator=generator, project=project):
            yield replace(step, index=step.index + self.updates, evaluations=step.evaluations + self.updates)
