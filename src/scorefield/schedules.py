r"""Noise schedules: decreasing tensors of σ, from the papers and by name, and conversions σ ↔ γ ↔ t.

A noisy image is x = x0 + σ·n with n ~ N(0, I), and a schedule lists the noise levels σ that a sampler visits. A
variance-preserving model sees √γ x0 + √(1−γ) n instead, the same image divided by √(1+σ²):

    γ = 1 / (1 + σ²),      σ = √((1 − γ) / γ),      log-SNR = ln(γ/(1−γ)) = −2 ln σ.

DDPM gives γ by its β_1 … β_T, γ_t = Π_{i ≤ t} (1 − β_i). Stochastic differential equations give it by a time
t in [0, 1]. The variance-preserving (VP) one is dx = −½ β(t) x dt + √β(t) dw, with β(t) rising linearly from
β_min to β_max. With B(t) = ∫₀ᵗ β = β_min t + ½ (β_max − β_min) t², γ = e^{−B}, and the sub-VP equation gives
x = α x0 + (1 − α²) n, α² = e^{−B}:

    VP      σ = √(e^B − 1)                        B = ln(1 + σ²)
    sub-VP  σ = (1 − α²)/α = 2 sinh(B/2)          B = 2 arsinh(σ/2)

At β from 0.1 to 20 both reach σ = 152 at t = 1.

References:
    Song & Ermon (2019), §4.1 (geometric). https://arxiv.org/abs/1907.05600
    Song & Ermon (2020), Techniques 2 and 4 (overlap, step size). https://arxiv.org/abs/2006.09011
    Ho et al. (2020), §4 (linear β). https://arxiv.org/abs/2006.11239
    Nichol & Dhariwal (2021), eq. 17 (cosine). https://arxiv.org/abs/2102.09672
    Song et al. (2021), eqs. 9, 11, 12 and App. B, C (VE, VP, sub-VP). https://arxiv.org/abs/2011.13456
    Saharia et al. (2022), §4 (Palette's two). https://arxiv.org/abs/2111.05826
    Lugmayr et al. (2022), Algorithm 1 and App. B (RePaint's jumps). https://arxiv.org/abs/2201.09865
    Karras et al. (2022), eq. 5. https://arxiv.org/abs/2206.00364
"""

import math
import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from scorefield.errors import UserError

__all__ = [
    "BETA_MAX",
    "BETA_MIN",
    "OVERLAP",
    "SCHEDULES",
    "SLACK",
    "FittedSchedule",
    "append_zero",
    "check_ends",
    "check_schedule",
    "cosine",
    "gamma_to_sigma",
    "geometric",
    "karras",
    "langevin_step_size",
    "linear_beta",
    "log_snr",
    "max_mismatch",
    "nearest_level",
    "overlap",
    "overlap_ratio",
    "palette_inference",
    "palette_training",
    "parse_schedule",
    "repaint",
    "schedule_levels",
    "sigma_to_gamma",
    "sub_vp",
    "sub_vp_sigma",
    "sub_vp_time",
    "subsample",
    "truncate",
    "vp",
    "vp_sigma",
    "vp_time",
]

BETA_MIN, BETA_MAX = 0.1, 20.0
"""β at t = 0 and 1 (Song et al. 2021, App. C)."""

SLACK = 1 + 1e-6
"""A noise level may exceed a limit by this factor: two roundings of float32."""

OVERLAP = 0.5668
"""The share of a level's noise that the next level covers, in all five schedules of Song & Ermon (2020)."""

_END = 1e-3  # the least time of the VP and sub-VP equations (Song et al. 2021, App. C)


# --- what a schedule is --------------------------------------------------------------------------


def check_schedule(sigmas: Tensor, *, rises: bool = False) -> list[float]:
    """The noise levels as numbers, after checking that they are a schedule.

    Args:
        sigmas: (L,).
        rises: whether it may rise at times, see `repaint`; neighbours must differ all the same.

    Raises:
        UserError: the schedule is empty, not one-dimensional, not finite, negative, does not decrease, or has 0
            before its end.
    """
    if sigmas.ndim != 1 or len(sigmas) == 0:
        raise UserError("sigmas", f"a schedule is a row of noise levels, got shape {tuple(sigmas.shape)}.")
    levels: list[float] = sigmas.tolist()
    if not all(math.isfinite(s) and s >= 0 for s in levels) or levels[0] == 0:
        raise UserError("sigmas", "noise levels must be finite and positive (0 may end the schedule).")
    if rises:
        if any(t == s for s, t in pairwise(levels)) or 0 in levels[:-1]:
            raise UserError("sigmas", "neighbouring noise levels must differ, and 0 may stand only at the end.")
    elif any(t >= s for s, t in pairwise(levels)):
        raise UserError("sigmas", "a schedule must decrease from noise level to noise level.")
    return levels


