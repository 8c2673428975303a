"""A ladder for Langevin dynamics, from the pictures themselves.

The first rung is the largest distance of two pictures, noise that can carry any to any (Technique 1). The
ratio γ of neighbours makes the shells on which their noise lies overlap by a given share (Technique 2), and ε
keeps the spread right from rung to rung (Technique 4).

References:
    Song & Ermon (2020), Techniques 1, 2 and 4. https://arxiv.org/abs/2006.09011
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scorefield.data.spread import Spread, spread
from scorefield.errors import UserError
from scorefield.noise.ladders import geometric
from scorefield.noise.levels import check_ends

OVERLAP = 0.5668
"""The share of a rung's noise that the next covers: what all five ladders of Song & Ermon (2020) have."""


def langevin_step_size(sigmas: Tensor, steps: int) -> float:
    """The ε that keeps annealed Langevin at the right spread from rung to rung.

    A chain enters a rung with γ = σ_{i−1}/σ_i times its spread. After T updates of drift η = ε/2σ_L² its
    variance over σ_i² is (1−η)^{2T} (γ² − b) + b with b = 2η / (1 − (1−η)²) (Song & Ermon 2020,
    Technique 4); the ε returned brings that nearest to 1. It is ε in the convention of Song & Ermon (2019),
    x ← x + (α/2) s + √α z, twice the α of the later paper.

    Args:
        sigmas: a geometric ladder of at least two rungs.
        steps: T, updates on each rung.

    Raises:
        UserError: fewer than two rungs, or T < 1.
    """
    if steps < 1:
        raise UserError("steps", f"need at least one update on each rung, got {steps}.")
    if len(sigmas) < 2:
        raise UserError("sigmas", "the step size follows from the ratio of two rungs; the ladder has fewer.")
    ratio = float((sigmas[0] / sigmas[-1]) ** (1 / (len(sigmas) - 1)))
    eta = torch.logspace(-5, 0, 20_001, dtype=torch.float64)[:-1]
    stationary = 1 / (1 - eta / 2)
    variance = (1 - eta) ** (2 * steps) * (ratio**2 - stationary) + stationary
    return 2 * float(eta[(variance - 1).abs().argmin()]) * float(sigmas[-1]) ** 2


def overlap(dim: int, ratio: float) -> float:
    """The share of a rung's noise that lies where the rung above, γ times as large, has taught the model.

    In D dimensions the length of σn is about N(√D σ, σ²/2), a thin shell. Within three deviations of that of
    γσ, σ itself has the probability (Song & Ermon 2020, Technique 2)

        Φ(√(2D) (γ−1) + 3γ) − Φ(√(2D) (γ−1) − 3γ).
    """
    apart = math.sqrt(2 * dim) * (ratio - 1)
    return (math.erfc((apart - 3 * ratio) / math.sqrt(2)) - math.erfc((apart + 3 * ratio) / math.sqrt(2))) / 2


def overlap_ratio(dim: int, target: float = OVERLAP) -> float:
    """The ratio γ of neighbouring rungs that overlap by `target`, found by bisection.

    Song & Ermon (2020) say about 0.5, by which CIFAR-10 would have 219 rungs. The ladders that they publish,
    232 for CIFAR-10 and four others, have 0.566 to 0.567; the default gives back the number of each.

    Args:
        dim: D, values in a picture.
        target: the overlap, above 0 and below 0.997, which is that of two like rungs.

    Raises:
        UserError: a target outside, or D < 5, where shells are too thick to part.
    """
    if dim < 5 or not 0 < target < 0.997:
        raise UserError(
            "overlap", f"need 0 < overlap < 0.997 and 5 dimensions or more, got {target:g} and {dim}."
        )
    low, high = 1.0, 2.0
    while overlap(dim, high) > target:
        low, high = high, 2 * high
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if overlap(dim, middle) > target else (low, middle)
    return high


def ladder_levels(dim: int, sigma_max: float, sigma_min: float, target: float = OVERLAP) -> int:
    """The number of rungs that a geometric ladder needs for neighbours to overlap by about `target`.

    Raises:
        UserError: the ends are not 0 < σ_min < σ_max, or see `overlap_ratio`.
    """
    check_ends(sigma_max, sigma_min, 1)
    return 1 + max(1, round(math.log(sigma_max / sigma_min) / math.log(overlap_ratio(dim, target))))


@dataclass(frozen=True, kw_only=True)
class LadderProposal:
    """A ladder that suits pictures of values from 0 to 1, by Song & Ermon (2020), Techniques 1, 2 and 4.

    Attributes:
        sigma_max: the largest distance of two pictures, rounded up to three digits: noise that can carry any
            picture to any other.
        sigma_min: the last rung, too little to be seen.
        levels: rungs.
        ratio: of neighbours.
        overlap: of neighbours, see `overlap`.
        steps: T, updates on each rung.
        step_size: ε of x + (α/2) s + √α z, the paper of 2019's; see `langevin_step_size`.
        step_size_code: ε of x + α s + √(2α) z, the authors' programs' and the paper of 2020's; half of it.
        evaluations: of the network for one picture, with a last one that denoises.
        distances: what was measured.
    """

    sigma_max: float
    sigma_min: float
    levels: int
    ratio: float
    overlap: float
    steps: int
    step_size: float
    step_size_code: float
    evaluations: int
    distances: Spread

    def scaled(self, span: float) -> "LadderProposal":
        """The same for pictures whose values span `span` in place of 1."""
        distances = replace(
            self.distances, largest=span * self.distances.largest, median=span * self.distances.median
        )
        return replace(
            self,
            sigma_max=span * self.sigma_max,
            sigma_min=span * self.sigma_min,
            step_size=span**2 * self.step_size,
            step_size_code=span**2 * self.step_size_code,
            distances=distances,
        )


def propose_ladder(
    images: Tensor, *, sigma_min: float = 0.01, target: float = OVERLAP, steps: int = 5
) -> LadderProposal:
    """The ladder that suits a set of pictures, for values from 0 to 1.

    Args:
        images: (N, C, H, W), uint8, or floats from 0 to 1.
        sigma_min: the last rung.
        target: the overlap to aim at.
        steps: T.

    Raises:
        UserError: fewer than two pictures, NaN, no two that differ by more than σ_min, or σ_min ≤ 0.
    """
    found = spread(images)
    if found.largest <= sigma_min:
        alike = "are all the same" if found.largest == 0 else f"differ by {found.largest:.3g} at most"
        raise UserError("pictures", f"they {alike}, so that no ladder suits them.", "Add others.")
    digit = 10.0 ** (math.floor(math.log10(found.largest)) - 2)
    sigma_max = float(f"{math.ceil(found.largest / digit - 1e-3) * digit:.3g}")
    levels = ladder_levels(found.dim, sigma_max, sigma_min, target)
    ratio = (sigma_max / sigma_min) ** (1 / (levels - 1))
    epsilon = langevin_step_size(geometric(sigma_max, sigma_min, levels), steps)
    return LadderProposal(
        sigma_max=sigma_max,
        sigma_min=sigma_min,
        levels=levels,
        ratio=ratio,
        overlap=overlap(found.dim, ratio),
        steps=steps,
        step_size=epsilon,
        step_size_code=epsilon / 2,
        evaluations=levels * steps + 1,
        distances=found,
    )
