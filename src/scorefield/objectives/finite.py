"""Score matching by finite differences, without second derivatives (Pang et al. 2020)."""

import torch
from torch import Generator, Tensor

from scorefield.errors import UserError
from scorefield.model import Denoiser, HasLogDensity, ScoreModel, score
from scorefield.objectives.explicit import check_levels, half_square
from scorefield.objectives.sliced import draw_directions

__all__ = ["finite_difference_density_matching", "finite_difference_score_matching"]


def finite_difference_score_matching(
    model: Denoiser,
    x: Tensor,
    sigma: Tensor,
    *,
    projections: int = 1,
    step: float = 0.1,
    generator: Generator,
) -> Tensor:
    """D/(2ε²) wᵀ(s(x+w) − s(x−w)) + ⅛ ‖s(x+w) + s(x−w)‖², w uniform at ‖w‖ = ε (Pang et al. 2020, §4).

    The difference replaces the Jacobian–vector product of sliced score matching with variance reduction. Its error
    is of second order in ε/√D, the change of each number, which should stay well below σ.

    Args:
        model: a ScoreModel, a ScoreNetwork or a density.
        x: noisy images of level σ, (B, …).
        sigma: noise levels, (B,); σ = 0 needs a ScoreNetwork or a density.
        projections: directions w per image.
        step: ε; the authors' 0.1 is for images of D = 3072.
        generator: source of the directions.

    Returns:
        Losses, (B,); one may be negative.

    Raises:
        UserError: a step that is not positive, projections < 1, σ < 0, or σ = 0 of a model without a score there.
    """
    check_levels(model, sigma)
    h, unit = _small(step, x), draw_directions(x, projections, "sphere", generator)
    total = torch.zeros_like(sigma)
    for v in unit:
        ahead, behind = score(model, x + h * v, sigma), score(model, x - h * v, sigma)
        total = total + (v * (ahead - behind)).flatten(1).sum(1) / (2 * h) + half_square(ahead + behind) / 4
    return total / projections


def finite_difference_density_matching(
    model: HasLogDensity,
    x: Tensor,
    sigma: Tensor,
    *,
    projections: int = 1,
    step: float = 0.1,
    generator: Generator,
) -> Tensor:
    """D/ε² [log p(x+w) + log p(x−w) − 2 log p(x) + ⅛ (log p(x+w) − log p(x−w))²], for densities.

    Sliced score matching of an energy network without derivatives in x: D times the FD-SSM of Pang et al. (2020,
    §4). The arguments are those of `finite_difference_score_matching`; a model without a density is a UserError.
    The result is a second difference of float32 numbers: keep ε² well above 1e-7 abs(log p).
    """
    if isinstance(model, ScoreModel):
        check_levels(model, sigma)
    h, unit = _small(step, x), draw_directions(x, projections, "sphere", generator)
    middle, total = model.log_density(x, sigma), torch.zeros_like(sigma)
    for v in unit:
        ahead, behind = model.log_density(x + h * v, sigma), model.log_density(x - h * v, sigma)
        total = total + (ahead + behind - 2 * middle + (ahead - behind) ** 2 / 8) / h**2
    return total / projections


def _small(step: float, x: Tensor) -> float:
    """h = ε/√D, the mean change of a number, so that w = hv with ‖v‖² = D."""
    if not step > 0:
        raise UserError("step", f"the finite difference needs a positive step, got {step:g}.")
    return step / x[0].numel() ** 0.5
