"""Training: a recipe, the loop that follows it, and what a run leaves on disk."""

from scorefield.training.loop import Interrupted, Progress, Trainer
from scorefield.training.recipe import Recipe, build_model, parse_duration, read_recipe

__all__ = ["Interrupted", "Progress", "Recipe", "Trainer", "build_model", "parse_duration", "read_recipe"]
