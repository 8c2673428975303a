"""How dense a schedule Langevin dynamics needs, and its step size (Song & Ermon 2020, Techniques 2 and 4).

References:
    Song & Ermon (2020). https://arxiv.org/abs/2006.09011
"""

import math

import torch
from torch import Tensor

from scorefield.errors import UserError
from scorefield.schedules.levels import check_ends

OVERLAP = 0.5668
"""The share of a noise level's noise that the next covers: what all five schedules of Song & Ermon (2020) have."""


def langevin_step_size(sigmas: Tensor, steps: int) -> float:
    """The ε that keeps annealed Langevin at the right spread from noise level to noise level.

    A chain enters a noise level with γ = σ_{i−1}/σ_i times its spread. After T updates of drift η = ε/2σ_L² its
    variance over σ_i² is (1−η)^{2T} (γ² − b) + b with b = 2η / (1 − (1−η)²) (Song & Ermon 2020,
    Technique 4); the ε returned brings that nearest to 1. It is ε in the convention of Song & Ermon (2019),
    x ← x + (α/2) s + √α z, twice the α of the later paper.

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
    """The share of a noise level's noise that lies where the noise level above, γ times as large, has taught the model.

    In D dimensions the length of σn is about N(√D σ, σ²/2), a thin shell. Within three deviations of that of
    γσ, σ itself has the probability (Song & Ermon 2020, Technique 2)

        Φ(√(2D) (γ−1) + 3γ) − Φ(√(2D) (γ−1) − 3γ).
    """
    apart = math.sqrt(2 * dim) * (ratio - 1)
    return (math.erfc((apart - 3 * ratio) / math.sqrt(2)) - math.erfc((apart + 3 * ratio) / math.sqrt(2))) / 2


def overlap_ratio(dim: int, target: float = OVERLAP) -> float:
    """The ratio γ of neighbouring noise levels that overlap by `target`, found by bisection.

    Song & Ermon (2020) say about 0.5, by which CIFAR-10 would have 219 noise levels. The schedules that they publish,
    232 for CIFAR-10 and four others, have 0.566 to 0.567; the default gives back the number of each.

    Args:
        dim: D, values in an image.
        target: the overlap, above 0 and below 0.997, which is that of two like noise levels.

    Raises:
        UserError: a target outside, or D < 5, where shells are too thick to part.
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
    """The number of noise levels that a geometric schedule needs for neighbours to overlap by about `target`.

    Raises:
        UserError: the ends are not 0 < σ_min < σ_max, or see `overlap_ratio`.
    """
    check_ends(sigma_max, sigma_min, 1)
    return 1 + max(1, round(math.log(sigma_max / sigma_min) / math.log(overlap_ratio(dim, target))))
