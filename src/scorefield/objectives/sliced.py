"""Sliced score matching: the Jacobian along random directions with E v vᵀ = I (Song et al. 2019)."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Generator, Tensor

from scorefield.errors import UserError, did_you_mean
from scorefield.model import Denoiser
from scorefield.objectives.explicit import half_square, pulled_back, score_and_leaf

__all__ = ["Distribution", "draw_directions", "hutchinson_score_matching", "sliced_score_matching"]

Distribution = Literal["rademacher", "gaussian", "sphere"]
"""The distribution of the random directions v, E[v vᵀ] = I."""


def sliced_score_matching(
    model: Denoiser,
    x: Tensor,
    sigma: Tensor,
    *,
    projections: int = 1,
    distribution: Distribution = "rademacher",
    variance_reduced: bool = True,
    generator: Generator,
) -> Tensor:
    """vᵀ ∇s v + ½ (vᵀs)², averaged over K directions v (Song et al. 2019, §3; Song & Ermon 2019, eq. 3).

    Variance reduction replaces the second term by its expectation ½ ‖s‖².

    Args:
        model: a ScoreModel, a ScoreNetwork or a density.
        x: noisy images of level σ, (B, …).
        sigma: noise levels, (B,); σ = 0 needs a ScoreNetwork or a density.
        projections: K, directions per image.
        distribution: of v, all with E v vᵀ = I: "rademacher" (±1), "gaussian" N(0, I), or "sphere", uniform at
            ‖v‖ = √D. Rademacher is exact where ∇s is diagonal.
        variance_reduced: whether the second term is ½ ‖s‖².
        generator: source of the directions.

    Returns:
        Losses, (B,); one may be negative.

    Raises:
        UserError: an unknown distribution, projections < 1, σ < 0, or σ = 0 of a model without a score there.
    """
    v = draw_directions(x, projections, distribution, generator)
    s, x = score_and_leaf(model, x, sigma)
    curvature = (pulled_back(s, x, v) * v).flatten(2).sum(2)
    if variance_reduced:
        return curvature.mean(0) + half_square(s)
    return (curvature + (v * s).flatten(2).sum(2) ** 2 / 2).mean(0)


def hutchinson_score_matching(
    model: Denoiser,
    x: Tensor,
    sigma: Tensor,
    *,
    projections: int = 1,
    distribution: Distribution = "rademacher",
    generator: Generator,
) -> Tensor:
    """vᵀ ∇s v + ½ ‖s‖², averaged over K directions v: the trace by Hutchinson's estimate (1989).

    This is `sliced_score_matching` with variance reduction (Song et al. 2019); see there for the arguments.
    """
    return sliced_score_matching(
        model, x, sigma, projections=projections, distribution=distribution, variance_reduced=True, generator=generator
    )


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
