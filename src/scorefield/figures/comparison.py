"""Losses of several models over the noise level, as an image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scorefield.evaluation.compare import Comparison, Curve
from scorefield.figures.drawing import BLUE, GREY, ORANGE, panels, save

_COLOURS = (BLUE, ORANGE, "#2f8f57", "#8a4fb5", "#b5364b", "#5a6472")


def plot(comparison: Comparison, out: Path) -> Path:
    """Write the denoising losses and, of two models and more, the differences against the first, as PNG.

    Bands are 95 % intervals. Solid lines are of the denoising loss, points of the sliced one.

    Raises:
        UserError: matplotlib is missing.
    """
    several = len(comparison.entries) > 1
    figure, axes = panels(1, 1 + several, width=5.2 * (1 + several), height=3.6)
    for i, entry in enumerate(comparison.entries):
        colour = _COLOURS[i % len(_COLOURS)]
        _band(axes[0], comparison.sigmas, entry.denoising, colour, entry.name)
        if several and entry.denoising_difference is not None:
            _band(axes[1], comparison.sigmas, entry.denoising_difference, colour, entry.name)
            if entry.sliced_difference is not None:
                _points(axes[1], comparison.sigmas, entry.sliced_difference, colour)
    axes[0].set(yscale="log", title="Denoising loss, per pixel", ylabel="E |(D − x0)/σ|²")
    axes[0].legend(frameon=False, fontsize=8)
    if several:
        axes[1].axhline(0, color=GREY, linewidth=0.8)
        axes[1].set(title=f"Difference to {comparison.entries[0].name} (points: sliced loss)")
    for one in axes:
        one.set(xscale="log", xlabel="σ, of pixels in [0, 1]")
        one.grid(visible=True, alpha=0.25)
    return save(figure, out)


def _band(axes: Any, sigmas: Sequence[float], curve: Curve, colour: str, name: str) -> None:
    mean = [e.mean for e in curve.levels]
    low, high = ([e.mean + side * e.half for e in curve.levels] for side in (-1, 1))
    axes.plot(sigmas, mean, color=colour, linewidth=1.6, label=name)
    axes.fill_between(sigmas, low, high, color=colour, alpha=0.2, linewidth=0)


def _points(axes: Any, sigmas: Sequence[float], curve: Curve, colour: str) -> None:
    mean, half = [e.mean for e in curve.levels], [e.half for e in curve.levels]
    axes.errorbar(sigmas, mean, yerr=half, fmt="o", markersize=3, color=colour, linewidth=0.8, capsize=2)
