"""What the paper's figures share: the files they write, labelled tiles, colours."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefield.data.datasets import open_images, splits
from scorefield.data.image_set import ImageSet
from scorefield.errors import UserError
from scorefield.figures.plots import matplotlib
from scorefield.files import atomic, refuse_existing, write_atomic
from scorefield.model import ScoreModel

Show = Callable[[float, str], None]
"""Told the share of the work that is done, and a few words."""

BLUE, ORANGE, GREY, INK = "#2458b8", "#d9661f", "#8a8f98", "#22262d"
"""What is learned or annealed; what goes wrong; what is exact; words."""

_DPI = 150
_LETTER, _LINE = 6.2, 15  # pixels that a letter of a label is wide, and a line high


@dataclass(frozen=True, kw_only=True)
class Made:
    """What an experiment leaves.

    Args:
        files: images, then the tables behind them.
        numbers: the few that tell the story, by name.
    """

    files: tuple[Path, ...]
    numbers: dict[str, Any]


def silent(share: float, words: str) -> None:
    """Shows nothing."""


def claim(out: Path, *names: str, overwrite: bool) -> tuple[Path, ...]:
    """The paths of an experiment's files in the folder `out`, seen to be free before any work.

    Raises:
        UserError: one is there already and overwriting was not asked for, or matplotlib is missing.
    """
    matplotlib()
    if out.exists() and not out.is_dir():
        raise UserError(out, "is a file.", "Give --out the name of a folder.")
    return tuple(refuse_existing(out / name, overwrite=overwrite) for name in names)


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """Rows of equal keys as a table with a head; floats at six digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: f"{v:.6g}" if isinstance(v, float) else v for key, v in row.items()})
    return write_atomic(path, text.getvalue())


def panels(rows: int, columns: int, *, width: float, height: float) -> tuple[Any, list[Any]]:
    """A figure of so many inches and its axes, row by row, in the look that all figures share."""
    figure = matplotlib().Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(labelsize=8, color=GREY)
        one.xaxis.label.set_fontsize(9)
        one.yaxis.label.set_fontsize(9)
    return figure, axes


def caption(axes: Any, words: str) -> None:
    """Words over a panel."""
    axes.set_title(words, fontsize=10, color=INK)


def save(figure: Any, path: Path, *, dpi: int = _DPI) -> Path:
    """Write a figure as PNG."""
    with atomic(path) as part:
        figure.savefig(part, dpi=dpi, format="png", pil_kwargs={"optimize": True})
    return path


def tiles(
    images: Tensor,
    path: Path,
    *,
    columns: Sequence[str],
    rows: Sequence[str] = (),
    apart: Sequence[int] = (),
) -> Path:
    """A table of images with a word over each column and before each row.

    Args:
        images: uint8, (rows, columns, C, H, W), C 1 or 3.
        path: of the PNG.
        columns: a label for each column; an empty one is left out.
        rows: a label for each row, or none at all.
        apart: columns with a wider gap before them.
    """
    down, across, channels, h, w = images.shape
    scale = max(1, 84 // max(h, w))
    high, wide, gap = h * scale + 3, w * scale + 3, 10
    lefts = [k * wide + gap * sum(1 for place in apart if place <= k) for k in range(across)]
    sheet = torch.full((down * high - 3, lefts[-1] + wide - 3, channels), 255, dtype=torch.uint8)
    large = images.cpu().repeat_interleave(scale, -2).repeat_interleave(scale, -1).permute(0, 1, 3, 4, 2)
    for i in range(down):
        for k, left in enumerate(lefts):
            sheet[i * high : i * high + h * scale, left : left + w * scale] = large[i, k]
    margin = 8 + _LETTER * max((len(line) for label in rows for line in label.split("\n")), default=-0.5)
    top = 8 + _LINE * max((label.count("\n") + 1 for label in columns if label), default=0)
    width, height = sheet.shape[1] + margin + 5, sheet.shape[0] + top + 5
    figure = matplotlib().Figure(figsize=(width / 100, height / 100), dpi=100)
    axes = figure.add_axes((margin / width, 5 / height, sheet.shape[1] / width, sheet.shape[0] / height))
    grey = {"cmap": "gray", "vmin": 0, "vmax": 255} if channels == 1 else {}
    axes.imshow(sheet.squeeze(-1).numpy(), interpolation="nearest", **grey)
    axes.set_axis_off()
    for left, label in zip(lefts, columns, strict=True):
        axes.text(left + wide / 2, -5, label, ha="center", va="bottom", fontsize=8, color=INK)
    for i, label in enumerate(rows):
        axes.text(-6, (i + 0.5) * high, label, ha="right", va="center", fontsize=8, color=INK)
    return save(figure, path, dpi=100)


def images_for(model: ScoreModel, data: str, *, split: str = "train") -> ImageSet:
    """The images of `data` as the model draws them; larger ones are cut and shrunk.

    Args:
        model: whose shape they must have.
        data: what `open_images` takes.
        split: "train" or "test"; data without a test split give what they have.

    Raises:
        UserError: they are smaller than the model's, or of another number of channels.
    """
    _, height, width = model.shape
    known = split if split in splits(data) else "train"
    try:
        images = open_images(data, size=(height, width), split=known)
    except UserError as error:
        mend = f"This model draws {_shape(model.shape)}: choose another with --model."
        raise UserError(error.where, error.what, mend if "--size" in error.mend else error.mend) from error
    if images.shape != model.shape:
        raise UserError(
            data,
            f"its images are {_shape(images.shape)}, the model draws {_shape(model.shape)}.",
            "Choose a model for such images with --model, or other --data.",
        )
    return images


def _shape(shape: Sequence[int]) -> str:
    return "×".join(str(side) for side in shape)
