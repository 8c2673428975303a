"""One call opens any set of images, and tells in one line why it cannot.

::

    open_images("fashion")               a bundled set
    open_images("photos/", size=32)      a folder; sub-folders `train` and `test` are splits,
                                         any others are classes
    open_images("mnist/")                a folder of IDX files, plain or gzipped
    open_images("train-images-idx3-ubyte.gz"), open_images("set.npz"), open_images("set.npy")

A name of a bundled set wins over a folder of that name; `./fashion` is the folder. A set without
splits is all `train`. A folder larger than 1 GiB when decoded is kept, decoded, in the cache
(`folders.py` tells how).
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from scorefield.data.arrays import idx_files, idx_sibling, is_idx, npz_splits, read_idx, read_npy, read_npz
from scorefield.data.batches import Batches
from scorefield.data.bundled import NAMES, card, read_bundled
from scorefield.data.folders import SUFFIXES, open_folder
from scorefield.data.images import Size
from scorefield.data.imageset import ImageSet, Skipped, Track, adapted, chosen
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
    if path.is_dir():
        return tuple(idx_files(path)) or tuple(_split_folders(path)) or ("train",)
    if path.suffix == ".npz":
        return tuple(npz_splits(path)) or ("train",)
    if is_idx(path):
        return tuple(s for s in _SPLITS if idx_sibling(path, s) != path) or ("train",)
    return ("train",)


def open_images(
    data: str | Path,
    *,
    size: int | Size | None = None,
    channels: int | None = None,
    split: str = "train",
    limit: int | None = None,
    track: Track | None = None,
) -> ImageSet:
    """All images of `data` in one tensor, of one size.

    Args:
        data: a bundled name, a folder, an IDX file or folder, an `.npz` or `.npy`.
        size: side, or (H, W), to which images are cut and reduced. None: the size that all share.
            Images are never enlarged: in a folder smaller ones are skipped and listed, in an
            array they are an error.
        channels: 1 or 3. None: 1 if every image is grey, else 3.
        split: "train", "test" …
        limit: at most so many images: a fixed random subset, the same each time.
        track: called as track(done, total) while a folder is read.

    Raises:
        UserError: whatever keeps the data from being read, where, and the mend.
    """
    asked = (size, size) if isinstance(size, int) else size
    _check(asked, channels)
    if _is_bundled(data):
        name = str(data)
        _check_split(name, split, tuple(card(name).splits))
        pixels, labels = read_bundled(name, split)
        return _from_tensor(pixels, labels, name, f"bundled: {card(name).title}", asked, channels, limit,
                            card(name).class_names)  # fmt: skip
    path = _existing(data)
    if path.is_dir() and not idx_files(path):
        return _open_folder(path, asked, channels, split, limit, track)
    pixels, labels, source = _read_arrays(path, split)
    name = path.name.split(".")[0] or path.resolve().name
    return _from_tensor(pixels, labels, name, str(source), asked, channels, limit)


def _open_folder(
    path: Path, size: Size | None, channels: int | None, split: str, limit: int | None, track: Track | None
) -> ImageSet:
    parts = _split_folders(path)
    _check_split(path, split, tuple(parts) or ("train",))
    folder, name = parts.get(split, path), path.resolve().name
    return open_folder(folder, name=name, size=size, channels=channels, limit=limit, track=track)


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
        "Pass a folder of images, an IDX file, an .npz or .npy, or a bundled name.",
    )


def _from_tensor(
    pixels: Tensor,
    labels: Tensor | None,
    name: str,
    source: str,
    size: Size | None,
    channels: int | None,
    limit: int | None,
    class_names: tuple[str, ...] | None = None,
) -> ImageSet:
    if limit is not None and limit < len(pixels):
        kept = torch.tensor(chosen(len(pixels), limit))
        pixels, labels = pixels[kept], None if labels is None else labels[kept]
    images = adapted(pixels, size=size, channels=channels, where=source)
    return ImageSet(images=images, labels=labels, name=name, source=source, class_names=class_names)


def _is_bundled(data: str | Path) -> bool:
    return isinstance(data, str) and data in NAMES


def _existing(data: str | Path) -> Path:
    path = Path(data)
    if not path.exists():
        bare = len(path.parts) == 1 and not path.suffix
        hint = f"Bundled sets: {did_you_mean(str(data), NAMES)}" if bare else "Check the path."
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


def _check(size: Size | None, channels: int | None) -> None:
    if size is not None and min(size) < 1:
        raise UserError("size", f"{size[1]}×{size[0]} is no size.", "Use 1 or more.")
    if channels not in (None, 1, 3):
        raise UserError("channels", f"{channels} is not possible.", "Use 1 (grey) or 3 (RGB).")
