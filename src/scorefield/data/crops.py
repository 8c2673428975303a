"""Images of many sizes, and square windows cut from them: what a model of large images trains on.

A window of side w shows the image reduced by a factor z: a square of w/z pixels is cut from a random place
and brought to w × w. z is drawn log-uniformly between two ends, so that a model sees small things at full
size and whole images alike; z = "whole" always takes the largest square that fits, as Palette trains
(Saharia et al. 2022, §5.1: the largest random square crop).

Images that together are larger than `memory` bytes are decoded anew each time that they are needed.

Of pairs (see `paired`) both are cut at the same place.
"""

import hashlib
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from scorefield.data.folder import list_images
from scorefield.data.image import ImageReadError, decode, header, to_tensor
from scorefield.data.image_set import Skipped, Track
from scorefield.data.paired import read_pairs
from scorefield.errors import UserError

Zoom = tuple[float, float] | Literal["whole"]
MEMORY = 2**30


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """Images of at least the window's size each.

    Attributes:
        files: one path, or the two of a pair, for each image.
        images: uint8, (C, H, W) each, a pair's one upon the other; None where they are decoded each time.
        side: of the window, w.
        channels: 1 or 3, of each image.
        zoom: the least and the greatest z, or "whole".
        limit: the shorter side to which larger images are reduced.
        name: short name, for titles and stamps.
        source: where it came from, for people.
        skipped: files that gave no image.
    """

    files: tuple[tuple[Path, ...], ...]
    images: tuple[Tensor, ...] | None
    side: int
    channels: int
    zoom: Zoom
    limit: int | None
    name: str
    source: str
    skipped: tuple[Skipped, ...] = ()

    labels = None
    class_names = None
    class_count = 0

    def __len__(self) -> int:
        return len(self.files)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, w, w): of the window."""
        return self.channels, self.side, self.side

    @property
    def paired(self) -> bool:
        """Whether each image has a degraded one under it."""
        return len(self.files[0]) == 2

    def summary(self) -> str:
        """Number, window and what was left out, in a line."""
        left_out = f", {len(self.skipped)} skipped" if self.skipped else ""
        kind = "pairs" if self.paired else "images"
        return f"{self.name}: {len(self):,} {kind}, windows of {self.side}×{self.side}{left_out}"

    def digest(self) -> str:
        """The first 16 hex digits of SHA-256 over every file's name and size."""
        sha = hashlib.sha256()
        for path in (path for pair in self.files for path in pair):
            sha.update(f"{path.name}:{path.stat().st_size};".encode())
        return sha.hexdigest()[:16]

    def cut(self, indices: Tensor, *, generator: Generator) -> Tensor:
        """A window of each image at `indices`: uint8, (B, C, w, w), or (B, 2C, w, w) of pairs."""
        numbers = torch.rand((len(indices), 3), generator=generator).tolist()
        chosen: list[int] = indices.tolist()
        if self.images is not None:
            images = [self.images[i] for i in chosen]
        else:
            with ThreadPoolExecutor() as pool:
                images = list(pool.map(self._decoded, chosen))
        return torch.stack([self._window(p, *n) for p, n in zip(images, numbers, strict=True)])

    def _decoded(self, index: int) -> Tensor:
        return torch.cat([_read(path, self.channels, self.limit) for path in self.files[index]])

    def _window(self, image: Tensor, u: float, v: float, t: float) -> Tensor:
        shorter = min(image.shape[-2:])
        square = shorter
        if self.zoom != "whole":
            low, high = math.log(self.zoom[0]), math.log(self.zoom[1])
            square = min(shorter, max(self.side, round(self.side / math.exp(low + t * (high - low)))))
        top = int(u * (image.shape[-2] - square + 1))
        left = int(v * (image.shape[-1] - square + 1))
        cut = image[:, top : top + square, left : left + square]
        if square == self.side:
            return cut
        small = interpolate(cut[None].float(), (self.side, self.side), mode="bicubic", antialias=True)
        return small[0].round_().clamp_(0, 255).to(torch.uint8)


