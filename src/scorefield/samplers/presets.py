"""Samplers by name, each with a schedule that fits the model.

`SAMPLERS` says for each name what makes the sampler, whose plain arguments are its settings, and how it is
fitted to a model; `plan` does it. See `fitting` for the schedules and the numbers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from scorefield import schedules
from scorefield.errors import UserError, did_you_mean
from scorefield.model import ScoreModel, check_sigmas
from scorefield.samplers.adaptive_ode import RungeKutta
from scorefield.samplers.ancestral import DDIM, Ancestral
from scorefield.samplers.base import Sampler
from scorefield.samplers.burn_in import Settled
from scorefield.samplers.consistent import ConsistentAnnealed
from scorefield.samplers.fitting import Fit, Plan, Request, adjusted, annealed, at_one_level, down
from scorefield.samplers.langevin import AnnealedLangevin, Langevin
from scorefield.samplers.mala import MALA
from scorefield.samplers.multistep import AdamsBashforth, DPMSolver2M
from scorefield.samplers.ode import Euler, Heun
from scorefield.samplers.predictor_corrector import PredictorCorrector
from scorefield.samplers.settings import Kind, Setting, check_settings, settings_of


def _sde(*, eta: float = 1.0) -> Sampler:
    """DPM-Solver++ 2M with all the noise of its SDE."""
    return DPMSolver2M(eta=eta)


def _corrected(*, snr: float = 0.16, updates: int = 1, eta: float = 0.0) -> Sampler:
    """DDIM, corrected: at a hundred evaluations a third of the distance of reverse diffusion, corrected."""
    return PredictorCorrector(predictor=DDIM(eta=eta), snr=snr, updates=updates)


@dataclass(frozen=True, kw_only=True)
class Way:
    """What a name stands for.

    Args:
        make: the sampler's class, or a function that makes one; its plain arguments are the settings.
        fit: fits it to a model.
    """

    make: Callable[..., Sampler]
    fit: Fit


SAMPLERS: dict[str, Way] = {
    "heun": Way(make=Heun, fit=down(18, few=12)),
    "dpm++-2m": Way(make=DPMSolver2M, fit=down(18)),
    "dpm++-2m-sde": Way(make=_sde, fit=down(20)),
    "adams": Way(make=AdamsBashforth, fit=down(18)),
    "euler": Way(make=Euler, fit=down(20)),
    "ddim": Way(make=DDIM, fit=down(20)),
    "ddpm": Way(make=Ancestral, fit=down(250)),
    "predictor-corrector": Way(make=_corrected, fit=down(250)),
    "consistent": Way(make=ConsistentAnnealed, fit=down(250)),
    "runge-kutta": Way(make=RungeKutta, fit=down(10)),
    "annealed-langevin": Way(make=AnnealedLangevin, fit=annealed),
    "langevin": Way(make=Langevin, fit=at_one_level),
    "mala": Way(make=MALA, fit=adjusted),
}


@cache
def known_settings() -> dict[str, dict[str, Kind]]:
    """Every sampler's settings by name, and what each may be."""
    return {name: settings_of(way.make) for name, way in SAMPLERS.items()}


def plan(
    model: ScoreModel,
    sampler: str = "heun",
    steps: int | None = None,
    *,
    sigmas: Tensor | None = None,
    schedule: str | None = None,
    settings: Mapping[str, Setting] | None = None,
    init_sigma: float | None = None,
) -> Plan:
    """The named sampler with a schedule that fits the model.

    Args:
        model: whose noise levels the schedule spans, or whose own noise levels it takes.
        sampler: a name in SAMPLERS.
        steps: noise levels of the schedule; of the Langevin samplers updates in all (as many as whole updates of each
            noise level allow; fewer than there are noise levels thin the schedule); by default the sampler's own.
        sigmas: a schedule of your own in place of the plan's. `ddpm` takes one that climbs (`schedules.climbing`).
        schedule: a name in `schedules.SCHEDULES`, spanned over the model's noise levels, or "own" for the noise levels that
            it was trained on; by default "karras", and for the Langevin samplers "own" or else "geometric".
        settings: of the sampler, by name; see `known_settings`.
        init_sigma: go down from this noise level alone: it is the first noise level, and those above are left out.

    Raises:
        UserError: no such sampler, schedule or setting, steps < 1, or a schedule outside of what the model knows.
    """
    if sampler not in SAMPLERS:
        raise UserError("sampler", f"no such sampler {sampler!r}.", did_you_mean(sampler, SAMPLERS))
    if steps is not None and steps < 1:
        raise UserError("steps", f"need at least one, got {steps}.")
    if schedule is not None:
        if sigmas is not None:
            raise UserError("schedule", "a name and a schedule of your own cannot both be walked.")
        if schedule not in (*schedules.SCHEDULES, "own"):
            known = [*schedules.SCHEDULES, "own"]
            raise UserError("schedule", f"no such schedule {schedule!r}.", did_you_mean(schedule, known))
    checked = check_settings(sampler, settings or {}, known_settings())
    way = SAMPLERS[sampler]
    request = Request(model=model, make=way.make, steps=steps, sigmas=sigmas, schedule=schedule, settings=checked)
    chosen = way.fit(request)
    if init_sigma is not None:
        chosen = _below(chosen, init_sigma)
    check_sigmas(model, _falling(chosen.sigmas))
    positive = chosen.sigmas[chosen.sigmas > 0]
    off = 1.0 if model.schedule is None else schedules.off_schedule(model.schedule, positive)
    return replace(chosen, off_schedule=off)


def _below(chosen: Plan, sigma: float) -> Plan:
    """The rest of the way from σ on, which begins near enough to the images to need no settling."""
    if not 0 < sigma < float("inf"):
        raise UserError("init_sigma", f"need a finite noise level above 0, got {sigma:g}.")
    sampler = chosen.sampler.sampler if isinstance(chosen.sampler, Settled) else chosen.sampler
    first = torch.tensor([sigma])
    below = chosen.sigmas[chosen.sigmas < first]
    return replace(chosen, sampler=sampler, sigmas=torch.cat([first, below]))


def _falling(sigmas: Tensor) -> Tensor:
    """The levels of a schedule that may climb, once each, from the largest down."""
    return sigmas.unique().flip(0) if sigmas.ndim == 1 else sigmas
