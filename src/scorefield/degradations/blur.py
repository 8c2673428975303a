"""Gaussian blur with mirrored edges.

Along each axis x ← K x with the weights h_j ∝ exp(−j²/2s²), −4s ≤ j ≤ 4s; beyond its edge the image
continues as its mirror image (… b a | a b …). Such a K is diagonal in the cosine basis (Martucci 1994), so

    A(x) = Cᵀ (S ⊙ (C x Cᵀ)) C,     S_{kl} = λ_k λ_l,     λ_k = Σ_j h_j cos(π j k / n),

is the singular value decomposition of the blur. Frequencies with S below `threshold` are lost in the rounding
to 8 bits, and dividing by S would amplify the rounding error. Such S are set to 0 in A itself, not only in the
inverse, so A A⁺ A = A holds to rounding.

References:
    Martucci (1994), symmetric convolution and the discrete cosine transforms. https://doi.org/10.1109/78.295213
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Generator, Tensor

from scorefield.degradations.base import SameSize, fast_rng
from scorefield.degradations.dct import cosines
from scorefield.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Blur(SameSize):
    """The operator of a Gaussian blur.

    Args:
        std: s, in pixels.
        threshold: singular values below it are set to 0; the largest is 1.

    Raises:
        UserError: s is not in (0, 1000], or the threshold is not in (0, 1).
    """

    std: float
    threshold: float = 0.03

    def __post_init__(self) -> None:
        if not 0 < self.std <= 1000:
            raise UserError("blur", f"a standard deviation is above 0 and at most 1000, got {self.std:g}.")
        if not 0 < self.threshold < 1:
            raise UserError("blur", f"the threshold lies between 0 and 1, got {self.threshold:g}.")

    def __call__(self, x: Tensor) -> Tensor:
        """The blurred image, (B, C, H, W)."""
        return _scaled(x, self._spectrum(x))

    def pinv(self, y: Tensor) -> Tensor:
        """The frequencies that A keeps, divided by S, (B, C, H, W)."""
        s = self._spectrum(y)
        return _scaled(y, torch.where(s > 0, 1 / s, 0))

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> "Blur":
        """Itself: nothing is random."""
        return self

    def _spectrum(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        return _spectrum(self.std, self.threshold, h, w, x.dtype, x.device)


@dataclass(frozen=True, kw_only=True)
class RandomBlur:
    """Gaussian blur with s ~ U(std).

    Args:
        std: smallest and largest s, in pixels.

    Raises:
        UserError: a decreasing range, or see `Blur`.
    """

    std: tuple[float, float] = (0.5, 3.0)

    def __post_init__(self) -> None:
        low, high = self.std
        if not 0 < low <= high:
            raise UserError("blur", f"standard deviations go from above 0 upwards, got {low:g} to {high:g}.")
        Blur(std=high)

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> Blur:
        """One blur."""
        return Blur(std=fast_rng(generator).uniform(*self.std))


def _scaled(x: Tensor, spectrum: Tensor) -> Tensor:
    """Cᵀ (S ⊙ (C x Cᵀ)) C."""
    rows, columns = (cosines(n, x) for n in x.shape[-2:])
    return rows.T @ (spectrum * (rows @ x @ columns.T)) @ columns


@lru_cache(maxsize=64)
def _spectrum(std: float, threshold: float, h: int, w: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    s = _axis(std, h)[:, None] * _axis(std, w)
    return torch.where(s >= threshold, s, 0).to(device, dtype)


def _axis(std: float, n: int) -> Tensor:
    """λ, (n,), float64."""
    j = torch.arange(-math.ceil(4 * std), math.ceil(4 * std) + 1, dtype=torch.float64)
    weights = torch.exp(-(j**2) / (2 * std**2))
    k = torch.arange(n, dtype=torch.float64)
    return torch.cos(math.pi / n * k[:, None] * j) @ (weights / weights.sum())
