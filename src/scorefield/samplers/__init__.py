"""Samplers: from noise to pictures by a denoiser and a ladder.

A sampler is a frozen set of settings with one method, `iterate`, that yields a `Step` per update. `plan`
picks a sampler and its ladder by name for a model; `sample` runs it.
"""

from scorefield.samplers.langevin import AnnealedLangevin, Langevin
from scorefield.samplers.ode import Heun
from scorefield.samplers.sample import SAMPLERS, Plan, plan, sample
from scorefield.samplers.step import Project, Sampler, Step

__all__ = [
    "SAMPLERS",
    "AnnealedLangevin",
    "Heun",
    "Langevin",
    "Plan",
    "Project",
    "Sampler",
    "Step",
    "plan",
    "sample",
]
