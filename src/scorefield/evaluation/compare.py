"""Models side by side on held-out images: score-matching losses, sample distances, and cost.

Distances between samples and images judge the network together with the sampler, its steps and the features. The
score-matching losses judge the network alone, at every noise level, and differ between models A and B by exactly the
difference of their Fisher divergences,

    L_B(σ) − L_A(σ) = (σ²/d) (E ‖ŝ_B − s‖² − E ‖ŝ_A − s‖²),

because the loss is the Fisher divergence plus a number of the data (Vincent 2011, §4; Song & Ermon 2019, eq. 2;
derived in `evaluation.losses`). The comparison has both: losses with intervals, their paired differences to the
first model, and the distances of samples.

Models may have other pixel ranges and noise levels. All numbers are in units of pixels in [0, 1], at noise levels
in the range of every model.

References:
    Vincent (2011). https://doi.org/10.1162/NECO_a_00142
    Song & Ermon (2019). https://arxiv.org/abs/1907.05600
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from scorefield.data.image_set import ImageSet, chosen
from scorefield.errors import UserError
from scorefield.evaluation.level_losses import (
    Estimate,
    InPixels,
    Losses,
    LossSettings,
    common_levels,
    estimate,
    level_losses,
    scale_of,
    schedule_levels,
)
from scorefield.evaluation.reference import Reference, describe
from scorefield.evaluation.report import Report, SampleSettings, check_shape, measure_samples
from scorefield.model import ScoreModel
from scorefield.progress import ProgressCallback, ignore_progress, portion, portions
from scorefield.samplers import plan

__all__ = [
    "Comparison",
    "ComparisonSettings",
    "Curve",
    "ModelComparison",
    "check_models",
    "choose_levels",
    "compare_models",
    "gflops",
]

_PRODUCT = 3  # a score with a product of its Jacobian costs three evaluations: forward, backward, and again forward


@dataclass(frozen=True, kw_only=True)
class ComparisonSettings:
    """What is compared.

    Args:
        losses: number of images and directions.
        samples: drawn from each model; used only with a reference.
    """

    losses: LossSettings = field(default_factory=LossSettings)
    samples: SampleSettings = field(default_factory=lambda: SampleSettings(n=500))


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A loss at each noise level, and its mean over them."""

    levels: tuple[Estimate, ...]
    mean: Estimate

    @classmethod
    def of(cls, values: Tensor) -> "Curve":
        """From losses of independent images, (L, N)."""
        return cls(levels=tuple(estimate(row) for row in values), mean=estimate(values.mean(0)))


