"""Sliced score matching: the Jacobian seen along random directions (Song et al. 2019)."""

from torch import Generator, Tensor

from scorefield.model import Denoiser
from scorefield.objectives.directions import Distribution, draw_directions, half_square
from scorefield.objectives.jacobian import pulled_back, score_of


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
    """vᵀ ∇s v + ½ (vᵀs)², mean over K directions v (Song et al. 2019, §3; Song & Ermon 2019, eq. 3).

    With variance reduction ½ ‖s‖², its mean over v, stands for the second term.

    Args:
        model: whatever has a score.
        x: noisy images of level σ, (B, …).
        sigma: noise levels, (B,); 0 is for a ScoreNetwork or a density.
        projections: K, directions for each image.
        distribution: of v, all with E v vᵀ = I: "rademacher" (±1), "gaussian" N(0, I), or "sphere", uniform at
            ‖v‖ = √D. The first makes no error where ∇s is diagonal.
        variance_reduced: whether ½ ‖s‖² is exact.
        generator: source of the directions.

    Returns:
        Losses, (B,); one may be negative.

    Raises:
        UserError: an unknown distribution, no projection, σ < 0, or σ = 0 where the model has no score there.
    """
    v = draw_directions(x, projections, distribution, generator)
    s, x = score_of(model, x, sigma)
    curvature = (pulled_back(s, x, v) * v).flatten(2).sum(2)
    if variance_reduced:
        return curvature.mean(0) + half_square(s)
    return (curvature + (v * s).flatten(2).sum(2) ** 2 / 2).mean(0)
