r"""Schedules by their papers: falling rows of σ.

In equal ratios (NCSN's, and the VE equation's), in equal steps of σ^(1/ρ), of log-SNR or of a stochastic
differential equation's time, or from DDPM's β_1 … β_T, whose image at t keeps of its variance

    γ_t = Π_{i ≤ t} (1 − β_i),      σ_t = √(1/γ_t − 1).

The product is a sum of ln(1 − β) in float64, so that neither σ_1 = √(β_1/(1−β_1)) nor Palette's 10¹⁰ loses
digits. What ends in 0 says so; the others end at their least noise, `named.ended` appends 0.

References:
    Song & Ermon (2019), §4.1 (equal ratios). https://arxiv.org/abs/1907.05600
    Ho et al. (2020), §4 (linear β). https://arxiv.org/abs/2006.11239
    Nichol & Dhariwal (2021), eq. 17 (cosine). https://arxiv.org/abs/2102.09672
    Song et al. (2021), eqs. 9, 11, 12 (VE, VP, sub-VP). https://arxiv.org/abs/2011.13456
    Karras et al. (2022), eq. 5. https://arxiv.org/abs/2206.00364
    Saharia et al. (2022), §4 (Palette's two). https://arxiv.org/abs/2111.05826
"""

import math

import torch
from torch import Tensor

from scorefield.errors import UserError
from scorefield.schedules.levels import BETA_MAX, BETA_MIN, check_ends, sub_vp_sigma, vp_sigma


def geometric(sigma_max: float, sigma_min: float, levels: int) -> Tensor:
    """NCSN's schedule: `levels` sigmas from σ_max to σ_min in equal ratios (Song & Ermon 2019, §4.1).

    Raises:
        UserError: the ends are not 0 < σ_min < σ_max, or there is no noise level.
    """
    check_ends(sigma_max, sigma_min, levels)
    sigmas = torch.linspace(math.log(sigma_max), math.log(sigma_min), levels, dtype=torch.float64).exp()
    sigmas[0], sigmas[-1] = sigma_max, sigma_min if levels > 1 else sigma_max
    return sigmas.float()


def karras(sigma_max: float, sigma_min: float, steps: int, *, rho: float = 7) -> Tensor:
    """The schedule of Karras et al. (2022), eq. 5: `steps` sigmas, equal in σ^(1/ρ), and then 0.

    Raises:
        UserError: the ends are not 0 < σ_min < σ_max, or there is no step.
    """
    check_ends(sigma_max, sigma_min, steps)
    ramp = torch.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), steps, dtype=torch.float64)
    levels = ramp**rho
    levels[0] = sigma_max
    return torch.cat([levels, levels.new_zeros(1)]).float()


def log_snr(sigma_max: float, sigma_min: float, steps: int) -> Tensor:
    """`steps` noise levels, equal in log-SNR = −2 ln σ, and then 0: the geometric schedule with 0 at its end.

    Raises:
        UserError: the ends are not 0 < σ_min < σ_max, or there is no step.
    """
    levels = geometric(sigma_max, sigma_min, steps)
    return torch.cat([levels, levels.new_zeros(1)])


def linear_beta(first: float = 1e-4, last: float = 0.02, steps: int = 1000) -> Tensor:
    """DDPM's schedule: σ_T … σ_1 for β that rise evenly from `first` to `last`; (steps,), without 0.

    By default σ runs from 157.4 to 0.01 (Ho et al. 2020, §4).

    Raises:
        UserError: not 0 < first ≤ last < 1, or there is no step.
    """
    if not 0 < first <= last < 1:
        raise UserError("beta", f"need 0 < first <= last < 1, got {first:g} and {last:g}.")
    _check_steps(steps)
    return _from_logs(torch.linspace(first, last, steps, dtype=torch.float64).neg().log1p())


def cosine(steps: int, *, offset: float = 0.008, most: float = 0.999) -> Tensor:
    """The schedule σ_T … σ_1 of Nichol & Dhariwal (2021), eq. 17; (steps,), without 0.

    γ_t = f(t)/f(0), f(t) = cos²((t/T + s)/(1 + s) · π/2), but no β_t = 1 − γ_t/γ_{t−1} is above `most`, which
    matters at t = T alone, where f is 0.

    Args:
        steps: T.
        offset: s.
        most: the greatest β.

    Raises:
        UserError: there is no step, the offset is negative, or `most` is not between 0 and 1.
    """
    _check_steps(steps)
    if not (0 <= offset < math.inf and 0 < most < 1):
        raise UserError("cosine", f"need offset >= 0 and 0 < most < 1, got {offset:g} and {most:g}.")
    t = torch.arange(steps + 1, dtype=torch.float64) / steps
    f = ((t + offset) / (1 + offset) * (math.pi / 2)).cos() ** 2
    return _from_logs((f[1:] / f[:-1]).clamp_min(1 - most).log())


def palette_training() -> Tensor:
    """Palette's schedule in training: β from 1e-6 to 0.01 in 2,000 steps, σ from 151 to 0.001 (§4)."""
    return linear_beta(1e-6, 0.01, 2000)


def palette_inference() -> Tensor:
    """Palette's schedule in sampling: β from 1e-4 to 0.09 in 1,000 steps (§4).

    Its first σ is 1.2·10¹⁰, and 532 of its noise levels lie above 151, the largest σ of training;
    `capped(palette_inference(), 151)` leaves those out.
    """
    return linear_beta(1e-4, 0.09, 1000)


def vp(steps: int, *, beta_min: float = BETA_MIN, beta_max: float = BETA_MAX, end: float = 1e-3) -> Tensor:
    """The variance-preserving equation's σ at `steps` even times from 1 to `end`; without 0.

    By default σ runs from 152 to 0.01 (Song et al. 2021, eq. 11 and App. C; see `levels`).

    Raises:
        UserError: there is no step, or not 0 < end < 1 and 0 < β_min ≤ β_max.
    """
    times = _times(steps, beta_min, beta_max, end)
    return vp_sigma(times, beta_min=beta_min, beta_max=beta_max).float()


def sub_vp(steps: int, *, beta_min: float = BETA_MIN, beta_max: float = BETA_MAX, end: float = 1e-3) -> Tensor:
    """The sub-VP equation's σ at `steps` even times from 1 to `end`; without 0.

    By default σ runs from 152, as VP's, to 0.0001: it is less noisy at every t (Song et al. 2021, eq. 12).

    Raises:
        UserError: there is no step, or not 0 < end < 1 and 0 < β_min ≤ β_max.
    """
    times = _times(steps, beta_min, beta_max, end)
    return sub_vp_sigma(times, beta_min=beta_min, beta_max=beta_max).float()


def _from_logs(logs: Tensor) -> Tensor:
    """σ_T … σ_1 from ln(1 − β_1) … ln(1 − β_T)."""
    return logs.cumsum(0).neg().expm1().sqrt().flip(0).float()


def _times(steps: int, beta_min: float, beta_max: float, end: float) -> Tensor:
    _check_steps(steps)
    if not 0 < beta_min <= beta_max < math.inf:
        raise UserError("beta", f"need 0 < beta_min <= beta_max, got {beta_min:g} and {beta_max:g}.")
    if not 0 < end < 1:
        raise UserError("end", f"need a time between 0 and 1, got {end:g}.")
    return torch.linspace(1, end, steps, dtype=torch.float64)


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise UserError("steps", f"need at least one, got {steps}.")
