"""One driver for all figures: options → draw → images, a table and a few numbers.

The driver checks before any work that the files are free and the options fit, and writes what the figure's `draw`
returns. `options.FIGURES` lists the figures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from scorefield.data.datasets import held_out, open_images, splits
from scorefield.data.image_set import ImageSet
from scorefield.errors import UserError
from scorefield.figures.drawing import claim, save, write_csv
from scorefield.figures.options import FigureSpec
from scorefield.metrics.features import Features
from scorefield.model import ScoreModel
from scorefield.progress import ProgressCallback, ignore_progress

__all__ = ["Drawing", "FigureInputs", "Made", "check_options", "images_for", "make"]


@dataclass(frozen=True, kw_only=True)
class FigureInputs:
    """What a figure is drawn from; a figure without a model or data ignores these.

    Args:
        model: of the images.
        train: its training images.
        held_out: held-out images.
        features: what distances are measured on.
        out: the folder, for figures that keep runs in it.
        seed: of everything random.
        progress: called on the way.
    """

    model: ScoreModel | None = None
    train: ImageSet | None = None
    held_out: ImageSet | None = None
    features: Features | None = None
    out: Path = Path()
    seed: int = 0
    progress: ProgressCallback = ignore_progress

    @property
    def the_model(self) -> ScoreModel:
        """The model; a ValueError where there is none."""
        if self.model is None:
            raise ValueError("this figure needs a model")
        return self.model

    @property
    def the_train(self) -> ImageSet:
        """The training images; a ValueError where there are none."""
        if self.train is None:
            raise ValueError("this figure needs training images")
        return self.train

    @property
    def the_held_out(self) -> ImageSet:
        """The held-out images; a ValueError where there are none."""
        if self.held_out is None:
            raise ValueError("this figure needs held-out images")
        return self.held_out

    @property
    def the_features(self) -> Features:
        """The features; a ValueError where there are none."""
        if self.features is None:
            raise ValueError("this figure needs features")
        return self.features


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What `draw` returns.

    Args:
        images: matplotlib figures, in the order of the figure's files.
        rows: of the table; all have the same keys.
        numbers: the main results, by name.
    """

    images: Sequence[Any]
    rows: Sequence[Mapping[str, object]]
    numbers: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Made:
    """The files of a figure: images, then the table; and its numbers."""

    files: tuple[Path, ...]
    numbers: dict[str, Any]


def make(spec: FigureSpec, options: Any, inputs: FigureInputs, *, overwrite: bool = False) -> Made:
    """Draw a figure and write its images and its table into `inputs.out`.

    Raises:
        UserError: a file exists, the options do not fit, or matplotlib is missing.
    """
    *images, table = claim(inputs.out, *spec.files, overwrite=overwrite)
    check_options(spec, options, inputs)
    drawing: Drawing = import_module(spec.module).draw(options, inputs)
    write_csv(table, drawing.rows)
    for image, path in zip(drawing.images, images, strict=True):
        with torch.no_grad():
            save(image, path)
    return Made(files=(*images, table), numbers=drawing.numbers)


def check_options(spec: FigureSpec, options: Any, inputs: FigureInputs) -> None:
    """Raise UserError, before any work, where the options do not fit the inputs."""
    module = import_module(spec.module)
    if "check" in module.__all__:
        module.check(options, inputs)


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
