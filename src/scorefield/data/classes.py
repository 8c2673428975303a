"""Classes by sub-folders: where every image of a folder lies in exactly one level of at least two of them.

Paths are relative to the folder, with `/` between their parts.
"""

from pathlib import Path

import torch
from torch import Tensor


def class_labels(kept: list[str], listed: list[str]) -> tuple[Tensor | None, tuple[str, ...] | None]:
    """Labels int64 (N,) of the files kept, and the classes' names; None where sub-folders are no classes."""
    parents = [file.split("/")[:-1] for file in listed]
    names = sorted({p[0] for p in parents if p})
    if len(names) < 2 or any(len(p) != 1 for p in parents):
        return None, None
    number = {name: i for i, name in enumerate(names)}
    return torch.tensor([number[file.split("/")[0]] for file in kept]), tuple(names)


def empty_folders(folder: Path, listed: list[str]) -> tuple[str, ...]:
    """A sentence for each sub-folder without images where others have some: a class that is missing."""
    filled = {file.split("/")[0] for file in listed if "/" in file}
    found = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    return tuple(f"sub-folder `{name}` has no images." for name in found if filled and name not in filled)
