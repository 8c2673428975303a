"""A folder of images: listed in sorted order, measured, decoded by a pool of threads.

Two passes run over the files. The first reads headers only; it settles the size and the channels
and finds what cannot be used. The second decodes. Order and bytes do not depend on the threads.

A set larger than `memory` bytes is decoded once into `cache_dir()/images/<key>.bin` and mapped
from there, so that it need not fit into memory and a second start is instant. The key covers
every file's path, size and time of change, and the requested shape; a changed folder is decoded
again. Deleting the cache is always safe.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from scorefield.data.encode import FORMATS
from scorefield.data.image import ImageReadError, Size, centre_box, decode, fit, header, to_tensor
from scorefield.data.image_set import ImageSet, Skipped, Track, chosen
from scorefield.errors import UserError
from scorefield.files import atomic, cache_dir, is_special, write_atomic

MEMORY = 2**30
SUFFIXES = frozenset(suffix for suffix, kind in FORMATS.items() if kind != "HEIF") | frozenset(
    {".jpe", ".jfif", ".jp2", ".gif", ".dib", ".tga", ".pgm", ".ppm", ".pbm", ".pnm"}
)
"""Of the files that a folder is searched for: those written (`FORMATS`), except HEIC, which needs an extra,
and some that are read only."""
_CHUNK = 64

Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Which files to decode, and to what shape, as the headers settle it."""

    files: tuple[str, ...]
    size: Size
    crop: int | None
    channels: int
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a folder holds.

    Args:
        files: relative paths of its image files, sorted.
        skipped: pipes, devices, and links to folders that are read already.
        links: relative paths of links to folders that were followed.
    """

    files: list[str]
    skipped: tuple[Skipped, ...]
    links: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What is worth saying, a sentence each."""
        count = len(self.links)
        more = f" and {count - 1} more" if count > 1 else ""
        return tuple(f"linked folders are followed: {first}{more}." for first in self.links[:1])


def list_images(folder: Path, *, suffixes: frozenset[str] = SUFFIXES) -> list[str]:
    """The files of `listing`."""
    return listing(folder, suffixes=suffixes).files


def listing(folder: Path, *, suffixes: frozenset[str] = SUFFIXES) -> Listing:
    """All image files below `folder`; hidden files and folders are left out.

    Links to folders are followed, each folder once: not those that lead back into `folder` or above it.

    Args:
        folder: where to look.
        suffixes: of image files, in lower case.

    Raises:
        UserError: there are none.
    """
    scan = Scan(folder=folder, suffixes=suffixes)
    files = sorted(scan)
    if not files:
        raise scan.nothing()
    return Listing(files=files, skipped=tuple(scan.skipped), links=tuple(sorted(scan.links)))


@dataclass(kw_only=True)
class Scan:
    """The image files of `listing` one after another, folder by folder, so that a million need not be kept.

    Args:
        folder: where to look.
        suffixes: of image files, in lower case.
        skipped: as `Listing` has them, as far as the scan has come.
        links: the same.
        images: how many there are.
        others: how many other files.
        array: the first of them that is a .npz or .npy file.
    """

    folder: Path
    suffixes: frozenset[str] = SUFFIXES
    skipped: list[Skipped] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    images: int = 0
    others: int = 0
    array: str | None = None

    def __iter__(self) -> Iterator[str]:
        """Their relative paths."""
        for base, files in _walk(self.folder, self.skipped, self.links):
            above = "" if base == self.folder else f"{base.relative_to(self.folder).as_posix()}/"
            while files:
                file = files.pop()  # so that its name makes room
                suffix = os.path.splitext(file)[1].lower()  # noqa: PTH122 - a million times
                if file.startswith("."):
                    continue
                if suffix not in self.suffixes:
                    self.others += 1
                    self.array = self.array or (above + file if suffix in {".npz", ".npy"} else None)
                elif is_special(base / file):
                    self.skipped.append(Skipped(path=above + file, reason="is a pipe or a device, not a file"))
                else:
                    self.images += 1
                    yield above + file

    def nothing(self) -> UserError:
        """Why there are no images, once all was looked at."""
        if self.skipped:
            return UserError(self.folder, f"holds no images ({self.skipped[0].path}: {self.skipped[0].reason}).")
        if not self.others:
            return UserError(self.folder, "the folder is empty.", "Point --data at a folder of images.")
        mend = (
            f"Pass the file {self.folder / self.array} itself."
            if self.array
            else "PNG, JPEG, WebP and others are read."
        )
        return UserError(self.folder, f"holds no images ({self.others} other files).", mend)


