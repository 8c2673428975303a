"""One driver for all figures: options → draw → images, a table and a few numbers.

The driver checks before any work that the files are free and the options fit, and writes what the figure's `draw`
returns. `catalog.FIGURES` lists the figures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from scorefield.data.datasets import held_out, open_images, splits
from scorefield.data.image_set import ImageSet
from scorefield.errors import UserError
from scorefield.figures.catalog import FigureSpec
from scorefield.figures.drawing import claim, save, write_csv
from scorefield.metrics.features import Features
from scorefield.model import ScoreModel
from scorefield.progress import ProgressCallback, ignore_progress

__all__ = ["Drawing", "FigureInputs", "check_count", "check_options", "images_for", "make", "mean_of"]

_NONE: Any = None


@dataclass(frozen=True, kw_only=True)
class FigureInputs:
    """What a figure is drawn from. `make` checks that what the figure needs is there.

    Args:
        model: of the images.
        train: its training images.
        held_out: held-out images.
        features: what distances are measured on.
        out: the folder, for figures that keep runs in it.
        seed: of everything random.
        progress: called on the way.
    """

    model: ScoreModel = _NONE
    train: ImageSet = _NONE
    held_out: ImageSet = _NONE
    features: Features = _NONE
    out: Path = Path()
    seed: int = 0
    progress: ProgressCallback = ignore_progress


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What `draw` returns.

    Args:
        images: matplotlib figures, in the order of the figure's files.
        rows: of the table; all have the same keys.
        numbers: the main results, by name.
    """

    images: Sequence[Any]
    rows: Sequence[Mapping[str, Any]]
    numbers: dict[str, Any]


def make(
    spec: FigureSpec, options: Any, inputs: FigureInputs, *, overwrite: bool = False
) -> tuple[tuple[Path, ...], dict[str, Any]]:
    """Draw a figure and write its images and its table into `inputs.out`.

    Returns:
        The files, images first, and the figure's numbers.

    Raises:
        UserError: a file exists, the options do not fit, or matplotlib is missing.
        ValueError: an input that the figure needs is missing.
    """
    *images, table = claim(inputs.out, *spec.files, overwrite=overwrite)
    if missing := [name for name in spec.needs if getattr(inputs, name) is None]:
        raise ValueError(f"the figure {spec.name} needs {', '.join(missing)}")
    check_options(spec, options, inputs)
    drawing: Drawing = import_module(spec.module).draw(options, inputs)
    write_csv(table, drawing.rows)
    for image, path in zip(drawing.images, images, strict=True):
        with torch.no_grad():
            save(image, path)
    return (*images, table), drawing.numbers


def check_options(spec: FigureSpec, options: Any, inputs: FigureInputs) -> None:
    """Raise UserError, before any work, where the options do not fit the inputs."""
    for one in fields(options):
        least, value = one.metadata.get("min"), getattr(options, one.name)
        if least is not None and value is not None and value < least:
            raise UserError(one.name, f"need at least {least}, got {value}.")
    module = import_module(spec.module)
    if hasattr(module, "check"):
        module.check(options, inputs)


def check_count(name: str, wanted: int, count: int, each: int = 1) -> None:
    """Raise UserError where more is wanted than there is; each takes `each` of `count` images."""
    if wanted * each > count:
        asked = f"{wanted}" if each == 1 else f"{each} times {wanted}"
        raise UserError(name, f"{asked} of {count} images.", "Ask for fewer.")


def mean_of(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    """The mean of a column of a table."""
    return sum(row[key] for row in rows) / len(rows)


def images_for(model: ScoreModel | None, data: str, *, split: str = "train") -> ImageSet:
    """The images of `data` in the model's shape; larger ones are cropped and reduced.

    Args:
        model: whose shape they get; None keeps their own.
        data: see `open_images`.
        split: "train" or "test"; without a test split, whatever there is.

    Raises:
        UserError: they are smaller than the model's, or have another number of channels.
    """
    if model is None:
        return open_images(data, split=split if split == "train" else held_out(data))
    known = split if split in splits(data) else "train"
    try:
        images = open_images(data, size=(model.shape[1], model.shape[2]), split=known)
    except UserError as error:
        mend = f"This model draws {_shape(model.shape)}: choose another with --model."
        raise UserError(error.where, error.what, mend if "--size" in error.mend else error.mend) from error
    if images.shape != model.shape:
        raise UserError(
            data,
            f"its images are {_shape(images.shape)}, the model draws {_shape(model.shape)}.",
            "Choose a model for such images with --model, or other --data.",
        )
    return images


def _shape(shape: Sequence[int]) -> str:
    return "×".join(str(side) for side in shape)
