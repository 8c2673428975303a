"""Noise that images carry: y = x + s n, n ~ N(0, I), the same n at every call.

An operator can be replayed, so the drawn noise is part of it, as a seed. Who is given the operator could take
the noise away again, which pinv does; a network that restores is shown y alone. Where the strength of a noise is
known and the noise itself is not, that is no operator but an observation's `noise` (`Observation`).
"""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from scorefield.degradations.base import Shown, all_to_predict, dice
from scorefield.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The operator that leaves all as it is, A(x) = x: images that nothing but noise has befallen."""

    def __call__(self, x: Tensor) -> Tensor:
        """X itself."""
        return x

    def pinv(self, y: Tensor) -> Tensor:
        """Y itself."""
        return y


@dataclass(frozen=True, kw_only=True)
class Noisy:
    """The operator that adds one drawn Gaussian noise.

    Args:
        std: s, in units of x.
        seed: of n.

    Raises:
        UserError: s is negative or no number.
    """

    std: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.std < math.inf:
            raise UserError("noise", f"a standard deviation is 0 or more, got {self.std:g}.")

    def __call__(self, x: Tensor) -> Tensor:
        """X + s n, (B, C, H, W)."""
        return x + self.std * self._noise(x)

    def pinv(self, y: Tensor) -> Tensor:
        """Y − s n."""
        return y - self.std * self._noise(y)

    def shown(self, y: Tensor, *, generator: Generator) -> Shown:
        """Y itself, all of it to be predicted."""
        return all_to_predict(y)

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> "Noisy":
        """Of the same strength, with another noise."""
        return Noisy(std=self.std, seed=dice(generator).getrandbits(62))

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=Generator().manual_seed(self.seed)).to(like)


@dataclass(frozen=True, kw_only=True)
class RandomNoise:
    """Noise of a std drawn uniformly from a range.

    Args:
        std: smallest and largest, in steps of 8 bits.
        value_range: black and white in x.

    Raises:
        ValueError: a range that falls, or is not of finite numbers of 0 or more.
    """

    std: tuple[float, float] = (5.0, 50.0)
    value_range: tuple[float, float] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        low, high = self.std
        if not 0 <= low <= high < math.inf:
            raise ValueError(f"std must rise from 0 or more, got {low:g} to {high:g}")

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> Noisy:
        """One drawn noise."""
        random, step = dice(generator), (self.value_range[1] - self.value_range[0]) / 255
        std = random.uniform(self.std[0] * step, self.std[1] * step)
        return Noisy(std=std, seed=random.getrandbits(62))
