"""Low-density regions: a learned score is accurate where samples are dense, and wrong where they are rare.

Song & Ermon (2019), Fig. 2, §3.2.1, settings of App. B.1. On p(x) = ⅕ N((−5, −5), I) + ⅘ N((5, 5), I) a
network of three layers, 128 wide, with softplus between, is trained by sliced score matching,

    E_p E_v [vᵀ ∇s(x) v + ½ ‖s(x)‖²],      v ~ N(0, I),

with the square in closed form as in the authors' program, by Adam at 1e-3, 10,000 iterations of 128 samples: the
paper's settings, half a minute on a CPU. The expectation weighs every point by p, so nothing determines s where p
is small. The error is measured over a grid on [−8, 8]² in bins of log₁₀ p: in each

    relative error = √( Σ ‖s − ∇log p‖² / Σ ‖∇log p‖² ),

which is 0 for the true score and 1 for s = 0.

References:
    Song & Ermon (2019). https://arxiv.org/abs/1907.05600
    Song et al. (2019), sliced score matching, eq. 8 (closed form). https://arxiv.org/abs/1905.07088
"""

import math
from typing import Any

import torch
from torch import Generator, Tensor, nn

from scorefield.figures.catalog import LowDensity
from scorefield.figures.drawing import (
    BLUE,
    GREY,
    INK,
    caption,
    panels,
)
from scorefield.figures.driver import Drawing, FigureInputs
from scorefield.figures.mixing import mixture
from scorefield.model import ScoreNetwork
from scorefield.objectives import sliced_score_matching
from scorefield.progress import ProgressCallback, ignore_progress

__all__ = ["SoftplusNetwork", "draw", "errors_by_density", "train"]


