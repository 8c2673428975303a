"""Pictures made smaller: each square of f × f pixels becomes its mean.

A A⁺ = 1 with A⁺ the repetition of each pixel, which is also the pseudo-inverse of Moore and Penrose: the
rows of A are disjoint squares of weight 1/f².
"""

from dataclasses import dataclass

from torch import Generator, Tensor
from torch.nn.functional import avg_pool2d

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
            raise UserError("downscale", f"{h}×{w} does not divide by {f}.", f"Cut the picture to {fits}.")
        return avg_pool2d(x, f)

    def pinv(self, y: Tensor) -> Tensor:
        """Each pixel f × f times, (B, C, fH, fW)."""
        return y.repeat_interleave(self.factor, -2).repeat_interleave(self.factor, -1)

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> "Downscale":
        """Itself: there is nothing random about it."""
        return self
