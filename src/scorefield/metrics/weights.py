"""Weights of published networks: fetched or named by the user, read without running code, and checked.

A number depends on the weights that it was measured with, so every network's name holds the first digits of the
SHA-256 of its file. The standard Inception network has one published file, which serves pytorch-fid,
torch-fidelity and torchmetrics.

References:
    Seitzer (2020), pytorch-fid. https://github.com/mseitzer/pytorch-fid
"""

import http.client
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file
from torch import Tensor

from scorefield.errors import UserError
from scorefield.files import atomic, cache_dir, sha256
from scorefield.progress import ProgressCallback, ignore_progress

__all__ = [
    "INCEPTION",
    "INCEPTION_URL",
    "fetch_inception",
    "inception_name",
    "read_weights",
]

INCEPTION = "inception-2015-12-05"
INCEPTION_FILE = "pt_inception-2015-12-05-6726825d.pth"
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
INCEPTION_BYTES = 95_628_359
INCEPTION_URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{INCEPTION_FILE}"

_COUNTER = "num_batches_tracked"  # of batch normalization in training; files hold it or not


def read_weights(
    path: Path, expected: Mapping[str, Tensor], *, network: str, mend: str, ignore: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """The tensors of a PyTorch state dict, all present and of the expected shapes.

    Args:
        path: a state dict as safetensors, or in PyTorch's zipped format or the older one. Code in it is not run.
        expected: the network's state dict, under the names of the file.
        network: its name in error messages.
        mend: where to get the right file.
        ignore: prefixes of names that the file may hold beyond the expected ones.

    Raises:
        UserError: no such file, no weights, or those of another network; the message names the first difference.
    """
    if not path.is_file():
        raise UserError(path, "no such file.", mend)
    try:
        safe = path.suffix.lower() == ".safetensors"
        content: object = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises anything
        raise UserError(path, "cannot be read as weights of PyTorch.", mend) from error
    if not isinstance(content, Mapping):
        raise UserError(path, f"holds a {type(content).__name__}, not weights by name.", mend)
    given = {str(name): value for name, value in content.items() if not str(name).startswith(ignore or "\0")}
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
    return {name: torch.zeros_like(value) for name, value in expected.items() if name.endswith(_COUNTER)} | given


def inception_name(path: Path) -> str:
    """INCEPTION for the published file; another file gets a name from its own SHA-256."""
    digest = sha256(path)
    return INCEPTION if digest == INCEPTION_SHA256 else f"inception-{digest[:8]}"


def fetch_inception(*, progress: ProgressCallback = ignore_progress) -> Path:
    """The published weights of Inception in the cache, downloaded (92 MB) at the first call.

    Raises:
        UserError: the download fails, or gives another file.
    """
    path = cache_dir() / "features" / INCEPTION_FILE
    if path.is_file() and sha256(path) == INCEPTION_SHA256:
        return path
    mend = f"Download {INCEPTION_URL} and name it: --features inception:FILE."
    with atomic(path) as part:
        try:
            _download(part, progress)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = str(getattr(error, "reason", None) or error) or type(error).__name__
            raise UserError("inception", f"its weights can't be fetched ({reason}).", mend) from error
        if (digest := sha256(part)) != INCEPTION_SHA256:
            raise UserError("inception", f"the downloaded weights are another file ({digest[:8]}).", mend)
    return path


def _download(part: Path, progress: ProgressCallback) -> None:
    with urllib.request.urlopen(INCEPTION_URL, timeout=30) as response, part.open("wb") as file:
        while block := cast(bytes, response.read(1 << 20)):
            file.write(block)
            if file.tell() > INCEPTION_BYTES:
                raise ValueError("more bytes than the file has")
            progress(file.tell() / INCEPTION_BYTES, "Fetching Inception's weights")
