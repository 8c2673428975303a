"""From noise to images: what annealed Langevin dynamics holds at the end of each noise level.

Song & Ermon (2019), Figs. 4 and 5 and those of App. C.2: one row a chain, one column a noise level, from the
start to the result. The paper's chains go L = 10 levels of T = 100 updates with ε = 2e-5, σ 1 → 0.01, from
uniform noise; here the plan is `samplers.plan`'s for the model, from Gaussian noise. An image at σ is shown
as x/√(1+σ²) around the middle of the value range, so that large noise stays on the page; at the paper's
σ ≤ 1 that changes little.

References:
    Song & Ermon (2019). https://arxiv.org/abs/1907.05600
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor

from scorefield.data.image import to_uint8
from scorefield.errors import UserError
from scorefield.figures.drawing import Made, Show, claim, silent, tiles, write_csv
from scorefield.model import ScoreModel
from scorefield.samplers import Step, plan, run

FILES = ("anneal.png", "anneal.csv")


@dataclass(frozen=True, kw_only=True)
class Anneal:
    """What is shown.

    Args:
        samples: rows.
        levels: columns at most between the start and the result, spread evenly over the schedule
            from where σ is twice the value range's width: above, all is noise.
        steps: updates in all; by default those of `samplers.plan`.
    """

    samples: int = 8
    levels: int = 10
    steps: int | None = None


@torch.no_grad()
def anneal(
    model: ScoreModel,
    out: Path,
    settings: Anneal | None = None,
    *,
    seed: int = 0,
    overwrite: bool = False,
    show: Show = silent,
) -> Made:
    """Write anneal.png and anneal.csv into `out`.

    Raises:
        UserError: they are there already, no sample or level is asked for, or matplotlib is missing.
    """
    settings = settings or Anneal()
    if settings.samples < 1 or settings.levels < 1:
        raise UserError("anneal", "it needs at least one sample and one level.")
    image, table = claim(out, *FILES, overwrite=overwrite)
    kept = follow(model, settings, seed=seed, show=show)
    final = kept[-1].x
    rows = [
        {
            "level": k,
            "sigma": step.sigma,
            "evaluations": step.evaluations,
            "mean": float(step.x.mean()),
            "std": float(step.x.std()),
            "denoised_to_result": float((step.denoised - final).square().mean().sqrt()),
        }
        for k, step in enumerate(kept)
    ]
    write_csv(table, rows)
    shown = torch.stack([to_uint8(_shrunk(step, model.value_range), model.value_range) for step in kept], 1)
    names = ["start", *(f"σ = {step.sigma:.2g}" for step in kept[1:-1]), "result"]
    tiles(shown, image, columns=names, apart=(1, len(kept) - 1))
    return Made(
        files=(image, table),
        numbers={
            "levels shown": " ".join(f"{step.sigma:.3g}" for step in kept[1:-1]),
            "evaluations": kept[-1].evaluations,
        },
    )


def follow(model: ScoreModel, settings: Anneal, *, seed: int = 0, show: Show = silent) -> list[Step]:
    """The start, the last update on each level shown, and the result.

    The start's `denoised` is its own x: nothing has been denoised there.
    """
    chosen = plan(model, "annealed-langevin", settings.steps)
    levels: list[float] = chosen.sigmas.tolist()
    low, high = model.value_range
    first = next((k for k, sigma in enumerate(levels) if sigma <= 2 * (high - low)), 0)
    count = min(settings.levels, len(levels) - first)
    places = torch.linspace(first, len(levels) - 1, count).round().int().tolist()
    generator = Generator(model.device).manual_seed(seed)
    x = levels[0] * torch.randn(settings.samples, *model.shape, generator=generator, device=model.device)
    start = Step(index=-1, evaluations=0, sigma=levels[0], x=x, denoised=x)
    ends: dict[float, Step] = {}

    def keep(step: Step) -> None:
        ends[step.sigma] = step
        show(step.evaluations / chosen.evaluations, f"σ {step.sigma:.3g}")

    run(chosen.sampler, model, x, chosen.sigmas, generator=generator, progress=keep)
    return [start, *(ends[levels[place]] for place in places), list(ends.values())[-1]]


def _shrunk(step: Step, value_range: tuple[float, float]) -> Tensor:
    middle = sum(value_range) / 2
    return middle + (step.x - middle) / (1 + step.sigma**2) ** 0.5