def check_ends(sigma_max: float, sigma_min: float, levels: int) -> None:
    """Check the ends and the length of a schedule.

    Raises:
        UserError: not 0 < σ_min < σ_max, or fewer than one noise level.
    """
    if not (0 < sigma_min < sigma_max and math.isfinite(sigma_max)):
        raise UserError("sigmas", f"need 0 < sigma_min < sigma_max, got {sigma_min:g} and {sigma_max:g}.")
    _check_steps(levels)


def parse_schedule(given: str | Sequence[float]) -> Tensor:
    """A schedule from a user's text, "80, 20, 5, 1, 0.1, 0", or from numbers; (L,), float32.

    Raises:
        UserError: not numbers, or not a schedule.
    """
    words = re.split(r"[,;\s]+", given.strip(" ,;\t\n[]()")) if isinstance(given, str) else list(given)
    values: list[float] = []
    for word in words:
        try:
            values.append(float(word))
        except (TypeError, ValueError) as error:
            raise UserError(
                "sigmas", f"{word!r} is no noise level.", "Write decreasing numbers, such as 80,20,5,1,0.1,0."
            ) from error
    levels = torch.tensor(values, dtype=torch.float64).float()  # before the check: two may round to one
    check_schedule(levels)
    return levels


def nearest_level(sigmas: Tensor, sigma: Tensor) -> Tensor:
    """The index of the noise level nearest to each σ, by ratio; (B,) in, (B,) of int64 out."""
    return (sigma.log()[:, None] - sigmas.log()[None, :]).abs().argmin(1)


def max_mismatch(schedule: Tensor, sigmas: Tensor) -> float:
    """The largest ratio, ≥ 1, between a σ and the nearest noise level of a model.

    Args:
        schedule: the model's noise levels, positive, (L,).
        sigmas: the σ to compare, (M,); zeros are ignored.
    """
    positive = sigmas[sigmas > 0].double()
    if len(positive) == 0:
        return 1.0
    own = schedule.double()
    return float((positive.log() - own[nearest_level(own, positive)].log()).abs().max().exp())


# --- σ ↔ γ ↔ t -----------------------------------------------------------------------------------


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
    """The time t at which the VP equation has σ, above 1 for a σ beyond its range; shape of σ."""
    return _time((sigma**2).log1p(), beta_min, beta_max)


def sub_vp_sigma(t: Tensor, *, beta_min: float = BETA_MIN, beta_max: float = BETA_MAX) -> Tensor:
    """σ of the sub-VP equation at time t in (0, 1], 2 sinh(B/2); shape of t."""
    return 2 * (_integral(t, beta_min, beta_max) / 2).sinh()


def sub_vp_time(sigma: Tensor, *, beta_min: float = BETA_MIN, beta_max: float = BETA_MAX) -> Tensor:
    """The time t at which the sub-VP equation has σ, above 1 for a σ beyond its range; shape of σ."""
    return _time(2 * (sigma / 2).asinh(), beta_min, beta_max)


def _integral(t: Tensor, beta_min: float, beta_max: float) -> Tensor:
    return t * (beta_min + (beta_max - beta_min) / 2 * t)


def _time(integral: Tensor, beta_min: float, beta_max: float) -> Tensor:
    """The root t of B(t) = integral, in the form that does not cancel for small t."""
    return 2 * integral / (beta_min + (beta_min**2 + 2 * (beta_max - beta_min) * integral).sqrt())


# --- the schedules of the papers -----------------------------------------------------------------


def geometric(sigma_max: float, sigma_min: float, levels: int) -> Tensor:
    """NCSN's schedule: `levels` sigmas from σ_max to σ_min in equal ratios, without 0 (Song & Ermon 2019, §4.1).

    Raises:
        UserError: not 0 < σ_min < σ_max, or levels < 1.
    """
    check_ends(sigma_max, sigma_min, levels)
    sigmas = torch.linspace(math.log(sigma_max), math.log(sigma_min), levels, dtype=torch.float64).exp()
    sigmas[0], sigmas[-1] = sigma_max, sigma_min if levels > 1 else sigma_max
    return sigmas.float()


