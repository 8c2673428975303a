"""An operator, a random family of operators, and an observation."""

from dataclasses import dataclass
from typing import Protocol

from torch import Generator, Tensor


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
    """What is left of pictures, with the operator that they went through.

    Args:
        y: A(x), (B, C, H, W), in the model's value range.
        degradation: A.
    """

    y: Tensor
    degradation: Degradation
