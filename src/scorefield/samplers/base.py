"""What a sampler is, and what it yields."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from scorefield.model import Denoiser

Project = Callable[[Tensor, float], Tensor]
"""Brings x, noisy at σ, back to what is known of it."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """The state after an update. The last `x` that a sampler yields is its result.

    Args:
        index: number of the update, from 0.
        evaluations: how often the denoiser has been called so far.
        sigma: the noise level that `x` is at now.
        x: the noisy images, (B, C, H, W).
        denoised: D(x; σ) as the update saw it, (B, C, H, W).
        accepted: which images took the proposal, (B,), bool, where a sampler may refuse; else None. Its
            mean is the acceptance rate.
    """

    index: int
    evaluations: int
    sigma: float
    x: Tensor
    denoised: Tensor
    accepted: Tensor | None = None


class Sampler(Protocol):
    """Settings of a way from noise to images; it keeps no state, so that one may serve many runs."""

    def iterate(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigmas: Tensor,
        *,
        generator: Generator,
        project: Project | None = None,
    ) -> Iterator[Step]:
        """Yield every update's state; stop by no longer asking.

        Args:
            denoiser: gives E[x0 | x].
            x: the start, noisy at sigmas[0], (B, C, H, W).
            sigmas: a falling schedule, (L,).
            generator: source of the noise, on x's device.
            project: applied after every update, if known pixels are to be kept.

        Raises:
            UserError: `sigmas` is no schedule that this sampler can climb down.
        """
        ...

    def evaluations(self, sigmas: Tensor) -> int:
        """How often the whole schedule calls the denoiser."""
        ...


def full(sigma: float, x: Tensor) -> Tensor:
    """σ for every image of x, (B,)."""
    return torch.full((len(x),), sigma, device=x.device, dtype=x.dtype)


def fresh_noise(x: Tensor, generator: Generator) -> Tensor:
    """Z ~ N(0, I) of x's shape."""
    return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
