"""One noise level against a schedule: what annealing is for.

Song & Ermon (2019), App. C.1: a network trained at the single level σ = 0.01 and sampled by T = 1000 updates
of Langevin dynamics with ε = 2e-5 gives no reasonable images; the same network trained on L = 10 levels,
σ 1 → 0.01, and sampled by T = 100 updates on each does. Pixels lie in [0, 1], both begin uniform in [0, 1],
both step x + (α/2) s + √α z, and both make 1000 updates.

Here both networks get the same recipe, seed and number of steps; only the noise levels differ. The recipe
wants two noise levels at least, so the single level is 0.01 and a thousandth more. `PAPER` trains NCSN's network,
128 wide, for 200,000 steps of 128 images; `CPU` the default U-Net, told σ and divided by it, for a few
minutes.

Numbers: Fréchet and kernel distance, on features named in the table, of the samples to held-out images, and
the same of as many training images.

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
from scorefield.figures.drawing import Made, Show, claim, silent, tiles, write_csv
from scorefield.metrics.distances import frechet_distance, kernel_distance
from scorefield.metrics.features import Features
from scorefield.model import ScoreModel
from scorefield.samplers import AnnealedLangevin, Langevin, Sampler, Step, run
from scorefield.training import Progress, Trainer, read_recipe

FILES = ("single-sigma.png", "single-sigma.csv")

_SHOWN, _AT_ONCE = 8, 64


@dataclass(frozen=True, kw_only=True)
class SingleSigma:
    """App. C.1's settings.

    Args:
        data: what the runs' recipes name as their data; the paper's is CIFAR-10.
        iterations: training steps of each network.
        samples: of each, for the distances; 16 are shown.
        sigma_max: σ_1 of the schedule.
        sigma_min: σ_L of the schedule, and the single level.
        levels: L.
        steps: T on each noise level; the single level gets L·T.
        step_size: ε.
        network: what the recipe of both sets besides, texts `section.key=value`.
    """

    data: str = "fashion"
    iterations: int = 200_000
    samples: int = 1000
    sigma_max: float = 1.0
    sigma_min: float = 0.01
    levels: int = 10
    steps: int = 100
    step_size: float = 2e-5
    network: tuple[str, ...] = (
        'network={kind="refinenet", width=128}',
        'parameterization={kind="ncsn"}',
        "optimizer={lr=1e-3, betas=[0.9, 0.999], batch=128, warmup=0, clip=0.0}",
        "average.decay=0.0",
    )


PAPER = SingleSigma()
CPU = SingleSigma(iterations=1200, samples=64, network=('parameterization={kind="ncsnv2"}',))


@dataclass(frozen=True, kw_only=True)
class _Chain:
    """A network's noise levels and the sampler that goes with them."""

    name: str
    title: str
    noise: str
    sampler: Sampler
    sigmas: Tensor


def single_sigma(
    train: ImageSet,
    held_out: ImageSet,
    judge: Features,
    out: Path,
    settings: SingleSigma = CPU,
    *,
    seed: int = 0,
    overwrite: bool = False,
    show: Show = silent,
) -> Made:
    """Write single-sigma.png and single-sigma.csv into `out`, and the two runs beside them.

    A run that was stopped goes on; one that is complete is sampled again.

    Raises:
        UserError: the figure is there already, a run follows other settings, or matplotlib is missing.
        Interrupted: a signal came; the training is saved.
    """
    image, table = claim(out, *FILES, overwrite=overwrite)
    order = torch.randperm(len(train), generator=Generator().manual_seed(seed))
    clouds = [train.images[order[: settings.samples]]]
    rows = [_row("training images", clouds[0], held_out, judge)]
    chains = _chains(settings)
    for k, chain in enumerate(chains):

        def shown(share: float, words: str, k: int = k, name: str = chain.name) -> None:
            show((k + share) / len(chains), f"{name}: {words}")

        model = _train(chain, settings, train, out / f"single-sigma-{chain.name}", seed=seed, show=shown)
        clouds.append(_sample(model, chain, settings.samples, seed=seed, show=shown))
        rows.append(_row(chain.title, clouds[-1], held_out, judge))
    common = {"iterations": settings.iterations, "updates": settings.levels * settings.steps,
              "step_size": settings.step_size}  # fmt: skip
    write_csv(table, [row | common for row in rows])
    shown_of = torch.stack([_sheet(cloud) for cloud in (*clouds[1:], clouds[0])]).flatten(0, 1)
    labels = [line for row in (*rows[1:], rows[0]) for line in (row["images"].replace(", ", "\n"), "")]
    tiles(shown_of, image, columns=[""] * _SHOWN, rows=labels)
    return Made(
        files=(image, table),
        numbers={f"FD[{judge.name}], {row['images']}": round(row["frechet"], 2) for row in rows},
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


def _train(chain: _Chain, settings: SingleSigma, data: ImageSet, run: Path, *, seed: int, show: Show) -> ScoreModel:
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
        show(0.6 * now.share, f"training, loss {now.loss:.3f}")

    return Trainer(recipe, out=run, data=data, resume=True, report=report).fit()


@torch.no_grad()
def _sample(model: ScoreModel, chain: _Chain, n: int, *, seed: int, show: Show) -> Tensor:
    """Uint8 samples from uniform noise, (n, C, H, W)."""
    generator = Generator(model.device).manual_seed(seed)
    start = torch.rand(n, *model.shape, generator=generator, device=model.device)
    parts: list[Tensor] = []
    each = chain.sampler.evaluations(chain.sigmas)
    for k, x in enumerate(start.split(_AT_ONCE)):

        def report(step: Step, k: int = k) -> None:
            share = (k + step.evaluations / each) * _AT_ONCE / n
            show(0.6 + 0.4 * min(share, 1), "sampling")

        drawn = run(chain.sampler, model, x, chain.sigmas, generator=generator, progress=report)
        parts.append(to_uint8(drawn, model.value_range).cpu())
    return torch.cat(parts)


def _row(name: str, images: Tensor, held_out: ImageSet, judge: Features) -> dict[str, Any]:
    ours, real = judge(images).features, judge(held_out.images).features
    kernel, spread = kernel_distance(ours, real)
    return {
        "images": name,
        "n": len(images),
        "features": judge.name,
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
