"""Training: a recipe, the loop that follows it, and what a run leaves on disk."""

from scorefield.training.data import open_data, open_recipe_data
from scorefield.training.loop import Callback, Progress, Trainer
from scorefield.training.losses import Objective
from scorefield.training.reading import read_recipe
from scorefield.training.recipe import Recipe, build_model, bundled_recipes
from scorefield.training.settings import Noise, TrainingTask, parse_duration
from scorefield.training.signals import Interrupted

__all__ = [
    "Callback",
    "Interrupted",
    "Noise",
    "Objective",
    "Progress",
    "Recipe",
    "Trainer",
    "TrainingTask",
    "build_model",
    "bundled_recipes",
    "open_data",
    "open_recipe_data",
    "parse_duration",
    "read_recipe",
]
