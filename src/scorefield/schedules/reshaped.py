"""One schedule made from another: cut, thinned, or climbing now and then.

References:
    Lugmayr et al. (2022), Algorithm 1 and App. B (RePaint's jumps). https://arxiv.org/abs/2201.09865
"""

import torch
from torch import Tensor

from scorefield.errors import UserError
from scorefield.schedules.levels import check_schedule

SLACK = 1 + 1e-6
"""A noise level may pass a limit by as much: two roundings of float32."""


def capped(sigmas: Tensor, sigma_max: float) -> Tensor:
    """The noise levels that are at most σ_max, as where a model's training stopped.

    Raises:
        UserError: `sigmas` is no schedule, or all its noise levels lie above.
    """
    levels = check_schedule(sigmas)
    kept = sigmas[sigmas <= sigma_max * SLACK]
    if len(kept) == 0 or float(kept[0]) == 0:
        least = min(s for s in levels if s > 0)
        raise UserError("sigma_max", f"{sigma_max:g} lies below all noise levels; the last is {least:g}.")
    return kept


def thinned(sigmas: Tensor, count: int) -> Tensor:
    """About `count` noise levels, at least the first and the last, evenly from all of them."""
    if count >= len(sigmas):
        return sigmas
    return sigmas[torch.linspace(0, len(sigmas) - 1, max(2, count)).round().long()]


def climbing(sigmas: Tensor, *, jump: int = 10, times: int = 10) -> Tensor:
    """A schedule that goes each stretch of `jump` noise levels down `times` times, as RePaint.

    From the last noise level on, every jump-th noise level is a place to turn: from there the schedule climbs back to the
    noise level `jump` above, in one step, for adding σ noise to τ in one step or in ten is the same in distribution, and
    comes down again. The authors' 250 noise levels with jumps of 10 and 10 times come to 2,410 evaluations.

    Args:
        sigmas: a falling schedule, which may end in 0. The last step to 0 is not repeated.
        jump: how many noise levels it climbs, j.
        times: how often it goes down each stretch, r; 1 leaves the schedule as it is.

    Raises:
        UserError: `sigmas` does not fall, jump < 1, times < 1, or the jump passes the first noise level.
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
    walked = sigmas[count - 1 - torch.tensor(places, device=sigmas.device)]
    return torch.cat([walked, sigmas[count:]])
