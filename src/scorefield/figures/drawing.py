"""Drawing for the figures: panels, labelled tiles of images, tables, colors."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefield.errors import UserError
from scorefield.figures.plots import matplotlib
from scorefield.files import atomic, refuse_existing, write_atomic

__all__ = ["BLUE", "GREY", "INK", "ORANGE", "caption", "claim", "panels", "save", "tiles", "write_csv"]

BLUE, ORANGE, GREY, INK = "#2458b8", "#d9661f", "#8a8f98", "#22262d"
"""Learned or annealed; wrong; exact; text."""

_DPI, _TILE_DPI = 150, 100
_LETTER, _LINE = 6.2, 15  # width of a letter and height of a line of labels, in pixels


def claim(out: Path, *names: str, overwrite: bool) -> tuple[Path, ...]:
    """The paths of a figure's files in the folder `out`, checked to be free before any work.

    Raises:
        UserError: one exists and `overwrite` is off, or matplotlib is missing.
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
    """A figure of width × height inches and its axes, row by row, in the style of all figures."""
    figure = matplotlib().Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(labelsize=8, color=GREY)
        one.xaxis.label.set_fontsize(9)
        one.yaxis.label.set_fontsize(9)
    return figure, axes


def caption(axes: Any, words: str) -> None:
    """A title over a panel."""
    axes.set_title(words, fontsize=10, color=INK)


def save(figure: Any, path: Path) -> Path:
    """Write a figure as PNG; `tiles` has one pixel a dot, plots have 150 dpi."""
    dpi = _TILE_DPI if figure.get_dpi() == _TILE_DPI and figure.get_layout_engine() is None else _DPI
    with atomic(path) as part:
        figure.savefig(part, dpi=dpi, format="png", pil_kwargs={"optimize": True})
    return path


def tiles(
    images: Tensor,
    *,
    columns: Sequence[str],
    rows: Sequence[str] = (),
    apart: Sequence[int] = (),
) -> Any:
    """A matplotlib figure of images in rows and columns, with labels.

    Args:
        images: uint8, (rows, columns, C, H, W), C 1 or 3.
        columns: a label for each column; may be empty.
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
    figure = matplotlib().Figure(figsize=(width / 100, height / 100), dpi=_TILE_DPI)
    axes = figure.add_axes((margin / width, 5 / height, sheet.shape[1] / width, sheet.shape[0] / height))
    grey = {"cmap": "gray", "vmin": 0, "vmax": 255} if channels == 1 else {}
    axes.imshow(sheet.squeeze(-1).numpy(), interpolation="nearest", **grey)
    axes.set_axis_off()
    for left, label in zip(lefts, columns, strict=True):
        axes.text(left + wide / 2, -5, label, ha="center", va="bottom", fontsize=8, color=INK)
    for i, label in enumerate(rows):
        axes.text(-6, (i + 0.5) * high, label, ha="right", va="center", fontsize=8, color=INK)
    return figure
