"""Langevin dynamics, at one noise level and annealed.

Langevin dynamics follows the score uphill and is shaken as it goes (Song & Ermon 2019, eq. 4),

    x ← x + (α/2) ∇ log p(x; σ) + √α z,      z ~ N(0, I),

and for small α ends in p(·; σ). Annealed, it runs T updates on each rung of a ladder, the step in proportion
to the rung's variance (Algorithm 1): α_i = ε σ_i²/σ_L². With the score (D − x)/σ² that update is

    x ← x + (r/2) (D(x; σ_i) − x) + √r σ_i z,      r = ε/σ_L²,

which is how it stands below: no σ² is ever divided by.

References:
    Song & Ermon (2019). https://arxiv.org/abs/1907.05600
    Jolicoeur-Martineau et al. (2021), §3.1 (last denoising step). https://arxiv.org/abs/2009.05475
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Generator, Tensor

from scorefield.errors import UserError
from scorefield.model import Denoiser
from scorefield.noise import check_ladder
from scorefield.samplers.step import Project, Step, fresh_noise, full


@dataclass(frozen=True, kw_only=True)
class Langevin:
    """T updates of one fixed step α on every rung; with a single rung, plain Langevin dynamics (eq. 4).

    Args:
        step_size: α of the update x + (α/2) s + √α z.
        steps: T.
    """

    step_size: float
    steps: int = 1000

    def evaluations(self, sigmas: Tensor) -> int:
        """T for every rung."""
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
        rungs = check_ladder(sigmas)
        rates = [self.step_size / max(sigma, 1e-30) ** 2 for sigma in rungs]
        return _walk(denoiser, x, rungs, rates, self.steps, generator, project)


@dataclass(frozen=True, kw_only=True)
class AnnealedLangevin:
    """Algorithm 1 of Song & Ermon (2019).

    Args:
        step_size: ε; the step on rung i is α_i = ε σ_i²/σ_L², in x + (α/2) s + √α z.
        steps: T, updates on each rung.
        denoise: end with x ← D(x; σ_L), which takes off the noise of the last rung. The paper does not.
    """

    step_size: float = 2e-5
    steps: int = 100
    denoise: bool = False

    def evaluations(self, sigmas: Tensor) -> int:
        """T for every rung, and one for the last denoising."""
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
        rungs = check_ladder(sigmas)
        rate = self.step_size / max(rungs[-1], 1e-30) ** 2
        index = -1
        for step in _walk(denoiser, x, rungs, [rate] * len(rungs), self.steps, generator, project):
            yield step
            x, index = step.x, step.index
        if self.denoise:
            denoised = denoiser(x, full(rungs[-1], x))
            x = denoised if project is None else project(denoised, 0.0)
            yield Step(index=index + 1, evaluations=index + 2, sigma=0.0, x=x, denoised=denoised)


def _walk(
    denoiser: Denoiser,
    x: Tensor,
    rungs: list[float],
    rates: list[float],
    steps: int,
    generator: Generator,
    project: Project | None,
) -> Iterator[Step]:
    """X ← x + (r/2)(D − x) + √r σ z, `steps` times on each rung, r that rung's rate α/σ²."""
    if rungs[-1] == 0:
        raise UserError("sigmas", "Langevin dynamics needs noise on every rung; this ladder ends at 0.")
    if steps < 1 or min(rates) <= 0:
        raise UserError("sampler", "Langevin dynamics needs steps ≥ 1 and step_size > 0.")
    index = 0
    for sigma, rate in zip(rungs, rates, strict=True):
        level = full(sigma, x)
        for _ in range(steps):
            denoised = denoiser(x, level)
            x = x + (rate / 2) * (denoised - x) + (rate**0.5 * sigma) * fresh_noise(x, generator)
            if project is not None:
                x = project(x, sigma)
            yield Step(index=index, evaluations=index + 1, sigma=sigma, x=x, denoised=denoised)
            index += 1
