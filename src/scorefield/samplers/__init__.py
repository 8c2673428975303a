"""Samplers: from noise to pictures by a denoiser and a ladder.

A sampler is a frozen set of settings with one method, `iterate`, that yields a `Step` per update. `plan`
picks a sampler and its ladder by name for a model; `sample` runs it.
"""

from scorefield.samplers.ancestral import DDIM, Ancestral, Variance
from scorefield.samplers.consistent import ConsistentAnnealed
from scorefield.samplers.exponential import AdamsBashforth, DPMSolver2M
from scorefield.samplers.fitting import Plan
from scorefield.samplers.flow import RungeKutta
from scorefield.samplers.langevin import AnnealedLangevin, Convention, Langevin
from scorefield.samplers.latents import decode, encode, interpolate, interpolation
from scorefield.samplers.mala import MALA
from scorefield.samplers.ode import Euler, Heun
from scorefield.samplers.plans import SAMPLERS, known_settings, plan
from scorefield.samplers.predictor_corrector import PredictorCorrector
from scorefield.samplers.sample import Start, sample
from scorefield.samplers.settings import Setting
from scorefield.samplers.settled import Settled
from scorefield.samplers.step import Project, Sampler, Step

__all__ = [
    "DDIM",
    "MALA",
    "SAMPLERS",
    "AdamsBashforth",
    "Ancestral",
    "AnnealedLangevin",
    "ConsistentAnnealed",
    "Convention",
    "DPMSolver2M",
    "Euler",
    "Heun",
    "Langevin",
    "Plan",
    "PredictorCorrector",
    "Project",
    "RungeKutta",
    "Sampler",
    "Setting",
    "Settled",
    "Start",
    "Step",
    "Variance",
    "decode",
    "encode",
    "interpolate",
    "interpolation",
    "known_settings",
    "plan",
    "sample",
]