def _walk(folder: Path, skipped: list[Skipped], links: list[str]) -> Iterator[tuple[Path, list[str]]]:
    """Each folder and its files, hidden ones too, the last first; what links lead to is added to the lists."""
    root, read = folder.resolve(), set[Path]()
    for base, folders, files in os.walk(folder, followlinks=True):
        kept: list[str] = []
        for name in sorted(name for name in folders if not name.startswith(".")):
            path = Path(base) / name
            relative, target = path.relative_to(folder).as_posix(), path.resolve()
            back = path.is_symlink() and (target.is_relative_to(root) or root.is_relative_to(target))
            if back or target in read:
                skipped.append(Skipped(path=relative, reason="links to a folder that is read already"))
                continue
            read.add(target)
            kept.append(name)
            if path.is_symlink():
                links.append(relative)
        folders[:] = kept
        files.sort(reverse=True)
        yield Path(base), files


def open_folder(
    folder: Path,
    *,
    name: str | None = None,
    size: Size | None,
    crop: int | None = None,
    channels: int | None,
    limit: int | None,
    track: Track | None,
    memory: int = MEMORY,
) -> ImageSet:
    """All images below `folder` as one set; unusable files are skipped and listed.

    Class labels are the names of the sub-folders, where every image lies in exactly one level of
    at least two of them.
    """
    there = listing(folder)
    listed = there.files
    files = [listed[i] for i in chosen(len(listed), limit)]
    stored = cache_dir() / "images" / f"{_key(folder, files, size, crop, channels)}.bin"
    if (cached := _from_cache(stored)) is not None:
        images, kept, skipped, notes = cached
    else:
        report = _counting(track, 2 * len(files))
        plan = _plan(folder, files, size, crop, channels, report)
        nbytes = len(plan.files) * plan.channels * plan.size[0] * plan.size[1]
        rows = _decoded(folder, plan, report)
        if nbytes <= memory:
            images, kept, skipped = _into_memory(rows, plan)
        else:
            images, kept, skipped = _into_file(rows, plan, stored, nbytes)
        notes = plan.notes
        if not kept:
            raise _nothing_left(folder, len(files), skipped)
        if track is not None:
            track(2 * len(files), 2 * len(files))
    labels, class_names = _class_labels(kept, listed)
    return ImageSet(
        images=images,
        labels=labels,
        name=name or folder.resolve().name,
        source=str(folder),
        skipped=tuple(sorted((*skipped, *there.skipped), key=lambda s: s.path)),
        class_names=class_names,
        notes=(*there.notes, *notes, *_empty_folders(folder, listed)),
    )


# --- First pass: headers -------------------------------------------------------------------------


def _plan(
    folder: Path,
    files: list[str],
    size: Size | None,
    crop: int | None,
    channels: int | None,
    report: Callable[[], None],
) -> _Plan:
    measured: dict[str, tuple[Size, bool]] = {}
    skipped: list[Skipped] = []
    for file, found in zip(files, _in_threads(partial(_measure, folder), files), strict=True):
        report()
        if isinstance(found, str):
            skipped.append(Skipped(path=file, reason=found))
        else:
            measured[file] = found
    if not measured:
        raise _nothing_left(folder, len(files), skipped)
    if crop is not None:
        size, least, small = size or (crop, crop), (crop, crop), f"too small for a crop of {crop}"
    else:
        least = size = size or _common_size(folder, [s for s, _ in measured.values()])
        small = f"smaller than {size[1]}×{size[0]}"
    usable = [f for f, ((h, w), _) in measured.items() if h >= least[0] and w >= least[1]]
    skipped += [Skipped(path=f, reason=small) for f in measured if f not in set(usable)]
    if not usable:
        raise _nothing_left(folder, len(files), skipped)
    grey = sum(is_grey for f, (_, is_grey) in measured.items() if f in set(usable))
    notes: tuple[str, ...] = ()
    if channels is None:
        channels = 1 if grey == len(usable) else 3
        if 0 < grey < len(usable):
            notes = (f"{grey} of {len(usable)} images are grey; all are read as RGB.",)
    return _Plan(files=tuple(usable), size=size, crop=crop, channels=channels, skipped=tuple(skipped), notes=notes)


def _measure(folder: Path, file: str) -> tuple[Size, bool] | str:
    try:
        return header(folder / file)
    except ImageReadError as problem:
        return str(problem)


def _common_size(folder: Path, sizes: list[Size]) -> Size:
    if len(set(sizes)) == 1:
        return sizes[0]
    (h0, w0), (h1, w1) = min(sizes, key=np.prod), max(sizes, key=np.prod)
    raise UserError(
        folder,
        f"images differ in size: from {w0}×{h0} to {w1}×{h1}.",
        "Pass --size, for example --size 32; each image is cut to shape and reduced.",
    )


def _nothing_left(folder: Path, total: int, skipped: Sequence[Skipped]) -> UserError:
    counts = Counter("smaller" if s.reason.startswith(("smaller", "too small")) else "unreadable" for s in skipped)
    first = skipped[0]
    what = f"none of its {total} images can be used ({first.path}: {first.reason})."
    if counts["smaller"]:
        return UserError(folder, what, "Pass a smaller --size or --crop; images are never enlarged.")
    return UserError(folder, what, "Check the files.")


# --- Second pass: pixels -------------------------------------------------------------------------


