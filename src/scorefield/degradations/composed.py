"""Composition of degradations: A = A_n ∘ … ∘ A_1.

A⁺ is the chain A_1⁺ ∘ … ∘ A_n⁺ if it reproduces the observation, A(chain(y)) = y. It does if each part is onto
the domain of the next, as grey, crop and downscaling are; after a mask or a blur it may not. Then

    A⁺y = Aᵀ (A Aᵀ + ε)⁻¹ y

by conjugate gradients (Hestenes & Stiefel 1952), with Aᵀ by automatic differentiation. ε is 0 if this removes
the chain's error in a few steps, as for a mask followed by downscaling. A mask that cuts through a blur has
singular values down to 0; what passed through them is lost in the rounding to 8 bits and would be amplified.
There ε = 0.03², which damps singular values below 0.03, the threshold of `Blur`. The error of A(A⁺y) is then at
most 1 % of y for photographs, and 2 to 5 % for white noise.

The choice is made on one random image for each shape: the first of chain, least squares and damped least
squares that reproduces the observation to `_TOLERANCE`; the last one if it removes a quarter of the chain's
error; else the chain, as for a nonlinear A (JPEG). Later calls reuse the choice and read nothing from the
device, so a sampler's loop never waits for it.

References:
    Hestenes & Stiefel (1952). https://doi.org/10.6028/jres.049.044
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Generator, Tensor

from scorefield.degradations.base import Box, Degradation, Local, NetworkInput, adjoint, network_input
from scorefield.errors import UserError

_TOLERANCE = 1e-4
"""‖A(A⁺y) − y‖/‖y‖, a fortieth of the step between 8-bit values."""
_MAX_STEPS, _DAMPING = 60, 0.03**2


@dataclass(frozen=True, kw_only=True)
class Composed:
    """The operator of several, in the order in which they are applied.

    Args:
        parts: A_1, … A_n.

    Raises:
        UserError: there is no part.
    """

    parts: tuple[Degradation, ...]
    _solvers: dict[tuple[int, ...], tuple[int, float]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if not self.parts:
            raise UserError("degradation", "a composition needs at least one degradation.")

    def __call__(self, x: Tensor) -> Tensor:
        """A_n(… A_1(x))."""
        for part in self.parts:
            x = part(x)
        return x

    def pinv(self, y: Tensor) -> Tensor:
        """The chain of pseudo-inverses or least squares; see the module."""
        chain = self._chain(y)
        shape = tuple(chain.shape[1:])
        if shape not in self._solvers:
            self._solvers[shape] = self._solver(chain)
        steps, damping = self._solvers[shape]
        if steps == 0:
            return chain
        u = next(islice(self._conjugate(y, chain, damping), steps - 1, None))
        return adjoint(self, chain, u)

    def network_input(self, y: Tensor, *, generator: Generator) -> NetworkInput:
        """The last part's source, passed back through the parts before it; a pixel is known if all of them know it."""
        source, known, tables = y, torch.ones_like(y[:, :1]), None
        for part in reversed(self.parts):
            made = network_input(part, source, generator=generator)
            tables = made.tables if part is self.parts[-1] else tables  # the file is what was written last
            whole = known.shape[2:] == made.mask.shape[2:]
            known = (known if whole else part.pinv(known)) * (1 - made.mask)
            source = made.source
        return NetworkInput(source, 1 - known, tables)

    def cut(self, boxes: Sequence[Box]) -> "Composed":
        """The parts, each for the tiles that the part before it leaves.

        Raises:
            ValueError: a part acts on whole images alone.
        """
        parts: list[Degradation] = []
        for part in self.parts:
            if not isinstance(part, Local):
                raise ValueError(f"{type(part).__name__} acts on whole images alone")
            parts.append(part.cut(boxes))
            boxes = [part.part(box) for box in boxes]
        return Composed(parts=tuple(parts))

    def part(self, box: Box) -> Box:
        """Where the last part leaves the tile."""
        for part in self.parts:
            if not isinstance(part, Local):
                raise ValueError(f"{type(part).__name__} acts on whole images alone")
            box = part.part(box)
        return box

    def _chain(self, y: Tensor) -> Tensor:
        for part in reversed(self.parts):
            y = part.pinv(y)
        return y

    def _solver(self, like: Tensor) -> tuple[int, float]:
        """Number of conjugate steps, and ε, for images of `like`'s shape; 0 steps mean the chain."""
        generator = torch.Generator().manual_seed(0)
        x = torch.randn((1, *like.shape[1:]), generator=generator).to(like)
        y = self(x)
        chain, bound = self._chain(y), _TOLERANCE * float(y.norm())
        far = float((self(chain) - y).norm())
        if far <= bound:
            return 0, 0.0
        for step, u in enumerate(islice(self._conjugate(y, chain, 0.0), _MAX_STEPS)):
            if float((self(adjoint(self, chain, u)) - y).norm()) <= bound:
                return step + 1, 0.0
        u = next(islice(self._conjugate(y, chain, _DAMPING), _MAX_STEPS - 1, None))
        near = float((self(adjoint(self, chain, u)) - y).norm())
        return (_MAX_STEPS, _DAMPING) if near < 0.75 * far else (0, 0.0)

    def _conjugate(self, y: Tensor, like: Tensor, damping: float) -> Iterator[Tensor]:
        """Iterates u of (A Aᵀ + ε) u = y, for each image of a batch by itself."""
        u, residual = torch.zeros_like(y), y
        direction, square = residual, _dot(residual, residual)
        while True:
            image = self(adjoint(self, like, direction)) + damping * direction
            length = _over(square, _dot(direction, image))
            u, residual = u + length * direction, residual - length * image
            before, square = square, _dot(residual, residual)
            direction = residual + _over(square, before) * direction
            yield u


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner products, (B, 1, 1, 1)."""
    return (a * b).sum((1, 2, 3), keepdim=True)


def _over(a: Tensor, b: Tensor) -> Tensor:
    """a/b, and 0 where b is 0."""
    return torch.where(b > 0, a / b.clamp(min=torch.finfo(b.dtype).tiny), 0)
