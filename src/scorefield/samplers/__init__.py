"""Samplers: from noise to images by a denoiser and a noise schedule.

A sampler is a frozen dataclass of settings with one method, `iterate`, that yields a `Step` per update; `run`
runs it to the end. `plan` picks a sampler and its schedule by name for a model; `sample` draws images.
"""

from scorefield.samplers.adaptive_ode import RungeKutta
from scorefield.samplers.ancestral import DDIM, Ancestral, ConsistentAnnealed, Variance
from scorefield.samplers.base import Project, Sampler, Step, run
from scorefield.samplers.burn_in import BurnIn
from scorefield.samplers.inversion import decode, encode, interpolate, interpolation
from scorefield.samplers.langevin import AnnealedLangevin, Convention, Langevin
from scorefield.samplers.mala import MALA
from scorefield.samplers.multistep import AdamsBashforth, DPMSolver2M
from scorefield.samplers.ode import Euler, Heun
from scorefield.samplers.predictor_corrector import PredictorCorrector
from scorefield.samplers.presets import PRESETS, Plan, Setting, known_settings, plan
from scorefield.samplers.sample import Start, WarmStart, sample, sample_batches

__all__ = [
    "DDIM",
    "MALA",
    "PRESETS",
    "AdamsBashforth",
    "Ancestral",
    "AnnealedLangevin",
    "BurnIn",
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
    "Start",
    "Step",
    "Variance",
    "WarmStart",
    "decode",
    "encode",
    "interpolate",
    "interpolation",
    "known_settings",
    "plan",
    "run",
    "sample",
    "sample_batches",
]
