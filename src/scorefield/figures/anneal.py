"""From noise to images: the state of annealed Langevin dynamics at the end of each noise level.

Song & Ermon (2019), Figs. 4 and 5 and those of App. C.2: one row a chain, one column a noise level, from the initial
noise to the result. The paper's chains take T = 100 updates on each of L = 10 levels with ε = 2e-5, σ from 1 to
0.01, starting from uniform noise. Here the plan is `samplers.plan`'s for the model, starting from Gaussian noise. An
image at σ is shown as x/√(1+σ²) around the middle of the value range, so that its contrast stays visible; at the
paper's σ ≤ 1 this changes little.

References:
    Song & Ermon (2019). https://arxiv.org/abs/1907.05600
"""

import torch
from torch import Generator

from scorefield.data.image import to_uint8
from scorefield.figures.catalog import Anneal
from scorefield.figures.drawing import tiles
from scorefield.figures.driver import Drawing, FigureInputs
from scorefield.model import ScoreModel
from scorefield.progress import ProgressCallback, ignore_progress
from scorefield.samplers import Step, plan, run

__all__ = ["draw", "follow"]


def draw(options: Anneal, inputs: FigureInputs) -> Drawing:
    """The chains, and their statistics at each level."""
    model = inputs.model
    kept = follow(model, options, seed=inputs.seed, progress=inputs.progress)
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
    middle = sum(model.value_range) / 2
    shrunk = [middle + (step.x - middle) / (1 + step.sigma**2) ** 0.5 for step in kept]
    shown = torch.stack([to_uint8(x, model.value_range) for x in shrunk], 1)
    names = ["start", *(f"σ = {step.sigma:.2g}" for step in kept[1:-1]), "result"]
    numbers = {
        "levels shown": " ".join(f"{step.sigma:.3g}" for step in kept[1:-1]),
        "evaluations": kept[-1].evaluations,
    }
    return Drawing(images=[tiles(shown, columns=names, apart=(1, len(kept) - 1))], rows=rows, numbers=numbers)


@torch.no_grad()
def follow(
    model: ScoreModel, options: Anneal, *, seed: int = 0, progress: ProgressCallback = ignore_progress
) -> list[Step]:
    """The start, the last update on each level shown, and the result.

    The start's `denoised` is x itself.
    """
    chosen = plan(model, "annealed-langevin", options.steps)
    levels: list[float] = chosen.sigmas.tolist()
    low, high = model.value_range
    first = next((k for k, sigma in enumerate(levels) if sigma <= 2 * (high - low)), 0)
    count = min(options.levels, len(levels) - first)
    places = torch.linspace(first, len(levels) - 1, count).round().int().tolist()
    generator = Generator(model.device).manual_seed(seed)
    x = levels[0] * torch.randn(options.samples, *model.shape, generator=generator, device=model.device)
    start = Step(index=-1, evaluations=0, sigma=levels[0], x=x, denoised=x)
    ends: dict[float, Step] = {}

    def keep(step: Step) -> None:
        ends[step.sigma] = step
        progress(step.evaluations / chosen.evaluations, f"σ {step.sigma:.3g}")

    run(chosen.sampler, model, x, chosen.sigmas, generator=generator, progress=keep)
    return [start, *(ends[levels[place]] for place in places), list(ends.values())[-1]]
