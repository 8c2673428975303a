"""Distributions of σ in training, each given by its quantiles, so that a batch can be spread evenly over them.

References:
    Song & Ermon (2019), eq. 6 (noise levels). https://arxiv.org/abs/1907.05600
    Ho et al. (2020), Algorithm 1 (t uniform). https://arxiv.org/abs/2006.11239
    Karras et al. (2022), Table 1 (log-normal). https://arxiv.org/abs/2206.00364
    Kingma et al. (2021), App. I.1 (stratified noise levels). https://arxiv.org/abs/2107.00630
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from scorefield import schedules

__all__ = [
    "Cosine", "DiscreteLevels", "GeometricLevels", "LinearBeta", "LogNormal", "LogUniform", "NoiseDistribution",
    "OnLevels", "PaletteTraining", "draw_sigma", "sigma_range",
]  # fmt: skip

_MOST_LEVELS = 100_000  # published schedules have up to 2,000


class NoiseDistribution(Protocol):
    """A distribution of σ for training."""

    def quantile(self, u: Tensor) -> Tensor:
        """σ at the cumulative probability u in (0, 1)."""
        ...


@runtime_checkable
class OnLevels(Protocol):
    """A distribution that is uniform over the levels of a schedule."""

    @property
    def sigmas(self) -> tuple[float, ...]:
        """The schedule, falling."""
        ...


@dataclass(frozen=True, kw_only=True)
class LogNormal:
    """ln σ ~ N(mean, std²) (Karras et al. 2022, Table 1).

    Raises:
        ValueError: a mean or a std out of bounds.
    """

    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        if not 0 < self.std <= 100:
            raise ValueError(f"std must be above 0 and at most 100, got {self.std:g}")
        if not abs(self.mean) <= 100:
            raise ValueError(f"mean must lie within ±100, got {self.mean:g}")

    def quantile(self, u: Tensor) -> Tensor:
        """exp(mean + std · Φ⁻¹(u))."""
        return (self.mean + self.std * torch.special.ndtri(u)).exp()


@dataclass(frozen=True, kw_only=True)
class LogUniform:
    """ln σ uniform between its ends.

    Raises:
        ValueError: an empty range.
    """

    sigma_min: float
    sigma_max: float

    def __post_init__(self) -> None:
        _check_range(self.sigma_min, self.sigma_max)

    def quantile(self, u: Tensor) -> Tensor:
        """σ_min (σ_max / σ_min)^u."""
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** u


@dataclass(frozen=True, kw_only=True)
class DiscreteLevels:
    """Uniform over the levels of a schedule, as NCSN trains (Song & Ermon 2019, eq. 6).

    Args:
        sigmas: the schedule, falling.

    Raises:
        ValueError: levels that rise, repeat, or are not positive.
    """

    sigmas: tuple[float, ...]

    def __post_init__(self) -> None:
        if schedules.check_schedule(torch.tensor(self.sigmas))[-1] == 0:
            raise ValueError("sigmas must be positive, and this schedule ends at 0")

    def quantile(self, u: Tensor) -> Tensor:
        """The ⌊u N⌋-th of N levels."""
        return _level(self.sigmas, u)


@dataclass(frozen=True, kw_only=True)
class GeometricLevels:
    """Uniform over a geometric schedule (Song & Ermon 2019, §4.1).

    Raises:
        ValueError: an empty range, or fewer than two levels.
    """

    sigma_max: float
    sigma_min: float
    levels: int = 10

    def __post_init__(self) -> None:
        _check_range(self.sigma_min, self.sigma_max)
        _check_count("levels", self.levels)

    @cached_property
    def sigmas(self) -> tuple[float, ...]:
        """The schedule."""
        return tuple(schedules.geometric(self.sigma_max, self.sigma_min, self.levels).tolist())

    def quantile(self, u: Tensor) -> Tensor:
        """The ⌊u N⌋-th of N levels."""
        return _level(self.sigmas, u)


@dataclass(frozen=True, kw_only=True)
class LinearBeta:
    """Uniform over `schedules.linear_beta`, as DDPM trains (Ho et al. 2020, Algorithm 1).

    Args:
        first: β of the first step.
        last: β of the last step.
        steps: T.

    Raises:
        ValueError: β that fall or lie outside (0, 1), or fewer than two steps.
    """

    first: float = 1e-4
    last: float = 0.02
    steps: int = 1000

    def __post_init__(self) -> None:
        if not 0 < self.first < 1 or not 0 < self.last < 1:
            raise ValueError(f"first and last must lie between 0 and 1, got {self.first:g} and {self.last:g}")
        if self.first > self.last:
            raise ValueError(f"first = {self.first:g} must not lie above last = {self.last:g}")
        _check_count("steps", self.steps)

    @cached_property
    def sigmas(self) -> tuple[float, ...]:
        """The schedule."""
        return tuple(schedules.linear_beta(self.first, self.last, self.steps).tolist())

    def quantile(self, u: Tensor) -> Tensor:
        """The ⌊u N⌋-th of N levels."""
        return _level(self.sigmas, u)


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Uniform over `schedules.cosine` (Nichol & Dhariwal 2021, eq. 17).

    Raises:
        ValueError: fewer than two steps.
    """

    steps: int = 1000

    def __post_init__(self) -> None:
        _check_count("steps", self.steps)

    @cached_property
    def sigmas(self) -> tuple[float, ...]:
        """The schedule."""
        return tuple(schedules.cosine(self.steps).tolist())

    def quantile(self, u: Tensor) -> Tensor:
        """The ⌊u N⌋-th of N levels."""
        return _level(self.sigmas, u)


@dataclass(frozen=True, kw_only=True)
class PaletteTraining:
    """Uniform over `schedules.palette_training` (Saharia et al. 2022, §4)."""

    @cached_property
    def sigmas(self) -> tuple[float, ...]:
        """The schedule."""
        return tuple(schedules.palette_training().tolist())

    def quantile(self, u: Tensor) -> Tensor:
        """The ⌊u N⌋-th of N levels."""
        return _level(self.sigmas, u)


def sigma_range(distribution: NoiseDistribution) -> tuple[float, float] | None:
    """The smallest and the largest σ of a distribution; None where it has no ends."""
    if isinstance(distribution, LogUniform | GeometricLevels):
        return distribution.sigma_min, distribution.sigma_max
    if isinstance(distribution, OnLevels):
        return distribution.sigmas[-1], distribution.sigmas[0]
    return None


def _level(sigmas: tuple[float, ...], u: Tensor) -> Tensor:
    levels = torch.tensor(sigmas, device=u.device)
    return levels[(u * len(levels)).long().clamp_max(len(levels) - 1)]


def _check_range(sigma_min: float, sigma_max: float) -> None:
    if not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(f"sigma_min = {sigma_min:g} must lie below sigma_max = {sigma_max:g}")


def _check_count(name: str, count: int) -> None:
    if count < 2:
        raise ValueError(f"{name} must be at least 2, got {count}")
    if count > _MOST_LEVELS:
        raise ValueError(f"{name} must be at most {_MOST_LEVELS:,}, got {count}")


def draw_sigma(distribution: NoiseDistribution, n: int, *, generator: Generator) -> Tensor:
    """The n noise levels, one from each n-th of the distribution (Kingma et al. 2021, App. I.1); (n,), float32.

    Each σ alone follows the distribution; together they cover it, so that a batch's loss varies less.
    """
    device = generator.device
    offset = torch.rand(1, generator=generator, device=device)
    u = (torch.arange(n, device=device) + offset) / n
    return distribution.quantile(u.clamp(1e-6, 1 - 1e-6))