def karras(sigma_max: float, sigma_min: float, steps: int, *, rho: float = 7) -> Tensor:
    """The schedule of Karras et al. (2022), eq. 5: `steps` sigmas, equally spaced in σ^(1/ρ), then 0.

    Raises:
        UserError: not 0 < σ_min < σ_max, or steps < 1.
    """
    check_ends(sigma_max, sigma_min, steps)
    ramp = torch.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), steps, dtype=torch.float64)
    levels = ramp**rho
    levels[0] = sigma_max
    return append_zero(levels).float()


def log_snr(sigma_max: float, sigma_min: float, steps: int) -> Tensor:
    """`steps` sigmas, equally spaced in log-SNR = −2 ln σ, then 0: the geometric schedule with 0 appended.

    Raises:
        UserError: not 0 < σ_min < σ_max, or steps < 1.
    """
    return append_zero(geometric(sigma_max, sigma_min, steps))


def linear_beta(first: float = 1e-4, last: float = 0.02, steps: int = 1000) -> Tensor:
    """DDPM's schedule: σ_T … σ_1 for β that rise linearly from `first` to `last`; (steps,), without 0.

    By default σ runs from 157.4 to 0.01 (Ho et al. 2020, §4).

    Raises:
        UserError: not 0 < first ≤ last < 1, or steps < 1.
    """
    if not 0 < first <= last < 1:
        raise UserError("beta", f"need 0 < first <= last < 1, got {first:g} and {last:g}.")
    _check_steps(steps)
    return _from_logs(torch.linspace(first, last, steps, dtype=torch.float64).neg().log1p())


def cosine(steps: int, *, offset: float = 0.008, most: float = 0.999) -> Tensor:
    """The schedule σ_T … σ_1 of Nichol & Dhariwal (2021), eq. 17; (steps,), without 0.

    γ_t = f(t)/f(0), f(t) = cos²((t/T + s)/(1 + s) · π/2), with every β_t = 1 − γ_t/γ_{t−1} limited to `most`.
    The limit matters only at t = T, where f is 0.

    Args:
        steps: T.
        offset: s.
        most: the largest β.

    Raises:
        UserError: steps < 1, a negative offset, or `most` not between 0 and 1.
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

    Its first σ is 1.2·10¹⁰, and 532 of its noise levels exceed 151, the largest σ of training;
    `truncate(palette_inference(), 151)` removes those.
    """
    return linear_beta(1e-4, 0.09, 1000)


def vp(steps: int, *, beta_min: float = BETA_MIN, beta_max: float = BETA_MAX, end: float = 1e-3) -> Tensor:
    """σ of the VP equation at `steps` equally spaced times from 1 to `end`; without 0.

    By default σ runs from 152 to 0.01 (Song et al. 2021, eq. 11 and App. C).

    Raises:
        UserError: steps < 1, or not 0 < end < 1 and 0 < β_min ≤ β_max.
    """
    times = _times(steps, beta_min, beta_max, end)
    return vp_sigma(times, beta_min=beta_min, beta_max=beta_max).float()


def sub_vp(steps: int, *, beta_min: float = BETA_MIN, beta_max: float = BETA_MAX, end: float = 1e-3) -> Tensor:
    """σ of the sub-VP equation at `steps` equally spaced times from 1 to `end`; without 0.

    By default σ runs from 152, as for VP, to 0.0001; it is below VP's at every t < 1 (Song et al. 2021, eq.
    12).

    Raises:
        UserError: steps < 1, or not 0 < end < 1 and 0 < β_min ≤ β_max.
    """
    times = _times(steps, beta_min, beta_max, end)
    return sub_vp_sigma(times, beta_min=beta_min, beta_max=beta_max).float()


def _from_logs(logs: Tensor) -> Tensor:
    """σ_T … σ_1 from ln(1 − β_1) … ln(1 − β_T).

    The sum of logarithms in float64 keeps the digits both of σ_1 = √(β_1/(1−β_1)) and of Palette's 10¹⁰.
    """
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


# --- one schedule from another -------------------------------------------------------------------


def append_zero(sigmas: Tensor) -> Tensor:
    """The schedule with 0 at its end."""
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def truncate(sigmas: Tensor, sigma_max: float) -> Tensor:
    """The noise levels up to σ_max, such as the largest σ of a model's training.

    Raises:
        UserError: `sigmas` is not a schedule, or all its noise levels exceed σ_max.
    """
    levels = check_schedule(sigmas)
    kept = sigmas[sigmas <= sigma_max * SLACK]
    if len(kept) == 0 or float(kept[0]) == 0:
        least = min(s for s in levels if s > 0)
        raise UserError("sigma_max", f"{sigma_max:g} lies below all noise levels; the last is {least:g}.")
    return kept


