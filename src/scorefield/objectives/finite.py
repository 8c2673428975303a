"""Finite differences in place of Jacobian products: no second derivative (Pang et al. 2020)."""

import torch
from torch import Generator, Tensor

from scorefield.errors import UserError
from scorefield.model import Denoiser, HasLogDensity, ScoreModel, score
from scorefield.objectives.directions import check_levels, draw_directions, half_square


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

    The difference stands for sliced score matching's product, with variance reduction; its error is of second
    order in ε/√D, a number's own change, which should stay well below σ. No second derivative is needed.

    Args:
        model: whatever has a score.
        x: noisy images of level σ, (B, …).
        sigma: noise levels, (B,); 0 is for a ScoreNetwork or a density.
        projections: directions w for each image.
        step: ε, the authors' 0.1 being for images of D = 3072.
        generator: source of the directions.

    Returns:
        Losses, (B,); one may be negative.

    Raises:
        UserError: a step that is not positive, no projection, σ < 0, or σ = 0 where there is no score.
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

    Sliced score matching of an energy network without any derivative in x: D times the FD-SSM of Pang et al.
    (2020, §4). Arguments, result and errors are those of `finite_difference_score_matching`, and a UserError
    where the model has no density. A second difference of float32 numbers is taken: keep ε² well above
    1e-7 of abs(log p).
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
    """How far each number moves on average, h = ε/√D, so that w = hv with ‖v‖² = D."""
    if not step > 0:
        raise UserError("step", f"the finite difference needs a positive step, got {step:g}.")
    return step / x[0].numel() ** 0.5
