"""The published weights of the standard Inception network: fetched once, kept, read and checked.

One file serves pytorch-fid, torch-fidelity and torchmetrics. Its name holds the first digits of its SHA-256,
which tell it from every other.

References:
    Seitzer (2020), pytorch-fid. https://github.com/mseitzer/pytorch-fid
"""

import http.client
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from torch import Tensor

from scorefield.errors import UserError
from scorefield.files import atomic, cache_dir
from scorefield.metrics.weights import read_weights, sha256

STANDARD = "inception-2015-12-05"
FILE = "pt_inception-2015-12-05-6726825d.pth"
DIGEST = "6726825d"
URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FILE}"

Track = Callable[[str, float], None]


def published(*, track: Track = lambda words, share: None) -> Path:
    """Where the published weights are kept; they are downloaded (92 MB) if they are not there.

    Raises:
        UserError: they can't be fetched, or what came is something else.
    """
    path = cache_dir() / "features" / FILE
    if path.is_file() and sha256(path).startswith(DIGEST):
        return path
    mend = f"Download {URL} and name it: --features inception:FILE."
    with atomic(path) as part:
        try:
            _download(part, track)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = str(getattr(error, "reason", None) or error) or type(error).__name__
            raise UserError("inception", f"its weights can't be fetched ({reason}).", mend) from error
        if not (digest := sha256(part)).startswith(DIGEST):
            raise UserError("inception", f"what came as its weights is another file ({digest[:8]}).", mend)
    return path


def identify(path: Path) -> str:
    """STANDARD where the file is the published one, else a name of its own."""
    digest = sha256(path)
    return STANDARD if digest.startswith(DIGEST) else f"inception-{digest[:8]}"


def _download(part: Path, track: Track) -> None:
    with urllib.request.urlopen(URL, timeout=30) as answer, part.open("wb") as file:
        total = int(answer.headers.get("Content-Length") or 0)
        while block := cast(bytes, answer.read(1 << 20)):
            file.write(block)
            track("Fetching Inception's weights", min(file.tell() / max(total, 1), 1.0))


def read(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under the network's own names, each seen to be there and of its shape.

    Args:
        path: a state dict, in PyTorch's zipped format or the one before; no program in it is run.
        expected: the network's state dict, its names after `body.` or `fc.` as published.

    Raises:
        UserError: no such file, none of weights, or weights of another network, with the first that differ.
    """
    names = {name.removeprefix("body."): name for name in expected}
    wanted = {name: expected[long] for name, long in names.items()}
    found = read_weights(path, wanted, network="Inception", mend=f"Download {URL}.")
    return {names[name]: tensor for name, tensor in found.items()}
