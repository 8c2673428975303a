"""Denoising score matching, at one noise level and over a schedule; the package has the equations."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from scorefield.errors import UserError
from scorefield.model import Condition, Denoiser, ScoreModel, expand
from scorefield.schedules import check_schedule

__all__ = ["denoising_score_matching", "output_weight", "schedule_score_matching"]


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
    L_simple; p = 1 is Palette's L1.

    If the condition has a mask, the mean is over the masked pixels only, as in Palette (Saharia et al. 2022, §4,
    inpainting): the known pixels carry no noise.

    Args:
        model: the denoiser.
        x0: clean images, (B, C, H, W), in the model's value range.
        sigma: noise levels, (B,), float32.
        condition: of a ScoreModel; other denoisers take none.
        p: the norm's power.
        generator: source of the noise.

    Returns:
        Losses, (B,).
    """
    n = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
    x = x0 + expand(sigma, x0) * n
    denoised = model(x, sigma) if condition is None else model(x, sigma, condition)  # pyright: ignore[reportCallIssue]
    error = ((denoised - x0) / expand(sigma, x0)).abs().pow(p)
    mask = None if condition is None else condition.mask
    if mask is None:
        return error.flatten(1).mean(1)
    mask = mask.expand_as(error)
    return (error * mask).flatten(1).sum(1) / mask.flatten(1).sum(1)


def schedule_score_matching(
    model: Denoiser,
    x0: Tensor,
    sigmas: Tensor,
    *,
    weight: Callable[[Tensor], Tensor] = torch.square,
    generator: Generator,
) -> Tensor:
    """(1/L) Σ_i λ(σ_i) ½‖s(x0 + σ_i n_i; σ_i) + n_i/σ_i‖², on all noise levels (Song & Ermon 2019, eq. 6).

    With λ(σ) = σ² it is D/2 times the mean of `denoising_score_matching` over the noise levels. Training estimates
    it by drawing one noise level per image.

    Args:
        model: the denoiser.
        x0: clean images, (B, …), in the model's value range.
        sigmas: the schedule, (L,), decreasing and positive.
        weight: λ, from (B,) to (B,).
        generator: source of the noise, fresh on every noise level.

    Returns:
        Losses, (B,).

    Raises:
        UserError: a schedule that does not decrease, or ends at 0.
    """
    levels = check_schedule(sigmas)
    if levels[-1] == 0:
        raise UserError("sigmas", "the last noise level is 0, where there is no noise to fit.", "Leave it out.")
    total = x0.new_zeros(len(x0))
    for level in levels:
        sigma = x0.new_full((len(x0),), level)
        loss = denoising_score_matching(model, x0, sigma, generator=generator)
        total = total + weight(sigma) / sigma**2 * loss * x0[0].numel() / 2
    return total / len(levels)


def output_weight(model: ScoreModel, sigma: Tensor, *, p: float = 2) -> Tensor:
    """The weight (σ / abs(c_out(σ)))^p, which makes the loss the error of the network's raw output.

    With it and p = 2, `denoising_score_matching` is the loss of Karras et al. (2022), eq. 8 with
    λ(σ) c_out(σ)² = 1. It is 1 where the network predicts the noise.

    Args:
        model: the model, for its c_out.
        sigma: noise levels, (B,).
        p: the norm's power.

    Returns:
        Weights, (B,).
    """
    return (sigma / model.parameterization(sigma).c_out.abs()) ** p
