"""Operators, random families of operators, observations, and the input of a conditional network.

An operator y = A(x) is fixed: it gives the same y at every call. A conditional network receives a source of
the image's own size and channels, and a mask of what it is to predict. Both come from y and the operator;
`network_input` makes them. An operator with a rule of its own has a method of that name.

References:
    Saharia et al. (2022), §4: grey repeated, masked pixels of N(0, 1). https://arxiv.org/abs/2111.05826
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple, Protocol, Self, runtime_checkable

import torch
from torch import Generator, Tensor

from scorefield.degradations.smooth import smooth_fill
from scorefield.errors import UserError

MaskedInput = float | Literal["smooth"]
"""How masked pixels enter a network: Gaussian noise of this std (0 is grey), or interpolated from the border."""


class Box(NamedTuple):
    """A rectangle of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


class Degradation(Protocol):
    """One fixed operator y = A(x), the same at every call."""

    def __call__(self, x: Tensor) -> Tensor:
        """A(x), x (B, C, H, W)."""
        ...

    def pinv(self, y: Tensor) -> Tensor:
        """An image that A maps to y: A(pinv(A(x))) = A(x)."""
        ...


class DegradationFamily(Protocol):
    """A distribution of operators."""

    def draw(self, shape: tuple[int, ...], *, generator: Generator) -> Degradation:
        """One operator for images of `shape`, (B, C, H, W)."""
        ...


class NetworkInput(NamedTuple):
    """The inputs of a conditional network besides x and σ.

    Args:
        source: (B, C, H, W), of the whole image's size and channels.
        mask: (B, 1, H, W), 1 where the image is to be predicted, 0 where it equals the source.
    """

    source: Tensor
    mask: Tensor


@runtime_checkable
class HasNetworkInput(Protocol):
    """An operator with its own rule for the network's input."""

    def network_input(self, y: Tensor, *, generator: Generator) -> NetworkInput:
        """Source and mask of y = A(x), with N(0, 1) from `generator` where nothing is known."""
        ...


@runtime_checkable
class Local(Protocol):
    """An operator that acts on a part of an image as on the whole, so that the image can be cut into tiles."""

    def cut(self, boxes: Sequence[Box]) -> Degradation:
        """The operator for a batch of tiles of one size, one for each box."""
        ...

    def part(self, box: Box) -> Box:
        """Where in y the tile's observation lies."""
        ...


class SameSize:
    """The methods of an operator that keeps size and place of every pixel, and treats a tile like the whole."""

    def network_input(self, y: Tensor, *, generator: Generator) -> NetworkInput:
        """The source is y; every pixel is to be predicted."""
        return predict_all(y)

    def cut(self, boxes: Sequence[Box]) -> Self:
        """The same operator."""
        return self

    def part(self, box: Box) -> Box:
        """The same box."""
        return box


@dataclass(frozen=True, kw_only=True)
class Observation:
    """A degraded image and its operator: y = A(x0) + σ_y n.

    Args:
        y: (B, C, H, W), in the model's value range.
        degradation: A.
        noise: σ_y, the std of Gaussian noise in y, in the model's range; 0 if there is none.
        network_input: source and mask for a conditional network, if they were made beforehand.

    Raises:
        UserError: σ_y is negative or not a number.
    """

    y: Tensor
    degradation: Degradation
    noise: float = 0.0
    network_input: NetworkInput | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.noise < math.inf:
            raise UserError("noise", f"a standard deviation is 0 or more, got {self.noise:g}.")


def network_input(
    degradation: Degradation, y: Tensor, *, generator: Generator, masked_input: MaskedInput = 1.0
) -> NetworkInput:
    """Source and mask that a conditional network receives for y = A(x).

    They follow the operator's own rule (`HasNetworkInput`). Without one, the source is y if it has the whole
    image's shape, else A⁺y, and every pixel is to be predicted.

    Args:
        degradation: A.
        y: the degraded images, (B, C', H', W').
        generator: of the noise in masked pixels.
        masked_input: how masked pixels enter the network.
    """
    if isinstance(degradation, HasNetworkInput):
        made = degradation.network_input(y, generator=generator)
    else:
        back = degradation.pinv(y)
        made = predict_all(y if y.shape == back.shape else back)
    return with_masked_input(made, masked_input)


def with_masked_input(made: NetworkInput, masked_input: MaskedInput) -> NetworkInput:
    """The same with other values in masked pixels.

    An image of which every pixel is to be predicted is degraded rather than masked; it stays as it is.

    Args:
        made: with noise of std 1 in masked pixels.
        masked_input: std of the noise, or "smooth".
    """
    if masked_input == 1:
        return made
    source, mask = made
    masked = ((mask == 0).flatten(1).any(1)[:, None, None, None] & (mask > 0)).to(mask)
    if masked_input == "smooth":
        which = masked.flatten(1).any(1)
        source = source.clone()
        source[which] = smooth_fill(source[which], masked[which])
        return NetworkInput(source, mask)
    return NetworkInput(torch.where(masked > 0, masked_input * source, source), mask)


def predict_all(source: Tensor) -> NetworkInput:
    """The source (B, C, H, W) with a mask of 1 everywhere."""
    return NetworkInput(source, source.new_ones(len(source), 1, *source.shape[2:]))


def noise_like(y: Tensor, *, generator: Generator) -> Tensor:
    """N(0, I) of y's shape, on its device, drawn on the generator's device."""
    return torch.randn(y.shape, generator=generator, device=generator.device).to(y)


def fast_rng(generator: Generator) -> Random:
    """Python's generator, seeded by one draw: single numbers come about twenty times faster than as tensors."""
    seed = torch.randint(2**62, (1,), generator=generator, device=generator.device)
    return Random(int(seed.item()))


def adjoint(degradation: Degradation, x: Tensor, v: Tensor) -> Tensor:
    """Aᵀv for a linear A, whatever x is; else the transposed derivative of A at x, times v.

    By automatic differentiation, so no operator has to state its adjoint.

    Args:
        degradation: A.
        x: the point of the derivative, (B, C, H, W).
        v: of A(x)'s shape.
    """
    with torch.inference_mode(False), torch.enable_grad():
        at = x.detach().clone().requires_grad_()
        (pulled,) = torch.autograd.grad(degradation(at), at, v)
    return pulled


def known_pixels(degradation: Degradation, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Where an operator keeps an image's values exactly, and where it drops them, as a mask does.

    In the first A⁺A x = x to the last bit for every x, in the second 0. Two random images decide, so no
    operator has to say so itself.

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
