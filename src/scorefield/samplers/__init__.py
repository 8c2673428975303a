"""Samplers: from noise to images by a denoiser and a schedule.

A sampler is a frozen set of settings with one method, `iterate`, that yields a `Step` per update. `plan`
picks a sampler and its schedule by name for a model; `sample` runs it.
"""

from scorefield.samplers.adaptive_ode import RungeKutta
from scorefield.samplers.ancestral import DDIM, Ancestral, Variance
from scorefield.samplers.base import Project, Sampler, Step, run
from scorefield.samplers.burn_in import Settled
from scorefield.samplers.consistent import ConsistentAnnealed
from scorefield.samplers.fitting import Plan
from scorefield.samplers.inversion import decode, encode, interpolate, interpolation
from scorefield.samplers.langevin import AnnealedLangevin, Convention, Langevin
from scorefield.samplers.mala import MALA
from scorefield.samplers.multistep import AdamsBashforth, DPMSolver2M
from scorefield.samplers.ode import Euler, Heun
from scorefield.samplers.predictor_corrector import PredictorCorrector
from scorefield.samplers.presets import SAMPLERS, known_settings, plan
from scorefield.samplers.sample import Start, sample
from scorefield.samplers.settings import Setting

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
    "run",
    "sample",
]
