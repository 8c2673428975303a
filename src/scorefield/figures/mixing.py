"""Slow mixing: Langevin dynamics recovers the wrong weights of separated modes, annealed the right ones.

Song & Ermon (2019), Fig. 3, §3.2.2 and §4.3, settings of App. B.1. The density is

    p(x) = ⅕ N(x; (−5, −5), I) + ⅘ N(x; (5, 5), I),

all scores are exact, and 1,280 chains start uniform on [−8, 8]². Near either mode the score is that of the mode
alone, whatever its weight, so Langevin dynamics (T = 1000, ε = 0.1) leaves in each mode about the share of chains
that started on its side: one half, not one fifth. Annealed (L = 10, T = 100), the large noise levels join the modes
and the chains divide by weight.

Both use x ← x + (α/2) s + √α z. The schedule is 20 → 1 in the appendix and the authors' program, with ε = 0.1, and
10 → 0.1 in §4.3, which gives no ε for it. There ε = 0.1 diverges: an update multiplies x − μ by
1 − (ε/2σ_L²) σ²/(σ² + 1), which is −4 at σ = 10. The appendix's ratio ε/σ_L² = 0.1 gives ε = 0.001. All three are
run here.

Ten levels of a hundred updates do not mix completely: of 20,000 chains, 0.220 ± 0.003 end in the small mode with the
first schedule and 0.233 ± 0.003 with the second, against 0.492 ± 0.004 of plain Langevin dynamics.

The weight ŵ of the small mode is the share of chains that are likelier of it, with standard error √(ŵ(1−ŵ)/n).

References:
    Song & Ermon (2019). https://arxiv.org/abs/1907.05600
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from scorefield import schedules
from scorefield.distributions import GaussianMixture
from scorefield.figures.catalog import Mixing
from scorefield.figures.drawing import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    caption,
    panels,
)
from scorefield.figures.driver import Drawing, FigureInputs
from scorefield.progress import ProgressCallback, ignore_progress
from scorefield.samplers import AnnealedLangevin, Langevin
from scorefield.samplers import run as run_sampler

__all__ = ["WEIGHT", "Chains", "annealed", "draw", "in_small_mode", "langevin", "mixture", "run"]

WEIGHT = 0.2
"""Of the small mode."""


@dataclass(frozen=True, kw_only=True)
class Chains:
    """The last states of one method's chains.

    Args:
        method: its name.
        step_size: ε; 0 for exact samples.
        sigmas: σ_1 and σ_L; 0 where no noise is added.
        steps: updates in all.
        x: (n, 2).
    """

    method: str
    step_size: float
    sigmas: tuple[float, float]
    steps: int
    x: Tensor

    def row(self) -> dict[str, object]:
        """The weight recovered and its standard error, and the moments of each mode's chains."""
        small, n = in_small_mode(self.x), len(self.x)
        finite = bool(self.x.isfinite().all())
        weight = float(small.double().mean()) if finite else math.nan
        row: dict[str, object] = {
            "method": self.method,
            "step_size": self.step_size,
            "sigma_max": self.sigmas[0],
            "sigma_min": self.sigmas[1],
            "updates": self.steps,
            "samples": n,
            "true_weight": WEIGHT,
            "weight": weight,
            "standard_error": math.sqrt(weight * (1 - weight) / n),
        }
        for name, part in (("small", self.x[small]), ("large", self.x[~small])):
            known = finite and len(part) > 1
            row[f"{name}_mode_mean"] = float(part.mean()) if known else math.nan
            row[f"{name}_mode_std"] = float(part.std(0).square().mean().sqrt()) if known else math.nan
        return row


def mixture() -> GaussianMixture:
    """⅕ N((−5, −5), I) + ⅘ N((5, 5), I)."""
    means = torch.tensor([[-5.0, -5.0], [5.0, 5.0]])
    return GaussianMixture(torch.tensor([WEIGHT, 1 - WEIGHT]), means, torch.ones(2))


def in_small_mode(x: Tensor) -> Tensor:
    """Whether points are likelier of the small mode than of the large one, (n,), bool.

    log ⅕N₁ − log ⅘N₂ = −log 4 − 10 (x₁ + x₂).
    """
    return -10 * x.sum(1) > math.log(1 / WEIGHT - 1)


def langevin(start: Tensor, settings: Mixing, *, generator: Generator) -> Tensor:
    """The last states of plain Langevin dynamics on p from `start`, (n, 2)."""
    sampler = Langevin(step_size=settings.step_size, steps_each=settings.langevin_steps)
    return run_sampler(sampler, mixture(), start, torch.zeros(1), generator=generator)


def annealed(
    start: Tensor, settings: Mixing, *, schedule: tuple[float, float], step_size: float, generator: Generator
) -> Tensor:
    """The last states of Algorithm 1 with exact scores from `start`, (n, 2)."""
    sampler = AnnealedLangevin(step_size=step_size, steps_each=settings.steps)
    sigmas = schedules.geometric(*schedule, settings.levels)
    return run_sampler(sampler, mixture(), start, sigmas, generator=generator)


