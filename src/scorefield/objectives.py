"""Objectives: what a score network is trained to make small.

Denoising score matching fits the score of noisy data by the score of the noise (Vincent 2011). Over noise
levels with the weight λ(σ) = σ² of NCSN it reads, in the denoiser's terms,

    ℓ(σ) = E abs((D(x0 + σn; σ) − x0) / σ)^p,      n ~ N(0, I),

and that one form, under different laws of σ, is NCSN's objective, DDPM's and Palette's.

References:
    Vincent (2011), eq. 11. https://doi.org/10.1162/NECO_a_00142
    Song & Ermon (2019), eqs. 5–6. https://arxiv.org/abs/1907.05600
    Karras et al. (2022), eq. 8. https://arxiv.org/abs/2206.00364
"""

import torch
from torch import Generator, Tensor

from scorefield.model import Condition, Denoiser, ScoreModel, expand


def denoising_score_matching(
    model: ScoreModel | Denoiser,
    x0: Tensor,
    sigma: Tensor,
    *,
    condition: Condition | None = None,
    p: float = 2,
    generator: Generator,
) -> Tensor:
    """Mean of abs((D − x0)/σ)^p over each image.

    p = 2 is twice NCSN's objective with λ(σ) = σ² (Song & Ermon 2019, eqs. 5–6), per pixel, and DDPM's
    L_simple; p = 1 is Palette's L1. A denoiser that is no ScoreModel takes no condition.

    Args:
        model: the denoiser.
        x0: clean images, (B, C, H, W), in the model's value range.
        sigma: noise levels, (B,), float32.
        condition: what the model is given of each image.
        p: the norm's power.
        generator: source of the noise.

    Returns:
        Losses, (B,).
    """
    n = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
    x = x0 + expand(sigma, x0) * n
    denoised = model(x, sigma) if condition is None else model(x, sigma, condition)  # pyright: ignore[reportCallIssue]
    error = (denoised - x0) / expand(sigma, x0)
    return error.abs().pow(p).flatten(1).mean(1)


def output_weight(model: ScoreModel, sigma: Tensor, *, p: float = 2) -> Tensor:
    """The weight (σ / abs(out(σ)))^p that counts the error of the network's raw output alike at every σ.

    With it and p = 2, `denoising_score_matching` is the loss of Karras et al. (2022), eq. 8 with
    λ(σ) c_out(σ)² = 1. It is 1 where the network predicts the noise.

    Args:
        model: whose parameterization scales the output.
        sigma: noise levels, (B,).
        p: the norm's power.

    Returns:
        Weights, (B,).
    """
    return (sigma / model.parameterization(sigma).out.abs()) ** p
