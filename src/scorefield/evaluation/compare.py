"""Models side by side on images that none of them has seen.

Which of two models knows the data better? Distances between samples and images judge the network, the
sampler and its steps at once, on features that somebody chose. The score-matching losses judge the network
alone, at every noise level, and differ between models by exactly the difference of their Fisher divergences

    L_B(σ) − L_A(σ) = (σ²/d) (E ‖ŝ_B − s‖² − E ‖ŝ_A − s‖²),

because what either lacks to its Fisher divergence, ∫ ‖∇ log p‖² or the noise that can't be told from the
image, is a number of the data (Vincent 2011, §4; Song & Ermon 2019, eq. 2; derived in
`evaluation.losses`). Both are here: losses with intervals, their differences paired, and the samples'
distances, each with what it cost.

Models may have learned pixels in other ranges and other noise levels. Everything is in units of pixels in
[0, 1], at levels that all of them know, each asked at its own scale.

References:
    Vincent (2011). https://doi.org/10.1162/NECO_a_00142
    Song & Ermon (2019). https://arxiv.org/abs/1907.05600
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from scorefield.data.image_set import ImageSet, chosen
from scorefield.errors import UserError
from scorefield.evaluation.losses import (
    Estimate,
    InPixels,
    Losses,
    common_levels,
    estimate,
    level_losses,
    schedule_levels,
)
from scorefield.evaluation.report import Report, check_shape, measure
from scorefield.metrics.reference import Reference, Track, stamp
from scorefield.model import ScoreModel
from scorefield.samplers import plan

_PRODUCT = 3  # evaluations that a score with a product of its Jacobian costs


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A loss at each level, and its mean over them."""

    levels: tuple[Estimate, ...]
    mean: Estimate

    @classmethod
    def of(cls, values: Tensor) -> "Curve":
        """From losses (L, N) of independent images."""
        return cls(levels=tuple(estimate(row) for row in values), mean=estimate(values.mean(0)))


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is known of one model.

    Args:
        name: as it was called.
        parameters: numbers in its network.
        gflops: 10⁹ floating-point operations of one evaluation for one image, products and sums counted.
        denoising: L(σ) of `evaluation.losses`.
        sliced: S(σ), or None.
        denoising_difference: L(σ) less the first model's, paired; None for the first.
        sliced_difference: likewise.
        report: of its samples, or None.
    """

    name: str
    parameters: int
    gflops: float
    denoising: Curve
    sliced: Curve | None
    denoising_difference: Curve | None
    sliced_difference: Curve | None
    report: Report | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Models side by side.

    Args:
        n: held-out images.
        data: their set's name, number and digest.
        sigmas: noise levels of pixels in [0, 1], falling.
        projections: directions for each image of the sliced loss.
        seed: of noise, directions and samples.
        entries: the models, in the order asked for.
    """

    n: int
    data: str
    sigmas: tuple[float, ...]
    projections: int
    seed: int
    entries: tuple[Entry, ...]

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain data."""
        return asdict(self)


def check_models(
    models: Mapping[str, ScoreModel], test: ImageSet, *, sampler: str = "heun", steps: int | None = None
) -> None:
    """See before any work that the models can be compared on these images.

    Raises:
        UserError: no model, images of another shape or fewer than two, or no such sampler.
    """
    if not models:
        raise UserError("models", "none to compare.", "Name at least one.")
    for name, model in models.items():
        check_shape(model, test, name=name)
        plan(model, sampler, steps)
    if len(test) < 2:
        raise UserError(test.name, f"an interval needs at least two images, got {len(test)}.")


def choose_levels(
    models: Mapping[str, ScoreModel], *, count: int = 10, schedule_of: str | None = None
) -> tuple[float, ...]:
    """Noise levels, in units of pixels in [0, 1]: see `losses.common_levels` and `losses.schedule_levels`.

    Args:
        models: by name.
        count: how many, at most.
        schedule_of: a model whose schedule gives them, every noise level of it.

    Raises:
        UserError: no such model, no schedule, or no level that all models know.
    """
    if schedule_of is None:
        return common_levels(list(models.values()), count)
    if schedule_of not in models:
        raise UserError(
            "schedule", f"{schedule_of!r} is not among the models compared.", f"Known: {', '.join(models)}."
        )
    return schedule_levels(models[schedule_of], list(models.values()))


def compare(
    models: Mapping[str, ScoreModel],
    test: ImageSet,
    *,
    sigmas: Sequence[float] | None = None,
    n: int = 500,
    projections: int = 1,
    reference: Reference | None = None,
    samples: int = 500,
    sampler: str = "heun",
    steps: int | None = None,
    seed: int = 0,
    batch: int = 32,
    track: Track = lambda words, share: None,
) -> tuple[Comparison, dict[str, Tensor]]:
    """Measure every model on the same images with the same noise.

    Args:
        models: by name; differences are taken against the first.
        test: images that none has seen.
        sigmas: noise levels, in units of pixels in [0, 1]; by default `choose_levels`.
        n: so many of the images, a fixed random choice, or all there are.
        projections: directions for each image of the sliced loss; 0 leaves it out.
        reference: from `reference.prepare`, what samples are compared with; without it none are drawn.
        samples: of each model.
        sampler: see `samplers.sample`.
        steps: see `samplers.plan`.
        seed: of noise, directions and samples.
        batch: images at once in the losses.
        track: told what is being done and the share of all work, in operations of the networks.

    Returns:
        The comparison, and each model's samples, uint8 (samples, C, H, W), if any.

    Raises:
        UserError: models or images that can't be compared, or a network that gives NaN.
    """
    check_models(models, test, sampler=sampler, steps=steps)
    sigmas = choose_levels(models) if sigmas is None else tuple(sigmas)
    _check_levels(models, sigmas)
    kept = torch.tensor(chosen(len(test), min(n, len(test))))
    images = test.images[kept].float() / 255
    costs = {name: gflops(model) for name, model in models.items()}
    work = _Work(track)
    for name, model in models.items():
        work.expect(name, "losses", costs[name] * len(kept) * len(sigmas) * (1 + _PRODUCT * projections))
        drawing = samples * plan(model, sampler, steps).evaluations if reference else 0
        work.expect(name, "samples", costs[name] * drawing)
    found: dict[str, Losses] = {}
    reports: dict[str, Report] = {}
    drawn: dict[str, Tensor] = {}
    for name, model in models.items():
        found[name] = _losses_of(model, images, sigmas, projections, seed, batch, work.teller(name, "losses"))
        if reference is not None:
            told = work.teller(name, "samples")
            reports[name], drawn[name], _ = measure(
                model,
                reference,
                n=samples,
                sampler=sampler,
                steps=steps,
                seed=seed,
                track=lambda words, share, told=told: told(share if words == "Sampling" else 1.0),
            )
    first = next(iter(found.values()))
    entries = tuple(
        _entry(name, model, costs[name], found[name], first, reports.get(name)) for name, model in models.items()
    )
    comparison = Comparison(
        n=len(kept), data=stamp(test), sigmas=sigmas, projections=projections, seed=seed, entries=entries
    )
    return comparison, drawn


def _losses_of(
    model: ScoreModel,
    images: Tensor,
    sigmas: Sequence[float],
    projections: int,
    seed: int,
    batch: int,
    track: Callable[[float], None],
) -> Losses:
    return level_losses(
        InPixels(model=model.with_precision(torch.float32)),
        images,
        sigmas,
        projections=projections,
        seed=seed,
        batch=batch,
        device=model.device,
        track=track,
    )


def _entry(name: str, model: ScoreModel, cost: float, losses: Losses, first: Losses, report: Report | None) -> Entry:
    return Entry(
        name=name,
        parameters=sum(p.numel() for p in model.network.parameters()),
        gflops=cost,
        denoising=Curve.of(losses.denoising),
        sliced=None if losses.sliced is None else Curve.of(losses.sliced),
        denoising_difference=_difference(losses.denoising, first.denoising),
        sliced_difference=_difference(losses.sliced, first.sliced),
        report=report,
    )


def gflops(model: ScoreModel) -> float:
    """10⁹ floating-point operations of one evaluation for one image: of products and convolutions."""
    x = torch.zeros(1, *model.shape, device=model.device)
    sigma = torch.full((1,), float(model.sigma_range[1]), device=model.device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x, sigma)
    return counter.get_total_flops() / 1e9


def _check_levels(models: Mapping[str, ScoreModel], sigmas: tuple[float, ...]) -> None:
    if not sigmas:
        raise UserError("levels", "there are none.")
    for name, model in models.items():
        width = model.value_range[1] - model.value_range[0]
        low, high = (s / width for s in model.sigma_range)
        outside = [s for s in sigmas if not low * 0.999 <= s <= high * 1.001]
        if outside:
            raise UserError(
                "levels",
                f"σ = {outside[0]:g} of pixels in [0, 1] is not in {low:g} … {high:g}, what {name} knows.",
                "Choose levels that every model knows.",
            )


def _difference(values: Tensor | None, first: Tensor | None) -> Curve | None:
    """Paired by image and noise; None for the first model itself."""
    return None if values is None or first is None or values is first else Curve.of(values - first)


class _Work:
    """Turns the progress of parts into that of the whole, each part counted by its operations."""

    def __init__(self, track: Track) -> None:
        self.sizes: dict[str, float] = {}
        self.track = track

    def expect(self, name: str, words: str, size: float) -> None:
        self.sizes[f"{name}: {words}"] = size

    def teller(self, name: str, words: str) -> Callable[[float], None]:
        part = f"{name}: {words}"
        keys = list(self.sizes)
        before = sum(self.sizes[key] for key in keys[: keys.index(part)])
        size, total = self.sizes[part], max(sum(self.sizes.values()), 1e-9)
        return lambda share: self.track(part, min((before + size * share) / total, 1.0))
