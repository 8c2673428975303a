"""Several degradations, one after another: A = A_n ∘ … ∘ A_1.

A⁺ is the chain A_1⁺ ∘ … ∘ A_n⁺ where that gives back what was seen, A(chain(y)) = y. It does where each part
reaches all that the next can take, as grey, crop and smaller size do; after a mask or a blur it may not. Then

    A⁺y = Aᵀ (A Aᵀ + ε)⁻¹ y

by conjugate gradients (Hestenes & Stiefel 1952), with Aᵀ by automatic differentiation. ε is 0 if so the
chain's error can be taken away in a few steps, as for a mask and then a smaller size. Where a mask cuts
through a blur, there are singular values down to 0: what was seen through them is lost in the rounding to 8
bits and would only be enlarged. There ε = 0.03², which weakens what A weakens below 0.03, as `Blur` cuts it
off; A(A⁺y) is then off by 1 % of y or less for photographs, and by 2 to 5 % for white noise.

Which it is, is measured on one random image for each shape: the first of chain, least squares, and damped
least squares that gives back what was seen to `_TOLERANCE`; the last if it takes away a quarter of the
chain's error or more; else the chain again, as where A is not linear (JPEG). Later calls repeat the
decision and ask nothing of the device, so that a sampler's loop stays free of waiting.

References:
    Hestenes & Stiefel (1952). https://doi.org/10.6028/jres.049.044
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Generator, Tensor

from scorefield.degradations.base import Degradation, Shown, adjoint, shown
from scorefield.errors import UserError

_TOLERANCE = 1e-4
"""‖A(A⁺y) − y‖/‖y‖, a fortieth of the step between 8-bit values."""
_MOST, _DAMPING = 60, 0.03**2


@dataclass(frozen=True, kw_only=True)
class Composed:
    """The operator of several, in the order in which they happened.

    Args:
        parts: A_1, … A_n.

    Raises:
        UserError: no part.
    """

    parts: tuple[Degradation, ...]
    _ways: dict[tuple[int, ...], tuple[int, float]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.parts:
            raise UserError("degradation", "nothing is composed of no degradation at all.")

    def __call__(self, x: Tensor) -> Tensor:
        """A_n(… A_1(x))."""
        for part in self.parts:
            x = part(x)
        return x

    def pinv(self, y: Tensor) -> Tensor:
        """The chain of pseudo-inverses or least squares; see the module."""
        chain = self._chain(y)
        shape = tuple(chain.shape[1:])
        if shape not in self._ways:
            self._ways[shape] = self._way(chain)
        steps, damping = self._ways[shape]
        if steps == 0:
            return chain
        u = next(islice(self._conjugate(y, chain, damping), steps - 1, None))
        return adjoint(self, chain, u)

    def shown(self, y: Tensor, *, generator: Generator) -> Shown:
        """What the last part shows, shown by the one before, and so on: known is what all of them know."""
        source, known = y, torch.ones_like(y[:, :1])
        for part in reversed(self.parts):
            seen = shown(part, source, generator=generator)
            whole = known.shape[2:] == seen.fill.shape[2:]
            known = (known if whole else part.pinv(known)) * (1 - seen.fill)
            source = seen.source
        return Shown(source=source, fill=1 - known)

    def _chain(self, y: Tensor) -> Tensor:
        for part in reversed(self.parts):
            y = part.pinv(y)
        return y

    def _way(self, like: Tensor) -> tuple[int, float]:
        """How many conjugate steps, and ε, for images of `like`'s shape; no step stands for the chain."""
        generator = torch.Generator().manual_seed(0)
        x = torch.randn((1, *like.shape[1:]), generator=generator).to(like)
        y = self(x)
        chain, bound = self._chain(y), _TOLERANCE * float(y.norm())
        far = float((self(chain) - y).norm())
        if far <= bound:
            return 0, 0.0
        for step, u in enumerate(islice(self._conjugate(y, chain, 0.0), _MOST)):
            if float((self(adjoint(self, chain, u)) - y).norm()) <= bound:
                return step + 1, 0.0
        u = next(islice(self._conjugate(y, chain, _DAMPING), _MOST - 1, None))
        near = float((self(adjoint(self, chain, u)) - y).norm())
        return (_MOST, _DAMPING) if near < 0.75 * far else (0, 0.0)

    def _conjugate(self, y: Tensor, like: Tensor, damping: float) -> Iterator[Tensor]:
        """Yield u, ever nearer to (A Aᵀ + ε) u = y, each image of a batch by itself."""
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
    """A/b, and 0 where nothing is left to divide."""
    return torch.where(b > 0, a / b.clamp(min=torch.finfo(b.dtype).tiny), 0)
