r"""What a noise level is called elsewhere, and what makes a row of them a schedule.

A level is σ here, γ where the image is √γ x0 + √(1−γ) n, and a time t where a stochastic differential
equation leads there. The variance-preserving one has dx = −½ β(t) x dt + √β(t) dw with β(t) rising evenly
from β_min to β_max over t in [0, 1] (Song et al. 2021, eq. 11 and App. C). With

    B(t) = ∫₀ᵗ β = β_min t + ½ (β_max − β_min) t²

it keeps γ = e^{−B} of the variance, and its sub-VP sister (eq. 12) x = α x0 + (1 − α²) n, α² = e^{−B}:

    VP      σ = √(e^B − 1)                        B = ln(1 + σ²)
    sub-VP  σ = (1 − α²)/α = 2 sinh(B/2)          B = 2 arsinh(σ/2)

At β 0.1 to 20 both reach σ = 152 at t = 1.

References:
    Song et al. (2021), eqs. 11, 12 and App. B, C. https://arxiv.org/abs/2011.13456
"""

import math
import re
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from scorefield.errors import UserError

BETA_MIN, BETA_MAX = 0.1, 20.0
"""β at t = 0 and 1 (Song et al. 2021, App. C)."""


def check_schedule(sigmas: Tensor, *, climbs: bool = False) -> list[float]:
    """The noise levels as numbers, once they are known to be a schedule.

    Args:
        sigmas: (L,).
        climbs: whether it may rise now and then, see `climbing`; neighbours must differ all the same.

    Raises:
        UserError: the schedule is empty, not one-dimensional, not finite, negative, does not fall, or has 0
            before its end.
    """
    if sigmas.ndim != 1 or len(sigmas) == 0:
        raise UserError("sigmas", f"a schedule is a row of noise levels, got shape {tuple(sigmas.shape)}.")
    levels: list[float] = sigmas.tolist()
    if not all(math.isfinite(s) and s >= 0 for s in levels) or levels[0] == 0:
        raise UserError("sigmas", "noise levels must be finite and positive (0 may end the schedule).")
    if climbs:
        if any(t == s for s, t in pairwise(levels)) or 0 in levels[:-1]:
            raise UserError("sigmas", "neighbouring noise levels must differ, and 0 may stand only at the end.")
    elif any(t >= s for s, t in pairwise(levels)):
        raise UserError("sigmas", "a schedule must fall from noise level to noise level.")
    return levels


def check_ends(sigma_max: float, sigma_min: float, levels: int) -> None:
    """See that a schedule can lead from one level down to the other.

    Raises:
        UserError: the ends are not 0 < σ_min < σ_max, or there is no noise level.
    """
    if not (0 < sigma_min < sigma_max and math.isfinite(sigma_max)):
        raise UserError("sigmas", f"need 0 < sigma_min < sigma_max, got {sigma_min:g} and {sigma_max:g}.")
    if levels < 1:
        raise UserError("steps", f"need at least one, got {levels}.")


def read_schedule(given: str | Sequence[float]) -> Tensor:
    """A schedule as a user writes it: "80, 20, 5, 1, 0.1, 0", or the numbers; (L,), float32.

    Raises:
        UserError: something among them is no number, or they are no schedule.
    """
    words = re.split(r"[,;\s]+", given.strip(" ,;\t\n[]()")) if isinstance(given, str) else list(given)
    values: list[float] = []
    for word in words:
        try:
            values.append(float(word))
        except (TypeError, ValueError) as error:
            raise UserError(
                "sigmas", f"{word!r} is no noise level.", "Write falling numbers, such as 80,20,5,1,0.1,0."
            ) from error
    levels = torch.tensor(values, dtype=torch.float64).float()  # which may round two to one
    check_schedule(levels)
    return levels


def nearest_level(sigmas: Tensor, sigma: Tensor) -> Tensor:
    """The index of the noise level nearest to each σ, by ratio; (B,) in, (B,) of int64 out."""
    return (sigma.log()[:, None] - sigmas.log()[None, :]).abs().argmin(1)


def off_schedule(schedule: Tensor, sigmas: Tensor) -> float:
    """How far the values asked for lie from a model's own noise levels: the largest ratio to the nearest, ≥ 1.

    Args:
        schedule: the model's noise levels, positive, (L,).
        sigmas: the values asked for, (M,); 0 among them counts for nothing.
    """
    asked = sigmas[sigmas > 0].double()
    if len(asked) == 0:
        return 1.0
    own = schedule.double()
    return float((asked.log() - own[nearest_level(own, asked)].log()).abs().max().exp())


def sigma_to_gamma(sigma: Tensor) -> Tensor:
    """γ = 1 / (1 + σ²), the share of variance that is signal."""
    return 1 / (1 + sigma**2)


def gamma_to_sigma(gamma: Tensor) -> Tensor:
    """σ = √((1 − γ) / γ)."""
    return ((1 - gamma) / gamma).sqrt()


def vp_sigma(t: Tensor, *, beta_min: float = BETA_MIN, beta_max: float = BETA_MAX) -> Tensor:
    """σ of the VP equation at time t in (0, 1], √(e^B − 1); shape of t."""
    return _integral(t, beta_min, beta_max).expm1().sqrt()


def vp_time(sigma: Tensor, *, beta_min: float = BETA_MIN, beta_max: float = BETA_MAX) -> Tensor:
    """The time t at which the VP equation has σ, above 1 where σ is more than it reaches; shape of σ."""
    return _time((sigma**2).log1p(), beta_min, beta_max)


def sub_vp_sigma(t: Tensor, *, beta_min: float = BETA_MIN, beta_max: float = BETA_MAX) -> Tensor:
    """σ of the sub-VP equation at time t in (0, 1], 2 sinh(B/2); shape of t."""
    return 2 * (_integral(t, beta_min, beta_max) / 2).sinh()


def sub_vp_time(sigma: Tensor, *, beta_min: float = BETA_MIN, beta_max: float = BETA_MAX) -> Tensor:
    """The time t at which the sub-VP equation has σ, above 1 where σ is more than it reaches."""
    return _time(2 * (sigma / 2).asinh(), beta_min, beta_max)


def _integral(t: Tensor, beta_min: float, beta_max: float) -> Tensor:
    return t * (beta_min + (beta_max - beta_min) / 2 * t)


def _time(integral: Tensor, beta_min: float, beta_max: float) -> Tensor:
    """The root of B(t) = integral, in the form that does not cancel for small t."""
    return 2 * integral / (beta_min + (beta_min**2 + 2 * (beta_max - beta_min) * integral).sqrt())
