"""Degradation done before an image was turned upright: A'(x) = T A(T⁻¹ x), T a turn or a mirror image.

Cameras store images as they were held and say so (EXIF orientation, 1 to 8). JPEG's blocks lie in the
image as it is stored; what is read is upright.

References:
    CIPA DC-008 (Exif 2.32), §4.6.4, Orientation. https://www.cipa.jp/std/documents/e/DC-X008-Translation-2019-E.pdf
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from scorefield.degradations.base import Degradation, Shown, shown
from scorefield.errors import UserError

_WAYS: dict[int, tuple[int, tuple[int, ...]]] = {
    1: (0, ()),
    2: (0, (-1,)),
    3: (2, ()),
    4: (0, (-2,)),
    5: (1, (-2,)),
    6: (3, ()),
    7: (1, (-1,)),
    8: (1, ()),
}
"""EXIF orientation → quarter turns against the clock, and the axes mirrored after them."""


@dataclass(frozen=True, kw_only=True)
class Turned:
    """The operator of a degradation that a stored image went through, for the upright one.

    Args:
        degradation: A, of the image as it is stored.
        orientation: EXIF's number.

    Raises:
        UserError: no such orientation.
    """

    degradation: Degradation
    orientation: int

    def __post_init__(self) -> None:
        if self.orientation not in _WAYS:
            raise UserError("orientation", f"EXIF numbers them 1 to 8, got {self.orientation}.")

    def __call__(self, x: Tensor) -> Tensor:
        """T A(T⁻¹ x)."""
        return self._upright(self.degradation(self._stored(x)))

    def pinv(self, y: Tensor) -> Tensor:
        """T A⁺(T⁻¹ y)."""
        return self._upright(self.degradation.pinv(self._stored(y)))

    def shown(self, y: Tensor, *, generator: Generator) -> Shown:
        """As A's own, turned."""
        seen = shown(self.degradation, self._stored(y), generator=generator)
        return Shown(source=self._upright(seen.source), fill=self._upright(seen.fill))

    def _upright(self, x: Tensor) -> Tensor:
        turns, mirrored = _WAYS[self.orientation]
        return torch.rot90(x, turns, (-2, -1)).flip(mirrored)

    def _stored(self, x: Tensor) -> Tensor:
        turns, mirrored = _WAYS[self.orientation]
        return torch.rot90(x.flip(mirrored), -turns, (-2, -1))
