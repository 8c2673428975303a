"""Langevin dynamics that is exact at any step, for densities known up to a constant.

A Langevin update of finite step ends in a distribution near p(·; σ), not in it. Taken as a mere proposal

    y = x + (α/2) s(x) + √α z,      s = ∇ log p(·; σ),   z ~ N(0, I),

and accepted with probability min(1, p(y) q(x|y) / (p(x) q(y|x))), where q(y|x) = N(y; x + (α/2) s(x), α I),
it leaves p(·; σ) as it is (Metropolis et al.; Roberts & Tweedie 1996, §1.4). What the normal densities
contribute, written so that nothing is divided by α, is with d = y − x

    log q(x|y) − log q(y|x) = −½ ⟨d, s(x) + s(y)⟩ − (α/8) (‖s(y)‖² − ‖s(x)‖²).

On a schedule the step falls with the noise level's variance as in annealed Langevin dynamics, α_i = ε σ_i²/σ_L².

References:
    Roberts & Tweedie (1996), on Langevin distributions and their discrete approximations.
    https://doi.org/10.2307/3318418
    Roberts & Rosenthal (1998) (an acceptance of 0.57 mixes best). https://doi.org/10.1111/1467-9868.00123
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from scorefield.errors import UserError
from scorefield.model import Denoiser, HasLogDensity, expand, score
from scorefield.samplers.base import Project, Step, broadcast_sigma, randn_like
from scorefield.samplers.langevin import Convention, annealed_steps, papers_step, walkable


@dataclass(frozen=True, kw_only=True)
class MALA:
    """Metropolis-adjusted Langevin: T updates on each noise level, of which a test takes each or leaves it.

    Where `Step.accepted` is mostly false the step is too large; near 0.57 it mixes best. An accepted
    state's score and density serve again, so that an update costs one evaluation of each.

    With a `project` that lays known values over x, as a mask's does, both proposal and drift keep to the
    rest, and the distribution is that of x given what is known. It must be affine, and change nothing the second time.

    Args:
        step_size: ε; the step on noise level i is α_i = ε σ_i²/σ_L². On a single noise level, which may be σ = 0 for a
            density that gives its score itself, α = ε.
        steps: T.
        convention: of ε: "paper", x + (α/2) s + √α z, or "code", x + α s + √(2α) z.
    """

    step_size: float
    steps: int = 100
    convention: Convention = "paper"

    def evaluations(self, sigmas: Tensor) -> int:
        """One for every update, and one for every noise level's first state."""
        return (self.steps + 1) * len(sigmas)

    def iterate(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigmas: Tensor,
        *,
        generator: Generator,
        project: Project | None = None,
    ) -> Iterator[Step]:
        """Yield each update, with `accepted`; see `Sampler.iterate`.

        Raises:
            UserError: the denoiser has no `log_density(x, sigma)`.
        """
        if not isinstance(denoiser, HasLogDensity):
            raise UserError(
                "sampler",
                "the Metropolis test needs a density, and this denoiser gives none.",
                "Use an energy network, or Langevin dynamics without the test.",
            )
        levels = walkable(denoiser, sigmas)
        alphas = annealed_steps(levels, papers_step(self.step_size, self.steps, self.convention))
        index = 0
        for number, (sigma, alpha) in enumerate(zip(levels, alphas, strict=True), 1):
            state = _look(denoiser, x if project is None else project(x, sigma), sigma, project)
            for _ in range(self.steps):
                y = state.x + (alpha / 2) * state.slope + alpha**0.5 * randn_like(x, generator)
                proposed = _look(denoiser, y if project is None else project(y, sigma), sigma, project)
                chance = torch.rand(len(x), generator=generator, device=x.device, dtype=x.dtype)
                accepted = chance.log() < _log_ratio(state, proposed, alpha)  # NaN is left
                denoised, state = state.denoised, _either(accepted, proposed, state)
                x = state.x
                yield Step(
                    index=index,
                    evaluations=index + 1 + number,
                    sigma=sigma,
                    x=x,
                    denoised=denoised,
                    accepted=accepted,
                )
                index += 1


class _Density(Denoiser, HasLogDensity, Protocol):
    """A denoiser that tells its density too."""


@dataclass(frozen=True, kw_only=True)
class _State:
    """A point with what is known of the density there: its score, as far as x may move, and log p."""

    x: Tensor
    slope: Tensor
    density: Tensor
    denoised: Tensor


def _look(distribution: _Density, x: Tensor, sigma: float, project: Project | None) -> _State:
    level = broadcast_sigma(sigma, x)
    slope = score(distribution, x, level)
    denoised = x + sigma**2 * slope
    if project is not None:
        slope = project(x + slope, sigma) - x
    return _State(x=x, slope=slope, density=distribution.log_density(x, level), denoised=denoised)


def _log_ratio(x: _State, y: _State, alpha: float) -> Tensor:
    """The log of p(y) q(x|y) / (p(x) q(y|x)), (B,)."""
    moved = -((y.x - x.x) * (x.slope + y.slope)).flatten(1).sum(1) / 2
    steeper = (y.slope.square() - x.slope.square()).flatten(1).sum(1)
    return y.density - x.density + moved - (alpha / 8) * steeper


def _either(accepted: Tensor, yes: _State, no: _State) -> _State:
    """For each image the one state or the other."""
    images = expand(accepted, yes.x)
    return _State(
        x=torch.where(images, yes.x, no.x),
        slope=torch.where(images, yes.slope, no.slope),
        density=torch.where(accepted, yes.density, no.density),
        denoised=torch.where(images, yes.denoised, no.denoised),
    )
