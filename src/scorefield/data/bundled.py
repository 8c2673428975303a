"""The image sets that come with the package: lossless sheets of tiles, each set with its card."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

_FOLDER = files("scorefield") / "assets" / "data"
NAMES = ("emoji", "fashion")


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a bundled set is, who made it and on what terms.

    Attributes:
        shape: (C, H, W).
        splits: for each split its file, its number of images `n`, tiles a row `columns`, the
            SHA-256 of its pixels in the order (N, H, W, C), and a digit a label.
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
def card(name: str) -> Card:
    """The card of a bundled set."""
    told = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return Card(**told | {"shape": tuple(told["shape"]), "class_names": tuple(told["class_names"])})


def read_bundled(name: str, split: str) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, C, H, W) and labels int64 (N,) of a split."""
    entry = card(name).splits[split]
    c, h, w = card(name).shape
    with (_FOLDER / entry["file"]).open("rb") as file, Image.open(file) as image:
        sheet = np.asarray(image.convert("L" if c == 1 else "RGB")).reshape(-1, h, entry["columns"], w, c)
    tiles = sheet.transpose(0, 2, 4, 1, 3).reshape(-1, c, h, w)[: entry["n"]]
    labels = torch.tensor([int(digit) for digit in entry["labels"]])
    return torch.from_numpy(np.ascontiguousarray(tiles)), labels
