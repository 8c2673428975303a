"""Samples of a model, measured against images that it was not trained on.

Every number is stored with its settings: the number of images, the name of the features, the digest of the
reference set, and how the kernel distance and the score were split. A distance on other features than the standard
Inception network's is no FID and has another name.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Generator, Tensor

from scorefield.data.grids import grid
from scorefield.data.image import to_uint8
from scorefield.data.image_set import ImageSet
from scorefield.errors import UserError
from scorefield.evaluation.reference import MAX_QUERIES, Reference, describe, prepare
from scorefield.guidance import NO_GUIDANCE, Guidance, bind_classes
from scorefield.metrics.distances import (
    IS_SPLITS,
    frechet_distance,
    inception_score,
    kernel_distance,
    kernel_subsets,
)
from scorefield.metrics.features import extract, metric_names
from scorefield.metrics.neighbours import nearest
from scorefield.model import ScoreModel
from scorefield.progress import ProgressCallback, ignore_progress, portion
from scorefield.samplers import plan, sample

__all__ = ["Report", "SampleSettings", "check_shape", "evaluate", "measure_samples", "sheet_of_neighbours"]


@dataclass(frozen=True, kw_only=True)
class SampleSettings:
    """How samples are drawn for a measurement.

    Args:
        n: number of samples.
        sampler: see `samplers.sample`.
        steps: see `samplers.plan`.
        seed: of all noise.
        batch: samples at once.
        guidance: classifier-free guidance, for a model with classes. Classes are drawn in the shares of the test
            images.
    """

    n: int = 2000
    sampler: str = "heun"
    steps: int | None = None
    seed: int = 0
    batch: int = 250
    guidance: Guidance = NO_GUIDANCE


@dataclass(frozen=True, kw_only=True)
class Report:
    """Measurements of samples, with their settings.

    Args:
        n: number of samples.
        features: name of the features.
        reference: name, number and digest of the images compared with.
        frechet: Fréchet distance of the features.
        frechet_floor: the same for as many real images of the training set.
        kernel: kernel distance of the features, and its standard deviation over subsets.
        kernel_parts: which rows the kernel distance uses.
        inception_type: exp E KL(p(y|x) ‖ p(y)) of the features' classifier with its deviation, or None.
        splits: parts that it is averaged over.
        class_accuracy: share of samples, and of real images, that the features' classifier assigns to their own
            class; None unless model, images and classifier have the same classes.
        copies: mean over samples of (ℓ2 distance to the nearest training image) / (the same for real images of the
            reference). Far below 1 means memorized images.
        sampler: its name.
        evaluations: of the network for each sample.
        images_per_second: in sampling.
    """

    n: int
    features: str
    reference: str
    frechet: float
    frechet_floor: float
    kernel: tuple[float, float]
    kernel_parts: str
    inception_type: tuple[float, float] | None
    splits: int
    class_accuracy: tuple[float, float] | None
    copies: float
    sampler: str
    evaluations: int
    images_per_second: float

    def rows(self) -> dict[str, Any]:
        """Names and formatted values, each distance named after its features."""
        frechet, kernel, score = metric_names(self.features)
        rows: dict[str, Any] = {
            "samples": f"{self.n}, {self.sampler}, {self.evaluations} evaluations each",
            "reference": self.reference,
            frechet: f"{self.frechet:.3f}  (real images: {self.frechet_floor:.3f})",
            kernel: f"{self.kernel[0]:.5f} ± {self.kernel[1]:.5f}  ({self.kernel_parts})",
        }
        if self.inception_type is not None:
            mean, std = self.inception_type
            rows[score] = f"{mean:.3f} ± {std:.3f}  ({self.splits} parts)"
        if self.class_accuracy is not None:
            ours, real = self.class_accuracy
            rows["class accuracy"] = f"{ours:.3f}  (real images: {real:.3f})"
        rows["nearest training image"] = f"{self.copies:.2f} times as far as for real images"
        rows["sampling"] = f"{self.images_per_second:.1f} images/s"
        return rows

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain data."""
        return asdict(self)


