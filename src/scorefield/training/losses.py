r"""The losses of a batch, by a recipe's objective, all on one scale.

The loss of denoising is, per pixel and with NCSN's weight λ(σ) = σ², E‖(D(x; σ) − x0)/σ‖²/d for an image of
d numbers, x = x0 + σn. The other objectives, J(σ) = E[tr ∇s(x) + ½‖s(x)‖²] in one form or another, see the
noisy image x alone. As E[n·s(x0 + σn)] = σ E[tr ∇s(x)] (Stein's lemma),

    E‖(D(x; σ) − x0)/σ‖²/d = E‖σ s(x) + n‖²/d = (2σ²/d) J(σ) + 1.

The right side is what is returned for them: learning rates, clipping and curves mean the same for every
objective.

References:
    Song & Ermon (2019), eqs. 1–6. https://arxiv.org/abs/1907.05600
    Vincent (2011), App. (the two objectives differ by a constant). https://doi.org/10.1162/NECO_a_00142
    Ho & Salimans (2022), Algorithm 1. https://arxiv.org/abs/2207.12598
"""

import torch
from torch import Generator, Tensor

from scorefield.model import Condition, GivenModel, ScoreModel, expand
from scorefield.objectives import (
    denoising_score_matching,
    explicit_score_matching,
    output_weight,
    sliced_score_matching,
)
from scorefield.training.settings import DenoisingObjective, ExplicitObjective, SlicedObjective

AnyObjective = DenoisingObjective | SlicedObjective | ExplicitObjective


def image_losses(
    objective: AnyObjective,
    model: ScoreModel,
    x0: Tensor,
    sigma: Tensor,
    *,
    condition: Condition | None = None,
    generator: Generator,
) -> Tensor:
    """The loss of every image, (B,).

    Args:
        objective: which loss.
        model: what is trained.
        x0: clean images, (B, C, H, W), in the model's value range.
        sigma: noise levels, (B,).
        condition: what the model is told of the images.
        generator: source of the noise, and of the random directions.
    """
    if isinstance(objective, DenoisingObjective):
        plain = denoising_score_matching(model, x0, sigma, condition=condition, p=objective.p, generator=generator)
        return plain * output_weight(model, sigma, p=objective.p) if objective.weight == "output" else plain
    noise = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
    x = x0 + expand(sigma, x0) * noise
    denoiser = model if condition is None else GivenModel(model=model, condition=condition)
    if isinstance(objective, ExplicitObjective):
        matched = explicit_score_matching(denoiser, x, sigma)
    else:
        matched = sliced_score_matching(
            denoiser,
            x,
            sigma,
            projections=objective.projections,
            distribution=objective.distribution,
            variance_reduced=objective.variance_reduced,
            generator=generator,
        )
    return 2 * sigma**2 / x0[0].numel() * matched + 1


def classes_told(classes: Tensor | None, drop: float, *, generator: Generator) -> Condition | None:
    """The condition of a batch: its classes, each left out with probability `drop`.

    So one network learns p(x | c) and p(x) (Ho & Salimans 2022, Algorithm 1, p_uncond).

    Args:
        classes: (B,), int64, or None for images without.
        drop: from 0 to 1.
        generator: says which are left out.
    """
    if classes is None:
        return None
    left_out = torch.rand(len(classes), generator=generator, device=classes.device) < drop
    return Condition(classes=classes.masked_fill(left_out, -1))
