"""Image sets stored as arrays: IDX (the MNIST format), CIFAR, `.npz` and `.npy`.

One rule settles what the numbers mean:

    uint8, bool          0…255; False/True → 0/255
    integers             0…255 as they are; 0…65535 → round(v / 257)
    floats within 0…1    round(255 v)
    floats within −1…1   round(255 (v + 1) / 2)
    floats within 0…255  rounded
    NaN, infinity        an error
    anything else        an error that states the span

Axes are (N, H, W), (N, H, W, C) or (N, C, H, W) with C of 1 or 3; where both fit, C is last.

CIFAR is read in its binary version, from a folder or from the archive. A record of CIFAR-10 is one byte of
label and 3·32·32 bytes of pixels, planes in the order red, green, blue, each row by row. CIFAR-100 has two
bytes of label; the second is the fine class. The other version holds pickled objects, which can run code.
Nothing is ever unpickled.

What a header promises is compared with what the file can hold before anything is allocated: deflate packs at most
1,032 bytes into one, and images, even black ones beside others, never come near it. An array of more than `_SMALL`
bytes that is packed more tightly than `_RATIO` : 1 is refused as a decompression bomb; an `.npy` is mapped from the
disk and has no bound.

References:
    Krizhevsky (2009), Learning multiple layers of features from tiny images.
"""

import gzip
import math
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorefield.data.png import DEFLATE
from scorefield.errors import UserError

Array = npt.NDArray[np.generic]
_PREFIX = {"train": "train", "test": "t10k"}  # the names that MNIST gave its splits
_GZIP, _UNSIGNED_BYTE = b"\x1f\x8b", 0x08
_RATIO, _SMALL = 100, 2**28  # MNIST, mostly black, packs 5 : 1


# --- IDX -----------------------------------------------------------------------------------------


def is_idx(path: Path) -> bool:
    """Whether a file bears the name of the format, or starts with the magic number of IDX images."""
    if re.search(r"[.-]idx[1-4](-|$)|-idx[1-4]-ubyte", path.name):
        return True
    with path.open("rb") as file:
        return file.read(4) == b"\0\0\x08\x03"


def idx_files(folder: Path) -> dict[str, Path]:
    """The files of images of an IDX data set in `folder`, by split."""
    names = sorted(p for p in folder.iterdir() if re.search(r"images?[.-]idx[34]", p.name) and p.is_file())
    splits: dict[str, Path] = {}
    for path in names:
        split = next((s for s, prefix in _PREFIX.items() if path.name.startswith((prefix, s))), "train")
        splits.setdefault(split, path)
    return splits


def idx_sibling(path: Path, split: str) -> Path:
    """The file of another split beside `path`, where there is one; else `path` itself."""
    for own in ("train", "t10k", "test"):
        if path.name.startswith(own) and split in _PREFIX:
            other = path.with_name(_PREFIX[split] + path.name[len(own) :])
            return other if other.exists() else path
    return path


def read_idx(path: Path) -> tuple[Tensor, Tensor | None]:
    """Images uint8 (N, 1, H, W) of an IDX file, and the labels of the file that pairs with it.

    The pair of `…-images-idx3-ubyte` is `…-labels-idx1-ubyte`, plain or gzipped.

    Raises:
        UserError: damaged, truncated or no images; or the number of labels differs.
    """
    images = _idx(path, dimensions=3)
    pixels = torch.from_numpy(images)[:, None]
    stem = path.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    for name in (stem, stem + ".gz"):
        if (pair := path.with_name(name)) != path and pair.exists():
            labels = _idx(pair, dimensions=1)
            if len(labels) != len(images):
                raise UserError(pair, f"{len(labels)} labels for {len(images)} images.", "Use a matching pair.")
            return pixels, torch.from_numpy(labels).long()
    return pixels, None


