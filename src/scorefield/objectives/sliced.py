"""Sliced score matching: the Jacobian along random directions (Song et al. 2019)."""

from torch import Generator, Tensor

from scorefield.model import Denoiser
from scorefield.objectives.directions import Distribution, draw_directions, half_square
from scorefield.objectives.jacobian import pulled_back, score_and_leaf

__all__ = ["sliced_score_matching"]


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
