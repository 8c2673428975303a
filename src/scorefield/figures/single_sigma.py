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
from scorefield.progress import ProgressCallback, portion, portions
from scorefield.samplers import AnnealedLangevin, Langevin, plan, sample
from scorefield.training import Progress, Trainer, read_recipe

__all__ = ["draw"]

_SHOWN = 8


def draw(options: SingleSigma, inputs: FigureInputs) -> Drawing:
    """Samples of both networks and training images; the two runs stay in the folder.

    An interrupted run resumes; a complete one is sampled again.
    """
    train, held_out, features = inputs.train, inputs.held_out, inputs.features
    order = torch.randperm(len(train), generator=Generator().manual_seed(inputs.seed))
    clouds = [train.images[order[: options.samples]]]
    rows = [_row("training images", clouds[0], held_out, features)]
    low, high, each = options.sigma_min, options.sigma_max, options.step_size
    chains = (
        (f"one level, σ = {low:g}", (low, low * 1.001, 2),
         Langevin(step_size=each, steps_each=options.levels * options.steps), torch.tensor([low])),
        (f"{options.levels} levels, σ {high:g} → {low:g}", (low, high, options.levels),
         AnnealedLangevin(step_size=each, steps_each=options.steps), schedules.geometric(high, low, options.levels)),
    )  # fmt: skip
    progresses = portions(inputs.progress, (1, 1))
    for name, (title, levels, sampler, sigmas), progress in zip(("one", "schedule"), chains, progresses, strict=True):
        training = portion(progress, 0, 0.6, f"{name}: training")
        model = _train(levels, options, train, inputs.out / f"single-sigma-{name}", seed=inputs.seed, progress=training)
        sampling = portion(progress, 0.6, 1, f"{name}: sampling")
        drawn = sample(
            model,
            options.samples,
            sampler=plan(model, sampler, sigmas=sigmas),
            start="uniform",
            seed=inputs.seed,
            progress=lambda done, total, step, report=sampling: report(done / total, ""),
        )
        clouds.append(to_uint8(drawn, model.value_range).cpu())
        rows.append(_row(title, clouds[-1], held_out, features))
    common = {"iterations": options.iterations, "updates": options.levels * options.steps,
              "step_size": options.step_size}  # fmt: skip
    shown = torch.stack([_sheet(cloud) for cloud in (*clouds[1:], clouds[0])]).flatten(0, 1)
    labels = [line for row in (*rows[1:], rows[0]) for line in (row["images"].replace(", ", "\n"), "")]
    return Drawing(
        images=[tiles(shown, columns=[""] * _SHOWN, rows=labels)],
        rows=[row | common for row in rows],
        numbers={f"FD[{features.name}], {row['images']}": round(row["frechet"], 2) for row in rows},
    )


def _train(
    levels: tuple[float, float, int],
    settings: SingleSigma,
    data: ImageSet,
    run: Path,
    *,
    seed: int,
    progress: ProgressCallback,
) -> ScoreModel:
    low, high, count = levels
    recipe = read_recipe(
        "default",
        [
            *settings.network,
            f'noise={{sigma_min={low!r}, sigma_max={high!r}, distribution={{kind="levels", levels={count}}}}}',
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
        progress(now.share, f"loss {now.loss:.3f}")

    return Trainer(recipe, out=run, data=data, resume=True, report=report).fit()


def _row(name: str, images: Tensor, held_out: ImageSet, features: Features) -> dict[str, Any]:
    ours, real = features(images).features, features(held_out.images).features
    kernel, std = kernel_distance(ours, real)
    return {
        "images": name,
        "n": len(images),
        "features": features.name,
        "frechet": frechet_distance(ours, real),
        "kernel": kernel,
        "kernel_std": std,
        "pixel_mean": float(images.float().mean()) / 255,
        "pixel_std": float(images.float().std()) / 255,
    }


def _sheet(images: Tensor) -> Tensor:
    """Two rows of images, (2, 8, C, H, W); blank where there are fewer."""
    blank = torch.full((2 * _SHOWN, *images.shape[1:]), 255, dtype=torch.uint8)
    shown = images[: 2 * _SHOWN]
    blank[: len(shown)] = shown
    return blank.unflatten(0, (2, _SHOWN))
