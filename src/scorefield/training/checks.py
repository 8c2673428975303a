"""What must hold before a run begins or goes on: its folder, its images, its noise levels, its network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch

from scorefield import checkpoint
from scorefield.condition import Condition
from scorefield.data.crops import Windows, open_windows
from scorefield.data.datasets import open_images
from scorefield.data.image_set import ImageSet
from scorefield.errors import UserError
from scorefield.files import refuse_existing
from scorefield.hub import find, preferred_precision
from scorefield.model import ScoreModel
from scorefield.training.degradation_settings import PairedDegradation
from scorefield.training.recipe import Recipe, read_recipe
from scorefield.training.schedule_from_data import propose_schedule
from scorefield.training.settings import DenoisingObjective, LevelsDistribution, Noise
from scorefield.training.state import RECIPE


def open_recipe_data(recipe: Recipe, track: Callable[[int, int], None] | None = None) -> ImageSet | Windows:
    """The training images that a recipe names.

    Raises:
        UserError: it names none, or they cannot be opened.
    """
    data = recipe.data
    if not data.source:
        raise UserError("data.source", "the recipe names no data.", "Pass --data.")
    paired = any(isinstance(entry, PairedDegradation) for entry in recipe.degradation)
    if data.window is None:
        if paired:
            raise UserError("data.window", "pairs are cut into windows.", "Set the side of one, e.g. 64.")
        return open_images(data.source, size=data.size, crop=data.crop, channels=data.channels, track=track)
    return open_windows(
        data.source,
        data.window,
        zoom=data.zoom,
        channels=data.channels,
        limit=cast(int | None, data.size),
        paired=paired,
        track=track,
    )


def goes_on(recipe: Recipe, run: Path, *, resume: bool) -> bool:
    """Whether `run` holds a run that this recipe may go on with; if not, it must be free.

    A run that ended before its first checkpoint begins anew in its own folder.

    Raises:
        UserError: the folder is taken, or its run followed another recipe.
    """
    if resume and (run / RECIPE).is_file():
        _same_recipe(recipe, run)
        return True
    refuse_existing(run, mend="Pass --resume auto to go on with it, or choose another folder.")
    return False


def with_noise_found(recipe: Recipe, data: ImageSet | Windows, run: Path | None) -> Recipe:
    """The recipe with numbers in place of `noise = "auto"`.

    The schedule is that of Song & Ermon (2020), Techniques 1 and 2, in units of the model's values: found for
    pixels in [0, 1], it is as much wider as their range is.

    Args:
        recipe: the recipe.
        data: the images that it trains on.
        run: a run that goes on, which keeps the levels that it found.
    """
    if isinstance(recipe.noise, Noise):
        return recipe
    if isinstance(data, Windows):
        raise UserError("noise", "`auto` needs images of one size.", "Give the noise levels as numbers.")
    if run is not None:
        return recipe.model_copy(update={"noise": read_recipe(run / RECIPE).noise})
    low, high = recipe.data.value_range
    found = propose_schedule(data.images).scaled(high - low)
    levels = Noise(
        sigma_min=found.sigma_min,
        sigma_max=found.sigma_max,
        distribution=LevelsDistribution(kind="levels", levels=found.levels),
    )
    return recipe.model_copy(update={"noise": levels})


def inner_precision(recipe: Recipe, device: torch.device) -> torch.dtype:
    """The number format inside the network; gradients of gradients are taken in float32 unless told."""
    if recipe.training.precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[recipe.training.precision]
    once = isinstance(recipe.objective, DenoisingObjective) and not recipe.network.energy
    return preferred_precision(device) if once else torch.float32


def begin_with(model: ScoreModel, name: str) -> None:
    """Give a model the weights of another, which may have learned other noise levels or other degradation.

    Raises:
        UserError: no model of that name, or one with another network.
    """
    path = find(name)
    checkpoint.fit_weights(model.network, checkpoint.read_weights(path), where=path)


def check_images(data: ImageSet | Windows) -> None:
    """See that the images are bytes, which no NaN can hide among.

    Raises:
        UserError: they are something else.
    """
    if isinstance(data, ImageSet) and data.images.dtype != torch.uint8:
        raise UserError(data.source, f"its images are {data.images.dtype}, not uint8.", "Open them with open_images.")


def check_labels(recipe: Recipe, data: ImageSet | Windows) -> None:
    """See that images whose classes are to be told have labels that number classes from 0.

    Raises:
        UserError: they have none, or their labels number something else.
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
    """See that the network takes images of the model's shape, by giving it one.

    Raises:
        UserError: it does not.
    """
    x = torch.zeros(1, *model.shape, device=model.device)
    told = Condition(source=x, mask=x[:, :1] + 1) if model.tasks else None
    sigma = torch.full((1,), model.sigma_range[1], device=model.device)
    training = model.training
    model.eval()
    try:
        model(x, sigma, told)
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


def check_same_data(state: dict[str, Any], data: ImageSet | Windows, run: Path) -> None:
    """See that a run goes on with the images that it began with.

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


def _same_recipe(recipe: Recipe, run: Path) -> None:
    """A run goes on only by its own recipe; its length and what it writes may change."""
    theirs, ours = read_recipe(run / RECIPE).model_dump(), recipe.model_dump()
    if ours["noise"] == "auto":
        ours["noise"] = theirs["noise"]  # found from the data, which must be the same
    mend = "Go on with the run's own recipe.toml, or choose another folder."
    if theirs.pop("degradation") != ours.pop("degradation"):
        raise UserError(run, "its run learned from other degradation than the recipe says.", mend)
    for section in theirs:
        for key, value in theirs[section].items():
            free = section == "training" and key not in {"seed", "precision", "drop_class"}
            if value != ours[section].get(key) and not free:
                raise UserError(
                    run,
                    f"its run has {section}.{key} = {value!r}, the recipe says {ours[section].get(key)!r}.",
                    mend,
                )
