"""An operator, a random family of operators, and an observation."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from scorefield.errors import UserError


class Degradation(Protocol):
    """One fixed operator y = A(x), the same at every call."""

    def __call__(self, x: Tensor) -> Tensor:
        """A(x), x (B, C, H, W)."""
        ...

    def pinv(self, y: Tensor) -> Tensor:
        """A picture that A takes to y: A(pinv(A(x))) = A(x)."""
        ...


class DegradationFamily(Protocol):
    """A law of operators."""

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> Degradation:
        """One operator for pictures of `shape`, (B, C, H, W)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What is left of pictures, with the operator that they went through: y = A(x0) + σ_y n.

    Args:
        y: (B, C, H, W), in the model's value range.
        degradation: A.
        noise: σ_y, the standard deviation of Gaussian noise in y; 0 if there is none.

    Raises:
        UserError: σ_y is negative or no number.
    """

    y: Tensor
    degradation: Degradation
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.noise < math.inf:
            raise UserError("noise", f"a standard deviation is 0 or more, got {self.noise:g}.")


def adjoint(degradation: Degradation, x: Tensor, v: Tensor) -> Tensor:
    """Aᵀv, for a linear A whatever x is; else the derivative of A at x, transposed, times v.

    By automatic differentiation, so that no operator states its adjoint.

    Args:
        degradation: A.
        x: where, (B, C, H, W).
        v: of A(x)'s shape.
    """
    with torch.inference_mode(False), torch.enable_grad():
        at = x.detach().clone().requires_grad_()
        (pulled,) = torch.autograd.grad(degradation(at), at, v)
    return pulled


def known_pixels(degradation: Degradation, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Where an operator passes a picture's values on as they are, and where it drops them, as a mask does.

    In the first A⁺A x = x to the last bit, whatever x is, in the second 0. That is asked of two random
    pictures, so that no operator has to say so itself.

    Args:
        degradation: A.
        shape: (B, C, H, W).

    Returns:
        Both bool, (B, C, H, W).
    """
    generator = torch.Generator().manual_seed(0)
    probes = [torch.rand(shape, generator=generator) * 2 - 1 for _ in range(2)]
    back = [degradation.pinv(degradation(x)) for x in probes]
    known = [b == x for b, x in zip(back, probes, strict=True)]
    return known[0] & known[1], (back[0] == 0) & (back[1] == 0)
