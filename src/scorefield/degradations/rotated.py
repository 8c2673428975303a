"""A degradation of the stored image, for the upright one: A'(x) = T A(T⁻¹ x), T a rotation or reflection.

Cameras store images as the sensor was held and record its orientation (EXIF, 1 to 8). JPEG's blocks lie in
the stored image; images are read upright.

References:
    CIPA DC-008 (Exif 2.32), §4.6.4, Orientation. https://www.cipa.jp/std/documents/e/DC-X008-Translation-2019-E.pdf
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from scorefield.degradations.base import Degradation, NetworkInput, network_input
from scorefield.errors import UserError

_TURNS: dict[int, tuple[int, tuple[int, ...]]] = {
    1: (0, ()),
    2: (0, (-1,)),
    3: (2, ()),
    4: (0, (-2,)),
    5: (1, (-2,)),
    6: (3, ()),
    7: (1, (-1,)),
    8: (1, ()),
}
"""EXIF orientation → counterclockwise quarter turns, and the axes flipped after them."""


@dataclass(frozen=True, kw_only=True)
class Rotated:
    """The operator on upright images of a degradation of the stored image.

    Args:
        degradation: A, on the image as it is stored.
        orientation: EXIF's number.

    Raises:
        UserError: no such orientation.
    """

    degradation: Degradation
    orientation: int

    def __post_init__(self) -> None:
        if self.orientation not in _TURNS:
            raise UserError("orientation", f"EXIF numbers them 1 to 8, got {self.orientation}.")

    def __call__(self, x: Tensor) -> Tensor:
        """T A(T⁻¹ x)."""
        return upright(self.degradation(stored(x, self.orientation)), self.orientation)

    def pinv(self, y: Tensor) -> Tensor:
        """T A⁺(T⁻¹ y)."""
        return upright(self.degradation.pinv(stored(y, self.orientation)), self.orientation)

    def network_input(self, y: Tensor, *, generator: Generator) -> NetworkInput:
        """The input that A makes, rotated."""
        made = network_input(self.degradation, stored(y, self.orientation), generator=generator)
        tables = None if made.tables is None else upright_tables(made.tables, self.orientation)
        return NetworkInput(upright(made.source, self.orientation), upright(made.mask, self.orientation), tables)


def upright(x: Tensor, orientation: int) -> Tensor:
    """T: the image (…, H, W) as it is seen, from the stored one."""
    turns, mirrored = _TURNS[orientation]
    return torch.rot90(x, turns, (-2, -1)).flip(mirrored)


def stored(x: Tensor, orientation: int) -> Tensor:
    """T⁻¹: the image (…, H, W) as it is stored, from the upright one."""
    turns, mirrored = _TURNS[orientation]
    return torch.rot90(x.flip(mirrored), -turns, (-2, -1))


def upright_tables(tables: Tensor, orientation: int) -> Tensor:
    """Quantisation steps, (B, 128), in the axes of the upright image: orientations 5 to 8 exchange the two."""
    return tables.unflatten(1, (2, 8, 8)).mT.flatten(1) if orientation in (5, 6, 7, 8) else tables