def open_windows(
    folder: str | Path,
    side: int,
    *,
    zoom: Zoom = "whole",
    channels: int | None = None,
    limit: int | None = None,
    paired: bool = False,
    memory: int = MEMORY,
    track: Track | None = None,
) -> Windows:
    """The images of a folder, sub-folders too, from which windows are cut.

    Where the folder has a sub-folder `train`, the images in that are meant.

    Args:
        folder: of images, or of pairs, see `read_pairs`.
        side: of the window, in pixels.
        zoom: by how much a window may reduce what it shows: least and greatest, at most 1; or "whole".
        channels: 1 or 3; by default 1 if every image is grey.
        limit: reduce images whose shorter side is longer than this.
        paired: open pairs.
        memory: bytes up to which the decoded images are kept.
        track: called as track(done, total).

    Raises:
        UserError: no folder, no images large enough, a zoom that cannot be, or pairs that do not match.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(folder, "no such folder of images; windows are cut from files.", "Point at one.")
    if limit is not None and limit < side:
        raise UserError("data.size", f"{limit} is less than the window, {side}.", "Leave it out.")
    root = root / "train" if (root / "train").is_dir() else root
    found: list[tuple[Path, ...]] = (
        [(pair.after, pair.before) for pair in read_pairs(root)]
        if paired
        else [(root / name,) for name in list_images(root)]
    )
    kept: list[tuple[Path, ...]] = []
    skipped: list[Skipped] = []
    grey, total = True, 0
    for files in found:
        try:
            sizes = [header(path) for path in files]
            size, _ = sizes[0]
            if min(size) < side:
                raise ImageReadError(f"is {size[1]}×{size[0]}, smaller than the window of {side}")
        except ImageReadError as problem:
            skipped.append(Skipped(path=str(files[0]), reason=str(problem)))
            continue
        grey = grey and all(is_grey for _, is_grey in sizes)
        ratio = 1.0 if limit is None else min(1.0, limit / min(size))
        total += round(size[0] * size[1] * ratio**2) * 3 * len(files)
        kept.append(files)
    if not kept:
        raise UserError(
            folder,
            f"none of its {len(found)} images gives a window of {side} ({skipped[0].reason}).",
            "Choose a smaller data.window.",
        )
    made = Windows(
        files=tuple(kept), images=None, side=side, channels=channels or (1 if grey else 3), zoom=zoom,
        limit=limit, name=root.resolve().name, source=str(folder), skipped=tuple(skipped),
    )  # fmt: skip
    return made if total > memory else _held(made, track)


def _held(windows: Windows, track: Track | None) -> Windows:
    """The same with its images in memory."""
    images: list[Tensor] = []
    kept: list[tuple[Path, ...]] = []
    skipped = list(windows.skipped)
    for index, files in enumerate(windows.files):
        try:
            images.append(windows._decoded(index))  # pyright: ignore[reportPrivateUsage]
            kept.append(files)
        except ImageReadError as problem:
            skipped.append(Skipped(path=str(files[0]), reason=str(problem)))
        if track is not None:
            track(index + 1, len(windows))
    if not kept:
        raise UserError(windows.source, "none of its images can be read.", f"First: {skipped[0].reason}.")
    return Windows(
        files=tuple(kept), images=tuple(images), side=windows.side, channels=windows.channels,
        zoom=windows.zoom, limit=windows.limit, name=windows.name, source=windows.source,
        skipped=tuple(skipped),
    )  # fmt: skip


def _read(path: Path, channels: int, limit: int | None) -> Tensor:
    image = decode(path).convert("L" if channels == 1 else "RGB")
    if limit is not None and min(image.size) > limit:
        ratio = limit / min(image.size)
        size = (max(limit, round(image.width * ratio)), max(limit, round(image.height * ratio)))
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return to_tensor(image)
