"""Downscaling: each square of f × f pixels becomes its mean.

A A⁺ = 1 where A⁺ repeats each pixel. It is the Moore–Penrose pseudo-inverse, since the rows of A are
disjoint squares of weight 1/f².

References:
    Keys (1981), cubic convolution. https://doi.org/10.1109/TASSP.1981.1163711
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Generator, Tensor
from torch.nn.functional import avg_pool2d, interpolate

from scorefield.degradations.base import Box, NetworkInput, fast_rng, predict_all
from scorefield.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Downscale:
    """The operator of means over squares.

    Args:
        factor: f, a square's side in pixels.

    Raises:
        UserError: factor < 1.
    """

    factor: int

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise UserError("downscale", f"a factor is 1 or more, got {self.factor}.")

    def __call__(self, x: Tensor) -> Tensor:
        """Means, (B, C, H/f, W/f).

        Raises:
            UserError: f does not divide a side.
        """
        h, w = x.shape[-2:]
        f = self.factor
        if h % f or w % f:
            fits = f"{h - h % f}×{w - w % f}" if min(h, w) >= f else f"at least {f}×{f}"
            raise UserError("downscale", f"{h}×{w} does not divide by {f}.", f"Cut the image to {fits}.")
        return avg_pool2d(x, f)

    def pinv(self, y: Tensor) -> Tensor:
        """Each pixel f × f times, (B, C, fH, fW)."""
        return y.repeat_interleave(self.factor, -2).repeat_interleave(self.factor, -1)

    def network_input(self, y: Tensor, *, generator: Generator) -> NetworkInput:
        """The source is y enlarged by cubic convolution (Keys 1981, Pillow's BICUBIC); all is to be predicted."""
        size = (self.factor * y.shape[-2], self.factor * y.shape[-1])
        return predict_all(interpolate(y, size, mode="bicubic", antialias=True))

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> "Downscale":
        """Itself: nothing is random."""
        return self

    def cut(self, boxes: Sequence[Box]) -> "Downscale":
        """The same operator; tiles begin and end at multiples of the factor."""
        return self

    def part(self, box: Box) -> Box:
        """The box in the small image.

        Raises:
            ValueError: the box does not lie on the small image's pixels.
        """
        if any(length % self.factor for length in box):
            raise ValueError(f"{box} does not lie on blocks of {self.factor} pixels")
        return Box(*(length // self.factor for length in box))


@dataclass(frozen=True, kw_only=True)
class RandomDownscale:
    """Downscaling by a random factor.

    Args:
        factors: to choose from, with equal probability.

    Raises:
        UserError: no factor, or one below 1.
    """

    factors: tuple[int, ...] = (2, 4)

    def __post_init__(self) -> None:
        if not self.factors or min(self.factors) < 1:
            raise UserError("downscale", f"factors are 1 or more, got {self.factors}.")

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> Downscale:
        """One of the factors that divide height and width.

        Raises:
            UserError: none of them does.
        """
        h, w = shape[-2:]
        fit = [f for f in self.factors if h % f == 0 and w % f == 0]
        if not fit:
            raise UserError("downscale", f"{h}×{w} divides by none of {self.factors}.")
        return Downscale(factor=fast_rng(generator).choice(fit))
