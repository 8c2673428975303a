"""Random square crops of images of many sizes, and pairs of images before and after.

A crop of side w shows the image reduced by a factor z: a square of w/z pixels is cut at a random place and
resized to w × w. z is drawn log-uniformly between two bounds, so that a model sees details at full size and
whole images alike. z = "whole" takes the largest square that fits (Saharia et al. 2022, colorization).

If the decoded images are larger than `memory` bytes, each is decoded again whenever it is needed.

Pairs lie in two sub-folders,

    FOLDER/before/NAME.png  →  FOLDER/after/NAME.jpg          (or input/ and target/),

have the same name except for the suffix, and the same size. Both are cut at the same place.
"""

import hashlib
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from scorefield.data.datasets import data_path, is_bundled
from scorefield.data.folder import list_images
from scorefield.data.image import ImageReadError, decode, header, to_tensor
from scorefield.data.image_set import Skipped, Track
from scorefield.errors import UserError

Zoom = tuple[float, float] | Literal["whole"]
MEMORY = 2**30


@dataclass(frozen=True, kw_only=True, eq=False)
class RandomCrops:
    """A folder of images from which crops are cut; each image is at least as large as a crop.

    Attributes:
        files: one path for each image, or (after, before) for each pair.
        images: uint8, (C, H, W) each, or (2C, H, W) for pairs; None if they are decoded each time.
        side: of a crop, w.
        channels: 1 or 3, of each image.
        zoom: bounds of z, or "whole".
        limit: larger images are reduced until their shorter side has this length.
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
        """(C, w, w), of a crop."""
        return self.channels, self.side, self.side

    @property
    def paired(self) -> bool:
        """Whether each image has a degraded partner."""
        return len(self.files[0]) == 2

    def summary(self) -> str:
        """Number of images, size of the crops and number of skipped files."""
        left_out = f", {len(self.skipped)} skipped" if self.skipped else ""
        kind = "pairs" if self.paired else "images"
        return f"{self.name}: {len(self):,} {kind}, windows of {self.side}×{self.side}{left_out}"

    def digest(self) -> str:
        """The first 16 hex digits of SHA-256 over every file's name and size."""
        sha = hashlib.sha256()
        for path in (path for pair in self.files for path in pair):
            sha.update(f"{path.name}:{path.stat().st_size};".encode(errors="surrogateescape"))
        return sha.hexdigest()[:16]

    def cut(self, indices: Tensor, *, generator: Generator) -> Tensor:
        """One crop of each image at `indices`: uint8, (B, C, w, w), or (B, 2C, w, w) for pairs.

        Raises:
            UserError: names a file that is gone, damaged or smaller than it was when the folder was opened.
        """
        numbers = torch.rand((len(indices), 3), generator=generator).tolist()
        chosen: list[int] = indices.tolist()
        if self.images is not None:
            images = [self.images[i] for i in chosen]
        else:
            with ThreadPoolExecutor() as pool:
                images = list(pool.map(self._decoded_now, chosen))
        return torch.stack([self._crop(p, *n) for p, n in zip(images, numbers, strict=True)])

    def decoded(self, index: int) -> Tensor:
        """Image number `index`, from its file: uint8, (C, H, W), or (2C, H, W) for a pair."""
        return torch.cat([_read(path, self.channels, self.limit) for path in self.files[index]])

    def _decoded_now(self, index: int) -> Tensor:
        files = self.files[index]
        try:
            image = self.decoded(index)
        except (OSError, ImageReadError, RuntimeError) as error:  # the last: a pair whose sizes differ now
            gone = next((path for path in files if not path.is_file()), files[0])
            what = "is gone" if not gone.is_file() else f"{error}".rstrip(".")
            raise UserError(gone, f"{what}; the folder was changed after it was opened.") from error
        if min(image.shape[-2:]) < self.side:
            size = f"{image.shape[-1]}×{image.shape[-2]}"
            raise UserError(files[0], f"is {size} now, smaller than the window of {self.side}.")
        return image

    def _crop(self, image: Tensor, u: float, v: float, t: float) -> Tensor:
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


def open_crops(
    folder: str | Path,
    side: int,
    *,
    zoom: Zoom = "whole",
    channels: int | None = None,
    limit: int | None = None,
    paired: bool = False,
    memory: int = MEMORY,
    track: Track | None = None,
) -> RandomCrops:
    """Open a folder of images, with its sub-folders, for random crops.

    If the folder has a sub-folder `train`, only the images in that are used.

    Args:
        folder: of images, or of pairs, see `read_pairs`.
        side: of a crop, in pixels.
        zoom: bounds of the factor that a crop may reduce the image by, at most 1; or "whole".
        channels: 1 or 3; by default 1 if every image is grey.
        limit: images whose shorter side is longer are reduced to it.
        paired: open pairs.
        memory: decoded images up to this many bytes are kept.
        track: called as track(done, total).

    Raises:
        UserError: no folder, no images large enough, or pairs that do not match.
    """
    root = Path(folder) if is_bundled(folder) else data_path(folder)
    if is_bundled(folder) or not root.is_dir():
        raise UserError(folder, "no such folder of images; windows are cut from files.", "Point at one.")
    if limit is not None and limit < side:
        raise UserError("data.size", f"{limit} is less than the window, {side}.", "Leave it out.")
    root = root / "train" if (root / "train").is_dir() else root
    found: list[tuple[Path, ...]] = (
        [(pair.after, pair.before) for pair in read_pairs(root)]
        if paired
        else [(root / name,) for name in list_images(root)]
    )
    kept, skipped, grey, total = _measured(found, side, limit)
    if not kept:
        raise UserError(
            folder,
            f"none of its {len(found)} images gives a window of {side} ({skipped[0].reason}).",
            "Choose a smaller data.window.",
        )
    crops = RandomCrops(
        files=kept, images=None, side=side, channels=channels or (1 if grey else 3), zoom=zoom,
        limit=limit, name=root.resolve().name, source=str(folder), skipped=skipped,
    )  # fmt: skip
    return crops if total > memory else _decode_all(crops, track)


