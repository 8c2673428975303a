"""Removal of color: only the luma of an image is left.

    A(x) = w · x,     A⁺y = w y / (w · w),

with w = (0.299, 0.587, 0.114) (ITU-R BT.601, also JPEG's). Σw = 1, so the luma of a grey image is the image,
and A does not depend on whether black is 0 or −1: a shift of all channels shifts the luma equally.

Repeating y in three channels would satisfy A(A⁺y) = y too, but A⁺A would be an oblique projector. With the
Moore–Penrose pseudo-inverse, A⁺A is symmetric: x − A⁺A x, which a restorer may choose, is orthogonal to the
observed part, and white noise splits into two independent parts.

References:
    ITU-R BT.601-7, §2.5.1. https://www.itu.int/rec/R-REC-BT.601
"""

import math
from dataclasses import dataclass

from torch import Generator, Tensor

from scorefield.data.color import LUMA
from scorefield.degradations.base import NetworkInput, SameSize, predict_all
from scorefield.degradations.dct import constant
from scorefield.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Grey(SameSize):
    """The operator of one weighted mean of the channels.

    Args:
        weights: w, one for each channel; their sum is 1.

    Raises:
        UserError: the weights do not sum to 1.
    """

    weights: tuple[float, ...] = LUMA

    def __post_init__(self) -> None:
        if not math.isclose(sum(self.weights), 1, abs_tol=1e-6):
            raise UserError("grey", f"the weights {self.weights} sum to {sum(self.weights):g}.", "They must sum to 1.")

    def __call__(self, x: Tensor) -> Tensor:
        """w · x, (B, 1, H, W).

        Raises:
            UserError: x has another number of channels than there are weights.
        """
        if x.shape[1] != len(self.weights):
            raise UserError(
                "grey", f"made for {len(self.weights)} channels, the image has {x.shape[1]}.",
                "Pass a color image.",
            )  # fmt: skip
        return (x * constant(self.weights, x).reshape(-1, 1, 1)).sum(1, keepdim=True)

    def pinv(self, y: Tensor) -> Tensor:
        """w y / (w · w), (B, C, H, W): of all images with this luma, the one of smallest norm."""
        square = sum(weight**2 for weight in self.weights)
        return y * constant(self.weights, y).reshape(-1, 1, 1) / square

    def network_input(self, y: Tensor, *, generator: Generator) -> NetworkInput:
        """The source is y in every channel; all is to be predicted."""
        return predict_all(y.expand(-1, len(self.weights), -1, -1))

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> "Grey":
        """Itself: nothing is random."""
        return self
