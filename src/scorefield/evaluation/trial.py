"""Images to measure restoring by: windows of clean ones, and what a degradation leaves of them.

Everything is drawn from a seed, image by image, so that every system is given the same degraded images
to the byte, whatever its value range and however many it takes at once. What is left is rounded to 8 bits, as
a file would be.

From a folder of images of any size come square windows: image i gives windows i, i + G, i + 2G … of
G images, each of a random place and reduction (`data.windows`). Windows of one image are alike, and
intervals are taken over images. Of a set of images of one size each is a window.
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
from scorefield.degradations import (
    JPEG,
    AdditiveNoise,
    Degradation,
    EncodedJPEG,
    Identity,
    Mask,
    NetworkInput,
    Observation,
    network_input,
)
from scorefield.errors import UserError
from scorefield.evaluation.cases import Case, ValueRange
from scorefield.evaluation.classical import Degraded

_MIDDLE = 128
_RANGE: ValueRange = (-1.0, 1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """Clean images of one size, and which of them are of one photograph.

    Args:
        set: the images; its labels where there are any.
        groups: (N,).
        words: what they are, with their number and digest.
    """

    set: ImageSet
    groups: Tensor
    words: str

    def __len__(self) -> int:
        return len(self.set)


def open_test_windows(
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
) -> Windows:
    """N windows of side × side from one split of the data.

    Args:
        data: see `open_images`.
        side: in pixels.
        n: how many; of a set of images of one size at most all of them, a fixed random choice.
        split: "train", "test" …
        channels: 1 or 3.
        zoom: of windows from a folder, see `data.windows`.
        limit: likewise.
        seed: of the places and reductions.
        track: told how many images are read.

    Raises:
        UserError: no such data, or images that are too small.
    """
    if n < 2:
        raise UserError("-n", f"an interval needs at least two images, got {n}.")
    if not _is_folder(data):
        found = open_images(data, size=side, channels=channels, split=split, track=track)
        kept = torch.tensor(chosen(len(found), min(n, len(found))))
        words = f"{len(kept)} images of {side}×{side} of {found.name}, {split}"
        return _told(found.select(kept), torch.arange(len(kept)), words)
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
    words = f"{n} windows of {side}×{side} of {len(order)} images of {name}, {split}{reduced}"
    return _told(ImageSet(images=images, labels=None, name=name, source=data), groups, words)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """Images, and what is left of them.

    Args:
        case: the task and the distribution of the degradation.
        windows: the clean images.
        left: y = A(x) rounded to 8 bits, uint8 (N, C', H', W').
        seen: how it looks at the image's own size, middle grey in holes, uint8 (N, C, H, W).
        fill: where an image is to be predicted, bool (N, 1, H, W).
        seed: of the degradation.
    """

    case: Case
    windows: Windows
    left: Tensor
    seen: Tensor
    fill: Tensor
    seed: int

    def __len__(self) -> int:
        return len(self.windows)

    @property
    def originals(self) -> Tensor:
        """The clean images, uint8 (N, C, H, W)."""
        return self.windows.set.images

    @property
    def hole(self) -> Tensor:
        """Where nothing is known, bool (N, 1, H, W); nowhere where all is to be predicted from something."""
        return self.fill & ~self.fill.flatten(1).all(1).reshape(-1, 1, 1, 1)

    def degraded(self, rows: slice = slice(None)) -> Degraded:
        """What a classical tool is given."""
        return Degraded(seen=self.seen[rows], hole=self.hole[rows], originals=self.originals[rows])

    def observation(self, rows: slice, value_range: ValueRange) -> Observation:
        """What a model that restores is given of some of the images, in its value range."""
        operator = _joined(self.operators(rows, value_range))
        return Observation(y=to_float(self.left[rows], value_range), degradation=operator)

    def solvable(self, rows: slice, value_range: ValueRange) -> Observation:
        """The same for a method that inverts the operator itself.

        JPEG is the operator that has an inverse, noise is known by its strength alone, and y is brought onto
        what A can give, y ← A(A⁺y).
        """
        operators = [_invertible(one) for one in self.operators(rows, value_range)]
        noise = max(strength for _, strength in operators)
        operator = _joined([one for one, _ in operators])
        y = to_float(self.left[rows], value_range)
        return Observation(y=y if noise else operator(operator.pinv(y)), degradation=operator, noise=noise)

    def operators(self, rows: slice, value_range: ValueRange) -> list[Degradation]:
        """What each of some images went through."""
        return _drawn(self.case, self.originals, range(len(self))[rows], self.seed, value_range)


def make_trial(case: Case, windows: Windows, *, seed: int = 0) -> Trial:
    """Degradation the windows.

    Args:
        case: the distribution of the degradation.
        windows: clean images.
        seed: of the degradation.

    Raises:
        UserError: images that the degradation does not fit, as grey ones to be colored.
    """
    images = windows.set.images
    left: list[Tensor] = []
    seen: list[Tensor] = []
    fill: list[Tensor] = []
    operators = _drawn(case, images, range(len(images)), seed, _RANGE)
    for image, operator in zip(images.split(1), operators, strict=True):
        y = to_uint8(operator(to_float(image, _RANGE)), _RANGE)
        view = network_input(operator, to_float(y, _RANGE), generator=Generator().manual_seed(0))
        unknown = view.mask > 0
        source = to_uint8(view.source, _RANGE)
        left.append(y)
        seen.append(source if unknown.all() else torch.where(unknown, _MIDDLE, source))
        fill.append(unknown)
    return Trial(
        case=case,
        windows=windows,
        left=torch.cat(left),
        seen=torch.cat(seen),
        fill=torch.cat(fill),
        seed=seed,
    )


@dataclass(frozen=True, kw_only=True)
class EachByItself:
    """An operator for each image of a batch.

    Args:
        parts: as many as there are images.
    """

    parts: tuple[Degradation, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """A_i(x_i), (B, C', H', W')."""
        return torch.cat([part(one) for part, one in zip(self.parts, x.split(1), strict=True)])

    def pinv(self, y: Tensor) -> Tensor:
        """A_i⁺y_i, (B, C, H, W)."""
        return torch.cat([part.pinv(one) for part, one in zip(self.parts, y.split(1), strict=True)])

    def network_input(self, y: Tensor, *, generator: Generator) -> NetworkInput:
        """Each as its operator shows it."""
        views = [network_input(p, one, generator=generator) for p, one in zip(self.parts, y.split(1), strict=True)]
        return NetworkInput(torch.cat([v.source for v in views]), torch.cat([v.mask for v in views]))


def seed_of(*numbers: int) -> int:
    """A seed for each choice of numbers; of 32 bits, all that the processor's generator looks at."""
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:4], "big")


