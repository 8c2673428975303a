"""One call opens any set of images.

::

    open_images("fashion")                 a bundled set
    open_images("photos/", size=32)        a folder; sub-folders `train` and `test` are splits,
                                           any others are classes
    open_images("mnist/")                  a folder of IDX files, plain or gzipped
    open_images("cifar-10-batches-bin/")   CIFAR in its binary version, or its .tar.gz
    open_images("train-images-idx3-ubyte.gz"), open_images("set.npz"), open_images("set.npy")

The name of a bundled set means that set; a folder of the same name is written `./name` or `name/`. A set without splits
is all `train`. A folder larger than 1 GiB when decoded is kept, decoded, in the cache (see `folder`).
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorefield.data.folder import SUFFIXES, open_folder
from scorefield.data.formats import (
    cifar_splits,
    idx_files,
    idx_sibling,
    is_cifar,
    is_idx,
    npz_splits,
    read_cifar,
    read_idx,
    read_npy,
    read_npz,
)
from scorefield.data.image import Size, open_image
from scorefield.data.image_set import ImageSet, Track, adapted, centre_square, chosen
from scorefield.errors import UserError, did_you_mean

_SPLITS = ("train", "test", "val")
_ASSETS = files("scorefield") / "assets" / "data"
BUNDLED = ("emoji", "fashion")
"""Names of the sets that come with the package: lossless sheets of tiles, each set with its card."""


def known_data() -> dict[str, str]:
    """The bundled sets: name → one line of description."""
    return {name: f"{card(name).title}: {card(name).summary} ({card(name).licence})" for name in BUNDLED}


def splits(data: str | Path) -> tuple[str, ...]:
    """The splits that `data` has; ("train",) where it is not split.

    Raises:
        UserError: there is no such data.
    """
    if is_bundled(data):
        return tuple(card(str(data)).splits)
    path = data_path(data)
    if is_cifar(path):
        return cifar_splits(path)
    if path.is_dir():
        return tuple(idx_files(path)) or tuple(_split_folders(path)) or ("train",)
    if path.suffix == ".npz":
        return tuple(npz_splits(path)) or ("train",)
    if is_idx(path):
        return tuple(s for s in _SPLITS if idx_sibling(path, s) != path) or ("train",)
    return ("train",)


def held_out(data: str | Path) -> str:
    """The split that nothing is trained on: test where there is one, else train.

    Raises:
        UserError: there is no such data.
    """
    return "test" if "test" in splits(data) else "train"


def open_images(
    data: str | Path,
    *,
    size: int | Size | None = None,
    crop: int | None = None,
    channels: int | None = None,
    split: str = "train",
    limit: int | None = None,
    track: Track | None = None,
) -> ImageSet:
    """All images of `data` in one tensor, of one size.

    Args:
        data: a bundled name, a folder, an IDX file or folder, CIFAR, an `.npz` or `.npy`.
        size: side, or (H, W), to which images are cut and reduced. None: the common size of all.
            Images are never enlarged: in a folder smaller ones are skipped and listed, in an
            array they are an error.
        crop: side of a centre square that is cut before resizing, in pixels of the stored image. Images
            that are too small are skipped, or an error, as for `size`.
        channels: 1 or 3. None: 1 if every image is grey, else 3.
        split: "train", "test" …
        limit: at most so many images: a fixed random subset, the same each time.
        track: called as track(done, total) while a folder is read.

    Raises:
        UserError: the data cannot be read; it states why, where, and what to do.
    """
    request = _Request(size=(size, size) if isinstance(size, int) else size, crop=crop, channels=channels, limit=limit)
    _check(request)
    if is_bundled(data):
        name = str(data)
        _check_split(name, split, tuple(card(name).splits))
        pixels, labels = read_bundled(name, split)
        return _from_tensor(pixels, labels, name, f"bundled: {card(name).title}", request, card(name).class_names)
    path = data_path(data)
    name = path.name.split(".")[0] or path.resolve().name
    if is_cifar(path):
        _check_split(path, split, cifar_splits(path))
        pixels, labels, class_names = read_cifar(path, split)
        return _from_tensor(pixels, labels, name, str(path), request, class_names)
    if path.is_dir() and not idx_files(path):
        return _open_folder(path, request, split, track)
    pixels, labels, source = _read_arrays(path, split)
    return _from_tensor(pixels, labels, name, str(source), request)


@dataclass(frozen=True, kw_only=True)
class _Request:
    """The requested shape and number of images."""

    size: Size | None
    crop: int | None
    channels: int | None
    limit: int | None


def _open_folder(path: Path, request: _Request, split: str, track: Track | None) -> ImageSet:
    parts = _split_folders(path)
    _check_split(path, split, tuple(parts) or ("train",))
    return open_folder(
        parts.get(split, path),
        name=path.resolve().name,
        size=request.size,
        crop=request.crop,
        channels=request.channels,
        limit=request.limit,
        track=track,
    )


def _read_arrays(path: Path, split: str) -> tuple[Tensor, Tensor | None, Path]:
    """Pixels, labels and the file that they came from."""
    if path.is_dir():
        files = idx_files(path)
        _check_split(path, split, tuple(files))
        return *read_idx(files[split]), files[split]
    suffix = path.suffix.lower()
    if suffix == ".npz":
        _check_split(path, split, tuple(npz_splits(path)) or (split,))
        return *read_npz(path, split), path
    if suffix == ".npy":
        _check_split(path, split, ("train",))
        return read_npy(path), None, path
    if suffix in SUFFIXES:
        raise UserError(path, "is one image, not a set.", "Pass the folder that holds it.")
    if is_idx(path):
        _check_split(path, split, splits(path))
        file = idx_sibling(path, split)
        return *read_idx(file), file
    raise UserError(
        path,
        "is no kind of data that is known.",
        "Pass a folder of images, an IDX file, folder or archive of CIFAR, an .npz, .npy or a bundled name.",
    )


def _from_tensor(
    pixels: Tensor,
    labels: Tensor | None,
    name: str,
    source: str,
    request: _Request,
    class_names: tuple[str, ...] | None = None,
) -> ImageSet:
    if request.limit is not None and request.limit < len(pixels):
        kept = torch.tensor(chosen(len(pixels), request.limit))
        pixels, labels = pixels[kept], None if labels is None else labels[kept]
    if request.crop is not None:
        pixels = centre_square(pixels, request.crop, where=source)
    images = adapted(pixels, size=request.size, channels=request.channels, where=source)
    return ImageSet(images=images, labels=labels, name=name, source=source, class_names=class_names)


def is_bundled(data: str | Path) -> bool:
    """Whether this names a bundled set; a path never does."""
    return isinstance(data, str) and data in BUNDLED


def data_path(data: str | Path) -> Path:
    """The file or folder that `data` names, which is no bundled set.

    Raises:
        UserError: it does not exist.
    """
    path = Path(data)
    if path.exists():
        return path
    if isinstance(data, str) and re.fullmatch(r"\w[\w-]*", data):
        raise UserError(data, "no bundled set, file or folder of this name.", did_you_mean(data, BUNDLED))
    raise UserError(data, "no such file or folder.", "Check the path.")


def _split_folders(path: Path) -> dict[str, Path]:
    """Sub-folders named as splits, if all are; a class may be called `train` among other classes."""
    folders = [p for p in sorted(path.iterdir()) if p.is_dir() and not p.name.startswith(".")]
    names = {p.name for p in folders}
    if not names or not names <= set(_SPLITS) or not names & {"train", "test"}:
        return {}
    return {p.name: p for p in folders}


def _check_split(where: object, split: str, known: Sequence[str]) -> None:
    if split not in known:
        raise UserError(where, f"has no split `{split}`.", did_you_mean(split, known))


def _check(request: _Request) -> None:
    size, crop = request.size, request.crop
    if size is not None and min(size) < 1:
        raise UserError("size", f"{size[1]}×{size[0]} is no size.", "Use 1 or more.")
    if crop is not None and crop < 1:
        raise UserError("crop", f"a square of {crop} pixels is empty.", "Use 1 or more.")
    if size is not None and crop is not None and max(size) > crop:
        raise UserError(
            "crop", f"{crop} pixels are less than the size {size[1]}×{size[0]}.", "Images are never enlarged."
        )
    if request.channels not in (None, 1, 3):
        raise UserError("channels", f"{request.channels} is not possible.", "Use 1 (grey) or 3 (RGB).")


# --- bundled sets --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DataCard:
    """What a bundled set is, who made it and under which licence.

    Attributes:
        shape: (C, H, W).
        splits: for each split its file, its number of images `n`, the tiles per row `columns`, the SHA-256 of
            its pixels in the order (N, H, W, C), and the labels, one digit each.
    """

    title: str
    summary: str
    source: str
    authors: str
    licence: str
    licence_file: str
    made: str
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    splits: dict[str, dict[str, Any]]
    reference: str = ""


@cache
def card(name: str) -> DataCard:
    """The card of a bundled set."""
    content = json.loads((_ASSETS / f"{name}.json").read_text(encoding="utf-8"))
    return DataCard(**content | {"shape": tuple(content["shape"]), "class_names": tuple(content["class_names"])})


def read_bundled(name: str, split: str) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, C, H, W) and labels int64 (N,) of a split."""
    entry = card(name).splits[split]
    c, h, w = card(name).shape
    with open_image(_ASSETS / entry["file"]) as image:
        sheet = np.asarray(image.convert("L" if c == 1 else "RGB")).reshape(-1, h, entry["columns"], w, c)
    tiles = sheet.transpose(0, 2, 4, 1, 3).reshape(-1, c, h, w)[: entry["n"]]
    labels = torch.tensor([int(digit) for digit in entry["labels"]])
    return torch.from_numpy(np.ascontiguousarray(tiles)), labels
