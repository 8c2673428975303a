"""What must hold before a run begins or resumes: its folder, its images, its noise levels, its network."""

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from scorefield import checkpoint
from scorefield.data.image_set import ImageSet
from scorefield.errors import UserError
from scorefield.files import refuse_existing
from scorefield.hub import find, preferred_precision
from scorefield.model import Condition, ScoreModel
from scorefield.noise_distributions import GeometricLevels
from scorefield.training.data import TrainingData
from scorefield.training.losses import DenoisingObjective
from scorefield.training.reading import noise_from, read_recipe
from scorefield.training.recipe import Recipe
from scorefield.training.schedule_from_data import propose_schedule
from scorefield.training.settings import Noise
from scorefield.training.state import RECIPE


def can_resume(recipe: Recipe, run: Path, *, resume: bool) -> bool:
    """Whether the folder holds a run that this recipe may continue; if not, it must be free.

    A run that ended before its first checkpoint starts anew in its own folder.

    Args:
        recipe: what is trained.
        run: the folder.
        resume: whether to look for a run in it.

    Raises:
        UserError: the folder is taken, or its run followed another recipe.
    """
    if resume and (run / RECIPE).is_file():
        _check_same_recipe(recipe, run)
        return True
    refuse_existing(run, mend="Pass --resume auto to continue it, or choose another folder.")
    return False


def with_noise_found(recipe: Recipe, data: TrainingData, run: Path | None) -> Recipe:
    """The recipe with numbers in place of `noise = "auto"`.

    The schedule is that of Song & Ermon (2020), Techniques 1 and 2. It is found for pixels in [0, 1] and scaled
    to the model's value range.

    Args:
        recipe: the recipe.
        data: the images that it trains on.
        run: a run to resume, which keeps the levels that it found.

    Raises:
        UserError: the images are not in memory, or have several sizes.
    """
    if isinstance(recipe.noise, Noise):
        return recipe
    if not isinstance(data, ImageSet):
        raise UserError("noise", "`auto` needs images of one size in memory.", "Give the noise levels as numbers.")
    if run is not None:
        return replace(recipe, noise=noise_from(_settings_of(run)["noise"]))
    low, high = recipe.data.value_range
    found = propose_schedule(data.images).scaled(high - low)
    levels = GeometricLevels(sigma_max=found.sigma_max, sigma_min=found.sigma_min, levels=found.levels)
    return replace(recipe, noise=Noise(distribution=levels, sigma_min=found.sigma_min, sigma_max=found.sigma_max))


def inner_precision(recipe: Recipe, device: torch.device) -> torch.dtype:
    """The number format inside the network; "auto" takes gradients of gradients in float32."""
    if recipe.training.precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[recipe.training.precision]
    first_order = isinstance(recipe.objective, DenoisingObjective) and not recipe.network.energy
    return preferred_precision(device) if first_order else torch.float32


def init_from(model: ScoreModel, name: str) -> None:
    """Copy another model's weights, which may have learned other noise levels or other degradations.

    Raises:
        UserError: no model of that name, or one with another network.
    """
    path = find(name)
    checkpoint.fit_weights(model.network, checkpoint.read_weights(path), where=path)


def check_images(data: TrainingData) -> None:
    """Refuse images that are not bytes: a NaN would hide among floats.

    Raises:
        UserError: images of another type.
    """
    if isinstance(data, ImageSet) and data.images.dtype != torch.uint8:
        raise UserError(data.source, f"its images are {data.images.dtype}, not uint8.", "Open them with open_images.")


def check_labels(recipe: Recipe, data: TrainingData) -> None:
    """Refuse data without classes for a recipe that trains on classes.

    Raises:
        UserError: the images have no labels, or their labels do not number classes from 0.
    """
    if not recipe.data.labels:
        return
    if data.labels is None:
        raise UserError(
            data.source,
            "its images have no labels, and the recipe says data.labels = true.",
            "Put each class into a sub-folder of its own, or set data.labels=false.",
        )
    lowest, classes = int(data.labels.min()), data.class_count
    if lowest < 0 or classes > len(data):
        raise UserError(
            data.source,
            f"its labels run from {lowest} to {classes - 1}, which are no classes of {len(data)} images.",
            "Number the classes from 0.",
        )


@torch.no_grad()
def check_size(model: ScoreModel) -> None:
    """Evaluate the network once on an image of the model's shape.

    Raises:
        UserError: the network cannot take that shape.
    """
    x = torch.zeros(1, *model.shape, device=model.device)
    condition = Condition(source=x, mask=x[:, :1] + 1) if model.spec.tasks else None
    sigma = torch.full((1,), model.sigma_range[1], device=model.device)
    training = model.training
    model.eval()
    try:
        model(x, sigma, condition)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError) as error:
        high, wide = model.shape[-2:]
        raise UserError(
            "data.size",
            f"this network cannot take images of {wide}×{high} ({str(error).splitlines()[0].rstrip('.')}).",
            "Choose another size.",
        ) from error
    finally:
        model.train(training)


def check_same_data(state: dict[str, Any], data: TrainingData, run: Path) -> None:
    """Refuse to resume a run with other images than it began with.

    Raises:
        UserError: their digest is not that in the run's state.
    """
    before, now = state.get("data", data.digest()), data.digest()
    if before != now:
        raise UserError(
            run,
            f"its run began with images of digest {before}; those of {data.source} have {now}.",
            "Give it the images that it began with, or choose another folder.",
        )


def _settings_of(run: Path) -> dict[str, Any]:
    """A run's recipe as plain data: with all defaults where it reads back, else as it was written."""
    try:
        return read_recipe(run / RECIPE).to_dict()
    except UserError:  # an object of the user's own stands in it
        return tomllib.loads((run / RECIPE).read_text(encoding="utf-8"))


def _check_same_recipe(recipe: Recipe, run: Path) -> None:
    """Refuse to resume with another recipe; its length and what it writes may change."""
    theirs, ours = _settings_of(run), recipe.to_dict()
    if ours["noise"] == "auto":
        ours["noise"] = theirs["noise"]  # found from the data, which must be the same
    mend = "Resume with the run's own recipe.toml, or choose another folder."
    if theirs.pop("degradation", []) != ours.pop("degradation"):
        raise UserError(run, "its run learned from other degradations than the recipe says.", mend)
    for section, settings in ours.items():
        before: dict[str, Any] = theirs.get(section, {})
        for key in [*settings, *(key for key in before if key not in settings)]:
            free = section == "training" and key not in {"seed", "precision", "drop_class"}
            if before.get(key) != settings.get(key) and not free:
                raise UserError(
                    run,
                    f"its run has {section}.{key} = {before.get(key)!r}, the recipe says {settings.get(key)!r}.",
                    mend,
                )


__all__ = [
    "can_resume",
    "check_images",
    "check_labels",
    "check_same_data",
    "check_size",
    "init_from",
    "inner_precision",
    "with_noise_found",
]