def subsample(sigmas: Tensor, count: int) -> Tensor:
    """`count` noise levels, evenly spaced by index, at least the first and the last."""
    if count >= len(sigmas):
        return sigmas
    return sigmas[torch.linspace(0, len(sigmas) - 1, max(2, count)).round().long()]


def repaint(sigmas: Tensor, *, jump: int = 10, times: int = 10) -> Tensor:
    """RePaint's schedule: each stretch of `jump` noise levels is passed `times` times.

    Counted from the last level, every jump-th level is a turning point. From there the schedule rises to the
    level `jump` above in one step, which has the same distribution as ten small steps up, and descends again.
    The authors' 250 noise levels with jumps of 10 and 10 times need 2,410 evaluations.

    Args:
        sigmas: a decreasing schedule, which may end in 0. The last step to 0 is not repeated.
        jump: how many noise levels it rises, j.
        times: how often it passes each stretch, r; 1 leaves the schedule unchanged.

    Raises:
        UserError: `sigmas` does not decrease, jump < 1, times < 1, or the jump exceeds the schedule.
    """
    levels = check_schedule(sigmas)
    if jump < 1 or times < 1:
        raise UserError("jump", f"need a jump and times of at least 1, got {jump} and {times}.")
    count = len(levels) - (levels[-1] == 0)
    if count <= jump:
        raise UserError(
            "jump", f"a jump of {jump} needs more noise levels than that, the schedule has {count}.", "Jump less."
        )
    places: list[int] = []  # counted from the last positive noise level
    for place in reversed(range(count)):
        places.append(place)
        if place % jump == 0 and place + jump < count:
            places += [*range(place + jump, place - 1, -1)] * (times - 1)
    visited = sigmas[count - 1 - torch.tensor(places, device=sigmas.device)]
    return torch.cat([visited, sigmas[count:]])


# --- by name, fitted to a model's σ range --------------------------------------------------------


FittedSchedule = Callable[[float, float, int], Tensor]
"""Maps (σ_max, σ_min, steps) to (steps + 1,): decreasing noise levels within the range, then 0."""


def _from_table(table: Callable[[], Tensor]) -> FittedSchedule:
    """Noise levels of a published table within the range.

    They are subsampled to `steps`. If they are too few, ln σ is interpolated linearly in the index.
    """

    def fitted(sigma_max: float, sigma_min: float, steps: int) -> Tensor:
        check_ends(sigma_max, sigma_min, steps)
        own = table()
        inside = own[(own <= sigma_max * SLACK) & (own >= sigma_min / SLACK)]
        if steps <= len(inside):
            return append_zero(inside[torch.linspace(0, len(inside) - 1, steps).round().long()])
        high, low = _overlap(sigma_max, sigma_min, float(own[0]), float(own[-1]))
        logs = own.double().log().flip(0).numpy()  # increasing, as np.interp requires
        t = np.arange(len(logs), dtype=float)
        first, last = np.interp([math.log(high), math.log(low)], logs, t)
        levels = np.exp(np.interp(np.linspace(first, last, steps), t, logs))
        return append_zero(torch.from_numpy(levels).float())

    return fitted


def _from_equation(sigma_at: Callable[[Tensor], Tensor], time_at: Callable[[Tensor], Tensor]) -> FittedSchedule:
    """σ at equally spaced times, between the times of σ_max and σ_min within the equation's own range."""

    def fitted(sigma_max: float, sigma_min: float, steps: int) -> Tensor:
        check_ends(sigma_max, sigma_min, steps)
        own = sigma_at(torch.tensor([1, _END], dtype=torch.float64)).tolist()
        ends = torch.tensor(_overlap(sigma_max, sigma_min, *own), dtype=torch.float64)
        first, last = time_at(ends).tolist()
        return append_zero(sigma_at(torch.linspace(first, last, steps, dtype=torch.float64)).float())

    return fitted


def _overlap(sigma_max: float, sigma_min: float, own_max: float, own_min: float) -> tuple[float, float]:
    high, low = min(sigma_max, own_max), max(sigma_min, own_min)
    if low >= high:
        raise UserError(
            "schedule",
            f"it runs from {own_max:g} to {own_min:g}, the noise levels asked for from {sigma_max:g} to {sigma_min:g}.",
            "Choose another schedule.",
        )
    return high, low