@dataclass(frozen=True, kw_only=True)
class ModelComparison:
    """The measurements of one model.

    Args:
        name: of the model.
        parameters: number of values in its network.
        gflops: 10⁹ floating-point operations of one evaluation for one image.
        denoising: L(σ) of `evaluation.losses`.
        sliced: S(σ), or None.
        denoising_difference: paired difference of L(σ) to the first model; None for the first.
        sliced_difference: likewise of S(σ).
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
        n: number of held-out images.
        data: name, number and digest of their set.
        sigmas: noise levels of pixels in [0, 1], decreasing.
        projections: directions for each image of the sliced loss.
        seed: of noise, directions and samples.
        entries: the models, in the given order.
    """

    n: int
    data: str
    sigmas: tuple[float, ...]
    projections: int
    seed: int
    entries: tuple[ModelComparison, ...]

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain data."""
        return asdict(self)


def compare_models(
    models: Mapping[str, ScoreModel],
    test: ImageSet,
    settings: ComparisonSettings | None = None,
    *,
    sigmas: Sequence[float] | None = None,
    reference: Reference | None = None,
    progress: ProgressCallback = ignore_progress,
) -> tuple[Comparison, dict[str, Tensor]]:
    """Measure every model on the same images with the same noise.

    Args:
        models: by name; differences are taken to the first.
        test: held-out images.
        settings: of the losses and the samples.
        sigmas: noise levels, in units of pixels in [0, 1]; by default `choose_levels`.
        reference: from `reference.prepare`, what samples are compared with; without it none are drawn.
        progress: called with the share of all work, in operations of the networks.

    Returns:
        The comparison, and each model's samples, uint8 (samples, C, H, W), if any.

    Raises:
        UserError: models or images that cannot be compared, or a network that gives NaN.
    """
    settings = settings or ComparisonSettings()
    losses, samples = settings.losses, settings.samples
    check_models(models, test, samples)
    sigmas = choose_levels(models) if sigmas is None else tuple(sigmas)
    _check_levels(models, sigmas)
    kept = torch.tensor(chosen(len(test), min(losses.n, len(test))))
    images = test.images[kept].float() / 255
    costs = {name: gflops(model) for name, model in models.items()}
    loss_calls = len(kept) * len(sigmas) * (1 + _PRODUCT * losses.projections)
    work: list[float] = []
    for name, model in models.items():
        draws = samples.n * plan(model, samples.sampler, samples.steps).evaluations if reference else 0
        work += [costs[name] * loss_calls, costs[name] * draws]
    parts = iter(portions(progress, work))
    measured: dict[str, Losses] = {}
    reports: dict[str, Report] = {}
    drawn: dict[str, Tensor] = {}
    for name, model in models.items():
        part = portion(next(parts), 0, 1, f"{name}: losses")
        precise = InPixels(model=model.with_precision(torch.float32))
        measured[name] = level_losses(precise, images, sigmas, losses, device=model.device, progress=part)
        part = portion(next(parts), 0, 1, f"{name}: samples")
        if reference is not None:
            reports[name], drawn[name], _ = measure_samples(model, reference, samples, progress=_sampling(part))
    first = next(iter(measured.values()))
    entries = tuple(
        ModelComparison(
            name=name,
            parameters=sum(p.numel() for p in model.network.parameters()),
            gflops=costs[name],
            denoising=Curve.of(measured[name].denoising),
            sliced=_curve(measured[name].sliced),
            denoising_difference=_difference(measured[name].denoising, first.denoising),
            sliced_difference=_difference(measured[name].sliced, first.sliced),
            report=reports.get(name),
        )
        for name, model in models.items()
    )
    comparison = Comparison(
        n=len(kept),
        data=describe(test),
        sigmas=sigmas,
        projections=losses.projections,
        seed=losses.seed,
        entries=entries,
    )
    return comparison, drawn


def check_models(models: Mapping[str, ScoreModel], test: ImageSet, samples: SampleSettings) -> None:
    """Check before any work that the models can be compared on these images.

    Raises:
        UserError: no model, images of another shape or fewer than two, or an unknown sampler.
    """
    if not models:
        raise UserError("models", "none to compare.", "Name at least one.")
    for name, model in models.items():
        check_shape(model, test, name=name)
        plan(model, samples.sampler, samples.steps)
    if len(test) < 2:
        raise UserError(test.name, f"an interval needs at least two images, got {len(test)}.")


def choose_levels(
    models: Mapping[str, ScoreModel], *, count: int = 10, schedule_of: str | None = None
) -> tuple[float, ...]:
    """Noise levels in units of pixels in [0, 1]; see `losses.common_levels` and `losses.schedule_levels`.

    Args:
        models: by name.
        count: the largest number of levels.
        schedule_of: a model whose schedule gives the levels, all of them.

    Raises:
        UserError: no such model, no schedule, or no level in the range of all models.
    """
    if schedule_of is None:
        return common_levels(list(models.values()), count)
    if schedule_of not in models:
        raise UserError(
            "schedule", f"{schedule_of!r} is not among the models compared.", f"Known: {', '.join(models)}."
        )
    return schedule_levels(models[schedule_of], list(models.values()))


def gflops(model: ScoreModel) -> float:
    """10⁹ floating-point operations, of products and convolutions, of one evaluation for one image."""
    x = torch.zeros(1, *model.shape, device=model.device)
    sigma = torch.full((1,), float(model.sigma_range[1]), device=model.device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x, sigma)
    return counter.get_total_flops() / 1e9


def _sampling(progress: ProgressCallback) -> ProgressCallback:
    """Sampling is the work; the metrics after it take no noticeable time."""
    return lambda share, words: progress(share if words == "Sampling" else 1.0, words)


def _check_levels(models: Mapping[str, ScoreModel], sigmas: tuple[float, ...]) -> None:
    if not sigmas:
        raise UserError("levels", "there are none.")
    for name, model in models.items():
        low, high = (s / scale_of(model)[1] for s in model.sigma_range)
        outside = [s for s in sigmas if not low * 0.999 <= s <= high * 1.001]
        if outside:
            raise UserError(
                "levels",
                f"σ = {outside[0]:g} of pixels in [0, 1] is outside {low:g} … {high:g}, the range of {name}.",
                "Choose levels in the range of every model.",
            )


def _curve(values: Tensor | None) -> Curve | None:
    return None if values is None else Curve.of(values)


def _difference(values: Tensor | None, first: Tensor | None) -> Curve | None:
    """Paired by image and noise; None for the first model itself."""
    return None if values is None or first is None or values is first else Curve.of(values - first)
