"""Named features: what distances between images are measured on.

A distance on other features is another number, so every extractor has a name that goes with the result:
FD[fashion-classifier-9f3a] is the Fréchet distance on a classifier of Fashion-MNIST whose weights' SHA-256
begins with 9f3a. Only the published Inception weights give FID, KID and IS (`metric_names`).

Extractors: a published network (`NetworkFeatures`), a classifier trained once on the data set's own labels, fixed
random convolutions, or any object with the members of `Features`.

References:
    Naeem et al. (2020), who also measure on networks with random weights. https://arxiv.org/abs/2002.09797
"""

import hashlib
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from scorefield.errors import UserError
from scorefield.files import cache_dir
from scorefield.metrics.classifier import (
    Classifier,
    Facts,
    check_images,
    load_classifier,
    save_classifier,
    train_classifier,
)
from scorefield.metrics.weights import INCEPTION
from scorefield.progress import ProgressCallback, ignore_progress

__all__ = [
    "ClassifierFeatures",
    "Extracted",
    "Features",
    "NetworkFeatures",
    "RandomFeatures",
    "classifier_features",
    "extract",
    "load_features",
    "metric_names",
    "random_features",
]

_PASSES = 450_000  # images that a training sees, whatever the size of the data: 95 s on two cores at 28×28
_KINDS = "Name a classifier that scorefield saved (.safetensors), inception:FILE or mobilenet:FILE."


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """Features (N, D), float32, and class probabilities (N, K) where the network has classes; on the CPU."""

    features: Tensor
    probabilities: Tensor | None = None

    @classmethod
    def cat(cls, parts: "list[Extracted]") -> "Extracted":
        """Several batches as one."""
        classes = [part.probabilities for part in parts if part.probabilities is not None]
        return cls(
            features=torch.cat([part.features for part in parts]),
            probabilities=torch.cat(classes) if classes else None,
        )


class Features(Protocol):
    """Images to features. `name` goes with every number computed from them."""

    @property
    def name(self) -> str:
        """Identifies the weights, as in "fashion-classifier-9f3a"."""
        ...

    def __call__(self, images: Tensor) -> Extracted:
        """Features of uint8 images, (N, C, H, W)."""
        ...


def extract(
    extractor: Features, images: Tensor, *, batch: int = 250, progress: ProgressCallback = ignore_progress
) -> Extracted:
    """Features and probabilities of all images, a batch at a time."""
    parts: list[Extracted] = []
    for rows in images.split(batch):
        parts.append(extractor(rows))
        progress(min(len(parts) * batch / len(images), 1.0), "")
    return Extracted.cat(parts)


def metric_names(features: str) -> tuple[str, str, str]:
    """The names of the Fréchet distance, the kernel distance and the score on these features."""
    names = ("FID", "KID", "IS") if features == INCEPTION else ("FD", "KD", "inception-type")
    frechet, kernel, score = (f"{name}[{features}]" for name in names)
    return frechet, kernel, score


@dataclass(frozen=True, kw_only=True)
class NetworkFeatures:
    """A published classification network of color images.

    Args:
        name: holds the first digits of the SHA-256 of the weights.
        network: in evaluation mode; maps prepared images to features (N, D) and logits (N, K).
        prepare: maps uint8 images (N, 3, H, W) to the network's input.
        batch: images at once.
        probability_dtype: of the softmax.
    """

    name: str
    network: nn.Module
    prepare: Callable[[Tensor], Tensor]
    batch: int = 32
    probability_dtype: torch.dtype = torch.float32

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Extracted:
        """Features (N, D) and probabilities (N, K) of uint8 images (N, 1 or 3, H, W).

        Raises:
            UserError: images of another form.
        """
        check_images(images)
        if images.shape[1] not in (1, 3):
            raise UserError("images", f"{images.shape[1]} channels; {self.name} takes grey or RGB.", "Convert them.")
        device = next(self.network.parameters()).device
        color = (x.to(device).expand(-1, 3, -1, -1) for x in images.split(self.batch))
        outputs = [self.network(self.prepare(x)) for x in color]
        features, logits = (torch.cat(rows).cpu() for rows in zip(*outputs, strict=True))
        return Extracted(features=features, probabilities=logits.to(self.probability_dtype).softmax(1))


@dataclass(frozen=True, kw_only=True)
class ClassifierFeatures:
    """The last hidden layer of a trained `Classifier`, and its class probabilities.

    Args:
        name: identifies the weights.
        classifier: in evaluation mode.
        facts: of its training: data, digests, accuracy on the held-out tenth, date, versions.
        batch: images at once.
    """

    name: str
    classifier: Classifier
    facts: Facts = field(default_factory=Facts)
    batch: int = 250

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Extracted:
        """Features (N, 128) and probabilities (N, K) of uint8 images (N, C, H, W)."""
        check_images(images, channels=self.classifier.channels)
        device = self.classifier.mean.device
        features = torch.cat([self.classifier.features(x.to(device)) for x in images.split(self.batch)])
        return Extracted(features=features.cpu(), probabilities=self.classifier.head(features).softmax(1).cpu())


