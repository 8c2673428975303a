"""An operator, a random family of operators, an observation, and how one is shown to a network.

A network that restores is given the degraded image as a source of the image's own size and channels, and
told where to predict. Both come from y = A(x) and the operator; `shown` makes them. An operator that knows
better than the general rule says so by a method of that name.

References:
    Saharia et al. (2022), §4: grey repeated, holes of standard Gaussian noise. https://arxiv.org/abs/2111.05826
"""

import math
from dataclasses import dataclass
from random import Random
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from scorefield.degradations.smooth import smooth_fill
from scorefield.errors import UserError

Hole = float | Literal["smooth"]
"""What a model is shown in holes: noise of that standard deviation (0 is grey), or `smooth_fill`."""


class Degradation(Protocol):
    """One fixed operator y = A(x), the same at every call."""

    def __call__(self, x: Tensor) -> Tensor:
        """A(x), x (B, C, H, W)."""
        ...

    def pinv(self, y: Tensor) -> Tensor:
        """An image that A takes to y: A(pinv(A(x))) = A(x)."""
        ...


class DegradationFamily(Protocol):
    """A distribution of operators."""

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> Degradation:
        """One operator for images of `shape`, (B, C, H, W)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A degraded image as a network that restores sees it.

    Args:
        source: (B, C, H, W), of the whole image's size and channels.
        fill: (B, 1, H, W), 1 where the image is to be predicted and 0 where the source is the image.
    """

    source: Tensor
    fill: Tensor

    def holed(self, hole: Hole) -> "Shown":
        """The same with something else in holes: noise of that standard deviation, or a smooth guess.

        A hole is what is to be predicted of an image of which something is known; an image that is to be
        predicted all over is degraded, and has none.
        """
        if hole == 1:
            return self
        holes = ((self.fill == 0).flatten(1).any(1)[:, None, None, None] & (self.fill > 0)).to(self.fill)
        if hole == "smooth":
            which = holes.flatten(1).any(1)
            source = self.source.clone()
            source[which] = smooth_fill(self.source[which], holes[which])
            return Shown(source=source, fill=self.fill)
        return Shown(source=torch.where(holes > 0, hole * self.source, self.source), fill=self.fill)


@runtime_checkable
class Shows(Protocol):
    """An operator that says itself how what it leaves is shown."""

    def shown(self, y: Tensor, *, generator: Generator) -> Shown:
        """Source and fill of y = A(x), with noise from `generator` where nothing is known."""
        ...


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What is left of images, with the operator that they went through: y = A(x0) + σ_y n.

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


def shown(degradation: Degradation, y: Tensor, *, generator: Generator) -> Shown:
    """How the degraded images y = A(x) are shown to a network that restores them.

    As the operator says (`Shows`); else y where it has a whole image's shape, A⁺y where it has not, and
    all of it to be predicted.

    Args:
        degradation: A.
        y: what is left, (B, C', H', W').
        generator: of the noise in holes.
    """
    if isinstance(degradation, Shows):
        return degradation.shown(y, generator=generator)
    back = degradation.pinv(y)
    return all_to_predict(y if y.shape == back.shape else back)


def all_to_predict(source: Tensor) -> Shown:
    """The source (B, C, H, W) with a fill of 1 everywhere."""
    return Shown(source=source, fill=source.new_ones(len(source), 1, *source.shape[2:]))


def noise_like(y: Tensor, *, generator: Generator) -> Tensor:
    """N(0, I) of y's shape, on its device, drawn where the generator is."""
    return torch.randn(y.shape, generator=generator, device=generator.device).to(y)


def dice(generator: Generator) -> Random:
    """A source of single numbers, seeded by one draw: some twenty times faster than tensors of one number."""
    seed = torch.randint(2**62, (1,), generator=generator, device=generator.device)
    return Random(int(seed.item()))


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
    """Where an operator passes an image's values on as they are, and where it drops them, as a mask does.

    In the first A⁺A x = x to the last bit, whatever x is, in the second 0. That is asked of two random
    images, so that no operator has to say so itself.

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
