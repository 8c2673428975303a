"""What a sampler is, what it yields, and the loop that runs one to its end."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from scorefield.errors import UserError
from scorefield.model import Denoiser, broadcast_sigma
from scorefield.schedules import check_schedule

__all__ = ["Project", "Sampler", "Step", "as_sigmas", "broadcast_sigma", "check_levels", "randn_like", "run"]

Project = Callable[[Tensor, float], Tensor]
"""Maps x at noise level σ to an x that agrees with the known pixels: project(x, σ)."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """The state after an update. The last `x` that a sampler yields is its result.

    Args:
        index: number of the update, from 0.
        evaluations: how often the denoiser has been called so far.
        sigma: the noise level of `x` after the update.
        x: the noisy images, (B, C, H, W).
        denoised: D(x; σ) as the update used it, (B, C, H, W).
        accepted: which images took the proposal of a Metropolis test, (B,), bool; None for samplers without
            one. Its mean is the acceptance rate.
    """

    index: int
    evaluations: int
    sigma: float
    x: Tensor
    denoised: Tensor
    accepted: Tensor | None = None


class Sampler(Protocol):
    """An algorithm that leads from noise to images. It holds settings only, so one object serves many runs."""

    def iterate(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigmas: Tensor,
        *,
        generator: Generator,
        project: Project | None = None,
    ) -> Iterator[Step]:
        """Yield the state after every update. The caller may stop at any time.

        Args:
            denoiser: gives E[x0 | x].
            x: the initial state, noisy at sigmas[0], (B, C, H, W).
            sigmas: a decreasing noise schedule, (L,).
            generator: source of the noise, on x's device.
            project: applied after every update, to keep known pixels.

        Raises:
            UserError: this sampler cannot follow the schedule.
        """
        ...

    def evaluations(self, sigmas: Tensor) -> int:
        """How often the whole schedule calls the denoiser."""
        ...


def run(
    sampler: Sampler,
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor | Sequence[float],
    *,
    generator: Generator,
    project: Project | None = None,
    progress: Callable[[Step], None] | None = None,
) -> Tensor:
    """Run a sampler to the end of the schedule.

    Args:
        sampler: the algorithm.
        denoiser: gives E[x0 | x].
        x: the initial state, noisy at sigmas[0], (B, C, H, W).
        sigmas: a decreasing noise schedule.
        generator: source of the noise, on x's device.
        project: applied after every update, to keep known pixels.
        progress: called with every Step.

    Returns:
        The last state, the shape of x.

    Raises:
        UserError: the sampler cannot follow the schedule.
    """
    for step in sampler.iterate(denoiser, x, as_sigmas(sigmas), generator=generator, project=project):
        x = step.x
        if progress is not None:
            progress(step)
    return x


def as_sigmas(sigmas: Tensor | Sequence[float]) -> Tensor:
    """A schedule as a tensor, (L,); numbers become float32."""
    return sigmas if isinstance(sigmas, Tensor) else torch.tensor(sigmas, dtype=torch.float32)


def check_levels(sigmas: Tensor, *, rises: bool = False) -> list[float]:
    """The noise levels as numbers, for a sampler that steps from each to the next.

    Args:
        sigmas: (L,).
        rises: whether the schedule may rise at times.

    Raises:
        UserError: not a schedule, or fewer than two noise levels.
    """
    levels = check_schedule(sigmas, rises=rises)
    if len(levels) < 2:
        raise UserError("sigmas", "this sampler steps from noise level to noise level and needs at least two.")
    return levels


def randn_like(x: Tensor, generator: Generator) -> Tensor:
    """Draw z ~ N(0, I) of x's shape, device and type."""
    return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
