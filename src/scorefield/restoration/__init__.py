"""Restoration: a restorer turns an observation into a denoiser, and any sampler does the rest."""

from scorefield.restoration.hints import ColorHint, read_hints
from scorefield.restoration.methods import DEFAULT_METHOD, METHODS, Method, MethodPlan, palette_plan, resolve_method
from scorefield.restoration.null_space import NullSpace
from scorefield.restoration.observation_guidance import DPS, MomentMatching, PiGDM
from scorefield.restoration.palette import Palette
from scorefield.restoration.pipeline import ImageInput, restore
from scorefield.restoration.posterior import Posterior, Restorer
from scorefield.restoration.projection import Projection
from scorefield.restoration.result import Restoration
from scorefield.restoration.tasks import (
    TASKS,
    Colorize,
    Custom,
    Deblur,
    Dejpeg,
    Denoise,
    Descratch,
    Inpaint,
    Paired,
    Task,
    Uncrop,
    Upscale,
    named_task,
    tasks_of,
)

__all__ = [
    "DEFAULT_METHOD", "DPS", "METHODS", "TASKS", "ColorHint", "Colorize", "Custom",
    "Deblur", "Dejpeg", "Denoise", "Descratch",
    "ImageInput", "Inpaint", "Method", "MethodPlan", "MomentMatching", "NullSpace", "Paired", "Palette", "PiGDM",
    "Posterior", "Projection", "Restoration", "Restorer", "Task", "Uncrop", "Upscale", "named_task", "palette_plan",
    "read_hints", "resolve_method", "restore", "tasks_of",
]  # fmt: skip
