"""Metropolis-adjusted Langevin (MALA): exact at any step size, for densities known up to a constant.

With a finite step, Langevin dynamics has a stationary distribution near p(·; σ), but not equal to it. Taken
as a proposal

    y = x + (α/2) s(x) + √α z,      s = ∇ log p(·; σ),   z ~ N(0, I),

and accepted with probability min(1, p(y) q(x|y) / (p(x) q(y|x))), where q(y|x) = N(y; x + (α/2) s(x), α I),
an update leaves p(·; σ) unchanged (Metropolis et al.; Roberts & Tweedie 1996, §1.4). With d = y − x, and
written without a division by α, the two normal densities contribute

    log q(x|y) − log q(y|x) = −½ ⟨d, s(x) + s(y)⟩ − (α/8) (‖s(y)‖² − ‖s(x)‖²).

On a schedule the step is in proportion to the level's variance, as in annealed Langevin dynamics:
α_i = ε σ_i²/σ_L².

References:
    Roberts & Tweedie (1996), exponential convergence of Langevin distributions.
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
from scorefield.samplers.langevin import Convention, annealed_steps, langevin_levels, paper_step

__all__ = ["MALA"]


@dataclass(frozen=True, kw_only=True)
class MALA:
    """T Langevin updates on each noise level, each accepted or rejected by a Metropolis test.

    If `Step.accepted` is mostly false the step is too large; it mixes best at a rate near 0.57. The score and
    density of an accepted state are kept, so an update costs one evaluation of each.

    With a `project` that writes known values into x, proposal and drift stay in the space of the unknown
    values, and the distribution is that of x given the known values. `project` must be affine and idempotent.

    Args:
        step_size: ε; the step on noise level i is α_i = ε σ_i²/σ_L². On a single level α = ε; the
            level may be 0 for a density that gives its score directly.
        steps_each: T.
        convention: of the step size: "paper", x + (α/2) s + √α z, or "code", x + α s + √(2α) z.
    """

    step_size: float
    steps_each: int = 100
    convention: Convention = "paper"

    def evaluations(self, sigmas: Tensor) -> int:
        """One for every update, and one for the first state of every noise level."""
        return (self.steps_each + 1) * len(sigmas)

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
        levels = langevin_levels(denoiser, sigmas)
        alphas = annealed_steps(levels, paper_step(self.step_size, self.steps_each, self.convention))
        index = 0
        for number, (sigma, alpha) in enumerate(zip(levels, alphas, strict=True), 1):
            state = _evaluate(denoiser, x if project is None else project(x, sigma), sigma, project)
            for _ in range(self.steps_each):
                y = state.x + (alpha / 2) * state.score + alpha**0.5 * randn_like(x, generator)
                proposed = _evaluate(denoiser, y if project is None else project(y, sigma), sigma, project)
                chance = torch.rand(len(x), generator=generator, device=x.device, dtype=x.dtype)
                accepted = chance.log() < _log_ratio(state, proposed, alpha)  # NaN is rejected
                denoised, state = state.denoised, _select(accepted, proposed, state)
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
    """A denoiser that also gives its density."""


@dataclass(frozen=True, kw_only=True)
class _State:
    """A point x with its score (in the directions in which x may move), log p and D."""

    x: Tensor
    score: Tensor
    density: Tensor
    denoised: Tensor


def _evaluate(distribution: _Density, x: Tensor, sigma: float, project: Project | None) -> _State:
    level = broadcast_sigma(sigma, x)
    s = score(distribution, x, level)
    denoised = x + sigma**2 * s
    if project is not None:
        s = project(x + s, sigma) - x
    return _State(x=x, score=s, density=distribution.log_density(x, level), denoised=denoised)


def _log_ratio(x: _State, y: _State, alpha: float) -> Tensor:
    """The log of p(y) q(x|y) / (p(x) q(y|x)), (B,)."""
    linear = -((y.x - x.x) * (x.score + y.score)).flatten(1).sum(1) / 2
    quadratic = (y.score.square() - x.score.square()).flatten(1).sum(1)
    return y.density - x.density + linear - (alpha / 8) * quadratic


def _select(accepted: Tensor, yes: _State, no: _State) -> _State:
    """For each image the state `yes` where it is accepted, else `no`."""
    images = expand(accepted, yes.x)
    return _State(
        x=torch.where(images, yes.x, no.x),
        score=torch.where(images, yes.score, no.score),
        density=torch.where(accepted, yes.density, no.density),
        denoised=torch.where(images, yes.denoised, no.denoised),
    )