def classifier_features(
    images: Tensor,
    labels: Tensor,
    *,
    name: str,
    cache: Path | None = None,
    device: str | torch.device = "cpu",
    progress: ProgressCallback = ignore_progress,
) -> ClassifierFeatures:
    """Features of a classifier of these images and labels, trained at the first call and cached.

    Nine tenths train it, one tenth measures it. The key of the cached file is the SHA-256 of all pixels and labels.

    Args:
        images: the training set, uint8, (N, C, H, W).
        labels: integers, (N,); any values.
        name: of the data set; the features are called `{name}-classifier-{digest of the weights}`.
        cache: folder of the cached files; by default in the user's cache.
        device: where to train and to extract.
        progress: called after each step of the training.

    Raises:
        UserError: images or labels of another form, or fewer than two classes.
    """
    check_images(images)
    classes, targets = labels.unique(return_inverse=True)
    if labels.shape != (len(images),) or len(classes) < 2:
        raise UserError(
            name,
            f"{len(images)} images, {len(labels)} labels of {len(classes)} classes: no classifier to train.",
            "Use random features.",
        )
    key = _data_digest(images, labels)
    folder = cache if cache is not None else cache_dir() / "features"
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "data"
    path = folder / f"{slug}-{key[:16]}.safetensors"
    if path.exists():
        try:
            classifier, facts = load_classifier(path)
            return ClassifierFeatures(name=str(facts["name"]), classifier=classifier.to(device), facts=facts)
        except UserError as error:
            warnings.warn(f"{error} Training it again.", stacklevel=2)
    tenth = max(1, len(images) // 10)
    order = torch.randperm(len(images), generator=Generator().manual_seed(0))
    held, kept = order[:tenth], order[tenth:]
    classifier = train_classifier(
        images[kept],
        targets[kept],
        class_count=len(classes),
        epochs=max(4, min(60, _PASSES // len(kept))),
        seed=0,
        device=device,
        progress=progress,
    )
    full_name = f"{slug}-classifier-{classifier.digest()[:4]}"
    scores = torch.cat([classifier(images[rows].to(device)).argmax(1).cpu() for rows in held.split(250)])
    facts: Facts = {
        "name": full_name,
        "data": name,
        "data_digest": key,
        "images": len(kept),
        "held_out_accuracy": round((scores == targets[held]).float().mean().item(), 4),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "torch": torch.__version__,
        "scorefield": version("scorefield"),
    }
    facts = save_classifier(classifier, path, facts)
    return ClassifierFeatures(name=full_name, classifier=classifier, facts=facts)


@dataclass(frozen=True, kw_only=True)
class RandomFeatures:
    """Mean and std, over the image, of rectified responses of fixed random 3×3 filters at every octave.

    The filters of an octave act on the responses of the one above, averaged over 2×2. All filters sum to zero over
    each input, so they respond to contrast and not to brightness; the mean color is a feature by itself. On
    photographs of 32×32 a blur of one pixel, or noise of a tenth of the range, raises the Fréchet distance about
    tenfold. The features describe textures and tones, not objects: they barely react to JPEG blocks, or to large
    parts of an image that change places.

    Args:
        name: holds the seed.
        filters: (outputs, inputs, 3, 3) of each octave.
        batch: images at once.
    """

    name: str
    filters: tuple[Tensor, ...]
    batch: int = 250

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Extracted:
        """Features (N, C + 2 · width · octaves) of uint8 images (N, C, H, W)."""
        check_images(images, channels=self.filters[0].shape[1])
        device = self.filters[0].device
        return Extracted(features=torch.cat([self._features(x.to(device)).cpu() for x in images.split(self.batch)]))

    def _features(self, images: Tensor) -> Tensor:
        x = images.float() / 127.5 - 1
        statistics = [x.mean((2, 3))]
        for weight in self.filters:
            x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), weight).relu()
            statistics += [x.mean((2, 3)), x.std((2, 3))]
            x = F.avg_pool2d(x, 2)
        return torch.cat(statistics, 1)


def random_features(
    channels: int, *, seed: int = 0, octaves: int = 3, width: int = 16, device: str | torch.device = "cpu"
) -> RandomFeatures:
    """Features for images without labels, named "random-conv"; the same at every call.

    Args:
        channels: 1 to 4.
        seed: of the filters; part of the name unless 0.
        octaves: levels of resolution; 3 suit images from 8×8.
        width: filters of each octave.
        device: where they compute.
    """
    generator = Generator().manual_seed(seed)
    filters: list[Tensor] = []
    inputs = channels
    for _ in range(octaves):
        weight = torch.randn(width, inputs, 3, 3, generator=generator)
        weight -= weight.mean((2, 3), keepdim=True)
        filters.append((weight * (2 / (9 * inputs)) ** 0.5).to(device))  # He et al.: responses keep their size
        inputs = width
    return RandomFeatures(name="random-conv" + (f"-{seed}" if seed else ""), filters=tuple(filters))


def load_features(path: Path, *, device: str | torch.device = "cpu") -> Features:
    """The features of a classifier that `save_classifier` wrote, from its safetensors file.

    Such a file holds numbers only. TorchScript modules, `torch.export` archives and pickles are programs, or run
    some when they are loaded, so no file of theirs is opened. A network of your own is an object with the two
    members of `Features`.

    Args:
        path: the file.
        device: where the classifier computes.

    Raises:
        UserError: no such file, or not a classifier that scorefield saved.
    """
    if not path.is_file():
        raise UserError(path, "no such file.", _KINDS)
    if path.suffix.lower() != ".safetensors":
        raise UserError(
            path, "is no safetensors file; files of other kinds may be programs and are not opened.", _KINDS
        )
    classifier, facts = load_classifier(path)
    return ClassifierFeatures(name=str(facts.get("name", path.stem)), classifier=classifier.to(device), facts=facts)


def _data_digest(images: Tensor, labels: Tensor) -> str:
    """SHA-256 of pixels and labels with their shapes, in hexadecimal."""
    digest = hashlib.sha256(f"{tuple(images.shape)}".encode())
    digest.update(images.cpu().contiguous().numpy().data)
    digest.update(labels.cpu().long().contiguous().numpy().data)
    return digest.hexdigest()
