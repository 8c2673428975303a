"""Test images for restoration: clean crops, and what a degradation leaves of them.

Everything is drawn from a seed, image by image, so every method gets the same degraded images to the byte,
whatever its value range. Degraded images are rounded to 8 bits, as a file is.

From a folder of images of any size come square crops: image i gives crops i, i + G, i + 2G … of G images, each
with its own position and reduction (`data.crops`). Crops of one image are alike, and confidence intervals resample
images. In a set of images of one size, each image is a crop.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor

from scorefield.data.crops import Zoom, open_crops
from scorefield.data.datasets import is_bundled, open_images, splits
from scorefield.data.formats import idx_files, is_cifar
from scorefield.data.image import to_float, to_uint8
from scorefield.data.image_set import ImageSet, Track, chosen
from scorefield.degradations import Degradation, network_input
from scorefield.errors import UserError
from scorefield.evaluation.cases import Case, ValueRange

__all__ = ["CropSet", "DegradedSet", "degrade", "open_crop_set"]

_GREY = 128  # shown where an image is masked
_RANGE: ValueRange = (-1.0, 1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class CropSet:
    """Clean images of one size, and the photographs that they come from.

    Args:
        set: the images, with labels where there are any.
        groups: number of the photograph of each, (N,).
        words: name, number and digest.
    """

    set: ImageSet
    groups: Tensor
    words: str

    def __len__(self) -> int:
        return len(self.set)


def open_crop_set(
    data: str,
    side: int,
    *,
    n: int,
    split: str,
    channels: int,
    zoom: Zoom = "whole",
    limit: int | None = None,
    seed: int = 0,
    track: Track | None = None,
) -> CropSet:
    """Test crops of side × side from one split of the data.

    Args:
        data: see `open_images`.
        side: in pixels.
        n: how many; of a set of images of one size a fixed random choice of at most all.
        split: "train", "test" …
        channels: 1 or 3.
        zoom: of crops from a folder, see `data.crops`.
        limit: likewise.
        seed: of positions and reductions.
        track: called with images read and all of them.

    Raises:
        UserError: no such data, or images that are too small.
    """
    if n < 2:
        raise UserError("-n", f"an interval needs at least two images, got {n}.")
    if not _is_folder(data):
        found = open_images(data, size=side, channels=channels, split=split, track=track)
        kept = torch.tensor(chosen(len(found), min(n, len(found))))
        words = f"{len(kept)} images of {side}×{side} of {found.name}, {split}"
        return _described(found.select(kept), torch.arange(len(kept)), words)
    parted = split in splits(data) and (Path(data) / split).is_dir()
    opened = open_crops(
        Path(data) / split if parted else data, side, zoom=zoom, channels=channels, limit=limit, track=track
    )
    order = torch.tensor(chosen(len(opened), n))
    groups = order[torch.arange(n) % len(order)]
    images = opened.cut(groups, generator=Generator().manual_seed(seed))
    name = Path(data).resolve().name
    reduced = "" if zoom == (1.0, 1.0) else ", the largest square of each" if zoom == "whole" else (
        f", reduced to {zoom[0]:g}" + (f"–{zoom[1]:g}" if zoom[0] < zoom[1] else "")
    )  # fmt: skip
    words = f"{n} crops of {side}×{side} of {len(order)} images of {name}, {split}{reduced}"
    return _described(ImageSet(images=images, labels=None, name=name, source=data), groups, words)


@dataclass(frozen=True, kw_only=True, eq=False)
class DegradedSet:
    """Degraded images.

    Args:
        case: the task with its degradation.
        crops: the clean images.
        degraded: y = A(x) rounded to 8 bits, uint8 (N, C', H', W').
        shown: y at the image's own size, grey under masks, uint8 (N, C, H, W).
        unknown: bool (N, 1, H, W): pixels that a method predicts; the others are known.
        seed: of the degradation.
    """

    case: Case
    crops: CropSet
    degraded: Tensor
    shown: Tensor
    unknown: Tensor
    seed: int

    def __len__(self) -> int:
        return len(self.crops)

    @property
    def originals(self) -> Tensor:
        """The clean images, uint8 (N, C, H, W)."""
        return self.crops.set.images

    @property
    def mask(self) -> Tensor:
        """Pixels of which nothing is known, bool (N, 1, H, W); none where the whole image is degraded."""
        return self.unknown & ~self.unknown.flatten(1).all(1).reshape(-1, 1, 1, 1)

    def operators(self, rows: range, value_range: ValueRange) -> list[Degradation]:
        """The degradation of each of some images, for values in this range."""
        return _draw(self.case, self.originals, rows, self.seed, value_range)


def degrade(crops: CropSet, case: Case, *, seed: int = 0) -> DegradedSet:
    """Degrade the crops.

    Args:
        crops: clean images.
        case: the task with its degradation.
        seed: of the degradation.

    Raises:
        UserError: the degradation does not fit the images, such as grey images to be colorized.
    """
    images = crops.set.images
    degraded: list[Tensor] = []
    shown: list[Tensor] = []
    unknown: list[Tensor] = []
    operators = _draw(case, images, range(len(images)), seed, _RANGE)
    for image, operator in zip(images.split(1), operators, strict=True):
        y = to_uint8(operator(to_float(image, _RANGE)), _RANGE)
        view = network_input(operator, to_float(y, _RANGE), generator=Generator().manual_seed(0))
        predicted = view.mask > 0
        source = to_uint8(view.source, _RANGE)
        degraded.append(y)
        shown.append(source if predicted.all() else torch.where(predicted, _GREY, source))
        unknown.append(predicted)
    return DegradedSet(
        case=case,
        crops=crops,
        degraded=torch.cat(degraded),
        shown=torch.cat(shown),
        unknown=torch.cat(unknown),
        seed=seed,
    )


def _draw(case: Case, images: Tensor, rows: range, seed: int, value_range: ValueRange) -> list[Degradation]:
    """A degradation for each image, from its own seed."""
    family, shape = case.distribution(value_range), (1, *images.shape[1:])
    return [family.draw(shape, generator=Generator().manual_seed(_seed_of(seed, row))) for row in rows]


def _seed_of(*numbers: int) -> int:
    """A seed for each choice of numbers; 32 bits, all that the CPU's generator uses."""
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:4], "big")


def _is_folder(data: str) -> bool:
    path = Path(data)
    return not is_bundled(data) and path.is_dir() and not is_cifar(path) and not idx_files(path)


def _described(images: ImageSet, groups: Tensor, words: str) -> CropSet:
    if len(images) < 2:
        raise UserError(images.source, f"{len(images)} image; an interval needs two.", "Give more.")
    if len(groups.unique()) < 2:
        raise UserError(images.source, "all crops are of one image; an interval needs two.", "Give more images.")
    return CropSet(set=images, groups=groups, words=f"{words}, {images.digest()[:8]}")
