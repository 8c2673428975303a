"""Additive noise: y = x + s n, n ~ N(0, I), the same n at every call.

An operator can be replayed, so it holds the seed of its noise, and pinv subtracts the noise again. A
restoration network receives y alone. Noise whose std is known but whose values are not is no operator: it is
the `noise` of an `Observation`.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from scorefield.degradations.base import NetworkInput, SameSize, fast_rng, predict_all
from scorefield.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Identity(SameSize):
    """A(x) = x, for images that are degraded by noise only."""

    def __call__(self, x: Tensor) -> Tensor:
        """x itself."""
        return x

    def pinv(self, y: Tensor) -> Tensor:
        """y itself."""
        return y


@dataclass(frozen=True, kw_only=True)
class AdditiveNoise:
    """The operator that adds one realisation of Gaussian noise.

    Args:
        std: s, in units of x.
        seed: of n.
        grey: n is the same in all channels, as that of a grey image or of a camera's brightness.

    Raises:
        UserError: s is negative or not a number.
    """

    std: float
    seed: int = 0
    grey: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.std < math.inf:
            raise UserError("noise", f"a standard deviation is 0 or more, got {self.std:g}.")

    def __call__(self, x: Tensor) -> Tensor:
        """x + s n, (B, C, H, W)."""
        return x + self.std * self._noise(x)

    def pinv(self, y: Tensor) -> Tensor:
        """y − s n."""
        return y - self.std * self._noise(y)

    def network_input(self, y: Tensor, *, generator: Generator) -> NetworkInput:
        """The source is y; every pixel is to be predicted."""
        return predict_all(y)

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> "AdditiveNoise":
        """The same std with another seed."""
        return replace(self, seed=fast_rng(generator).getrandbits(62))

    def _noise(self, like: Tensor) -> Tensor:
        shape = (like.shape[0], 1, *like.shape[2:]) if self.grey else like.shape
        return torch.randn(shape, generator=Generator().manual_seed(self.seed)).to(like).expand_as(like)


@dataclass(frozen=True, kw_only=True)
class RandomNoise:
    """Additive noise with s ~ U(std).

    Args:
        std: smallest and largest, of 255 levels.
        grey: the share of noise that is the same in all channels; grey images have no other.
        value_range: black and white in x.

    Raises:
        ValueError: a decreasing range, or one with a negative or infinite end, or a share outside of 0 to 1.
    """

    std: tuple[float, float] = (5.0, 50.0)
    grey: float = 0.0
    value_range: tuple[float, float] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        low, high = self.std
        if not 0 <= low <= high < math.inf:
            raise ValueError(f"std must rise from 0 or more, got {low:g} to {high:g}")
        if not 0 <= self.grey <= 1:
            raise ValueError(f"grey is a share from 0 to 1, got {self.grey:g}")

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> AdditiveNoise:
        """One realisation."""
        rng, level = fast_rng(generator), (self.value_range[1] - self.value_range[0]) / 255
        std = rng.uniform(self.std[0] * level, self.std[1] * level)
        seed = rng.getrandbits(62)
        return AdditiveNoise(std=std, seed=seed, grey=self.grey > 0 and rng.random() < self.grey)
