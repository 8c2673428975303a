"""Quality against evaluations: every sampler on one trained model, beside annealed Langevin's 1,000.

A cell is a sampler with a number of evaluations. Its images are judged as `benchmarks.fashion` judges: by
the Fréchet distance of a classifier's features to the test set, with as many samples each. Annealed Langevin
dynamics is the yardstick in three forms of 1,000 evaluations: as the paper has it, ten noise levels of 100 updates
from uniform noise; the same and a last denoising; and 200 noise levels of five from the largest noise.

Every cell is written as it is done, and one that is there already, for the same model, number and seed, is
not drawn again. `langevin`, which refines at one level, and `mala`, which needs an energy, are left out.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.fashion import Judge
from scorefield import load, schedules
from scorefield.data.image import to_uint8
from scorefield.model import Denoiser, ScoreModel
from scorefield.samplers import Setting, Start, Step, plan, sample
from scorefield.training import build_model, read_recipe

ONE_EACH = ("dpm++-2m", "dpm++-2m-sde", "adams", "euler", "ddim", "ddpm", "consistent")
TWO_EACH = ("heun", "predictor-corrector")
BUDGETS = (5, 9, 19, 35, 100, 250)
LONG = ("ddpm", "consistent", "predictor-corrector")
TOLERANCES = (1e-1, 3e-2, 1e-2, 1e-3, 1e-4)
NEAR = 1.05  # of the yardstick's distance
YARDSTICK = "annealed-langevin"
SHARE_BATCH = 64

Keep = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What is drawn and measured once; `line` is its sampler, or a variant of it."""

    line: str
    sampler: str
    steps: int | None = None
    sigmas: Tensor | None = None
    settings: dict[str, Setting] = field(default_factory=dict)
    start: Start = "gaussian"

    @property
    def key(self) -> str:
        """Its name in the results."""
        settings = "".join(f" {name}={value}" for name, value in self.settings.items())
        return f"{self.line}, steps {self.steps}{settings}"