def _measured(
    found: list[tuple[Path, ...]], side: int, limit: int | None
) -> tuple[tuple[tuple[Path, ...], ...], tuple[Skipped, ...], bool, int]:
    """The usable files, the others, whether all are grey, and the bytes of all when decoded as RGB."""
    kept: list[tuple[Path, ...]] = []
    skipped: list[Skipped] = []
    grey, total = True, 0
    for files in found:
        try:
            headers = [header(path) for path in files]
            size, _ = headers[0]
            if min(size) < side:
                raise ImageReadError(f"is {size[1]}×{size[0]}, smaller than the window of {side}")
        except ImageReadError as problem:
            skipped.append(Skipped(path=str(files[0]), reason=str(problem)))
            continue
        grey = grey and all(is_grey for _, is_grey in headers)
        ratio = 1.0 if limit is None else min(1.0, limit / min(size))
        total += round(size[0] * size[1] * ratio**2) * 3 * len(files)
        kept.append(files)
    return tuple(kept), tuple(skipped), grey, total


def _decode_all(crops: RandomCrops, track: Track | None) -> RandomCrops:
    """The same with its images in memory."""
    images: list[Tensor] = []
    kept: list[tuple[Path, ...]] = []
    skipped = list(crops.skipped)
    for index, files in enumerate(crops.files):
        try:
            images.append(crops.decoded(index))
            kept.append(files)
        except ImageReadError as problem:
            skipped.append(Skipped(path=str(files[0]), reason=str(problem)))
        if track is not None:
            track(index + 1, len(crops))
    if not kept:
        raise UserError(crops.source, "none of its images can be read.", f"First: {skipped[0].reason}.")
    return replace(crops, files=tuple(kept), images=tuple(images), skipped=tuple(skipped))


def _read(path: Path, channels: int, limit: int | None) -> Tensor:
    image = decode(path).convert("L" if channels == 1 else "RGB")
    if limit is not None and min(image.size) > limit:
        ratio = limit / min(image.size)
        size = (max(limit, round(image.width * ratio)), max(limit, round(image.height * ratio)))
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return to_tensor(image)


# --- Pairs ---------------------------------------------------------------------------------------

LAYOUTS = (("before", "after"), ("input", "target"))
"""Names of the two sub-folders: degraded images, and clean ones."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two images of the same size.

    Args:
        name: of both, relative to the sub-folder, without suffix.
        before: the degraded image.
        after: the clean image.
        size: (H, W) of both.
    """

    name: str
    before: Path
    after: Path
    size: tuple[int, int]


def pair_folders(folder: str | Path) -> tuple[Path, Path]:
    """The sub-folders of the degraded and of the clean images.

    Raises:
        UserError: no folder, or no such sub-folders.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(folder, "is no folder.", "Pairs lie in its sub-folders before and after.")
    for layout in LAYOUTS:
        before, after = (root / name for name in layout)
        if before.is_dir() and after.is_dir():
            return before, after
    raise UserError(folder, "has no sub-folders before and after, or input and target.")


def read_pairs(folder: str | Path) -> tuple[Pair, ...]:
    """All pairs of a folder, by name; no image is decoded.

    Raises:
        UserError: no such sub-folders, an empty one, an image without a partner, two of one name, an image
            that cannot be read, or a partner of another size.
    """
    sides = pair_folders(folder)
    files = [_by_name(side) for side in sides]
    for here, there, side in ((files[0], files[1], sides[1]), (files[1], files[0], sides[0])):
        alone = sorted(here.keys() - there.keys())
        if alone:
            rest = len(alone) - 1
            more = f"Nor {'has 1 other' if rest == 1 else f'have {rest} others'}." if rest else ""
            raise UserError(here[alone[0]], f"has no partner of that name in {side.name}/.", more)
    return tuple(_pair(name, files[0][name], files[1][name]) for name in sorted(files[0]))


def _by_name(side: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name in list_images(side):
        path = side / name
        key = Path(name).with_suffix("").as_posix()
        if key in found:
            raise UserError(path, f"has the name of {found[key].name}.", "Keep one of the two.")
        found[key] = path
    return found


def _pair(name: str, before: Path, after: Path) -> Pair:
    sizes: list[tuple[int, int]] = []
    for path in (before, after):
        try:
            sizes.append(header(path)[0])
        except ImageReadError as problem:
            raise UserError(path, f"{problem}.") from None
    (h, w), (other_h, other_w) = sizes
    if sizes[0] != sizes[1]:
        raise UserError(
            before, f"is {w}×{h}, its partner {other_w}×{other_h}.", "The two of a pair have the same size."
        )
    return Pair(name=name, before=before, after=after, size=(h, w))