def _decoded(folder: Path, plan: _Plan, report: Callable[[], None]) -> Iterator[tuple[str, Tensor | str]]:
    def one(file: str) -> Tensor | str:
        try:
            image = decode(folder / file, at_least=None if plan.crop else plan.size)
            if plan.crop:
                image = image.crop(centre_box((image.height, image.width), plan.crop))
            return to_tensor(fit(image, plan.size, plan.channels))
        except ImageReadError as problem:
            return str(problem)

    for file, made in zip(plan.files, _in_threads(one, plan.files), strict=True):
        report()
        yield file, made


def _into_memory(rows: Iterator[tuple[str, Tensor | str]], plan: _Plan) -> tuple[Tensor, list[str], list[Skipped]]:
    images = torch.empty(len(plan.files), plan.channels, *plan.size, dtype=torch.uint8)
    kept: list[str] = []
    skipped = list(plan.skipped)
    for file, made in rows:
        if isinstance(made, str):
            skipped.append(Skipped(path=file, reason=made))
        else:
            images[len(kept)] = made
            kept.append(file)
    return images[: len(kept)], kept, skipped


def _into_file(
    rows: Iterator[tuple[str, Tensor | str]], plan: _Plan, stored: Path, nbytes: int
) -> tuple[Tensor, list[str], list[Skipped]]:
    stored.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(stored.parent).free < nbytes:
        raise UserError(
            stored.parent,
            f"too little disk space for the decoded images ({nbytes / 1e9:.1f} GB).",
            "Free some, or point SCOREFIELD_CACHE at a larger disk.",
        )
    kept: list[str] = []
    skipped = list(plan.skipped)
    with atomic(stored) as part, part.open("wb") as out:
        for file, made in rows:
            if isinstance(made, str):
                skipped.append(Skipped(path=file, reason=made))
            else:
                out.write(made.numpy().data)
                kept.append(file)
        if not kept:
            raise _nothing_left(stored, len(plan.files), skipped)
    shape = (len(kept), plan.channels, *plan.size)
    record = {
        "shape": shape,
        "kept": kept,
        "skipped": [asdict(s) for s in skipped],
        "notes": plan.notes,
    }
    write_atomic(stored.with_suffix(".json"), json.dumps(record))  # last: its presence says "whole"
    return _mapped(stored, shape), kept, skipped


def _from_cache(stored: Path) -> tuple[Tensor, list[str], list[Skipped], tuple[str, ...]] | None:
    try:
        record = json.loads(stored.with_suffix(".json").read_text(encoding="utf-8"))
        images = _mapped(stored, tuple(record["shape"]))
        skipped = [Skipped(**s) for s in record["skipped"]]
        return images, list(record["kept"]), skipped, tuple(record["notes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent or damaged: decode again


def _mapped(stored: Path, shape: tuple[int, ...]) -> Tensor:
    # Copy-on-write: torch asks for a writable buffer, and the file must never change.
    return torch.from_numpy(np.memmap(stored, dtype=np.uint8, mode="c", shape=shape))


def _key(folder: Path, files: list[str], size: Size | None, crop: int | None, channels: int | None) -> str:
    shape = [size, channels, *([crop] if crop else [])]
    sha = hashlib.sha256(json.dumps([str(folder.resolve()), *shape]).encode())
    for file in files:
        try:
            stat = (folder / file).stat()
            sha.update(f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode(errors="surrogateescape"))
        except OSError:
            sha.update(f"{file}\0missing\n".encode(errors="surrogateescape"))
    return sha.hexdigest()[:32]


# --- Helpers -------------------------------------------------------------------------------------


def _in_threads(make: Callable[[Item], Made], items: Sequence[Item]) -> Iterator[Made]:
    """`make` of each item, in order; a bounded number waits, so memory stays bounded."""
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for start in range(0, len(items), _CHUNK):
            yield from pool.map(make, items[start : start + _CHUNK])


def _counting(track: Track | None, total: int) -> Callable[[], None]:
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        if track is not None:
            track(done, total)

    return count


# --- Classes -------------------------------------------------------------------------------------


def _class_labels(kept: list[str], listed: list[str]) -> tuple[Tensor | None, tuple[str, ...] | None]:
    """Labels int64 (N,) of the files kept, and the classes' names; None where sub-folders are not classes."""
    parents = [file.split("/")[:-1] for file in listed]
    names = sorted({p[0] for p in parents if p})
    if len(names) < 2 or any(len(p) != 1 for p in parents):
        return None, None
    number = {name: i for i, name in enumerate(names)}
    return torch.tensor([number[file.split("/")[0]] for file in kept]), tuple(names)


def _empty_folders(folder: Path, listed: list[str]) -> tuple[str, ...]:
    """A sentence for each sub-folder without images where others have some: a class that is missing."""
    filled = {file.split("/")[0] for file in listed if "/" in file}
    found = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    return tuple(f"sub-folder `{name}` has no images." for name in found if filled and name not in filled)
