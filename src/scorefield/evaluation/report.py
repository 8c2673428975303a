"""A model measured against pictures that it did not learn from.

Every number carries what it was computed with: the number of pictures, the name of the features, the digest
of the reference set. A distance on features other than the standard Inception network's is no FID and is
never called so.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from scorefield.data.images import to_uint8
from scorefield.data.imageset import ImageSet
from scorefield.data.sheets import grid
from scorefield.errors import UserError
from scorefield.evaluation.distances import frechet_distance, inception_score, kernel_distance
from scorefield.evaluation.features import Features, classifier_features, load_features, random_features
from scorefield.evaluation.neighbours import nearest
from scorefield.model import ScoreModel
from scorefield.samplers import plan, sample

Track = Callable[[str, float], None]
"""Told what is being done and the share of it that is."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was measured, and on what.

    Args:
        n: number of samples.
        features: name of the features.
        reference: name, split and digest of the pictures compared with, and their number.
        frechet: Fréchet distance of the features.
        frechet_floor: the same for as many real pictures of the training set.
        kernel: kernel distance (KID's) of the features, and its standard deviation over subsets.
        inception_type: exp E KL(p(y|x) ‖ p(y)) of the features' classifier with its deviation, or None.
        copies: mean over samples of (ℓ2 distance to the nearest training picture) / (the same for real
            pictures of the reference). Far below 1 means memorized pictures.
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
    inception_type: tuple[float, float] | None
    copies: float
    sampler: str
    evaluations: int
    images_per_second: float

    def rows(self) -> dict[str, Any]:
        """Names and values for people, each distance named after its features."""
        shown: dict[str, Any] = {
            "samples": f"{self.n}, {self.sampler}, {self.evaluations} evaluations each",
            "reference": self.reference,
            f"FD[{self.features}]": f"{self.frechet:.3f}  (real pictures: {self.frechet_floor:.3f})",
            f"KID[{self.features}]": f"{self.kernel[0]:.5f} ± {self.kernel[1]:.5f}",
        }
        if self.inception_type is not None:
            shown[f"IS[{self.features}]"] = f"{self.inception_type[0]:.3f} ± {self.inception_type[1]:.3f}"
        shown["nearest training picture"] = f"{self.copies:.2f} times as far as for real pictures"
        shown["sampling"] = f"{self.images_per_second:.1f} images/s"
        return shown

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain data."""
        return asdict(self)


def choose_features(train: ImageSet, file: Path | None, track: Track) -> Features:
    """The features of a file, else of a classifier of the data's labels, else random ones.

    Raises:
        UserError: the file is none that can be read.
    """
    if file is not None:
        return load_features(file)
    if train.labels is not None and len(train.labels.unique()) > 1:
        return classifier_features(
            train.images,
            train.labels,
            name=train.name,
            track=lambda done, total: track("Training the judge", done / total),
        )
    return random_features(train.shape[0])


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
    features: Path | None = None,
    track: Track = lambda words, share: None,
) -> tuple[Report, Tensor]:
    """Sample from the model and compare with the pictures.

    Args:
        model: what is measured.
        train: what it learned from: judges copies, trains the features.
        test: what the samples are compared with.
        n: number of samples.
        sampler: see `samplers.sample`.
        steps: see `samplers.plan`.
        seed: of the samples.
        batch: pictures at once.
        features: a file of features, see `evaluation.features.load_features`.
        track: told how far it is.

    Returns:
        The report, and a sheet of samples over their nearest training pictures, uint8 (20, C, H, W).

    Raises:
        UserError: the pictures' shape is not the model's, or too few of them.
    """
    for pictures_of in (train, test):
        if pictures_of.shape != model.shape:
            theirs, ours = ("×".join(map(str, shape)) for shape in (pictures_of.shape, model.shape))
            raise UserError(
                pictures_of.name,
                f"its pictures are {theirs}, the model draws {ours}.",
                "Open them with the model's size and channels.",
            )
    for what, count in (("n", n), (train.name, len(train)), (test.name, len(test))):
        if count < 2:
            raise UserError(what, f"a distance needs at least two pictures, got {count}.")
    chosen = plan(model, sampler, steps)
    judge = choose_features(train, features, track)
    begun = time.perf_counter()
    drawn = sample(
        model,
        n,
        sampler=sampler,
        steps=steps,
        seed=seed,
        batch=batch,
        track=lambda done, total, step: track("Sampling", done / total),
    )
    pictures = to_uint8(drawn, model.value_range).cpu()
    seconds = time.perf_counter() - begun

    track("Measuring", 0.0)
    ours, real = judge(pictures), judge(test.images)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:n]
    floor = judge(train.images[order])
    track("Measuring", 0.5)
    probe = min(n, len(test), 500)
    index, near = nearest(pictures[:probe], train.images)
    usual = _usual_distance(test.images[:probe], train.images)
    report = Report(
        n=n,
        features=judge.name,
        reference=f"{test.name}, {len(test)} pictures, {test.digest()[:8]}",
        frechet=frechet_distance(ours.features, real.features),
        frechet_floor=frechet_distance(floor.features, real.features),
        kernel=kernel_distance(ours.features, real.features),
        inception_type=None if ours.probabilities is None else _inception_type(ours.probabilities),
        copies=float(near.mean() / usual),
        sampler=sampler,
        evaluations=chosen.evaluations,
        images_per_second=n / seconds,
    )
    track("Measuring", 1.0)
    shown = min(10, probe)
    return report, torch.cat([pictures[:shown], train.images[index[:shown, 0]]])


def _inception_type(probabilities: Tensor) -> tuple[float, float]:
    """Over ten parts, as is usual, or as many as there are samples."""
    return inception_score(probabilities, splits=min(10, len(probabilities)))


def _usual_distance(held_out: Tensor, train: Tensor) -> float:
    """Mean distance of real pictures to their nearest other training picture.

    Where the reference was trained on, each picture is its own nearest, and the next one counts.
    """
    _, distances = nearest(held_out, train, k=min(2, len(train)))
    first, last = distances[:, 0], distances[:, -1]
    return max(float(torch.where(first > 0, first, last).mean()), 1e-9)


def sheet_of_neighbours(pairs: Tensor) -> Image.Image:
    """Samples in the upper row, the nearest training picture of each below."""
    return grid(pairs, columns=len(pairs) // 2)
