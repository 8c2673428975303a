"""One call opens any set of images, and tells in one line why it cannot.

::

    open_images("fashion")               a bundled set
    open_images("photos/", size=32)      a folder; sub-folders `train` and `test` are splits,
                                         any others are classes
    open_images("mnist/")                a folder of IDX files, plain or gzipped
    open_images("cifar-10-batches-bin/")   CIFAR in its binary version, or the .tar.gz of it
    open_images("train-images-idx3-ubyte.gz"), open_images("set.npz"), open_images("set.npy")

A name of a bundled set wins over a folder of that name; `./fashion` is the folder. A set without
splits is all `train`. A folder larger than 1 GiB when decoded is kept, decoded, in the cache
(`folders.py` tells how).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from scorefield.data.arrays import idx_files, idx_sibling, is_idx, npz_splits, read_idx, read_npy, read_npz
from scorefield.data.batches import Batches
from scorefield.data.bundled import NAMES, card, read_bundled
from scorefield.data.cifar import cifar_splits, is_cifar, read_cifar
from scorefield.data.folder import SUFFIXES, open_folder
from scorefield.data.image import Size
from scorefield.data.image_set import ImageSet, Skipped, Track, adapted, chosen, cropped
from scorefield.errors import UserError, did_you_mean

__all__ = ["Batches", "ImageSet", "Skipped", "known_data", "open_images", "splits"]

_SPLITS = ("train", "test", "val")


def known_data() -> dict[str, str]:
    """The bundled sets: name → one line of description."""
    return {name: f"{card(name).title}: {card(name).summary} ({card(name).licence})" for name in NAMES}


def splits(data: str | Path) -> tuple[str, ...]:
    """The splits that `data` has; ("train",) where it is not split.

    Raises:
        UserError: there is no such data.
    """
    if _is_bundled(data):
        return tuple(card(str(data)).splits)
    path = _existing(data)
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
        size: side, or (H, W), to which images are cut and reduced. None: the size that all share.
            Images are never enlarged: in a folder smaller ones are skipped and listed, in an
            array they are an error.
        crop: side of the square cut from the middle first, in pixels of the images as they are. Images
            too small for it are skipped or an error likewise.
        channels: 1 or 3. None: 1 if every image is grey, else 3.
        split: "train", "test" …
        limit: at most so many images: a fixed random subset, the same each time.
        track: called as track(done, total) while a folder is read.

    Raises:
        UserError: whatever keeps the data from being read, where, and the restore.
    """
    asked = _Asked(size=(size, size) if isinstance(size, int) else size, crop=crop, channels=channels, limit=limit)
    _check(asked)
    if _is_bundled(data):
        name = str(data)
        _check_split(name, split, tuple(card(name).splits))
        pixels, labels = read_bundled(name, split)
        return _from_tensor(pixels, labels, name, f"bundled: {card(name).title}", asked, card(name).class_names)
    path = _existing(data)
    name = path.name.split(".")[0] or path.resolve().name
    if is_cifar(path):
        _check_split(path, split, cifar_splits(path))
        pixels, labels, class_names = read_cifar(path, split)
        return _from_tensor(pixels, labels, name, str(path), asked, class_names)
    if path.is_dir() and not idx_files(path):
        return _open_folder(path, asked, split, track)
    pixels, labels, source = _read_arrays(path, split)
    return _from_tensor(pixels, labels, name, str(source), asked)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What the images are to be brought to, and how many are wanted."""

    size: Size | None
    crop: int | None
    channels: int | None
    limit: int | None


def _open_folder(path: Path, asked: _Asked, split: str, track: Track | None) -> ImageSet:
    parts = _split_folders(path)
    _check_split(path, split, tuple(parts) or ("train",))
    return open_folder(
        parts.get(split, path),
        name=path.resolve().name,
        size=asked.size,
        crop=asked.crop,
        channels=asked.channels,
        limit=asked.limit,
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
    asked: _Asked,
    class_names: tuple[str, ...] | None = None,
) -> ImageSet:
    if asked.limit is not None and asked.limit < len(pixels):
        kept = torch.tensor(chosen(len(pixels), asked.limit))
        pixels, labels = pixels[kept], None if labels is None else labels[kept]
    if asked.crop is not None:
        pixels = cropped(pixels, asked.crop, where=source)
    images = adapted(pixels, size=asked.size, channels=asked.channels, where=source)
    return ImageSet(images=images, labels=labels, name=name, source=source, class_names=class_names)


def _is_bundled(data: str | Path) -> bool:
    return isinstance(data, str) and data in NAMES


def _existing(data: str | Path) -> Path:
    path = Path(data)
    if not path.exists():
        bare = len(path.parts) == 1 and not path.suffix
        hint = did_you_mean(str(data), NAMES).replace("Known", "Bundled sets") if bare else "Check the path."
        raise UserError(data, "no such file or folder.", hint)
    return path


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


def _check(asked: _Asked) -> None:
    size, crop = asked.size, asked.crop
    if size is not None and min(size) < 1:
        raise UserError("size", f"{size[1]}×{size[0]} is no size.", "Use 1 or more.")
    if crop is not None and crop < 1:
        raise UserError("crop", f"a square of {crop} pixels is none.", "Use 1 or more.")
    if size is not None and crop is not None and max(size) > crop:
        raise UserError(
            "crop", f"{crop} pixels are less than the size {size[1]}×{size[0]}.", "Images are never enlarged."
        )
    if asked.channels not in (None, 1, 3):
        raise UserError("channels", f"{asked.channels} is not possible.", "Use 1 (grey) or 3 (RGB).")