def evaluate(
    model: ScoreModel,
    train: ImageSet,
    test: ImageSet,
    settings: SampleSettings | None = None,
    *,
    features: str | Path | None = None,
    progress: ProgressCallback = ignore_progress,
) -> tuple[Report, Tensor]:
    """Draw samples from the model and compare them with images.

    Args:
        model: the model to measure.
        train: its training images: they show copies, and train the features.
        test: the images that samples are compared with.
        settings: of the samples.
        features: see `reference.choose_features`.
        progress: called on the way.

    Returns:
        The report, and a sheet of samples over their nearest training images, uint8 (20, C, H, W).

    Raises:
        UserError: images not of the model's shape, too few of them, or guidance of a model without classes.
    """
    settings = settings or SampleSettings()
    check_shape(model, train, test)
    # Errors in names and guidance before any work.
    plan(model, settings.sampler, settings.steps)
    classes = _classes(model, test, settings.n)
    bind_classes(model, classes, settings.guidance)
    reference = prepare(train, test, n=settings.n, features=features, device=model.device, progress=progress)
    report, images, near = measure_samples(model, reference, settings, progress=progress)
    shown = min(10, len(near))
    return report, torch.cat([images[:shown], near[:shown]])


def measure_samples(
    model: ScoreModel,
    reference: Reference,
    settings: SampleSettings,
    *,
    progress: ProgressCallback = ignore_progress,
) -> tuple[Report, Tensor, Tensor]:
    """Draw samples from the model and compare them with the reference.

    Returns:
        The report, the samples, uint8 (n, C, H, W), and the training images nearest to the first 500 of them.
    """
    n = settings.n
    classes = _classes(model, reference.test, n)
    images, seconds = _draw(model, settings, classes, portion(progress, 0, 1, "Sampling"))
    ours = extract(reference.extractor, images, progress=portion(progress, 0, 0.9, "Measuring"))
    p, real = ours.probabilities, reference.real.features
    splits = min(IS_SPLITS, n)
    index, near = nearest(images[: min(len(reference.test), MAX_QUERIES)], reference.train.images)
    report = Report(
        n=n,
        features=reference.extractor.name,
        reference=describe(reference.test),
        frechet=frechet_distance(ours.features, real),
        frechet_floor=reference.frechet_of_real,
        kernel=kernel_distance(ours.features, real),
        kernel_parts=kernel_subsets(n, len(real)),
        inception_type=None if p is None else inception_score(p, splits=splits),
        splits=splits,
        class_accuracy=_class_accuracy(p, classes, reference, model.classes),
        copies=float(near.mean() / reference.nearest_of_real),
        sampler=settings.sampler,
        evaluations=plan(model, settings.sampler, settings.steps).evaluations,
        images_per_second=n / seconds,
    )
    progress(1.0, "Measuring")
    return report, images, reference.train.images[index[:, 0]]


def check_shape(model: ScoreModel, *sets: ImageSet, name: str = "the model") -> None:
    """Check that the images have the model's shape.

    Raises:
        UserError: they have another.
    """
    for images in sets:
        if images.shape != model.shape:
            theirs, ours = ("×".join(map(str, shape)) for shape in (images.shape, model.shape))
            raise UserError(
                images.name,
                f"its images are {theirs}, {name} draws {ours}.",
                "Open them with the model's size and channels.",
            )


def sheet_of_neighbours(pairs: Tensor) -> Image.Image:
    """Samples in the upper row, the nearest training image of each below."""
    return grid(pairs, columns=len(pairs) // 2)


def _draw(
    model: ScoreModel, settings: SampleSettings, classes: Tensor | None, progress: ProgressCallback
) -> tuple[Tensor, float]:
    """Samples, uint8 (n, C, H, W), and the seconds that they took."""
    start = time.perf_counter()
    drawn = sample(
        model,
        settings.n,
        sampler=settings.sampler,
        steps=settings.steps,
        seed=settings.seed,
        batch=settings.batch,
        classes=classes,
        guidance=settings.guidance,
        progress=lambda done, total, step: progress(done / total, ""),
    )
    return to_uint8(drawn, model.value_range).cpu(), time.perf_counter() - start


def _classes(model: ScoreModel, test: ImageSet, n: int) -> Tensor | None:
    """Classes for n samples in random order, in the shares of the test images; None without classes."""
    if not model.classes or test.labels is None or int(test.labels.max()) >= model.classes:
        return None
    ordered = test.labels.sort().values[(torch.arange(n) * len(test.labels)) // n]
    return ordered[torch.randperm(n, generator=Generator().manual_seed(0))]


def _class_accuracy(
    probabilities: Tensor | None, classes: Tensor | None, reference: Reference, count: int
) -> tuple[float, float] | None:
    """Accuracy on samples and on real images, where the classifier has the model's classes."""
    real, labels = reference.real.probabilities, reference.test.labels
    if probabilities is None or real is None or classes is None or labels is None:
        return None
    if probabilities.shape[1] != count:
        return None
    ours = (probabilities.argmax(1).cpu() == classes).float().mean()
    return float(ours), float((real.argmax(1).cpu() == labels[: len(real)]).float().mean())
