"""CIFAR-10 and CIFAR-100 in their binary version, from a folder or from the archive that they come in.

A record of CIFAR-10 is one byte of label and 3·32·32 bytes of pixels, the red plane first, each plane row by
row; CIFAR-100 has two bytes of label, of which the second is the fine class. A file is nothing but records.
The archive is read as it is, nothing is unpacked to disk. The other version holds pickled objects, which can
run code, and is refused.

References:
    Krizhevsky (2009), Learning multiple layers of features from tiny images.
"""

import tarfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scorefield.errors import UserError

_PIXELS = 3 * 32 * 32
_TEN = {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)}
_HUNDRED = {"train": ("train.bin",), "test": ("test.bin",)}
_NAMES = {10: "batches.meta.txt", 100: "fine_label_names.txt"}
_FOLDERS = ("cifar-10-batches-bin", "cifar-100-binary")
_PICKLED = {"data_batch_1", "test_batch", "batches.meta", "fine_label_names", "meta"}
_PICKLED_FOLDERS = ("cifar-10-batches-py", "cifar-100-python")
_ARCHIVES = (".tar.gz", ".tgz", ".tar")
_LARGEST = 2**30  # bytes of a file in an archive; the true ones have at most 153.7 million


def is_cifar(path: Path) -> bool:
    """Whether `path` is a folder that holds CIFAR of either version, or an archive named as one."""
    if path.is_dir():
        return _home(path) is not None
    return path.name.startswith("cifar") and path.name.endswith(_ARCHIVES)


def cifar_splits(path: Path) -> tuple[str, ...]:
    """The splits that a folder or archive holds; files are looked for, not read.

    Raises:
        UserError: it holds the pickled version, or none.
    """
    _, files = _layout(path, _listed(path))
    return tuple(files)


def read_cifar(path: Path, split: str) -> tuple[Tensor, Tensor, tuple[str, ...] | None]:
    """Images uint8 (N, 3, 32, 32), labels int64 (N,) and the classes' names of a split.

    Raises:
        UserError: the pickled version, a file that is missing, cut short or of other records.
    """
    classes, files = _layout(path, _listed(path))
    wanted = files[split]
    contents = _read(path, {*wanted, _NAMES[classes]})
    if missing := [name for name in wanted if name not in contents]:
        raise UserError(path, f"lacks {missing[0]}.", "Unpack or download it again.")
    parts = [_records(path, name, contents[name], classes) for name in wanted]
    labels, pixels = (np.concatenate(rows) for rows in zip(*parts, strict=True))
    names = contents.get(_NAMES[classes], b"").decode("utf-8", "replace").split()
    class_names = tuple(names) if len(names) == classes else None
    return torch.from_numpy(pixels), torch.from_numpy(labels), class_names


def _records(
    path: Path, name: str, data: bytes, classes: int
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    """Labels and pixels of a file."""
    head = 1 if classes == 10 else 2
    where, size = path / name, head + _PIXELS
    if not data or len(data) % size:
        raise UserError(
            where, f"is truncated or damaged: {len(data)} bytes are no number of records of {size}.",
            "Download it again.",
        )  # fmt: skip
    rows = np.frombuffer(data, np.uint8).reshape(-1, size)
    labels = rows[:, head - 1].astype(np.int64)
    if labels.max() >= classes:
        raise UserError(
            where,
            f"is degraded or no CIFAR-{classes}: it has a label {labels.max()}, beyond {classes - 1}.",
            "Download it again.",
        )
    return labels, rows[:, head:].reshape(-1, 3, 32, 32).copy()


def _layout(path: Path, names: Iterable[str]) -> tuple[int, Mapping[str, tuple[str, ...]]]:
    """Whether the files named are CIFAR-10's or CIFAR-100's, and those of each split."""
    names = set(names)
    for classes, splits in ((10, _TEN), (100, _HUNDRED)):
        here = {split: files for split, files in splits.items() if names & set(files)}
        if here:
            return classes, here
    if names & _PICKLED:
        raise UserError(
            path,
            "is the Python version of CIFAR, of pickled objects; they can run code, so they are not read.",
            "Get the binary version: cifar-10-binary.tar.gz, or the folder cifar-10-batches-bin.",
        )
    raise UserError(path, "holds no CIFAR (no data_batch_1.bin, no train.bin).", "Download it again.")


def _home(folder: Path) -> Path | None:
    """The folder of CIFAR's files: this one, or the one inside that has its usual name."""
    own = {*_TEN["train"], *_TEN["test"], "data_batch_1", "batches.meta", "fine_label_names.txt"}
    if any((folder / name).is_file() for name in own):
        return folder
    inside = (folder / name for name in (*_FOLDERS, *_PICKLED_FOLDERS))
    return next((path for path in inside if path.is_dir()), folder if _is_pickled_100(folder) else None)


def _is_pickled_100(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("train", "test", "meta"))


def _listed(path: Path) -> list[str]:
    if path.is_dir():
        return [file.name for file in (_home(path) or path).iterdir() if file.is_file()]
    try:
        with tarfile.open(path) as archive:
            return [Path(member.name).name for member in archive if member.isfile()]
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from None


def _read(path: Path, wanted: set[str]) -> dict[str, bytes]:
    """The bytes of the files wanted, as far as they are there."""
    try:
        if path.is_dir():
            files = ((_home(path) or path) / name for name in wanted)
            return {file.name: file.read_bytes() for file in files if file.is_file()}
        with tarfile.open(path) as archive:
            return {
                Path(member.name).name: _member(path, archive, member)
                for member in archive
                if member.isfile() and Path(member.name).name in wanted
            }
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from None


def _member(path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > _LARGEST:
        raise UserError(path, f"its {member.name} has {member.size} bytes, more than any file of CIFAR.")
    file = archive.extractfile(member)
    assert file is not None  # only files are asked for
    return file.read()


def _unreadable(path: Path, error: Exception) -> UserError:
    told = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    return UserError(path, f"is truncated or damaged ({told}).", "Download it again.")
