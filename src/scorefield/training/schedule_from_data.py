"""A schedule for annealed Langevin dynamics, computed from the images.

The first noise level is the largest distance between two images, so that noise can carry any image to any other
(Technique 1). The ratio γ of neighbouring levels makes the shells on which their noise lies overlap by a given
share (Technique 2). The step size ε keeps the samples' std right from level to level (Technique 4).

References:
    Song & Ermon (2020), Techniques 1, 2 and 4. https://arxiv.org/abs/2006.09011
"""

import math
from dataclasses import dataclass, replace

from torch import Tensor

from scorefield.data.pairwise import PairwiseDistances, pairwise_distances
from scorefield.errors import UserError
from scorefield.schedules import OVERLAP, geometric, langevin_step_size, overlap, schedule_levels


@dataclass(frozen=True, kw_only=True)
class ScheduleProposal:
    """A schedule for images with values in [0, 1], by Song & Ermon (2020), Techniques 1, 2 and 4.

    Attributes:
        sigma_max: the largest distance between two images, rounded up to three digits.
        sigma_min: the last noise level, too small to be visible.
        levels: the number of noise levels.
        ratio: of neighbouring levels.
        overlap: of neighbouring levels, see `overlap`.
        steps: T, updates at each noise level.
        step_size: ε of x + (α/2) s + √α z, as in the paper of 2019; see `langevin_step_size`.
        step_size_code: ε of x + α s + √(2α) z, as in the paper of 2020 and the authors' programs; half of it.
        evaluations: of the network for one image, with a last one that denoises.
        distances: between the images.
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
    distances: PairwiseDistances

    def scaled(self, span: float) -> "ScheduleProposal":
        """The schedule for images whose values span `span` instead of 1."""
        distances = replace(self.distances, largest=span * self.distances.largest, median=span * self.distances.median)
        return replace(
            self,
            sigma_max=span * self.sigma_max,
            sigma_min=span * self.sigma_min,
            step_size=span**2 * self.step_size,
            step_size_code=span**2 * self.step_size_code,
            distances=distances,
        )


def propose_schedule(
    images: Tensor, *, sigma_min: float = 0.01, target: float = OVERLAP, steps: int = 5
) -> ScheduleProposal:
    """The schedule for a set of images, for values in [0, 1].

    Args:
        images: (N, C, H, W), uint8, or floats in [0, 1].
        sigma_min: the last noise level.
        target: the overlap of neighbouring levels.
        steps: T, updates at each noise level.

    Raises:
        UserError: fewer than two images, NaN, no two that differ by more than σ_min, or σ_min ≤ 0.
    """
    found = pairwise_distances(images)
    if found.largest <= sigma_min:
        alike = "are all the same" if found.largest == 0 else f"differ by {found.largest:.3g} at most"
        raise UserError("images", f"they {alike}, so no schedule suits them.", "Add others.")
    digit = 10.0 ** (math.floor(math.log10(found.largest)) - 2)
    sigma_max = float(f"{math.ceil(found.largest / digit - 1e-3) * digit:.3g}")
    levels = schedule_levels(found.dim, sigma_max, sigma_min, target)
    ratio = (sigma_max / sigma_min) ** (1 / (levels - 1))
    epsilon = langevin_step_size(geometric(sigma_max, sigma_min, levels), steps)
    return ScheduleProposal(
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


__all__ = ["ScheduleProposal", "propose_schedule"]
