"""What must hold before a run begins or resumes: its folder, its images, its noise levels, its network."""

import os
import tomllib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from scorefield import checkpoint
from scorefield.data.image_set import ImageSet
from scorefield.errors import UserError
from scorefield.files import refuse_existing, refuse_locked
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

_CHANGE = "# changed at step "


def refuse_many_processes() -> None:
    """Refuse to be one of several processes: each would train on the same batches.

    Raises:
        UserError: the environment says that there are several.
    """
    size = os.environ.get("WORLD_SIZE", "1")
    if size.strip() not in {"", "0", "1"}:
        raise UserError(
            "WORLD_SIZE", f"{size} processes were started; training runs in one.", "Start it without torchrun or srun."
        )


def can_resume(recipe: Recipe, run: Path, *, resume: bool, change: Collection[str] = ()) -> bool:
    """Whether the folder holds a run that this recipe may continue; if not, it must be free.

    A run that ended before its first checkpoint starts anew in its own folder.

    Args:
        recipe: what is trained.
        run: the folder.
        resume: whether to look for a run in it.
        change: settings, as "optimizer.lr", in which the recipe may differ from the run's.

    Raises:
        UserError: the folder is taken, another process trains in it, or its run followed another recipe.
    """
    refuse_locked(run)
    if resume and (run / RECIPE).is_file():
        _check_same_recipe(recipe, run, change)
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

    A whole part that only the new network has, such as the embedding of quantisation tables, keeps its own weights.

    Raises:
        UserError: no model of that name, or one with another network.
    """
    path = find(name)
    weights = checkpoint.read_weights(path)
    parts = {key.partition(".")[0] for key in weights}
    new = {key: value for key, value in model.network.state_dict().items() if key.partition(".")[0] not in parts}
    checkpoint.fit_weights(model.network, weights | new, where=path)


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


def check_same_data(state: dict[str, Any], digest: str, source: str, run: Path) -> None:
    """Refuse to resume a run with other images than it began with.

    Raises:
        UserError: their digest is not that in the run's state.
    """
    before = state.get("data", digest)
    if before != digest:
        raise UserError(
            run,
            f"its run began with images of digest {before}; those of {source} have {digest}.",
            "Give it the images that it began with, or choose another folder.",
        )


def changes_of(recipe: Recipe, run: Path, step: int) -> tuple[str, ...]:
    """What was changed in a run when it was resumed, a sentence each, and what the recipe changes now.

    Args:
        recipe: that it goes on by.
        run: its folder.
        step: at which it goes on.
    """
    lines = (run / RECIPE).read_text(encoding="utf-8").splitlines()
    earlier = [line.removeprefix("# ") for line in lines if line.startswith(_CHANGE)]
    now = [
        f"{_CHANGE.removeprefix('# ')}{step}: {section}.{key} = {ours!r}, before {theirs!r}"
        for section, key, theirs, ours in _differences(recipe, run)
        if (section, key) != ("training", "steps")
    ]
    return (*earlier, *now)


def recipe_text(recipe: Recipe, changes: Collection[str]) -> str:
    """The recipe in TOML, below what was changed since the run began."""
    return "".join(f"# {change}\n" for change in changes) + recipe.to_toml()


def _settings_of(run: Path) -> dict[str, Any]:
    """A run's recipe as plain data: with all defaults where it reads back, else as it was written."""
    try:
        return read_recipe(run / RECIPE).to_dict()
    except UserError:  # an object of the user's own stands in it
        return tomllib.loads((run / RECIPE).read_text(encoding="utf-8"))


_KEPT = {"seed", "precision", "drop_class"}
"""Settings of `training` that a run keeps; the others have no bearing on its weights, but for their number of steps."""


def _may_change(section: str, key: str) -> bool:
    """Whether a run can go on with another value: all but what its weights, its batches and its noise depend on."""
    optimizer = section == "optimizer" and key != "batch"
    return optimizer or section == "average" or (section == "training" and key in {"precision", "drop_class"})


def _differences(recipe: Recipe, run: Path) -> list[tuple[str, str, Any, Any]]:
    """Section, key, the run's value and the recipe's, where they differ."""
    theirs, ours = _settings_of(run), recipe.to_dict()
    if ours["noise"] == "auto":
        ours["noise"] = theirs["noise"]  # found from the data, which must be the same
    found: list[tuple[str, str, Any, Any]] = []
    for section, settings in ours.items():
        before: Any = theirs.get(section, {})
        if section == "degradation":
            found += [(section, "", before, settings)] if (before or []) != settings else []
            continue
        for key in [*settings, *(key for key in before if key not in settings)]:
            if before.get(key) != settings.get(key):
                found.append((section, key, before.get(key), settings.get(key)))
    return found


def _check_same_recipe(recipe: Recipe, run: Path, change: Collection[str]) -> None:
    """Refuse to resume with another recipe; its length and what it writes may change, and what was asked for."""
    mend = "Resume with the run's own recipe.toml, or choose another folder."
    for section, key, theirs, ours in _differences(recipe, run):
        name = f"{section}.{key}"
        if section == "degradation":
            raise UserError(run, "its run learned from other degradations than the recipe says.", mend)
        if (section == "training" and key not in _KEPT) or (name in change and _may_change(section, key)):
            continue
        asked = f"To change it, pass --set {name}={ours}. " if _may_change(section, key) else ""
        raise UserError(run, f"its run has {name} = {theirs!r}, the recipe says {ours!r}.", asked + mend)


__all__ = [
    "can_resume",
    "changes_of",
    "check_images",
    "check_labels",
    "check_same_data",
    "check_size",
    "init_from",
    "inner_precision",
    "recipe_text",
    "refuse_many_processes",
    "with_noise_found",
]
