"""A set of images in memory (or mapped from a file): pixels, labels, and the skipped files."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from scorefield.data.image import Size, centre_box, fit, to_pil, to_tensor
from scorefield.errors import UserError

Track = Callable[[int, int], None]  # (done, total)


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A file that could not be used, and why."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet:
    """Images of one shape.

    Attributes:
        images: uint8, (N, C, H, W), values 0…255; may be a view of a mapped file.
        labels: int64, (N,), or None.
        name: short name, for titles and stamps.
        source: where it came from, for people.
        skipped: files that could not be used.
        class_names: one name a label, where known.
        notes: remarks on the set, a sentence each.
    """

    images: Tensor
    labels: Tensor | None
    name: str
    source: str
    skipped: tuple[Skipped, ...] = ()
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        c, h, w = self.images.shape[1:]
        return c, h, w

    @property
    def class_count(self) -> int:
        """How many classes the labels number, 0 … K − 1; 0 without labels."""
        if self.labels is None or not len(self.labels):
            return 0
        return max(int(self.labels.max()) + 1, len(self.class_names or ()))

    def summary(self) -> str:
        """Number, shape and what was left out, in a line."""
        shape = "×".join(str(side) for side in self.shape)
        left_out = f", {len(self.skipped)} skipped" if self.skipped else ""
        return f"{self.name}: {len(self):,} images, {shape}{left_out}" + "".join(f"; {n}" for n in self.notes)

    def select(self, indices: Tensor) -> "ImageSet":
        """The images (and labels) at `indices`, in that order."""
        labels = None if self.labels is None else self.labels[indices]
        return replace(self, images=self.images[indices], labels=labels)

    def digest(self) -> str:
        """The first 16 hex digits of SHA-256 over shape and pixels: the stamp of an evaluation."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        sha = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        for part in self.images.split(4096):
            sha.update(part.contiguous().numpy().data)
        return sha.hexdigest()[:16]


def chosen(n: int, limit: int | None) -> list[int]:
    """The indices that a `limit` keeps of n items: a fixed random subset, in ascending order.

    The first items would be one class of a sorted folder; a subset drawn with a constant seed
    represents them all and is the same every time.
    """
    if limit is None or limit >= n:
        return list(range(n))
    if limit < 1:
        raise UserError("limit", f"{limit} is no number of images.", "Use 1 or more.")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    return sorted(order[:limit].tolist())


def centre_square(images: Tensor, side: int, *, where: object) -> Tensor:
    """The square of `side` pixels in the middle of uint8 (N, C, H, W); a view.

    Raises:
        UserError: the images are smaller.
    """
    h, w = images.shape[2:]
    if min(h, w) < side:
        raise UserError(where, f"its images are {w}×{h}, too small for a crop of {side}.", "Crop less.")
    left, top, right, bottom = centre_box((h, w), side)
    return images[:, :, top:bottom, left:right]


def adapted(images: Tensor, *, size: Size | None, channels: int | None, where: object) -> Tensor:
    """uint8 (N, C, H, W) brought to a size (cut and shrunk) and a number of channels.

    Raises:
        UserError: the images are smaller than `size`.
    """
    c, h, w = images.shape[1:]
    size = size or (h, w)
    channels = channels or c
    if (c, h, w) == (channels, *size):
        return images
    if h < size[0] or w < size[1]:
        raise UserError(
            where,
            f"its images are {w}×{h}, smaller than {size[1]}×{size[0]}.",
            "Pass a smaller --size; images are never enlarged.",
        )
    if (h, w) == size and (c, channels) == (1, 3):
        return images.repeat(1, 3, 1, 1)
    return torch.stack([to_tensor(fit(to_pil(image), size, channels)) for image in images])
