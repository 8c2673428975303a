"""Color that is gone: an image's luma alone is left.

    A(x) = w · x,     A⁺y = w y / (w · w),

with w = (0.299, 0.587, 0.114) (ITU-R BT.601, which JPEG takes over). Σw = 1, so that the grey of a grey
image is itself, and A means the same whether black is 0 or −1: a shift of all channels shifts the grey as
much.

To repeat y in the three channels would satisfy A(A⁺y) = y too. But then A⁺A is a slanted projector. Only
with the pseudo-inverse of Moore and Penrose is A⁺A symmetric, so that x − A⁺A x, what a restorer is free to
choose, is orthogonal to what was seen, and white noise falls into two independent parts.

References:
    ITU-R BT.601-7, §2.5.1. https://www.itu.int/rec/R-REC-BT.601
"""

import math
from dataclasses import dataclass

from torch import Generator, Tensor

from scorefield.degradations.base import Shown, all_to_predict
from scorefield.degradations.constants import constant
from scorefield.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Grey:
    """The operator that leaves one weighted mean of the channels.

    Args:
        weights: w, one for each channel, that sum to 1.

    Raises:
        UserError: weights that do not sum to 1.
    """

    weights: tuple[float, ...] = (0.299, 0.587, 0.114)

    def __post_init__(self) -> None:
        if not math.isclose(sum(self.weights), 1, abs_tol=1e-6):
            raise UserError("grey", f"the weights {self.weights} sum to {sum(self.weights):g}.", "They must sum to 1.")

    def __call__(self, x: Tensor) -> Tensor:
        """W · x, (B, 1, H, W).

        Raises:
            UserError: x has another number of channels than there are weights.
        """
        if x.shape[1] != len(self.weights):
            raise UserError(
                "grey", f"made for {len(self.weights)} channels, the image has {x.shape[1]}.",
                "Only an image in color can lose it.",
            )  # fmt: skip
        return (x * constant(self.weights, x).reshape(-1, 1, 1)).sum(1, keepdim=True)

    def pinv(self, y: Tensor) -> Tensor:
        """W y / (w · w), (B, C, H, W): of all images with this grey, the least."""
        square = sum(weight**2 for weight in self.weights)
        return y * constant(self.weights, y).reshape(-1, 1, 1) / square

    def shown(self, y: Tensor, *, generator: Generator) -> Shown:
        """The grey in every channel, all of it to be predicted."""
        return all_to_predict(y.expand(-1, len(self.weights), -1, -1))

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> "Grey":
        """Itself: there is nothing random about it."""
        return self
