"""Schedules by name, each fitted to what a model knows: σ_max, σ_min and a number of steps make a schedule.

Those with ends of their own (DDPM's, cosine, VP, sub-VP, Palette's) are cut to the range first. A table's
noise levels are then thinned to the number of steps; where they are too few, ln σ is read off between them, linear
in t. All end in 0.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from scorefield.errors import UserError
from scorefield.schedules import published as schedules
from scorefield.schedules.levels import check_ends, sub_vp_sigma, sub_vp_time, vp_sigma, vp_time
from scorefield.schedules.reshaped import SLACK

FittedSchedule = Callable[[float, float, int], Tensor]
"""From (σ_max, σ_min, steps) to (steps + 1,): falling noise levels within the range, then 0."""

_END = 1e-3  # the least time of the VP and sub-VP equations


def ended(sigmas: Tensor) -> Tensor:
    """The schedule with 0 at its end."""
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def _geometric(sigma_max: float, sigma_min: float, steps: int) -> Tensor:
    return ended(schedules.geometric(sigma_max, sigma_min, steps))


def _of_table(table: Callable[[], Tensor]) -> FittedSchedule:
    """The schedule that fits a schedule's own noise levels."""

    def fitted(sigma_max: float, sigma_min: float, steps: int) -> Tensor:
        check_ends(sigma_max, sigma_min, steps)
        own = table()
        inside = own[(own <= sigma_max * SLACK) & (own >= sigma_min / SLACK)]
        if steps <= len(inside):
            return ended(inside[torch.linspace(0, len(inside) - 1, steps).round().long()])
        high, low = _overlap(sigma_max, sigma_min, float(own[0]), float(own[-1]))
        logs = own.double().log().flip(0).numpy()  # rising, as np.interp wants them
        t = np.arange(len(logs), dtype=float)
        first, last = np.interp([math.log(high), math.log(low)], logs, t)
        levels = np.exp(np.interp(np.linspace(first, last, steps), t, logs))
        return ended(torch.from_numpy(levels).float())

    return fitted


def _of_equation(at: Callable[[Tensor], Tensor], when: Callable[[Tensor], Tensor]) -> FittedSchedule:
    """The schedule of even times from where the equation has σ_max, or its start, to where it has σ_min."""

    def fitted(sigma_max: float, sigma_min: float, steps: int) -> Tensor:
        check_ends(sigma_max, sigma_min, steps)
        own = at(torch.tensor([1, _END], dtype=torch.float64)).tolist()
        ends = torch.tensor(_overlap(sigma_max, sigma_min, *own), dtype=torch.float64)
        first, last = when(ends).tolist()
        return ended(at(torch.linspace(first, last, steps, dtype=torch.float64)).float())

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
    "karras": schedules.karras,
    "geometric": _geometric,
    "log-snr": schedules.log_snr,
    "ve": _geometric,
    "linear-beta": _of_table(schedules.linear_beta),
    "cosine": _of_table(lambda: schedules.cosine(1000)),
    "vp": _of_equation(vp_sigma, vp_time),
    "sub-vp": _of_equation(sub_vp_sigma, sub_vp_time),
    "palette-training": _of_table(schedules.palette_training),
    "palette-inference": _of_table(schedules.palette_inference),
}
"""The schedules that a plan can be given by name.

`geometric`, `log-snr` and `ve` are one schedule under three names: the VE equation's σ(t) is
σ_min (σ_max/σ_min)^t (Song et al. 2021, App. C), and log-SNR is −2 ln σ.
"""