SCHEDULES: dict[str, FittedSchedule] = {
    "karras": karras,
    "geometric": log_snr,
    "log-snr": log_snr,
    "ve": log_snr,
    "linear-beta": _from_table(linear_beta),
    "cosine": _from_table(lambda: cosine(1000)),
    "vp": _from_equation(vp_sigma, vp_time),
    "sub-vp": _from_equation(sub_vp_sigma, sub_vp_time),
    "palette-training": _from_table(palette_training),
    "palette-inference": _from_table(palette_inference),
}
"""The schedules by name; all end in 0.

`geometric`, `log-snr` and `ve` are one schedule: the VE equation's σ(t) is σ_min (σ_max/σ_min)^t (Song et al.
2021, App. C), and log-SNR is −2 ln σ.
"""


# --- schedules for Langevin dynamics (Song & Ermon 2020) -----------------------------------------


def langevin_step_size(sigmas: Tensor, steps: int) -> float:
    """The ε with which annealed Langevin dynamics keeps the variance of each noise level.

    A chain enters a level with γ = σ_{i−1}/σ_i times its std. After T updates with η = ε/2σ_L² its variance
    over σ_i² is (1−η)^{2T} (γ² − b) + b with b = 2η / (1 − (1−η)²) (Technique 4). The ε returned brings that
    nearest to 1. It follows Song & Ermon (2019), x ← x + (α/2) s + √α z, and is twice the α of the later
    paper.

    Args:
        sigmas: a geometric schedule of at least two noise levels.
        steps: T, updates on each noise level.

    Raises:
        UserError: fewer than two noise levels, or T < 1.
    """
    if steps < 1:
        raise UserError("steps", f"need at least one update on each noise level, got {steps}.")
    if len(sigmas) < 2:
        raise UserError("sigmas", "the step size follows from the ratio of two noise levels; the schedule has fewer.")
    ratio = float((sigmas[0] / sigmas[-1]) ** (1 / (len(sigmas) - 1)))
    eta = torch.logspace(-5, 0, 20_001, dtype=torch.float64)[:-1]
    stationary = 1 / (1 - eta / 2)
    variance = (1 - eta) ** (2 * steps) * (ratio**2 - stationary) + stationary
    return 2 * float(eta[(variance - 1).abs().argmin()]) * float(sigmas[-1]) ** 2


def overlap(dim: int, ratio: float) -> float:
    """The share of a level's noise that lies where the level above, γ times as large, was trained.

    In D dimensions the length of σn is about N(√D σ, σ²/2), a thin shell. The probability under σ of the
    range within three standard deviations for γσ is (Technique 2)

        Φ(√(2D) (γ−1) + 3γ) − Φ(√(2D) (γ−1) − 3γ).
    """
    apart = math.sqrt(2 * dim) * (ratio - 1)
    return (math.erfc((apart - 3 * ratio) / math.sqrt(2)) - math.erfc((apart + 3 * ratio) / math.sqrt(2))) / 2


def overlap_ratio(dim: int, target: float = OVERLAP) -> float:
    """The ratio γ of neighbouring noise levels that overlap by `target`, found by bisection.

    Song & Ermon (2020) say about 0.5, which would give CIFAR-10 219 noise levels. The schedules that they
    publish, 232 for CIFAR-10 and four others, have 0.566 to 0.567; the default reproduces the number of
    levels of each.

    Args:
        dim: D, values in an image.
        target: the overlap, above 0 and below 0.997, which is that of two equal noise levels.

    Raises:
        UserError: a target out of range, or D < 5, where the shells are too thick to separate.
    """
    if dim < 5 or not 0 < target < 0.997:
        raise UserError("overlap", f"need 0 < overlap < 0.997 and 5 dimensions or more, got {target:g} and {dim}.")
    low, high = 1.0, 2.0
    while overlap(dim, high) > target:
        low, high = high, 2 * high
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if overlap(dim, middle) > target else (low, middle)
    return high


def schedule_levels(dim: int, sigma_max: float, sigma_min: float, target: float = OVERLAP) -> int:
    """The number of noise levels of a geometric schedule whose neighbours overlap by about `target`.

    Raises:
        UserError: not 0 < σ_min < σ_max, or see `overlap_ratio`.
    """
    check_ends(sigma_max, sigma_min, 1)
    return 1 + max(1, round(math.log(sigma_max / sigma_min) / math.log(overlap_ratio(dim, target))))
