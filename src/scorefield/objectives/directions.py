"""Random directions with E v vᵀ = I, and the parts that all score objectives share."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Generator, Tensor

from scorefield.errors import UserError, did_you_mean
from scorefield.model import Denoiser, PredictsScore

__all__ = ["Distribution", "check_levels", "draw_directions", "half_square"]

Distribution = Literal["rademacher", "gaussian", "sphere"]
"""The distribution of the random directions v, E[v vᵀ] = I."""


def check_levels(model: Denoiser, sigma: Tensor) -> None:
    """Check that the model has a score at every σ.

    Raises:
        UserError: σ < 0, or σ = 0 and the model divides by it.
    """
    lowest = float(sigma.min())
    if lowest < 0 or (lowest == 0 and not isinstance(model, PredictsScore)):
        raise UserError(
            "sigma",
            f"the model has no score at σ = {lowest:g}.",
            "Noise levels are positive; for clean data at σ = 0 wrap the network in a ScoreNetwork.",
        )


def half_square(s: Tensor) -> Tensor:
    """½ ‖s‖² per image, (B,)."""
    return s.square().flatten(1).sum(1) / 2


def _rademacher(z: Tensor) -> Tensor:
    return torch.where(z < 0, -1.0, 1.0).to(z.dtype)


def _gaussian(z: Tensor) -> Tensor:
    return z


def _sphere(z: Tensor) -> Tensor:
    flat = z.flatten(2)
    return (flat * (flat.shape[2] ** 0.5 / flat.norm(dim=2, keepdim=True))).reshape(z.shape)


_DISTRIBUTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "rademacher": _rademacher,
    "gaussian": _gaussian,
    "sphere": _sphere,
}


def draw_directions(x: Tensor, projections: int, distribution: str, generator: Generator) -> Tensor:
    """K directions v per image, (K, B, …), with E v vᵀ = I.

    Raises:
        UserError: projections < 1, or an unknown distribution.
    """
    if projections < 1:
        raise UserError("projections", f"at least one direction, got {projections}.")
    if distribution not in _DISTRIBUTIONS:
        raise UserError(
            "distribution",
            f"no such distribution of directions {distribution!r}.",
            did_you_mean(distribution, _DISTRIBUTIONS),
        )
    z = torch.randn((projections, *x.shape), generator=generator, device=x.device, dtype=x.dtype)
    return _DISTRIBUTIONS[distribution](z)
