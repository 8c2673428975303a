"""Samplers: from noise to pictures by a denoiser and a ladder.

A sampler is a frozen set of settings with one method, `iterate`, that yields a `Step` per update. `plan`
picks a sampler and its ladder by name for a model; `sample` runs it.
"""

from scorefield.samplers.langevin import AnnealedLangevin, Convention, Langevin
from scorefield.samplers.mala import MALA
from scorefield.samplers.ode import Heun
from scorefield.samplers.sample import SAMPLERS, Plan, Start, Tuning, plan, sample
from scorefield.samplers.settled import Settled
from scorefield.samplers.step import Project, Sampler, Step

__all__ = [
    "MALA",
    "SAMPLERS",
    "AnnealedLangevin",
    "Convention",
    "Heun",
    "Langevin",
    "Plan",
    "Project",
    "Sampler",
    "Settled",
    "Start",
    "Step",
    "Tuning",
    "plan",
    "sample",
]
