r"""The losses of a batch, by a recipe's objective, all on one scale.

The loss of denoising is, per pixel and with NCSN's weight λ(σ) = σ², E‖(D(x; σ) − x0)/σ‖²/d for a picture of
d numbers, x = x0 + σn. The other objectives, J(σ) = E[tr ∇s(x) + ½‖s(x)‖²] in one form or another, see the
noisy picture x alone. As E[n·s(x0 + σn)] = σ E[tr ∇s(x)] (Stein's lemma),

    E‖(D(x; σ) − x0)/σ‖²/d = E‖σ s(x) + n‖²/d = (2σ²/d) J(σ) + 1.

The right side is what is returned for them: learning rates, clipping and curves mean the same for every
objective.

References:
    Song & Ermon (2019), eqs. 1–6. https://arxiv.org/abs/1907.05600
    Vincent (2011), App. (the two objectives differ by a constant). https://doi.org/10.1162/NECO_a_00142
"""

import torch
from torch import Generator, Tensor

from scorefield.model import ScoreModel, expand
from scorefield.objectives import (
    denoising_score_matching,
    explicit_score_matching,
    output_weight,
    sliced_score_matching,
)
from scorefield.training.settings import DenoisingObjective, ExplicitObjective, SlicedObjective

AnyObjective = DenoisingObjective | SlicedObjective | ExplicitObjective


def picture_losses(
    objective: AnyObjective, model: ScoreModel, x0: Tensor, sigma: Tensor, *, generator: Generator
) -> Tensor:
    """The loss of every picture, (B,).

    Args:
        objective: which loss.
        model: what is trained.
        x0: clean pictures, (B, C, H, W), in the model's value range.
        sigma: noise levels, (B,).
        generator: source of the noise, and of the random directions.
    """
    if isinstance(objective, DenoisingObjective):
        plain = denoising_score_matching(model, x0, sigma, p=objective.p, generator=generator)
        return plain * output_weight(model, sigma, p=objective.p) if objective.weight == "output" else plain
    noise = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
    x = x0 + expand(sigma, x0) * noise
    if isinstance(objective, ExplicitObjective):
        matched = explicit_score_matching(model, x, sigma)
    else:
        matched = sliced_score_matching(
            model,
            x,
            sigma,
            projections=objective.projections,
            law=objective.law,
            variance_reduced=objective.variance_reduced,
            generator=generator,
        )
    return 2 * sigma**2 / x0[0].numel() * matched + 1
