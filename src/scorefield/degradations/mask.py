"""Masks: missing pixels. White (1) is what is to be filled, everywhere.

A(x) = (1 − m) ⊙ x,     pinv(y) = y.

References:
    Saharia et al. (2022), §4: uncropping. https://arxiv.org/abs/2111.05826
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Generator, Tensor

from scorefield.degradations.base import Box, NetworkInput, SameSize, fast_rng, noise_like
from scorefield.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Mask(SameSize):
    """The operator that blanks the pixels under a mask m.

    Args:
        mask: m, 1 where a pixel is missing and 0 where it is known, (1 or B, 1, H, W).
    """

    mask: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """(1 − m) ⊙ x, (B, C, H, W)."""
        return x * (1 - self.mask.to(x))

    def pinv(self, y: Tensor) -> Tensor:
        """y itself."""
        return y

    def network_input(self, y: Tensor, *, generator: Generator) -> NetworkInput:
        """N(0, 1) under the mask; the masked pixels are to be predicted."""
        mask = self.mask.to(y).expand(len(y), -1, -1, -1)
        return NetworkInput(torch.where(mask > 0, noise_like(y, generator=generator), y), mask)

    def cut(self, boxes: Sequence[Box]) -> Self:
        """The mask of each tile, (B, 1, h, w)."""
        return replace(self, mask=torch.cat([self.mask[(..., *box.slices)] for box in boxes]))


@dataclass(frozen=True, kw_only=True)
class CenterBox:
    """A box in the middle.

    Args:
        share: its side as a share of the image's.
    """

    share: float = 0.5

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> Mask:
        """The same box each time; (1, 1, H, W)."""
        h, w = shape[-2:]
        bh, bw = max(1, round(h * self.share)), max(1, round(w * self.share))
        mask = torch.zeros(1, 1, h, w)
        mask[..., (h - bh) // 2 : (h - bh) // 2 + bh, (w - bw) // 2 : (w - bw) // 2 + bw] = 1
        return Mask(mask=mask)


@dataclass(frozen=True, kw_only=True)
class Side:
    """A share of the image at one side, half of it by default.

    Args:
        side: left, right, top or bottom.
        share: of the width or height.
    """

    side: str = "bottom"
    share: float = 0.5

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> Mask:
        """The same pixels each time; (1, 1, H, W).

        Raises:
            UserError: no such side.
        """
        h, w = shape[-2:]
        dh, dw = max(1, round(h * self.share)), max(1, round(w * self.share))
        cuts = {
            "left": (slice(None), slice(0, dw)),
            "right": (slice(None), slice(w - dw, w)),
            "top": (slice(0, dh), slice(None)),
            "bottom": (slice(h - dh, h), slice(None)),
        }
        if self.side not in cuts:
            raise UserError("side", f"no such side {self.side!r}.", f"Known: {', '.join(cuts)}.")
        mask = torch.zeros(1, 1, h, w)
        mask[(..., *cuts[self.side])] = 1
        return Mask(mask=mask)


@dataclass(frozen=True, kw_only=True)
class Uncropping:
    """Uncropping: a random side in half of the draws, a frame around the image in the other half.

    Args:
        share: of the image's area that is missing; half in Palette.

    Raises:
        UserError: the share is not between 0 and 1.
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise UserError("uncropping", f"a share lies between 0 and 1, got {self.share:g}.")

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> Mask:
        """A side, or a frame of the image's aspect; (1, 1, H, W)."""
        rng = fast_rng(generator)
        if rng.random() < 0.5:
            side = rng.choice(("left", "right", "top", "bottom"))
            return Side(side=side, share=self.share).draw(shape, generator=generator)
        h, w = shape[-2:]
        height = min(max(1, round(h * (1 - self.share) ** 0.5)), h)
        width = min(max(1, round(h * w * (1 - self.share) / height)), w)
        top, left = (h - height) // 2, (w - width) // 2
        mask = torch.ones(1, 1, h, w)
        mask[..., top : top + height, left : left + width] = 0
        return Mask(mask=mask)