def cells(model: ScoreModel) -> Iterator[Cell]:
    """All of them: the yardstick, and then the few evaluations first."""
    low, high = model.value_range
    schedule = schedules.geometric(high - low, 0.01 * (high - low), 10)  # Song & Ermon (2019), §5
    for denoise in (False, True):
        yield Cell(
            line=f"{YARDSTICK}, 10 × 100{', denoised' if denoise else ''}",
            sampler=YARDSTICK,
            sigmas=schedule,
            settings={"steps_each": 100, "denoise": denoise},
            start="uniform",
        )
    yield Cell(line=YARDSTICK, sampler=YARDSTICK, steps=1000)
    for tolerance in TOLERANCES:
        settings: dict[str, Setting] = {"rtol": tolerance, "atol": tolerance}
        yield Cell(line="runge-kutta", sampler="runge-kutta", steps=2, settings=settings)
    for budget in (*BUDGETS, 1000):
        for name in ONE_EACH:
            if budget < 1000 or name in LONG:
                yield Cell(line=name, sampler=name, steps=budget)
        for name in TWO_EACH:
            if budget < 1000 or name in LONG:
                yield Cell(line=name, sampler=name, steps=(budget + 1) // 2)
        if 100 <= budget < 1000:
            yield Cell(line=YARDSTICK, sampler=YARDSTICK, steps=budget)


def run(
    name: str, data: Path, keep: Keep, before: dict[str, Any], *, n: int, batch: int = 125, seed: int = 0
) -> dict[str, Any]:
    """All cells, the sampler's share, the summary and the plot's lines.

    Args:
        name: the model's.
        data: a labelled set with a test split.
        keep: writes the results so far.
        before: the results of a run that was stopped, or nothing.
        n: images of each cell.
        batch: images at once.
        seed: of all cells.
    """
    facts = {"model": name, "n": n, "seed": seed, "batch": batch}
    same = all(before.get(key) == value for key, value in facts.items())
    results: dict[str, Any] = {**facts, "cells": {}, **(before if same else {})}
    model = load(name)
    todo = [cell for cell in cells(model) if cell.key not in results["cells"]]
    if todo or "real" not in results:
        judge = Judge(data)
        chosen = torch.randperm(len(judge.train), generator=torch.Generator().manual_seed(seed))[:n]
        results["real"] = judge(judge.train.images[chosen])
        for cell in todo:
            results["cells"][cell.key] = draw(cell, model, judge, n=n, batch=batch, seed=seed)
            print(cell.key, results["cells"][cell.key], flush=True)
            keep(results)
    if "share" not in results:
        results["share"] = shares()
    results["summary"] = summary(results["cells"])
    keep(results)
    return results


def draw(cell: Cell, model: ScoreModel, judge: Judge, *, n: int, batch: int, seed: int) -> dict[str, Any]:
    """Distances, evaluations for one image and seconds of a cell."""
    counts: list[int] = []  # of each batch, at its last step

    def track(_done: int, _total: int, step: Step) -> None:
        if step.index == 0:
            counts.append(0)
        counts[-1] = step.evaluations

    begun = time.perf_counter()
    drawn = sample(
        model, n, sampler=plan(model, cell.sampler, cell.steps, sigmas=cell.sigmas, settings=cell.settings),
        start=cell.start, seed=seed, batch=batch, progress=track,
    )  # fmt: skip
    seconds = time.perf_counter() - begun
    facts = {"line": cell.line, "evaluations": sum(counts) / len(counts), "seconds": seconds}
    return facts | {"images_per_second": n / seconds} | judge(to_uint8(drawn, model.value_range).cpu())


def summary(cells: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """For each form of annealed Langevin, the fewest evaluations within 5 % of its distance with 1,000."""
    found: dict[str, Any] = {}
    rest = [cell for cell in cells.values() if not cell["line"].startswith(YARDSTICK)]
    for key, yard in cells.items():
        if not yard["line"].startswith(YARDSTICK) or yard["evaluations"] < 1000:
            continue
        near = [cell for cell in rest if cell["FD"] <= NEAR * yard["FD"]]
        best = min(near, key=lambda cell: (cell["evaluations"], cell["FD"]), default=None)
        found[key] = {"FD": yard["FD"], "evaluations": yard["evaluations"]}
        if best is not None:
            found[key] |= {
                "sampler": best["line"],
                "fewest_evaluations": best["evaluations"],
                "its_FD": best["FD"],
                "times_as_fast": yard["seconds"] / best["seconds"],
            }
    return found


def shares(*, repeats: int = 5) -> dict[str, float]:
    """A sampler's own time over the network's, for an evaluation of 3 × 32 × 32 by the default network.

    Its own is that of a run whose denoiser costs nothing: it gives the same images whatever it is shown.
    """
    shape = (3, 32, 32)
    model = build_model(read_recipe("default"), shape).eval()
    still = torch.zeros(SHARE_BATCH, *shape)
    found: dict[str, float] = {}
    for name in (*ONE_EACH, *TWO_EACH, "runge-kutta", YARDSTICK):
        free = min(_cost(name, model, lambda x, sigma: still) for _ in range(repeats))
        found[name] = free / min(_cost(name, model, model) for _ in range(2))
    return found


def _cost(name: str, model: ScoreModel, denoiser: Denoiser) -> float:
    """Seconds for an evaluation, the sampler's arithmetic included."""
    chosen = plan(model, name, 2 if name == "runge-kutta" else 10, settings=_loose(name))
    generator = torch.Generator().manual_seed(0)
    x = float(chosen.sigmas[0]) * torch.randn(SHARE_BATCH, *model.shape, generator=generator)
    evaluations = 0
    with torch.no_grad():
        begun = time.perf_counter()
        for step in chosen.sampler.iterate(denoiser, x, chosen.sigmas, generator=generator):
            evaluations = step.evaluations
        return (time.perf_counter() - begun) / evaluations


def _loose(name: str) -> dict[str, Setting]:
    return {"rtol": 1e-2, "atol": 1e-2} if name == "runge-kutta" else {}


def plot(results: dict[str, Any], path: Path) -> Path:
    """Distance against evaluations, both logarithmic, every sampler a line."""
    from scorefield.figures.drawing import GREY, caption, panels, save

    lines: dict[str, list[tuple[float, float]]] = {}
    for cell in results["cells"].values():
        lines.setdefault(cell["line"], []).append((cell["evaluations"], cell["FD"]))
    figure, (axes,) = panels(1, 1, width=7.6, height=4.6)
    for k, (line, points) in enumerate(sorted(lines.items())):
        across, up = zip(*sorted(points), strict=True)
        marker = "s*^vDPXhop<>"[k % 12] if line.startswith(YARDSTICK) else "o"
        axes.plot(across, up, marker=marker, markersize=4, linewidth=1.2, label=line, color=f"C{k % 10}",
                  linestyle="-" if k < 10 else "--")  # fmt: skip
    axes.axhline(results["real"]["FD"], color=GREY, linewidth=0.8, linestyle=":")
    axes.text(5, results["real"]["FD"], "training images", fontsize=7, color=GREY, va="bottom")
    axes.set(xscale="log", yscale="log", xlabel="evaluations of the network", ylabel="Fréchet distance")
    axes.set_yticks([step * 10.0**power for power in (-1, 0, 1) for step in (1, 2, 5)])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    caption(axes, f"{results['model']}: {results['n']} samples, features of a classifier")
    return save(figure, path)


def earlier(path: Path) -> dict[str, Any]:
    """The results that a run left, or nothing."""
    return json.loads(path.read_text())["results"] if path.is_file() else {}
