"""One noise level against a schedule: the case for annealing.

Song & Ermon (2019), App. C.1: a network trained at the single level σ = 0.01 and sampled by T = 1000 updates of
Langevin dynamics with ε = 2e-5 gives no reasonable images; the same network trained on L = 10 levels, σ from 1 to
0.01, and sampled by T = 100 updates on each does. Pixels lie in [0, 1], both start uniform in [0, 1], both step
x + (α/2) s + √α z, and both make 1000 updates.

Here both networks get the same recipe, seed and number of steps; only the noise levels differ. A recipe needs two
noise levels at least, so the single level is 0.01 and 0.01001. `PAPER` trains NCSN's network, 128 wide, for 200,000
steps of 128 images; `CPU` the default U-Net, conditioned on σ and divided by it, for a few minutes.

The numbers are the Fréchet and kernel distances of the samples to held-out images, on features named in the table,
and the same of as many training images.

References:
    Song & Ermon (2019). https://arxiv.org/abs/1907.05600
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from scorefield import schedules
from scorefield.data.image import to_uint8
from scorefield.data.image_set import ImageSet
from scorefield.figures.catalog import SingleSigma
from scorefield.figures.drawing import tiles
from scorefield.figures.driver import Drawing, FigureInputs
from scorefield.metrics.distances import frechet_distance, kernel_distance
from scorefield.metrics.features import Features
from scorefield.model import ScoreModel
from scorefield.progress import ProgressCallback, portions
from scorefield.samplers import AnnealedLangevin, Langevin, Sampler, Step, run
from scorefield.training import Progress, Trainer, read_recipe

__all__ = ["draw"]

_SHOWN, _AT_ONCE = 8, 64


@dataclass(frozen=True, kw_only=True)
class _Chain:
    """The noise levels of a network, and its sampler."""

    name: str
    title: str
    noise: str
    sampler: Sampler
    sigmas: Tensor


def draw(options: SingleSigma, inputs: FigureInputs) -> Drawing:
    """Samples of both networks and training images; the two runs stay in the folder.

    An interrupted run resumes; a complete one is sampled again.
    """
    train, held_out, features = inputs.train, inputs.held_out, inputs.features
    order = torch.randperm(len(train), generator=Generator().manual_seed(inputs.seed))
    clouds = [train.images[order[: options.samples]]]
    rows = [_row("training images", clouds[0], held_out, features)]
    chains = _chains(options)
    for chain, progress in zip(chains, portions(inputs.progress, (1, 1)), strict=True):
        run_folder = inputs.out / f"single-sigma-{chain.name}"
        model = _train(chain, options, train, run_folder, seed=inputs.seed, progress=progress)
        clouds.append(_sample(model, chain, options.samples, seed=inputs.seed, progress=progress))
        rows.append(_row(chain.title, clouds[-1], held_out, features))
    common = {"iterations": options.iterations, "updates": options.levels * options.steps,
              "step_size": options.step_size}  # fmt: skip
    shown = torch.stack([_sheet(cloud) for cloud in (*clouds[1:], clouds[0])]).flatten(0, 1)
    labels = [line for row in (*rows[1:], rows[0]) for line in (row["images"].replace(", ", "\n"), "")]
    return Drawing(
        images=[tiles(shown, columns=[""] * _SHOWN, rows=labels)],
        rows=[row | common for row in rows],
        numbers={f"FD[{features.name}], {row['images']}": round(row["frechet"], 2) for row in rows},
    )


def _chains(settings: SingleSigma) -> tuple[_Chain, _Chain]:
    low, high = settings.sigma_min, settings.sigma_max
    return (
        _Chain(
            name="one",
            title=f"one level, σ = {low:g}",
            noise=_distribution(low, low * 1.001, 2),
            sampler=Langevin(step_size=settings.step_size, steps_each=settings.levels * settings.steps),
            sigmas=torch.tensor([low]),
        ),
        _Chain(
            name="schedule",
            title=f"{settings.levels} levels, σ {high:g} → {low:g}",
            noise=_distribution(low, high, settings.levels),
            sampler=AnnealedLangevin(step_size=settings.step_size, steps_each=settings.steps),
            sigmas=schedules.geometric(high, low, settings.levels),
        ),
    )


def _distribution(low: float, high: float, levels: int) -> str:
    return f'noise={{sigma_min={low!r}, sigma_max={high!r}, distribution={{kind="levels", levels={levels}}}}}'


def _train(
    chain: _Chain, settings: SingleSigma, data: ImageSet, run: Path, *, seed: int, progress: ProgressCallback
) -> ScoreModel:
    recipe = read_recipe(
        "default",
        [
            *settings.network,
            chain.noise,
            f"data.source={json.dumps(settings.data)}",
            "data.value_range=[0.0, 1.0]",
            'objective.weight="uniform"',
            f"training.seed={seed}",
            f"training.steps={settings.iterations}",
            'training.precision="float32"',  # σ = 0.01 is near bfloat16's rounding of a pixel
            'training.sample_every="365d"',
        ],
    )

    def report(now: Progress) -> None:
        progress(0.6 * now.share, f"{chain.name}: training, loss {now.loss:.3f}")

    return Trainer(recipe, out=run, data=data, resume=True, report=report).fit()


@torch.no_grad()
def _sample(model: ScoreModel, chain: _Chain, n: int, *, seed: int, progress: ProgressCallback) -> Tensor:
    """Uint8 samples from uniform noise, (n, C, H, W)."""
    generator = Generator(model.device).manual_seed(seed)
    start = torch.rand(n, *model.shape, generator=generator, device=model.device)
    parts: list[Tensor] = []
    each = chain.sampler.evaluations(chain.sigmas)
    for k, x in enumerate(start.split(_AT_ONCE)):

        def report(step: Step, k: int = k) -> None:
            share = (k + step.evaluations / each) * _AT_ONCE / n
            progress(0.6 + 0.4 * min(share, 1), f"{chain.name}: sampling")

        drawn = run(chain.sampler, model, x, chain.sigmas, generator=generator, progress=report)
        parts.append(to_uint8(drawn, model.value_range).cpu())
    return torch.cat(parts)


def _row(name: str, images: Tensor, held_out: ImageSet, features: Features) -> dict[str, Any]:
    ours, real = features(images).features, features(held_out.images).features
    kernel, spread = kernel_distance(ours, real)
    return {
        "images": name,
        "n": len(images),
        "features": features.name,
        "frechet": frechet_distance(ours, real),
        "kernel": kernel,
        "kernel_spread": spread,
        "pixel_mean": float(images.float().mean()) / 255,
        "pixel_std": float(images.float().std()) / 255,
    }


def _sheet(images: Tensor) -> Tensor:
    """Two rows of images, (2, 8, C, H, W); blank where there are fewer."""
    blank = torch.full((2 * _SHOWN, *images.shape[1:]), 255, dtype=torch.uint8)
    shown = images[: 2 * _SHOWN]
    blank[: len(shown)] = shown
    return blank.unflatten(0, (2, _SHOWN))
