"""What samples are compared with: real images, their features, and what real images score themselves.

A reference knows no model, so one serves many. Every number carries the name of its features; only the standard
Inception network gives FID, KID and IS.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from scorefield.data.image_set import ImageSet
from scorefield.errors import UserError
from scorefield.metrics.distances import frechet_distance
from scorefield.metrics.features import (
    Extracted,
    Features,
    classifier_features,
    extract,
    load_features,
    random_features,
)
from scorefield.metrics.inception import inception_features
from scorefield.metrics.mobilenet import mobilenet_features
from scorefield.metrics.neighbours import nearest
from scorefield.progress import ProgressCallback, ignore_progress, portion

__all__ = ["MAX_QUERIES", "Reference", "choose_features", "describe", "prepare"]

MAX_QUERIES = 500  # images whose nearest training images are searched; their mean distance is known to about 2 %


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Images that samples are compared with, and their features.

    Args:
        train: the training images of the models.
        test: the images that samples are compared with.
        extractor: of the features.
        real: features of `test`.
        frechet_of_real: Fréchet distance between `test` and as many training images as there will be samples.
        nearest_of_real: mean distance of real images to their nearest training image.
    """

    train: ImageSet
    test: ImageSet
    extractor: Features
    real: Extracted
    frechet_of_real: float
    nearest_of_real: float


def describe(images: ImageSet) -> str:
    """The set's name, its number of images and the first digits of its digest."""
    return f"{images.name}, {len(images)} images, {images.digest()[:8]}"


def choose_features(
    train: ImageSet,
    name: str | Path | None,
    *,
    device: str | torch.device = "cpu",
    progress: ProgressCallback = ignore_progress,
) -> Features:
    """The named features; by default those of a classifier of the data's labels, or random ones without labels.

    Args:
        train: trains the classifier.
        name: "inception" for the standard network, "inception:FILE" for its weights in a file, "mobilenet:FILE"
            for MobileNetV2's, "random", a file that `load_features` reads, or None.
        device: where a network computes.
        progress: of a download or a training.

    Raises:
        UserError: unknown name, unreadable file, or a class without images.
    """
    word, _, file = str(name or "").partition(":")
    if word == "inception":
        return inception_features(Path(file) if file else None, device=device, progress=progress)
    if word == "mobilenet":
        if not file:
            raise UserError("features", "mobilenet has no weights.", "Name torchvision's file: mobilenet:FILE.")
        return mobilenet_features(Path(file), device=device)
    if word == "random":
        return random_features(train.shape[0], device=device)
    if name is not None:
        return load_features(Path(name), device=device)
    if train.labels is None or len(train.labels.unique()) < 2:
        return random_features(train.shape[0], device=device)
    _refuse_empty_classes(train)
    training = portion(progress, 0, 1, "Training a classifier for the features")
    return classifier_features(train.images, train.labels, name=train.name, device=device, progress=training)


def prepare(
    train: ImageSet,
    test: ImageSet,
    *,
    n: int,
    features: str | Path | None = None,
    device: str | torch.device = "cpu",
    progress: ProgressCallback = ignore_progress,
) -> Reference:
    """The reference for n samples of any model.

    Args:
        train: the training images: they show copies, and train the classifier.
        test: the images that samples are compared with.
        n: number of samples.
        features: see `choose_features`.
        device: where a network computes.
        progress: called on the way.

    Raises:
        UserError: too few images, or unavailable features.
    """
    for what, count in (("n", n), (train.name, len(train)), (test.name, len(test))):
        if count < 2:
            raise UserError(what, f"a distance needs at least two images, got {count}.")
    extractor = choose_features(train, features, device=device, progress=progress)
    real = extract(extractor, test.images, progress=portion(progress, 0, 1, "Features of real images"))
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:n]
    others = extract(extractor, train.images[order], progress=portion(progress, 0, 1, "Features of training images"))
    return Reference(
        train=train,
        test=test,
        extractor=extractor,
        real=real,
        frechet_of_real=frechet_distance(others.features, real.features),
        nearest_of_real=_nearest_of_real(test.images[: min(n, MAX_QUERIES)], train.images),
    )


def _refuse_empty_classes(train: ImageSet) -> None:
    if train.labels is None or train.class_names is None:
        return
    counts = train.labels.bincount(minlength=len(train.class_names)).tolist()
    empty = [name for name, count in zip(train.class_names, counts, strict=False) if not count]
    if empty:
        raise UserError(
            train.name,
            f"no image of class {empty[0]!r}, so no classifier of its classes can be trained.",
            "Add images, remove the class, or pass --features random.",
        )


def _nearest_of_real(held_out: Tensor, train: Tensor) -> float:
    """Mean distance of real images to their nearest other training image.

    Where the held-out images are training images, each is its own nearest, and the second nearest counts.
    """
    _, distances = nearest(held_out, train, k=min(2, len(train)))
    first, last = distances[:, 0], distances[:, -1]
    return max(float(torch.where(first > 0, first, last).mean()), 1e-9)
