"""Plots of a run's log. They need matplotlib, the extra `figures`."""

import csv
from pathlib import Path
from typing import Any

from scorefield.errors import UserError
from scorefield.files import atomic


def matplotlib() -> Any:
    """`matplotlib.figure`, whose figures need no window.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib import figure  # noqa: PLC0415
    except ImportError as error:
        raise UserError("matplotlib", "needed to plot.", "Install it: pip install 'scorefield[figures]'") from error
    return figure


def loss_curve(log: Path, out: Path) -> Path:
    """The loss and the learning rate of a run's log.csv over images seen, as PNG or SVG."""
    with log.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    images = [int(row["images"]) / 1000 for row in rows]
    figure = matplotlib().Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(images, [float(row["loss"]) for row in rows], color="#2458b8", linewidth=1.6)
    axes.set(xlabel="thousand images seen", ylabel="denoising score-matching loss", yscale="log")
    axes.yaxis.set_major_formatter("{x:.2g}")
    axes.yaxis.set_minor_formatter("{x:.2g}")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic(out) as part:
        figure.savefig(part, dpi=150, format=out.suffix.lstrip("."))
    return out
