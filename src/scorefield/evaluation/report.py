"""A model measured against images that it did not learn from.

Every number carries what it was computed with: the number of images, the name of the features, the digest
of the reference set, how the kernel distance and the score were parted. A distance on features other than the
standard Inception network's is no FID and is never called so.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from scorefield.data.grids import grid
from scorefield.data.image import to_uint8
from scorefield.data.image_set import ImageSet
from scorefield.errors import UserError
from scorefield.guidance import EVERYWHERE, Interval, conditioned
from scorefield.metrics.distances import (
    IS_SPLITS,
    frechet_distance,
    inception_score,
    kernel_distance,
    kernel_parts,
)
from scorefield.metrics.neighbours import nearest
from scorefield.metrics.reference import (
    PROBE,
    Reference,
    Track,
    choose_features,
    judged,
    prepare,
    titles,
)
from scorefield.model import ScoreModel
from scorefield.samplers import plan, sample

__all__ = ["Report", "check_shape", "choose_features", "evaluate", "measure", "sheet_of_neighbours"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was measured, and on what.

    Args:
        n: number of samples.
        features: name of the features.
        reference: name, split and digest of the images compared with, and their number.
        frechet: Fréchet distance of the features.
        frechet_floor: the same for as many real images of the training set.
        kernel: kernel distance of the features, and its standard deviation over subsets.
        kernel_parts: over which subsets it was taken.
        inception_type: exp E KL(p(y|x) ‖ p(y)) of the features' classifier with its deviation, or None.
        splits: parts that it is the mean of.
        class_accuracy: shares of samples, and of real images, that the features' classifier takes for the
            class that they are of; None where model, images and classifier have no classes in common.
        copies: mean over samples of (ℓ2 distance to the nearest training image) / (the same for real
            images of the reference). Far below 1 means memorized images.
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
        """Names and values for people, each distance named after its features."""
        frechet, kernel, score = titles(self.features)
        shown: dict[str, Any] = {
            "samples": f"{self.n}, {self.sampler}, {self.evaluations} evaluations each",
            "reference": self.reference,
            frechet: f"{self.frechet:.3f}  (real images: {self.frechet_floor:.3f})",
            kernel: f"{self.kernel[0]:.5f} ± {self.kernel[1]:.5f}  ({self.kernel_parts})",
        }
        if self.inception_type is not None:
            mean, deviation = self.inception_type
            shown[score] = f"{mean:.3f} ± {deviation:.3f}  ({self.splits} parts)"
        if self.class_accuracy is not None:
            ours, real = self.class_accuracy
            shown["class accuracy"] = f"{ours:.3f}  (real images: {real:.3f})"
        shown["nearest training image"] = f"{self.copies:.2f} times as far as for real images"
        shown["sampling"] = f"{self.images_per_second:.1f} images/s"
        return shown

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain data."""
        return asdict(self)


def check_shape(model: ScoreModel, *sets: ImageSet, name: str = "the model") -> None:
    """See that the images are of the model's shape.

    Raises:
        UserError: they are not.
    """
    for images_of in sets:
        if images_of.shape != model.shape:
            theirs, ours = ("×".join(map(str, shape)) for shape in (images_of.shape, model.shape))
            raise UserError(
                images_of.name,
                f"its images are {theirs}, {name} draws {ours}.",
                "Open them with the model's size and channels.",
            )


