"""The images of a run: from a recipe, a path, a tensor or a torch Dataset."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset

from scorefield.data.crops import RandomCrops, open_crops
from scorefield.data.datasets import open_images
from scorefield.data.image_set import ImageSet
from scorefield.errors import UserError
from scorefield.training.recipe import Recipe

_SAMPLED = 16  # items of a Dataset that its digest reads


class _Items(Protocol):
    """A map-style Dataset."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


class DatasetImages:
    """A map-style torch Dataset as training data; an item is read when a batch needs it.

    Args:
        dataset: its items are uint8 (C, H, W) of one shape, or pairs of such and a class.
        labels: read the class of every item once, at the start.

    Raises:
        UserError: a Dataset without a length, without items, or whose items are something else.
    """

    paired = False

    def __init__(self, dataset: Dataset[Any], *, labels: bool = False) -> None:
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise UserError("data", "a Dataset needs a length and an index.", "Wrap a stream in a map-style Dataset.")
        self._items = cast(_Items, dataset)
        self.name = self.source = type(dataset).__name__
        if not len(self):
            raise UserError(self.source, "has no items.")
        c, h, w = self._pixels(0).shape
        self.shape: tuple[int, int, int] = (c, h, w)
        self.labels = torch.tensor([self._label(i) for i in range(len(self))]) if labels else None
        names: Any = getattr(dataset, "classes", None)
        self.class_names = tuple(map(str, names)) if isinstance(names, list | tuple) else None

    def __len__(self) -> int:
        return len(self._items)

    @property
    def class_count(self) -> int:
        """How many classes the labels number, 0 … K − 1; 0 without labels."""
        return 0 if self.labels is None else max(int(self.labels.max()) + 1, len(self.class_names or ()))

    def cut(self, indices: Tensor, *, generator: Generator) -> Tensor:
        """The images at `indices`: uint8, (B, C, H, W). The generator is not used."""
        return torch.stack([self._pixels(int(i)) for i in indices])

    def digest(self) -> str:
        """The first 16 hex digits of SHA-256 over the length and a few items spread over the set."""
        sha = hashlib.sha256(repr((len(self), self.shape)).encode())
        for index in range(0, len(self), max(1, len(self) // _SAMPLED)):
            sha.update(self._pixels(index).contiguous().numpy().data)
        return sha.hexdigest()[:16]

    def summary(self) -> str:
        """Number and shape, in a line."""
        return f"{self.name}: {len(self):,} images, {'×'.join(map(str, self.shape))}"

    def _pixels(self, index: int) -> Tensor:
        item = self._items[index]
        pixels = item[0] if isinstance(item, tuple | list) else item
        if not isinstance(pixels, Tensor) or pixels.dtype != torch.uint8 or pixels.ndim != 3:
            got = f"{pixels.dtype} {tuple(pixels.shape)}" if isinstance(pixels, Tensor) else type(pixels).__name__
            raise UserError(
                self.source,
                f"item {index} is {got}, not a uint8 tensor (C, H, W).",
                "Return bytes, e.g. torchvision.transforms.PILToTensor().",
            )
        return pixels

    def _label(self, index: int) -> int:
        item = self._items[index]
        if not isinstance(item, tuple | list) or len(item) < 2:
            raise UserError(self.source, "its items have no class.", "Return (image, class).")
        return int(item[1])


TrainingData = ImageSet | RandomCrops | DatasetImages
"""What a Trainer draws batches from."""

DataSource = TrainingData | Dataset[Any] | Tensor | str | Path
"""What a Trainer accepts as data."""


def open_data(data: DataSource | None, recipe: Recipe) -> TrainingData:
    """The training data.

    Args:
        data: open data; a torch Dataset (see `DatasetImages`); a tensor (N, C, H, W) of uint8; a path or a
            bundled name, opened as the recipe says; None for what the recipe names.
        recipe: what is trained.

    Raises:
        UserError: data that cannot be opened, or a tensor of another type or shape.
    """
    if data is None or isinstance(data, str | Path):
        return open_recipe_data(recipe, source=None if data is None else str(data))
    if isinstance(data, ImageSet | RandomCrops | DatasetImages):
        return data
    if not isinstance(data, Tensor):
        return DatasetImages(data, labels=recipe.data.labels)
    if data.dtype != torch.uint8 or data.ndim != 4:
        raise UserError(
            "data",
            f"a tensor of images is uint8 (N, C, H, W), got {data.dtype} {tuple(data.shape)}.",
            "Convert values in [0, 1] by (255 * x).round().clamp(0, 255).to(torch.uint8).",
        )
    return ImageSet(images=data.cpu(), labels=None, name="tensor", source="the tensor")


def open_recipe_data(
    recipe: Recipe, track: Callable[[int, int], None] | None = None, *, source: str | None = None
) -> ImageSet | RandomCrops:
    """The training images that a recipe names.

    Args:
        recipe: what is trained.
        track: called as track(done, total).
        source: a path or bundled name that replaces the recipe's.

    Raises:
        UserError: it names none, or they cannot be opened.
    """
    data, source = recipe.data, source or recipe.data.source
    if not source:
        raise UserError("data.source", "the recipe names no data.", "Pass --data.")
    if data.window is None:
        if recipe.paired:
            raise UserError("data.window", "pairs are cut into windows.", "Set the side of one, e.g. 64.")
        return open_images(source, size=data.size, crop=data.crop, channels=data.channels, track=track)
    return open_crops(
        source,
        data.window,
        zoom=data.zoom,
        channels=data.channels,
        limit=cast(int | None, data.size),
        paired=recipe.paired,
        track=track,
    )


__all__ = ["DataSource", "DatasetImages", "TrainingData", "open_data", "open_recipe_data"]
