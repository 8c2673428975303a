"""Cropping, the degradation that uncropping inverts.

A(x) is the part of x within a box; A⁺y places y on a canvas of zeros, the middle of [−1, 1].
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from scorefield.degradations.base import NetworkInput, noise_like
from scorefield.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Crop:
    """The operator that keeps a box.

    Args:
        top: rows above it.
        left: columns to its left.
        height: of the box.
        width: of the box.
        size: (H, W) of the whole image.

    Raises:
        UserError: the box is empty or not within the image.
    """

    top: int
    left: int
    height: int
    width: int
    size: tuple[int, int]

    def __post_init__(self) -> None:
        h, w = self.size
        inside = self.top >= 0 and self.left >= 0 and self.top + self.height <= h and self.left + self.width <= w
        if self.height < 1 or self.width < 1 or not inside:
            raise UserError(
                "crop",
                f"a box of {self.height}×{self.width} at ({self.top}, {self.left}) is not within {h}×{w}.",
                "Height comes before width.",
            )

    def __call__(self, x: Tensor) -> Tensor:
        """The part of x within the box, (B, C, height, width).

        Raises:
            UserError: x has another size than `size`.
        """
        if tuple(x.shape[-2:]) != self.size:
            raise UserError("crop", f"made for images of {self.size}, got {tuple(x.shape[-2:])}.")
        return x[..., self.top : self.top + self.height, self.left : self.left + self.width]

    def pinv(self, y: Tensor) -> Tensor:
        """y in its place and 0 around it, (B, C, H, W)."""
        h, w = self.size
        beside = (self.left, w - self.left - self.width)
        return pad(y, (*beside, self.top, h - self.top - self.height))

    def network_input(self, y: Tensor, *, generator: Generator) -> NetworkInput:
        """y in its place and N(0, 1) around it, which is to be predicted."""
        around = 1 - self.pinv(torch.ones_like(y[:, :1]))
        canvas = self.pinv(y)
        source = torch.where(around > 0, noise_like(canvas, generator=generator), canvas)
        return NetworkInput(source, around)
