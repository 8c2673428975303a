"""Weights of published networks, from files of the user's: read without running anything, and checked.

Every network here names the SHA-256 of its file, so that a number tells which weights it was measured on.
"""

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from scorefield.errors import UserError

_COUNTER = "num_batches_tracked"


def sha256(path: Path) -> str:
    """The file's digest, in hexadecimal.

    Raises:
        UserError: no such file.
    """
    if not path.is_file():
        raise UserError(path, "no such file.")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_weights(
    path: Path, expected: Mapping[str, Tensor], *, network: str, mend: str, besides: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """The weights in a file of PyTorch's, each seen to be there and of its shape.

    Args:
        path: a state dict, in the zipped format or the one before; no program in it is run.
        expected: the network's state dict, under the file's names.
        network: what it is called in a complaint.
        restore: where the right file is to be had.
        besides: beginnings of names that the file may hold beyond these.

    Raises:
        UserError: no such file, none of weights, or weights of another network, with the first that differ.
    """
    if not path.is_file():
        raise UserError(path, "no such file.", mend)
    try:
        found: object = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(path, "cannot be read as weights of PyTorch.", mend) from error
    if not isinstance(found, Mapping):
        raise UserError(path, f"holds a {type(found).__name__}, not weights by name.", mend)
    given = {str(name): value for name, value in found.items() if not str(name).startswith(besides or "\0")}
    given = {name: value for name, value in given.items() if not name.endswith(_COUNTER)}
    wanted = {name: value for name, value in expected.items() if not name.endswith(_COUNTER)}
    for names, what in ((wanted.keys() - given, "lacks"), (given.keys() - wanted, "has besides")):
        if names:
            first = ", ".join(sorted(names)[:3])
            raise UserError(path, f"{what} {len(names)} of {network}'s weights: {first}.", mend)
    for name, tensor in wanted.items():
        shape = tuple(given[name].shape) if isinstance(given[name], Tensor) else type(given[name]).__name__
        if shape != tuple(tensor.shape):
            raise UserError(path, f"{name} is {shape}, not {tuple(tensor.shape)}.", mend)
    return dict(expected) | given