class SoftplusNetwork(nn.Module):
    """Three linear layers with softplus between, (B, 2) to (B, 2); it takes no noise level."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, width), nn.Softplus(), nn.Linear(width, width), nn.Softplus(), nn.Linear(width, 2)
        )

    def forward(self, x: Tensor, label: Tensor, source: Tensor | None = None) -> Tensor:
        """s(x)."""
        return self.layers(x)


def train(settings: LowDensity, *, seed: int = 0, progress: ProgressCallback = ignore_progress) -> ScoreNetwork:
    """A score network trained by sliced score matching on samples of p."""
    torch.manual_seed(seed)
    field, data = ScoreNetwork(SoftplusNetwork(settings.width)), mixture()
    generator = Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(field.parameters(), settings.learning_rate, fused=True)
    clean = torch.zeros(settings.batch)
    for k in range(settings.iterations):
        x = data.sample(settings.batch, generator=generator)
        loss = sliced_score_matching(field, x, clean, distribution="gaussian", generator=generator).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if k % 50 == 0:
            progress(k / settings.iterations, f"iteration {k:,} of {settings.iterations:,}")
    progress(1.0, "")
    return field


@torch.no_grad()
def errors_by_density(field: ScoreNetwork, settings: LowDensity) -> list[dict[str, float]]:
    """The relative error of the field in bins of log₁₀ p, densest first.

    Each row holds the bin's ends, the share of the square and of all samples that it covers, the root mean
    square of the true score and of the error, their ratio, and the cosine between the two
    fields, their scalar product over the bin in units of their norms.
    """
    points, p = _grid(settings, settings.points), mixture()
    log10 = p.log_density(points) / math.log(10)
    true, learned = p.score(points), _score(field, points)
    cell = (2 * settings.side / (settings.points - 1)) ** 2
    top, rows = float(log10.max()), list[dict[str, float]]()
    for k in range(settings.decades):
        low = top - k - 1 if k < settings.decades - 1 else float(log10.min())
        inside = (log10 <= top - k) & (log10 >= low)
        if not bool(inside.any()):
            continue
        error, size, own = (v[inside].square().sum(1).mean().sqrt() for v in (learned - true, true, learned))
        along = (learned * true)[inside].sum(1).mean()
        rows.append({
            "log10_density_high": top - k,
            "log10_density_low": low,
            "share_of_square": float(inside.double().mean()),
            "share_of_samples": float((10 ** log10[inside]).sum() * cell),
            "true_score": float(size),
            "error": float(error),
            "relative_error": float(error / size),
            "cosine": float(along / (own * size)),
        })  # fmt: skip
    return rows


def draw(options: LowDensity, inputs: FigureInputs) -> Drawing:
    """The true and the learned score, and the error by density."""
    field = train(options, seed=inputs.seed, progress=inputs.progress)
    rows = errors_by_density(field, options)
    dense, rare = rows[0], rows[-1]
    numbers = {
        "relative error where p is greatest": round(dense["relative_error"], 3),
        "relative error where p is least": round(rare["relative_error"], 3),
        "samples in the densest decade": f"{dense['share_of_samples']:.0%}",
        "samples in the rarest bin": f"{rare['share_of_samples']:.1e}",
    }
    return Drawing(images=[_plot(field, rows, options)], rows=rows, numbers=numbers)


def _score(field: ScoreNetwork, points: Tensor) -> Tensor:
    return field.score(points, torch.zeros(len(points)))


def _grid(settings: LowDensity, points: int) -> Tensor:
    side = torch.linspace(-settings.side, settings.side, points)
    return torch.cartesian_prod(side, side)


@torch.no_grad()
def _plot(field: ScoreNetwork, rows: list[dict[str, float]], settings: LowDensity) -> Any:
    figure, axes = panels(2, 2, width=8.4, height=7.8)
    p, n, coarse, fine = mixture(), settings.points, _grid(settings, 20), _grid(settings, settings.points)
    extent = (-settings.side, settings.side) * 2
    density = p.log_density(fine).exp().reshape(n, n).T.numpy()
    fields = (p.score(coarse), _score(field, coarse))
    for axis, arrows, name in zip(axes, fields, ("true score", "learned score"), strict=False):
        axis.imshow(density, extent=extent, origin="lower", cmap="Blues", vmax=0.16)
        axis.quiver(*coarse.T.numpy(), *arrows.T.numpy(), color=INK, width=0.0035, scale=190, pivot="mid")
        caption(axis, name)
    wrong = (_score(field, fine) - p.score(fine)).norm(dim=1).reshape(n, n).T.numpy()
    levels = (p.log_density(fine) / math.log(10)).reshape(n, n).T.numpy()
    shade = axes[2].imshow(wrong, extent=extent, origin="lower", cmap="inferno", vmin=0, vmax=10)
    axes[2].contour(levels, extent=extent, levels=[-7, -5, -3], colors="white", linewidths=0.8, linestyles="solid")
    caption(axes[2], "‖learned − true‖, contours at p = 10⁻³, 10⁻⁵, 10⁻⁷")
    figure.colorbar(shade, ax=axes[2], shrink=0.8, extend="max").ax.tick_params(labelsize=8)
    for axis in axes[:3]:
        axis.set(aspect="equal", xticks=(-5, 0, 5), yticks=(-5, 0, 5), xlim=extent[:2], ylim=extent[:2])
    _draw_errors(axes[3], rows)
    return figure


def _draw_errors(axis: Any, rows: list[dict[str, float]]) -> None:
    middles = [(row["log10_density_high"] + max(row["log10_density_low"], row["log10_density_high"] - 1)) / 2
               for row in rows]  # fmt: skip
    axis.bar(middles, [row["share_of_samples"] for row in rows], width=0.9, color=GREY, alpha=0.35,
             label="share of the samples")  # fmt: skip
    axis.plot(
        middles,
        [row["relative_error"] for row in rows],
        "o-",
        color=BLUE,
        markersize=4,
        label="relative error",
    )
    axis.set(xlabel="log₁₀ p(x)", ylim=(0, None))
    caption(axis, "error where the data are, and where they are not")
    axis.invert_xaxis()
    axis.legend(frameon=False, fontsize=8)
    axis.grid(visible=True, axis="y", alpha=0.25)
