"""Images made smaller: each square of f × f pixels becomes its mean.

A A⁺ = 1 with A⁺ the repetition of each pixel, which is also the pseudo-inverse of Moore and Penrose: the
rows of A are disjoint squares of weight 1/f².

References:
    Keys (1981), cubic convolution. https://doi.org/10.1109/TASSP.1981.1163711
"""

from dataclasses import dataclass

from torch import Generator, Tensor
from torch.nn.functional import avg_pool2d, interpolate

from scorefield.degradations.base import Shown, all_to_predict, dice
from scorefield.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Downscale:
    """The operator that takes means of squares.

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
            UserError: a side that f does not divide.
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

    def shown(self, y: Tensor, *, generator: Generator) -> Shown:
        """Y enlarged by cubic convolution (Keys 1981, as Pillow's BICUBIC), all of it to be predicted."""
        size = (self.factor * y.shape[-2], self.factor * y.shape[-1])
        return all_to_predict(interpolate(y, size, mode="bicubic", antialias=True))

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> "Downscale":
        """Itself: there is nothing random about it."""
        return self


@dataclass(frozen=True, kw_only=True)
class RandomDownscale:
    """Smaller by one of several factors, each as likely.

    Args:
        factors: those to choose from.

    Raises:
        UserError: no factor, or one below 1.
    """

    factors: tuple[int, ...] = (2, 4)

    def __post_init__(self) -> None:
        if not self.factors or min(self.factors) < 1:
            raise UserError("downscale", f"factors are 1 or more, got {self.factors}.")

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> Downscale:
        """One factor out of those that divide height and width.

        Raises:
            UserError: none of them does.
        """
        h, w = shape[-2:]
        fit = [f for f in self.factors if h % f == 0 and w % f == 0]
        if not fit:
            raise UserError("downscale", f"{h}×{w} divides by none of {self.factors}.")
        return Downscale(factor=dice(generator).choice(fit))