def run(settings: Mixing, *, seed: int = 0, progress: ProgressCallback = ignore_progress) -> list[Chains]:
    """The paper's three clouds, and the schedule of §4.3 with both values of ε."""
    generator = Generator().manual_seed(seed)
    n, e = settings.samples, settings.step_size
    text, updates = settings.schedule_in_text, settings.levels * settings.steps
    ratio = e / settings.schedule[1] ** 2

    def start() -> Tensor:
        return settings.side * (2 * torch.rand(n, 2, generator=generator) - 1)

    def down(schedule: tuple[float, float], step_size: float) -> Tensor:
        return annealed(start(), settings, schedule=schedule, step_size=step_size, generator=generator)

    kept = ratio * text[1] ** 2
    plans: list[tuple[str, float, tuple[float, float], int, Callable[[], Tensor]]] = [
        ("exact samples", 0.0, (0.0, 0.0), 0, lambda: mixture().sample(n, generator=generator)),
        ("Langevin", e, (0.0, 0.0), settings.langevin_steps,
         lambda: langevin(start(), settings, generator=generator)),
        ("annealed Langevin", e, settings.schedule, updates, lambda: down(settings.schedule, e)),
        ("annealed Langevin", kept, text, updates, lambda: down(text, kept)),
        ("annealed Langevin", e, text, updates, lambda: down(text, e)),
    ]  # fmt: skip
    chains: list[Chains] = []
    for k, (method, step_size, sigmas, steps, sampled) in enumerate(plans):
        progress(k / len(plans), method)
        chains.append(Chains(method=method, step_size=step_size, sigmas=sigmas, steps=steps, x=sampled()))
    progress(1.0, "")
    return chains


def draw(options: Mixing, inputs: FigureInputs) -> Drawing:
    """The clouds of chains and the weights that they recover."""
    chains = run(options, seed=inputs.seed, progress=inputs.progress)
    rows = [one.row() for one in chains]
    numbers = {_name(one): _summary(row) for one, row in zip(chains, rows, strict=True)}
    return Drawing(images=[_plot(chains, rows)], rows=rows, numbers=numbers)


def _name(chains: Chains) -> str:
    schedule = f", σ {chains.sigmas[0]:g} → {chains.sigmas[1]:g}" if chains.sigmas[0] else ""
    return f"{chains.method}{schedule}" + (f", ε = {chains.step_size:g}" if chains.step_size else "")


def _summary(row: dict[str, Any]) -> str:
    if math.isnan(row["weight"]):
        return "the chains diverge"
    return f"weight {row['weight']:.3f} ± {row['standard_error']:.3f} (true: {WEIGHT:g})"


def _plot(chains: list[Chains], rows: list[dict[str, Any]]) -> Any:
    figure, axes = panels(2, 3, width=9.6, height=6.4)
    side = torch.linspace(-10, 10, 200)
    points = torch.cartesian_prod(side, side)
    density = mixture().log_density(points).exp().reshape(200, 200).T.numpy()
    axes[0].imshow(density, extent=(-10, 10, -10, 10), origin="lower", cmap="Blues", vmax=0.13)
    caption(axes[0], "density, ⅕ and ⅘")
    colors = (GREY, ORANGE, BLUE, BLUE)
    for one, row, axis, color in zip(chains, rows, axes[1:], colors, strict=False):
        axis.scatter(*one.x.T.numpy(), s=2, color=color, alpha=0.6, linewidths=0)
        schedule = f", σ {one.sigmas[0]:g} → {one.sigmas[1]:g}" if one.sigmas[0] else ""
        caption(axis, f"{one.method}{schedule}\nsmall mode: {row['weight']:.3f} ± {row['standard_error']:.3f}")
    for axis in axes[:5]:
        axis.set(xlim=(-10, 10), ylim=(-10, 10), aspect="equal", xticks=(-5, 0, 5), yticks=(-5, 0, 5))
    for k, (row, color) in enumerate(zip(rows, colors, strict=False)):
        axes[5].errorbar(
            k, row["weight"], yerr=2 * row["standard_error"], fmt="o", color=color, capsize=4, markersize=6
        )
    axes[5].axhline(WEIGHT, color=INK, linewidth=1, linestyle="--")
    axes[5].text(3.45, WEIGHT - 0.01, "truth", ha="right", va="top", fontsize=8, color=INK)
    axes[5].set(xlim=(-0.5, 3.5), ylim=(0, 0.6), xticks=range(4))
    axes[5].set_xticklabels(["exact", "Langevin", "annealed\n20 → 1", "annealed\n10 → 0.1"], fontsize=8)
    caption(axes[5], "weight of the small mode,\n± 2 standard errors")
    return figure
