"""Restoration: an observation becomes a denoiser, and any sampler does the rest."""

from scorefield.restoration.guidance import DPS, MomentMatching, PiGDM
from scorefield.restoration.learned import Learned
from scorefield.restoration.methods import METHODS, USUAL, Approach, Method, approach
from scorefield.restoration.null_space import NullSpace
from scorefield.restoration.posterior import Posterior, Restorer
from scorefield.restoration.projection import Projection
from scorefield.restoration.restore import restore
from scorefield.restoration.restored import Restored
from scorefield.restoration.tasks import TASKS, Task

__all__ = [
    "DPS",
    "METHODS",
    "TASKS",
    "USUAL",
    "Approach",
    "Learned",
    "Method",
    "MomentMatching",
    "NullSpace",
    "PiGDM",
    "Posterior",
    "Projection",
    "Restored",
    "Restorer",
    "Task",
    "approach",
    "restore",
]