def _drawn(case: Case, images: Tensor, rows: range, seed: int, value_range: ValueRange) -> list[Degradation]:
    """An operator for each image, from its own seed."""
    family, shape = case.distribution(value_range), (1, *images.shape[1:])
    return [family.draw(shape, generator=Generator().manual_seed(seed_of(seed, row))) for row in rows]


def _joined(operators: list[Degradation]) -> Degradation:
    """One operator for a batch."""
    first = operators[0]
    masks = [one.fill for one in operators if isinstance(one, Mask)]
    if len(masks) == len(operators):
        return Mask(fill=torch.cat(masks))
    if all(one is first for one in operators):
        return first
    if isinstance(first, JPEG | Identity) and all(one == first for one in operators):
        return first
    return EachByItself(parts=tuple(operators))


def _invertible(operator: Degradation) -> tuple[Degradation, float]:
    """The operator as a method without training may know it, and the noise beside it."""
    if isinstance(operator, AdditiveNoise):
        return Identity(), operator.std
    if isinstance(operator, EncodedJPEG):
        known = JPEG(quality=operator.quality, subsampling=operator.subsampling, value_range=operator.value_range)
        return known, 0.0
    return operator, 0.0


def _is_folder(data: str) -> bool:
    path = Path(data)
    return not is_bundled(data) and path.is_dir() and not is_cifar(path) and not idx_files(path)


def _told(images: ImageSet, groups: Tensor, words: str) -> Windows:
    if len(images) < 2:
        raise UserError(images.source, f"{len(images)} image; an interval needs two.", "Give more.")
    return Windows(set=images, groups=groups, words=f"{words}, {images.digest()[:8]}")