def measure(
    model: ScoreModel,
    reference: Reference,
    *,
    n: int,
    sampler: str = "heun",
    steps: int | None = None,
    seed: int = 0,
    batch: int = 250,
    guidance: float = 1.0,
    interval: Interval = EVERYWHERE,
    track: Track = lambda words, share: None,
) -> tuple[Report, Tensor, Tensor]:
    """Sample from the model and compare; arguments as in `evaluate`.

    Returns:
        The report, the samples, uint8 (n, C, H, W), and the training images nearest to the first of them.
    """
    chosen = plan(model, sampler, steps)
    classes = _classes(model, reference.test, n)
    begun = time.perf_counter()
    drawn = sample(
        model,
        n,
        sampler=sampler,
        steps=steps,
        seed=seed,
        batch=batch,
        classes=classes,
        guidance=guidance,
        interval=interval,
        track=lambda done, total, step: track("Sampling", done / total),
    )
    images = to_uint8(drawn, model.value_range).cpu()
    seconds = time.perf_counter() - begun
    ours = judged(reference.judge, images, lambda share: track("Measuring", 0.9 * share))
    p, real = ours.probabilities, reference.real.features
    splits = min(IS_SPLITS, n)
    index, near = nearest(images[: min(len(reference.test), PROBE)], reference.train.images)
    report = Report(
        n=n,
        features=reference.judge.name,
        reference=reference.stamp,
        frechet=frechet_distance(ours.features, real),
        frechet_floor=reference.floor,
        kernel=kernel_distance(ours.features, real),
        kernel_parts=kernel_parts(n, len(real)),
        inception_type=None if p is None else inception_score(p, splits=splits),
        splits=splits,
        class_accuracy=_class_accuracy(p, classes, reference, model.classes),
        copies=float(near.mean() / reference.usual),
        sampler=sampler,
        evaluations=chosen.evaluations,
        images_per_second=n / seconds,
    )
    track("Measuring", 1.0)
    return report, images, reference.train.images[index[:, 0]]


def evaluate(
    model: ScoreModel,
    train: ImageSet,
    test: ImageSet,
    *,
    n: int = 2000,
    sampler: str = "heun",
    steps: int | None = None,
    seed: int = 0,
    batch: int = 250,
    features: str | Path | None = None,
    guidance: float = 1.0,
    interval: Interval = EVERYWHERE,
    track: Track = lambda words, share: None,
) -> tuple[Report, Tensor]:
    """Sample from the model and compare with the images.

    Args:
        model: what is measured.
        train: what it learned from: judges copies, trains the features.
        test: what the samples are compared with.
        n: number of samples.
        sampler: see `samplers.sample`.
        steps: see `samplers.plan`.
        seed: of the samples.
        batch: images at once.
        features: see `reference.choose_features`.
        guidance: towards the classes, of a model that was trained with labels. Its samples are of the test
            images' classes, in their shares.
        interval: where in σ it guides.
        track: told how far it is.

    Returns:
        The report, and a sheet of samples over their nearest training images, uint8 (20, C, H, W).

    Raises:
        UserError: images not of the model's shape, too few of them, or guidance of a model without classes.
    """
    check_shape(model, train, test)
    plan(model, sampler, steps)  # a name misspelled is told before any work
    conditioned(model, _classes(model, test, n), guidance=guidance, interval=interval)  # and so is this
    reference = prepare(train, test, n=n, features=features, device=model.device, track=track)
    report, images, near = measure(
        model,
        reference,
        n=n,
        sampler=sampler,
        steps=steps,
        seed=seed,
        batch=batch,
        guidance=guidance,
        interval=interval,
        track=track,
    )
    shown = min(10, len(near))
    return report, torch.cat([images[:shown], near[:shown]])


def sheet_of_neighbours(pairs: Tensor) -> Image.Image:
    """Samples in the upper row, the nearest training image of each below."""
    return grid(pairs, columns=len(pairs) // 2)


def _classes(model: ScoreModel, test: ImageSet, n: int) -> Tensor | None:
    """A class for each of n samples, in the shares of the test images and in no order; None without any."""
    if not model.classes or test.labels is None or int(test.labels.max()) >= model.classes:
        return None
    ordered = test.labels.sort().values[(torch.arange(n) * len(test.labels)) // n]
    return ordered[torch.randperm(n, generator=torch.Generator().manual_seed(0))]


def _class_accuracy(
    probabilities: Tensor | None, classes: Tensor | None, reference: Reference, known: int
) -> tuple[float, float] | None:
    """Of samples and of real images, where the judge tells the same classes apart."""
    real, labels = reference.real.probabilities, reference.test.labels
    if probabilities is None or real is None or classes is None or labels is None:
        return None
    if probabilities.shape[1] != known:
        return None
    found = (probabilities.argmax(1).cpu() == classes).float().mean()
    return float(found), float((real.argmax(1).cpu() == labels[: len(real)]).float().mean())
