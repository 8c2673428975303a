"""Distributions of σ in training, each given by its quantiles, so that a batch can be spread evenly over them.

References:
    Song & Ermon (2019), eq. 6 (noise levels). https://arxiv.org/abs/1907.05600
    Ho et al. (2020), Algorithm 1 (t uniform). https://arxiv.org/abs/2006.11239
    Karras et al. (2022), Table 1 (log-normal). https://arxiv.org/abs/2206.00364
    Kingma et al. (2021), App. I.1 (stratified noise levels). https://arxiv.org/abs/2107.00630
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor


class NoiseDistribution(Protocol):
    """A distribution of σ for training."""

    def quantile(self, u: Tensor) -> Tensor:
        """σ at the cumulative probability u in (0, 1)."""
        ...


@dataclass(frozen=True, kw_only=True)
class LogNormal:
    """ln σ ~ N(mean, std²) (Karras et al. 2022, Table 1)."""

    mean: float = -1.2
    std: float = 1.2

    def quantile(self, u: Tensor) -> Tensor:
        """exp(mean + std · Φ⁻¹(u))."""
        return (self.mean + self.std * torch.special.ndtri(u)).exp()


@dataclass(frozen=True, kw_only=True)
class LogUniform:
    """ln σ uniform between its ends."""

    sigma_min: float
    sigma_max: float

    def quantile(self, u: Tensor) -> Tensor:
        """σ_min (σ_max / σ_min)^u."""
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** u


@dataclass(frozen=True, kw_only=True)
class DiscreteLevels:
    """Every noise level of a schedule alike, as NCSN trains (Song & Ermon 2019, eq. 6)."""

    sigmas: tuple[float, ...]

    def quantile(self, u: Tensor) -> Tensor:
        """The noise level that the u-th part of the schedule falls on."""
        levels = torch.tensor(self.sigmas, device=u.device)
        return levels[(u * len(levels)).long().clamp_max(len(levels) - 1)]


def draw_sigma(distribution: NoiseDistribution, n: int, *, generator: Generator) -> Tensor:
    """N noise levels, one from each n-th of the distribution (Kingma et al. 2021, App. I.1); (n,), float32.

    Each σ alone follows the distribution; together they cover it, so that a batch's loss varies less.
    """
    device = generator.device
    offset = torch.rand(1, generator=generator, device=device)
    u = (torch.arange(n, device=device) + offset) / n
    return distribution.quantile(u.clamp(1e-6, 1 - 1e-6))
