"""What samples are compared with: real images, features, and what the features say of the images.

It knows no model, so it serves many. Every number carries the name of its features, and none is called FID,
KID or IS but on the standard Inception network.
"""

from collections.abc import Callable
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
    load_features,
    random_features,
)
from scorefield.metrics.inception import inception_features
from scorefield.metrics.inception_weights import STANDARD
from scorefield.metrics.mobilenet import mobilenet_features
from scorefield.metrics.neighbours import nearest

Track = Callable[[str, float], None]
"""Told what is being done and the share of it that is."""

PROBE = 500  # images compared with all training images, at most


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Images that samples are compared with, and what the features say of them.

    Args:
        train: what the models learned from.
        test: what samples are compared with.
        judge: the features.
        real: of `test`.
        floor: Fréchet distance to `test` of as many real images as there will be samples.
        usual: mean distance of real images to the nearest training image.
    """

    train: ImageSet
    test: ImageSet
    judge: Features
    real: Extracted
    floor: float
    usual: float

    @property
    def stamp(self) -> str:
        """Name, number and digest of `test`."""
        return stamp(self.test)


def stamp(images: ImageSet) -> str:
    """A set's name, number and digest."""
    return f"{images.name}, {len(images)} images, {images.digest()[:8]}"


def titles(features: str) -> tuple[str, str, str]:
    """What the Fréchet distance, the kernel distance and the score on these features are called."""
    names = ("FID", "KID", "IS") if features == STANDARD else ("FD", "KD", "inception-type")
    frechet, kernel, score = (f"{name}[{features}]" for name in names)
    return frechet, kernel, score


def choose_features(
    train: ImageSet, named: str | Path | None, track: Track, device: str | torch.device = "cpu"
) -> Features:
    """The features that are named, else of a classifier of the data's labels, else random ones.

    Args:
        train: what a classifier learns from.
        named: "inception" for the standard network, "inception:FILE" for its weights in a file,
            "mobilenet:FILE" for MobileNetV2's, "random", a file that `load_features` reads, or None.
        track: told of a download or a training.
        device: where a published network computes.

    Raises:
        UserError: nothing of that name, a file that can't be read, or a class without an image.
    """
    word, _, file = str(named or "").partition(":")
    if word == "inception":
        return inception_features(Path(file) if file else None, device=device, track=track)
    if word == "mobilenet":
        if not file:
            raise UserError("features", "mobilenet has no weights.", "Name torchvision's file: mobilenet:FILE.")
        return mobilenet_features(Path(file), device=device)
    if word == "random":
        return random_features(train.shape[0])
    if named is not None:
        return load_features(Path(named))
    if train.labels is None or len(train.labels.unique()) < 2:
        return random_features(train.shape[0])
    _refuse_empty_classes(train)
    return classifier_features(
        train.images,
        train.labels,
        name=train.name,
        track=lambda done, total: track("Training the judge", done / total),
    )


def prepare(
    train: ImageSet,
    test: ImageSet,
    *,
    n: int,
    features: str | Path | None = None,
    device: str | torch.device = "cpu",
    track: Track = lambda words, share: None,
) -> Reference:
    """What n samples of any model will be compared with.

    Args:
        train: what the models learned from: judges copies, trains the features.
        test: what the samples are compared with.
        n: number of samples.
        features: see `choose_features`.
        device: where the standard network computes.
        track: told how far it is.

    Raises:
        UserError: too few images, or features that can't be had.
    """
    for what, count in (("n", n), (train.name, len(train)), (test.name, len(test))):
        if count < 2:
            raise UserError(what, f"a distance needs at least two images, got {count}.")
    judge = choose_features(train, features, track, device)
    real = judged(judge, test.images, lambda share: track("Looking at real images", share))
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:n]
    floor = judged(judge, train.images[order], lambda share: track("Looking at training images", share))
    return Reference(
        train=train,
        test=test,
        judge=judge,
        real=real,
        floor=frechet_distance(floor.features, real.features),
        usual=_usual_distance(test.images[: min(n, PROBE)], train.images),
    )


def judged(judge: Features, images: Tensor, track: Callable[[float], None], *, batch: int = 250) -> Extracted:
    """Features and probabilities of all images, a batch at a time."""
    parts: list[Extracted] = []
    for rows in images.split(batch):
        parts.append(judge(rows))
        track(min(len(parts) * batch / len(images), 1.0))
    classes = [part.probabilities for part in parts if part.probabilities is not None]
    return Extracted(
        features=torch.cat([part.features for part in parts]),
        probabilities=torch.cat(classes) if classes else None,
    )


def _refuse_empty_classes(train: ImageSet) -> None:
    if train.labels is None or train.class_names is None:
        return
    counts = train.labels.bincount(minlength=len(train.class_names)).tolist()
    empty = [name for name, count in zip(train.class_names, counts, strict=False) if not count]
    if empty:
        raise UserError(
            train.name,
            f"no image of class {empty[0]!r}, so no classifier of its classes can judge.",
            "Add images, remove the class, or pass --features random.",
        )


def _usual_distance(held_out: Tensor, train: Tensor) -> float:
    """Mean distance of real images to their nearest other training image.

    Where the reference was trained on, each image is its own nearest, and the next one counts.
    """
    _, distances = nearest(held_out, train, k=min(2, len(train)))
    first, last = distances[:, 0], distances[:, -1]
    return max(float(torch.where(first > 0, first, last).mean()), 1e-9)
