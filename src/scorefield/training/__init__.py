"""Training: a recipe, the loop that follows it, and what a run leaves on disk."""

from scorefield.training.checks import open_recipe_data
from scorefield.training.loop import Progress, Trainer
from scorefield.training.recipe import Recipe, build_model, read_recipe
from scorefield.training.settings import parse_duration
from scorefield.training.signals import Interrupted

__all__ = [
    "Interrupted",
    "Progress",
    "Recipe",
    "Trainer",
    "build_model",
    "open_recipe_data",
    "parse_duration",
    "read_recipe",
]