def _idx(path: Path, *, dimensions: int) -> npt.NDArray[np.uint8]:
    """Layout: 0, 0, type, number of dimensions, then each length as big-endian int32, then data."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == _GZIP
        with gzip.open(path) if packed else path.open("rb") as file:
            start = file.read(4)
            if start[:3] != bytes((0, 0, _UNSIGNED_BYTE)) or start[3:] != bytes((dimensions,)):
                what = "images" if dimensions == 3 else "labels"
                raise UserError(
                    path,
                    f"is no IDX file of {what}: it starts with {start.hex(' ') or 'nothing'}, "
                    f"not 00 00 08 {dimensions:02x}.",
                    "Check that the download is whole.",
                )
            shape = tuple(int(n) for n in np.frombuffer(file.read(4 * dimensions), ">u4"))
            if len(shape) != dimensions:
                raise _truncated(path, "its header ends early")
            want = math.prod(shape)
            stored = path.stat().st_size
            _refuse_lies(path, shape, want, (stored - 4) * DEFLATE if packed else stored - 4 - 4 * dimensions)
            _refuse_bomb(path, want, stored)
            data = file.read(want)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _truncated(path, f"its gzip data end early or are damaged: {error}") from None
    except OSError as error:
        raise UserError(path, f"cannot be read: {error.strerror or error}.") from None
    _refuse_lies(path, shape, want, len(data))
    if want == 0:
        raise UserError(path, "holds no images.")
    return np.frombuffer(bytearray(data), np.uint8).reshape(shape)


def _refuse_lies(path: Path, shape: tuple[int, ...], want: int, most: int) -> None:
    if want > most:
        raise _truncated(path, f"{' × '.join(map(str, shape))} = {want} bytes promised, {max(most, 0)} found")


def _refuse_bomb(where: object, size: int, stored: int) -> None:
    if size > max(_SMALL, _RATIO * stored):
        raise UserError(
            where,
            f"unpacks to {size / 1e9:.1f} GB from {stored / 1e6:.1f} MB (a decompression bomb?).",
            "If it is what you want, unpack it: an .npy is not bounded.",
        )


def _truncated(path: Path, why: str) -> UserError:
    return UserError(path, f"is truncated or damaged ({why.rstrip('.')}).", "Download it again.")


# --- npz and npy ---------------------------------------------------------------------------------

_IMAGES = {
    "train": ("images", "train_images", "x_train", "arr_0", "x", "data"),
    "test": ("test_images", "x_test"),
    "val": ("val_images", "x_val"),
}
_LABELS = {
    "train": ("labels", "train_labels", "y_train", "arr_1", "y"),
    "test": ("test_labels", "y_test"),
    "val": ("val_labels", "y_val"),
}


def npz_splits(path: Path) -> dict[str, str]:
    """The name of the array of images, by split."""
    with _opened(path) as arrays:
        return _image_keys(arrays)


def read_npz(path: Path, split: str) -> tuple[Tensor, Tensor | None]:
    """Images uint8 (N, C, H, W) and labels of an `.npz`.

    Raises:
        UserError: unreadable, pickled, or no array that could be images.
    """
    with _opened(path) as arrays:
        keys = _image_keys(arrays)
        if split not in keys:
            known = ", ".join(f"{k} {list(_shape(arrays, k))}" for k in arrays) or "nothing"
            raise UserError(path, f"has no array of images; it holds {known}.", "Name it `images`.")
        images = as_images(_array(path, arrays, keys[split]), where=f"{path}[{keys[split]}]")
        label_key = next((k for k in _LABELS[split] if k in arrays), None)
        if label_key is None:
            return images, None
        return images, _as_labels(_array(path, arrays, label_key), len(images), f"{path}[{label_key}]")


def read_npy(path: Path) -> Tensor:
    """Images uint8 (N, C, H, W) of an `.npy`; uint8 data stay on disk, mapped.

    Raises:
        UserError: unreadable, pickled, or not images.
    """
    try:
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except Exception as error:  # numpy and zipfile raise anything on damaged files
        raise _unreadable(path, error) from None
    return as_images(array, where=path)


def as_images(array: Array, *, where: object) -> Tensor:
    """uint8 (N, C, H, W) of an array in any of the layouts and scales that the module names.

    Raises:
        UserError: another number of axes, no images, or values of unknown scale.
    """
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or (array.shape[3] not in (1, 3) and array.shape[1] not in (1, 3)):
        raise UserError(
            where,
            f"its shape {list(array.shape)} is not one of images.",
            "Use (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels.",
        )
    if 0 in array.shape:
        raise UserError(where, "holds no images.")
    if array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    return torch.from_numpy(_levels(array, where))


def _levels(array: Array, where: object) -> npt.NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array.view(np.uint8)
    if array.dtype.kind not in "buif":
        raise UserError(where, f"its type {array.dtype} is not one of pixels.", "Save it as uint8.")
    low, high = float(array.min()), float(array.max())
    floats = array.dtype.kind == "f"
    if floats and not math.isfinite(low + high):
        raise UserError(where, "has values that are NaN or infinite.", "Leave those images out, or correct them.")
    if array.dtype == np.bool_ or (floats and low >= 0 and high <= 1):
        scale, shift = 255.0, 0.0
    elif floats and low >= -1 and high <= 1:
        scale, shift = 127.5, 127.5
    elif low >= 0 and high <= 255:
        scale, shift = 1.0, 0.0
    elif not floats and low >= 0 and high <= 65535:
        scale, shift = 255 / 65535, 0.0
    else:
        expected = "0…1, −1…1 or 0…255" if floats else "0…255 or 0…65535"
        raise UserError(where, f"its values span {low:g}…{high:g}; expected {expected}.", "Rescale them.")
    levels = np.empty(array.shape, np.uint8)
    for image, row in zip(array, levels, strict=True):  # one at a time: float64 is eight times as large
        row[...] = np.rint(image.astype(np.float64) * scale + shift)
    return levels


def _as_labels(array: Array, n: int, where: object) -> Tensor:
    if array.size != n or array.dtype.kind not in "bui":
        raise UserError(
            where,
            f"its shape {list(array.shape)} of {array.dtype} is not that of labels.",
            f"Use {n} integers, or leave it out.",
        )
    return torch.from_numpy(array.reshape(n).astype(np.int64))


def _image_keys(arrays: Mapping[str, Array]) -> dict[str, str]:
    keys = {s: next((k for k in names if k in arrays), "") for s, names in _IMAGES.items()}
    if not any(keys.values()) and len(arrays) == 1:
        return {"train": next(iter(arrays))}
    return {split: key for split, key in keys.items() if key}


def _shape(arrays: "np.lib.npyio.NpzFile", key: str) -> tuple[int, ...] | tuple[str]:
    try:
        return _promised(arrays, key)[0]
    except Exception:
        return ("unreadable",)


def _promised(arrays: "np.lib.npyio.NpzFile", key: str) -> tuple[tuple[int, ...], int, zipfile.ZipInfo]:
    """Shape, bytes and place of an array, from its header."""
    archive = arrays.zip
    assert archive is not None  # until it is closed
    info = archive.getinfo(key if key in archive.namelist() else f"{key}.npy")
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    return shape, math.prod(shape) * dtype.itemsize, info


def _array(path: Path, arrays: "np.lib.npyio.NpzFile", key: str) -> Array:
    try:
        shape, size, info = _promised(arrays, key)
        if size > min(info.file_size, info.compress_size * DEFLATE):
            raise ValueError(f"{' × '.join(map(str, shape))} = {size} bytes promised, {info.file_size} found")
    except Exception as error:  # numpy and zipfile raise anything on damaged files
        raise _unreadable(path, error) from None
    _refuse_bomb(f"{path}[{key}]", size, info.compress_size)
    try:
        return arrays[key]
    except Exception as error:
        raise _unreadable(path, error) from None


def _opened(path: Path) -> "np.lib.npyio.NpzFile":
    try:
        arrays = np.load(path, mmap_mode="c", allow_pickle=False)  # an .npy of this name is not read into memory
    except Exception as error:  # numpy and zipfile raise anything on damaged files
        raise _unreadable(path, error) from None
    if not isinstance(arrays, np.lib.npyio.NpzFile):
        raise UserError(path, "is not an .npz archive.", "Is it an .npy of another name?")
    return arrays


def _unreadable(path: Path, error: Exception) -> UserError:
    if "pickle" in str(error) or "Python objects" in str(error):
        return UserError(
            path,
            "holds pickled objects (or is no array file); they can run code, so they are not read.",
            "Save plain arrays, for example np.savez(file, images=uint8_array).",
        )
    return _damaged(path, error)


def _damaged(path: Path, error: Exception, mend: str = "") -> UserError:
    reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    return UserError(path, f"is truncated or damaged ({reason}).", mend)


# --- CIFAR ---------------------------------------------------------------------------------------

_CIFAR_BYTES = 3 * 32 * 32
_CIFAR_10 = {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)}
_CIFAR_100 = {"train": ("train.bin",), "test": ("test.bin",)}
_CIFAR_CLASSES = {10: "batches.meta.txt", 100: "fine_label_names.txt"}
_CIFAR_FOLDERS = ("cifar-10-batches-bin", "cifar-100-binary")
_PICKLED = {"data_batch_1", "test_batch", "batches.meta", "fine_label_names", "meta"}
_PICKLED_FOLDERS = ("cifar-10-batches-py", "cifar-100-python")
_ARCHIVES = (".tar.gz", ".tgz", ".tar")
_LARGEST_MEMBER = 2**30  # bytes of a file in an archive; the true ones have at most 153.7 million


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
    contents = _read(path, {*wanted, _CIFAR_CLASSES[classes]})
    if missing := [name for name in wanted if name not in contents]:
        raise UserError(path, f"lacks {missing[0]}.", "Unpack or download it again.")
    parts = [_records(path, name, contents[name], classes) for name in wanted]
    labels, pixels = (np.concatenate(rows) for rows in zip(*parts, strict=True))
    names = contents.get(_CIFAR_CLASSES[classes], b"").decode("utf-8", "replace").split()
    class_names = tuple(names) if len(names) == classes else None
    return torch.from_numpy(pixels), torch.from_numpy(labels), class_names


def _records(
    path: Path, name: str, data: bytes, classes: int
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    """Labels and pixels of a file."""
    head = 1 if classes == 10 else 2
    where, size = path / name, head + _CIFAR_BYTES
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
            f"is damaged or no CIFAR-{classes}: it has a label {labels.max()}, beyond {classes - 1}.",
            "Download it again.",
        )
    return labels, rows[:, head:].reshape(-1, 3, 32, 32).copy()


def _layout(path: Path, names: Iterable[str]) -> tuple[int, Mapping[str, tuple[str, ...]]]:
    """Whether the files named are CIFAR-10's or CIFAR-100's, and those of each split."""
    names = set(names)
    for classes, splits in ((10, _CIFAR_10), (100, _CIFAR_100)):
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
    own = {*_CIFAR_10["train"], *_CIFAR_10["test"], "data_batch_1", "batches.meta", "fine_label_names.txt"}
    if any((folder / name).is_file() for name in own):
        return folder
    inside = (folder / name for name in (*_CIFAR_FOLDERS, *_PICKLED_FOLDERS))
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
        raise _damaged(path, error, "Download it again.") from None


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
        raise _damaged(path, error, "Download it again.") from None


def _member(path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > _LARGEST_MEMBER:
        raise UserError(path, f"its {member.name} has {member.size} bytes, more than any file of CIFAR.")
    file = archive.extractfile(member)
    assert file is not None  # the caller passes files only
    return file.read()
